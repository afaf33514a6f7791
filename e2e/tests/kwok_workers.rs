//! Workers on a real API server: they follow the stable revision, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::audit::Audit;
use e2e::fixtures::{self, PATIENCE, condition, label, message, plain, templates, with};
use e2e::harness::{Change, Lab, Seen, Space};
use phoenix_operator::api::{CommandAnswer, Outcome, Phase, PhoenixAppStatus, labels};
use serde_json::{Value, json};

/// How long nothing is asked before it counts as rest.
const REST: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn workers() -> Result<()> {
    let lab = Lab::fake().await?;
    let cases = e2e::cases![
        a_promotion_switches_them,
        a_rollback_takes_them_back,
        a_crash_fails_the_bake,
        one_that_the_spec_drops_goes,
        replicas_and_strategy_are_live,
        what_people_change_is_put_right,
        a_lost_revision_keeps_them,
        a_restart_covers_them,
        at_rest_nothing_is_asked,
        left_alone,
        killed_when_promoted,
        killed_when_the_new_are_made,
        killed_when_the_old_are_lowered,
        killed_at_every_moment,
    ];
    fixtures::run(&lab, 2, cases).await?;
    let ends = ENDS.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(alone) = ends.get("left_alone") else { return Ok(()) };
    for (name, end) in ends.iter() {
        ensure!(end.0 == alone.0, "{name} made and deleted {:?}, left alone {:?}", end.0, alone.0);
        ensure!(end.1 == alone.1, "{name}: there are {:#?}, left alone {:#?}", end.1, alone.1);
    }
    println!("{} kills or series of them end as if there had been none", ends.len() - 1);
    Ok(())
}

/// Two web pods, two of a Rolling worker, one of a Recreate worker.
fn spec(tag: &str) -> Value {
    with(
        plain(tag),
        &json!({"workers": [
            {"name": "jobs", "replicas": 2, "command": ["/app/bin/shop", "start"]},
            {"name": "clock", "strategy": "Recreate"},
        ]}),
    )
}

fn canary(tag: &str, bake: &str) -> Value {
    let steps = json!([{"setWeight": 50}, {"pause": {}}]);
    with(spec(tag), &json!({"strategy": {"type": "Canary", "canary": {"steps": steps, "bake": bake}}}))
}

/// Pods of a worker that are not going, by revision.
fn pods(seen: &Seen, worker: &str) -> BTreeMap<String, usize> {
    let mut pods = BTreeMap::new();
    let alive = |pod: &&Value| pod.pointer("/metadata/deletionTimestamp").is_none();
    for pod in seen.all("Pod").filter(|pod| label(pod, labels::WORKER) == worker).filter(alive) {
        *pods.entry(label(pod, labels::REVISION).to_owned()).or_default() += 1;
    }
    pods
}

fn only(revision: &str, count: usize) -> BTreeMap<String, usize> {
    [(revision.to_owned(), count)].into()
}

/// All workers are those of this revision, and nothing is left of others.
fn switched(seen: &Seen, revision: &str) -> Option<()> {
    let others = seen.all("Deployment").any(|deployment| {
        !label(deployment, labels::WORKER).is_empty() && label(deployment, labels::REVISION) != revision
    });
    (pods(seen, "jobs") == only(revision, 2) && pods(seen, "clock") == only(revision, 1) && !others)
        .then_some(())
}

async fn rolled_out(space: &Space, spec: &Value) -> Result<PhoenixAppStatus> {
    let status = space.roll_out("shop", spec).await?;
    let stable = status.stable.clone().context("nothing is stable")?;
    space.wait("its workers, and no others", PATIENCE, |seen| switched(seen, &stable)).await?;
    Ok(status)
}

/// There were never two revisions of the Recreate worker, nor of any worker before the first promotion.
fn judge(seen: &Seen) -> Result<()> {
    let mut clocks: BTreeMap<String, String> = BTreeMap::new();
    for event in seen.history("Pod").filter(|event| label(&event.object, labels::WORKER) == "clock") {
        match event.change {
            Change::Deleted => drop(clocks.remove(&event.name)),
            Change::Applied => {
                clocks.insert(event.name.clone(), label(&event.object, labels::REVISION).to_owned());
            }
        }
        let revisions: BTreeSet<&String> = clocks.values().collect();
        ensure!(revisions.len() <= 1, "two revisions of a Recreate worker at once: {clocks:?}");
    }
    let promoted = |revision: &str| {
        let named = |event: &&e2e::harness::Event| {
            event.object.pointer("/status/stable").and_then(Value::as_str) == Some(revision)
        };
        seen.history("PhoenixApp").find(named).map(|event| event.revision)
    };
    for event in seen.history("Pod").filter(|event| !label(&event.object, labels::WORKER).is_empty()) {
        let revision = label(&event.object, labels::REVISION);
        let recorded = promoted(revision).with_context(|| format!("{revision} was never promoted"))?;
        ensure!(recorded < event.revision, "a worker of {revision} was there before it was promoted");
    }
    Ok(())
}

async fn accepted(space: &Space, generation: i64, text: &str) -> Result<()> {
    space.command("shop", text).await?;
    let answered = |status: &PhoenixAppStatus| {
        status.last_command.as_ref().is_some_and(|c| c.text == text && c.answer == CommandAnswer::Accepted)
    };
    space.wait_for("shop", generation, "an answer", PATIENCE, answered).await?;
    Ok(())
}

fn target(status: &PhoenixAppStatus) -> Result<String> {
    let stable = status.stable.as_deref().context("nothing is stable")?;
    let candidate = status.candidate.as_ref().map(|candidate| candidate.revision.as_str());
    Ok(format!("{}/{}", candidate.unwrap_or(stable), status.attempt))
}

async fn a_promotion_switches_them(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let first = rolled_out(&space, &canary("v1", "0s")).await?;
    let v1 = first.stable.clone().context("nothing is stable")?;
    let generation = space.apply("shop", &canary("v2", "0s")).await?;
    let paused = space.wait_phase("shop", generation, Phase::Paused, PATIENCE).await?;
    ensure!(space.record().look(|seen| switched(seen, &v1)).is_some(), "a candidate has workers");
    accepted(&space, generation, &format!("promote {}", target(&paused)?)).await?;
    let healthy = space.wait_phase("shop", generation, Phase::Healthy, PATIENCE).await?;
    let v2 = healthy.stable.clone().context("nothing is stable")?;
    ensure!(healthy.workers.iter().all(|worker| worker.revision == v2), "{healthy:#?}");
    space.wait("the new workers, and no others", PATIENCE, |seen| switched(seen, &v2)).await?;
    space.record().look(|seen| {
        let active = &seen.get("Service", "shop").context("no Service")?["spec"]["selector"];
        ensure!(active.get(labels::COMPONENT) == Some(&json!(labels::WEB)), "{active}");
        // Their Rolling pods come first: there were never fewer than two.
        let mut jobs = BTreeSet::new();
        let mut least = usize::MAX;
        for event in seen.history("Pod").filter(|event| label(&event.object, labels::WORKER) == "jobs") {
            let going = event.change == Change::Deleted
                || event.object.pointer("/metadata/deletionTimestamp").is_some();
            if going {
                jobs.remove(&event.name)
            } else {
                jobs.insert(event.name.clone())
            };
            if going || least < usize::MAX {
                least = least.min(jobs.len());
            }
        }
        ensure!(least >= 2, "only {least} pods of jobs at one time");
        judge(seen)
    })
}

async fn a_rollback_takes_them_back(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let first = rolled_out(&space, &spec("v1")).await?;
    let second = rolled_out(&space, &spec("v2")).await?;
    let generation = second.observed_generation;
    accepted(&space, generation, &format!("rollback {}", target(&second)?)).await?;
    let back = space.wait_phase("shop", generation, Phase::RolledBack, PATIENCE).await?;
    ensure!(back.stable == first.stable, "{back:#?}");
    let v1 = first.stable.context("nothing was stable")?;
    space.wait("the first workers again", PATIENCE, |seen| switched(seen, &v1)).await?;
    space.record().look(judge)
}

/// A pod says so; on a fake node somebody else has to write it.
async fn a_crash_fails_the_bake(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let first = rolled_out(&space, &canary("v1", "1h")).await?;
    let generation = space.apply("shop", &canary("v2", "1h")).await?;
    let paused = space.wait_phase("shop", generation, Phase::Paused, PATIENCE).await?;
    accepted(&space, generation, &format!("promote {}", target(&paused)?)).await?;
    let baking = space.wait_phase("shop", generation, Phase::Healthy, PATIENCE).await?;
    ensure!(baking.bake.is_some(), "{baking:#?}");
    let v2 = baking.stable.clone().context("nothing is stable")?;
    space.wait("the new workers", PATIENCE, |seen| switched(seen, &v2)).await?;
    // One that is up: who plays the kubelet writes nothing more about it.
    let up = |seen: &Seen| {
        let mut pods = seen.all("Pod").filter(|pod| {
            label(pod, labels::WORKER) == "jobs"
                && label(pod, labels::REVISION) == v2
                && pod.pointer("/metadata/deletionTimestamp").is_none()
                && seen.is_ready(pod["metadata"]["name"].as_str().unwrap_or_default())
        });
        pods.find_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned))
    };
    let pod = space.wait("a pod of the worker that is up", PATIENCE, up).await?;
    let patch = json!({"status": {
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [{"name": "app", "image": "x", "imageID": "", "ready": false, "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}}],
    }});
    let patch = patch.to_string();
    space
        .kubectl(&["patch", "pod", &pod, "--subresource=status", "--type=strategic", "-p", &patch], None)
        .await?;
    let failed = space.wait_phase("shop", generation, Phase::Failed, PATIENCE).await?;
    ensure!(failed.stable == first.stable, "{failed:#?}");
    let verdict =
        failed.candidate.as_ref().and_then(|candidate| candidate.verdict.clone()).context("no verdict")?;
    ensure!(verdict.outcome == Outcome::Failed && verdict.reason == "WorkersNotReady", "{verdict:#?}");
    ensure!(
        verdict.message.contains("worker jobs") && verdict.message.contains("exit code 1"),
        "{verdict:#?}"
    );
    let v1 = first.stable.context("nothing was stable")?;
    space.wait("the first workers again", PATIENCE, |seen| switched(seen, &v1)).await?;
    space.record().look(judge)
}

async fn one_that_the_spec_drops_goes(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    rolled_out(&space, &spec("v1")).await?;
    let mut without = spec("v1");
    without["workers"].as_array_mut().context("no workers")?.truncate(1);
    let second = space.roll_out("shop", &without).await?;
    ensure!(second.promotion == 2 && second.workers.len() == 1, "{second:#?}");
    let gone = |seen: &Seen| {
        let clocks = seen.all("Deployment").filter(|one| label(one, labels::WORKER) == "clock").count();
        (pods(seen, "clock").is_empty() && clocks == 0).then_some(())
    };
    space.wait("the worker to be gone", PATIENCE, gone).await
}

async fn replicas_and_strategy_are_live(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let first = rolled_out(&space, &spec("v1")).await?;
    let v1 = first.stable.clone().context("nothing is stable")?;
    let before: BTreeSet<String> = space.record().look(uids);
    let mut more = spec("v1");
    more["workers"][0]["replicas"] = json!(4);
    more["workers"][0]["strategy"] = json!("Recreate");
    let generation = space.apply("shop", &more).await?;
    space.wait("four pods", PATIENCE, |seen| (pods(seen, "jobs") == only(&v1, 4)).then_some(())).await?;
    let status = space.wait_phase("shop", generation, Phase::Healthy, PATIENCE).await?;
    ensure!(status.attempt == 1 && status.stable == first.stable, "a new revision: {status:#?}");
    ensure!(space.record().look(uids).is_superset(&before), "pods were replaced");
    Ok(())
}

/// UIDs of the workers' pods.
fn uids(seen: &Seen) -> BTreeSet<String> {
    let workers = seen.all("Pod").filter(|pod| !label(pod, labels::WORKER).is_empty());
    workers.map(|pod| pod["metadata"]["uid"].to_string()).collect()
}

async fn what_people_change_is_put_right(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let first = rolled_out(&space, &spec("v1")).await?;
    let v1 = first.stable.clone().context("nothing is stable")?;
    for worker in ["jobs", "clock"] {
        let name = format!("shop-{worker}-{v1}");
        let uid = space.field(&format!("deployment/{name}"), "{.metadata.uid}").await?;
        space.kubectl(&["delete", "deployment", &name], None).await?;
        let back = |seen: &Seen| {
            let deployment = seen.get("Deployment", &name)?;
            (deployment["metadata"]["uid"] != uid.as_str()).then_some(())
        };
        space.wait("another Deployment", PATIENCE, back).await?;
        space.wait("its pods", PATIENCE, |seen| switched(seen, &v1)).await?;
        space.kubectl(&["scale", "deployment", &name, "--replicas=3"], None).await?;
        space
            .kubectl(&["set", "image", &format!("deployment/{name}"), "*=registry.local/shop:edited"], None)
            .await?;
        let stored = |seen: &Seen| {
            let deployment = seen.get("Deployment", &name)?;
            let image = deployment.pointer("/spec/template/spec/containers/0/image")?;
            let settled = deployment["metadata"]["generation"] == deployment["status"]["observedGeneration"];
            (*image == fixtures::image("v1").as_str() && settled).then(|| switched(seen, &v1)).flatten()
        };
        space.wait("the stored template and size", PATIENCE, stored).await?;
    }
    let healthy = space.wait_phase("shop", first.observed_generation, Phase::Healthy, PATIENCE).await?;
    ensure!(healthy.attempt == 1 && healthy.promotion == 1, "a repair is no rollout: {healthy:#?}");
    space.record().look(judge)
}

/// Their templates are what runs, never rendered anew.
async fn a_lost_revision_keeps_them(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let first = rolled_out(&space, &spec("v1")).await?;
    let v1 = first.stable.clone().context("nothing is stable")?;
    let before = space.record().look(templates);
    let name = format!("shop-{v1}");
    let uid = space.field(&format!("controllerrevision/{name}"), "{.metadata.uid}").await?;
    space.kubectl(&["delete", "controllerrevision", &name], None).await?;
    let back = |seen: &Seen| {
        let revision = seen.get("ControllerRevision", &name)?;
        let held = revision.pointer("/data/workers").and_then(Value::as_object).map(serde_json::Map::len);
        (revision["metadata"]["uid"] != uid.as_str() && held == Some(2)).then_some(())
    };
    space.wait("the revision with its workers", PATIENCE, back).await?;
    space.wait_phase("shop", first.observed_generation, Phase::Healthy, PATIENCE).await?;
    ensure!(space.record().look(templates) == before, "a Deployment was written");
    Ok(())
}

async fn a_restart_covers_them(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let first = rolled_out(&space, &spec("v1")).await?;
    let v1 = first.stable.clone().context("nothing is stable")?;
    let before = space.record().look(uids);
    accepted(&space, first.observed_generation, &format!("restart {}/1", target(&first)?)).await?;
    let other = |seen: &Seen| {
        let now = uids(seen);
        (now.is_disjoint(&before)).then(|| switched(seen, &v1)).flatten()
    };
    space.wait("other pods", PATIENCE, other).await
}

async fn at_rest_nothing_is_asked(space: Arc<Space>) -> Result<()> {
    let audit = Audit::new(space.lab().cluster().audit_log());
    let _operator = space.operator().await?;
    rolled_out(&space, &spec("v1")).await?;
    let second = rolled_out(&space, &spec("v2")).await?;
    ensure!(condition(&second, "Ready") == Some(("True", "Serving")), "{}", message(&second, "Ready"));
    let mut asked = Vec::new();
    for _ in 0..6 {
        let from = audit.end()?;
        // A measurement: how long nothing is asked can only be told by the clock.
        tokio::time::sleep(REST).await;
        let requests = audit.of_operator(from).await?;
        asked = requests.into_iter().filter(|r| r.namespace == space.name() && r.verb != "watch").collect();
        if asked.is_empty() {
            return Ok(());
        }
    }
    anyhow::bail!("never quiet: {asked:#?}")
}

/// What a rollout came to: how often each object was made and deleted, and the sizes and templates of what is there.
type End = (BTreeMap<String, (usize, usize)>, BTreeMap<String, String>);

static ENDS: Mutex<BTreeMap<&'static str, End>> = Mutex::new(BTreeMap::new());

type Moment = fn(&Seen) -> bool;

const PROMOTED: Moment = |seen| seen.status("shop").is_some_and(|status| status.promotion == 2);
const MADE: Moment = |seen| {
    let jobs = seen.all("Deployment").filter(|one| label(one, labels::WORKER) == "jobs");
    jobs.count() == 2
};
const LOWERED: Moment = |seen| {
    seen.history("Deployment").any(|event| {
        label(&event.object, labels::WORKER) == "jobs" && event.object["spec"]["replicas"] == json!(0)
    })
};

async fn rollout(space: Arc<Space>, name: &'static str, moments: &[Moment]) -> Result<()> {
    let mut operator = space.operator().await?;
    rolled_out(&space, &spec("v1")).await?;
    let generation = space.apply("shop", &spec("v2")).await?;
    for moment in moments {
        space.wait("the moment to kill at", PATIENCE, |seen| moment(seen).then_some(())).await?;
        operator.kill9().await?;
        operator.restart()?;
    }
    let healthy = space.wait_phase("shop", generation, Phase::Healthy, PATIENCE).await?;
    let v2 = healthy.stable.context("nothing is stable")?;
    let scaled_down = |seen: &Seen| {
        let others = |one: &&Value| label(one, labels::REVISION) != v2;
        seen.all("Deployment").filter(others).all(|one| one["spec"]["replicas"] == 0)
    };
    let done = |seen: &Seen| {
        let ended = switched(seen, &v2).and_then(|()| fixtures::settled(seen, "shop"));
        ended.filter(|()| scaled_down(seen))
    };
    space.wait("the end of all that follows", PATIENCE, done).await?;
    let end = space.record().look(|seen| {
        judge(seen)?;
        let mut made: BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
        for event in seen.history("Deployment") {
            let (all, gone) = made.entry(event.name.clone()).or_default();
            let uid = event.object["metadata"]["uid"].to_string();
            if event.change == Change::Deleted {
                gone.insert(uid.clone());
            }
            all.insert(uid);
        }
        let made = made.into_iter().map(|(name, (all, gone))| (name, (all.len(), gone.len()))).collect();
        let there = seen.all("Deployment").map(|one| {
            let spec = json!([one["spec"]["replicas"], one["spec"]["template"]]).to_string();
            let name = one["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            (name, spec.replace(space.name(), "here"))
        });
        anyhow::Ok((made, there.collect()))
    })?;
    ENDS.lock().unwrap_or_else(PoisonError::into_inner).insert(name, end);
    Ok(())
}

async fn left_alone(space: Arc<Space>) -> Result<()> {
    rollout(space, "left_alone", &[]).await
}

async fn killed_when_promoted(space: Arc<Space>) -> Result<()> {
    rollout(space, "killed_when_promoted", &[PROMOTED]).await
}

async fn killed_when_the_new_are_made(space: Arc<Space>) -> Result<()> {
    rollout(space, "killed_when_the_new_are_made", &[MADE]).await
}

async fn killed_when_the_old_are_lowered(space: Arc<Space>) -> Result<()> {
    rollout(space, "killed_when_the_old_are_lowered", &[LOWERED]).await
}

async fn killed_at_every_moment(space: Arc<Space>) -> Result<()> {
    rollout(space, "killed_at_every_moment", &[PROMOTED, MADE, LOWERED]).await
}
