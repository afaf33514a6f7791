//! A list storm: an operator starts over thousands of objects that are as they should be.
//!
//! `PHOENIX_E2E_APPS=1400` makes more than ten thousand: `make soak`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::audit::{Audit, Request, by_verb, is_asked};
use e2e::bench;
use e2e::fixtures::{plain, with};
use e2e::harness::{Lab, Operator, OperatorOptions};
use kube::Api;
use kube::api::PostParams;
use phoenix_operator::api::PhoenixApp;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Each has seven children of the operator's own: two Services, a Deployment, a stored revision, a ConfigMap, a Secret, a
/// ServiceAccount; with the app itself, its pod and what Kubernetes adds that makes a dozen objects.
fn apps() -> Result<usize> {
    std::env::var("PHOENIX_E2E_APPS").map_or(Ok(150), |text| text.parse().context("PHOENIX_E2E_APPS"))
}

/// Apps applied at a time.
const AT_ONCE: usize = 16;
/// How long all of them may take to be healthy, with nodes and controllers on the same machine.
const HEALTHY: Duration = Duration::from_mins(8);
/// Without a request for this long, what the rollouts brought about has ended.
const SETTLED: Duration = Duration::from_secs(4);
/// How long the operator may take to judge all of them after its start.
const JUDGED: Duration = Duration::from_mins(1);
/// Most memory that it may take meanwhile for an app, in KiB, beside what it takes for none.
const MEMORY: u64 = 180;
/// What it takes for none.
const EMPTY: u64 = 40 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_start_over_thousands_of_objects_writes_nothing() -> Result<()> {
    let apps = apps()?;
    let lab = Lab::fake().await?;
    let space = lab.space("storm").await?;
    let audit = Audit::new(lab.cluster().audit_log());
    // Not the namespace whose every event is kept.
    let namespace = format!("{}-apps", space.name());
    lab.kubectl(&["create", "namespace", &namespace], None).await?;
    let options = OperatorOptions { namespaces: vec![namespace.clone()], ..OperatorOptions::default() };
    let mut operator = space.operator_with(&options).await?;
    let began = Instant::now();
    apply(&lab, &namespace, apps).await?;
    let applied = began.elapsed();
    judged(&operator, apps, began + HEALTHY).await?;
    println!("{apps} apps applied within {applied:?}, healthy after {:?}", began.elapsed());
    audit.until_rest(SETTLED, Duration::from_mins(2), is_asked).await?;
    println!(
        "memory at rest: {} MiB, at most: {} MiB",
        operator.memory("VmRSS")? / 1024,
        operator.memory("VmHWM")? / 1024
    );

    operator.kill9().await?;
    let from = audit.end()?;
    let began = Instant::now();
    operator.restart()?;
    judged(&operator, apps, began + JUDGED).await?;
    let took = began.elapsed();
    audit.until_rest(SETTLED, Duration::from_mins(2), is_asked).await?;
    let requests = audit.of_operator(from).await?;
    let peak = operator.memory("VmHWM")?;
    println!(
        "started again: all judged after {took:?}, at most {} MiB, {:?}",
        peak / 1024,
        by_verb(&requests)
    );
    let writes: Vec<_> = requests.iter().filter(|request| request.mutates()).collect();
    ensure!(
        writes.is_empty(),
        "it wrote {} times: {:?}",
        writes.len(),
        writes.iter().take(5).collect::<Vec<_>>()
    );
    let most = EMPTY + MEMORY * u64::try_from(apps)?;
    ensure!(peak <= most, "it took {peak} KiB of {most}");
    let lists = count(&requests, |request| request.verb == "list");
    ensure!(lists.is_empty(), "it asked for lists, which cost more: {lists:?}");
    let watches = count(&requests, is_opened);
    ensure!(watches.len() > 10 && watches.values().all(|count| *count == 1), "{watches:?}");
    operator.stop().await?;
    space.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_api_server_is_asked_for_pages() -> Result<()> {
    const APPS: usize = 101;
    let lab = Lab::older().await?;
    let space = lab.space("pages").await?;
    let audit = Audit::new(lab.cluster().audit_log());
    let namespace = format!("{}-apps", space.name());
    lab.kubectl(&["create", "namespace", &namespace], None).await?;
    apply(&lab, &namespace, APPS).await?;
    let options = OperatorOptions { namespaces: vec![namespace.clone()], ..OperatorOptions::default() };
    let mut operator = space.operator_with(&options).await?;
    judged(&operator, APPS, Instant::now() + HEALTHY).await?;
    audit.until_rest(SETTLED, Duration::from_mins(2), is_asked).await?;

    operator.kill9().await?;
    let from = audit.end()?;
    operator.restart()?;
    judged(&operator, APPS, Instant::now() + JUDGED).await?;
    audit.until_rest(SETTLED, Duration::from_mins(2), is_asked).await?;
    let requests = audit.of_operator(from).await?;
    ensure!(!requests.iter().any(Request::mutates), "{requests:?}");
    let lists = count(&requests, |request| request.verb == "list");
    // pages of 100
    let pages = ["phoenixapps", "services", "ingresses"].map(|kind| lists.get(kind).copied());
    ensure!(pages == [Some(2), Some(3), Some(1)], "{lists:?}");
    // with the wish to begin with what there is, and without
    let refused = count(&requests, |request| request.verb == "watch" && request.code == 422);
    let opened = count(&requests, is_opened);
    ensure!(opened.len() > 10 && opened.keys().eq(refused.keys()), "{opened:?}, {refused:?}");
    ensure!(opened.values().all(|count| *count == 1), "{opened:?}");
    operator.stop().await?;
    space.close().await
}

/// A watch that began.
fn is_opened(request: &Request) -> bool {
    request.verb == "watch" && request.stage == "ResponseStarted" && request.code == 200
}

/// How many of these requests were about each resource.
fn count(requests: &[Request], counts: impl Fn(&Request) -> bool) -> BTreeMap<&str, usize> {
    let mut counted = BTreeMap::new();
    for request in requests.iter().filter(|request| counts(request)) {
        *counted.entry(&*request.resource).or_default() += 1;
    }
    counted
}

async fn apply(lab: &Lab, namespace: &str, count: usize) -> Result<()> {
    let apps: Api<PhoenixApp> = Api::namespaced(lab.client().clone(), namespace);
    let spec = with(plain("v1"), &json!({"replicas": 1}));
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut applying = JoinSet::new();
    for number in 0..count {
        let app = PhoenixApp::new(&format!("shop-{number}"), serde_json::from_value(spec.clone())?);
        let (apps, turns) = (apps.clone(), Arc::clone(&turns));
        applying.spawn(async move {
            let _turn = turns.acquire_owned().await;
            apps.create(&PostParams::default(), &app).await
        });
    }
    while let Some(applied) = applying.join_next().await {
        applied.context("a task ended in disorder")??;
    }
    Ok(())
}

/// Waits until the operator has judged every app, and found it healthy.
async fn judged(operator: &Operator, apps: usize, deadline: Instant) -> Result<()> {
    loop {
        let text = operator.get("/metrics").await.map(|(_, text)| text).unwrap_or_default();
        let healthy = bench::healthy(&text);
        if healthy == apps {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{healthy} of {apps} apps are healthy");
        // What a process knows can only be asked for.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
