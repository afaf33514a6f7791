//! Two operators: one leads, the other waits. Whatever becomes of the leader, the other goes on where it was, and the one
//! that was deposed writes nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::audit::{Audit, OPERATOR, Request};
use e2e::end::{made_and_deleted, objects};
use e2e::fixtures::{self, PATIENCE, image, migrating, revision_of, with};
use e2e::harness::{Lab, Operator, Seen, Space};
use phoenix_operator::api::Phase;
use serde_json::json;

/// Longest time without a leader after one was lost: a Lease lasts for 15 s from its last renewal, those who wait look
/// when it ends, and a machine that is busy takes a while.
const LOST: Duration = Duration::from_secs(20);
/// The same after one that gave its Lease back: those who wait look every two seconds.
const GIVEN_BACK: Duration = Duration::from_secs(3);

/// What a rollout came to: how often each object was made and deleted, and what there is.
type End = (BTreeMap<String, (usize, usize)>, BTreeMap<String, String>);

static ENDS: Mutex<BTreeMap<&'static str, End>> = Mutex::new(BTreeMap::new());

#[tokio::test(flavor = "multi_thread")]
async fn another_takes_over_and_nothing_is_done_twice() -> Result<()> {
    let lab = Lab::fake().await?;
    let cases = e2e::cases![left_alone, killed, asked_to_stop, stalled];
    // Times are measured.
    fixtures::run(&lab, 1, cases).await?;
    let ends = ENDS.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(alone) = ends.get("left_alone") else { return Ok(()) };
    for (name, end) in ends.iter() {
        ensure!(end == alone, "{name}: {end:#?}\nleft alone: {alone:#?}");
    }
    Ok(())
}

/// Two operators, of which the first leads, in the middle of a rollout.
struct Pair {
    space: Arc<Space>,
    audit: Audit,
    first: Operator,
    second: Operator,
    generation: i64,
}

impl Pair {
    async fn rolling(space: Arc<Space>) -> Result<Self> {
        let audit = Audit::new(space.lab().cluster().audit_log());
        let first = space.operator_with(&space.standing("first").await?).await?;
        leads(&first, PATIENCE).await?;
        let second = space.operator_with(&space.standing("second").await?).await?;
        ready(&second).await?;
        ensure!(!is_leader(&second).await, "two lead");
        let three = |tag| with(migrating(tag), &json!({"replicas": 3}));
        space.roll_out("shop", &three("v1")).await?;
        let generation = space.apply("shop", &three("v2")).await?;
        let begun = |seen: &Seen| {
            let v2 = revision_of(seen, &image("v2"))?;
            (!seen.ready_pods("shop", &v2).is_empty()).then_some(())
        };
        space.wait("the first pod of v2", PATIENCE, begun).await?;
        ensure!(is_leader(&first).await && !is_leader(&second).await, "the first does not lead alone");
        Ok(Self { space, audit, first, second, generation })
    }

    /// Waits until the rollout has ended, and all that follows.
    async fn end(&self, name: &'static str) -> Result<()> {
        let space = &self.space;
        space.wait_phase("shop", self.generation, Phase::Healthy, PATIENCE).await?;
        let done = |seen: &Seen| {
            let v2 = revision_of(seen, &image("v2"))?;
            let pods = seen.web_pods("shop").len() == 3 && seen.ready_pods("shop", &v2).len() == 3;
            pods.then(|| fixtures::settled(seen, "shop")).flatten()
        };
        space.wait("the end of all that follows", PATIENCE, done).await?;
        self.audit.until_rest(Duration::from_secs(2), PATIENCE, |request| self.is_write(request)).await?;
        let end = space.record().look(|seen| (made_and_deleted(seen), objects(seen, space.name())));
        ENDS.lock().unwrap_or_else(PoisonError::into_inner).insert(name, end);
        Ok(())
    }

    /// A write of either operator in this namespace, Leases aside.
    fn is_write(&self, request: &Request) -> bool {
        request.user == OPERATOR
            && request.namespace == self.space.name()
            && request.mutates()
            && request.resource != "leases"
    }

    /// Who holds the Lease, without what makes the name unique.
    async fn holder(&self) -> Result<String> {
        let holder = self.space.field("lease/phoenix-operator", "{.spec.holderIdentity}").await?;
        Ok(holder.split('_').next().unwrap_or_default().to_owned())
    }
}

async fn is_leader(operator: &Operator) -> bool {
    let text = operator.get("/metrics").await.map(|(_, text)| text).unwrap_or_default();
    text.lines().any(|line| line == "phoenix_operator_leader 1")
}

/// Waits until it leads; how long that took.
async fn leads(operator: &Operator, within: Duration) -> Result<Duration> {
    let began = Instant::now();
    while !is_leader(operator).await {
        ensure!(began.elapsed() < within, "it does not lead after {within:?}");
        // What a process knows can only be asked for.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(began.elapsed())
}

async fn ready(operator: &Operator) -> Result<()> {
    let began = Instant::now();
    loop {
        let answer = operator.get("/readyz").await;
        if answer.as_ref().is_ok_and(|(code, _)| *code == 200) {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "not ready: {answer:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn left_alone(space: Arc<Space>) -> Result<()> {
    let pair = Pair::rolling(space).await?;
    pair.end("left_alone").await?;
    ensure!(!is_leader(&pair.second).await && pair.holder().await? == "first", "it changed hands");
    Ok(())
}

async fn killed(space: Arc<Space>) -> Result<()> {
    let mut pair = Pair::rolling(space).await?;
    pair.first.kill9().await?;
    let took = leads(&pair.second, LOST).await?;
    println!("killed: the other leads after {took:?}");
    ensure!(pair.holder().await? == "second", "the Lease names {}", pair.holder().await?);
    pair.end("killed").await?;
    // Back again, it waits.
    pair.first.restart()?;
    ready(&pair.first).await?;
    ensure!(!is_leader(&pair.first).await && is_leader(&pair.second).await, "it took the Lease back");
    let transitions = pair.space.field("lease/phoenix-operator", "{.spec.leaseTransitions}").await?;
    ensure!(transitions == "1", "{transitions} transitions");
    Ok(())
}

async fn asked_to_stop(space: Arc<Space>) -> Result<()> {
    let mut pair = Pair::rolling(space).await?;
    let began = Instant::now();
    let Pair { first, second, .. } = &mut pair;
    let (stopped, led) = tokio::join!(first.stop(), leads(second, GIVEN_BACK));
    stopped?;
    println!("asked to stop: the other leads after {:?} ({:?} in all)", led?, began.elapsed());
    pair.end("asked_to_stop").await
}

/// As on a machine that stands still for a while: when it goes on, it is in the middle of a pass, and of its writes.
async fn stalled(space: Arc<Space>) -> Result<()> {
    let mut pair = Pair::rolling(space).await?;
    let began = Instant::now();
    pair.first.stall()?;
    let took = leads(&pair.second, LOST).await?;
    println!("stalled: the other leads after {took:?}");
    pair.end("stalled").await?;
    ensure!(began.elapsed() > Duration::from_secs(15), "too soon to tell anything");
    let from = pair.audit.end()?;
    pair.first.go_on()?;
    let code = pair.first.ended(Duration::from_secs(5)).await?;
    ensure!(code == Some(1), "it ended with {code:?}");
    let mut late = pair.audit.of_operator(from).await?;
    late.retain(|request| pair.is_write(request));
    ensure!(late.iter().all(|request| request.code >= 400), "a deposed one wrote: {late:#?}");
    println!("stalled: {} late writes, all refused", late.len());
    let log = std::fs::read_to_string(pair.first.log()).context("reading the log of the first")?;
    ensure!(log.contains("not the leader any more"), "it does not say why it ended");
    ensure!(is_leader(&pair.second).await && pair.holder().await? == "second", "the second leads no more");
    let scaled = json!({"spec": {"replicas": 2}}).to_string();
    pair.space.kubectl(&["patch", "phoenixapp/shop", "--type=merge", "-p", &scaled], None).await?;
    let two = |seen: &Seen| (seen.status("shop")?.ready_replicas == 2).then_some(());
    pair.space.wait("what the second does of a change", PATIENCE, two).await
}
