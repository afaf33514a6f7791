//! `bin/migrate` against a real database, the pool's patience, and what the pages say.

use serde_json::json;

use crate::node::{LOCALHOST, Pod, Scratch, text, wait_for, wait_for_sql};

#[tokio::test]
#[ignore = "needs Debian 12, Erlang, Elixir and PostgreSQL"]
async fn versions_migrate_one_after_the_other() {
    let scratch = Scratch::new("migrate");
    let postgres = scratch.postgres().await;
    let pod = |version: &str| Pod::new(version, LOCALHOST, &postgres.url("roost"));
    let run = |pod: &Pod| pod.run("bin/migrate", &[]);
    let applied = async || postgres.query("roost", "SELECT count(*) FROM schema_migrations").await.unwrap();

    let migrated = run(&pod("v1").without("PHX_SERVER"));
    assert!(migrated.status.success(), "{}", text(&migrated));
    assert!(text(&migrated).contains("Migrated 20260101000001"), "{}", text(&migrated));
    assert!(text(&run(&pod("v1"))).contains("Migrations already up"));

    for switch in ["fail", "slow:0"] {
        let status = run(&pod("v1").with("ROOST_MIGRATE", switch)).status;
        assert_eq!(status.code(), Some(i32::from(switch == "fail")));
    }
    let missing = run(&pod("v1").without("DATABASE_URL"));
    assert!(!missing.status.success());
    assert!(text(&missing).contains("environment variable DATABASE_URL is missing"), "{}", text(&missing));

    let broken = run(&pod("badmigrate"));
    assert_eq!(broken.status.code(), Some(1));
    assert!(
        text(&broken).contains("column \"name\" of relation \"birds\" already exists"),
        "{}",
        text(&broken)
    );
    assert_eq!(applied().await, "2", "what came before the broken file stays, as with Ecto");

    assert!(run(&pod("v3")).status.success());
    assert_eq!(applied().await, "3");
}

#[tokio::test]
#[ignore = "needs Debian 12, Erlang, Elixir and PostgreSQL"]
async fn one_migration_waits_for_another_and_a_hanging_one_can_be_stopped() {
    let scratch = Scratch::new("lock");
    let postgres = scratch.postgres().await;
    let pod = Pod::new("v1", LOCALHOST, &postgres.url("roost"));
    let spawn = |pod: &Pod| pod.command("bin/migrate", &[]).spawn().unwrap();
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let locked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    let mut hanging = spawn(&pod.clone().with("ROOST_MIGRATE", "hang"));
    wait_for_sql(&postgres, sleeping, "1").await;
    let mut waiting = spawn(&pod);
    wait_for_sql(&postgres, locked, "1").await;

    let pid = hanging.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    wait_for("the end of the hanging one", || hanging.try_wait().unwrap());
    // The server notices a client's end when it writes to it; a pod's network would reset sooner.
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    postgres.query("roost", end).await.unwrap();
    assert!(wait_for("the other one", || waiting.try_wait().unwrap()).success());
}

#[tokio::test]
#[ignore = "needs Debian 12, Erlang, Elixir and PostgreSQL"]
async fn serves_through_a_database_outage_and_tells_no_secrets() {
    let scratch = Scratch::new("serve");
    let postgres = scratch.postgres().await;
    let pod = Pod::new("v2", LOCALHOST, &postgres.url("roost"));
    assert!(pod.run("bin/migrate", &[]).status.success());
    let mut node = pod.serve(&scratch.0.join("log"));

    wait_for("readiness", || (node.get("/ready").status == 200).then_some(()));
    assert_eq!(node.json("/health"), json!({"status": "healthy"}));
    assert_eq!(node.json("/version")["version"], "v2");
    assert_eq!(
        node.json("/db"),
        json!({"migrations": [20_260_101_000_001_u64, 20_260_102_000_001_u64], "birds": ["id", "name", "wingspan_cm"]})
    );
    let env = node.json("/env");
    assert_eq!(env["values"]["PHOENIX_REVISION"], "shop-1");
    for secret in ["SECRET_KEY_BASE", "DATABASE_URL", "RELEASE_COOKIE"] {
        assert!(env["names"].as_array().unwrap().contains(&json!(secret)), "{env}");
        assert!(env["values"].get(secret).is_none());
    }
    let metrics = node.get("/metrics").body;
    assert!(metrics.contains("http_requests_total{status=\"200\"}"), "{metrics}");

    postgres.stop().await.unwrap();
    wait_for("unreadiness", || (node.get("/ready").status == 503).then_some(()));
    assert_eq!(node.get("/health").status, 200);
    postgres.start_again().await.unwrap();
    wait_for("readiness again", || (node.get("/ready").status == 200).then_some(()));

    let rpc = node.pod.run("bin/roost", &["rpc", "IO.puts(node())"]);
    assert_eq!(text(&rpc).trim(), "roost@127.0.0.1");
    assert!(node.pod.run("bin/roost", &["stop"]).status.success());
    assert_eq!(node.wait().code(), Some(0));
}
