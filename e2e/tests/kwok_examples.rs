//! Every example that ships, applied as it is.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use e2e::fixtures::{self, PATIENCE};
use e2e::harness::{Lab, Seen, Space};
use phoenix_operator::api::{Phase, PhoenixAppStatus};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn examples_become_healthy() -> Result<()> {
    let lab = Lab::fake().await?;
    let cases = e2e::cases![
        quickstart,
        with_database,
        libcluster_dns,
        singleton,
        autoscaling,
        blue_green,
        canary,
        manual_approval,
        analysis,
        migrations,
        web_and_workers,
    ];
    let files = std::fs::read_dir(directory())?.count();
    ensure!(files == cases.len(), "{files} examples, {} cases", cases.len());
    fixtures::run(&lab, 2, cases).await?;
    Ok(())
}

fn directory() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

async fn apply(space: &Space, example: &str) -> Result<()> {
    let file = directory().join(example).with_extension("yaml");
    let file = file.to_str().context("a path in UTF-8")?;
    // As a person does, and then as a pipeline does: again.
    space.kubectl(&["apply", "-f", file], None).await?;
    space.kubectl(&["apply", "-f", file], None).await?;
    Ok(())
}

async fn healthy(space: &Space, app: &str, pods: i32) -> Result<PhoenixAppStatus> {
    let serves =
        |status: &PhoenixAppStatus| status.phase == Some(Phase::Healthy) && status.ready_replicas == pods;
    let status = space.wait_for(app, 1, &format!("{pods} pods of {app} to serve"), PATIENCE, serves).await?;
    space
        .kubectl(&["wait", "--for=condition=Ready", &format!("phoenixapp/{app}"), "--timeout=5s"], None)
        .await?;
    Ok(status)
}

async fn quickstart(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    apply(&space, "quickstart").await?;
    let status = healthy(&space, "hello", 2).await?;
    let revision = status.stable.context("nothing is stable")?;
    // With its database, and so with one migration.
    let jobs = space.record().look(|seen| fixtures::migrated_first(seen, "hello", &revision))?;
    ensure!(jobs == 1, "{jobs} migrations");
    Ok(())
}

async fn with_database(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    apply(&space, "with-database").await?;
    let status = healthy(&space, "shop", 3).await?;
    let revision = status.stable.context("nothing is stable")?;
    let jobs = space.record().look(|seen| fixtures::migrated_first(seen, "shop", &revision))?;
    ensure!(jobs == 1, "{jobs} migrations");
    ensure!(status.effective.is_some_and(|effective| effective.migrations_mode == "Job"), "not by a Job");
    Ok(())
}

async fn libcluster_dns(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    apply(&space, "libcluster-dns").await?;
    healthy(&space, "shop-web", 2).await?;
    let env = "{.items[0].spec.template.spec.containers[0].env[?(@.name==\"RELEASE_NODE\")].value}";
    let node = space.field("deployments", env).await?;
    ensure!(node == "shop@$(POD_IP)", "{node}");
    let service = space.field("service/shop-web-headless", "{.spec.clusterIP}").await?;
    ensure!(service == "None", "{service}");
    Ok(())
}

/// There are never two pods, also not while a new release comes.
async fn singleton(space: Arc<Space>) -> Result<()> {
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "ledger-data"},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": "/nowhere"}, "storageClassName": "none",
            "claimRef": {"namespace": space.name(), "name": "ledger-data"},
        },
    });
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "ledger-data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "none", "volumeName": "ledger-data",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    });
    space.lab().kubectl(&["apply", "-f", "-"], Some(&volume.to_string())).await?;
    space.kubectl(&["apply", "-f", "-"], Some(&claim.to_string())).await?;
    let _operator = space.operator().await?;
    apply(&space, "singleton").await?;
    let first = healthy(&space, "ledger", 1).await?;
    let patch = json!({"spec": {"image": fixtures::image("v2")}}).to_string();
    space.kubectl(&["patch", "phoenixapp", "ledger", "--type=merge", "-p", &patch], None).await?;
    let next = |status: &PhoenixAppStatus| {
        status.phase == Some(Phase::Healthy) && status.previous == first.stable && status.ready_replicas == 1
    };
    space.wait_for("ledger", 2, "the next release", PATIENCE, next).await?;
    let most = space.record().look(most_pods);
    ensure!(most == 1, "{most} pods at once");
    Ok(())
}

/// Most pods that there were at one time.
fn most_pods(seen: &Seen) -> usize {
    let mut now = std::collections::BTreeSet::new();
    let mut most = 0;
    for event in seen.history("Pod") {
        match event.change {
            e2e::harness::Change::Applied => now.insert(event.name.clone()),
            e2e::harness::Change::Deleted => now.remove(&event.name),
        };
        most = most.max(now.len());
    }
    most
}

/// An autoscaler reads and writes the scale subresource, and applying the manifest again does not undo it.
async fn autoscaling(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    apply(&space, "autoscaling").await?;
    healthy(&space, "market", 2).await?;
    let able = "--for=jsonpath={.status.conditions[?(@.type=='AbleToScale')].status}=True";
    space.kubectl(&["wait", able, "hpa/market", "--timeout=60s"], None).await?;
    let patch = r#"{"spec":{"replicas":5}}"#;
    let scale = ["patch", "phoenixapp", "market", "--subresource=scale", "--type=merge", "-p", patch];
    space.kubectl(&scale, None).await?;
    healthy(&space, "market", 5).await?;
    apply(&space, "autoscaling").await?;
    let scale =
        space.kubectl(&["get", "phoenixapp", "market", "--subresource=scale", "-o", "json"], None).await?;
    let scale: serde_json::Value = serde_json::from_str(&scale)?;
    ensure!(scale["spec"]["replicas"] == 5 && scale["status"]["replicas"] == 5, "{scale:#}");
    let selector = scale["status"]["selector"].as_str().context("scale has no selector")?;
    let pods = space.kubectl(&["get", "pods", "-l", selector, "-o", "name"], None).await?;
    ensure!(pods.lines().count() == 5, "{selector} selects {pods}");
    println!("scale: {} pods by {selector}", pods.lines().count());
    Ok(())
}

async fn next_release(space: &Space, app: &str) -> Result<()> {
    let patch = json!({"spec": {"image": fixtures::image("v2")}}).to_string();
    space.kubectl(&["patch", "phoenixapp", app, "--type=merge", "-p", &patch], None).await?;
    Ok(())
}

/// The preview is one pod, for two minutes.
async fn blue_green(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    apply(&space, "blue-green").await?;
    let first = healthy(&space, "shop", 4).await?;
    next_release(&space, "shop").await?;
    let waits = |status: &PhoenixAppStatus| status.message.contains("waits until");
    let waiting = space.wait_for("shop", 2, "the preview to wait", PATIENCE, waits).await?;
    ensure!(waiting.stable == first.stable && waiting.phase == Some(Phase::RollingOut), "{waiting:#?}");
    ensure!(space.record().look(|seen| seen.web_pods("shop").len()) == 5, "not one preview pod");
    Ok(())
}

/// One pod of ten has the new release.
async fn canary(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    apply(&space, "canary").await?;
    let first = healthy(&space, "market", 10).await?;
    next_release(&space, "market").await?;
    let waits = |status: &PhoenixAppStatus| status.message.contains("at 10 %");
    let waiting = space.wait_for("market", 2, "the canary to wait", PATIENCE, waits).await?;
    ensure!(waiting.stable == first.stable, "{waiting:#?}");
    let candidate = waiting.candidate.context("no candidate")?.revision;
    let split = |seen: &Seen| {
        let (all, new) = (seen.web_pods("market").len(), seen.ready_pods("market", &candidate).len());
        ((all, new) == (10, 1)).then_some(())
    };
    space.wait("one new pod of ten", PATIENCE, split).await
}

async fn manual_approval(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    apply(&space, "manual-approval").await?;
    let first = healthy(&space, "bank", 2).await?;
    next_release(&space, "bank").await?;
    let paused = space.wait_phase("bank", 2, Phase::Paused, PATIENCE).await?;
    let candidate = paused.candidate.context("no candidate")?;
    space.command("bank", &format!("promote {}/{}", candidate.revision, candidate.attempt)).await?;
    let approved = space.wait_phase("bank", 2, Phase::Healthy, PATIENCE).await?;
    ensure!(approved.previous == first.stable, "{approved:#?}");
    Ok(())
}

/// A dump before the migration, and the contract at once: nothing is older than the first release.
async fn migrations(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    apply(&space, "migrations").await?;
    let status = healthy(&space, "shop", 4).await?;
    let revision = status.stable.context("nothing is stable")?;
    let jobs = space.record().look(|seen| fixtures::migrated_first(seen, "shop", &revision))?;
    ensure!(jobs >= 2, "{jobs} migration pods: a dump and a migration are wanted");
    let contracted = |status: &PhoenixAppStatus| status.rollback_safe == Some(false);
    space.wait_for("shop", 1, "the contract", PATIENCE, contracted).await?;
    Ok(())
}

/// The first release has nothing to be compared with. (Fake pods have addresses of nobody: no test may ask them.)
async fn analysis(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    apply(&space, "analysis").await?;
    let first = healthy(&space, "tickets", 5).await?;
    ensure!(first.analysis.is_empty() && first.smoke_tests.is_empty(), "{first:#?}");
    Ok(())
}

async fn web_and_workers(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    apply(&space, "web-and-workers").await?;
    let status = healthy(&space, "depot", 2).await?;
    let workers: Vec<_> =
        status.workers.iter().map(|one| (one.name.as_str(), one.replicas, one.ready)).collect();
    ensure!(workers == [("jobs", 2, 2), ("scheduler", 1, 1)], "{workers:?}");
    next_release(&space, "depot").await?;
    let next = |status: &PhoenixAppStatus| {
        let moved = status.workers.iter().all(|worker| Some(&worker.revision) == status.stable.as_ref());
        status.phase == Some(Phase::Healthy) && status.promotion == 2 && moved
    };
    space.wait_for("depot", 2, "the next release and its workers", PATIENCE, next).await?;
    Ok(())
}
