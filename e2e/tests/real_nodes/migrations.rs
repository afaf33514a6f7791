//! Migrations: what fails keeps every new pod away, what is missing is waited for.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use e2e::harness::Space;
use e2e::postgres::Postgres;
use phoenix_operator::api::{FollowUpKind, FollowUpState, Phase, PhoenixAppStatus};
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

/// SQL in the app's own image and environment, as a release does such things with `eval`.
fn sql(statement: &str) -> serde_json::Value {
    let code = format!(
        "Application.load(:roost); {{:ok, _}} = Application.ensure_all_started(:p1_pgsql); \
         {{:ok, _}} = Application.ensure_all_started(:crypto); \
         conn = Roost.Repo.Connection.open!(Application.fetch_env!(:roost, :database_url), \"phase\"); \
         for sql <- String.split({statement:?}, \";\"), do: Roost.Repo.Connection.query!(conn, sql); \
         Roost.Repo.Connection.close(conn)"
    );
    json!({"command": ["/app/bin/roost", "eval", code]})
}

/// A copy before, a column dropped when no old pod is left, and the way back.
pub async fn run_in_phases(space: Arc<Space>) {
    let _operator = space.operator().await.unwrap();
    let v1 = shop::first(&space).await;
    let database = space.database_name();
    let ask = async |sql: &str| space.lab().postgres().unwrap().query(&database, sql).await.unwrap();
    let columns = "SELECT string_agg(column_name, ',' ORDER BY column_name) FROM information_schema.columns \
                   WHERE table_name = 'birds'";
    ask("ALTER TABLE birds ADD COLUMN nickname text").await;
    ask("INSERT INTO birds (name, nickname) VALUES ('Merle', 'blackbird')").await;

    let mut phased = shop::spec("v2");
    let copy = sql("DROP TABLE IF EXISTS backup;CREATE TABLE backup AS TABLE birds");
    phased["migrations"] = json!({
        "retries": 0,
        "before": [{"name": "backup", "command": copy["command"]}],
        "contract": sql("ALTER TABLE birds DROP COLUMN IF EXISTS nickname"),
        "rollback": sql(
            "ALTER TABLE birds DROP COLUMN wingspan_cm;DELETE FROM schema_migrations WHERE version = 20260102000001"
        ),
    });
    let generation = space.apply(SHOP, &phased).await.unwrap();
    let v2 = shop::healthy(&space, generation).await;
    let done = |kind: FollowUpKind| {
        move |status: &PhoenixAppStatus| {
            let state = status.follow_up.as_ref().map(|known| (known.kind, known.state));
            state == Some((kind, FollowUpState::Succeeded))
        }
    };
    let contract = done(FollowUpKind::Contract);
    let status = space.wait_for(SHOP, generation, "the contract", PATIENCE, contract).await.unwrap();
    assert_eq!(ask("SELECT name || '/' || nickname FROM backup").await, "Merle/blackbird");
    assert_eq!(ask(columns).await, "id,name,wingspan_cm");
    assert_eq!(status.rollback_safe, Some(false));
    let contracted = space.record().look(|seen| {
        let made = seen.history("Job").find(|event| event.name.starts_with("shop-contract-")).unwrap();
        // A pod whose containers have ended uses no column, though its object may be there for a moment.
        let ended = |event: &&e2e::harness::Event| {
            event
                .object
                .pointer("/status/phase")
                .is_some_and(|phase| phase == "Succeeded" || phase == "Failed")
        };
        let mut later = seen.history("Pod").filter(|event| event.revision > made.revision && !ended(event));
        let left = later.find(|event| event.name.starts_with(&format!("shop-{v1}-")));
        assert!(left.is_none(), "{left:?}");
        made.revision
    });
    println!("copied, migrated, and contracted at {contracted}, after the last pod of v1");

    let command = format!("rollback {v2}/{} {v1} force with-migrations", status.attempt);
    space.command(SHOP, &command).await.unwrap();
    let back = done(FollowUpKind::Rollback);
    let status = space.wait_for(SHOP, generation, "the way back", PATIENCE, back).await.unwrap();
    assert_eq!(status.stable.as_deref(), Some(v1.as_str()));
    assert_eq!(ask(columns).await, "id,name");
    assert_eq!(status.ready_replicas, i32::try_from(REPLICAS).unwrap(), "{}", status.message);
    println!("back: {}", status.message);

    let target = status.candidate.unwrap();
    space.command(SHOP, &format!("retry {}/{}", target.revision, target.attempt)).await.unwrap();
    let again = |status: &PhoenixAppStatus| {
        status.stable.as_deref() == Some(v2.as_str()) && status.rollback_safe == Some(false)
    };
    space.wait_for(SHOP, generation, "v2 again, contracted", PATIENCE, again).await.unwrap();
    assert_eq!(ask(columns).await, "id,name,wingspan_cm", "a return migrates again");
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
