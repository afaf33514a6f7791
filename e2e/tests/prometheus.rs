//! Checks against the real Prometheus: Debian's, scraping two revisions of which one fails every tenth request.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests may fail as tests do")]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use e2e::prometheus::Prometheus;
use k8s_openapi::jiff::Timestamp;
use phoenix_operator::{
    analysis::Runner,
    api::{CheckStatus, During, PhoenixApp, StrategyKind, ValidatedApp, schema},
    plan::analysis::{Judgement, Proofs, Span, Which, assess},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
    time::timeout,
};

const GOOD: &str = "1111111111";
const BAD: &str = "2222222222";
/// Serves nothing.
const IDLE: &str = "3333333333";

/// What a pod's exporter says at its `scrape`th scrape: a hundred requests between two scrapes, of which so many fail.
fn exposition(scrape: u64, failing: u64) -> String {
    const REQUESTS: &str = "shop_prom_ex_phoenix_http_requests_total";
    const DURATION: &str = "shop_prom_ex_phoenix_http_request_duration_milliseconds";
    let (all, failed) = (scrape * 100, scrape * failing);
    let mut lines = vec![format!("# TYPE {REQUESTS} counter"), format!("# TYPE {DURATION} histogram")];
    if failing > 0 {
        lines.push(format!("{REQUESTS}{{status=\"500\"}} {failed}"));
    }
    lines.push(format!("{REQUESTS}{{status=\"200\"}} {}", all - failed));
    // nearly all within 500 ms; what fails takes up to 5 s
    for (le, count) in [("500", all - failed), ("1000", all - failed), ("5000", all), ("+Inf", all)] {
        lines.push(format!("{DURATION}_bucket{{le=\"{le}\"}} {count}"));
    }
    lines.join("\n") + "\n"
}

/// An exporter; none of its requests come before the first scrape.
async fn exporter(failing: Option<u64>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let scrapes = AtomicU64::new(0);
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let scrape = scrapes.fetch_add(1, Ordering::SeqCst);
            let body = failing.map(|failing| exposition(scrape, failing)).unwrap_or_default();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close\r\n";
            let _ = stream
                .write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes())
                .await;
        }
    });
    address
}

fn proofs(analysis: &serde_json::Value) -> Proofs {
    let mut object = json!({
        "apiVersion": "phoenix-operator.dev/v1alpha1", "kind": "PhoenixApp",
        "metadata": {"name": "shop", "namespace": "prod", "uid": "u", "generation": 1},
        "spec": {"image": "shop:1", "strategy": {"analysis": analysis}},
    });
    schema::apply_defaults(&mut object, schema::root());
    let app: PhoenixApp = serde_json::from_value(object).unwrap();
    Proofs::of(&ValidatedApp::try_from(&app).unwrap())
}

/// Measures as the controller does, until all is said.
async fn judge(
    runner: &Runner<u8>,
    told: &mut mpsc::UnboundedReceiver<u8>,
    proofs: &Proofs,
    revision: &str,
) -> (Judgement, Vec<CheckStatus>) {
    let span = Span {
        name: "rollout".to_owned(),
        attempt: 1,
        revision: revision.to_owned(),
        stable: GOOD.to_owned(),
        which: Which::Background(During::Rollout, StrategyKind::Canary),
        at_least: Duration::ZERO,
    };
    let mut status = Vec::new();
    loop {
        let now = Timestamp::now();
        let found =
            assess(&proofs.checks, std::slice::from_ref(&span), &mut status, &runner.answers(&0), now)
                .remove(0);
        runner.ask(&0, found.measure);
        if matches!(found.judgement, Judgement::Passed | Judgement::Inconclusive(_) | Judgement::Failed(_)) {
            runner.forget(&0);
            return (found.judgement, status);
        }
        // an answer, or the next measurement
        let _ = timeout(Duration::from_millis(200), told.recv()).await;
    }
}

#[tokio::test]
async fn a_release_that_fails_is_told_from_one_that_does_not() {
    let dir = std::env::temp_dir().join(format!("e2e-prometheus-{}", std::process::id()));
    let targets = [(GOOD, Some(0)), (BAD, Some(10)), (IDLE, None)];
    let mut scrapes = Vec::new();
    for (revision, failing) in targets {
        let address = exporter(failing).await;
        let labels = json!({"namespace": "prod", "phoenix_operator_dev_app": "shop",
                            "phoenix_operator_dev_revision": revision});
        scrapes.push(json!({"targets": [address.to_string()], "labels": labels}));
    }
    let config = json!({
        "global": {"scrape_interval": "500ms", "scrape_timeout": "400ms"},
        "scrape_configs": [{"job_name": "pods", "static_configs": scrapes}],
    });
    let listen = IpAddr::from(Ipv4Addr::LOCALHOST);
    let mut prometheus = Prometheus::start(listen, &dir, &config.to_string()).await.unwrap();
    let (tell, mut told) = mpsc::unbounded_channel();
    let runner = Runner::new(vec![prometheus.endpoint("prometheus").parse().unwrap()], move |app| {
        let _ = tell.send(app);
    });
    let errors = json!({"name": "errors", "preset": "PromExErrorRate", "interval": "1s", "window": "5s", "initialDelay": "4s"});
    let presets = proofs(&json!([
        errors,
        {"name": "p99", "preset": "PromExP99", "interval": "1s", "window": "5s", "initialDelay": "4s"},
        {"name": "p95", "preset": "PromExP95", "interval": "1s", "window": "5s", "initialDelay": "4s"},
    ]));

    let (judgement, status) = judge(&runner, &mut told, &presets, GOOD).await;
    assert_eq!(judgement, Judgement::Passed, "{status:?}");
    assert_eq!(status[0].samples.last().unwrap().value.as_deref(), Some("0"), "no 5xx is no missing data");

    let (judgement, _) = judge(&runner, &mut told, &presets, BAD).await;
    assert!(matches!(&judgement, Judgement::Failed(why) if why.contains("is above max")), "{judgement:?}");
    // Together, any of them may be answered first, and one that fails ends it.
    let (judgement, status) = judge(&runner, &mut told, &proofs(&json!([errors])), BAD).await;
    assert!(matches!(&judgement, Judgement::Failed(why) if why.contains("is above max")), "{judgement:?}");
    assert_eq!(status[0].samples[0].value.as_deref().map(|value| &value[..3]), Some("0.1"), "{status:?}");

    let (judgement, status) = judge(&runner, &mut told, &presets, IDLE).await;
    assert!(matches!(&judgement, Judgement::Inconclusive(_)), "without requests: {judgement:?} {status:?}");

    let odd =
        |query: &str| proofs(&json!([{"name": "odd", "query": query, "max": "1", "inconclusiveLimit": 0}]));
    for (query, because) in [
        ("up", "answers 3 series"),
        ("sum(", "parse error"),
        ("0/0", "the answer is NaN"),
        ("1/0", "the answer is +Inf"),
        ("up[1m]", "a matrix"),
        ("absent_metric", "no data"),
    ] {
        let (judgement, _) = judge(&runner, &mut told, &odd(query), GOOD).await;
        assert!(
            matches!(&judgement, Judgement::Inconclusive(why) if why.contains(because)),
            "{query}: {judgement:?}"
        );
    }
    let plain =
        proofs(&json!([{"name": "up", "query": "sum(up{phoenix_operator_dev_revision=\"{{revision}}\"})",
                               "min": "1", "count": 1}]));
    assert_eq!(judge(&runner, &mut told, &plain, GOOD).await.0, Judgement::Passed);

    prometheus.stop();
    let (judgement, _) = judge(&runner, &mut told, &odd("1"), GOOD).await;
    assert!(
        matches!(&judgement, Judgement::Inconclusive(why) if why.contains("cannot connect")),
        "{judgement:?}"
    );
    std::fs::remove_dir_all(dir).unwrap();
}
