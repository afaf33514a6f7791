//! The rules of the design that were settled by counterexamples, each with a test of its name.

use super::scene::{DEADLINE, Scene, failed, sizes};
use crate::api::{CommandAnswer, MigrationState, Outcome, Phase, StrategyKind};
use crate::plan::{
    Fault, JobState, MigrationPod, Plan, SECRET_REGENERATED, SecretPosted, Selector, Write, events,
};

fn size(revision: &str, replicas: u32) -> (String, u32) {
    (revision.to_owned(), replicas)
}

#[test]
fn rule_01_available_is_the_least_of_what_is_seen_and_what_was_written() {
    let mut scene = Scene::rolling();
    scene.points_to(Selector::Wide);
    scene.run("v2", 1, 1);
    // One more pod than wanted serves, so one of v1 may go.
    assert_eq!(sizes(&scene.settle()), [size("v1", 2)]);
    // It was asked to go; the EndpointSlices do not show it yet.
    scene.run("v1", 2, 2);
    scene.world.endpoints.insert("v1".to_owned(), 3);
    assert_eq!(sizes(&scene.settle()), [size("v2", 2)]);
    // No second lowering before the Deployment controller has seen the first.
    scene.run("v2", 2, 2);
    scene.world.deployments.get_mut("v1").unwrap().observed = false;
    assert!(sizes(&scene.settle()).is_empty());
}

#[test]
fn rule_02_what_takes_away_carries_the_version_it_was_planned_from() {
    let mut scene = Scene::rolling();
    scene.points_to(Selector::Wide);
    scene.run("v2", 1, 1);
    let plan = scene.settle();
    assert!(matches!(&plan.writes[..], [Write::ApplyDeployment { version, .. }] if version == "7"));
}

#[test]
fn rule_03_an_attempt_is_never_reused_and_promotions_rise() {
    let mut scene = Scene::rolling();
    assert_eq!(scene.status.attempt, 2);
    scene.command("abort");
    scene.settle();
    scene.command("retry");
    scene.settle();
    assert_eq!(scene.status.attempt, 3);
    scene.goal.command = None;
    scene.ask("v1");
    scene.settle();
    scene.ask("v2");
    scene.settle();
    assert_eq!(scene.status.attempt, 4);
    scene.run("v1", 0, 0);
    scene.run("v2", 3, 3);
    scene.points_to(Selector::Only("v2".to_owned()));
    let plan = scene.pass();
    assert_eq!((scene.status.stable.as_deref(), scene.status.promotion), (Some("v2"), 2));
    let recorded = |write: &Write| {
        matches!(write, Write::Annotate { revision, facts, .. }
            if revision == "v2" && facts.promotion == Some(2) && facts.outcome == Some(Outcome::Promoted))
    };
    assert!(plan.writes.iter().any(recorded), "{:?}", plan.writes);
}

#[test]
fn rule_04_going_back_to_stable_clears_a_failure() {
    let mut scene = Scene::rolling();
    scene.command("abort");
    scene.settle();
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::Aborted));
    scene.ask("v1");
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::Healthy), "{}", scene.status.message);
    assert_eq!(scene.condition("Stalled"), None);
}

#[test]
fn rule_04_the_strategy_is_frozen_for_an_attempt_and_replicas_are_no_revision() {
    let mut scene = Scene::rolling();
    scene.goal.strategy = StrategyKind::Recreate;
    scene.goal.replicas = 5;
    let plan = scene.settle();
    assert_eq!(scene.status.candidate.as_ref().unwrap().strategy, StrategyKind::Rolling);
    assert_eq!(scene.status.attempt, 2);
    // Growth in mid-rollout goes to the stable revision.
    assert_eq!(sizes(&plan), [size("v1", 5), size("v2", 1)]);
}

#[test]
fn rule_04_growth_goes_to_the_candidate_when_stable_is_unavailable() {
    let mut scene = Scene::rolling();
    scene.points_to(Selector::Wide);
    scene.run("v1", 2, 0);
    scene.run("v2", 1, 1);
    scene.goal.replicas = 5;
    assert_eq!(sizes(&scene.settle()), [size("v2", 3)]);
}

#[test]
fn rule_05_flapping_readiness_does_not_reset_the_clock() {
    let mut scene = Scene::rolling();
    scene.points_to(Selector::Wide);
    scene.run("v2", 1, 1);
    scene.settle();
    for _ in 0..5 {
        for ready in [0, 1] {
            scene.later(100);
            scene.run("v2", 1, ready);
            scene.pass();
        }
    }
    let verdict = scene.status.candidate.unwrap().verdict.expect("ten flaps in 1000 s are no progress");
    assert_eq!(verdict.reason, "ProgressDeadlineExceeded");
}

#[test]
fn rule_05_one_more_available_pod_starts_the_clock_anew() {
    let mut scene = Scene::rolling();
    scene.points_to(Selector::Wide);
    scene.run("v2", 1, 0);
    scene.settle();
    scene.later(DEADLINE - 1);
    scene.run("v2", 1, 1);
    scene.pass();
    scene.later(DEADLINE - 1);
    scene.pass();
    assert!(scene.status.candidate.as_ref().unwrap().verdict.is_none());
    scene.later(1);
    scene.pass();
    assert!(scene.status.candidate.unwrap().verdict.is_some());
}

#[test]
fn rule_05_the_clock_stands_still_under_suspend_zero_replicas_and_an_absent_operator() {
    let waiting = |change: &dyn Fn(&mut Scene), undo: &dyn Fn(&mut Scene)| {
        let mut scene = Scene::rolling();
        scene.points_to(Selector::Wide);
        scene.run("v2", 1, 0);
        scene.settle();
        scene.later(DEADLINE / 2);
        change(&mut scene);
        scene.pass();
        scene.later(10 * DEADLINE);
        undo(&mut scene);
        scene.pass();
        assert!(scene.status.candidate.as_ref().unwrap().verdict.is_none(), "{}", scene.status.message);
        scene.later(DEADLINE);
        scene.pass();
        assert!(scene.status.candidate.unwrap().verdict.is_some());
    };
    waiting(&|scene| scene.goal.suspend = true, &|scene| scene.goal.suspend = false);
    waiting(&|scene| scene.goal.replicas = 0, &|scene| scene.goal.replicas = 3);
    waiting(&|_| {}, &|scene| scene.world.observing_since = Some(scene.now));
}

#[test]
fn rule_05_passed_is_judged_before_failed() {
    let mut scene = Scene::rolling();
    scene.run("v2", 3, 2);
    scene.run("v1", 0, 0);
    scene.settle();
    scene.later(2 * DEADLINE);
    scene.run("v2", 3, 3);
    scene.points_to(Selector::Wide);
    scene.pass();
    scene.later(2 * DEADLINE);
    scene.pass();
    assert_eq!(
        scene.status.candidate.as_ref().unwrap().verdict,
        None,
        "only the Service is still to be narrowed"
    );
    scene.points_to(Selector::Only("v2".to_owned()));
    scene.pass();
    assert_eq!(scene.status.stable.as_deref(), Some("v2"));
}

#[test]
fn rule_06_the_selector_is_wide_while_a_superseded_candidate_serves() {
    let mut scene = Scene::rolling();
    scene.points_to(Selector::Wide);
    scene.run("v1", 2, 2);
    scene.run("v2", 2, 2);
    scene.ask("v3");
    scene.store("v3", |_| {});
    let plan = scene.settle();
    assert!(!plan.writes.iter().any(|write| matches!(write, Write::ApplyService { .. })));
    // v2 serves, so it is replaced as an old pod, before v1.
    assert_eq!(sizes(&plan).last(), Some(&size("v2", 1)));
}

#[test]
fn rule_06_unavailable_pods_of_a_superseded_candidate_go_at_once() {
    let mut scene = Scene::rolling();
    scene.points_to(Selector::Wide);
    scene.run("v1", 3, 3);
    scene.run("v2", 1, 0);
    scene.ask("v3");
    scene.store("v3", |_| {});
    assert_eq!(sizes(&scene.settle()), [size("v2", 0)]);
}

#[test]
fn rule_06_without_stable_what_does_not_serve_is_replaced_at_once() {
    let mut scene = Scene::new();
    scene.store("v1", |_| {});
    scene.settle();
    scene.run("v1", 3, 0);
    scene.points_to(Selector::Only("v1".to_owned()));
    scene.ask("v2");
    scene.store("v2", |_| {});
    let plan = scene.settle();
    assert!(sizes(&plan).contains(&size("v1", 0)), "{:?}", plan.writes);
}

#[test]
fn rule_07_when_stable_cannot_serve_what_serves_stays_and_a_new_spec_goes_ahead() {
    let mut scene = Scene::rolling();
    scene.points_to(Selector::Wide);
    scene.run("v1", 2, 0);
    scene.run("v2", 2, 2);
    scene.settle();
    scene.later(DEADLINE);
    scene.pass();
    assert!(scene.status.candidate.as_ref().unwrap().verdict.is_some());
    assert!(!sizes(&scene.settle()).contains(&size("v2", 0)), "v2 is all that serves");
    scene.later(DEADLINE);
    scene.pass();
    assert_eq!(scene.condition("Stalled"), Some("True"), "{}", scene.status.message);
    assert_eq!(scene.condition("Available"), Some("True"));
    scene.ask("v3");
    scene.store("v3", |_| {});
    scene.settle();
    assert_eq!(scene.status.candidate.as_ref().unwrap().revision, "v3");
    assert_eq!(scene.condition("Stalled"), None);
}

#[test]
fn rule_10_a_failed_migration_is_recorded_after_its_pod_is_gone() {
    let mut scene = Scene::stable();
    scene.ask("v2");
    scene.store("v2", |revision| revision.needs_migration = true);
    assert!(matches!(scene.settle().writes[..], [Write::CreateJob { .. }]));
    scene.job("v2", failed());
    let plan = scene.settle();
    assert!(matches!(plan.writes[..], [Write::DeleteJob { .. }]), "{:?}", plan.writes);
    assert!(scene.status.candidate.as_ref().unwrap().verdict.is_none());
    // What is known of the failure is kept before the Job goes.
    assert_eq!(scene.status.migration.as_ref().unwrap().exit_code, Some(1));
    scene.world.jobs.clear();
    let pod = MigrationPod { name: "shop-migrate-x".to_owned(), node: Some("node-2".to_owned()) };
    scene.world.migration_pods.push(pod);
    scene.settle();
    assert!(scene.status.message.contains("node-2"), "{}", scene.status.message);
    assert!(scene.status.candidate.as_ref().unwrap().verdict.is_none());
    scene.world.migration_pods.clear();
    scene.settle();
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::Failed), "{}", scene.status.message);
    assert_eq!(scene.condition("Migrated"), Some("False"));
    assert!(sizes(&scene.settle()).is_empty(), "v1 is untouched");
}

#[test]
fn rule_10_no_migration_starts_while_another_migration_pod_lives() {
    let mut scene = Scene::stable();
    scene.ask("v2");
    scene.store("v2", |revision| revision.needs_migration = true);
    scene.world.migration_pods.push(MigrationPod { name: "by-hand".to_owned(), node: None });
    let plan = scene.settle();
    assert!(!plan.writes.iter().any(|write| matches!(write, Write::CreateJob { .. })));
    assert!(scene.status.message.contains("by-hand"));
}

#[test]
fn rule_11_the_candidate_stays_until_its_migration_ends() {
    let mut scene = Scene::stable();
    scene.ask("v2");
    scene.store("v2", |revision| revision.needs_migration = true);
    scene.settle();
    scene.job("v2", JobState::Running);
    scene.ask("v3");
    scene.store("v3", |_| {});
    let plan = scene.settle();
    assert_eq!(scene.status.candidate.as_ref().unwrap().revision, "v2");
    assert!(plan.writes.is_empty(), "{:?}", plan.writes);
    assert!(scene.status.message.contains("v3 waits"), "{}", scene.status.message);
    scene.job("v2", JobState::Succeeded);
    scene.settle();
    assert!(scene.world.revisions["v2"].migrated, "its success is recorded");
    scene.world.jobs.clear();
    scene.settle();
    assert_eq!(scene.status.candidate.as_ref().unwrap().revision, "v3");
}

#[test]
fn rule_11_abort_ends_the_migration() {
    let mut scene = Scene::stable();
    scene.ask("v2");
    scene.store("v2", |revision| revision.needs_migration = true);
    scene.settle();
    scene.job("v2", JobState::Running);
    scene.command("abort");
    let plan = scene.settle();
    assert!(matches!(plan.writes[..], [Write::DeleteJob { .. }]), "{:?}", plan.writes);
    assert_eq!(scene.status.phase, Some(Phase::RollingBack));
    scene.world.jobs.clear();
    scene.settle();
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::Aborted));
}

#[test]
fn rule_11_abort_between_a_failed_migration_and_its_record_frees_the_next_spec() {
    let mut scene = Scene::stable();
    scene.ask("v2");
    scene.store("v2", |revision| revision.needs_migration = true);
    scene.settle();
    scene.job("v2", failed());
    scene.settle();
    assert_eq!(scene.status.migration.as_ref().unwrap().state, MigrationState::Ending);
    scene.ask("v3");
    scene.command("abort");
    scene.settle();
    scene.world.jobs.clear();
    scene.settle();
    scene.settle();
    assert_eq!(scene.status.candidate.as_ref().unwrap().revision, "v3");
}

#[test]
fn rule_11_without_stable_a_migration_is_tried_again_in_the_same_attempt() {
    let mut scene = Scene::new();
    scene.store("v1", |revision| revision.needs_migration = true);
    scene.points_to(Selector::Only("v1".to_owned()));
    scene.settle();
    scene.job("v1", failed());
    scene.settle();
    scene.world.jobs.clear();
    let plan = scene.settle();
    let migration = scene.status.migration.clone().unwrap();
    assert_eq!((migration.state, migration.retries), (MigrationState::WaitingToRetry, 1));
    assert_eq!(plan.wake, migration.retry_at.map(|at| at.0));
    assert_eq!((scene.status.phase, scene.status.attempt), (Some(Phase::Migrating), 1));
    scene.later(10);
    assert!(matches!(scene.settle().writes[..], [Write::CreateJob { attempt: 1, .. }]));
}

#[test]
fn rule_12_pruning_comes_last_and_spares_what_is_named() {
    let mut scene = Scene::stable();
    scene.goal.rollback_window = 1;
    scene.goal.history_limit = 2;
    for (attempt, name) in ["o1", "o2", "o3", "o4"].iter().enumerate() {
        scene.store(name, |revision| revision.attempt = i64::try_from(attempt).unwrap() - 10);
        scene.run(name, 0, 0);
    }
    let mut deleted = Vec::new();
    loop {
        let plan = scene.settle();
        match &plan.writes[..] {
            [Write::DeleteDeployment { revision, .. }] => {
                deleted.push(format!("deployment {revision}"));
                scene.world.deployments.remove(revision);
                scene.world.pods.remove(revision);
                scene.world.endpoints.remove(revision);
            }
            [Write::DeleteRevision { revision, .. }] => {
                deleted.push(format!("revision {revision}"));
                scene.world.revisions.remove(revision);
            }
            [] => break,
            other => panic!("{other:?}"),
        }
    }
    let expected = ["deployment o1", "deployment o2", "deployment o3", "revision o1", "revision o2"];
    assert_eq!(deleted, expected);
}

#[test]
fn rule_12_a_terminating_deployment_of_the_same_name_is_waited_out() {
    let mut scene = Scene::stable();
    scene.world.deployments.get_mut("v1").unwrap().terminating = true;
    let plan = scene.settle();
    assert!(sizes(&plan).is_empty());
    assert_eq!(scene.condition("Ready"), Some("False"));
}

#[test]
fn rule_12_a_revision_deleted_by_hand_is_rebuilt_from_its_deployment() {
    let mut scene = Scene::stable();
    scene.world.revisions.clear();
    let rebuild = |contracted| Write::RebuildRevision { revision: "v1".to_owned(), contracted };
    assert_eq!(scene.settle().writes, [rebuild(false)]);
    scene.status.rollback_safe = Some(false);
    assert_eq!(scene.settle().writes, [rebuild(true)]);
    assert_eq!(scene.status.rollback_safe, Some(false), "what is lost makes nothing safe");
}

/// Whatever they are to the rollout; a new one is stored after them.
#[test]
fn rule_12_revisions_deleted_in_mid_rollout_are_rebuilt() {
    let rebuild = |name: &str| Write::RebuildRevision { revision: name.to_owned(), contracted: false };
    let mut scene = Scene::stable();
    scene.ask("v2");
    scene.world.revisions.clear();
    assert_eq!(scene.settle().writes, [rebuild("v1")], "it comes before v2 is stored");
    scene.store("v1", |_| {});
    scene.store("v2", |_| {});
    scene.settle();
    scene.run("v2", 1, 1);
    scene.world.revisions.clear();
    assert_eq!(scene.settle().writes, [rebuild("v1"), rebuild("v2")]);
    let before = scene.status.clone();
    scene.store("v2", |_| {});
    assert_eq!(scene.settle().writes, [rebuild("v1")], "not only the candidate");
    assert_eq!(scene.status, before, "nothing else has changed");
    scene.world.fault = Some(Fault { reason: "Refused".to_owned(), message: "no".to_owned() });
    assert!(scene.settle().writes.is_empty(), "nor is anything else held up");
    assert_eq!(scene.status.phase, Some(Phase::Blocked));
}

#[test]
fn rule_13_faults_before_and_after_the_deadline() {
    let mut scene = Scene::new();
    scene.store("v1", |_| {});
    scene.settle();
    scene.run("v1", 3, 0);
    scene.points_to(Selector::Only("v1".to_owned()));
    scene.world.pods.get_mut("v1").unwrap().worst = Some("ImagePullBackOff: no such image".to_owned());
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::RollingOut));
    assert!(scene.status.message.contains("ImagePullBackOff"), "{}", scene.status.message);
    scene.later(DEADLINE);
    scene.settle();
    assert_eq!((scene.status.phase, scene.condition("Stalled")), (Some(Phase::Blocked), Some("True")));
    scene.run("v1", 3, 3);
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::Healthy), "it heals by itself");
}

#[test]
fn rule_13_serving_below_size_is_degraded_and_not_stalled() {
    let mut scene = Scene::stable();
    scene.run("v1", 3, 2);
    scene.settle();
    assert_eq!((scene.status.phase, scene.condition("Stalled")), (Some(Phase::Degraded), None));
    assert_eq!((scene.condition("Ready"), scene.condition("Available")), (Some("False"), Some("True")));
}

#[test]
fn rule_14_zero_replicas() {
    let mut scene = Scene::stable();
    scene.goal.replicas = 0;
    assert_eq!(sizes(&scene.settle()), [size("v1", 0)]);
    scene.run("v1", 0, 0);
    scene.settle();
    assert_eq!((scene.condition("Ready"), scene.condition("Available")), (Some("True"), Some("False")));
    scene.ask("v2");
    scene.store("v2", |revision| revision.needs_migration = true);
    let plan = scene.settle();
    assert!(plan.writes.is_empty(), "the migration waits: {:?}", plan.writes);
    assert_eq!((scene.condition("Ready"), scene.condition("Reconciling")), (Some("False"), Some("True")));
    scene.goal.replicas = 3;
    let plan = scene.settle();
    assert!(
        matches!(
            plan.writes[..],
            [Write::ApplyDeployment { replicas: 3, .. }, Write::CreateJob { .. }]
                | [Write::CreateJob { .. }, Write::ApplyDeployment { replicas: 3, .. }]
        ),
        "{:?}",
        plan.writes
    );
}

#[test]
fn suspend_writes_nothing_and_is_unknown() {
    let mut scene = Scene::rolling();
    scene.goal.suspend = true;
    let plan = scene.pass();
    assert!(plan.writes.is_empty());
    assert_eq!((scene.status.phase, scene.condition("Ready")), (Some(Phase::Suspended), Some("Unknown")));
    assert_eq!((scene.condition("Reconciling"), scene.condition("Stalled")), (None, None));
}

#[test]
fn a_deleted_app_is_left_alone() {
    let mut scene = Scene::rolling();
    scene.goal.deleting = true;
    let before = scene.status.clone();
    let plan = scene.pass();
    assert_eq!((plan.writes.len(), plan.status), (0, before));
}

#[test]
fn a_stale_command_is_answered_and_changes_nothing() {
    let mut scene = Scene::rolling();
    scene.goal.command = Some("abort v2/1".to_owned());
    scene.settle();
    assert_eq!(scene.status.last_command.as_ref().unwrap().answer, CommandAnswer::Ignored);
    assert!(scene.status.candidate.as_ref().unwrap().verdict.is_none());
    let before = scene.status.clone();
    scene.settle();
    assert_eq!(scene.status, before, "answered once");
}

#[test]
fn a_conflict_blocks_and_names_the_cure() {
    let mut scene = Scene::stable();
    let message = "Service default/shop exists and is not ours: rename it or the app".to_owned();
    scene.world.fault = Some(Fault { reason: "NameConflict".to_owned(), message: message.clone() });
    let plan = scene.pass();
    assert!(plan.writes.is_empty());
    assert_eq!((scene.status.phase, scene.condition("NameConflict")), (Some(Phase::Blocked), Some("True")));
    assert_eq!(scene.status.message, message);
    scene.world.fault = None;
    scene.settle();
    assert_eq!((scene.status.phase, scene.condition("NameConflict")), (Some(Phase::Healthy), None));
}

#[test]
fn a_migration_recorded_under_the_same_key_runs_no_second_time() {
    let mut scene = Scene::stable();
    scene.store("v1", |revision| {
        revision.needs_migration = true;
        revision.migrated = true;
        revision.migration_key = Some("same".to_owned());
    });
    scene.ask("v2");
    scene.store("v2", |revision| {
        revision.needs_migration = true;
        revision.migration_key = Some("same".to_owned());
    });
    let plan = scene.settle();
    assert!(scene.world.revisions["v2"].migrated);
    assert_eq!(sizes(&plan), [size("v2", 1)]);
}

#[test]
fn recreate_waits_for_a_lost_node_and_says_so() {
    let mut scene = Scene::rolling();
    scene.status.candidate.as_mut().unwrap().strategy = StrategyKind::Recreate;
    scene.run("v1", 0, 0);
    let pods = scene.world.pods.get_mut("v1").unwrap();
    pods.total = 1;
    pods.lost_nodes.insert("node-1".to_owned());
    assert!(sizes(&scene.settle()).is_empty());
    assert!(scene.status.message.contains("node-1"), "{}", scene.status.message);
}

#[test]
fn a_secret_made_anew_is_told_of_until_no_pod_holds_the_old_one() {
    let mut scene = Scene::stable();
    scene.ask("v2");
    scene.store("v2", |_| {});
    scene.world.secret_holders = vec!["shop-1".to_owned(), "shop-2".to_owned()];
    let before = scene.status.clone();
    scene.world.secret_posted = Some(SecretPosted { revision: "v2".to_owned(), created: true });
    scene.pass();
    scene.world.secret_posted = None;
    assert_eq!(scene.condition(SECRET_REGENERATED), Some("True"));
    let told = events(&before, &scene.status);
    let told = told.iter().find(|event| event.reason == SECRET_REGENERATED).unwrap();
    assert!(told.note.ends_with("restart the pods that hold the old ones: shop-1, shop-2"), "{}", told.note);
    scene.world.secret_holders.remove(0);
    scene.settle();
    assert_eq!(scene.condition(SECRET_REGENERATED), Some("True"));
    scene.world.secret_holders.clear();
    scene.settle();
    assert_eq!(scene.condition(SECRET_REGENERATED), None);
}

#[test]
fn rule_11_a_superseded_candidate_gets_no_pods_once_its_migration_is_recorded() {
    for strategy in [StrategyKind::Rolling, StrategyKind::Recreate] {
        let mut scene = Scene::stable();
        scene.goal.strategy = strategy;
        scene.ask("v2");
        scene.store("v2", |revision| revision.needs_migration = true);
        scene.settle();
        scene.job("v2", JobState::Running);
        scene.ask("v3");
        scene.store("v3", |_| {});
        scene.settle();
        scene.job("v2", JobState::Succeeded);
        let plan = scene.settle();
        assert_eq!(sizes(&plan), [], "{strategy:?}");
        assert!(
            plan.writes.iter().any(|write| matches!(write, Write::DeleteJob { .. })),
            "{:?}",
            plan.writes
        );
    }
}

#[test]
fn a_pod_that_misses_the_secret_gets_it_and_moves_nothing_else() {
    let mut scene = Scene::stable();
    let before = scene.status.clone();
    scene.world.secret_missing = true;
    assert_eq!(scene.pass().writes, [Write::PostSecret { revision: "v1".to_owned() }]);
    assert_eq!(scene.status, before, "no write of the status comes of it");
    scene.world.secret_posted = Some(SecretPosted { revision: "v1".to_owned(), created: false });
    assert_eq!(scene.pass().writes, []);
    assert_eq!(scene.status, before);
}

#[test]
fn a_missing_secret_is_posted_again_after_a_failed_rollout_too() {
    let mut scene = Scene::rolling();
    scene.command("abort");
    scene.settle();
    scene.settle();
    scene.run("v1", 3, 0);
    scene.world.secret_missing = true;
    scene.world.secret_posted = None;
    let plan = scene.pass();
    assert!(plan.writes.contains(&Write::PostSecret { revision: "v1".to_owned() }), "{:?}", plan.writes);
    assert!(scene.status.message.contains("0 of 3 pods of revision v1 serve"), "{}", scene.status.message);
}

#[test]
fn rule_13_without_stable_a_late_migration_stays_blocked_while_it_is_tried_again() {
    let mut scene = Scene::new();
    scene.store("v1", |revision| revision.needs_migration = true);
    scene.points_to(Selector::Only("v1".to_owned()));
    scene.settle();
    scene.job("v1", failed());
    scene.settle();
    scene.world.jobs.clear();
    scene.settle();
    scene.later(DEADLINE);
    let plan = scene.settle();
    assert!(matches!(plan.writes[..], [Write::CreateJob { .. }]), "{:?}", plan.writes);
    assert_eq!((scene.status.phase, scene.condition("Stalled")), (Some(Phase::Blocked), Some("True")));
}

#[test]
fn a_restart_and_a_smaller_size_are_not_degraded() {
    let mut scene = Scene::stable();
    scene.world.deployments.get_mut("v1").unwrap().observed = false;
    scene.pass();
    assert_eq!(scene.status.phase, Some(Phase::Healthy), "{}", scene.status.message);
    scene.run("v1", 3, 3);
    scene.goal.replicas = 2;
    scene.pass();
    assert_eq!(scene.status.message, "revision v1 goes from 3 to 2 pods");
}

#[test]
fn rule_11_a_migration_that_cannot_start_makes_way_for_the_spec_that_corrects_it() {
    for mut scene in [Scene::new(), Scene::stable()] {
        scene.ask("v2");
        scene.store("v2", |revision| revision.needs_migration = true);
        scene.settle();
        scene.job("v2", JobState::Running);
        let job = scene.world.jobs.first_mut().unwrap();
        job.started = false;
        let deletes = |plan: &Plan| plan.writes.iter().any(|write| matches!(write, Write::DeleteJob { .. }));
        scene.ask("v3");
        scene.store("v3", |_| {});
        assert!(!deletes(&scene.settle()), "it may start yet");
        scene.world.jobs.first_mut().unwrap().waiting = Some("pod a cannot pull image b".to_owned());
        scene.ask("v2");
        assert!(!deletes(&scene.settle()), "it is wanted");
        scene.ask("v3");
        assert!(deletes(&scene.settle()));
        scene.world.jobs.clear();
        scene.settle();
        scene.settle();
        assert_eq!(scene.status.candidate.as_ref().unwrap().revision, "v3");
        assert_eq!(scene.status.history.last().unwrap().reason, "NewerSpec", "{:?}", scene.status.history);
    }
}
