//! Workers, situation by situation.

use super::scene::{DEADLINE, Scene};
use crate::api::{Outcome, Phase};
use crate::plan::{DeploymentObs, Plan, Selector, WorkerGoal, WorkerObs, Write};

const JOBS: &str = "jobs";

fn goal(replicas: u32, recreate: bool) -> WorkerGoal {
    WorkerGoal { replicas, recreate }
}

fn key(revision: &str) -> (String, String) {
    (JOBS.to_owned(), revision.to_owned())
}

/// `v1` is stable and its worker runs with two pods.
fn stable(recreate: bool) -> Scene {
    let mut scene = Scene::stable();
    scene.goal.workers.insert(JOBS.to_owned(), goal(2, recreate));
    has(&mut scene, "v1");
    runs(&mut scene, "v1", 2, 2);
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::Healthy), "{}", scene.status.message);
    scene
}

/// `v2` has just been promoted over `v1`.
fn promoted(recreate: bool) -> Scene {
    let mut scene = stable(recreate);
    scene.ask("v2");
    scene.store("v2", |_| {});
    has(&mut scene, "v2");
    scene.settle();
    scene.run("v1", 0, 0);
    scene.run("v2", 3, 3);
    scene.points_to(Selector::Only("v2".to_owned()));
    scene
}

fn has(scene: &mut Scene, revision: &str) {
    scene.store(revision, |stored| {
        stored.workers.insert(JOBS.to_owned(), goal(2, false));
    });
}

/// So many pods are asked for, and so many are ready.
fn runs(scene: &mut Scene, revision: &str, asked: u32, ready: u32) {
    let deployment = DeploymentObs {
        version: "9".to_owned(),
        uid: format!("worker-{revision}"),
        replicas: asked,
        observed: true,
        pods: asked,
        available: ready,
        ..DeploymentObs::default()
    };
    let seen = WorkerObs { deployment: Some(deployment), total: asked, ..WorkerObs::default() };
    scene.world.workers.insert(key(revision), seen);
}

fn crashes(scene: &mut Scene, revision: &str) {
    runs(scene, revision, 2, 0);
    let seen = scene.world.workers.get_mut(&key(revision)).unwrap();
    seen.crashing = true;
    seen.worst = Some("pod shop-jobs-1 crashes with exit code 1".to_owned());
}

/// Writes to workers: the revision, and the size; none for a deletion.
fn moves(plan: &Plan) -> Vec<(String, Option<u32>)> {
    let of = |write: &Write| match write {
        Write::CreateWorker { revision, replicas, .. } | Write::ApplyWorker { revision, replicas, .. } => {
            Some((revision.clone(), Some(*replicas)))
        }
        Write::DeleteWorker { revision, .. } => Some((revision.clone(), None)),
        _ => None,
    };
    plan.writes.iter().filter_map(of).collect()
}

fn to(revision: &str, replicas: u32) -> (String, Option<u32>) {
    (revision.to_owned(), Some(replicas))
}

#[test]
fn the_first_revision_has_none_before_it_is_promoted() {
    let mut scene = Scene::new();
    scene.goal.workers.insert(JOBS.to_owned(), goal(2, false));
    scene.store("v1", |_| {});
    has(&mut scene, "v1");
    assert!(moves(&scene.settle()).is_empty());
    scene.run("v1", 3, 2);
    assert!(moves(&scene.settle()).is_empty());
    scene.run("v1", 3, 3);
    scene.points_to(Selector::Only("v1".to_owned()));
    let plan = scene.settle();
    assert_eq!(scene.status.stable.as_deref(), Some("v1"));
    assert_eq!(moves(&plan), [to("v1", 2)]);
    assert_eq!(scene.status.phase, Some(Phase::RollingOut), "{}", scene.status.message);
    assert!(scene.status.message.contains("0 of 2 pods of worker jobs"), "{}", scene.status.message);
    runs(&mut scene, "v1", 2, 2);
    assert!(moves(&scene.settle()).is_empty());
    assert_eq!(scene.status.phase, Some(Phase::Healthy), "{}", scene.status.message);
    assert_eq!(scene.condition("Ready"), Some("True"));
}

#[test]
fn a_candidate_has_none_and_those_of_the_stable_revision_stay() {
    let mut scene = stable(false);
    scene.ask("v2");
    scene.store("v2", |_| {});
    has(&mut scene, "v2");
    assert!(moves(&scene.settle()).is_empty());
    scene.run("v2", 1, 1);
    assert!(moves(&scene.settle()).is_empty());
    scene.later(DEADLINE + 1);
    scene.settle();
    let verdict = scene.status.candidate.as_ref().unwrap().verdict.as_ref().unwrap();
    assert_eq!(verdict.outcome, Outcome::Failed);
    assert!(moves(&scene.settle()).is_empty());
}

#[test]
fn a_rolling_worker_comes_up_before_the_old_one_goes() {
    let mut scene = promoted(false);
    assert_eq!(moves(&scene.settle()), [to("v2", 2)]);
    runs(&mut scene, "v2", 2, 1);
    assert!(moves(&scene.settle()).is_empty(), "the old ones work on");
    assert_eq!(scene.status.phase, Some(Phase::RollingOut), "{}", scene.status.message);
    runs(&mut scene, "v2", 2, 2);
    assert_eq!(moves(&scene.settle()), [to("v1", 0)]);
    runs(&mut scene, "v1", 0, 0);
    assert_eq!(moves(&scene.settle()), [("v1".to_owned(), None)], "its Deployment goes");
    scene.world.workers.remove(&key("v1"));
    assert!(moves(&scene.settle()).is_empty());
    assert_eq!(scene.status.phase, Some(Phase::Healthy), "{}", scene.status.message);
}

#[test]
fn a_recreate_worker_waits_until_the_old_pods_are_gone() {
    let mut scene = promoted(true);
    assert_eq!(moves(&scene.settle()), [to("v1", 0)]);
    runs(&mut scene, "v1", 0, 0);
    let seen = scene.world.workers.get_mut(&key("v1")).unwrap();
    seen.total = 1;
    seen.lost_nodes.insert("node-3".to_owned());
    assert!(moves(&scene.settle()).is_empty(), "a pod is still there");
    assert!(scene.status.message.contains("node node-3 does not answer"), "{}", scene.status.message);
    scene.world.workers.get_mut(&key("v1")).unwrap().total = 0;
    let writes = moves(&scene.settle());
    assert_eq!(writes, [("v1".to_owned(), None), to("v2", 2)]);
}

#[test]
fn a_recreate_worker_waits_for_pods_whose_deployment_somebody_deleted() {
    let mut scene = stable(true);
    let orphan = WorkerObs { total: 1, ..WorkerObs::default() };
    scene.world.workers.insert(key("v1"), orphan);
    assert!(moves(&scene.settle()).is_empty());
    scene.world.workers.clear();
    assert_eq!(moves(&scene.settle()), [to("v1", 2)]);
}

#[test]
fn what_is_deleted_scaled_or_changed_by_hand_is_put_right() {
    let mut scene = stable(false);
    scene.world.workers.clear();
    assert_eq!(moves(&scene.settle()), [to("v1", 2)]);
    runs(&mut scene, "v1", 7, 7);
    assert_eq!(moves(&scene.settle()), [to("v1", 2)]);
    runs(&mut scene, "v1", 2, 2);
    scene.world.workers.get_mut(&key("v1")).unwrap().deployment.as_mut().unwrap().drifted = true;
    assert_eq!(moves(&scene.settle()), [to("v1", 2)]);
}

#[test]
fn replicas_are_live() {
    let mut scene = stable(false);
    scene.goal.workers.insert(JOBS.to_owned(), goal(5, false));
    assert_eq!(moves(&scene.settle()), [to("v1", 5)]);
    scene.goal.workers.insert(JOBS.to_owned(), goal(0, false));
    assert_eq!(moves(&scene.settle()), [to("v1", 0)]);
    runs(&mut scene, "v1", 0, 0);
    assert!(moves(&scene.settle()).is_empty(), "none are wanted, and its Deployment stays");
    assert_eq!(scene.status.phase, Some(Phase::Healthy), "{}", scene.status.message);
}

#[test]
fn one_that_the_spec_drops_goes_with_the_revision_that_drops_it() {
    let mut scene = stable(false);
    scene.goal.workers.clear();
    scene.ask("v2");
    scene.store("v2", |_| {});
    assert!(moves(&scene.settle()).is_empty(), "it stays at its size");
    scene.world.workers.clear();
    assert_eq!(moves(&scene.settle()), [to("v1", 2)], "also when it is deleted by hand");
    runs(&mut scene, "v1", 2, 2);
    scene.run("v1", 0, 0);
    scene.run("v2", 3, 3);
    scene.points_to(Selector::Only("v2".to_owned()));
    assert_eq!(moves(&scene.settle()), [to("v1", 0)]);
    assert!(scene.status.workers.is_empty());
}

#[test]
fn a_rollback_takes_them_back() {
    let mut scene = promoted(false);
    scene.settle();
    runs(&mut scene, "v2", 2, 2);
    scene.world.workers.remove(&key("v1"));
    scene.settle();
    scene.goal.command = Some(format!("rollback v2/{}", scene.status.attempt));
    let plan = scene.settle();
    assert_eq!(scene.status.stable.as_deref(), Some("v1"), "{:?}", scene.status.last_command);
    assert_eq!(moves(&plan), [to("v1", 2)]);
    runs(&mut scene, "v1", 2, 2);
    assert_eq!(moves(&scene.settle()), [to("v2", 0)]);
}

#[test]
fn a_crash_fails_the_bake() {
    let mut scene = promoted(false);
    scene.goal.strategy = crate::api::StrategyKind::Canary;
    scene.goal.canary_bake = std::time::Duration::from_mins(10);
    if let Some(candidate) = scene.status.candidate.as_mut() {
        candidate.strategy = crate::api::StrategyKind::Canary;
    }
    scene.settle();
    assert!(scene.status.bake.is_some());
    crashes(&mut scene, "v2");
    let plan = scene.settle();
    assert_eq!(scene.status.stable.as_deref(), Some("v1"));
    let verdict = scene.status.candidate.as_ref().unwrap().verdict.as_ref().unwrap();
    assert_eq!((verdict.outcome, verdict.reason.as_str()), (Outcome::Failed, "WorkersNotReady"));
    assert!(verdict.message.starts_with("0 of 2 pods of worker jobs"), "{}", verdict.message);
    assert!(verdict.message.contains("exit code 1"), "{}", verdict.message);
    assert_eq!(moves(&plan), [to("v2", 0)], "the old ones never went");
}

#[test]
fn a_crash_after_the_bake_is_told() {
    let mut scene = stable(false);
    crashes(&mut scene, "v1");
    assert!(moves(&scene.settle()).is_empty());
    assert_eq!(scene.status.phase, Some(Phase::Degraded));
    let ready = scene.status.conditions.iter().find(|one| one.type_ == "Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "WorkersNotReady"));
    assert!(ready.message.contains("0 of 2 pods of worker jobs of revision v1"), "{}", ready.message);
}

#[test]
fn pods_that_never_come_up_are_told_after_the_deadline() {
    let mut scene = promoted(false);
    scene.settle();
    runs(&mut scene, "v2", 2, 0);
    assert!(scene.settle().wake.is_some());
    assert_eq!(scene.status.phase, Some(Phase::RollingOut));
    scene.later(DEADLINE + 1);
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::Degraded), "{}", scene.status.message);
}

#[test]
fn a_fix_takes_broken_ones_away_at_once() {
    let mut scene = promoted(false);
    runs(&mut scene, "v1", 2, 0);
    let writes = moves(&scene.settle());
    assert_eq!(writes, [to("v1", 0), to("v2", 2)]);
}

#[test]
fn a_restart_covers_them() {
    let mut scene = stable(false);
    scene.goal.command = Some(format!("restart v1/{}/1", scene.status.attempt));
    assert_eq!(moves(&scene.settle()), [to("v1", 2)]);
}

#[test]
fn suspended_or_deleted_nothing_is_written() {
    let mut scene = stable(false);
    scene.world.workers.clear();
    scene.goal.suspend = true;
    assert!(scene.pass().writes.is_empty());
    scene.goal.suspend = false;
    scene.goal.deleting = true;
    assert!(scene.pass().writes.is_empty());
}

#[test]
fn a_revision_stays_until_its_workers_are_gone() {
    let mut scene = stable(false);
    scene.goal.history_limit = 0;
    scene.store("v0", |stored| stored.attempt = 0);
    has(&mut scene, "v0");
    runs(&mut scene, "v0", 0, 0);
    let deletes = |plan: &Plan| plan.writes.iter().any(|w| matches!(w, Write::DeleteRevision { .. }));
    assert!(!deletes(&scene.settle()));
    scene.world.workers.remove(&key("v0"));
    assert!(deletes(&scene.settle()));
}

#[test]
fn their_pods_are_counted_for_a_budget() {
    let mut scene = stable(false);
    runs(&mut scene, "v0", 0, 0);
    scene.world.workers.get_mut(&key("v0")).unwrap().total = 1;
    assert_eq!(scene.world.worker_pods(), 3);
}

#[test]
fn without_connections_for_both_the_old_ones_make_room() {
    let budget = |scene: &mut Scene, max: u32| {
        scene.goal.budget = Some(crate::plan::Budget { max, per_pod: 10 });
    };
    // 3 web pods, 2 old and 2 new workers, and one pod of the next release.
    let mut scene = promoted(false);
    budget(&mut scene, 80);
    assert_eq!(moves(&scene.settle()), [to("v2", 2)]);

    let mut scene = promoted(false);
    budget(&mut scene, 60);
    assert_eq!(moves(&scene.settle()), [to("v1", 0), to("v2", 1)]);
    runs(&mut scene, "v2", 1, 1);
    assert!(moves(&scene.settle()).iter().all(|one| *one == to("v1", 0)), "no room before they are gone");
    runs(&mut scene, "v1", 0, 0);
    assert!(moves(&scene.settle()).contains(&to("v2", 2)));

    // Web pods on their way out hold connections, but not for long.
    let mut scene = promoted(false);
    budget(&mut scene, 80);
    scene.world.pods.get_mut("v1").unwrap().total = 3;
    assert!(moves(&scene.settle()).is_empty());
    scene.world.pods.get_mut("v1").unwrap().total = 0;
    assert_eq!(moves(&scene.settle()), [to("v2", 2)]);
}

#[test]
fn workers_that_the_spec_drops_hold_connections_until_the_promotion() {
    let mut scene = stable(false);
    scene.goal.budget = Some(crate::plan::Budget { max: 50, per_pod: 10 });
    scene.goal.workers.clear();
    scene.ask("v2");
    scene.store("v2", |_| {});
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::Blocked), "{}", scene.status.message);
    assert!(scene.status.message.contains("+ 2 workers x 10 = 60 >"), "{}", scene.status.message);
}

#[test]
fn crashing_workers_leave_a_connection_to_their_fix() {
    let mut scene = promoted(false);
    scene.settle();
    scene.goal.budget = Some(crate::plan::Budget { max: 70, per_pod: 10 });
    crashes(&mut scene, "v2");
    assert_eq!(moves(&scene.settle()), [to("v1", 0)]);
}

#[test]
fn no_clock_runs_for_workers_that_may_not_start() {
    let mut scene = promoted(true);
    scene.goal.strategy = crate::api::StrategyKind::Canary;
    scene.goal.canary_bake = std::time::Duration::from_mins(30);
    if let Some(candidate) = scene.status.candidate.as_mut() {
        candidate.strategy = crate::api::StrategyKind::Canary;
    }
    scene.settle();
    assert!(scene.status.bake.is_some());
    // The old ones finish what they do.
    runs(&mut scene, "v1", 0, 0);
    scene.world.workers.get_mut(&key("v1")).unwrap().total = 2;
    scene.settle();
    scene.later(DEADLINE + 1);
    scene.settle();
    assert_eq!(scene.status.stable.as_deref(), Some("v2"), "{}", scene.status.message);
    scene.world.workers.remove(&key("v1"));
    assert_eq!(moves(&scene.settle()), [to("v2", 2)]);
    runs(&mut scene, "v2", 2, 0);
    scene.settle();
    assert_eq!(scene.status.stable.as_deref(), Some("v2"), "it has only begun: {}", scene.status.message);
    scene.later(DEADLINE + 1);
    scene.settle();
    assert_eq!(scene.status.stable.as_deref(), Some("v1"), "{}", scene.status.message);
}

#[test]
fn a_contract_waits_for_older_workers() {
    let mut scene = promoted(false);
    scene.store("v2", |revision| {
        revision.has_contract = true;
        revision.migrated = true;
    });
    let contracts = |plan: &Plan| plan.writes.iter().any(|write| matches!(write, Write::CreateJob { .. }));
    scene.settle();
    runs(&mut scene, "v2", 2, 2);
    assert!(!contracts(&scene.settle()));
    runs(&mut scene, "v1", 0, 0);
    scene.world.workers.get_mut(&key("v1")).unwrap().total = 1;
    assert!(!contracts(&scene.settle()), "one is on its way out");
    scene.world.workers.remove(&key("v1"));
    assert!(contracts(&scene.settle()));
}
