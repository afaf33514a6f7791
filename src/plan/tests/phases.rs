//! Migrations in phases, situation by situation: what comes before, the contract after, and the way back.

use std::time::Duration;

use super::scene::{Scene, failed};
use crate::api::{
    CommandAnswer, EffectiveStatus, FollowUpKind, FollowUpState, OnFailure, Outcome, Phase, Stage,
    StrategyKind,
};
use crate::plan::{EventKind, JobState, MigrationPod, Plan, Write, events};

/// Jobs that a plan makes.
fn made(plan: &Plan) -> Vec<(&str, Stage)> {
    plan.writes
        .iter()
        .filter_map(|write| match write {
            Write::CreateJob { revision, stage, .. } => Some((revision.as_str(), *stage)),
            _ => None,
        })
        .collect()
}

fn deletes_a_job(plan: &Plan) -> bool {
    plan.writes.iter().any(|write| matches!(write, Write::DeleteJob { .. }))
}

fn stage_job(scene: &mut Scene, revision: &str, which: Stage, state: JobState) {
    scene.job(revision, state);
    scene.world.jobs[0].stage = which;
}

fn follow_up(scene: &Scene) -> Option<(FollowUpKind, FollowUpState)> {
    scene.status.follow_up.as_ref().map(|follow_up| (follow_up.kind, follow_up.state))
}

fn command(scene: &mut Scene, verb: &str, rest: &str) {
    let (target, attempt) = match &scene.status.candidate {
        Some(candidate) => (candidate.revision.clone(), candidate.attempt),
        None => (scene.status.stable.clone().unwrap(), scene.status.attempt),
    };
    scene.goal.command = Some(format!("{verb} {target}/{attempt} {rest}").trim_end().to_owned());
}

fn answer(scene: &Scene) -> (CommandAnswer, String) {
    let last = scene.status.last_command.as_ref().unwrap();
    (last.answer, last.message.clone())
}

/// `v2` is asked for; a backup and an extension come before its migration.
fn two_before() -> Scene {
    let mut scene = Scene::rolling();
    scene.store("v2", |revision| {
        revision.needs_migration = true;
        revision.before = vec!["backup".to_owned(), "extension".to_owned()];
    });
    scene
}

#[test]
fn an_app_without_a_migration_is_never_migrating() {
    for (mode, begins) in
        [("Job", Phase::Migrating), ("Entrypoint", Phase::RollingOut), ("Disabled", Phase::RollingOut)]
    {
        let mut scene = Scene::new();
        let (migrations_mode, isolation) = (mode.to_owned(), "Shared".to_owned());
        scene.status.effective = Some(EffectiveStatus { migrations_mode, isolation, run_as_user: None });
        scene.settle();
        assert_eq!(scene.status.phase, Some(begins), "{mode}: not stored yet");
        scene.store("v1", |revision| revision.needs_migration = mode == "Job");
        scene.settle();
        assert_eq!(scene.status.phase, Some(begins), "{mode}: stored");
    }
}

#[test]
fn jobs_before_the_migration_run_in_order_and_one_at_a_time() {
    let mut scene = two_before();
    for stage in [Stage::Before(0), Stage::Before(1), Stage::Migrate] {
        let plan = scene.settle();
        assert_eq!(made(&plan), [("v2", stage)]);
        assert!(!plan.writes.iter().any(|write| matches!(write, Write::CreateDeployment { .. })));
        stage_job(&mut scene, "v2", stage, JobState::Running);
        let plan = scene.settle();
        assert!(made(&plan).is_empty() && !deletes_a_job(&plan), "{:?}", plan.writes);
        if stage == Stage::Before(0) {
            assert!(scene.status.message.contains("backup (1 of 2)"), "{}", scene.status.message);
        }
        scene.world.jobs[0].state = JobState::Succeeded;
        // Recorded first, then removed; the next waits until it and its pod are gone.
        let plan = scene.settle();
        assert!(deletes_a_job(&plan) && made(&plan).is_empty(), "{:?}", plan.writes);
        scene.world.jobs[0].terminating = true;
        assert!(made(&scene.settle()).is_empty());
        scene.world.jobs.clear();
        scene.world.migration_pods = vec![MigrationPod { name: "pod".to_owned(), node: None }];
        if stage != Stage::Migrate {
            assert!(made(&scene.settle()).is_empty());
        }
        scene.world.migration_pods.clear();
    }
    assert!(scene.world.revisions["v2"].migrated);
    let plan = scene.settle();
    assert!(
        plan.writes.iter().any(|write| matches!(write, Write::CreateDeployment { .. })),
        "{:?}",
        plan.writes
    );
}

#[test]
fn a_job_before_that_fails_ends_the_attempt_and_another_attempt_begins_with_the_first() {
    let mut scene = two_before();
    scene.store("v2", |revision| revision.before_done = (2, 1));
    assert_eq!(made(&scene.settle()), [("v2", Stage::Before(1))]);
    stage_job(&mut scene, "v2", Stage::Before(1), failed());
    assert!(deletes_a_job(&scene.settle()));
    scene.world.jobs.clear();
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::Failed), "{}", scene.status.message);
    assert!(scene.status.message.contains("the Job before the migration, "), "{}", scene.status.message);
    scene.command("retry");
    assert_eq!(made(&scene.settle()), [("v2", Stage::Before(0))]);
}

#[test]
fn a_newer_spec_waits_for_a_job_before_the_migration() {
    let mut scene = two_before();
    scene.settle();
    stage_job(&mut scene, "v2", Stage::Before(0), JobState::Running);
    scene.settle();
    scene.ask("v3");
    let plan = scene.settle();
    assert!(!deletes_a_job(&plan));
    assert_eq!(scene.status.candidate.as_ref().unwrap().revision, "v2");
}

#[test]
fn a_migration_that_a_twin_has_done_needs_nothing_before_it() {
    let mut scene = two_before();
    for name in ["v1", "v2"] {
        scene.store(name, |revision| revision.migration_key = Some("key".to_owned()));
    }
    scene.store("v1", |revision| revision.migrated = true);
    assert!(made(&scene.settle()).is_empty());
    assert!(scene.world.revisions["v2"].migrated);
}

/// `v2` has been promoted and has a contract and a way back; `v1` may still have `left` pods.
fn promoted(left: u32) -> Scene {
    let mut scene = Scene::stable();
    scene.store("v1", |revision| {
        revision.number = 1;
        revision.needs_migration = true;
        revision.migrated = true;
        revision.migration_key = Some("one".to_owned());
    });
    scene.ask("v2");
    scene.store("v2", |revision| {
        *revision = crate::plan::RevisionObs {
            number: 2,
            migrated: true,
            needs_migration: true,
            migration_key: Some("two".to_owned()),
            has_contract: true,
            contract_key: Some("contract".to_owned()),
            has_rollback: true,
            attempt: 2,
            promotion: 2,
            outcome: Some(Outcome::Promoted),
            ..revision.clone()
        };
    });
    scene.run("v1", 0, 0);
    scene.world.pods.get_mut("v1").unwrap().total = left;
    scene.run("v2", 3, 3);
    scene.points_to(crate::plan::Selector::Only("v2".to_owned()));
    scene.status.stable = Some("v2".to_owned());
    scene.status.previous = Some("v1".to_owned());
    scene.status.secrets_for = Some("v2".to_owned());
    scene.status.promotion = 2;
    scene.status.attempt = 2;
    scene
}

/// The contract of `v2` is done.
fn contracted() -> Scene {
    let mut scene = promoted(0);
    scene.store("v2", |revision| revision.contracted = true);
    scene.settle();
    scene
}

#[test]
fn a_contract_waits_until_the_last_older_pod_is_gone_and_is_recorded_before_its_job_goes() {
    let mut scene = promoted(1);
    assert!(made(&scene.settle()).is_empty());
    assert_eq!(follow_up(&scene), Some((FollowUpKind::Contract, FollowUpState::Pending)));
    assert_eq!(scene.condition("Contracted"), Some("False"));
    assert_eq!(scene.status.rollback_safe, None);
    scene.world.pods.get_mut("v1").unwrap().total = 0;
    assert_eq!(made(&scene.settle()), [("v2", Stage::Contract)]);
    stage_job(&mut scene, "v2", Stage::Contract, JobState::Running);
    let plan = scene.settle();
    assert!(made(&plan).is_empty() && !deletes_a_job(&plan), "{:?}", plan.writes);
    assert_eq!(scene.status.phase, Some(Phase::Healthy));
    scene.world.jobs[0].state = JobState::Succeeded;
    let plan = scene.pass();
    assert!(matches!(plan.writes[..], [Write::Annotate { .. }]), "{:?}", plan.writes);
    let before = scene.status.clone();
    assert!(deletes_a_job(&scene.settle()));
    assert!(scene.world.revisions["v2"].contracted);
    assert_eq!(scene.status.rollback_safe, Some(false));
    assert_eq!(scene.condition("Contracted"), Some("True"));
    assert!(events(&before, &scene.status).iter().any(|event| event.reason == "Contracted"));
    scene.world.jobs.clear();
    assert!(scene.settle().writes.is_empty(), "at rest");
}

#[test]
fn a_contract_waits_for_bake_and_keep_and_for_a_person() {
    let mut scene = promoted(0);
    scene.goal.strategy = StrategyKind::BlueGreen;
    scene.goal.blue_green_bake = Duration::from_mins(10);
    scene.goal.keep_old = Duration::from_hours(1);
    let since = || k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(scene.now);
    let strategy = StrategyKind::BlueGreen;
    scene.status.bake = Some(crate::api::Bake { since: since(), strategy, gateway: false });
    scene.status.kept = Some(crate::api::Kept { since: since(), drained: false });
    scene.run("v1", 3, 0);
    assert!(made(&scene.settle()).is_empty());
    scene.later(601);
    scene.run("v1", 0, 0);
    assert!(made(&scene.settle()).is_empty(), "v1 is kept");
    scene.later(3_000);
    scene.status.paused = true;
    assert!(made(&scene.settle()).is_empty(), "a person said pause");
    scene.status.paused = false;
    assert_eq!(made(&scene.settle()), [("v2", Stage::Contract)]);
}

#[test]
fn a_contract_that_fails_is_tried_again_and_takes_nothing_away() {
    let mut scene = promoted(0);
    scene.settle();
    for (wait, retries) in [(10, 1), (20, 2)] {
        stage_job(&mut scene, "v2", Stage::Contract, failed());
        let before = scene.status.clone();
        assert!(deletes_a_job(&scene.settle()));
        let said = events(&before, &scene.status);
        assert!(
            said.iter().any(|event| event.reason == "ContractFailed" && event.kind == EventKind::Warning)
        );
        scene.world.jobs.clear();
        let plan = scene.settle();
        assert_eq!(plan.wake, Some(scene.now.saturating_add(jiff::SignedDuration::from_secs(wait)).unwrap()));
        assert_eq!(follow_up(&scene), Some((FollowUpKind::Contract, FollowUpState::WaitingToRetry)));
        assert_eq!(scene.status.follow_up.as_ref().unwrap().retries, retries);
        assert_eq!(scene.status.phase, Some(Phase::Healthy), "{}", scene.status.message);
        assert!(scene.status.message.contains("the contract Job"), "{}", scene.status.message);
        assert_eq!(scene.condition("Contracted"), Some("False"));
        scene.later(wait);
        assert_eq!(made(&scene.settle()), [("v2", Stage::Contract)]);
    }
}

#[test]
fn a_contract_under_way_is_waited_for_by_a_newer_spec_and_ended_by_an_abort() {
    let mut scene = promoted(0);
    scene.settle();
    stage_job(&mut scene, "v2", Stage::Contract, JobState::Running);
    scene.settle();
    scene.ask("v3");
    scene.store("v3", |revision| revision.number = 3);
    let plan = scene.settle();
    assert!(scene.status.candidate.is_none() && !deletes_a_job(&plan), "{:?}", plan.writes);
    assert_eq!(scene.condition("Ready"), Some("False"), "v3 is not there yet");
    assert!(scene.status.message.contains("revision v3 waits"), "{}", scene.status.message);
    command(&mut scene, "abort", "");
    assert!(deletes_a_job(&scene.settle()));
    assert_eq!(answer(&scene).0, CommandAnswer::Accepted);
    assert!(scene.status.candidate.is_none(), "its pod is not gone yet");
    scene.world.jobs.clear();
    scene.settle();
    scene.settle();
    assert_eq!(scene.status.candidate.as_ref().map(|candidate| candidate.revision.as_str()), Some("v3"));
}

#[test]
fn a_contract_given_up_waits_for_a_retry() {
    let mut scene = promoted(0);
    scene.settle();
    stage_job(&mut scene, "v2", Stage::Contract, JobState::Running);
    command(&mut scene, "abort", "");
    scene.settle();
    scene.world.jobs.clear();
    scene.settle();
    scene.later(10_000);
    assert!(made(&scene.settle()).is_empty());
    assert_eq!(follow_up(&scene), Some((FollowUpKind::Contract, FollowUpState::Failed)));
    command(&mut scene, "retry", "");
    assert_eq!(made(&scene.settle()), [("v2", Stage::Contract)]);
}

#[test]
fn a_contract_that_a_twin_has_done_is_only_recorded() {
    let mut scene = contracted();
    scene.store("v3", |revision| {
        revision.number = 3;
        revision.migrated = true;
        revision.has_contract = true;
        revision.contract_key = Some("contract".to_owned());
    });
    scene.ask("v3");
    scene.run("v2", 0, 0);
    scene.run("v3", 3, 3);
    scene.points_to(crate::plan::Selector::Only("v3".to_owned()));
    scene.status.stable = Some("v3".to_owned());
    scene.status.previous = Some("v2".to_owned());
    scene.status.secrets_for = Some("v3".to_owned());
    scene.status.follow_up = None;
    assert!(made(&scene.settle()).is_empty());
    assert!(scene.world.revisions["v3"].contracted);
    // v2 went through the same contract, v1 did not.
    for (to, answered) in [("v2", CommandAnswer::Accepted), ("v1", CommandAnswer::Refused)] {
        let mut scene = scene.clone();
        command(&mut scene, "rollback", to);
        scene.settle();
        assert_eq!(answer(&scene).0, answered, "{to}: {}", answer(&scene).1);
    }
}

#[test]
fn a_contract_whose_status_was_lost_is_taken_over() {
    let mut scene = promoted(0);
    scene.settle();
    stage_job(&mut scene, "v2", Stage::Contract, JobState::Running);
    scene.status = crate::api::PhoenixAppStatus::default();
    let plan = scene.settle();
    assert!(!deletes_a_job(&plan), "{:?}", plan.writes);
    assert_eq!(follow_up(&scene), Some((FollowUpKind::Contract, FollowUpState::Running)));
}

#[test]
fn behind_a_contract_a_rollback_needs_force() {
    let mut scene = contracted();
    command(&mut scene, "rollback", "");
    scene.settle();
    let (answered, why) = answer(&scene);
    assert_eq!(answered, CommandAnswer::Refused);
    assert!(why.contains("the contract of revision v2") && why.contains("force"), "{why}");
    assert_eq!(scene.status.stable.as_deref(), Some("v2"));
    command(&mut scene, "rollback", "v1 force");
    scene.settle();
    assert_eq!(answer(&scene).0, CommandAnswer::Accepted, "{}", answer(&scene).1);
    assert_eq!(scene.status.stable.as_deref(), Some("v1"));
}

#[test]
fn behind_a_contract_the_spec_of_an_earlier_release_is_not_tried_again() {
    let mut scene = contracted();
    scene.goal.on_failure = OnFailure::Pause;
    scene.ask("v1");
    let plan = scene.settle();
    assert!(made(&plan).is_empty());
    assert_eq!(scene.world.asked("v1"), 0, "no pod of it was asked for");
    assert_eq!((scene.status.phase, scene.status.stable.as_deref()), (Some(Phase::Failed), Some("v2")));
    assert_eq!((scene.condition("Ready"), scene.condition("Stalled")), (Some("False"), Some("True")));
    let verdict = scene.status.candidate.clone().unwrap().verdict.unwrap();
    assert_eq!(verdict.reason, "BehindContract");
    assert!(verdict.returned && !verdict.held, "{verdict:?}");
    let attempt = scene.status.attempt;
    let cure = format!("`rollback v1/{attempt} v1 force`");
    assert!(verdict.message.contains("the contract of revision v2") && verdict.message.contains(&cure));
    assert!(scene.status.message.contains(&cure), "{}", scene.status.message);
    assert!(scene.settle().writes.is_empty(), "at rest");

    assert_eq!(scene.world.revisions["v1"].attempt, 1, "it was not begun, and is no newer for it");

    let mut again = scene.clone();
    command(&mut again, "retry", "");
    again.settle();
    assert_eq!(answer(&again).0, CommandAnswer::Accepted);
    assert_eq!((again.status.phase, again.status.stable.as_deref()), (Some(Phase::Failed), Some("v2")));
    assert_eq!(again.status.attempt, attempt + 1);

    let mut forced = scene.clone();
    command(&mut forced, "rollback", "v1 force");
    forced.settle();
    assert_eq!(answer(&forced).0, CommandAnswer::Accepted, "{}", answer(&forced).1);
    assert_eq!(forced.status.stable.as_deref(), Some("v1"));
    assert!(forced.status.candidate.is_none());
    let ended = forced.status.history.first().unwrap();
    assert!(ended.revision == "v2" && ended.outcome == Outcome::RolledBack, "{ended:?}");
    let told = events(&scene.status, &forced.status);
    assert!(told.iter().any(|event| event.reason == "Reverted"), "{told:?}");

    scene.ask("v2");
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::Healthy), "{}", scene.status.message);
}

#[test]
fn behind_a_contract_force_helps_although_what_serves_is_sick() {
    let mut scene = contracted();
    scene.run("v2", 3, 1);
    scene.ask("v1");
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::Failed), "{}", scene.status.message);
    assert!(scene.status.message.contains("1 of 3 pods of revision v2 serve"), "{}", scene.status.message);
    command(&mut scene, "rollback", "v1 force");
    scene.settle();
    assert_eq!(answer(&scene).0, CommandAnswer::Accepted, "{}", answer(&scene).1);
}

#[test]
fn behind_a_contract_what_never_ran_is_no_way_back() {
    let mut scene = contracted();
    scene.store("v1", |revision| revision.migrated = false);
    scene.ask("v1");
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::Failed));
    assert!(scene.status.message.contains("any change of the spec is another revision"));
    assert!(!scene.status.message.contains("rollback"), "{}", scene.status.message);
}

#[test]
fn behind_a_contract_what_another_attempt_has_begun_is_taken_back_first() {
    let mut scene = contracted();
    scene.ask("v3");
    scene.store("v3", |revision| revision.number = 3);
    scene.settle();
    scene.run("v3", 1, 1);
    scene.ask("v1");
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::RollingBack), "{}", scene.status.message);
    let mut forced = scene.clone();
    command(&mut forced, "rollback", "v1 force");
    forced.settle();
    assert_eq!(answer(&forced).0, CommandAnswer::Accepted, "{}", answer(&forced).1);
    scene.run("v3", 0, 0);
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::Failed), "{}", scene.status.message);
}

#[test]
fn a_retry_that_is_promoted_at_once_is_told_as_a_promotion() {
    let mut scene = contracted();
    scene.ask("v3");
    scene.settle();
    let mut old = scene.status.clone();
    let candidate = old.candidate.as_mut().unwrap();
    candidate.verdict = Some(crate::api::Verdict {
        outcome: Outcome::Failed,
        reason: "ProgressDeadlineExceeded".to_owned(),
        message: String::new(),
        returned: false,
        held: true,
    });
    let mut new = old.clone();
    (new.stable, new.candidate) = (Some("v3".to_owned()), None);
    let told: Vec<_> = events(&old, &new).into_iter().map(|event| event.reason).collect();
    assert!(told.contains(&"Promoted") && !told.contains(&"Reverted"), "{told:?}");
}

/// Whether the spec of `v1` is tried again.
fn returns_to_v1(mut scene: Scene) -> bool {
    scene.ask("v1");
    scene.settle();
    let candidate = scene.status.candidate.as_ref().unwrap();
    assert_eq!(candidate.revision, "v1");
    candidate.verdict.is_none()
}

#[test]
fn behind_a_contract_the_same_code_may_return() {
    let of = |images: [&str; 2]| {
        let mut scene = contracted();
        for (name, image) in ["v1", "v2"].into_iter().zip(images) {
            scene.store(name, |revision| image.clone_into(&mut revision.image));
        }
        scene
    };
    assert!(returns_to_v1(of(["shop:1", "shop:1"])));
    assert!(!returns_to_v1(of(["shop:1", "shop:2"])));
    // Its code serves now, or went through a later contract.
    for (stable, contracted) in [("v3", false), ("v2", true)] {
        let mut scene = of(["shop:1", "shop:2"]);
        scene.store("v3", |revision| {
            "shop:1".clone_into(&mut revision.image);
            (revision.number, revision.contracted) = (3, contracted);
            revision.contract_key = contracted.then(|| "another".to_owned());
        });
        scene.status.stable = Some(stable.to_owned());
        assert!(returns_to_v1(scene), "{stable}");
    }
}

#[test]
fn a_contract_that_is_done_is_known_of_a_revision_that_is_not_stored_any_more() {
    let mut scene = contracted();
    for name in ["v1", "v2"] {
        scene.store(name, |revision| "shop:1".clone_into(&mut revision.image));
    }
    scene.settle();
    assert_eq!(scene.status.rollback_safe, None, "the same code");
    scene.status.follow_up = Some(crate::api::FollowUp {
        state: FollowUpState::Succeeded,
        ..crate::plan::follow_up::begin(FollowUpKind::Contract, &"v2".to_owned(), 2)
    });
    scene.world.revisions.remove("v2");
    let plan = scene.pass();
    let rebuilt = Write::RebuildRevision { revision: "v2".to_owned(), contracted: true };
    assert!(plan.writes.contains(&rebuilt), "{:?}", plan.writes);
}

#[test]
fn a_rollback_alone_leaves_the_database_as_it_is() {
    let mut scene = promoted(0);
    scene.settle();
    command(&mut scene, "rollback", "");
    scene.settle();
    scene.run("v1", 3, 3);
    scene.run("v2", 0, 0);
    scene.points_to(crate::plan::Selector::Only("v1".to_owned()));
    let plan = scene.settle();
    assert!(made(&plan).is_empty() && scene.world.revisions["v2"].migrated, "{:?}", plan.writes);
    assert_eq!(follow_up(&scene), None);
}

/// A person returned from `v2` to `v1` with its migrations; `v2` still has `left` pods.
fn returning(left: u32) -> Scene {
    let mut scene = promoted(0);
    scene.store("v3", |revision| {
        revision.number = 3;
        revision.migrated = true;
        revision.migration_key = Some("two".to_owned());
    });
    scene.settle();
    command(&mut scene, "rollback", "v1 with-migrations");
    scene.settle();
    assert_eq!(answer(&scene).0, CommandAnswer::Accepted, "{}", answer(&scene).1);
    scene.run("v1", 3, 3);
    scene.run("v2", 0, 0);
    scene.world.pods.get_mut("v2").unwrap().total = left;
    scene.points_to(crate::plan::Selector::Only("v1".to_owned()));
    scene
}

#[test]
fn migrations_are_rolled_back_with_the_newer_image_once_its_pods_are_gone() {
    let mut scene = returning(1);
    assert!(made(&scene.settle()).is_empty());
    assert!(scene.world.revisions["v2"].migrated);
    assert!(scene.status.message.contains("waits until 1 pods"), "{}", scene.status.message);
    scene.world.pods.get_mut("v2").unwrap().total = 0;
    // What is recorded is withdrawn first, its copy included.
    let plan = scene.settle();
    assert_eq!(made(&plan), [("v2", Stage::Rollback)]);
    assert!(!scene.world.revisions["v2"].migrated && !scene.world.revisions["v3"].migrated);
    assert!(scene.world.revisions["v1"].migrated, "what serves has migrated");
    stage_job(&mut scene, "v2", Stage::Rollback, JobState::Succeeded);
    let before = scene.status.clone();
    assert!(deletes_a_job(&scene.settle()));
    assert!(events(&before, &scene.status).iter().any(|event| event.reason == "MigrationsRolledBack"));
    scene.world.jobs.clear();
    assert!(scene.settle().writes.is_empty());
    assert!(
        scene.status.message.contains("the migrations of revision v2 are rolled back"),
        "{}",
        scene.status.message
    );
    // A return migrates again.
    scene.command("retry");
    assert_eq!(made(&scene.settle()), [("v2", Stage::Migrate)]);
}

#[test]
fn migrations_that_cannot_be_rolled_back_are_left_to_people() {
    let mut scene = returning(0);
    scene.settle();
    stage_job(&mut scene, "v2", Stage::Rollback, failed());
    let before = scene.status.clone();
    assert!(deletes_a_job(&scene.settle()));
    assert!(events(&before, &scene.status).iter().any(|event| event.reason == "MigrationsNotRolledBack"));
    scene.world.jobs.clear();
    scene.settle();
    scene.later(10_000);
    assert!(made(&scene.settle()).is_empty(), "a database is never rolled back by itself");
    assert_eq!(follow_up(&scene), Some((FollowUpKind::Rollback, FollowUpState::Failed)));
    assert!(!scene.world.revisions["v2"].migrated, "how far it came is unknown");
    assert!(scene.status.message.contains("column exists"), "{}", scene.status.message);
    // Not the release that they lead away from.
    command(&mut scene, "retry", "");
    assert_eq!(made(&scene.settle()), [("v2", Stage::Rollback)]);
    assert_eq!(scene.status.stable.as_deref(), Some("v1"));
}

#[test]
fn behind_a_newer_release_a_failed_way_back_is_not_gone_again() {
    let mut scene = returning(0);
    scene.settle();
    stage_job(&mut scene, "v2", Stage::Rollback, failed());
    scene.settle();
    scene.world.jobs.clear();
    scene.settle();
    assert_eq!(follow_up(&scene), Some((FollowUpKind::Rollback, FollowUpState::Failed)));
    scene.ask("v3");
    scene.settle();
    let known = scene.status.follow_up.clone().unwrap();
    assert!(known.reason == "NewerSpec" && known.message.contains("column exists"), "{known:?}");
    command(&mut scene, "abort", "");
    scene.settle();
    scene.world.jobs.clear();
    scene.settle();
    command(&mut scene, "retry", "");
    scene.settle();
    assert_eq!(answer(&scene).0, CommandAnswer::Accepted);
    assert_eq!(follow_up(&scene), Some((FollowUpKind::Rollback, FollowUpState::Failed)));
    let tried = scene.status.candidate.as_ref().unwrap();
    assert_eq!((tried.revision.as_str(), tried.verdict.is_none()), ("v3", true));
}

#[test]
fn a_newer_spec_comes_before_migrations_that_were_to_be_rolled_back_but_not_during() {
    let mut waiting = returning(1);
    waiting.settle();
    waiting.ask("v3");
    waiting.settle();
    assert_eq!(follow_up(&waiting), Some((FollowUpKind::Rollback, FollowUpState::Failed)));
    assert!(waiting.world.revisions["v2"].migrated);
    assert!(waiting.status.candidate.as_ref().is_some_and(|candidate| candidate.verdict.is_none()));
    let mut running = returning(0);
    running.settle();
    stage_job(&mut running, "v2", Stage::Rollback, JobState::Running);
    running.settle();
    running.ask("v3");
    assert!(!deletes_a_job(&running.settle()));
    assert!(running.status.candidate.as_ref().is_some_and(|candidate| candidate.revision == "v2"));
    command(&mut running, "retry", "");
    running.settle();
    assert_eq!(answer(&running).0, CommandAnswer::Refused);
}

#[test]
fn with_migrations_is_refused_where_it_means_nothing() {
    let mut without = promoted(0);
    without.store("v2", |revision| revision.has_rollback = false);
    without.settle();
    command(&mut without, "rollback", "with-migrations");
    without.settle();
    assert!(answer(&without).1.contains("without migrations.rollback"), "{}", answer(&without).1);
    let mut same = promoted(0);
    same.store("v1", |revision| revision.migration_key = Some("two".to_owned()));
    same.settle();
    command(&mut same, "rollback", "with-migrations");
    same.settle();
    assert!(answer(&same).1.contains("share one migration"), "{}", answer(&same).1);
    let mut beneath = promoted(0);
    beneath.store("v3", |revision| {
        (revision.attempt, revision.migrated) = (3, true);
        revision.migration_key = Some("three".to_owned());
    });
    beneath.settle();
    command(&mut beneath, "rollback", "with-migrations");
    beneath.settle();
    assert_eq!(answer(&beneath).0, CommandAnswer::Refused);
    assert!(answer(&beneath).1.contains("migrations of revision v3, too"), "{}", answer(&beneath).1);
    for scene in [without, same] {
        assert_eq!(answer(&scene).0, CommandAnswer::Refused);
        assert_eq!(scene.status.stable.as_deref(), Some("v2"));
    }
}
