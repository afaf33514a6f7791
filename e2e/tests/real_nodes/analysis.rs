//! A release of which every tenth request fails is stopped at its first weight, by what a real Prometheus scraped
//! from the real pods.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use e2e::fixtures::condition;
use e2e::harness::{OperatorOptions, Seen, Space};
use e2e::prometheus::Prometheus;
use phoenix_operator::api::{Outcome, Phase, PhoenixAppStatus, labels};
use serde_json::{Value, json};

use crate::shop::{self, PATIENCE, REPLICAS, SHOP};

/// The share that the first step gives to the new release, in percent.
const WEIGHT: u64 = 25;
/// Requests that are made at least while it has that share.
const REQUESTS: u64 = 2_000;

fn spec(image: &str) -> Value {
    let fields = json!({"strategy": {
        "type": "Canary",
        "progressDeadline": "2m",
        "canary": {"bake": "0s", "steps": [{"setWeight": WEIGHT}, {"analysis": {}}, {"setWeight": 50}]},
        "analysis": [{
            "name": "errors", "preset": "PromExErrorRate", "during": [],
            "initialDelay": "12s", "interval": "2s", "window": "8s", "count": 2,
        }],
    }});
    shop::with(shop::spec(image), &fields)
}

/// As docs/analysis.md has it for plain scrape configs.
fn config(targets: &Path) -> String {
    json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{
            "job_name": "pods",
            // Debian's Prometheus is built without the discovery of Kubernetes: the test tells it what that would.
            "file_sd_configs": [{"files": [targets], "refresh_interval": "1s"}],
            "relabel_configs": [
                {"action": "labelmap", "regex": "__meta_kubernetes_pod_label_(.+)"},
                {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
            ],
        }],
    })
    .to_string()
}

/// Every pod that has an address, with the labels that the discovery of Kubernetes gives it.
fn targets(seen: &Seen, namespace: &str) -> Value {
    let known = |name: &str| name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_");
    let target = |pod: &Value| {
        let ip = pod["status"]["podIP"].as_str()?;
        let mut labels: Value = json!({"__meta_kubernetes_namespace": namespace});
        for (name, value) in pod["metadata"]["labels"].as_object()? {
            labels[format!("__meta_kubernetes_pod_label_{}", known(name))] = value.clone();
        }
        Some(json!({"targets": [format!("{ip}:4000")], "labels": labels}))
    };
    seen.web_pods(SHOP).into_iter().filter_map(target).collect()
}

/// Keeps the file of targets as the pods are.
async fn discover(space: Arc<Space>, file: PathBuf) {
    let mut written = Value::Null;
    loop {
        let found = space.record().until(Duration::from_mins(10), |seen| {
            Some(targets(seen, space.name())).filter(|now| *now != written)
        });
        let Ok(Some(now)) = found.await else { return };
        let unfinished = file.with_extension("new");
        std::fs::write(&unfinished, now.to_string()).unwrap();
        std::fs::rename(unfinished, &file).unwrap();
        written = now;
    }
}

pub async fn stops_a_release_that_fails(space: Arc<Space>) {
    let directory = space.lab().directory("prometheus");
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("targets.json");
    std::fs::write(&file, "[]").unwrap();
    let listen = IpAddr::from(Ipv4Addr::LOCALHOST);
    let prometheus = Prometheus::start(listen, &directory, &config(&file)).await.unwrap();
    let discovery = tokio::spawn(discover(Arc::clone(&space), file));
    let options = OperatorOptions {
        namespaces: vec![space.name().to_owned()],
        prometheus: vec![prometheus.endpoint("prometheus")],
        ..OperatorOptions::default()
    };
    let _operator = space.operator_with(&options).await.unwrap();
    space.database().await.unwrap();
    let generation = space.apply(SHOP, &spec("v1")).await.unwrap();
    shop::healthy(&space, generation).await;
    let mut traffic = shop::traffic(&space, 350, 0);
    traffic.reaches(500).await.unwrap();

    // A good one passes.
    let start = Instant::now();
    let generation = space.apply(SHOP, &spec("v2")).await.unwrap();
    let v2 = shop::healthy(&space, generation).await;
    let measured = space.record().look(|seen| seen.status(SHOP)).unwrap().analysis;
    println!("a good release is promoted {:?} after it was applied: {measured:?}", start.elapsed());
    assert_eq!(measured.len(), 1, "{measured:#?}");
    assert_eq!((measured[0].span.as_str(), measured[0].successes), ("step-1", 2), "{measured:#?}");
    assert!(measured[0].samples.iter().all(|sample| sample.value.as_deref() == Some("0")), "{measured:#?}");
    let old = |seen: &Seen| (seen.web_pods(SHOP).len() == REPLICAS).then_some(());
    space.wait("the old pods to go", PATIENCE, old).await.unwrap();

    let bad = shop::with_env(spec("v1"), "ROOST_ERROR_RATE", "10");
    let start = Instant::now();
    let generation = space.apply(SHOP, &bad).await.unwrap();
    let serves = |seen: &Seen| {
        let candidate = seen.status(SHOP)?.candidate?.revision;
        (!seen.ready_pods(SHOP, &candidate).is_empty()).then_some(candidate)
    };
    let candidate = space.wait("a pod of the bad release", PATIENCE, serves).await.unwrap();
    let before = traffic.report_now().await.unwrap();
    let ended = |status: &PhoenixAppStatus| {
        status.candidate.as_ref().is_some_and(|candidate| candidate.verdict.is_some())
    };
    let stopped = space.wait_for(SHOP, generation, "the verdict", PATIENCE, ended).await.unwrap();
    let after = traffic.report_now().await.unwrap();
    let status = space.wait_phase(SHOP, generation, Phase::Failed, PATIENCE).await.unwrap();
    println!(
        "a release with 10 % errors failed {:?} after it was applied: {}",
        start.elapsed(),
        status.message
    );

    let attempt = stopped.candidate.unwrap();
    assert_eq!(
        (attempt.revision.as_str(), attempt.step),
        (candidate.as_str(), 1),
        "stopped at its first weight"
    );
    assert_eq!(attempt.verdict.unwrap().outcome, Outcome::Failed);
    assert_eq!(condition(&status, "AnalysisPassed"), Some(("False", "AnalysisFailed")), "{status:#?}");
    assert_eq!(condition(&status, "Ready").map(|(state, _)| state), Some("False"));
    assert_eq!(condition(&status, "Stalled").map(|(state, _)| state), Some("True"));
    assert_eq!(status.stable.as_deref(), Some(v2.as_str()));
    assert!(status.message.contains("errors") && status.message.contains("above max"), "{}", status.message);

    let of = |version: &str| {
        let count = |report: &e2e::load::Report| report.versions.get(version).copied().unwrap_or_default();
        count(&after) - count(&before)
    };
    let (bad, good) = (of("v1"), of("v2"));
    println!("{bad} of {} requests reached it", bad + good);
    assert!(bad + good >= REQUESTS, "{bad} + {good} requests are too few to tell");
    assert!(bad * 100 <= (bad + good) * (WEIGHT + 5), "more than the weight and 5 points");

    let alone = |seen: &Seen| {
        let led = seen.get("Service", SHOP)?["spec"]["selector"].get(labels::REVISION)?.as_str()? == v2;
        let ready = seen.ready_pods(SHOP, &v2).len() == REPLICAS;
        (led && ready && seen.all_gone(SHOP, &candidate)).then_some(())
    };
    space.wait("everything to be back on v2", PATIENCE, alone).await.unwrap();
    let back = traffic.report_now().await.unwrap();
    let rest = traffic.reaches(back.requests + 500).await.unwrap();
    assert_eq!(rest.versions["v1"], back.versions["v1"], "nothing reaches it any more");
    let report = traffic.stop().await.unwrap();
    let by_design = report.failed.get("status 500").copied().unwrap_or_default();
    println!(
        "{} requests, {by_design} failed as that release was made to, others {:?}",
        report.requests, report.failed
    );
    assert!(by_design > 0 && report.failed() == by_design, "{:#?}", report.failures);
    assert_eq!(report.streams.cut, 0, "{:#?}", report.failures);
    discovery.abort();
}
