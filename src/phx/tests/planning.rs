//! What `plan` says of edits, and that it always ends.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::scene::now;
use crate::{
    api::{Outcome, Phase, PhoenixAppStatus, RevisionName, ValidatedApp},
    build::{Revision, Settings, render},
    cli::admission,
    controller::snapshot::Snapshot,
    phx::{
        gather::{Gathered, Unread},
        ignorance,
        plan::{Outlook, absent, compare_with, from_nothing, outlook, text},
    },
    plan::{DeploymentObs, RevisionObs, Selector, ServiceObs, World},
};

fn app(spec: &Value) -> ValidatedApp {
    admission::admit(json!({
        "apiVersion": "phoenix-operator.dev/v1alpha1", "kind": "PhoenixApp", "metadata": {"name": "shop", "generation": 2},
        "spec": spec,
    }))
    .unwrap()
}

/// An app that has been rolled out, and what is there of it.
fn at_rest(spec: &Value) -> (BTreeMap<RevisionName, Revision>, PhoenixAppStatus, World) {
    let app = app(spec);
    let name = app.canonical.name_for(|_| false).unwrap();
    let revision = render(&app, &name, &Settings::default());
    let mut world = World::default();
    let observed = RevisionObs {
        needs_migration: revision.job_template.is_some(),
        migration_key: revision.migration_key.clone(),
        migrated: revision.job_template.is_some(),
        attempt: 1,
        outcome: Some(Outcome::Promoted),
        promotion: 1,
        ..RevisionObs::default()
    };
    world.revisions.insert(name.to_string(), observed);
    let size = app.replicas;
    let deployment = DeploymentObs {
        replicas: size,
        pods: size,
        available: size,
        observed: true,
        ..DeploymentObs::default()
    };
    world.deployments.insert(name.to_string(), deployment);
    world.endpoints.insert(name.to_string(), size);
    let selector = Selector::Only(name.to_string());
    world.service = Some(ServiceObs { version: String::new(), selector, drifted: false });
    let status = PhoenixAppStatus {
        stable: Some(name.to_string()),
        secrets_for: Some(name.to_string()),
        attempt: 1,
        promotion: 1,
        ..PhoenixAppStatus::default()
    };
    ([(name, revision)].into(), status, world)
}

/// The app at an instant, without its children.
fn at(spec: &Value, now: Timestamp) -> Snapshot {
    Snapshot { now, ..absent(&app(spec)) }
}

fn edit(from: &Value, to: &Value) -> Outlook {
    let (stored, status, world) = at_rest(from);
    outlook(&app(to), &stored, status, world, &at(to, now()), Vec::new()).unwrap()
}

fn first(spec: &Value) -> Outlook {
    let mut world = World::default();
    let snapshot = at(spec, now());
    compare_with(&mut world, &snapshot, &app(spec), &BTreeMap::new());
    outlook(&app(spec), &BTreeMap::new(), PhoenixAppStatus::default(), world, &snapshot, Vec::new()).unwrap()
}

fn migrating(image: &str) -> Value {
    json!({"image": image, "replicas": 3, "database": {"urlFrom": {"secretKeyRef": {"name": "db", "key": "uri"}}}})
}

fn phased(image: &str) -> Value {
    let mut spec = migrating(image);
    spec["migrations"] =
        json!({"before": [{"name": "backup", "command": ["dump"]}], "contract": {"command": ["c"]}});
    spec
}

fn crowded(image: &str) -> Value {
    let mut spec = migrating(image);
    spec["database"]["maxConnections"] = json!(50);
    spec["strategy"] = json!({"type": "BlueGreen"});
    spec
}

/// Another image by a strategy of steps.
fn staged(strategy: &str) -> Value {
    json!({"image": "shop:2", "replicas": if strategy == "Canary" { 4 } else { 2 }, "strategy": {"type": strategy,
        "canary": {"steps": [{"setWeight": 25}, {"pause": {"duration": "5m"}}, {"setWeight": 50}, {"pause": {}}]}}})
}

fn by_hand() -> Value {
    json!({"image": "shop:2", "replicas": 2, "strategy": {"type": "BlueGreen",
        "blueGreen": {"autoPromote": false}}})
}

#[test]
fn edits_in_words() {
    let plain = |image: &str, replicas: i32| json!({"image": image, "replicas": replicas});
    let edits = [
        ("a new app that migrates", first(&migrating("shop:1"))),
        ("another image", edit(&migrating("shop:1"), &migrating("shop:2"))),
        ("phases around a migration", edit(&migrating("shop:1"), &phased("shop:2"))),
        ("a database too small for a second colour", edit(&migrating("shop:1"), &crowded("shop:2"))),
        ("more pods", edit(&plain("shop:1", 2), &plain("shop:1", 5))),
        ("many pods, another image", edit(&plain("shop:1", 40), &plain("shop:2", 40))),
        ("a canary", edit(&plain("shop:1", 4), &staged("Canary"))),
        ("blue-green", edit(&plain("shop:1", 2), &staged("BlueGreen"))),
        ("blue-green by hand", edit(&plain("shop:1", 2), &by_hand())),
        ("nothing", edit(&plain("shop:1", 2), &plain("shop:1", 2))),
        (
            "recreate",
            edit(
                &json!({"image": "shop:1", "strategy": {"type": "Recreate"}}),
                &json!({"image": "shop:2", "strategy": {"type": "Recreate"}}),
            ),
        ),
    ];
    let texts = edits.map(|(name, outlook)| format!("[{name}]\n{}\n", text(&outlook)));
    insta::assert_snapshot!(texts.concat());
}

#[test]
fn workers_in_words() {
    let spec = json!({"image": "shop:1", "workers": [{"name": "jobs", "replicas": 3}, {"name": "clock", "strategy": "Recreate"}],
        "clustering": {"verify": {"http": {"path": "/peers", "jsonPath": "nodes"}}}});
    insta::assert_snapshot!(text(&first(&spec)));
}

fn unread(kind: &str, resource: &str) -> Unread {
    Unread { kind: kind.to_owned(), resource: resource.to_owned() }
}

fn by_gateway(image: &str) -> Value {
    json!({"image": image, "replicas": 2, "hosts": ["shop.example.com"],
        "traffic": {"gateway": {"parentRefs": [{"name": "public"}]}},
        "strategy": {"type": "Canary", "canary": {"steps": [{"setWeight": 25}, {"pause": {}}]}}})
}

/// An edit of an app with a route, by a person who may not list these kinds.
fn ignorant(from: &Value, to: &Value, accepted: Option<&str>, unread: &[Unread]) -> Outlook {
    let (stored, mut status, mut world) = at_rest(from);
    world.gateway_api = true;
    if let Some(accepted) = accepted {
        let condition = super::scene::condition("RouteAccepted", accepted, "NoMatchingListener", "no", 60);
        status.conditions.push(serde_json::from_value(condition).unwrap());
    }
    let (before, after) = (app(from), app(to));
    ignorance::assume(&mut world, &status, unread);
    let mut outlook = outlook(&after, &stored, status, world, &at(to, now()), Vec::new()).unwrap();
    ignorance::tell(&mut outlook, unread, [&before.spec, &after.spec]);
    outlook
}

fn actions<'a>(outlook: &'a Outlook, kind: &str) -> Vec<&'a str> {
    outlook.preview.objects.iter().filter(|change| change.kind == kind).map(|change| change.action).collect()
}

#[test]
fn what_may_not_be_read_is_not_said_to_be_made() {
    let routes = [unread("HTTPRoute", "httproutes.gateway.networking.k8s.io")];
    let outlook = ignorant(&by_gateway("shop:1"), &by_gateway("shop:2"), Some("True"), &routes);
    assert_eq!(actions(&outlook, "HTTPRoute"), ["unknown"]);
    assert!(
        outlook.notes[0].contains("you may not list httproutes.gateway.networking.k8s.io"),
        "{outlook:#?}"
    );
    // The weights go as the status lets expect.
    let says =
        |outlook: &Outlook, what: &str| outlook.preview.steps.iter().any(|step| step.what.contains(what));
    assert!(says(&outlook, "HTTPRoute shop sends 25 % of the requests"), "{outlook:#?}");
    let refused = ignorant(&by_gateway("shop:1"), &by_gateway("shop:2"), Some("False"), &routes);
    assert_eq!(actions(&refused, "HTTPRoute"), ["unknown"]);
    // Read, it is as it is.
    assert_eq!(
        actions(&ignorant(&by_gateway("shop:1"), &by_gateway("shop:2"), None, &[]), "HTTPRoute"),
        ["create"]
    );
}

#[test]
fn what_an_edit_takes_away_unseen_is_told_too() {
    let plain = |image: &str| json!({"image": image});
    let mut with_ingress = plain("shop:1");
    with_ingress["hosts"] = json!(["shop.example.com"]);
    with_ingress["traffic"] = json!({"ingress": {}});
    let blind = [
        unread("Ingress", "ingresses.networking.k8s.io"),
        unread("RoleBinding", "rolebindings.rbac.authorization.k8s.io"),
        unread("ServiceAccount", "serviceaccounts"),
    ];
    let outlook = ignorant(&with_ingress, &plain("shop:1"), None, &blind);
    assert_eq!(actions(&outlook, "Ingress"), ["unknown"]);
    // No node of this app lists its peers, and nothing is planned for its ServiceAccount here.
    assert_eq!(actions(&outlook, "RoleBinding"), Vec::<&str>::new());
    assert!(
        outlook.notes[0].contains("ingresses") && !outlook.notes[0].contains("rolebindings"),
        "{outlook:#?}"
    );
    assert!(ignorant(&plain("shop:1"), &plain("shop:2"), None, &blind[..2]).notes.is_empty());
}

#[test]
fn without_the_gateway_api_no_route_is_planned() {
    let app = app(&by_gateway("shop:1"));
    let without = from_nothing(&app, Some(false)).unwrap();
    assert_eq!(actions(&without, "HTTPRoute"), Vec::<&str>::new());
    assert!(text(&without).contains("note: this cluster has no Gateway API"), "{}", text(&without));
    let with = from_nothing(&app, Some(true)).unwrap();
    assert_eq!((actions(&with, "HTTPRoute"), with.notes.len()), (vec!["create"], 0));
    let offline = from_nothing(&app, None).unwrap();
    assert_eq!((actions(&offline, "HTTPRoute"), offline.notes.len()), (vec!["create"], 1));
}

#[test]
fn what_planning_needs_is_named_when_it_may_not_be_read() {
    let gathered = |kinds: &[(&str, &str)]| Gathered {
        snapshot: at(&json!({"image": "shop:1"}), now()),
        unread: kinds.iter().map(|(kind, resource)| unread(kind, resource)).collect(),
    };
    let refused = gathered(&[("Job", "jobs.batch"), ("Pod", "pods"), ("HTTPRoute", "httproutes")]);
    let why = refused.with(&["Pod", "Job", "Service"]).unwrap_err().to_string();
    assert!(why.contains("list jobs.batch, pods in namespace"), "{why}");
    assert!(gathered(&[("HTTPRoute", "httproutes")]).with(&["Pod"]).is_ok());
}

#[test]
fn a_restored_edit_is_no_new_revision() {
    let outlook =
        edit(&json!({"image": "shop:1"}), &json!({"image": "shop:1", "strategy": {"type": "Recreate"}}));
    assert!(!outlook.new);
    assert_eq!(outlook.preview.end.phase, Some(Phase::Healthy));
    assert!(outlook.preview.steps.is_empty(), "{outlook:#?}");
}

fn spec() -> impl Strategy<Value = Value> {
    let strategy = prop::sample::select(vec!["Rolling", "Recreate", "BlueGreen", "Canary"]);
    let weights = prop::collection::vec((1..=100_i32, prop::option::of(prop::option::of(1..900_u32))), 1..4);
    (1..3_u8, 0..12_i32, strategy, weights, any::<bool>(), any::<bool>(), 0..3_i32, any::<bool>()).prop_map(
        |(tag, replicas, strategy, weights, migrate, manual, surge, suspend)| {
            let mut steps = Vec::new();
            for (weight, pause) in weights {
                steps.push(json!({"setWeight": weight}));
                match pause {
                    Some(Some(seconds)) => steps.push(json!({"pause": {"duration": format!("{seconds}s")}})),
                    Some(None) => steps.push(json!({"pause": {}})),
                    None => {}
                }
            }
            let unavailable = i32::from(surge == 0);
            let sizes = json!({"maxSurge": surge, "maxUnavailable": unavailable});
            let mut canary = sizes.clone();
            canary["steps"] = json!(steps);
            let mut spec = json!({
                "image": format!("shop:{tag}"), "replicas": replicas, "suspend": suspend && replicas > 9,
                "strategy": {"type": strategy, "rolling": sizes, "canary": canary, "blueGreen": {"autoPromote": !manual}},
            });
            if migrate {
                spec["database"] = json!({"urlFrom": {"secretKeyRef": {"name": "db", "key": "uri"}}});
            }
            spec
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the edit, the preview comes to rest: healthy, or where a person is waited for.
    #[test]
    fn every_preview_ends(from in spec(), to in spec(), wait in 0..100_i64) {
        let (stored, status, world) = at_rest(&from);
        let start = now().saturating_add(jiff::SignedDuration::from_secs(wait)).unwrap();
        let seen = outlook(&app(&to), &stored, status, world, &at(&to, start), Vec::new()).unwrap();
        let end = &seen.preview.end;
        let suspended = to["suspend"] == true;
        // At zero pods a candidate waits.
        let scaled = to["replicas"] == 0;
        let wanted = match end.phase {
            Some(Phase::Healthy) => end.stable.as_ref() == Some(&seen.revision),
            Some(Phase::Paused) => end.waits_for_person,
            Some(Phase::Suspended) => suspended,
            Some(Phase::RollingOut) => scaled,
            _ => false,
        };
        prop_assert!(wanted, "{} of {to}", text(&seen));
        let again: Timestamp = start;
        let (stored, status, world) = at_rest(&from);
        prop_assert_eq!(outlook(&app(&to), &stored, status, world, &at(&to, again), Vec::new()).unwrap(), seen);
    }
}
