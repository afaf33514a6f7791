//! A canary by the weights of a real gateway (Traefik), on real nodes, under load.
//!
//! `PHOENIX_E2E_CUTOVERS=25` makes so many, or one more, instead of two: `make soak`.

#![allow(clippy::unwrap_used, reason = "the helpers of tests may fail as tests do")]

use std::path::Path;
use std::time::{Duration, Instant};

use e2e::cluster::Nodes;
use e2e::gateway::{self, CONTROLLER, Traefik};
use e2e::harness::{Lab, Space, Traffic, TrafficOptions, obstacle};
use e2e::load::{Report, get};
use phoenix_operator::api::{Outcome, Phase, PhoenixAppStatus};
use serde_json::{Value, json};

const SHOP: &str = "shop";
/// Far more than anything takes that goes well.
const PATIENCE: Duration = Duration::from_secs(150);
/// Requests by which a share is judged.
const SAMPLE: u64 = 600;

fn spec(version: &str, traffic: &Value) -> Value {
    let steps = json!([{"setWeight": 20}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}]);
    json!({
        "image": format!("registry.local/roost:{version}"),
        "imagePullPolicy": "IfNotPresent",
        "release": {"name": "roost"},
        "replicas": 3,
        "hosts": ["localhost"],
        "database": {"urlFrom": {"secretKeyRef": {"name": "db", "key": "uri"}}, "poolSize": 2},
        "health": {
            "readiness": {"path": "/ready", "period": "1s"},
            "startup": {"period": "1s", "failureThreshold": 25},
        },
        "shutdown": {"endpointLag": "4s", "grace": "60s"},
        "strategy": {"type": "Canary", "progressDeadline": "60s", "canary": {"steps": steps, "bake": "0s"}},
        "migrations": {"retries": 0},
        "traffic": traffic,
    })
}

/// The Gateway is in another namespace than the app, and lets routes of all in.
async fn gateway(lab: &Lab, port: u16) {
    let class = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
        "metadata": {"name": "traefik"}, "spec": {"controllerName": CONTROLLER},
    });
    let listener = json!({"name": "web", "port": port, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}});
    let public = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "public", "namespace": "default"},
        "spec": {"gatewayClassName": "traefik", "listeners": [listener]},
    });
    for object in [class, public] {
        lab.kubectl(&["apply", "--server-side", "-f", "-"], Some(&object.to_string())).await.unwrap();
    }
}

/// There and back, how often.
fn pairs() -> u32 {
    let cutovers: u32 = std::env::var("PHOENIX_E2E_CUTOVERS").map_or(2, |text| text.parse().unwrap());
    cutovers.div_ceil(2)
}

fn target(status: &PhoenixAppStatus) -> String {
    let candidate = status.candidate.as_ref().unwrap();
    format!("{}/{}", candidate.revision, candidate.attempt)
}

/// At the pause of step `step`, with all that came before in force.
async fn waits_at(space: &Space, generation: i64, step: i32) -> PhoenixAppStatus {
    let there = move |status: &PhoenixAppStatus| {
        status.phase == Some(Phase::Paused) && status.candidate.as_ref().is_some_and(|one| one.step == step)
    };
    space.wait_for(SHOP, generation, "the pause", PATIENCE, there).await.unwrap()
}

fn nothing_lost(what: &str, report: &Report) {
    println!(
        "{what}: {} requests, {} failed, versions {:?}",
        report.requests,
        report.failed(),
        report.versions
    );
    assert_eq!(report.failed(), 0, "{what}: {:#?}", report.failures);
}

/// The share of a version among the next requests is within five points of its weight.
async fn share(traffic: &mut Traffic, version: &str, weight: f64) {
    let before = traffic.report_now().await.unwrap();
    let after = traffic.reaches(before.requests + SAMPLE).await.unwrap();
    let count = |report: &Report, version: &str| report.versions.get(version).copied().unwrap_or_default();
    let new = count(&after, version) - count(&before, version);
    let all: u64 = after.versions.values().sum::<u64>() - before.versions.values().sum::<u64>();
    let percent = 100.0 * f64::from(u32::try_from(new).unwrap()) / f64::from(u32::try_from(all).unwrap());
    println!("{new} of {all} requests were answered by {version}: {percent:.1} % at a weight of {weight} %");
    assert!((percent - weight).abs() <= 5.0, "{percent:.1} % is not {weight} %");
}

/// Through both weights to the promotion.
async fn roll_out(space: &Space, traffic: &mut Traffic, version: &str, routed: &Value) {
    let began = Instant::now();
    let generation = space.apply(SHOP, &spec(version, routed)).await.unwrap();
    for (step, weight) in [(1, 20.0), (3, 50.0)] {
        let paused = waits_at(space, generation, step).await;
        share(traffic, version, weight).await;
        space.command(SHOP, &format!("promote {}/{step}", target(&paused))).await.unwrap();
    }
    let healthy = space.wait_phase(SHOP, generation, Phase::Healthy, PATIENCE).await.unwrap();
    let stable = healthy.stable.unwrap();
    let alone = |seen: &e2e::harness::Seen| {
        (seen.web_pods(SHOP).len() == 3 && seen.ready_pods(SHOP, &stable).len() == 3).then_some(())
    };
    space.wait("the old pods to be gone", PATIENCE, alone).await.unwrap();
    println!("{version} was rolled out in {:?}", began.elapsed());
    nothing_lost(version, &traffic.report_now().await.unwrap());
    share(traffic, version, 100.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_of_a_real_gateway() {
    if let Some(obstacle) = obstacle(Nodes::Real).unwrap() {
        eprintln!("skipped: {obstacle}");
        return;
    }
    let lab = Lab::real(&["v1", "v2"]).await.unwrap();
    gateway::define(&lab).await.unwrap();
    let traefik = Traefik::start(lab.cluster().kubeconfig(), &lab.directory("traefik")).await.unwrap();
    gateway(&lab, traefik.address().port()).await;
    let space = lab.space("gateway").await.unwrap();
    let _operator = space.operator().await.unwrap();
    space.database().await.unwrap();
    let routed = json!({"gateway": {"parentRefs": [{"name": "public", "namespace": "default"}]}});
    let first = space.roll_out(SHOP, &spec("v1", &routed)).await.unwrap();
    let taken = |status: &PhoenixAppStatus| {
        let mut conditions = status.conditions.iter();
        conditions.any(|condition| condition.type_ == "RouteAccepted" && condition.status == "True")
    };
    let taken = space.wait_for(SHOP, first.observed_generation, "the gateway", PATIENCE, taken).await;
    assert!(taken.is_ok(), "{:#}\n{}", taken.unwrap_err(), traefik.log());
    let began = Instant::now();
    while !matches!(get(traefik.address(), "localhost", "/version").await, Ok((200, _))) {
        assert!(began.elapsed() < PATIENCE, "the gateway does not serve:\n{}", traefik.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let options = TrafficOptions {
        connections: 30,
        streams: 0,
        rate: 150,
        at_least: 0,
        paths: ["/version", "/version", "/version", "/slow?ms=250"].map(str::to_owned).to_vec(),
    };
    let load = Path::new(env!("CARGO_BIN_EXE_load"));
    let mut traffic = Traffic::start(load, None, traefik.address(), &options).unwrap();
    let pairs = pairs();
    for _ in 0..pairs {
        roll_out(&space, &mut traffic, "v2", &routed).await;
        roll_out(&space, &mut traffic, "v1", &routed).await;
    }

    // ended by a person at its first weight
    let generation = space.apply(SHOP, &spec("v2", &routed)).await.unwrap();
    let paused = waits_at(&space, generation, 1).await;
    share(&mut traffic, "v2", 20.0).await;
    space.command(SHOP, &format!("abort {}", target(&paused))).await.unwrap();
    let returned = |status: &PhoenixAppStatus| {
        let verdict = status.candidate.as_ref().and_then(|candidate| candidate.verdict.as_ref());
        verdict.is_some_and(|verdict| verdict.outcome == Outcome::Aborted && verdict.returned)
    };
    space.wait_for(SHOP, generation, "the return", PATIENCE, returned).await.unwrap();
    share(&mut traffic, "v1", 100.0).await;
    nothing_lost(&format!("{} rollouts and an abort", pairs * 2), &traffic.stop().await.unwrap());
    ingress(&space, &traefik).await;
    space.judge_statuses().await.unwrap();
    space.close().await.unwrap();
}

/// The same app through an Ingress alone.
async fn ingress(space: &Space, traefik: &Traefik) {
    let class = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "traefik"},
        "spec": {"controller": "traefik.io/ingress-controller"},
    });
    space.lab().kubectl(&["apply", "--server-side", "-f", "-"], Some(&class.to_string())).await.unwrap();
    let traffic = json!({"ingress": {"className": "traefik"}});
    space.apply(SHOP, &spec("v1", &traffic)).await.unwrap();
    let gone =
        || async { space.kubectl(&["get", "httproute", "--no-headers"], None).await.unwrap().is_empty() };
    let began = Instant::now();
    while !(gone().await && matches!(get(traefik.address(), "localhost", "/version").await, Ok((200, _)))) {
        assert!(began.elapsed() < PATIENCE, "the Ingress does not serve:\n{}", traefik.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("an Ingress serves");
}
