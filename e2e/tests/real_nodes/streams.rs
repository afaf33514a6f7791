//! Open streams in a blue-green: told batch by batch, after requests moved, and back on the new revision only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use e2e::harness::{Seen, Space};
use e2e::load::StreamEvent;
use phoenix_operator::api::{Phase, labels};
use serde_json::{Value, json};

use crate::shop::{self, PATIENCE, SHOP};

const PODS: usize = 4;
/// Pods that may stop together.
const BATCH: usize = 2;
/// From one batch to the next.
const INTERVAL: Duration = Duration::from_secs(8);
/// What a kubelet may be late with one pod and not with another.
const SLACK: Duration = Duration::from_secs(3);
const STREAMS: usize = 24;

fn spec(image: &str) -> Value {
    let fields = json!({
        "replicas": PODS,
        "shutdown": {"endpointLag": "3s", "drainBatch": BATCH, "drainInterval": format!("{}s", INTERVAL.as_secs())},
        "strategy": {"type": "BlueGreen", "progressDeadline": "2m", "blueGreen": {"bake": "0s", "keepOld": "0s"}},
    });
    shop::with(shop::spec(image), &fields)
}

pub async fn close_in_batches(space: Arc<Space>) {
    let _operator = space.operator().await.unwrap();
    space.database().await.unwrap();
    let generation = space.apply(SHOP, &spec("v1")).await.unwrap();
    let v1 = space.wait_phase(SHOP, generation, Phase::Healthy, PATIENCE).await.unwrap().stable.unwrap();
    let mut traffic = shop::traffic_to(&space, SHOP, &shop::load(10, STREAMS, 50, 0));
    let before = traffic.reaches(100).await.unwrap();
    assert_eq!(before.streams.open.get("v1"), Some(&(STREAMS as u64)), "{:?}", before.streams);

    let generation = space.apply(SHOP, &spec("v2")).await.unwrap();
    let status = space.wait_phase(SHOP, generation, Phase::Healthy, PATIENCE).await.unwrap();
    let v2 = status.stable.unwrap();
    let gone = |seen: &Seen| seen.all_gone(SHOP, &v1).then_some(());
    space.wait("the pods of v1 to be gone", PATIENCE, gone).await.unwrap();
    let report = traffic.stop().await.unwrap();
    shop::nothing_lost("a blue-green with open streams", &report);

    let log = &report.streams.log;
    let ends: Vec<&StreamEvent> = log.iter().filter(|event| !event.opened).collect();
    assert_eq!(ends.len(), STREAMS, "each stream was told once: {ends:#?}");
    assert!(ends.iter().all(|event| event.server.version == "v1"), "{ends:#?}");
    let back: Vec<&StreamEvent> = log.iter().filter(|event| event.opened).skip(STREAMS).collect();
    assert_eq!(back.len(), STREAMS, "each came back once");
    assert!(back.iter().all(|event| event.server.version == "v2"), "one came back to v1: {back:#?}");

    let switched = switched_at(&space, &v2);
    let mut pods: BTreeMap<&str, (u64, usize)> = BTreeMap::new();
    for event in &ends {
        let (first, count) = pods.entry(&event.server.node).or_insert((event.at, 0));
        (*first, *count) = ((*first).min(event.at), *count + 1);
    }
    let mut told: Vec<(u64, usize)> = pods.into_values().collect();
    told.sort_unstable();
    let after = |at: u64| Duration::from_millis(at.saturating_sub(switched));
    for (at, count) in &told {
        println!("{count} streams of a pod were closed {:?} after the switch", after(*at));
        assert!(*at > switched, "before requests had moved");
    }
    for pair in told.windows(BATCH + 1) {
        let between = Duration::from_millis(pair[BATCH].0 - pair[0].0);
        assert!(between + SLACK >= INTERVAL, "{} pods within {between:?}", BATCH + 1);
    }
}

/// When the Service began to lead to a revision, in milliseconds since 1970.
fn switched_at(space: &Space, revision: &str) -> u64 {
    let ago = space.record().look(|seen| {
        let mut history = seen.history("Service").filter(|event| event.name == SHOP);
        let switch = history.find(|event| event.object["spec"]["selector"][labels::REVISION] == revision);
        switch.unwrap().at.elapsed()
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.saturating_sub(ago).as_millis()).unwrap()
}
