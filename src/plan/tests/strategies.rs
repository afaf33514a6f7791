//! Blue-green, canary and commands, situation by situation.

use std::time::Duration;

use super::scene::{Scene, at, sizes};
use crate::api::testing::app;
use crate::api::{
    AnalysisStep, CanaryStep, CommandAnswer, OnFailure, Outcome, Pause, Phase, Progress, SmokeTestStep,
    StrategyKind,
};
use crate::plan::analysis::{Answer, Measured, Proofs};
use crate::plan::{JobState, MigrationPod, Plan, PreviewObs, Selector, Write};

fn only(revision: &str) -> Selector {
    Selector::Only(revision.to_owned())
}

fn size(revision: &str, replicas: u32) -> (String, u32) {
    (revision.to_owned(), replicas)
}

fn weight(percent: i32) -> CanaryStep {
    CanaryStep { set_weight: Some(percent), ..CanaryStep::default() }
}

fn wait(seconds: Option<u32>) -> CanaryStep {
    let duration = seconds.map(crate::api::Duration::from_secs);
    CanaryStep { pause: Some(Pause { duration }), ..CanaryStep::default() }
}

/// `v2` is asked for, as blue-green with these steps.
fn blue_green(steps: Vec<CanaryStep>) -> Scene {
    rollout(StrategyKind::BlueGreen, steps)
}

fn rollout(strategy: StrategyKind, steps: Vec<CanaryStep>) -> Scene {
    let mut scene = Scene::stable();
    scene.goal.strategy = strategy;
    scene.goal.steps = steps;
    scene.goal.blue_green_bake = Duration::from_mins(10);
    scene.goal.keep_old = Duration::from_hours(1);
    preview(&mut scene, None);
    scene.ask("v2");
    scene.store("v2", |_| {});
    scene.settle();
    scene
}

fn preview(scene: &mut Scene, revision: Option<&str>) {
    scene.world.preview = Some(PreviewObs {
        version: "2".to_owned(),
        uid: "preview".to_owned(),
        revision: revision.map(str::to_owned),
        drifted: false,
    });
}

/// The candidate's pods stand ready, and the preview shows them; they are not among the active endpoints.
fn stands(scene: &mut Scene, revision: &str, pods: u32) {
    scene.run(revision, pods, pods);
    scene.world.endpoints.remove(revision);
    scene.world.published.insert(revision.to_owned(), pods);
    preview(scene, Some(revision));
}

fn switched(scene: &mut Scene, from: &str, to: &str, pods: u32) {
    scene.points_to(only(to));
    scene.world.endpoints.remove(from);
    scene.world.endpoints.insert(to.to_owned(), pods);
}

fn selects(plan: &Plan) -> Option<Selector> {
    plan.writes.iter().find_map(|write| match write {
        Write::ApplyService { selector, .. } => Some(selector.clone()),
        _ => None,
    })
}

#[test]
fn blue_green_stands_beside_and_moves_all_requests_in_one_write() {
    let mut scene = blue_green(vec![]);
    let plan = scene.settle();
    assert_eq!(sizes(&plan), [size("v2", 3)]);
    assert_eq!(selects(&plan), None, "the Service stays where it is");
    stands(&mut scene, "v2", 3);
    let plan = scene.settle();
    assert_eq!(selects(&plan), Some(only("v2")));
    assert!(sizes(&plan).is_empty(), "the old pods stay: {:?}", plan.writes);
    switched(&mut scene, "v1", "v2", 3);
    let plan = scene.settle();
    assert_eq!(scene.status.stable.as_deref(), Some("v2"));
    assert!(sizes(&plan).is_empty(), "the old pods stay through the bake: {:?}", plan.writes);
    assert_eq!(scene.status.phase, Some(Phase::Healthy), "{}", scene.status.message);
    assert!(scene.status.message.contains("an abort returns to revision v1"), "{}", scene.status.message);
    // After the bake they go, and are kept as a definition.
    scene.later(601);
    assert_eq!(sizes(&scene.settle()), [size("v1", 0)]);
}

#[test]
fn blue_green_moves_only_when_every_pod_is_available() {
    let mut scene = blue_green(vec![]);
    stands(&mut scene, "v2", 3);
    scene.world.deployments.get_mut("v2").unwrap().available = 2;
    assert_eq!(selects(&scene.settle()), None);
}

#[test]
fn a_wait_for_a_person_begins_when_the_preview_shows_ready_pods() {
    let mut scene = blue_green(vec![wait(None)]);
    scene.goal.preview_replicas = Some(1);
    assert_eq!(sizes(&scene.settle()), [size("v2", 1)]);
    scene.run("v2", 1, 1);
    scene.world.endpoints.remove("v2");
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::RollingOut), "the preview does not show it yet");
    stands(&mut scene, "v2", 1);
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::Paused), "{}", scene.status.message);
    assert!(scene.status.message.contains("promote v2/2/0"), "{}", scene.status.message);
    scene.command("promote");
    let plan = scene.settle();
    assert_eq!(sizes(&plan), [size("v2", 3)], "all pods come before requests move");
    assert_eq!(selects(&plan), None);
}

#[test]
fn a_timed_wait_passes_by_itself_and_is_no_reason_for_a_deadline() {
    let mut scene = blue_green(vec![wait(Some(5_000))]);
    stands(&mut scene, "v2", 3);
    let plan = scene.settle();
    assert!(plan.wake.is_some());
    scene.later(4_999);
    assert_eq!(selects(&scene.settle()), None);
    assert!(scene.status.candidate.as_ref().unwrap().verdict.is_none(), "{}", scene.status.message);
    scene.later(1);
    assert_eq!(selects(&scene.settle()), Some(only("v2")));
}

#[test]
fn a_service_led_to_the_candidate_by_hand_is_led_back() {
    let mut scene = blue_green(vec![wait(None)]);
    stands(&mut scene, "v2", 3);
    scene.settle();
    scene.points_to(only("v2"));
    assert_eq!(selects(&scene.settle()), Some(only("v1")));
}

#[test]
fn an_abort_during_the_bake_returns_at_once() {
    let mut scene = blue_green(vec![]);
    stands(&mut scene, "v2", 3);
    scene.settle();
    switched(&mut scene, "v1", "v2", 3);
    scene.settle();
    scene.goal.command = Some(format!("abort v2/{}", scene.status.attempt));
    let plan = scene.settle();
    assert_eq!(scene.status.last_command.as_ref().unwrap().answer, CommandAnswer::Accepted);
    assert_eq!(selects(&plan), Some(only("v1")));
    assert_eq!(scene.status.stable.as_deref(), Some("v1"));
    switched(&mut scene, "v2", "v1", 3);
    assert_eq!(sizes(&scene.settle()), [size("v2", 0)]);
    assert_eq!(scene.status.phase, Some(Phase::Aborted), "{}", scene.status.message);
}

#[test]
fn pods_that_all_crash_in_the_bake_return_to_those_that_stand_by() {
    let mut scene = blue_green(vec![]);
    stands(&mut scene, "v2", 3);
    scene.settle();
    switched(&mut scene, "v1", "v2", 3);
    scene.settle();
    scene.world.pods.get_mut("v2").unwrap().crashing = true;
    scene.settle();
    assert_eq!(scene.status.stable.as_deref(), Some("v2"), "one crashes, and the others serve");
    scene.world.deployments.get_mut("v2").unwrap().available = 0;
    let mut over = scene.clone();
    let plan = scene.settle();
    assert_eq!((scene.status.stable.as_deref(), selects(&plan)), (Some("v1"), Some(only("v1"))));
    let verdict = scene.status.candidate.as_ref().unwrap().verdict.as_ref().unwrap();
    assert_eq!((verdict.outcome, verdict.reason.as_str()), (Outcome::Failed, "PodsCrashed"));
    // Afterwards it is told, and a person decides.
    over.later(601);
    over.settle();
    assert_eq!(over.status.stable.as_deref(), Some("v2"));
}

#[test]
fn a_rollback_moves_requests_once_the_earlier_pods_can_take_them() {
    let mut scene = blue_green(vec![]);
    scene.goal.blue_green_bake = Duration::ZERO;
    stands(&mut scene, "v2", 3);
    scene.settle();
    switched(&mut scene, "v1", "v2", 3);
    scene.settle();
    scene.run("v1", 0, 0);
    scene.settle();
    scene.goal.command = Some(format!("rollback v2/{}", scene.status.attempt));
    let plan = scene.settle();
    assert_eq!((sizes(&plan), selects(&plan)), (vec![size("v1", 3)], None));
    assert_eq!(scene.status.phase, Some(Phase::RollingBack), "{}", scene.status.message);
    stands(&mut scene, "v1", 3);
    preview(&mut scene, None);
    assert_eq!(selects(&scene.settle()), Some(only("v1")));
    switched(&mut scene, "v2", "v1", 3);
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::RolledBack), "{}", scene.status.message);
    assert_eq!(scene.status.history[0].outcome, Outcome::RolledBack);
    // It is not tried again by itself.
    scene.run("v2", 0, 0);
    scene.later(10_000);
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::RolledBack));
}

#[test]
fn kept_pods_are_fresh_ones() {
    let mut scene = blue_green(vec![]);
    scene.goal.keep_old_replicas = 1;
    stands(&mut scene, "v2", 3);
    scene.settle();
    switched(&mut scene, "v1", "v2", 3);
    scene.settle();
    scene.later(601);
    assert_eq!(sizes(&scene.settle()), [size("v1", 0)]);
    scene.run("v1", 0, 0);
    scene.world.pods.get_mut("v1").unwrap().total = 2;
    assert!(sizes(&scene.settle()).is_empty(), "its last pods still go");
    scene.world.pods.get_mut("v1").unwrap().total = 0;
    assert_eq!(sizes(&scene.settle()), [size("v1", 1)]);
    scene.run("v1", 1, 1);
    scene.world.endpoints.remove("v1");
    assert!(sizes(&scene.settle()).is_empty());
    assert_eq!(selects(&scene.settle()), None, "kept pods get no requests");
    scene.later(3600);
    assert_eq!(sizes(&scene.settle()), [size("v1", 0)]);
}

#[test]
fn old_pods_stop_in_batches_with_time_between() {
    let mut scene = blue_green(vec![]);
    scene.goal.blue_green_bake = Duration::ZERO;
    scene.goal.drain_batch = Some(2);
    stands(&mut scene, "v2", 3);
    scene.settle();
    switched(&mut scene, "v1", "v2", 3);
    scene.settle();
    let plan = scene.settle();
    assert!(sizes(&plan).is_empty() || sizes(&plan) == [size("v1", 1)], "{:?}", plan.writes);
    scene.run("v1", 1, 1);
    scene.world.endpoints.remove("v1");
    let plan = scene.settle();
    assert!(sizes(&plan).is_empty(), "too soon: {:?}", plan.writes);
    assert!(plan.wake.is_some_and(|wake| wake <= at(30)), "{:?}", plan.wake);
    scene.later(30);
    assert_eq!(sizes(&scene.settle()), [size("v1", 0)]);
}

/// A status holds whole seconds.
#[test]
fn a_batch_is_not_early_by_a_fraction() {
    let mut scene = blue_green(vec![]);
    scene.goal.blue_green_bake = Duration::ZERO;
    scene.goal.drain_batch = Some(2);
    stands(&mut scene, "v2", 3);
    scene.settle();
    scene.now = scene.now.saturating_add(jiff::SignedDuration::from_millis(900)).unwrap();
    switched(&mut scene, "v1", "v2", 3);
    scene.settle();
    scene.settle();
    let noted = scene.status.drained_at.as_ref().expect("a batch stops").0;
    assert!(noted >= scene.now && noted.subsec_nanosecond() == 0, "{noted}");
}

#[test]
fn a_third_release_stands_beside_v1_not_beside_a_second_that_never_served() {
    let mut scene = blue_green(vec![wait(None)]);
    stands(&mut scene, "v2", 3);
    scene.settle();
    scene.ask("v3");
    scene.store("v3", |_| {});
    let plan = scene.settle();
    assert_eq!(selects(&plan), None);
    assert!(
        sizes(&plan).contains(&size("v2", 0)) && sizes(&plan).contains(&size("v3", 3)),
        "{:?}",
        plan.writes
    );
    assert_eq!(scene.status.stable.as_deref(), Some("v1"));
}

#[test]
fn replicas_follow_on_both_sides() {
    let mut scene = blue_green(vec![wait(None)]);
    stands(&mut scene, "v2", 3);
    scene.settle();
    scene.goal.replicas = 5;
    assert_eq!(sizes(&scene.settle()), [size("v1", 5), size("v2", 5)].into_iter().rev().collect::<Vec<_>>());
}

/// An autoscaler reads `status.replicas`: two colours at once must not look like twice the load.
#[test]
fn a_second_colour_is_no_replica() {
    let mut scene = blue_green(vec![wait(None)]);
    stands(&mut scene, "v2", 3);
    scene.settle();
    assert_eq!(scene.status.replicas, 3);
}

#[test]
fn a_canary_keeps_its_weight_through_a_wait() {
    let mut scene = rollout(StrategyKind::Canary, vec![weight(33), wait(None), weight(66), wait(Some(60))]);
    scene.world.preview = None;
    assert_eq!(sizes(&scene.settle()), [size("v2", 1)]);
    scene.run("v2", 1, 1);
    scene.points_to(Selector::Wide);
    assert_eq!(sizes(&scene.settle()), [size("v1", 2)]);
    scene.run("v1", 2, 2);
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::Paused), "{}", scene.status.message);
    assert!(scene.status.message.contains("at 33 %"), "{}", scene.status.message);
    scene.command("promote");
    assert_eq!(sizes(&scene.settle()), [size("v2", 2)]);
}

#[test]
fn one_pod_without_surge_rolls_as_rolling_would_and_says_so() {
    let mut scene = Scene::stable();
    scene.goal.replicas = 1;
    scene.run("v1", 1, 1);
    scene.settle();
    scene.goal.strategy = StrategyKind::Canary;
    scene.goal.steps = vec![weight(10), wait(None)];
    scene.goal.surge = 0;
    scene.goal.unavailable = 1;
    scene.ask("v2");
    scene.store("v2", |_| {});
    scene.settle();
    assert_eq!(scene.condition("WeightsUnattainable"), Some("True"), "{}", scene.status.message);
    assert!(scene.status.candidate.as_ref().unwrap().steps.is_empty());
}

#[test]
fn with_nothing_stable_there_are_no_steps() {
    let mut scene = Scene::new();
    scene.goal.strategy = StrategyKind::Canary;
    scene.goal.steps = vec![weight(10), wait(None)];
    scene.store("v1", |_| {});
    scene.settle();
    let candidate = scene.status.candidate.as_ref().unwrap();
    assert_eq!((candidate.strategy, candidate.steps.len()), (StrategyKind::Rolling, 0));
}

#[test]
fn steps_are_frozen_for_an_attempt() {
    let mut scene = rollout(StrategyKind::Canary, vec![weight(33), wait(None)]);
    scene.goal.steps = vec![weight(90)];
    scene.goal.strategy = StrategyKind::BlueGreen;
    scene.settle();
    let candidate = scene.status.candidate.as_ref().unwrap();
    assert_eq!((candidate.strategy, candidate.steps.len()), (StrategyKind::Canary, 2));
}

#[test]
fn a_failure_that_waits_for_a_person_moves_nothing() {
    let mut scene = Scene::rolling();
    scene.goal.on_failure = OnFailure::Pause;
    scene.points_to(Selector::Wide);
    scene.run("v2", 1, 0);
    scene.settle();
    scene.later(601);
    scene.settle();
    let plan = scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::Failed), "{}", scene.status.message);
    assert!(sizes(&plan).is_empty(), "{:?}", plan.writes);
    assert!(scene.status.message.contains("abort v2/2"), "{}", scene.status.message);
    scene.command("abort");
    assert_eq!(sizes(&scene.settle()), [size("v2", 0)]);
}

#[test]
fn a_paused_rollout_neither_moves_nor_runs_into_its_deadline() {
    let mut scene = Scene::rolling();
    scene.points_to(Selector::Wide);
    scene.run("v2", 1, 1);
    scene.goal.command = Some(format!("pause v2/{}/1", scene.status.attempt));
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::Paused), "{}", scene.status.message);
    scene.later(10_000);
    scene.settle();
    assert!(scene.status.candidate.as_ref().unwrap().verdict.is_none());
    scene.goal.command = Some(format!("resume v2/{}/2", scene.status.attempt));
    assert!(!sizes(&scene.settle()).is_empty());
}

#[test]
fn abort_wins_over_a_promotion_of_all_steps() {
    let mut scene = rollout(StrategyKind::Canary, vec![weight(33), wait(None)]);
    scene.command("promote-full");
    scene.settle();
    assert_eq!(scene.status.candidate.as_ref().unwrap().step, 2);
    scene.command("abort");
    scene.settle();
    let verdict = scene.status.candidate.as_ref().unwrap().verdict.clone().unwrap();
    assert_eq!(verdict.outcome, Outcome::Aborted);
}

#[test]
fn a_restart_is_written_once() {
    let mut scene = Scene::stable();
    scene.goal.command = Some("restart v1/1/1".to_owned());
    assert_eq!(sizes(&scene.settle()), [size("v1", 3)]);
    let at = scene.status.restarts["v1"].0;
    scene.world.deployments.get_mut("v1").unwrap().restarted_at = Some(at);
    assert!(sizes(&scene.settle()).is_empty());
}

/// Its pod in advance may find no node, for hours.
#[test]
fn a_restart_under_way_holds_up_neither_a_release_nor_an_autoscaler() {
    let restart = |scene: &mut Scene, available: u32| {
        let deployment = scene.world.deployments.get_mut("v1").unwrap();
        (deployment.pods, deployment.available, deployment.outdated) = (4, available, 3);
    };
    let mut release = Scene::rolling();
    release.points_to(Selector::Wide);
    release.run("v2", 1, 1);
    restart(&mut release, 3);
    assert_eq!(sizes(&release.settle()), [size("v1", 2)]);
    let mut raised = Scene::stable();
    restart(&mut raised, 3);
    raised.goal.replicas = 5;
    assert_eq!(sizes(&raised.settle()), [size("v1", 5)]);
    let mut lowered = Scene::stable();
    restart(&mut lowered, 4);
    lowered.goal.replicas = 5;
    assert_eq!(sizes(&lowered.settle()), [], "the counts may be of before");
}

#[test]
fn a_restart_that_is_stuck_says_what_keeps_it() {
    let mut scene = Scene::stable();
    let deployment = scene.world.deployments.get_mut("v1").unwrap();
    (deployment.pods, deployment.available, deployment.outdated) = (4, 3, 3);
    scene.world.pods.get_mut("v1").unwrap().worst = Some("shop-1 cannot pull its image".to_owned());
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::Healthy));
    assert_eq!(
        scene.status.message,
        "3 of 3 pods of revision v1 serve; 3 pods have yet to be replaced; shop-1 cannot pull its image"
    );
}

#[test]
fn a_lost_status_is_taken_over_from_the_revisions() {
    let mut scene = Scene::stable();
    scene.store("v0", |revision| {
        revision.attempt = 1;
        revision.promotion = 1;
    });
    scene.store("v1", |revision| {
        revision.attempt = 2;
        revision.promotion = 2;
    });
    scene.store("v2", |revision| {
        revision.attempt = 3;
        revision.outcome = Some(Outcome::Failed);
    });
    scene.ask("v2");
    scene.status = crate::api::PhoenixAppStatus::default();
    scene.settle();
    let status = &scene.status;
    assert_eq!((status.stable.as_deref(), status.previous.as_deref()), (Some("v1"), Some("v0")));
    assert_eq!((status.attempt, status.promotion), (3, 2));
    assert_eq!(status.phase, Some(Phase::Failed), "{}", status.message);
}

/// What an app with these fields of `strategy` asks to be proven.
fn proofs(strategy: &str) -> Proofs {
    Proofs::of(&app(&format!("{{image: shop:1, strategy: {strategy}}}")))
}

/// All that is asked for is answered in the same way.
fn answer(scene: &mut Scene, plan: &Plan, answer: &Answer) {
    for measurement in &plan.measure {
        let measured = Measured { at: scene.now, answer: answer.clone() };
        scene.world.measured.insert(measurement.key.clone(), measured);
    }
}

fn check(more: &str) -> String {
    format!("{{analysis: [{{name: errors, query: up, max: \"0.05\", interval: 10s, count: 2{more}}}]}}")
}

#[test]
fn a_failed_smoke_test_moves_nothing_and_takes_the_pods_away() {
    let mut scene = Scene::stable();
    scene.goal.proofs = proofs("{smokeTests: [{name: home, http: {path: /}}]}");
    let smoke = CanaryStep { smoke_test: Some(SmokeTestStep::default()), ..CanaryStep::default() };
    scene.goal.strategy = StrategyKind::BlueGreen;
    scene.goal.steps = vec![smoke];
    preview(&mut scene, None);
    scene.ask("v2");
    scene.store("v2", |_| {});
    scene.settle();
    assert!(scene.pass().measure.is_empty(), "nothing is asked before the pods are ready");
    stands(&mut scene, "v2", 3);
    scene.world.addresses.insert("v2".to_owned(), ["10.0.0.1".to_owned()].into());
    let mut plan = scene.settle();
    while !plan.measure.is_empty() {
        assert_eq!(selects(&plan), None);
        answer(&mut scene, &plan, &Answer::Failed("status 500".to_owned()));
        scene.later(5);
        plan = scene.settle();
    }
    let plan = scene.settle();
    assert_eq!(sizes(&plan), [size("v2", 0)]);
    assert_eq!(scene.status.phase, Some(Phase::Failed), "{}", scene.status.message);
    assert!(scene.status.message.contains("status 500"), "{}", scene.status.message);
    assert_eq!(scene.condition("SmokeTested"), Some("False"));
}

#[test]
fn the_job_of_a_smoke_test_waits_for_a_connection() {
    let mut scene = Scene::stable();
    scene.goal.proofs = proofs("{smokeTests: [{name: pay, job: {command: [/app/bin/pay]}}]}");
    scene.goal.strategy = StrategyKind::BlueGreen;
    scene.goal.steps =
        vec![CanaryStep { smoke_test: Some(SmokeTestStep::default()), ..CanaryStep::default() }];
    preview(&mut scene, None);
    scene.ask("v2");
    scene.store("v2", |_| {});
    scene.settle();
    stands(&mut scene, "v2", 3);
    let starts = |plan: &Plan| plan.writes.iter().any(|write| matches!(write, Write::CreateSmokeJob { .. }));
    scene.goal.budget = Some(crate::plan::Budget { max: 60, per_pod: 10 });
    assert!(!starts(&scene.settle()));
    let sum = "6 serving pods x 10 + 1 smoke test x 10 = 70 > database.maxConnections 60";
    assert!(scene.status.message.contains(sum), "{}", scene.status.message);
    assert_eq!((scene.status.phase, scene.condition("Stalled")), (Some(Phase::Blocked), Some("True")));
    scene.goal.budget = Some(crate::plan::Budget { max: 70, per_pod: 10 });
    assert!(starts(&scene.settle()));
    assert_eq!(scene.status.phase, Some(Phase::RollingOut));
}

#[test]
fn a_passed_smoke_test_lets_all_requests_move() {
    let mut scene = Scene::stable();
    scene.goal.proofs = proofs("{smokeTests: [{name: home, http: {path: /}}]}");
    let smoke = CanaryStep { smoke_test: Some(SmokeTestStep::default()), ..CanaryStep::default() };
    scene.goal.strategy = StrategyKind::BlueGreen;
    scene.goal.steps = vec![smoke];
    preview(&mut scene, None);
    scene.ask("v2");
    scene.store("v2", |_| {});
    scene.settle();
    stands(&mut scene, "v2", 3);
    scene.world.addresses.insert("v2".to_owned(), ["10.0.0.1".to_owned()].into());
    let plan = scene.settle();
    assert_eq!((plan.measure.len(), selects(&plan)), (1, None));
    answer(&mut scene, &plan, &Answer::Passed);
    assert_eq!(selects(&scene.settle()), Some(only("v2")));
    assert_eq!(scene.condition("SmokeTested"), Some("True"));
}

fn canary_with_a_check(more: &str) -> Scene {
    let mut scene = rollout(StrategyKind::Canary, vec![weight(33), wait(None)]);
    scene.goal.proofs = proofs(&check(more));
    scene.run("v2", 1, 1);
    scene.run("v1", 2, 2);
    scene.points_to(Selector::Wide);
    scene
}

#[test]
fn a_bad_number_in_the_background_ends_a_canary_at_its_step() {
    let mut scene = canary_with_a_check("");
    let plan = scene.settle();
    assert_eq!(plan.measure.len(), 1);
    answer(&mut scene, &plan, &Answer::Value("0.1".to_owned()));
    scene.settle();
    let plan = scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::RollingBack), "{}", scene.status.message);
    assert!(sizes(&plan).contains(&size("v1", 3)), "{:?}", plan.writes);
    assert_eq!(scene.condition("AnalysisPassed"), Some("False"));
}

#[test]
fn no_number_pauses_and_a_person_lets_it_go_on() {
    let mut scene = canary_with_a_check(", inconclusiveLimit: 0");
    let plan = scene.settle();
    answer(&mut scene, &plan, &Answer::Nothing("no data".to_owned()));
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::Paused), "{}", scene.status.message);
    assert!(scene.status.message.contains("no data"), "{}", scene.status.message);
    scene.later(5_000);
    scene.settle();
    assert!(scene.status.candidate.as_ref().unwrap().verdict.is_none());
    scene.command("promote");
    scene.settle();
    assert_eq!(scene.status.last_command.as_ref().unwrap().answer, CommandAnswer::Accepted);
}

#[test]
fn a_check_that_has_not_passed_holds_the_promotion() {
    let mut scene = Scene::rolling();
    scene.goal.proofs = proofs(&check(""));
    scene.run("v1", 0, 0);
    scene.run("v2", 3, 3);
    scene.points_to(only("v2"));
    let mut plan = scene.settle();
    assert_eq!(scene.status.stable.as_deref(), Some("v1"), "{}", scene.status.message);
    for _ in 0..2 {
        answer(&mut scene, &plan, &Answer::Value("0.01".to_owned()));
        scene.later(10);
        plan = scene.settle();
    }
    assert_eq!(scene.status.stable.as_deref(), Some("v2"), "{}", scene.status.message);
}

#[test]
fn a_bad_number_in_the_bake_returns_to_the_revision_before() {
    let mut scene = blue_green(vec![]);
    scene.goal.proofs = proofs(&check(""));
    stands(&mut scene, "v2", 3);
    scene.settle();
    switched(&mut scene, "v1", "v2", 3);
    let plan = scene.settle();
    assert_eq!((scene.status.stable.as_deref(), plan.measure.len()), (Some("v2"), 1));
    answer(&mut scene, &plan, &Answer::Value("1".to_owned()));
    let plan = scene.settle();
    assert_eq!((scene.status.stable.as_deref(), selects(&plan)), (Some("v1"), Some(only("v1"))));
    assert_eq!(scene.status.phase, Some(Phase::RollingBack), "{}", scene.status.message);
}

#[test]
fn a_first_release_is_compared_with_nothing() {
    let mut scene = Scene::new();
    scene.goal.proofs = proofs(&check(""));
    scene.store("v1", |_| {});
    scene.settle();
    scene.run("v1", 3, 3);
    scene.points_to(only("v1"));
    let plan = scene.settle();
    assert!(plan.measure.is_empty() && scene.status.stable.is_some(), "{}", scene.status.message);
}

#[test]
fn a_frozen_canary_gives_its_share_to_nobody() {
    let mut scene = Scene::stable();
    scene.goal.replicas = 1;
    scene.run("v1", 1, 1);
    scene.settle();
    scene.goal.strategy = StrategyKind::Canary;
    scene.goal.steps = vec![weight(10), wait(None)];
    scene.ask("v2");
    scene.store("v2", |_| {});
    scene.settle();
    scene.run("v2", 1, 1);
    scene.points_to(Selector::Wide);
    scene.settle();
    scene.goal.command = Some(format!("pause v2/{}/1", scene.status.attempt));
    let plan = scene.settle();
    assert!(sizes(&plan).is_empty(), "{:?}", plan.writes);
}

#[test]
fn a_rollback_after_a_failure_does_not_try_the_failed_release_again() {
    let mut scene = Scene::rolling();
    scene.store("v0", |revision| {
        revision.attempt = 1;
        revision.promotion = 1;
    });
    scene.status.previous = Some("v0".to_owned());
    scene.command("abort");
    scene.settle();
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::Aborted), "{}", scene.status.message);
    scene.command("rollback");
    let plan = scene.settle();
    let candidate = scene.status.candidate.as_ref().unwrap();
    assert_eq!((candidate.revision.as_str(), candidate.verdict.is_some()), ("v2", true));
    assert_eq!(scene.status.stable.as_deref(), Some("v0"));
    assert!(sizes(&plan).contains(&size("v0", 1)), "{:?}", plan.writes);
}

#[test]
fn what_receives_requests_is_not_cut_down_to_a_preview() {
    let mut scene = blue_green(vec![wait(None)]);
    scene.goal.preview_replicas = Some(1);
    scene.run("v1", 0, 0);
    stands(&mut scene, "v2", 3);
    switched(&mut scene, "v1", "v2", 3);
    let plan = scene.settle();
    assert!(!sizes(&plan).contains(&size("v2", 1)), "{:?}", plan.writes);
}

#[test]
fn a_candidate_that_dies_after_the_switch_gives_the_requests_back() {
    let mut scene = blue_green(vec![]);
    stands(&mut scene, "v2", 3);
    scene.settle();
    switched(&mut scene, "v1", "v2", 0);
    scene.world.deployments.get_mut("v2").unwrap().available = 0;
    assert_eq!(selects(&scene.settle()), Some(only("v1")));
}

#[test]
fn a_service_led_to_strangers_is_led_back_at_any_step() {
    let mut scene = blue_green(vec![]);
    scene.run("v2", 3, 0);
    scene.world.endpoints.clear();
    scene.points_to(only("v9"));
    assert_eq!(selects(&scene.settle()), Some(only("v1")));
}

#[test]
fn a_paused_app_is_kept_at_its_size() {
    let mut scene = blue_green(vec![wait(None)]);
    stands(&mut scene, "v2", 3);
    scene.goal.command = Some(format!("pause v2/{}/1", scene.status.attempt));
    scene.settle();
    scene.world.deployments.remove("v1");
    scene.world.endpoints.remove("v1");
    assert_eq!(sizes(&scene.settle()), [size("v1", 3)]);
}

#[test]
fn a_pause_holds_the_migration() {
    let mut scene = Scene::stable();
    scene.goal.command = Some("pause v1/1/1".to_owned());
    scene.settle();
    assert!(scene.status.message.contains("waits for resume"), "{}", scene.status.message);
    scene.ask("v2");
    scene.store("v2", |revision| revision.needs_migration = true);
    let plan = scene.settle();
    assert!(!plan.writes.iter().any(|write| matches!(write, Write::CreateJob { .. })), "{:?}", plan.writes);
    assert_eq!(scene.status.phase, Some(Phase::Paused), "{}", scene.status.message);
}

#[test]
fn an_autoscaler_skips_no_persons_gate() {
    let mut scene = rollout(StrategyKind::Canary, vec![weight(33), wait(None)]);
    scene.goal.surge = 0;
    scene.goal.unavailable = 1;
    scene.run("v2", 1, 1);
    scene.run("v1", 2, 2);
    scene.points_to(Selector::Wide);
    scene.settle();
    scene.goal.replicas = 1;
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::Paused), "{}", scene.status.message);
    assert_eq!(scene.condition("WeightsUnattainable"), Some("True"));
}

#[test]
fn the_very_first_recreate_has_no_steps() {
    let mut scene = Scene::new();
    scene.goal.strategy = StrategyKind::Recreate;
    scene.goal.steps =
        vec![CanaryStep { smoke_test: Some(SmokeTestStep::default()), ..CanaryStep::default() }];
    scene.store("v1", |_| {});
    scene.settle();
    assert!(scene.status.candidate.as_ref().unwrap().steps.is_empty());
}

#[test]
fn blue_green_moves_no_request_before_its_checks_have_passed() {
    let mut scene = blue_green(vec![]);
    scene.goal.proofs = proofs(&check(", during: [Rollout]"));
    stands(&mut scene, "v2", 3);
    let mut plan = scene.settle();
    for _ in 0..2 {
        assert_eq!(selects(&plan), None);
        answer(&mut scene, &plan, &Answer::Value("0.01".to_owned()));
        scene.later(10);
        plan = scene.settle();
    }
    assert_eq!(selects(&plan), Some(only("v2")));
}

/// A superseded canary serves in the place of broken stable pods, and both fill the ceiling.
#[test]
fn broken_stable_pods_make_room_for_the_canary_that_fixes_them() {
    let mut scene = rollout(StrategyKind::Canary, vec![weight(33), wait(None)]);
    scene.points_to(Selector::Wide);
    scene.run("v1", 2, 0);
    scene.run("v2", 2, 2);
    scene.ask("v3");
    scene.store("v3", |_| {});
    assert_eq!(sizes(&scene.settle()), [size("v1", 1)]);
    scene.run("v1", 1, 0);
    assert_eq!(sizes(&scene.settle()), [size("v3", 1)]);
    scene.run("v3", 1, 1);
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::Paused), "{}", scene.status.message);
}

#[test]
fn failures_of_a_step_are_not_forgotten_while_a_pod_is_away() {
    let step = CanaryStep { analysis: Some(AnalysisStep::default()), ..CanaryStep::default() };
    let mut scene = rollout(StrategyKind::Canary, vec![weight(33), step]);
    scene.goal.proofs = proofs(&check(", during: [], failureLimit: 1"));
    scene.run("v2", 1, 1);
    scene.run("v1", 2, 2);
    scene.points_to(Selector::Wide);
    let mut plan = scene.settle();
    while plan.measure.is_empty() {
        plan = scene.settle();
    }
    answer(&mut scene, &plan, &Answer::Value("1".to_owned()));
    scene.settle();
    scene.run("v2", 1, 0);
    scene.later(10);
    scene.settle();
    scene.run("v2", 1, 1);
    let plan = scene.settle();
    assert!(scene.status.candidate.as_ref().unwrap().verdict.is_none());
    answer(&mut scene, &plan, &Answer::Value("1".to_owned()));
    scene.settle();
    assert!(scene.status.candidate.as_ref().unwrap().verdict.is_some(), "{}", scene.status.message);
}

#[test]
fn a_pause_holds_the_very_first_rollout_after_its_migration() {
    let mut scene = Scene::new();
    scene.store("v1", |revision| revision.needs_migration = true);
    scene.points_to(only("v1"));
    scene.settle();
    scene.job("v1", JobState::Running);
    scene.goal.command = Some("pause v1/1/1".to_owned());
    scene.settle();
    scene.job("v1", JobState::Succeeded);
    scene.settle();
    scene.world.jobs.clear();
    assert_eq!(sizes(&scene.settle()), []);
    assert_eq!(scene.status.phase, Some(Phase::Paused), "{}", scene.status.message);
    scene.goal.command = Some("resume v1/1/2".to_owned());
    assert_eq!(sizes(&scene.settle()), [size("v1", 3)]);
}

/// With a volume that only one may mount, what serves goes before the migration, but not for nothing.
#[test]
fn what_serves_stays_while_the_migration_waits_for_something_else() {
    let mut scene = Scene::stable();
    scene.goal.strategy = StrategyKind::Recreate;
    scene.goal.stop_before_migration = true;
    scene.goal.command = Some("pause v1/1/1".to_owned());
    scene.settle();
    scene.ask("v2");
    scene.store("v2", |revision| revision.needs_migration = true);
    assert_eq!(sizes(&scene.settle()), []);
    assert_eq!(scene.status.phase, Some(Phase::Paused), "{}", scene.status.message);
    scene.goal.command = Some("resume v2/2/2".to_owned());
    scene.world.migration_pods = vec![MigrationPod { name: "another".to_owned(), node: None }];
    assert_eq!(sizes(&scene.settle()), []);
    scene.world.migration_pods.clear();
    assert_eq!(sizes(&scene.settle()), [size("v1", 0)]);
}

#[test]
fn the_clock_starts_anew_with_each_step() {
    let steps = vec![weight(33), wait(None), weight(66)];
    let mut scene = rollout(StrategyKind::Canary, steps);
    scene.run("v2", 1, 1);
    scene.run("v1", 2, 2);
    scene.points_to(Selector::Wide);
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::Paused), "{}", scene.status.message);
    let known = Progress { available: 9, elapsed_seconds: 599, since: None };
    scene.status.candidate.as_mut().unwrap().progress = Some(known);
    scene.goal.command = Some("promote v2/2/1".to_owned());
    scene.settle();
    let progress = scene.status.candidate.as_ref().unwrap().progress.clone();
    assert!(progress.is_none_or(|progress| progress.elapsed_seconds == 0 && progress.available < 9));
}
