//! v2 takes the place of v1 under load, and nobody notices.

use std::sync::Arc;
use std::time::Instant;

use e2e::harness::Space;
use phoenix_operator::api::Phase;
use serde_json::json;

use crate::shop::{self, PATIENCE, REPLICAS, SHOP};

/// Requests that are made at least.
const REQUESTS: u64 = 20_000;

pub async fn replaces_every_pod_under_load(space: Arc<Space>) {
    let _operator = space.operator().await.unwrap();
    let v1 = shop::first(&space).await;
    shop::meshed(&space, &v1).await;

    let mut traffic = shop::traffic(&space, 400, REQUESTS);
    let before = traffic.reaches(2_000).await.unwrap();
    shop::nothing_lost("before the rollout", &before);
    assert_eq!(before.versions.keys().collect::<Vec<_>>(), ["v1"]);

    // The migration takes a while, so that what serves meanwhile can be seen.
    let mut spec = shop::spec("v2");
    spec["migrations"]["env"] = json!([{"name": "ROOST_MIGRATE", "value": "slow:5"}]);
    let start = Instant::now();
    let generation = space.apply(SHOP, &spec).await.unwrap();
    let migrating = space.wait_phase(SHOP, generation, Phase::Migrating, PATIENCE).await.unwrap();
    let v2 = migrating.candidate.unwrap().revision;
    let first_pod = |seen: &e2e::harness::Seen| seen.first_pod(&v2);
    let migration = traffic.report_now().await.unwrap();
    space.wait("the first pod of v2", PATIENCE, first_pod).await.unwrap();
    let migrated = traffic.report_now().await.unwrap();
    let meanwhile = migrated.versions["v1"] - migration.versions["v1"];
    println!("{meanwhile} requests were answered by v1 while v2 migrated");
    assert!(meanwhile > 1_000, "v1 serves while v2 migrates");

    let stable = shop::healthy(&space, generation).await;
    println!("v2 is promoted {:?} after it was applied", start.elapsed());
    assert_eq!(stable, v2);
    space
        .wait("the pods of v1 to be gone", PATIENCE, |seen| seen.all_gone(SHOP, &v1).then_some(()))
        .await
        .unwrap();
    println!("the last pod of v1 is gone {:?} after v2 was applied", start.elapsed());
    let report = traffic.stop().await.unwrap();

    shop::nothing_lost("the whole rollout", &report);
    assert!(report.requests >= REQUESTS);
    assert!(report.versions["v2"] > 0);
    assert!(report.streams.drained >= 12, "each stream of v1 was drained");
    assert_eq!(report.streams.open.keys().collect::<Vec<_>>(), ["v2"], "and is open on v2 now");
    shop::meshed(&space, &v2).await;
    migrated_once_and_first(&space, &v2);

    let exits = space.record().look(|seen| seen.exits(SHOP));
    println!("exits: {exits:?}");
    assert!(exits.iter().all(|(_, code, _)| *code != 137), "{exits:?}");
    assert_eq!(exits.len(), REPLICAS, "each pod of v1 ended, once: {exits:?}");
    for version in shop::ask(&space, &v2, "/version").await {
        assert_eq!(
            (version["version"].as_str(), version["revision"].as_str()),
            (Some("v2"), Some(v2.as_str()))
        );
    }
}

/// One Job, one pod that succeeded, recorded before the first pod was created.
fn migrated_once_and_first(space: &Space, revision: &str) {
    space.record().look(|seen| {
        let (migrated, first) = (seen.migrated_at(revision).unwrap(), seen.first_pod(revision).unwrap());
        println!("recorded as migrated at revision {migrated} of the store, first pod at {first}");
        assert!(migrated < first, "a pod existed before its migration was recorded");
        assert_eq!(seen.migration_jobs(revision).len(), 1);
        let pods = seen.migration_pods(SHOP, revision);
        assert!(matches!(pods.as_slice(), [(_, true)]), "{pods:?}");
    });
}
