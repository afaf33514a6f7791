//! Whether nodes see each other, situation by situation.

use super::scene::{DEADLINE, Scene, sizes};
use crate::api::{OnFailure, Outcome, Phase, StrategyKind};
use crate::plan::analysis::{Answer, Measured, Measurement, Probe};
use crate::plan::{Plan, Selector, Verify, WorkerObs, Write};

fn verified(mut scene: Scene) -> Scene {
    scene.goal.verify = Some(Verify { path: "/peers".to_owned(), json_path: "nodes".to_owned() });
    scene
}

/// `v1` serves with three nodes; revisions share a cluster.
fn stable() -> Scene {
    let mut scene = verified(Scene::stable());
    shares(&mut scene, "v1");
    ready(&mut scene, "v1", 3);
    scene
}

fn shares(scene: &mut Scene, revision: &str) {
    scene.store(revision, |stored| stored.cluster = Some("shop".to_owned()));
}

fn ready(scene: &mut Scene, revision: &str, count: u32) {
    let addresses = (1..=count).map(|n| format!("10.0.{}.{n}", revision.trim_start_matches('v')));
    scene.world.addresses.insert(revision.to_owned(), addresses.collect());
}

/// The addresses that are asked.
fn asked(plan: &Plan) -> Option<&Measurement> {
    assert!(plan.measure.len() <= 1, "{:?}", plan.measure);
    plan.measure.first()
}

/// The one that sees the fewest peers sees so many.
fn answers(scene: &mut Scene, plan: &Plan, least: u32) {
    let measurement = asked(plan).expect("nothing is asked").clone();
    let answer = Answer::Peers { least, pod: "10.0.1.1".to_owned() };
    scene.world.measured.insert(measurement.key, Measured { at: scene.now, answer });
}

fn condition(scene: &Scene) -> (&str, &str) {
    let found = scene.status.conditions.iter().find(|one| one.type_ == "ClusterFormed").unwrap();
    (found.status.as_str(), found.message.as_str())
}

#[test]
fn without_verify_it_is_unknown_and_blocks_nothing() {
    let mut scene = Scene::stable();
    ready(&mut scene, "v1", 3);
    assert_eq!(asked(&scene.settle()), None);
    assert_eq!(condition(&scene).0, "Unknown");
    assert_eq!((scene.status.phase, &scene.status.cluster), (Some(Phase::Healthy), &None));
}

#[test]
fn nodes_are_asked_until_they_see_each_other_and_then_no_more() {
    let mut scene = stable();
    let plan = scene.settle();
    let Some(Probe::Peers { addresses, port: 4000, .. }) = asked(&plan).map(|one| one.probe.clone()) else {
        panic!("{:?}", plan.measure)
    };
    assert_eq!(addresses, ["10.0.1.1", "10.0.1.2", "10.0.1.3"]);
    answers(&mut scene, &plan, 1);
    let plan = scene.settle();
    assert_eq!(asked(&plan), None, "not at once again");
    assert_eq!(condition(&scene), ("False", "the pod at 10.0.1.1 sees 1 of 2 peers"));
    let cluster = scene.status.cluster.clone().unwrap();
    assert_eq!((cluster.expected, cluster.seen, cluster.formed), (2, 1, false));
    assert_eq!(scene.status.phase, Some(Phase::Healthy), "at rest it only tells");
    assert!(plan.wake.is_some());
    scene.later(3);
    let plan = scene.settle();
    answers(&mut scene, &plan, 2);
    let plan = scene.settle();
    assert_eq!(asked(&plan), None);
    assert_eq!((condition(&scene).0, plan.wake), ("True", None), "at rest nothing is asked");
    scene.world.measured.clear();
    assert_eq!(asked(&scene.settle()), None);
    ready(&mut scene, "v1", 2);
    assert!(asked(&scene.settle()).is_some(), "other nodes are another question");
}

#[test]
fn one_node_alone_has_no_peers_to_see() {
    let mut scene = stable();
    ready(&mut scene, "v1", 1);
    assert_eq!(asked(&scene.settle()), None);
    assert_eq!(condition(&scene).0, "True");
}

#[test]
fn workers_are_peers_and_other_clusters_are_not() {
    let mut scene = stable();
    let addresses = ["10.9.0.1".to_owned(), "10.9.0.2".to_owned()].into();
    let seen = WorkerObs { addresses, ..WorkerObs::default() };
    scene.world.workers.insert(("jobs".to_owned(), "v1".to_owned()), seen);
    scene.store("v0", |stored| stored.cluster = Some("v0".to_owned()));
    ready(&mut scene, "v0", 2);
    scene.settle();
    assert_eq!(scene.status.cluster.as_ref().unwrap().expected, 4);
}

#[test]
fn nodes_that_stay_alone_are_not_asked() {
    let mut scene = stable();
    scene.store("v1", |stored| stored.cluster = None);
    assert_eq!(asked(&scene.settle()), None);
    assert_eq!(condition(&scene).0, "True");
}

/// One new pod of a rolling rollout is ready.
fn first_batch() -> Scene {
    let mut scene = stable();
    scene.ask("v2");
    shares(&mut scene, "v2");
    scene.store("v2", |_| {});
    scene.settle();
    scene.run("v2", 1, 1);
    ready(&mut scene, "v2", 1);
    scene.points_to(Selector::Wide);
    scene
}

#[test]
fn the_next_batch_waits_until_the_first_has_found_its_peers() {
    let mut scene = first_batch();
    let plan = scene.settle();
    assert!(sizes(&plan).iter().all(|(revision, _)| revision != "v2"), "{:?}", sizes(&plan));
    answers(&mut scene, &plan, 2);
    scene.settle();
    assert!(scene.status.message.contains("sees 2 of 3 peers"), "{}", scene.status.message);
    scene.run("v1", 2, 2);
    ready(&mut scene, "v1", 2);
    let plan = scene.settle();
    assert!(sizes(&plan).is_empty(), "{:?}", sizes(&plan));
    answers(&mut scene, &plan, 2);
    assert_eq!(sizes(&scene.settle()), [("v2".to_owned(), 2)]);
    assert_eq!(condition(&scene).0, "True");
}

#[test]
fn the_deadline_fails_nodes_that_never_find_each_other() {
    let mut scene = first_batch();
    let plan = scene.settle();
    answers(&mut scene, &plan, 0);
    scene.settle();
    scene.later(DEADLINE + 1);
    scene.settle();
    let verdict = scene.status.candidate.as_ref().unwrap().verdict.clone().unwrap();
    assert_eq!((verdict.outcome, verdict.reason.as_str()), (Outcome::Failed, "ClusterNotFormed"));
    assert!(verdict.message.contains("sees 0 of 3 peers"), "{}", verdict.message);
    assert_eq!(scene.status.stable.as_deref(), Some("v1"));
}

#[test]
fn the_first_release_waits_too_and_goes_on_when_they_see_each_other() {
    let mut scene = verified(Scene::new());
    shares(&mut scene, "v1");
    scene.settle();
    scene.run("v1", 3, 3);
    ready(&mut scene, "v1", 3);
    scene.points_to(Selector::Only("v1".to_owned()));
    let plan = scene.settle();
    assert_eq!(scene.status.stable, None);
    answers(&mut scene, &plan, 1);
    scene.settle();
    scene.later(DEADLINE + 1);
    let plan = scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::Blocked), "{}", scene.status.message);
    answers(&mut scene, &plan, 2);
    scene.settle();
    assert_eq!(scene.status.stable.as_deref(), Some("v1"), "{}", scene.status.message);
}

#[test]
fn requests_move_to_a_blue_green_candidate_only_once_it_has_formed_its_cluster() {
    let mut scene = stable();
    scene.goal.strategy = StrategyKind::BlueGreen;
    scene.goal.on_failure = OnFailure::Rollback;
    scene.ask("v2");
    scene.store("v2", |stored| stored.cluster = Some("v2".to_owned()));
    scene.settle();
    scene.run("v2", 3, 3);
    scene.world.endpoints.remove("v2");
    scene.world.published.insert("v2".to_owned(), 3);
    ready(&mut scene, "v2", 3);
    let moves = |plan: &Plan| plan.writes.iter().any(|write| matches!(write, Write::ApplyService { .. }));
    let plan = scene.settle();
    assert!(!moves(&plan));
    assert_eq!(scene.status.cluster.as_ref().unwrap().expected, 2, "its own nodes only");
    answers(&mut scene, &plan, 1);
    assert!(!moves(&scene.settle()));
    scene.later(3);
    let plan = scene.settle();
    answers(&mut scene, &plan, 2);
    assert!(moves(&scene.settle()));
}

#[test]
fn nodes_of_a_stable_revision_that_never_found_each_other_do_not_block_their_fix() {
    let mut scene = stable();
    let plan = scene.settle();
    answers(&mut scene, &plan, 0);
    scene.settle();
    assert_eq!(condition(&scene).0, "False");
    scene.ask("v2");
    shares(&mut scene, "v2");
    scene.settle();
    scene.run("v2", 1, 1);
    ready(&mut scene, "v2", 1);
    scene.points_to(Selector::Wide);
    scene.settle();
    assert_eq!(
        scene.status.cluster.as_ref().map(|cluster| (cluster.expected, cluster.formed)),
        Some((0, true))
    );
    // Its own have to see each other.
    scene.run("v2", 2, 2);
    ready(&mut scene, "v2", 2);
    let plan = scene.settle();
    assert!(asked(&plan).is_some());
    assert_eq!(scene.status.cluster.as_ref().map(|cluster| cluster.expected), Some(1));
}

#[test]
fn a_worker_that_is_no_node_blocks_no_rollout() {
    let mut scene = first_batch();
    let seen = WorkerObs { addresses: ["10.9.0.1".to_owned()].into(), ..WorkerObs::default() };
    scene.world.workers.insert(("jobs".to_owned(), "v1".to_owned()), seen);
    scene.settle();
    assert_eq!(scene.status.cluster.as_ref().map(|cluster| cluster.expected), Some(3), "web pods alone");
}
