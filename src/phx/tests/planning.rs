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
    phx::plan::{Outlook, absent, compare_with, outlook, text},
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
