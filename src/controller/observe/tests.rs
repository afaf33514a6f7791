//! What is seen of hand-made objects.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::controller::snapshot::Needs;
use crate::{
    api::{LogTail, Stage, testing::raw},
    build::{Settings, active_service, controller_revision, deployment, render},
    plan::{JobFailure, JobState, Upkeep},
};

const REV: &str = "0123456789";

fn object<K: DeserializeOwned>(value: Value) -> Arc<K> {
    Arc::new(serde_json::from_value(value).unwrap())
}

fn owner(uid: &str) -> Value {
    json!([{"apiVersion": "v1", "kind": "Any", "name": "any", "uid": uid, "controller": true}])
}

/// The app `shop` with one stored revision, its Deployment (UID `d`), `ReplicaSet` (UID `r`) and active Service
/// (UID `s`), and no pods.
fn shop() -> Snapshot {
    let app = raw("{image: shop:1, replicas: 2, database: {urlFrom: {secretKeyRef: {name: db, key: uri}}}}");
    let valid = ValidatedApp::try_from(&app).unwrap();
    let revision = render(&valid, &REV.parse().unwrap(), &Settings::default());
    let mut stored = controller_revision(&valid, &revision, 1);
    stored.metadata.uid = Some("c".to_owned());
    stored.metadata.resource_version = Some("7".to_owned());
    let mut pods = deployment(&valid, &revision, 2, None);
    pods.metadata.uid = Some("d".to_owned());
    pods.metadata.generation = Some(3);
    let mut service = active_service(&valid, &build::ServiceSelector::Wide);
    service.metadata.uid = Some("s".to_owned());
    Snapshot {
        app: Arc::new(app),
        revisions: vec![Arc::new(stored.into())],
        deployments: vec![Arc::new(pods)],
        replica_sets: vec![object(
            json!({"metadata": {"name": "r", "uid": "r", "ownerReferences": owner("d")}}),
        )],
        pods: Vec::new(),
        services: vec![Arc::new(service)],
        slices: Vec::new(),
        jobs: Vec::new(),
        config_maps: Vec::new(),
        service_accounts: Vec::new(),
        role_bindings: Vec::new(),
        budgets: Vec::new(),
        ingresses: Vec::new(),
        routes: Vec::new(),
        gateway_api: false,
        going: BTreeSet::new(),
        needs: Needs::Everything,
        since: None,
        now: "2026-01-01T12:00:00Z".parse().unwrap(),
    }
}

fn pod(name: &str, owned_by: &str, more: Value) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": {"name": name, "uid": name, "ownerReferences": owner(owned_by)},
        "spec": {"nodeName": "n1", "containers": []},
        "status": {"phase": "Running"},
    });
    merge(&mut pod, more);
    object(pod)
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn endpoints_of(pods: &[(&str, Value)]) -> Arc<k8s_openapi::api::discovery::v1::EndpointSlice> {
    let endpoints: Vec<Value> = pods
        .iter()
        .map(|(pod, conditions)| {
            json!({"addresses": ["10.0.0.1"], "conditions": conditions,
                "targetRef": {"kind": "Pod", "name": pod, "uid": pod}})
        })
        .collect();
    object(json!({"metadata": {"name": "shop-x", "ownerReferences": owner("s")}, "addressType": "IPv4",
        "endpoints": endpoints}))
}

fn see(snapshot: &Snapshot) -> Observed {
    observe(snapshot, &snapshot.stored().0)
}

#[test]
fn a_stored_revision_is_read_with_its_facts() {
    let mut shop = shop();
    let mut stored = (*shop.revisions[0]).clone();
    stored.metadata.annotations.get_or_insert_default().extend(
        [("migrated", "2026-01-01T00:00:00Z"), ("attempt", "4"), ("outcome", "Failed"), ("promotion", "2")]
            .map(|(key, value)| (format!("{}{key}", labels::PREFIX), value.to_owned())),
    );
    shop.revisions = vec![Arc::new(stored)];
    let revision = &see(&shop).world.revisions[REV];
    assert!(revision.needs_migration && revision.migrated && !revision.terminating);
    assert_eq!((revision.attempt, revision.promotion), (4, 2));
    assert_eq!(revision.outcome, Some(Outcome::Failed));
    assert_eq!((revision.version.as_str(), revision.uid.as_str()), ("7", "c"));
}

/// In whichever order they are stored again.
#[test]
fn revisions_that_were_deleted_get_numbers_in_the_order_of_their_deployments() {
    let mut shop = shop();
    let (stored, first) = ((*shop.revisions[0]).clone(), (*shop.deployments[0]).clone());
    let made = |name: &str, minute: u8| {
        let mut deployment = first.clone();
        deployment.metadata.name = Some(format!("shop-{name}"));
        deployment.metadata.creation_timestamp =
            serde_json::from_value(json!(format!("2026-01-01T00:0{minute}:00Z"))).unwrap();
        deployment
    };
    let again = |deployment: &Deployment, number: i64| {
        let mut stored = stored.clone();
        stored.metadata.name.clone_from(&deployment.metadata.name);
        stored.metadata.creation_timestamp = serde_json::from_value(json!("2026-01-01T01:00:00Z")).unwrap();
        stored.revision = number;
        Arc::new(stored)
    };
    let left = [made("0000000001", 1), made("0000000002", 2), made("0000000003", 3)];
    shop.deployments = left.iter().cloned().map(Arc::new).collect();
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for order in orders {
        shop.revisions.clear();
        for which in order {
            let number = shop.number_of(&left[which]);
            assert_eq!(number, i64::try_from(which).unwrap() + 1, "{order:?}");
            shop.revisions.push(again(&left[which], number));
        }
        assert_eq!(shop.next_number(), 4);
    }
    // One that still has its own number keeps those after it behind.
    shop.revisions = vec![again(&left[0], 7)];
    assert_eq!((shop.number_of(&left[1]), shop.number_of(&left[2])), (8, 9));
}

#[test]
fn children_of_an_earlier_app_of_the_name_are_not_ours() {
    let mut shop = shop();
    let mut app = (*shop.app).clone();
    app.metadata.uid = Some("another".to_owned());
    shop.app = Arc::new(app);
    let world = see(&shop).world;
    assert!(world.revisions.is_empty() && world.deployments.is_empty() && world.service.is_none());
}

#[test]
fn what_we_deleted_is_terminating_until_it_is_seen_gone() {
    let mut shop = shop();
    assert!(!see(&shop).world.deployments[REV].terminating);
    shop.going = ["d".to_owned(), "c".to_owned()].into();
    let world = see(&shop).world;
    assert!(world.deployments[REV].terminating && world.revisions[REV].terminating);
}

#[test]
fn a_deployment_is_observed_once_its_controller_has_seen_the_last_change() {
    let mut shop = shop();
    assert!(!see(&shop).world.deployments[REV].observed);
    let mut pods = (*shop.deployments[0]).clone();
    pods.status =
        serde_json::from_value(json!({"observedGeneration": 3, "replicas": 2, "availableReplicas": 1}))
            .unwrap();
    shop.deployments = vec![Arc::new(pods)];
    let deployment = &see(&shop).world.deployments[REV];
    assert!(deployment.observed);
    assert_eq!((deployment.replicas, deployment.pods, deployment.available), (2, 2, 1));
}

#[test]
fn only_pods_of_our_replica_sets_count() {
    let mut shop = shop();
    shop.pods = vec![
        pod("a", "r", json!({})),
        pod("b", "someone-else", json!({})),
        pod("evicted", "r", json!({"status": {"phase": "Failed"}})),
        pod("going", "r", json!({"metadata": {"deletionTimestamp": "2026-01-01T12:00:30Z"}})),
    ];
    shop.slices =
        vec![endpoints_of(&[("a", json!({})), ("b", json!({})), ("going", json!({"ready": true}))])];
    let observed = see(&shop);
    assert_eq!(observed.world.pods[REV].total, 2, "what is on its way out still exists");
    assert_eq!(observed.world.endpoints, [(REV.to_owned(), 1)].into());
}

#[test]
fn an_endpoint_counts_when_it_is_ready_and_once() {
    let mut shop = shop();
    shop.pods = ["a", "b", "c", "d"].map(|name| pod(name, "r", json!({}))).to_vec();
    let slice = endpoints_of(&[
        ("a", json!({"ready": true})),
        ("b", json!({"ready": false})),
        ("c", json!({"ready": true, "terminating": true})),
        ("d", Value::Null),
    ]);
    shop.slices = vec![slice.clone(), slice];
    assert_eq!(see(&shop).world.endpoints, [(REV.to_owned(), 2)].into());
    let mut foreign = (*shop.slices[0]).clone();
    foreign.metadata.owner_references = None;
    shop.slices = vec![Arc::new(foreign)];
    assert!(see(&shop).world.endpoints.is_empty(), "of no Service of ours");
}

#[test]
fn the_selector_is_read_back() {
    let mut shop = shop();
    assert_eq!(see(&shop).world.service.unwrap().selector, Selector::Wide);
    let valid = ValidatedApp::try_from(&*shop.app).unwrap();
    let mut narrow = active_service(&valid, &build::ServiceSelector::Only(REV.parse().unwrap()));
    narrow.metadata.uid = Some("s".to_owned());
    shop.services = vec![Arc::new(narrow)];
    assert_eq!(see(&shop).world.service.unwrap().selector, Selector::Only(REV.to_owned()));
}

#[test]
fn a_pod_that_should_be_gone_is_on_a_lost_node() {
    let mut shop = shop();
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T11:59:30Z"}});
    shop.pods = vec![pod("a", "r", going)];
    let observed = see(&shop);
    assert!(observed.world.pods[REV].lost_nodes.is_empty());
    assert_eq!(observed.wake, Some("2026-01-01T12:00:30Z".parse().unwrap()));
    shop.now = observed.wake.unwrap();
    assert_eq!(see(&shop).world.pods[REV].lost_nodes, ["n1".to_owned()].into());
}

#[test]
fn a_quota_that_refuses_pods_is_named_without_the_pod() {
    let mut shop = shop();
    let mut pods = (*shop.deployments[0]).clone();
    pods.status = serde_json::from_value(json!({"conditions": [{"type": "ReplicaFailure", "status": "True",
        "message": "pods \"shop-x7f9z\" is forbidden: exceeded quota: small"}]}))
    .unwrap();
    shop.deployments = vec![Arc::new(pods)];
    assert_eq!(
        see(&shop).world.pods[REV].worst.as_deref(),
        Some("its pods cannot be made: is forbidden: exceeded quota: small")
    );
}

fn job(conditions: &Value) -> Arc<k8s_openapi::api::batch::v1::Job> {
    let app = raw("{image: shop:1}");
    let mut owners = owner(app.metadata.uid.as_deref().unwrap());
    owners[0]["kind"] = json!("PhoenixApp");
    object(json!({
        "metadata": {"name": "shop-migrate-0123456789-2", "uid": "j", "ownerReferences": owners,
            "labels": {labels::REVISION: REV, labels::MIGRATION: "shop"}, "annotations": {labels::ATTEMPT: "2"}},
        "status": {"conditions": conditions},
    }))
}

#[test]
fn phases_are_read_from_what_they_left() {
    let mut shop = shop();
    let app = raw(
        "{image: shop:1, replicas: 2, database: {urlFrom: {secretKeyRef: {name: db, key: uri}}}, migrations: \
         {before: [{name: backup, command: [a]}, {name: extension, command: [b]}], contract: {command: [c]}, \
         rollback: {command: [d]}}}",
    );
    let valid = ValidatedApp::try_from(&app).unwrap();
    let revision = render(&valid, &REV.parse().unwrap(), &Settings::default());
    let mut stored = controller_revision(&valid, &revision, 4);
    shop.app = Arc::new(app);
    shop.revisions = vec![Arc::new(stored.clone().into())];
    let seen = see(&shop).world.revisions[REV].clone();
    assert_eq!((seen.number, seen.before), (4, vec!["backup".to_owned(), "extension".to_owned()]));
    assert_eq!((seen.before_done, seen.contracted, seen.migrated), ((0, 0), false, false));
    assert!(seen.has_contract && seen.has_rollback && seen.contract_key.is_some());

    stored.metadata.annotations.get_or_insert_default().extend([
        (labels::BEFORE.to_owned(), "3/1".to_owned()),
        (labels::CONTRACTED.to_owned(), "2026-01-01T00:00:00Z".to_owned()),
    ]);
    shop.revisions = vec![Arc::new(stored.into())];
    for stage in [Stage::Before(1), Stage::Migrate, Stage::Contract, Stage::Rollback] {
        let job = build::migration_job(&valid, &revision, stage, 3).unwrap();
        let mut job = serde_json::to_value(job).unwrap();
        job["metadata"]["uid"] = json!("j");
        shop.jobs = vec![object(job)];
        let world = see(&shop).world;
        assert_eq!((world.jobs[0].stage, world.jobs[0].attempt), (stage, 3));
        let seen = &world.revisions[REV];
        assert_eq!((seen.before_done, seen.contracted), ((3, 1), true));
    }
}

#[test]
fn a_smoke_test_is_no_migration() {
    let mut shop = shop();
    let mut job = (*job(&json!([{"type": "Complete", "status": "True"}]))).clone();
    let annotations = job.metadata.annotations.get_or_insert_default();
    annotations.insert(labels::SMOKE_TEST.to_owned(), "whole".to_owned());
    annotations.insert(labels::SMOKE_SPAN.to_owned(), "step-2".to_owned());
    let own = job.metadata.labels.get_or_insert_default();
    own.remove(labels::MIGRATION);
    own.insert(labels::SMOKE.to_owned(), "shop".to_owned());
    shop.jobs = vec![Arc::new(job.clone())];
    let world = see(&shop).world;
    assert!(world.jobs.is_empty());
    let seen = &world.smoke_jobs[0];
    assert_eq!((seen.test.as_str(), seen.span.as_str(), seen.job.attempt), ("whole", "step-2", 2));
    assert_eq!(seen.job.state, JobState::Succeeded);
    // somebody else's
    job.metadata.owner_references = None;
    shop.jobs = vec![Arc::new(job)];
    assert!(see(&shop).world.smoke_jobs.is_empty());
}

#[test]
fn only_ready_pods_of_ours_that_stay_have_an_address() {
    let mut shop = shop();
    let with = |name: &str, owned_by: &str, ready: &str, more: Value| {
        let status =
            json!({"podIP": format!("10.0.0.{name}"), "conditions": [{"type": "Ready", "status": ready}]});
        let mut all = json!({"status": status});
        merge(&mut all, more);
        pod(name, owned_by, all)
    };
    shop.pods = vec![
        with("1", "r", "True", json!({})),
        with("2", "r", "False", json!({})),
        with("3", "r", "True", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})),
        with("4", "somebody", "True", json!({})),
    ];
    let addresses = see(&shop).world.addresses;
    assert_eq!(addresses, [(REV.to_owned(), ["10.0.0.1".to_owned()].into())].into());
}

#[test]
fn an_announced_end_of_a_job_is_none_yet() {
    let mut shop = shop();
    for announced in ["FailureTarget", "SuccessCriteriaMet"] {
        shop.jobs = vec![job(&json!([{"type": announced, "status": "True"}]))];
        let jobs = see(&shop).world.jobs;
        assert_eq!((jobs[0].state.clone(), jobs[0].attempt, jobs[0].started), (JobState::Running, 2, false));
    }
    shop.jobs = vec![job(&json!([{"type": "Complete", "status": "True"}]))];
    assert_eq!(see(&shop).world.jobs[0].state, JobState::Succeeded);
}

#[test]
fn a_failed_job_says_how_and_what_to_do() {
    let mut shop = shop();
    shop.jobs = vec![job(&json!([{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]))];
    let log =
        format!("{}\n** (RuntimeError) environment variable DATABASE_URL is missing.\n", "x".repeat(4000));
    shop.pods = vec![pod(
        "m",
        "j",
        json!({"metadata": {"labels": {labels::MIGRATION: "shop"}}, "status": {"phase": "Failed",
            "containerStatuses": [{"name": "app", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": 1, "message": log}}}]}}),
    )];
    let seen = see(&shop).world;
    let JobState::Failed(JobFailure { reason, exit_code, log_tail }) = &seen.jobs[0].state else { panic!() };
    assert_eq!((reason.as_str(), *exit_code, log_tail.len()), ("BackoffLimitExceeded", Some(1), 2048));
    assert!(seen.jobs[0].waiting.as_ref().unwrap().contains("spec.database.urlFrom"));
    assert!(seen.jobs[0].started);
    assert!(seen.migration_pods.is_empty(), "it has ended");
}

#[test]
fn logs_are_quoted_unless_that_is_refused() {
    let crash =
        json!({"terminated": {"exitCode": 1, "reason": "Error", "message": "** (RuntimeError) pw=1"}});
    let mut shop = shop();
    shop.pods = vec![pod(
        "a",
        "r",
        json!({"status": {"containerStatuses": [
            {"name": "app", "image": "i", "imageID": "", "ready": false, "restartCount": 1, "state": crash}]}}),
    )];
    let worst = |shop: &Snapshot| see(shop).world.pods[REV].worst.clone().unwrap();
    assert_eq!(worst(&shop), "pod a crashes with exit code 1: ** (RuntimeError) pw=1");
    let mut app = (*shop.app).clone();
    app.spec.migrations.log_tail = LogTail::Omit;
    shop.app = Arc::new(app);
    assert_eq!(worst(&shop), "pod a crashes with exit code 1");
}

#[test]
fn a_migration_pod_counts_whatever_made_it() {
    let mut shop = shop();
    shop.pods = vec![pod("m", "nobody", json!({"metadata": {"labels": {labels::MIGRATION: "shop"}}}))];
    let pods = see(&shop).world.migration_pods;
    assert_eq!((pods[0].name.as_str(), pods[0].node.as_deref()), ("m", Some("n1")));
}

#[test]
fn what_is_missing_or_differs_is_upkeep() {
    let shop = shop();
    let valid = ValidatedApp::try_from(&*shop.app).unwrap();
    let (stored, _) = shop.stored();
    let mut world = observe(&shop, &stored).world;
    compare(&mut world, &shop, &valid, &stored, &Settings::default(), &mut Drifts::default());
    let wanted = [
        Upkeep::ServiceAccount,
        Upkeep::HeadlessService(None),
        Upkeep::PodDisruptionBudget(Selector::Wide),
        Upkeep::Defaults(REV.to_owned()),
    ];
    assert_eq!(world.upkeep, wanted.into());
    assert!(!world.deployments[REV].drifted);
    assert!(world.service.unwrap().drifted, "it bears no mark of what was applied");
}

#[test]
fn a_binding_is_wanted_by_revisions_whose_nodes_ask_the_api_server() {
    let mut shop = shop();
    let revisions = BTreeSet::from([REV.to_owned()]);
    let settings = Settings::default();
    let (app, stored) = stored_as(&mut shop, "{image: shop:1, clustering: {mode: KubernetesAPI}}");
    let binds = |upkeep: BTreeSet<Upkeep>| {
        let of_peers = |child: &Upkeep| matches!(child, Upkeep::PeersBinding(_) | Upkeep::NoPeersBinding(_));
        upkeep.into_iter().filter(of_peers).collect::<Vec<_>>()
    };
    assert_eq!(binds(upkeep_of(&shop, &app, &stored)), [Upkeep::PeersBinding(revisions.clone())]);
    let binding = build::peers_binding(&app, stored.values(), &settings).unwrap();
    shop.role_bindings = vec![Arc::new(binding.clone())];
    // whether it is wanted is for the planner to say
    assert_eq!(binds(upkeep_of(&shop, &app, &stored)), [Upkeep::NoPeersBinding(revisions.clone())]);
    let mut stray = binding;
    let twice = stray.subjects.iter().flatten().chain(stray.subjects.iter().flatten()).cloned().collect();
    stray.subjects = Some(twice);
    shop.role_bindings = vec![Arc::new(stray)];
    let both = [Upkeep::PeersBinding(revisions.clone()), Upkeep::NoPeersBinding(revisions)];
    assert_eq!(binds(upkeep_of(&shop, &app, &stored)), both);
    let (app, stored) = stored_as(&mut shop, "{image: shop:2}");
    assert_eq!(binds(upkeep_of(&shop, &app, &stored)), [Upkeep::NoPeersBinding(BTreeSet::new())]);
}

#[test]
fn the_later_restart_counts_and_is_written_as_it_was() {
    let mut shop = shop();
    let mut pods = (*shop.deployments[0]).clone();
    assert_eq!(see(&shop).world.deployments[REV].restarted_at, None);
    assert_eq!(restart(None, Some(&pods)), None);
    let annotate = |pods: &mut Deployment, text: &str| {
        let metadata = pods.spec.as_mut().unwrap().template.metadata.get_or_insert_default();
        metadata.annotations.get_or_insert_default().insert(labels::RESTARTED_AT.to_owned(), text.to_owned());
    };
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let noted = "2026-01-01T12:00:00.000Z";
    annotate(&mut pods, noted);
    for (asked, expected) in [
        (None, noted),
        (Some(at("2026-01-01T11:00:00Z")), noted),
        (Some(at("2026-01-01T12:00:00Z")), noted),
        (Some(at("2026-01-01T12:00:01Z")), "2026-01-01T12:00:01Z"),
    ] {
        assert_eq!(restart(asked, Some(&pods)).as_deref(), Some(expected), "{asked:?}");
    }
    assert_eq!(restart(Some(at(noted)), None).as_deref(), Some("2026-01-01T12:00:00Z"));
    shop.deployments = vec![Arc::new(pods.clone())];
    assert_eq!(see(&shop).world.deployments[REV].restarted_at, Some(at(noted)));
    annotate(&mut pods, "yesterday");
    assert_eq!(restart(Some(at(noted)), Some(&pods)).as_deref(), Some("2026-01-01T12:00:00Z"));
    shop.deployments = vec![Arc::new(pods)];
    assert_eq!(see(&shop).world.deployments[REV].restarted_at, None);
}

/// The app with more in its spec, and its first revision, stored.
fn stored_as(shop: &mut Snapshot, spec: &str) -> (ValidatedApp, BTreeMap<RevisionName, Revision>) {
    let app = raw(spec);
    let valid = ValidatedApp::try_from(&app).unwrap();
    let revision = render(&valid, &REV.parse().unwrap(), &Settings::default());
    shop.app = Arc::new(app);
    shop.revisions = vec![Arc::new(controller_revision(&valid, &revision, 1).into())];
    (valid, [(revision.name.clone(), revision)].into())
}

fn upkeep_of(
    shop: &Snapshot,
    app: &ValidatedApp,
    stored: &BTreeMap<RevisionName, Revision>,
) -> BTreeSet<Upkeep> {
    let mut world = observe(shop, stored).world;
    compare(&mut world, shop, app, stored, &Settings::default(), &mut Drifts::default());
    world.upkeep
}

#[test]
fn an_isolated_revision_has_its_headless_service_and_the_shared_one_goes() {
    let mut shop = shop();
    let own = Upkeep::NewHeadlessService(REV.to_owned());
    let common = Upkeep::HeadlessService(None);
    let (app, stored) = stored_as(&mut shop, "{image: shop:1, clustering: {isolation: PerRevision}}");
    let upkeep = upkeep_of(&shop, &app, &stored);
    assert!(upkeep.contains(&own) && !upkeep.contains(&common), "{upkeep:?}");
    shop.services.push(Arc::new(marked(build::headless_service(&app, stored.values().next()))));
    let differs = Upkeep::HeadlessService(Some(REV.to_owned()));
    let upkeep = upkeep_of(&shop, &app, &stored);
    assert!(!upkeep.contains(&own) && !upkeep.contains(&differs), "nothing is written at rest: {upkeep:?}");
    let spec = "{image: shop:1, clustering: {isolation: PerRevision}, extraPorts: [{name: a, port: 1, expose: Peers}]}";
    let (changed, _) = stored_as(&mut shop, spec);
    let upkeep = upkeep_of(&shop, &changed, &stored);
    assert!(upkeep.contains(&differs) && !upkeep.contains(&own), "{upkeep:?}");
    let (app, stored) = stored_as(&mut shop, "{image: shop:1, clustering: {isolation: PerRevision}}");

    // One of the time when revisions shared a cluster.
    shop.services.push(Arc::new(marked(build::headless_service(&app, None))));
    assert!(upkeep_of(&shop, &app, &stored).contains(&Upkeep::NoHeadlessService));
    let mut lost = (*shop.deployments[0]).clone();
    lost.metadata.name = Some("shop-fedcba9876".to_owned());
    shop.deployments.push(Arc::new(lost));
    assert!(
        !upkeep_of(&shop, &app, &stored).contains(&Upkeep::NoHeadlessService),
        "a revision that was deleted by hand may share it"
    );
    shop.deployments.pop();
    let (_, sharing) = stored_as(&mut shop, "{image: shop:2}");
    let upkeep = upkeep_of(&shop, &app, &sharing);
    assert!(!upkeep.contains(&Upkeep::NoHeadlessService) && !upkeep.contains(&own), "{upkeep:?}");
}

#[test]
fn a_restart_by_kubectl_is_no_drift_and_another_image_is() {
    let mut shop = shop();
    let valid = ValidatedApp::try_from(&*shop.app).unwrap();
    let (stored, _) = shop.stored();
    let drifted = |shop: &Snapshot| {
        let mut world = observe(shop, &stored).world;
        compare(&mut world, shop, &valid, &stored, &Settings::default(), &mut Drifts::default());
        world.deployments[REV].drifted
    };
    let mut pods = (*shop.deployments[0]).clone();
    let template = &mut pods.spec.as_mut().unwrap().template;
    let annotations = template.metadata.get_or_insert_default().annotations.get_or_insert_default();
    annotations.insert("kubectl.kubernetes.io/restartedAt".to_owned(), "2026-01-01T00:00:00Z".to_owned());
    annotations.insert(labels::RESTARTED_AT.to_owned(), "2026-01-01T00:00:00Z".to_owned());
    shop.deployments = vec![Arc::new(pods.clone())];
    assert!(!drifted(&shop));
    pods.spec.as_mut().unwrap().template.spec.as_mut().unwrap().containers[0].image =
        Some("evil:1".to_owned());
    shop.deployments = vec![Arc::new(pods)];
    assert!(drifted(&shop));
}

#[test]
fn a_pod_that_was_killed_is_told_of() {
    let mut shop = shop();
    shop.pods = vec![pod(
        "a",
        "r",
        json!({"metadata": {"deletionTimestamp": "2026-01-01T12:00:30Z"}, "status": {"containerStatuses": [
            {"name": "app", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": 137, "reason": "Error"}}}]}}),
    )];
    assert_eq!(see(&shop).killed, [("a".to_owned(), "a".to_owned())].into());
}

#[test]
fn pods_that_run_since_before_the_secret_was_made_anew_hold_the_old_one() {
    let running = |name: &str, since: &str| {
        let state = json!({"running": {"startedAt": since}});
        let container = json!({"name": "app", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": state});
        pod(name, "r", json!({"status": {"containerStatuses": [container]}}))
    };
    let mut shop = shop();
    shop.pods = vec![running("old", "2026-01-01T11:00:00Z"), running("new", "2026-01-01T11:30:00Z")];
    assert_eq!(see(&shop).world.secret_holders, ["old", "new"]);
    let mut app = (*shop.app).clone();
    let condition = json!({"type": SECRET_REGENERATED, "status": "True", "reason": "SecretWasMissing", "message": "",
        "lastTransitionTime": "2026-01-01T11:30:00Z"});
    app.status.get_or_insert_default().conditions.push(serde_json::from_value(condition).unwrap());
    shop.app = Arc::new(app);
    assert_eq!(see(&shop).world.secret_holders, ["old"]);
}

#[test]
fn an_annotation_that_is_not_allowed_is_told_and_not_written() {
    let mut shop = shop();
    let (app, stored) = stored_as(
        &mut shop,
        "{image: shop:1, hosts: [a], traffic: {ingress: {annotations: {a.io/x: b}}, service: {annotations: {a.io/x: b}}}}",
    );
    let with = |shop: &Snapshot, allowed: &[&str]| {
        let prefixes = allowed.iter().map(|&prefix| prefix.to_owned()).collect();
        let settings =
            Settings { allowed_annotations: build::AllowedAnnotations(prefixes), ..Settings::default() };
        let mut world = see(shop).world;
        compare(&mut world, shop, &app, &stored, &settings, &mut Drifts::default());
        world
    };
    let world = with(&shop, &["a.io/"]);
    assert!(world.edge.is_none() && world.upkeep.contains(&Upkeep::Ingress));
    let world = with(&shop, &["b.io/"]);
    assert_eq!(world.edge.unwrap().reason, "AnnotationNotAllowed");
    assert!(!world.upkeep.contains(&Upkeep::Ingress));
    // what is then applied is what is compared with
    let settings = Settings {
        allowed_annotations: build::AllowedAnnotations(vec!["b.io/".to_owned()]),
        ..Settings::default()
    };
    let mut service = super::active_service(&app, &build::ServiceSelector::Wide, &settings, None);
    assert!(!service.metadata.annotations.as_ref().unwrap().contains_key("a.io/x"));
    service.metadata.uid = Some("s".to_owned());
    shop.services = vec![Arc::new(service)];
    assert!(!with(&shop, &["b.io/"]).service.unwrap().drifted);
    assert!(with(&shop, &["a.io/"]).service.unwrap().drifted, "once it is allowed it is written");
}

#[test]
fn the_disruption_budget_changes_only_where_revisions_stand_beside_each_other() {
    let mut shop = shop();
    let other = "1111111111";
    let mut guarded = |strategy: &str, selected: Option<&str>, next: Option<u32>| {
        let (app, stored) =
            stored_as(&mut shop, &format!("{{image: shop:1, replicas: 2, strategy: {strategy}}}"));
        let selector = selected.map_or(build::ServiceSelector::Wide, |revision| {
            build::ServiceSelector::Only(revision.parse().unwrap())
        });
        let mut service = active_service(&app, &selector);
        service.metadata.uid = Some("s".to_owned());
        shop.services = vec![Arc::new(service)];
        let revision = render(&app, &other.parse().unwrap(), &Settings::default());
        shop.deployments.truncate(1);
        shop.deployments.extend(next.map(|replicas| Arc::new(deployment(&app, &revision, replicas, None))));
        let mut upkeep = upkeep_of(&shop, &app, &stored).into_iter();
        upkeep.find_map(
            |child| if let Upkeep::PodDisruptionBudget(guarded) = child { Some(guarded) } else { None },
        )
    };
    let only = |revision: &str| Some(Selector::Only(revision.to_owned()));
    let rolling = "{type: Rolling}";
    let way = [(Some(REV), None), (None, Some(1)), (None, Some(2)), (Some(other), Some(2))];
    let budgets = way.map(|(selected, next)| guarded(rolling, selected, next));
    assert_eq!(budgets[..3], [Some(Selector::Wide), Some(Selector::Wide), Some(Selector::Wide)]);
    assert_eq!(budgets[3], only(other), "the old pods are still there, and serve nobody");
    assert_eq!(guarded(rolling, Some(REV), Some(0)), Some(Selector::Wide));
    let standing = "{type: BlueGreen}";
    assert_eq!(guarded(standing, Some(REV), None), only(REV), "before the first pod of the next one");
    assert_eq!(guarded(standing, Some(REV), Some(2)), only(REV));
}
