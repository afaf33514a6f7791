//! Rollouts that go wrong on a real API server, and what makes them right again.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::fixtures::{
    self, PATIENCE, condition, image, impatient, message, migrated_first, migrating, plain, pod_uids,
    revision_of, with,
};
use e2e::harness::{Lab, Seen, Space};
use phoenix_operator::api::{CommandAnswer, Outcome, Phase, PhoenixAppStatus, labels};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn rollouts_go_wrong_and_right() -> Result<()> {
    let lab = Lab::fake().await?;
    let cases = e2e::cases![
        a_migration_fails,
        a_first_migration_fails,
        aborted_and_retried,
        a_migration_is_aborted,
        a_third_release_during_the_second,
        a_third_release_during_a_migration,
        a_release_that_is_never_ready,
        a_release_that_crashes_without_stable,
        a_stable_release_that_breaks,
    ];
    fixtures::run(&lab, 2, cases).await?;
    Ok(())
}

fn target(status: &PhoenixAppStatus) -> Result<String> {
    let candidate = status.candidate.as_ref().context("there is no candidate")?;
    Ok(format!("{}/{}", candidate.revision, candidate.attempt))
}

/// The revision of the candidate, whose verdict is this, and the return to stable complete.
fn ended(outcome: Outcome) -> impl Fn(&PhoenixAppStatus) -> bool {
    move |status| {
        let verdict = status.candidate.as_ref().and_then(|candidate| candidate.verdict.as_ref());
        verdict.is_some_and(|verdict| verdict.outcome == outcome && verdict.returned)
    }
}

fn has_pods(seen: &Seen, revision: &str) -> bool {
    seen.first_pod(revision).is_some()
}

async fn a_migration_fails(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let first = space.roll_out("shop", &migrating("v1")).await?;
    let pods = space.record().look(|seen| pod_uids(seen, "shop"));

    let broken = with(migrating("failmigrate"), &json!({"replicas": 2}));
    let mut broken = broken;
    broken["migrations"] = json!({"retries": 1});
    let generation = space.apply("shop", &broken).await?;
    let failed = space.wait_phase("shop", generation, Phase::Failed, PATIENCE).await?;
    let candidate = failed.candidate.clone().context("no candidate")?;
    ensure!(condition(&failed, "Stalled").is_some() && failed.stable == first.stable, "{failed:#?}");
    ensure!(condition(&failed, "Migrated") == Some(("False", "MigrationFailed")), "{failed:#?}");
    let migration = failed.migration.clone().context("no migration in the status")?;
    ensure!(migration.exit_code == Some(1), "{migration:?}");
    ensure!(migration.log_tail.contains("the migration failed"), "{migration:?}");
    ensure!(message(&failed, "Migrated").contains("the migration failed"), "{failed:#?}");
    let (web, tries) = space.record().look(|seen| {
        (has_pods(seen, &candidate.revision), seen.migration_pods("shop", &candidate.revision).len())
    });
    ensure!(!web, "a pod of the revision whose migration failed was there");
    ensure!(tries == 2, "{tries} migration pods for one retry");
    ensure!(space.record().look(|seen| pod_uids(seen, "shop")) == pods, "old pods were touched");
    ensure!(space.record().look(|seen| seen.all("Job").count()) == 0, "a failed Job was left");

    let fixed = space.roll_out("shop", &with(migrating("v2"), &json!({"replicas": 2}))).await?;
    let v2 = fixed.stable.clone().context("nothing is stable")?;
    ensure!(fixed.previous == first.stable && condition(&fixed, "Stalled").is_none(), "{fixed:#?}");
    ensure!(space.record().look(|seen| migrated_first(seen, "shop", &v2))? == 1, "one migration");
    println!("a failing migration: {tries} pods of it, none of its revision; the next release went through");
    Ok(())
}

/// Without a stable revision it is tried again by itself, and any newer spec goes ahead.
async fn a_first_migration_fails(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let mut broken = migrating("failmigrate");
    broken["migrations"] = json!({"retries": 0});
    let generation = space.apply("shop", &broken).await?;
    let again = |status: &PhoenixAppStatus| status.migration.as_ref().is_some_and(|m| m.retries >= 2);
    let status = space.wait_for("shop", generation, "a second retry", PATIENCE, again).await?;
    ensure!(status.attempt == 1 && condition(&status, "Stalled").is_none(), "{status:#?}");
    let fixed = space.roll_out("shop", &migrating("v2")).await?;
    ensure!(fixed.attempt == 2 && fixed.ready_replicas == 2, "{fixed:#?}");
    Ok(())
}

async fn aborted_and_retried(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let first = space.roll_out("shop", &plain("v1")).await?;
    let pods = space.record().look(|seen| pod_uids(seen, "shop"));
    let generation = space.apply("shop", &plain("notready")).await?;
    let stuck = |seen: &Seen| {
        let status = seen.status("shop")?;
        let revision = &status.candidate.as_ref()?.revision;
        has_pods(seen, revision).then_some(status)
    };
    let status = space.wait("a pod of the candidate", PATIENCE, stuck).await?;
    let bad = target(&status)?;

    // A stale command does nothing, and says so.
    space.command("shop", "abort 0000000000/9").await?;
    let answer = |wanted| {
        move |status: &PhoenixAppStatus| {
            status.last_command.as_ref().is_some_and(|last| last.answer == wanted)
        }
    };
    let stale =
        space.wait_for("shop", generation, "an answer", PATIENCE, answer(CommandAnswer::Ignored)).await?;
    ensure!(stale.candidate.as_ref().is_some_and(|c| c.verdict.is_none()), "{stale:#?}");

    space.command("shop", &format!("abort {bad}")).await?;
    let aborted = space.wait_for("shop", generation, "Aborted", PATIENCE, ended(Outcome::Aborted)).await?;
    ensure!(aborted.phase == Some(Phase::Aborted) && aborted.stable == first.stable, "{aborted:#?}");
    ensure!(condition(&aborted, "Stalled").is_some(), "{aborted:#?}");
    ensure!(aborted.last_command.as_ref().map(|last| last.n) == Some(1), "{aborted:#?}");
    let selector = space.field("service/shop", "{.spec.selector}").await?;
    ensure!(selector.contains(first.stable.as_deref().unwrap_or("?")), "{selector}");
    ensure!(space.record().look(|seen| pod_uids(seen, "shop")) == pods, "the stable pods changed");

    space.command("shop", &format!("retry {bad}")).await?;
    let tried = |status: &PhoenixAppStatus| status.attempt == 3 && status.candidate.is_some();
    let tried = space.wait_for("shop", generation, "attempt 3", PATIENCE, tried).await?;
    ensure!(tried.candidate.as_ref().is_some_and(|c| c.verdict.is_none()), "{tried:#?}");

    // Back to what is stable clears it.
    let healthy = space.roll_out("shop", &plain("v1")).await?;
    ensure!(healthy.stable == first.stable && healthy.candidate.is_none(), "{healthy:#?}");
    let back = |seen: &Seen| (pod_uids(seen, "shop") == pods).then_some(());
    space.wait("only the stable pods", PATIENCE, back).await?;
    Ok(())
}

async fn a_migration_is_aborted(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let first = space.roll_out("shop", &migrating("v1")).await?;
    let generation = space.apply("shop", &migrating("hang")).await?;
    let runs = |seen: &Seen| {
        let status = seen.status("shop")?;
        let revision = status.candidate.as_ref()?.revision.clone();
        (!seen.migration_pods("shop", &revision).is_empty()).then_some(status)
    };
    let status = space.wait("a migration pod", PATIENCE, runs).await?;
    space.command("shop", &format!("abort {}", target(&status)?)).await?;
    let aborted = space.wait_for("shop", generation, "Aborted", PATIENCE, ended(Outcome::Aborted)).await?;
    ensure!(aborted.stable == first.stable && aborted.phase == Some(Phase::Aborted), "{aborted:#?}");
    let (jobs, web) = space.record().look(|seen| {
        let running = seen.all("Pod").filter(|pod| fixtures::label(pod, labels::MIGRATION) == "shop");
        let candidate = aborted.candidate.as_ref().map_or("", |c| c.revision.as_str());
        (seen.all("Job").count() + running.count(), has_pods(seen, candidate))
    });
    ensure!(jobs == 0 && !web, "{jobs} Jobs and pods of it left; a web pod: {web}");
    Ok(())
}

/// v1 stays what it compares with and falls back to.
async fn a_third_release_during_the_second(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let first = space.roll_out("shop", &plain("v1")).await?;
    let generation = space.apply("shop", &plain("notready")).await?;
    let stuck = |seen: &Seen| {
        let status = seen.status("shop")?;
        let revision = status.candidate.as_ref()?.revision.clone();
        has_pods(seen, &revision).then_some((revision, status.attempt))
    };
    let (second, _) = space.wait("a pod of v2", PATIENCE, stuck).await?;
    let third = space.roll_out("shop", &plain("v3")).await?;
    ensure!(third.observed_generation > generation && third.attempt == 3, "{third:#?}");
    ensure!(third.previous == first.stable, "previous is not v1: {third:#?}");
    let outcome = third.history.iter().find(|entry| entry.revision == second).map(|entry| entry.outcome);
    ensure!(outcome == Some(Outcome::Superseded), "{:?}", third.history);
    let v3 = third.stable.clone().unwrap_or_default();
    let only =
        |seen: &Seen| (seen.web_pods("shop").len() == seen.ready_pods("shop", &v3).len()).then_some(());
    space.wait("only pods of v3", PATIENCE, only).await?;

    // And when v5 comes during a v4 and fails, v3 it is.
    space.apply("shop", &plain("notready-4")).await?;
    let of_4 = |seen: &Seen| has_pods(seen, &revision_of(seen, &image("notready-4"))?).then_some(());
    space.wait("a pod of v4", PATIENCE, of_4).await?;
    let generation = space.apply("shop", &impatient(plain("notready-5"), 4)).await?;
    let failed = space.wait_for("shop", generation, "Failed", PATIENCE, ended(Outcome::Failed)).await?;
    ensure!(failed.stable.as_ref() == Some(&v3) && failed.ready_replicas == 2, "{failed:#?}");
    Ok(())
}

/// A running migration is not killed by a newer spec: it waits, and says so.
async fn a_third_release_during_a_migration(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let first = space.roll_out("shop", &migrating("v1")).await?;
    space.apply("shop", &migrating("hang")).await?;
    let runs = |seen: &Seen| {
        let status = seen.status("shop")?;
        let revision = status.candidate.as_ref()?.revision.clone();
        let pod = seen.migration_pods("shop", &revision).first()?.0.clone();
        let running = seen.get("Pod", &pod)?.pointer("/status/phase")? == "Running";
        running.then_some((revision, pod))
    };
    let (second, pod) = space.wait("a migration pod", PATIENCE, runs).await?;
    let generation = space.apply("shop", &migrating("v3")).await?;
    let says = |status: &PhoenixAppStatus| status.message.contains("waits until this migration has ended");
    let waiting = space.wait_for("shop", generation, "v3 to wait", PATIENCE, says).await?;
    ensure!(waiting.candidate.as_ref().is_some_and(|c| c.revision == second), "{waiting:#?}");
    ensure!(space.record().look(|seen| seen.get("Pod", &pod).is_some()), "the migration was killed");

    // Abort ends it, and v3 goes ahead.
    space.command("shop", &format!("abort {}", target(&waiting)?)).await?;
    let third = space.wait_phase("shop", generation, Phase::Healthy, PATIENCE).await?;
    ensure!(third.previous == first.stable && third.candidate.is_none(), "{third:#?}");
    let v3 = third.stable.clone().unwrap_or_default();
    ensure!(space.record().look(|seen| migrated_first(seen, "shop", &v3))? == 1, "one migration of v3");
    ensure!(!space.record().look(|seen| has_pods(seen, &second)), "a pod of v2 was there");
    Ok(())
}

/// The deadline passes, and traffic and pods return by themselves.
async fn a_release_that_is_never_ready(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let first = space.roll_out("shop", &impatient(plain("v1"), 4)).await?;
    let pods = space.record().look(|seen| pod_uids(seen, "shop"));
    for tag in ["notready", "crash"] {
        let generation = space.apply("shop", &impatient(plain(tag), 4)).await?;
        let failed = space.wait_for("shop", generation, "Failed", PATIENCE, ended(Outcome::Failed)).await?;
        ensure!(
            failed.phase == Some(Phase::Failed) && condition(&failed, "Stalled").is_some(),
            "{failed:#?}"
        );
        ensure!(failed.stable == first.stable && failed.ready_replicas == 2, "{failed:#?}");
        ensure!(
            condition(&failed, "PodsReady") == Some(("False", "ProgressDeadlineExceeded")),
            "{failed:#?}"
        );
        if tag == "crash" {
            ensure!(message(&failed, "PodsReady").contains("exit"), "the reason is missing: {failed:#?}");
        }
        ensure!(space.record().look(|seen| pod_uids(seen, "shop")) == pods, "the stable pods changed");
        let revision = failed.candidate.as_ref().map(|c| c.revision.clone()).unwrap_or_default();
        let deployment = format!("deployment/shop-{revision}");
        ensure!(space.field(&deployment, "{.spec.replicas}").await? == "0", "{deployment} is not at zero");
        println!("{tag}: {}", failed.message);
    }
    let healthy = space.roll_out("shop", &impatient(plain("v2"), 30)).await?;
    ensure!(healthy.previous == first.stable, "{healthy:#?}");
    Ok(())
}

/// With nothing to return to, it says so, keeps its pods, and the release that fixes it goes through at once.
async fn a_release_that_crashes_without_stable(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let generation = space.apply("shop", &impatient(plain("crash"), 3)).await?;
    let blocked = space.wait_phase("shop", generation, Phase::Blocked, PATIENCE).await?;
    ensure!(condition(&blocked, "Stalled").is_some() && blocked.stable.is_none(), "{blocked:#?}");
    ensure!(space.record().look(|seen| seen.web_pods("shop").len()) == 2, "its pods are gone");
    println!("without stable: {}", blocked.message);
    let fixed = space.roll_out("shop", &impatient(plain("v2"), 30)).await?;
    ensure!(fixed.previous.is_none() && fixed.ready_replicas == 2, "{fixed:#?}");
    Ok(())
}

/// A stable release whose pods all fail is Degraded, and does not block the release that fixes it.
async fn a_stable_release_that_breaks(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let first = space.roll_out("shop", &plain("v1")).await?;
    let pods = ["annotate", "pods", "--all", "--overwrite"];
    space.kubectl(&[pods.as_slice(), &["e2e/ready=false"]].concat(), None).await?;
    let degraded = space.wait_phase("shop", 1, Phase::Degraded, PATIENCE).await?;
    ensure!(condition(&degraded, "Reconciling").is_some(), "{degraded:#?}");
    ensure!(condition(&degraded, "Stalled").is_none(), "{degraded:#?}");
    let none = |s: &PhoenixAppStatus| condition(s, "Available").is_some_and(|c| c.0 == "False");
    space.wait_for("shop", 1, "Available to be False", PATIENCE, none).await?;
    let fixed = space.roll_out("shop", &plain("v2")).await?;
    ensure!(fixed.previous == first.stable && fixed.ready_replicas == 2, "{fixed:#?}");

    // And comes back by itself when its pods do.
    space.kubectl(&[pods.as_slice(), &["e2e/ready=false"]].concat(), None).await?;
    space.wait_phase("shop", 2, Phase::Degraded, Duration::from_secs(30)).await?;
    space.kubectl(&[pods.as_slice(), &["e2e/ready-"]].concat(), None).await?;
    let healed = |s: &PhoenixAppStatus| s.phase == Some(Phase::Healthy) && s.ready_replicas == 2;
    space.wait_for("shop", 2, "Healthy again", PATIENCE, healed).await?;
    Ok(())
}
