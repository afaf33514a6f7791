//! An app's life on a real API server: applied, scaled, changed, rolled back, suspended, deleted, made again.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use e2e::audit::{Audit, OPERATOR, Request};
use e2e::fixtures::{self, PATIENCE, condition, migrated_first, migrating, plain, pod_uids, with};
use e2e::harness::{Lab, Space};
use phoenix_operator::api::{Outcome, Phase};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn apps_live() -> Result<()> {
    let lab = Lab::fake().await?;
    let cases = e2e::cases![whole_life, suspended_apps_are_left_alone, to_zero_and_back, onto_delete];
    fixtures::run(&lab, 2, cases).await?;
    Ok(())
}

/// Its data as they are stored, and its identity.
async fn secret(space: &Space) -> Result<(String, String)> {
    let data = space.field("secret/shop-generated", "{.data}").await?;
    ensure!(data.contains("SECRET_KEY_BASE") && data.contains("RELEASE_COOKIE"), "the Secret lacks a key");
    Ok((data, space.field("secret/shop-generated", "{.metadata.uid}").await?))
}

async fn whole_life(space: Arc<Space>) -> Result<()> {
    let mut operator = space.operator().await?;
    let audit = Audit::new(space.lab().cluster().audit_log());

    let first = space.roll_out("shop", &migrating("v1")).await?;
    let v1 = first.stable.clone().context("nothing is stable")?;
    ensure!(first.ready_replicas == 2 && first.promotion == 1 && first.candidate.is_none(), "{first:#?}");
    let jobs = space.record().look(|seen| migrated_first(seen, "shop", &v1))?;
    ensure!(jobs == 1, "{jobs} migrations");
    let generated = secret(&space).await?;
    let made = space.everything().await?;

    space.kubectl(&["scale", "phoenixapp/shop", "--replicas=4"], None).await?;
    let serves = |n| {
        move |status: &phoenix_operator::api::PhoenixAppStatus| {
            status.phase == Some(Phase::Healthy) && status.ready_replicas == n
        }
    };
    let scaled = space.wait_for("shop", 2, "4 pods to serve", PATIENCE, serves(4)).await?;
    ensure!(scaled.stable == first.stable && scaled.attempt == first.attempt, "scaling made a rollout");
    ensure!(space.field("phoenixapp/shop", "{.status.replicas}").await? == "4", "scale does not show 4");

    let generation = space.apply("shop", &migrating("v2")).await?;
    let second = space.wait_phase("shop", generation, Phase::Healthy, PATIENCE).await?;
    let v2 = second.stable.clone().context("nothing is stable")?;
    ensure!(v1 != v2 && second.previous.as_ref() == Some(&v1), "{second:#?}");
    ensure!(second.ready_replicas == 4, "the rollout changed the size: {second:#?}");
    ensure!(space.record().look(|seen| migrated_first(seen, "shop", &v2))? == 1, "one migration");

    // Back, by applying what was: the same revision, and nothing is migrated.
    let generation = space.apply("shop", &migrating("v1")).await?;
    let back = space.wait_phase("shop", generation, Phase::Healthy, PATIENCE).await?;
    ensure!(back.stable.as_ref() == Some(&v1) && back.previous.as_ref() == Some(&v2), "{back:#?}");
    ensure!(back.attempt == 3 && back.promotion == 3, "{back:#?}");
    let jobs = space.record().look(|seen| seen.migration_jobs(&v1).len() + seen.migration_jobs(&v2).len());
    ensure!(jobs == 2, "{jobs} Jobs for two releases and a return");
    let outcomes: Vec<_> = back.history.iter().map(|entry| entry.outcome).collect();
    ensure!(outcomes == [Outcome::Promoted; 3], "{outcomes:?}");
    ensure!(secret(&space).await? == generated, "the generated Secret changed");

    // What was applied once and is not wanted any more goes.
    let ports = json!([{"name": "metrics", "port": 9568, "expose": "Service"}]);
    space.roll_out("shop", &with(migrating("v1"), &json!({"extraPorts": ports}))).await?;
    let names = space.field("service/shop", "{.spec.ports[*].name}").await?;
    ensure!(names == "http metrics", "{names}");
    space.roll_out("shop", &migrating("v1")).await?;
    let names = space.field("service/shop", "{.spec.ports[*].name}").await?;
    ensure!(names == "http", "{names}");

    // Deleted: all goes but the Secret, which `onDelete: Retain` keeps, and it goes without the operator.
    let before = space.everything().await?;
    let start = audit.end()?;
    space.kubectl(&["delete", "phoenixapp/shop", "--wait"], None).await?;
    let going: Vec<&str> =
        before.iter().map(String::as_str).filter(|name| *name != "secret/shop-generated").collect();
    let wait = [&["wait", "--for=delete", "--timeout=60s"], going.as_slice()].concat();
    space.kubectl(&wait, None).await?;
    let mut writes = audit.of_operator(start).await?;
    // A status that was taken came before the deletion: counts and sentences of a rollout may be late.
    let before = |r: &Request| r.resource == "phoenixapps/status" && r.code == 200;
    writes.retain(|r| r.namespace == space.name() && r.mutates() && !before(r));
    ensure!(writes.is_empty(), "{OPERATOR} wrote while the app was deleted: {writes:#?}");
    let left = space.everything().await?;
    ensure!(left == ["secret/shop-generated".to_owned()].into(), "left after deletion: {left:?}");

    let again = space.roll_out("shop", &migrating("v1")).await?;
    ensure!(again.stable.as_ref() == Some(&v1) && again.attempt == 1, "{again:#?}");
    ensure!(secret(&space).await? == generated, "the generated Secret changed over the app's deletion");
    let jobs = space.record().look(|seen| seen.migration_jobs(&v1).len());
    ensure!(jobs == 2, "an app made anew migrates anew: {jobs}");
    let kinds = |names: &std::collections::BTreeSet<String>| -> std::collections::BTreeSet<String> {
        names.iter().filter_map(|name| Some(name.split_once('/')?.0.to_owned())).collect()
    };
    let now = space.everything().await?;
    ensure!(kinds(&now) == kinds(&made), "made again: {now:?}, at first: {made:?}");
    operator.stop().await?;
    println!("whole life: {} objects at rest, left after deletion: {left:?}", made.len());
    Ok(())
}

async fn suspended_apps_are_left_alone(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let audit = Audit::new(space.lab().cluster().audit_log());
    let first = space.roll_out("shop", &plain("v1")).await?;
    let pods = space.record().look(|seen| pod_uids(seen, "shop"));
    let start = fixtures::at_rest(&space, &audit).await?;

    let generation = space.apply("shop", &with(plain("v2"), &json!({"suspend": true}))).await?;
    let status = space.wait_phase("shop", generation, Phase::Suspended, PATIENCE).await?;
    ensure!(condition(&status, "Ready") == Some(("Unknown", "Suspended")), "{status:#?}");
    ensure!(status.stable == first.stable && status.candidate.is_none(), "{status:#?}");
    // What is deleted by hand meanwhile stays away.
    let stable = first.stable.as_deref().unwrap_or_default();
    space.kubectl(&["delete", "poddisruptionbudget/shop", "--wait"], None).await?;
    space.kubectl(&["annotate", "phoenixapp/shop", "touched=yes"], None).await?;
    let generation =
        space.apply("shop", &with(plain("v2"), &json!({"suspend": true, "replicas": 3}))).await?;
    space.wait_phase("shop", generation, Phase::Suspended, PATIENCE).await?;
    let mut writes = audit.of_operator(start).await?;
    writes.retain(|r| r.namespace == space.name() && !["get", "list", "watch"].contains(&r.verb.as_str()));
    let others: Vec<_> = writes.iter().filter(|r| r.resource != "phoenixapps/status").collect();
    ensure!(others.is_empty(), "{OPERATOR} wrote while suspended: {others:#?}");
    println!("suspended: {} writes of the status, none of children", writes.len());
    ensure!(space.record().look(|seen| pod_uids(seen, "shop")) == pods, "pods changed while suspended");

    let resumed = space.roll_out("shop", &with(plain("v2"), &json!({"replicas": 3}))).await?;
    ensure!(resumed.previous.as_deref() == Some(stable) && resumed.ready_replicas == 3, "{resumed:#?}");
    space.kubectl(&["wait", "--for=create", "--timeout=30s", "poddisruptionbudget/shop"], None).await?;
    Ok(())
}

async fn to_zero_and_back(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let first = space.roll_out("shop", &migrating("v1")).await?;
    let stable = first.stable.clone().context("nothing is stable")?;

    let zero = space.roll_out("shop", &with(migrating("v1"), &json!({"replicas": 0}))).await?;
    ensure!(condition(&zero, "Ready") == Some(("True", "ScaledToZero")), "{zero:#?}");
    space.wait("no pods", PATIENCE, |seen| seen.web_pods("shop").is_empty().then_some(())).await?;
    let none = |s: &phoenix_operator::api::PhoenixAppStatus| {
        condition(s, "Available").is_some_and(|c| c.0 == "False")
    };
    space.wait_for("shop", 2, "Available to be False", PATIENCE, none).await?;

    // A new release waits, and its migration with it.
    let generation = space.apply("shop", &with(migrating("v2"), &json!({"replicas": 0}))).await?;
    let waits = |status: &phoenix_operator::api::PhoenixAppStatus| status.candidate.is_some();
    let waiting = space.wait_for("shop", generation, "a candidate", PATIENCE, waits).await?;
    ensure!(condition(&waiting, "Ready").is_some_and(|c| c.0 == "False"), "{waiting:#?}");
    ensure!(condition(&waiting, "Reconciling").is_some(), "{waiting:#?}");

    let back = space.roll_out("shop", &with(migrating("v2"), &json!({"replicas": 2}))).await?;
    let v2 = back.stable.clone().context("nothing is stable")?;
    ensure!(back.previous == Some(stable) && back.ready_replicas == 2, "{back:#?}");
    ensure!(space.record().look(|seen| migrated_first(seen, "shop", &v2))? == 1, "one migration");
    Ok(())
}

/// `onDelete: Delete` takes the Secret away with the app.
async fn onto_delete(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let spec = with(plain("v1"), &json!({"secrets": {"onDelete": "Delete"}}));
    space.roll_out("shop", &spec).await?;
    let before = space.everything().await?;
    ensure!(before.contains("secret/shop-generated"), "{before:?}");
    space.kubectl(&["delete", "phoenixapp/shop", "--wait"], None).await?;
    let going: Vec<&str> = before.iter().map(String::as_str).collect();
    space.kubectl(&[&["wait", "--for=delete", "--timeout=60s"], going.as_slice()].concat(), None).await?;
    let left = space.everything().await?;
    ensure!(left.is_empty(), "left after deletion: {left:?}");
    Ok(())
}
