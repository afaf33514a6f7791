//! What the one who runs the operator sees of it: its scope, its log, its metrics, its health.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::fixtures::{self, PATIENCE, plain};
use e2e::harness::{Lab, Operator, OperatorOptions, Space};
use phoenix_operator::api::Phase;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn operators_are_seen_to_work() -> Result<()> {
    let lab = Lab::fake().await?;
    scopes(&lab).await?;
    let cases = e2e::cases![logs_and_metrics, health_without_rights, health_without_a_server];
    fixtures::run(&lab, 1, cases).await?;
    Ok(())
}

/// Two namespaces of three, then all of them.
async fn scopes(lab: &Arc<Lab>) -> Result<()> {
    let (one, two, three) =
        (lab.space("scope-one").await?, lab.space("scope-two").await?, lab.space("scope-three").await?);
    let namespaces = vec![one.name().to_owned(), two.name().to_owned()];
    let mut operator =
        one.operator_with(&OperatorOptions { namespaces, ..OperatorOptions::default() }).await?;
    three.apply("shop", &plain("v1")).await?;
    let first = one.roll_out("shop", &plain("v1")).await?;
    two.roll_out("shop", &plain("v1")).await?;
    let alone = three.everything().await?;
    ensure!(alone.iter().all(|name| name.starts_with("phoenixapp.")), "not asked to look there: {alone:?}");
    operator.stop().await?;

    let _all = three.operator_with(&OperatorOptions::default()).await?;
    three.wait_phase("shop", 1, Phase::Healthy, PATIENCE).await?;
    let second = one.roll_out("shop", &plain("v2")).await?;
    ensure!(second.previous == first.stable, "{second:#?}");
    for space in [one, two, three] {
        space.judge_statuses().await?;
        space.close().await?;
    }
    Ok(())
}

/// Asks until the operator listens and answers so.
async fn answers(operator: &Operator, path: &str, code: u16, words: &[&str]) -> Result<String> {
    let mut last = String::new();
    let asking = async {
        loop {
            match operator.get(path).await {
                Ok((seen, body)) if seen == code && words.iter().all(|word| body.contains(word)) => {
                    return body;
                }
                Ok((seen, body)) => last = format!("{seen} {body}"),
                Err(error) => last = format!("{error:#}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(30), asking).await;
    answer.map_err(|_| anyhow::anyhow!("{path} is not {code} with {words:?}: {last}"))
}

async fn logs_and_metrics(space: Arc<Space>) -> Result<()> {
    let namespaces = vec![space.name().to_owned()];
    let options = OperatorOptions { namespaces, json_log: true, ..OperatorOptions::default() };
    let mut operator = space.operator_with(&options).await?;
    answers(&operator, "/readyz", 200, &["ok"]).await?;
    answers(&operator, "/healthz", 200, &["ok"]).await?;
    for app in ["shop", "blog"] {
        space.roll_out(app, &plain("v1")).await?;
    }
    let series = |app: &str, phase: &str| {
        let labels = format!("name=\"{app}\",namespace=\"{}\",phase=\"{phase}\"", space.name());
        format!("phoenix_operator_app_phase{{{labels}}} 1")
    };
    let (shop, blog) = (series("shop", "Healthy"), series("blog", "Healthy"));
    let text = answers(&operator, "/metrics", 200, &[&shop, &blog]).await?;
    let families: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    for family in [
        "phoenix_operator_reconciles_total counter",
        "phoenix_operator_reconcile_duration_seconds histogram",
        "phoenix_operator_queue_depth gauge",
        "phoenix_operator_objects_in_backoff gauge",
        "phoenix_operator_api_writes_total counter",
        "phoenix_operator_rollouts_total counter",
        "phoenix_operator_rollout_duration_seconds histogram",
        "phoenix_operator_app_phase gauge",
    ] {
        ensure!(families.contains(family), "{family} is not among {families:?}");
    }
    let promoted = "phoenix_operator_rollouts_total{outcome=\"Promoted\"} 2";
    ensure!(text.contains(promoted), "{promoted} is not in\n{text}");
    // Of an app that is gone nothing is told.
    space.kubectl(&["delete", "phoenixapp/shop", "--wait"], None).await?;
    let gone = async {
        while answers(&operator, "/metrics", 200, &[&blog]).await?.contains("name=\"shop\"") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, gone).await.context("series of a deleted app stay")??;
    operator.stop().await?;

    let log = std::fs::read_to_string(operator.log())?;
    let mut of_shop = 0;
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
        ensure!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
        let span = &line["span"];
        of_shop += usize::from(span["app"] == "shop" && span["namespace"] == space.name());
    }
    println!(
        "{} lines of JSON, {of_shop} in the span of shop; {} families",
        log.lines().count(),
        families.len()
    );
    ensure!(of_shop > 0, "no line names the app:\n{log}");
    Ok(())
}

/// Alive, not ready, and it says what to do.
async fn health_without_rights(space: Arc<Space>) -> Result<()> {
    let kubeconfig = space.lab().cluster().kubeconfig_as("nobody", &[])?;
    let options = OperatorOptions { kubeconfig: Some(kubeconfig), ..OperatorOptions::default() };
    let operator = space.operator_with(&options).await?;
    let why = answers(&operator, "/readyz", 503, &["PhoenixApp", "forbidden"]).await?;
    println!("without rights: {why}");
    answers(&operator, "/healthz", 200, &["ok"]).await?;
    Ok(())
}

async fn health_without_a_server(space: Arc<Space>) -> Result<()> {
    let mut config = kube::config::Kubeconfig::read_from(space.lab().restricted())?;
    for cluster in config.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        cluster.server = Some("https://127.0.0.1:1".to_owned());
    }
    let kubeconfig = space.lab().directory("nowhere.kubeconfig");
    std::fs::write(&kubeconfig, serde_json::to_string(&config)?)?;
    let options = OperatorOptions { kubeconfig: Some(kubeconfig), ..OperatorOptions::default() };
    let mut operator = space.operator_with(&options).await?;
    let why = answers(&operator, "/readyz", 503, &["PhoenixApp"]).await?;
    println!("without an API server: {why}");
    answers(&operator, "/healthz", 200, &["ok"]).await?;
    operator.stop().await
}
