//! Killed at any moment and started again, the operator ends where it would have ended, by the same creates and
//! deletes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use e2e::audit::{Audit, OPERATOR, Request};
use e2e::end::{made_and_deleted, objects};
use e2e::fixtures::{self, PATIENCE, image, migrating, revision_of, with};
use e2e::harness::{Lab, Seen, Space};
use phoenix_operator::api::{Phase, labels};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// What a rollout came to.
#[derive(Clone, Debug, PartialEq)]
struct End {
    /// How often each object was made and deleted.
    effects: BTreeMap<String, (usize, usize)>,
    /// What there is, by kind and name, as JSON.
    objects: BTreeMap<String, String>,
}

static ENDS: Mutex<BTreeMap<&'static str, End>> = Mutex::new(BTreeMap::new());

#[tokio::test(flavor = "multi_thread")]
async fn kills_change_nothing() -> Result<()> {
    let lab = Lab::fake().await?;
    let cases = e2e::cases![
        left_alone,
        killed_at_the_apply,
        killed_when_the_candidate_is_chosen,
        killed_when_the_revision_is_stored,
        killed_when_the_job_is_made,
        killed_when_the_migration_has_succeeded,
        killed_when_the_migration_is_recorded,
        killed_when_the_deployment_is_made,
        killed_when_the_first_pod_is_ready,
        killed_when_the_old_are_scaled_down,
        killed_when_promoted,
        killed_at_every_moment,
    ];
    fixtures::run(&lab, 2, cases).await?;
    let ends = ENDS.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(alone) = ends.get("left_alone") else { return Ok(()) };
    for (name, end) in ends.iter() {
        ensure!(end.effects == alone.effects, "{name}: {:#?}\nleft alone: {:#?}", end.effects, alone.effects);
        let same = |(object, end): &(&String, &String)| alone.objects.get(*object) == Some(end);
        let others: Vec<_> = end.objects.iter().filter(|pair| !same(pair)).collect();
        ensure!(others.is_empty() && end.objects.len() == alone.objects.len(), "{name}: {others:#?}");
    }
    let made: usize = alone.effects.values().map(|(made, _)| made).sum();
    let gone: usize = alone.effects.values().map(|(_, gone)| gone).sum();
    println!(
        "{} kills or series of them: each ends the same, by {made} creates and {gone} deletes",
        ends.len() - 1
    );
    Ok(())
}

/// Killed right after each of its writes in turn, also in a blue-green and in a canary.
#[tokio::test(flavor = "multi_thread")]
async fn kills_after_each_write_change_nothing() -> Result<()> {
    let lab = Lab::fake().await?;
    for kind in ["BlueGreen", "Canary"] {
        let (alone, writes) = strategy(&lab, kind, None).await?;
        let turns = Arc::new(Semaphore::new(3));
        let mut running = JoinSet::new();
        for after in 1..=writes {
            let (lab, turns) = (Arc::clone(&lab), Arc::clone(&turns));
            running.spawn(async move {
                let _turn = turns.acquire_owned().await;
                (after, strategy(&lab, kind, Some(after)).await)
            });
        }
        let mut killed = 0;
        while let Some(ended) = running.join_next().await {
            let (after, result) = ended?;
            let (end, _) = result.with_context(|| format!("{kind}, killed after write {after}"))?;
            ensure!(
                end == alone,
                "{kind}, killed after write {after}: {:#?}\nleft alone: {:#?}",
                differing(&end, &alone),
                differing(&alone, &end)
            );
            killed += 1;
        }
        println!("{kind}: killed after each of {killed} writes, it ends the same each time");
    }
    Ok(())
}

/// What one end has that the other has not.
fn differing(one: &End, other: &End) -> (Vec<String>, Vec<String>) {
    let effects = one.effects.iter().filter(|(name, counts)| other.effects.get(*name) != Some(counts));
    let objects = one.objects.iter().filter(|(name, object)| other.objects.get(*name) != Some(object));
    (effects.map(|pair| format!("{pair:?}")).collect(), objects.map(|pair| format!("{pair:?}")).collect())
}

/// A rollout of `v2` by that strategy, the operator killed after so many of its writes. Gives back how it ended, and
/// how many writes it took.
async fn strategy(lab: &Arc<Lab>, kind: &str, kill_after: Option<usize>) -> Result<(End, usize)> {
    let name = kill_after.map_or_else(|| "alone".to_owned(), |after| format!("write-{after}"));
    let space = lab.space(&format!("{}-{name}", kind.to_lowercase())).await?;
    let spec = |tag| {
        let steps = json!([{"setWeight": 33}, {"pause": {"duration": "1s"}}, {"setWeight": 66}]);
        let strategy = json!({
            "type": kind,
            "blueGreen": {"previewReplicas": 1, "autoPromoteAfter": "1s", "bake": "0s", "keepOld": "0s"},
            "canary": {"steps": steps, "bake": "0s"},
        });
        with(migrating(tag), &json!({"replicas": 3, "strategy": strategy}))
    };
    let audit = Audit::new(space.lab().cluster().audit_log());
    let mut operator = space.operator().await?;
    space.roll_out("shop", &spec("v1")).await?;
    audit.of_operator(audit.end()?).await?;
    let start = audit.end()?;
    let generation = space.apply("shop", &spec("v2")).await?;
    if let Some(after) = kill_after {
        let (mut from, mut seen) = (start, 0);
        let began = std::time::Instant::now();
        // How often the status is written differs a little from run to run: this one may take fewer writes.
        let ended = |seen: &Seen| {
            let promoted = seen.status("shop").is_some_and(|status| status.promotion == 2);
            promoted && fixtures::settled(seen, "shop").is_some()
        };
        while seen < after && !space.record().look(ended) {
            ensure!(began.elapsed() < PATIENCE, "only {seen} of {after} writes came");
            let mine = |request: &&Request| {
                request.user == OPERATOR
                    && request.namespace == space.name()
                    && request.mutates()
                    && request.resource != "events"
            };
            seen += audit.tail(&mut from)?.iter().filter(mine).count();
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        operator.kill9().await?;
        operator.restart()?;
    }
    space.wait_phase("shop", generation, Phase::Healthy, PATIENCE).await?;
    let done = |seen: &Seen| {
        let v2 = v2(seen)?;
        let pods = seen.web_pods("shop").len() == 3 && seen.ready_pods("shop", &v2).len() == 3;
        let old = seen.all("Deployment").filter(|deployment| deployment["spec"]["replicas"] != json!(3));
        let drained = old.map(|deployment| &deployment["spec"]["replicas"]).all(|size| *size == json!(0));
        let preview = seen.get("Service", "shop-preview").is_none_or(|service| {
            service["spec"]["selector"].get(labels::REVISION) == Some(&json!(labels::NO_REVISION))
        });
        (pods && drained && preview).then(|| fixtures::settled(seen, "shop")).flatten()
    };
    space.wait("the end of all that follows", PATIENCE, done).await?;
    let requests = audit.of_operator(start).await?;
    let end = End {
        effects: space.record().look(made_and_deleted),
        objects: space.record().look(|seen| objects(seen, space.name())),
    };
    let writes =
        requests.iter().filter(|r| r.namespace == space.name() && r.mutates() && r.resource != "events");
    let writes = writes.count();
    space.judge_statuses().await?;
    operator.stop().await?;
    space.close().await?;
    Ok((end, writes))
}

type Moment = fn(&Seen) -> bool;

/// Of v2 while v1 is stable; each comes after the one before it.
const CANDIDATE: Moment = |seen| seen.status("shop").is_some_and(|status| status.candidate.is_some());
const STORED: Moment = |seen| seen.all("ControllerRevision").count() == 2;
const JOB: Moment = |seen| seen.all("Job").next().is_some();
const SUCCEEDED: Moment =
    |seen| seen.all("Job").any(|job| job.pointer("/status/succeeded").is_some_and(|count| *count == 1));
const RECORDED: Moment = |seen| {
    let recorded = |object: &&Value| object["metadata"]["annotations"].get(labels::MIGRATED).is_some();
    seen.all("ControllerRevision").filter(recorded).count() == 2
};
const DEPLOYED: Moment = |seen| seen.all("Deployment").count() == 2;
const READY: Moment = |seen| v2(seen).is_some_and(|v2| !seen.ready_pods("shop", &v2).is_empty());
const LOWERED: Moment = |seen| {
    seen.all("Deployment").any(|deployment| {
        deployment["spec"]["replicas"].as_i64() < Some(3)
            && deployment.pointer("/spec/template/spec/containers/0/image") == Some(&json!(image("v1")))
    })
};
const PROMOTED: Moment = |seen| seen.status("shop").is_some_and(|status| status.promotion == 2);

fn v2(seen: &Seen) -> Option<String> {
    revision_of(seen, &image("v2"))
}

async fn rollout(space: Arc<Space>, name: &'static str, moments: &[Moment]) -> Result<()> {
    let mut operator = space.operator().await?;
    let three = |tag| with(migrating(tag), &json!({"replicas": 3}));
    space.roll_out("shop", &three("v1")).await?;
    let generation = space.apply("shop", &three("v2")).await?;
    for moment in moments {
        space.wait("the moment to kill at", PATIENCE, |seen| moment(seen).then_some(())).await?;
        operator.kill9().await?;
        operator.restart()?;
    }
    space.wait_phase("shop", generation, Phase::Healthy, PATIENCE).await?;
    let done = |seen: &Seen| {
        let v2 = v2(seen)?;
        let pods = seen.web_pods("shop").len() == 3 && seen.ready_pods("shop", &v2).len() == 3;
        pods.then(|| fixtures::settled(seen, "shop")).flatten()
    };
    space.wait("the end of all that follows", PATIENCE, done).await?;
    let revision = space.record().look(v2).context("no v2")?;
    let pods = space.record().look(|seen| fixtures::migrated_first(seen, "shop", &revision))?;
    ensure!(pods == 1, "{pods} migration pods of v2");
    let end = End {
        effects: space.record().look(made_and_deleted),
        objects: space.record().look(|seen| objects(seen, space.name())),
    };
    ENDS.lock().unwrap_or_else(PoisonError::into_inner).insert(name, end);
    Ok(())
}

async fn left_alone(space: Arc<Space>) -> Result<()> {
    rollout(space, "left_alone", &[]).await
}

async fn killed_at_the_apply(space: Arc<Space>) -> Result<()> {
    rollout(space, "killed_at_the_apply", &[|_| true]).await
}

async fn killed_when_the_candidate_is_chosen(space: Arc<Space>) -> Result<()> {
    rollout(space, "killed_when_the_candidate_is_chosen", &[CANDIDATE]).await
}

async fn killed_when_the_revision_is_stored(space: Arc<Space>) -> Result<()> {
    rollout(space, "killed_when_the_revision_is_stored", &[STORED]).await
}

async fn killed_when_the_job_is_made(space: Arc<Space>) -> Result<()> {
    rollout(space, "killed_when_the_job_is_made", &[JOB]).await
}

async fn killed_when_the_migration_has_succeeded(space: Arc<Space>) -> Result<()> {
    rollout(space, "killed_when_the_migration_has_succeeded", &[SUCCEEDED]).await
}

async fn killed_when_the_migration_is_recorded(space: Arc<Space>) -> Result<()> {
    rollout(space, "killed_when_the_migration_is_recorded", &[RECORDED]).await
}

async fn killed_when_the_deployment_is_made(space: Arc<Space>) -> Result<()> {
    rollout(space, "killed_when_the_deployment_is_made", &[DEPLOYED]).await
}

async fn killed_when_the_first_pod_is_ready(space: Arc<Space>) -> Result<()> {
    rollout(space, "killed_when_the_first_pod_is_ready", &[READY]).await
}

async fn killed_when_the_old_are_scaled_down(space: Arc<Space>) -> Result<()> {
    rollout(space, "killed_when_the_old_are_scaled_down", &[LOWERED]).await
}

async fn killed_when_promoted(space: Arc<Space>) -> Result<()> {
    rollout(space, "killed_when_promoted", &[PROMOTED]).await
}

async fn killed_at_every_moment(space: Arc<Space>) -> Result<()> {
    let moments = [CANDIDATE, STORED, RECORDED, DEPLOYED, READY, LOWERED, PROMOTED];
    rollout(space, "killed_at_every_moment", &moments).await
}
