//! The operator on real nodes: containerd, kubelet, kube-proxy, the real release and a real PostgreSQL.
//!
//! One cluster serves all steps, most of them one after the other, each in a namespace of its own with an operator of its
//! own. `PHOENIX_E2E_STEPS=rollout,faults` runs some of them; `PHOENIX_E2E_ATTACH=<dir>` uses a cluster that
//! is up (`e2e up --nodes real`). Skipped, with the reason, where there can be no real nodes.

#![allow(clippy::unwrap_used, reason = "the helpers of tests may fail as tests do")]

mod analysis;
mod crash;
mod cutovers;
mod faults;
mod inside;
mod isolation;
mod migrations;
mod plugin;
mod returns;
mod rollout;
mod shop;
mod streams;
mod verify;

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use e2e::cluster::Nodes;
use e2e::harness::{Lab, Space, obstacle};

/// Runs one step; says whether it passed. What went wrong is printed, and the next step runs all the same.
async fn step<F, S>(lab: &Arc<Lab>, name: &str, body: F) -> bool
where
    F: FnOnce(Arc<Space>) -> S,
    S: Future<Output = ()> + Send + 'static,
{
    let wanted = std::env::var("PHOENIX_E2E_STEPS").unwrap_or_default();
    if !wanted.is_empty() && !wanted.split(',').any(|step| step == name) {
        return true;
    }
    println!("step {name}");
    let start = Instant::now();
    let space = Arc::new(lab.space(name).await.unwrap());
    let passed = tokio::spawn(body(Arc::clone(&space))).await.is_ok();
    let judged = space.judge_statuses().await;
    match &judged {
        Ok(judged) => println!("{name}: statuses {judged:?}"),
        Err(error) => println!("{name}: a status does not tell the truth: {error:#}"),
    }
    if !passed {
        println!("{name}: how everything stood:\n{}", space.describe().await);
    }
    space.close().await.unwrap();
    let passed = passed && judged.is_ok();
    println!("step {name} {} after {:?}", if passed { "passed" } else { "FAILED" }, start.elapsed());
    passed
}

#[tokio::test(flavor = "multi_thread")]
async fn real_nodes() {
    if let Some(obstacle) = obstacle(Nodes::Real).unwrap() {
        eprintln!("skipped: {obstacle}");
        return;
    }
    let start = Instant::now();
    // v3 is loaded by a step, to cure what lacks it.
    let lab = Lab::real(&["v1", "v2", "crash", "neverready", "badmigrate"]).await.unwrap();
    println!("real nodes are up, with images, after {:?}", start.elapsed());
    let mut failed = Vec::new();
    let mut note = |name, passed: bool| {
        if !passed {
            failed.push(name);
        }
    };
    note("rollout", step(&lab, "rollout", rollout::replaces_every_pod_under_load).await);
    note("migrations", step(&lab, "migrations", migrations::gate_the_pods).await);
    note("phases", step(&lab, "phases", migrations::run_in_phases).await);
    note("together", step(&lab, "together", migrations::wait_for_their_database).await);
    note("crash", step(&lab, "crash", crash::returns_and_loses_nothing).await);
    note("faults", step(&lab, "faults", faults::are_named_and_heal).await);
    note("commands", step(&lab, "commands", faults::and_people_can_stop_it).await);
    note("cutovers", step(&lab, "cutovers", cutovers::lose_nothing).await);
    note("streams", step(&lab, "streams", streams::close_in_batches).await);
    note("analysis", step(&lab, "analysis", analysis::stops_a_release_that_fails).await);
    note("failures", step(&lab, "failures", returns::after_failures).await);
    note("aborts", step(&lab, "aborts", returns::after_aborts).await);
    // Neither makes load, and both mostly wait: two at once, each with an operator of its own.
    let (isolation, plugin) = tokio::join!(
        step(&lab, "isolation", isolation::keeps_revisions_apart),
        step(&lab, "plugin", plugin::looks_into_pods),
    );
    note("verify", step(&lab, "verify", verify::nodes_that_stand_alone_get_no_requests).await);
    note("isolation", isolation);
    note("plugin", plugin);
    note("inside", step(&lab, "inside", inside::nodes_answer_and_recover).await);
    println!("all of it took {:?}", start.elapsed());
    assert!(failed.is_empty(), "failed: {failed:?}");
}
