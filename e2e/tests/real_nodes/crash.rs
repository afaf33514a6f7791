//! A release that crashes is withdrawn, nothing is lost, and an operator that is killed changes nothing.

use std::sync::Arc;
use std::time::Instant;

use e2e::harness::{Operator, Seen, Space};
use phoenix_operator::api::{Outcome, Phase, PhoenixAppStatus, labels};
use serde_json::{Value, json};

use crate::shop::{self, PATIENCE, SHOP};

/// It ends by itself two seconds after each start. Bound to loopback it is never ready: what a release
/// accepts and then dies with, no operator can save.
fn crashing() -> Value {
    shop::with_env(shop::spec("crash"), "ROOST_BIND", "127.0.0.1")
}

pub async fn returns_and_loses_nothing(space: Arc<Space>) {
    let mut operator = space.operator().await.unwrap();
    let v1 = shop::first(&space).await;
    let mut traffic = shop::traffic(&space, 100, 0);
    traffic.reaches(200).await.unwrap();

    let start = Instant::now();
    let generation = space.apply(SHOP, &crashing()).await.unwrap();
    let undisturbed = returned(&space, generation, &v1).await;
    println!(
        "returned to v1 {:?} after the crashing release was applied: {}",
        start.elapsed(),
        undisturbed.message
    );

    let start = Instant::now();
    let again = shop::with_env(crashing(), "AGAIN", "1");
    let mut again = again;
    again["migrations"]["env"] = json!([{"name": "ROOST_MIGRATE", "value": "slow:3"}]);
    let generation = space.apply(SHOP, &again).await.unwrap();
    killed_three_times(&space, generation, &mut operator).await;
    let disturbed = returned(&space, generation, &v1).await;
    println!("the same with three kills, after {:?}: {}", start.elapsed(), disturbed.message);

    let verdict = |status: &PhoenixAppStatus| status.candidate.clone().unwrap().verdict.unwrap();
    let (calm, killed) = (verdict(&undisturbed), verdict(&disturbed));
    assert_eq!((calm.outcome, &calm.reason), (killed.outcome, &killed.reason), "the same end");
    assert_eq!(calm.outcome, Outcome::Failed);
    for status in [&undisturbed, &disturbed] {
        let revision = status.candidate.clone().unwrap().revision;
        space.record().look(|seen| {
            assert_eq!(seen.migration_jobs(&revision).len(), 1, "one migration, killed or not");
            assert!(seen.migrated_at(&revision) < seen.first_pod(&revision));
        });
    }
    let report = traffic.stop().await.unwrap();
    shop::nothing_lost("two crashing releases and three kills", &report);
    assert_eq!(report.versions.keys().collect::<Vec<_>>(), ["v1"], "nothing else ever answered");

    let generation = space.apply(SHOP, &shop::spec("v2")).await.unwrap();
    shop::healthy(&space, generation).await;
}

/// Waits until the rollout has failed, and everything is as before: v1's pods and no others.
async fn returned(space: &Space, generation: i64, v1: &str) -> PhoenixAppStatus {
    let status = space.wait_phase(SHOP, generation, Phase::Failed, PATIENCE).await.unwrap();
    let candidate = status.candidate.clone().unwrap();
    assert!(candidate.verdict.clone().unwrap().returned);
    assert_eq!(status.stable.as_deref(), Some(v1));
    let gone = |seen: &Seen| seen.all_gone(SHOP, &candidate.revision).then_some(());
    space.wait("the crashing pods to be gone", PATIENCE, gone).await.unwrap();
    assert_eq!(space.record().look(|seen| seen.ready_pods(SHOP, v1).len()), shop::REPLICAS);
    status
}

/// `kill -9` while it migrates, while its pods crash, and on the way back.
async fn killed_three_times(space: &Space, generation: i64, operator: &mut Operator) {
    let migrating = |seen: &Seen| {
        let status = seen.status(SHOP).filter(|status| status.observed_generation >= generation)?;
        let revision = status.candidate?.revision;
        let runs = |pod: &Value| {
            pod["metadata"]["labels"][labels::MIGRATION] == SHOP && pod["status"]["phase"] == "Running"
        };
        seen.all("Pod").any(runs).then_some(revision)
    };
    let revision = space.wait("the migration to run", PATIENCE, migrating).await.unwrap();
    operator.kill9().await.unwrap();
    let done = |seen: &Seen| {
        let pods = seen.migration_pods(SHOP, &revision);
        pods.iter().any(|(_, succeeded)| *succeeded).then_some(())
    };
    space.wait("the migration to end without an operator", PATIENCE, done).await.unwrap();
    operator.restart().unwrap();

    space.wait("the first crashing pod", PATIENCE, |seen| seen.first_pod(&revision)).await.unwrap();
    operator.kill9().await.unwrap();
    let crashed = |seen: &Seen| {
        let exits = seen.exits(SHOP);
        exits.iter().any(|(pod, code, _)| pod.contains(&revision) && *code == 1).then_some(())
    };
    space.wait("the crash", PATIENCE, crashed).await.unwrap();
    operator.restart().unwrap();

    space.wait_phase(SHOP, generation, Phase::RollingBack, PATIENCE).await.unwrap();
    operator.kill9().await.unwrap();
    operator.restart().unwrap();
    println!("killed while it migrated, while its pods crashed, and on the way back");
}
