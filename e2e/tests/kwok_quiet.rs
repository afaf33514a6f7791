//! When nothing changes, the operator asks for nothing but its Lease.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::audit::{Audit, Request, by_verb, is_asked};
use e2e::fixtures::{migrating, plain};
use e2e::harness::{Lab, OperatorOptions, Seen};
use phoenix_operator::api::Phase;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How many apps there are; a third of them migrates.
const APPS: usize = 100;
/// Apps applied at a time.
const AT_ONCE: usize = 8;
/// How long they are left alone.
const WINDOW: Duration = Duration::from_mins(1);
/// Seconds between two renewals of the Lease.
const RENEWED: u64 = 2;
/// Without a request for this long, what the rollouts brought about has ended.
const SETTLED: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_healthy_apps_cost_nothing() -> Result<()> {
    let lab = Lab::fake().await?;
    let space = Arc::new(lab.space("quiet").await?);
    let audit = Audit::new(lab.cluster().audit_log());
    let options = OperatorOptions { instance: None, ..space.standing("quiet").await? };
    let mut operator = space.operator_with(&options).await?;
    let start = audit.end()?;
    let began = Instant::now();
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut applying = JoinSet::new();
    for number in 0..APPS {
        let (space, turns) = (Arc::clone(&space), Arc::clone(&turns));
        applying.spawn(async move {
            let _turn = turns.acquire_owned().await;
            let spec = if number % 3 == 0 { migrating("v1") } else { plain("v1") };
            space.apply(&format!("shop-{number}"), &spec).await
        });
    }
    while let Some(applied) = applying.join_next().await {
        applied.context("a task ended in disorder")??;
    }
    let healthy = |seen: &Seen| {
        let healthy = (0..APPS).filter(|number| {
            let status = seen.status(&format!("shop-{number}"));
            status.is_some_and(|s| s.phase == Some(Phase::Healthy) && s.ready_replicas == 2)
        });
        (healthy.count() == APPS).then_some(())
    };
    space.wait("100 healthy apps", Duration::from_mins(4), healthy).await?;
    println!("{APPS} apps healthy after {:?}", began.elapsed());

    let concerns_apps = |request: &Request| is_asked(request) && request.resource != "leases";
    audit.until_rest(SETTLED, Duration::from_mins(1), concerns_apps).await?;
    println!("until quiet: {:#?}", by_verb(&audit.of_operator(start).await?));

    let from = audit.end()?;
    // The measurement itself.
    tokio::time::sleep(WINDOW).await;
    let requests = audit.of_operator(from).await?;
    let all = audit.since(from)?;
    println!(
        "{APPS} apps, {WINDOW:?}: {} requests of all users, the operator's: {:?}",
        all.len(),
        by_verb(&requests)
    );
    ensure!(!all.is_empty(), "the audit log stands still");
    let renewals: Vec<_> = requests.iter().filter(|request| request.resource == "leases").collect();
    ensure!(renewals.iter().all(|request| request.verb == "update" && request.code == 200), "{renewals:#?}");
    let most = usize::try_from(WINDOW.as_secs() / RENEWED)? + 2;
    ensure!((most / 2..=most).contains(&renewals.len()), "{} renewals of the Lease", renewals.len());
    let asked: Vec<_> = requests.iter().filter(|request| concerns_apps(request)).collect();
    ensure!(asked.is_empty(), "the operator asked for {asked:#?}\n{}", space.describe().await);
    ensure!(operator.runs(), "the operator has ended");

    // It was not asleep: a change is still acted on.
    space.kubectl(&["scale", "phoenixapp/shop-0", "--replicas=3"], None).await?;
    let scaled = |seen: &Seen| (seen.status("shop-0")?.ready_replicas == 3).then_some(());
    space.wait("3 pods of shop-0", Duration::from_mins(1), scaled).await?;
    println!("statuses judged by kstatus and Argo CD: {:?}", space.judge_statuses().await?);
    space.close().await
}
