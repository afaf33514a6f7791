//! Migrations: what fails keeps every new pod away, what is missing is waited for.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use e2e::harness::Space;
use e2e::postgres::Postgres;
use phoenix_operator::api::{Phase, PhoenixAppStatus};
use serde_json::json;

use crate::shop::{self, PATIENCE, REPLICAS, SHOP};

/// Longest log tail in a status, in bytes.
const LOG_TAIL: usize = 2_048;

fn migrated_message(status: &PhoenixAppStatus) -> String {
    let condition = status.conditions.iter().find(|condition| condition.type_ == "Migrated").unwrap();
    assert_eq!(condition.status, "False", "{condition:?}");
    format!("{}: {}", condition.reason, condition.message)
}

pub async fn gate_the_pods(space: Arc<Space>) {
    let _operator = space.operator().await.unwrap();
    let v1 = shop::first(&space).await;

    let start = Instant::now();
    let generation = space.apply(SHOP, &shop::spec("badmigrate")).await.unwrap();
    let failed = space.wait_phase(SHOP, generation, Phase::Failed, PATIENCE).await.unwrap();
    println!("a failing migration failed the rollout {:?} after it was applied", start.elapsed());
    let bad = failed.candidate.clone().unwrap().revision;
    let migration = failed.migration.clone().unwrap();
    let message = migrated_message(&failed);
    println!("Migrated=False, exit code {:?}: {message}", migration.exit_code);
    assert_eq!(migration.exit_code, Some(1));
    assert!(migration.log_tail.contains("already exists"), "{:?}", migration.log_tail);
    assert!(migration.log_tail.len() <= LOG_TAIL, "{} bytes", migration.log_tail.len());
    assert!(message.contains("already exists"), "the condition shows the log: {message}");
    assert_eq!(failed.stable.as_deref(), Some(v1.as_str()));

    // The same without the log.
    let mut silent = shop::with_env(shop::spec("badmigrate"), "AGAIN", "1");
    silent["migrations"]["logTail"] = json!("Omit");
    let generation = space.apply(SHOP, &silent).await.unwrap();
    let failed = space.wait_phase(SHOP, generation, Phase::Failed, PATIENCE).await.unwrap();
    let silent = failed.candidate.clone().unwrap().revision;
    assert_ne!(silent, bad);
    println!("with logTail Omit: {}", migrated_message(&failed));
    assert_eq!(failed.migration.clone().unwrap().exit_code, Some(1));
    let text = serde_json::to_string(&failed).unwrap();
    assert!(!text.contains("already exists"), "the log shows in status: {text}");

    let generation = space.apply(SHOP, &shop::spec("v2")).await.unwrap();
    let v2 = shop::healthy(&space, generation).await;
    space.record().look(|seen| {
        for revision in [&bad, &silent] {
            assert_eq!(seen.first_pod(revision), None, "a pod of {revision} existed");
            assert_eq!(seen.migration_jobs(revision).len(), 1);
        }
        assert!(seen.first_pod(&v2) > seen.migrated_at(&v2));
    });
    let db = shop::ask(&space, &v2, "/db").await;
    println!("the fixed release went through; its database: {}", db[0]);
}

/// App and database start together, the database later: nobody has to help.
pub async fn wait_for_their_database(space: Arc<Space>) {
    let directory = space.lab().directory("postgres-together");
    let bridge = IpAddr::V4(space.lab().cluster().bridge_ip());
    let postgres = Postgres::start(bridge, &directory).await.unwrap();
    postgres.create_database("together").await.unwrap();
    space.secret("db", &[("uri", &postgres.url("together"))]).await.unwrap();
    postgres.stop().await.unwrap();

    let _operator = space.operator().await.unwrap();
    let generation = space.apply(SHOP, &shop::spec("v1")).await.unwrap();
    let failing = |status: &PhoenixAppStatus| {
        status.migration.as_ref().is_some_and(|migration| migration.exit_code.is_some_and(|code| code != 0))
    };
    let waiting =
        space.wait_for(SHOP, generation, "a migration that failed", PATIENCE, failing).await.unwrap();
    println!("without a database: {:?}: {}", waiting.phase, waiting.message);
    assert_eq!(waiting.phase, Some(Phase::Migrating), "an app beside a starting database is normal");
    // After the deadline people are told, and it goes on trying.
    let blocked = space.wait_phase(SHOP, generation, Phase::Blocked, PATIENCE).await.unwrap();
    println!("after the deadline: Blocked: {}", blocked.message.lines().next().unwrap_or_default());

    let start = Instant::now();
    postgres.start_again().await.unwrap();
    let stable = shop::healthy(&space, generation).await;
    println!("healed by itself {:?} after the database came up", start.elapsed());
    assert_eq!(shop::ask(&space, &stable, "/db").await.len(), REPLICAS);
}
