//! Blue-green, canary and the commands on a real API server.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::fixtures::{self, PATIENCE, condition, impatient, plain, pod_uids, revision_of, settled, with};
use e2e::harness::{Lab, Seen, Space};
use phoenix_operator::api::{CommandAnswer, Isolation, Outcome, Phase, PhoenixAppStatus, labels};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn strategies() -> Result<()> {
    let lab = Lab::fake().await?;
    let cases = e2e::cases![
        blue_green_waits_for_a_person,
        blue_green_aborted_in_its_bake,
        blue_green_that_is_never_ready,
        a_replica_change_follows_both_colours,
        old_pods_stop_in_batches,
        canary_by_steps,
        canary_aborted_at_a_step,
        one_pod_cannot_be_split,
        rolled_back_by_a_command,
        stale_and_repeated_commands_change_nothing,
        paused_and_resumed,
        restarted_by_a_command,
        a_failure_waits_for_a_person,
        the_strategy_changes_at_rest,
        the_strategy_changes_in_mid_flight,
        a_lost_status_is_made_anew,
    ];
    fixtures::run(&lab, 3, cases).await?;
    Ok(())
}

fn strategy(tag: &str, replicas: u32, strategy: &Value) -> Value {
    with(plain(tag), &json!({"replicas": replicas, "strategy": strategy}))
}

fn blue_green(tag: &str, settings: &Value) -> Value {
    strategy(tag, 2, &json!({"type": "BlueGreen", "blueGreen": settings}))
}

fn canary(tag: &str, replicas: u32) -> Value {
    let steps = json!([{"setWeight": 25}, {"pause": {}}, {"setWeight": 50}, {"pause": {"duration": "1s"}}]);
    strategy(tag, replicas, &json!({"type": "Canary", "canary": {"steps": steps, "bake": "0s"}}))
}

fn target(status: &PhoenixAppStatus) -> Result<String> {
    let candidate = status.candidate.as_ref().context("there is no candidate")?;
    Ok(format!("{}/{}", candidate.revision, candidate.attempt))
}

fn stable_target(status: &PhoenixAppStatus) -> Result<String> {
    Ok(format!("{}/{}", status.stable.as_deref().context("nothing is stable")?, status.attempt))
}

fn selected(seen: &Seen, service: &str) -> Option<String> {
    let selector = &seen.get("Service", service)?["spec"]["selector"];
    Some(selector.get(labels::REVISION)?.as_str()?.to_owned())
}

fn ready(seen: &Seen, revision: &str) -> usize {
    seen.ready_pods("shop", revision).len()
}

/// Every selector that the active Service ever had, in order, repeated ones once.
fn selections(seen: &Seen) -> Vec<Option<String>> {
    let mut all: Vec<Option<String>> = seen
        .history("Service")
        .filter(|event| event.name == "shop")
        .map(|event| event.object["spec"]["selector"].get(labels::REVISION)?.as_str().map(str::to_owned))
        .collect();
    all.dedup();
    all
}

async fn answered(space: &Space, generation: i64, text: &str) -> Result<PhoenixAppStatus> {
    space.command("shop", text).await?;
    let wanted = text.to_owned();
    let answer =
        move |status: &PhoenixAppStatus| status.last_command.as_ref().is_some_and(|c| c.text == wanted);
    space.wait_for("shop", generation, "an answer", PATIENCE, answer).await
}

async fn accepted(space: &Space, generation: i64, text: &str) -> Result<PhoenixAppStatus> {
    let status = answered(space, generation, text).await?;
    let command = status.last_command.clone().context("no command")?;
    ensure!(command.answer == CommandAnswer::Accepted, "{command:#?}");
    Ok(status)
}

async fn blue_green_waits_for_a_person(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let settings = json!({"autoPromote": false, "previewReplicas": 1, "bake": "0s", "keepOld": "0s"});
    let first = space.roll_out("shop", &blue_green("v1", &settings)).await?;
    let v1 = first.stable.clone().context("nothing is stable")?;
    let isolation = first.effective.as_ref().map(|effective| effective.isolation.clone());
    ensure!(isolation.as_deref() == Some(Isolation::PerRevision.as_str()), "{first:#?}");
    let generation = space.apply("shop", &blue_green("v2", &settings)).await?;
    let paused = space.wait_phase("shop", generation, Phase::Paused, PATIENCE).await?;
    let v2 = paused.candidate.as_ref().context("no candidate")?.revision.clone();
    ensure!(condition(&paused, "Ready") == Some(("False", "Paused")), "{paused:#?}");
    ensure!(
        condition(&paused, "Reconciling").is_some() && condition(&paused, "Stalled").is_none(),
        "{paused:#?}"
    );
    space.record().look(|seen| {
        ensure!(ready(seen, &v2) == 1, "{} preview pods", ready(seen, &v2));
        ensure!(selected(seen, "shop").as_ref() == Some(&v1), "requests moved");
        ensure!(selected(seen, "shop-preview").as_ref() == Some(&v2), "the preview does not show v2");
        Ok(())
    })?;
    accepted(&space, generation, &format!("promote {}/0", target(&paused)?)).await?;
    let healthy = space.wait_phase("shop", generation, Phase::Healthy, PATIENCE).await?;
    ensure!(healthy.stable.as_ref() == Some(&v2) && healthy.previous.as_ref() == Some(&v1), "{healthy:#?}");
    let drained = |seen: &Seen| (seen.web_pods("shop").len() == 2 && ready(seen, &v2) == 2).then_some(());
    space.wait("the old pods to be gone", PATIENCE, drained).await?;
    space.record().look(|seen| {
        let mut ends = selections(seen);
        ends.drain(..ends.len().saturating_sub(2));
        ensure!(ends == [Some(v1.clone()), Some(v2.clone())], "the Service selected {ends:?} in the end");
        ensure!(selected(seen, "shop-preview").as_deref() == Some(labels::NO_REVISION), "the preview stays");
        Ok(())
    })
}

async fn blue_green_aborted_in_its_bake(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let settings = json!({"bake": "1h"});
    let first = space.roll_out("shop", &blue_green("v1", &settings)).await?;
    let pods = space.record().look(|seen| pod_uids(seen, "shop"));
    let second = space.roll_out("shop", &blue_green("v2", &settings)).await?;
    ensure!(second.bake.is_some() && second.message.contains("returns to revision"), "{second:#?}");
    ensure!(space.record().look(|seen| seen.web_pods("shop").len()) == 4, "the old pods did not stay");
    let generation = second.observed_generation;
    accepted(&space, generation, &format!("abort {}", stable_target(&second)?)).await?;
    let returned = |status: &PhoenixAppStatus| {
        let verdict = status.candidate.as_ref().and_then(|candidate| candidate.verdict.as_ref());
        verdict.is_some_and(|verdict| verdict.outcome == Outcome::Aborted && verdict.returned)
    };
    let aborted = space.wait_for("shop", generation, "the return", PATIENCE, returned).await?;
    ensure!(aborted.stable == first.stable && aborted.phase == Some(Phase::Aborted), "{aborted:#?}");
    let only = |seen: &Seen| (pod_uids(seen, "shop") == pods).then_some(());
    space.wait("only the first pods, the same ones", PATIENCE, only).await?;
    Ok(())
}

async fn blue_green_that_is_never_ready(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let spec = |tag: &str| {
        let mut spec = impatient(blue_green(tag, &json!({})), 4);
        spec["strategy"]["type"] = json!("BlueGreen");
        spec
    };
    let first = space.roll_out("shop", &spec("v1")).await?;
    let v1 = first.stable.clone().context("nothing is stable")?;
    let generation = space.apply("shop", &spec("notready")).await?;
    let failed = space.wait_phase("shop", generation, Phase::Failed, PATIENCE).await?;
    ensure!(failed.stable == first.stable && condition(&failed, "Stalled").is_some(), "{failed:#?}");
    let alone = |seen: &Seen| (seen.web_pods("shop").len() == 2 && ready(seen, &v1) == 2).then_some(());
    space.wait("only pods of v1", PATIENCE, alone).await?;
    let all = space.record().look(selections);
    ensure!(all.iter().flatten().all(|one| *one == v1), "requests were led elsewhere: {all:?}");
    Ok(())
}

async fn a_replica_change_follows_both_colours(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let settings = json!({"autoPromote": false, "bake": "0s"});
    let v1 = space.roll_out("shop", &blue_green("v1", &settings)).await?.stable.context("no v1")?;
    let generation = space.apply("shop", &blue_green("v2", &settings)).await?;
    let paused = space.wait_phase("shop", generation, Phase::Paused, PATIENCE).await?;
    let v2 = paused.candidate.context("no candidate")?.revision;
    space.kubectl(&["scale", "phoenixapp/shop", "--replicas=4"], None).await?;
    let grown = |seen: &Seen| (ready(seen, &v1) == 4 && ready(seen, &v2) == 4).then_some(());
    space.wait("four pods of each", PATIENCE, grown).await?;
    ensure!(space.record().look(|seen| selected(seen, "shop")) == Some(v1), "requests moved");
    Ok(())
}

async fn old_pods_stop_in_batches(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let spec = |tag: &str| {
        let settings = json!({"bake": "0s", "keepOld": "0s"});
        let mut spec = blue_green(tag, &settings);
        spec["replicas"] = json!(4);
        spec["shutdown"] = json!({"drainBatch": 2, "drainInterval": "3s"});
        spec
    };
    let v1 = space.roll_out("shop", &spec("v1")).await?.stable.context("no v1")?;
    space.roll_out("shop", &spec("v2")).await?;
    let gone = |seen: &Seen| (seen.web_pods("shop").len() == 4 && ready(seen, &v1) == 0).then_some(());
    space.wait("the old pods to be gone", PATIENCE, gone).await?;
    let name = format!("shop-{v1}");
    let mut sizes: Vec<(i64, std::time::Instant)> = space.record().look(|seen| {
        let history = seen.history("Deployment").filter(|event| event.name == name);
        history.filter_map(|event| Some((event.object["spec"]["replicas"].as_i64()?, event.at))).collect()
    });
    sizes.dedup_by_key(|(size, _)| *size);
    let seen: Vec<i64> = sizes.iter().map(|(size, _)| *size).collect();
    ensure!(seen == [4, 2, 0], "the old revision went {seen:?}");
    let between = sizes[2].1.duration_since(sizes[1].1);
    ensure!(between >= Duration::from_secs(2), "the second batch came {between:?} after the first");
    println!("4 old pods: 2, and after {between:?} the other 2");
    Ok(())
}

async fn canary_by_steps(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let v1 = space.roll_out("shop", &canary("v1", 4)).await?.stable.context("no v1")?;
    let generation = space.apply("shop", &canary("v2", 4)).await?;
    let paused = space.wait_phase("shop", generation, Phase::Paused, PATIENCE).await?;
    let candidate = paused.candidate.clone().context("no candidate")?;
    ensure!(candidate.weight == Some(25) && candidate.step == 1, "{candidate:#?}");
    let quarter = |seen: &Seen| {
        let sizes = (ready(seen, &v1), ready(seen, &candidate.revision));
        (sizes == (3, 1)).then_some(())
    };
    space.wait("three pods and one", PATIENCE, quarter).await?;
    // The step that was left behind is not the present one any more.
    let stale = answered(&space, generation, &format!("promote {}/0", target(&paused)?)).await?;
    ensure!(stale.last_command.map(|c| c.answer) == Some(CommandAnswer::Ignored), "a stale promote worked");
    accepted(&space, generation, &format!("promote {}/1", target(&paused)?)).await?;
    let healthy = space.wait_phase("shop", generation, Phase::Healthy, PATIENCE).await?;
    ensure!(healthy.stable.as_ref() == Some(&candidate.revision), "{healthy:#?}");
    let name = format!("shop-{}", candidate.revision);
    let mut sizes: Vec<i64> = space.record().look(|seen| {
        let history = seen.history("Deployment").filter(|event| event.name == name);
        history.filter_map(|event| event.object["spec"]["replicas"].as_i64()).collect()
    });
    sizes.dedup();
    ensure!(sizes.starts_with(&[1, 2]) && sizes.last() == Some(&4), "the canary went {sizes:?}");
    println!("the canary's pods: {sizes:?}");
    Ok(())
}

async fn canary_aborted_at_a_step(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let first = space.roll_out("shop", &canary("v1", 4)).await?;
    let generation = space.apply("shop", &canary("v2", 4)).await?;
    let paused = space.wait_phase("shop", generation, Phase::Paused, PATIENCE).await?;
    accepted(&space, generation, &format!("abort {}", target(&paused)?)).await?;
    let aborted = space.wait_phase("shop", generation, Phase::Aborted, PATIENCE).await?;
    ensure!(aborted.stable == first.stable && aborted.ready_replicas == 4, "{aborted:#?}");
    let retried = accepted(&space, generation, &format!("retry {}", target(&aborted)?)).await?;
    ensure!(
        retried.attempt == 3 && retried.candidate.is_some_and(|c| c.step == 0),
        "it goes on where it was"
    );
    let again = space.wait_phase("shop", generation, Phase::Paused, PATIENCE).await?;
    accepted(&space, generation, &format!("promote-full {}", target(&again)?)).await?;
    let healthy = space.wait_phase("shop", generation, Phase::Healthy, PATIENCE).await?;
    ensure!(healthy.previous == first.stable, "{healthy:#?}");
    Ok(())
}

/// Reported, never refused: an autoscaler may come to one pod at any time.
async fn one_pod_cannot_be_split(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let spec = |tag: &str| {
        let mut spec = canary(tag, 1);
        spec["strategy"]["canary"]["maxSurge"] = json!(0);
        spec["strategy"]["canary"]["maxUnavailable"] = json!(1);
        spec
    };
    space.roll_out("shop", &spec("v1")).await?;
    let generation = space.apply("shop", &spec("v2")).await?;
    let said = |seen: &Seen| {
        let status = seen.status("shop")?;
        condition(&status, "WeightsUnattainable").is_some().then_some(())
    };
    space.wait("the condition", PATIENCE, said).await?;
    let healthy = space.wait_phase("shop", generation, Phase::Healthy, PATIENCE).await?;
    ensure!(condition(&healthy, "WeightsUnattainable").is_none(), "{healthy:#?}");
    Ok(())
}

async fn rolled_back_by_a_command(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let settings = json!({"bake": "0s", "keepOld": "1h"});
    let first = space.roll_out("shop", &blue_green("v1", &settings)).await?;
    let second = space.roll_out("shop", &blue_green("v2", &settings)).await?;
    let v1 = first.stable.clone().context("no v1")?;
    let empty = |seen: &Seen| (ready(seen, &v1) == 0).then_some(());
    space.wait("no pods of v1", PATIENCE, empty).await?;
    let generation = second.observed_generation;
    accepted(&space, generation, &format!("rollback {}", stable_target(&second)?)).await?;
    let back = space.wait_phase("shop", generation, Phase::RolledBack, PATIENCE).await?;
    ensure!(back.stable == first.stable && back.previous == second.stable, "{back:#?}");
    ensure!(condition(&back, "Stalled").is_some() && back.ready_replicas == 2, "{back:#?}");
    let outcome = back.history.first().map(|entry| entry.outcome);
    ensure!(outcome == Some(Outcome::RolledBack), "{:?}", back.history);
    // The same spec applied again by a GitOps tool is no new spec.
    let again = space.apply("shop", &blue_green("v2", &settings)).await?;
    ensure!(again == generation, "the same spec made generation {again}");
    let fixed = space.roll_out("shop", &blue_green("v3", &settings)).await?;
    ensure!(fixed.previous == first.stable, "{fixed:#?}");
    Ok(())
}

async fn stale_and_repeated_commands_change_nothing(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let first = space.roll_out("shop", &plain("v1")).await?;
    let generation = first.observed_generation;
    let target = stable_target(&first)?;
    for (text, wanted) in [
        ("abort 0000000000/1".to_owned(), CommandAnswer::Ignored),
        (format!("abort {target}"), CommandAnswer::Ignored),
        (format!("promote {target}"), CommandAnswer::Refused),
        (format!("retry {target}"), CommandAnswer::Refused),
        (format!("rollback {target}"), CommandAnswer::Refused),
        (format!("rollback {target} 0123456789"), CommandAnswer::Refused),
        (format!("restart {target}/7"), CommandAnswer::Ignored),
        ("make coffee".to_owned(), CommandAnswer::Refused),
    ] {
        let status = answered(&space, generation, &text).await?;
        let command = status.last_command.clone().context("no command")?;
        ensure!(command.answer == wanted && command.n == 0, "{text}: {command:?}");
        ensure!(status.phase == Some(Phase::Healthy) && status.attempt == 1, "{text}: {status:#?}");
    }
    let templates = space.record().look(fixtures::templates);
    space.kubectl(&["annotate", "phoenixapp/shop", &format!("{}-", labels::COMMAND)], None).await?;
    let removed = |seen: &Seen| {
        let app = seen.get("PhoenixApp", "shop")?;
        app["metadata"]["annotations"].get(labels::COMMAND).is_none().then_some(())
    };
    space.wait("the annotation to be gone", PATIENCE, removed).await?;
    ensure!(space.record().look(fixtures::templates) == templates, "a Deployment was written");
    Ok(())
}

async fn paused_and_resumed(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let first = space.roll_out("shop", &plain("v1")).await?;
    let v1 = first.stable.clone().context("no v1")?;
    let generation = first.observed_generation;
    accepted(&space, generation, &format!("pause {}/1", stable_target(&first)?)).await?;
    let generation = space.apply("shop", &plain("v2")).await?;
    let paused = space.wait_phase("shop", generation, Phase::Paused, PATIENCE).await?;
    ensure!(space.record().look(|seen| ready(seen, &v1)) == 2, "pods of v1 went: {paused:#?}");
    accepted(&space, generation, &format!("resume {}/2", target(&paused)?)).await?;
    let healthy = space.wait_phase("shop", generation, Phase::Healthy, PATIENCE).await?;
    ensure!(healthy.previous == Some(v1), "{healthy:#?}");
    Ok(())
}

async fn restarted_by_a_command(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let first = space.roll_out("shop", &plain("v1")).await?;
    let pods = space.record().look(|seen| pod_uids(seen, "shop"));
    accepted(&space, first.observed_generation, &format!("restart {}/1", stable_target(&first)?)).await?;
    let replaced = |seen: &Seen| {
        let now = pod_uids(seen, "shop");
        let ready = ready(seen, first.stable.as_deref()?);
        (now.len() == 2 && ready == 2 && now.is_disjoint(&pods)).then_some(())
    };
    space.wait("other pods", PATIENCE, replaced).await?;
    // The next rollout leaves the revision's template as it is, and starts its own pods once.
    space.roll_out("shop", &plain("v2")).await?;
    Ok(())
}

async fn a_failure_waits_for_a_person(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let spec = |tag: &str| {
        let mut spec = impatient(plain(tag), 4);
        spec["strategy"]["onFailure"] = json!("Pause");
        spec
    };
    let first = space.roll_out("shop", &spec("v1")).await?;
    let generation = space.apply("shop", &spec("notready")).await?;
    let failed = space.wait_phase("shop", generation, Phase::Failed, PATIENCE).await?;
    let v2 = failed.candidate.clone().context("no candidate")?;
    ensure!(v2.verdict.as_ref().is_some_and(|verdict| verdict.held), "{v2:#?}");
    ensure!(condition(&failed, "Stalled").is_some() && failed.ready_replicas == 2, "{failed:#?}");
    ensure!(!space.record().look(|seen| seen.web_pods("shop").len() == 2), "the failed pods went");
    accepted(&space, generation, &format!("abort {}", target(&failed)?)).await?;
    let aborted = space.wait_phase("shop", generation, Phase::Aborted, PATIENCE).await?;
    ensure!(aborted.stable == first.stable, "{aborted:#?}");
    Ok(())
}

async fn the_strategy_changes_at_rest(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let first = space.roll_out("shop", &plain("v1")).await?;
    let pods = space.record().look(|seen| pod_uids(seen, "shop"));
    let templates = space.record().look(fixtures::templates);
    for spec in [
        blue_green("v1", &json!({})),
        canary("v1", 2),
        with(plain("v1"), &json!({"strategy": {"type": "Recreate"}})),
        plain("v1"),
    ] {
        let status = space.roll_out("shop", &spec).await?;
        ensure!(status.stable == first.stable && status.attempt == 1, "{status:#?}");
    }
    ensure!(space.record().look(|seen| pod_uids(seen, "shop")) == pods, "pods were restarted");
    let hashes = |all: &std::collections::BTreeMap<String, (i64, std::collections::BTreeSet<String>)>| {
        all.values().map(|(_, hashes)| hashes.clone()).collect::<Vec<_>>()
    };
    ensure!(hashes(&space.record().look(fixtures::templates)) == hashes(&templates), "templates changed");
    Ok(())
}

/// The attempt under way keeps what it began with.
async fn the_strategy_changes_in_mid_flight(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let first = space.roll_out("shop", &canary("v1", 4)).await?;
    let generation = space.apply("shop", &canary("v2", 4)).await?;
    space.wait_phase("shop", generation, Phase::Paused, PATIENCE).await?;
    let other = with(blue_green("v2", &json!({"bake": "0s"})), &json!({"replicas": 4}));
    let generation = space.apply("shop", &other).await?;
    let paused = space.wait_phase("shop", generation, Phase::Paused, PATIENCE).await?;
    ensure!(paused.attempt == 2, "{paused:#?}");
    // A third release is blue-green: requests return to v1, and only then it stands beside.
    let other = with(blue_green("v3", &json!({"bake": "0s"})), &json!({"replicas": 4}));
    let third = space.roll_out("shop", &other).await?;
    ensure!(third.previous == first.stable, "{third:#?}");
    let v2 = space.record().look(|seen| revision_of(seen, &fixtures::image("v2"))).context("no v2")?;
    ensure!(space.record().look(|seen| ready(seen, &v2)) == 0, "pods of v2 are left");
    Ok(())
}

/// As after the restoration of a backup, which holds no status.
async fn a_lost_status_is_made_anew(space: Arc<Space>) -> Result<()> {
    let mut operator = space.operator().await?;
    space.roll_out("shop", &plain("v1")).await?;
    let second = space.roll_out("shop", &plain("v2")).await?;
    let generation = space.apply("shop", &impatient(plain("notready"), 4)).await?;
    let failed = space.wait_phase("shop", generation, Phase::Failed, PATIENCE).await?;
    let pods = space.record().look(|seen| pod_uids(seen, "shop"));
    operator.kill9().await?;
    let lost = json!({"status": {"observedGeneration": -1}}).to_string();
    let patch = ["patch", "phoenixapp/shop", "--subresource=status", "--type=merge", "-p"];
    let nothing = json!({"status": null}).to_string();
    space.kubectl(&[patch.as_slice(), &[&nothing]].concat(), None).await?;
    space.kubectl(&[patch.as_slice(), &[&lost]].concat(), None).await?;
    let blank = |seen: &Seen| seen.status("shop").is_some_and(|status| status.stable.is_none()).then_some(());
    space.wait("the status to be lost", PATIENCE, blank).await?;
    operator.restart()?;
    let again = space.wait_phase("shop", generation, Phase::Failed, PATIENCE).await?;
    ensure!(again.stable == second.stable && again.previous == second.previous, "{again:#?}");
    ensure!(again.attempt == failed.attempt && again.promotion == failed.promotion, "{again:#?}");
    ensure!(again.candidate.as_ref().map(|c| &c.revision) == failed.candidate.as_ref().map(|c| &c.revision));
    ensure!(space.record().look(|seen| pod_uids(seen, "shop")) == pods, "pods changed");
    space.wait("the facts that follow", PATIENCE, |seen| settled(seen, "shop").or(Some(()))).await?;
    let deployments = space.record().look(|seen| seen.all("Deployment").count());
    ensure!(deployments >= 2, "{deployments} Deployments");
    let fixed = space.roll_out("shop", &plain("v4")).await?;
    ensure!(fixed.previous == second.stable && fixed.attempt == failed.attempt + 1, "{fixed:#?}");
    Ok(())
}
