//! Releases in a row under load, by each strategy, and nobody notices any of them.
//!
//! `PHOENIX_E2E_CUTOVERS=25` makes so many by each instead of two: `make soak`.

use std::sync::Arc;
use std::time::Instant;

use e2e::harness::{Seen, Space};
use phoenix_operator::api::{Phase, labels};
use serde_json::{Value, json};

use crate::shop::{self, PATIENCE, REPLICAS, SHOP};

/// How many by each strategy.
fn wanted() -> u32 {
    std::env::var("PHOENIX_E2E_CUTOVERS").map_or(2, |text| text.parse().unwrap())
}

/// By which strategies. The deadline is not what is tested here.
fn strategies() -> [Value; 3] {
    let bounded = |fields: Value| shop::with(json!({"progressDeadline": "2m"}), &fields);
    [
        bounded(json!({"type": "Rolling"})),
        bounded(json!({"type": "BlueGreen", "blueGreen": {"bake": "0s", "keepOld": "0s"}})),
        bounded(json!({"type": "Canary", "canary": {"bake": "0s", "steps": [
            {"setWeight": 25}, {"pause": {"duration": "2s"}}, {"setWeight": 50}, {"pause": {"duration": "2s"}},
        ]}})),
    ]
}

/// Each a revision of its own, with an image that takes its turn: a migration runs for the first of each only.
fn release(number: u32, strategy: &Value) -> Value {
    let image = if number.is_multiple_of(2) { "v1" } else { "v2" };
    let fields = json!({
        "strategy": strategy,
        "podMetadata": {"annotations": {"example.com/release": number.to_string()}},
        // The default, which pods of users get: a machine that is short of CPUs takes seconds to lead requests elsewhere.
        "shutdown": {"endpointLag": "10s", "drainBatch": 2, "drainInterval": "2s"},
    });
    shop::with(shop::spec(image), &fields)
}

pub async fn lose_nothing(space: Arc<Space>) {
    let _operator = space.operator().await.unwrap();
    shop::first(&space).await;
    let mut number = 0;
    for strategy in strategies() {
        let kind = strategy["type"].as_str().unwrap();
        let mut traffic = shop::traffic(&space, 250, 0);
        traffic.reaches(500).await.unwrap();
        for _ in 0..wanted() {
            number += 1;
            let start = Instant::now();
            let generation = space.apply(SHOP, &release(number, &strategy)).await.unwrap();
            let stable = shop::healthy(&space, generation).await;
            let took = start.elapsed();
            let image = shop::ask(&space, &stable, "/version").await[0]["version"].clone();
            println!("{kind} {number}: {image} promoted {took:?} after it was applied");
        }
        let stable = shop::healthy(&space, 0).await;
        let alone = |seen: &Seen| {
            let pods = seen.all("Pod").filter(|pod| pod["metadata"]["labels"][labels::APP] == SHOP);
            (pods.count() == REPLICAS && seen.ready_pods(SHOP, &stable).len() == REPLICAS).then_some(())
        };
        space.wait("the last old pod to be gone", PATIENCE, alone).await.unwrap();
        let report = traffic.stop().await.unwrap();
        shop::nothing_lost(&format!("{} cut-overs by {kind}", wanted()), &report);
        assert_eq!(report.versions.len(), 2, "both releases answered: {:?}", report.versions);
    }
    let status = space.wait_phase(SHOP, 0, Phase::Healthy, PATIENCE).await.unwrap();
    assert_eq!(status.promotion, i64::from(number) + 1, "each release was promoted, once");
    let exits = space.record().look(|seen| seen.exits(SHOP));
    assert!(exits.iter().all(|(_, code, _)| *code != 137), "{exits:?}");
}
