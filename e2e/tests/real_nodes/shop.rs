//! The app that all steps run, and what they ask of it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::harness::{Seen, Space, Traffic, TrafficOptions};
use e2e::load::{Report, get};
use serde_json::{Value, json};

/// Its name.
pub const SHOP: &str = "shop";
/// Its wanted pods.
pub const REPLICAS: usize = 3;
/// Far more than anything takes that goes well; only a failing step ever waits for it.
pub const PATIENCE: Duration = Duration::from_secs(150);

/// A spec with a database, quick probes and a short deadline.
pub fn spec(version: &str) -> Value {
    json!({
        "image": format!("registry.local/roost:{version}"),
        "imagePullPolicy": "IfNotPresent",
        "release": {"name": "roost"},
        "replicas": REPLICAS,
        "database": {"urlFrom": {"secretKeyRef": {"name": "db", "key": "uri"}}, "poolSize": 2},
        "env": [{"name": "ROOST_CLUSTER_INTERVAL_MS", "value": "1000"}],
        "health": {
            "readiness": {"path": "/ready", "period": "1s"},
            "startup": {"period": "1s", "failureThreshold": 25},
        },
        "shutdown": {"endpointLag": "5s", "grace": "60s"},
        "strategy": {"progressDeadline": "30s"},
        "migrations": {"retries": 0},
    })
}

/// A spec with more environment.
pub fn with_env(mut spec: Value, name: &str, value: &str) -> Value {
    spec["env"].as_array_mut().unwrap().push(json!({"name": name, "value": value}));
    spec
}

/// The first rollout: the app's database, v1, every pod ready. Gives back the stable revision.
pub async fn first(space: &Space) -> String {
    space.database().await.unwrap();
    let start = Instant::now();
    let generation = space.apply(SHOP, &spec("v1")).await.unwrap();
    let stable = healthy(space, generation).await;
    println!("v1 serves {:?} after it was applied", start.elapsed());
    stable
}

/// Waits until the app is healthy at this generation; gives back the stable revision.
pub async fn healthy(space: &Space, generation: i64) -> String {
    let healthy = space.wait_phase(SHOP, generation, phoenix_operator::api::Phase::Healthy, PATIENCE).await;
    let stable = healthy.unwrap().stable.unwrap();
    let ready = space.record().look(|seen| seen.ready_pods(SHOP, &stable).len());
    assert_eq!(ready, REPLICAS, "healthy means that all wanted pods serve");
    stable
}

/// Where an app's Service is.
fn service(space: &Space, app: &str) -> SocketAddr {
    let ip: IpAddr = space.record().look(|seen| {
        let service = seen.get("Service", app).unwrap();
        service["spec"]["clusterIP"].as_str().unwrap().parse().unwrap()
    });
    SocketAddr::new(ip, 80)
}

/// Load through the Service, from where kube-proxy's rules apply.
pub fn traffic(space: &Space, rate: u32, at_least: u64) -> Traffic {
    traffic_to(space, SHOP, &load(60, 12, rate, at_least))
}

/// Every fifth request takes long enough to be in work when its pod is told to stop.
pub fn load(connections: usize, streams: usize, rate: u32, at_least: u64) -> TrafficOptions {
    let paths = ["/version", "/version", "/version", "/db", "/slow?ms=250"].map(str::to_owned).to_vec();
    TrafficOptions { connections, streams, rate, at_least, paths }
}

/// The same on any app's Service.
pub fn traffic_to(space: &Space, app: &str, options: &TrafficOptions) -> Traffic {
    let program = Path::new(env!("CARGO_BIN_EXE_load"));
    let netns = space.lab().cluster().clients_netns();
    Traffic::start(program, netns.as_deref(), service(space, app), options).unwrap()
}

/// Changes what differs; objects are merged.
pub fn with(mut spec: Value, fields: &Value) -> Value {
    merge(&mut spec, fields);
    spec
}

fn merge(into: &mut Value, from: &Value) {
    match (into.as_object_mut(), from.as_object()) {
        (Some(into), Some(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        _ => *into = from.clone(),
    }
}

/// Prints what was counted, and fails if anything was lost.
pub fn nothing_lost(what: &str, report: &Report) {
    let Report { requests, allowed_retries, versions, latency, streams, .. } = report;
    println!(
        "{what}: {requests} requests, {} failed {:?}; sent again under RFC 9112 9.3.1: {} closed, {} reset; \
         versions {versions:?}; ms: p50 {:.1}, p99 {:.1}, max {:.1}; streams: {} opened, {} drained, {} cut, \
         open {:?}",
        report.failed(),
        report.failed,
        allowed_retries.closed,
        allowed_retries.reset,
        latency.p50,
        latency.p99,
        latency.max,
        streams.opened,
        streams.drained,
        streams.cut,
        streams.open,
    );
    assert_eq!(report.failed(), 0, "{:#?}", report.failures);
    assert_eq!(streams.cut, 0, "{:#?}", report.failures);
    assert!(!report.out_of_time);
}

/// The node name of a pod.
pub fn node_of(pod: &Value) -> String {
    format!("roost@{}", pod["status"]["podIP"].as_str().unwrap())
}

/// Name of a pod.
pub fn name(pod: &Value) -> String {
    pod["metadata"]["name"].as_str().unwrap().to_owned()
}

/// Asks each ready pod of a revision, directly.
pub async fn ask(space: &Space, revision: &str, path: &str) -> Vec<Value> {
    ask_app(space, SHOP, revision, path).await
}

/// Asks each ready pod of a revision of any app.
pub async fn ask_app(space: &Space, app: &str, revision: &str, path: &str) -> Vec<Value> {
    let addresses: Vec<IpAddr> = space.record().look(|seen| {
        let pods = seen.ready_pods(app, revision).into_iter();
        pods.map(|pod| pod["status"]["podIP"].as_str().unwrap().parse().unwrap()).collect()
    });
    let mut answers = Vec::new();
    for address in addresses {
        let (status, body) = get(SocketAddr::new(address, 4000), "localhost", path).await.unwrap();
        assert_eq!(status, 200, "{path}");
        answers.push(serde_json::from_slice(&body).unwrap());
    }
    answers
}

/// Waits until each pod of a revision sees exactly the others: only the nodes themselves know that, and they
/// look for each other once a second.
pub async fn meshed(space: &Space, revision: &str) {
    let start = Instant::now();
    loop {
        let wanted: BTreeSet<String> = space
            .record()
            .look(|seen: &Seen| seen.ready_pods(SHOP, revision).into_iter().map(node_of).collect());
        let views = ask(space, revision, "/nodes").await;
        let complete = views.iter().all(|view| {
            let mut seen: BTreeSet<String> = view["nodes"]
                .as_array()
                .unwrap()
                .iter()
                .map(|node| node.as_str().unwrap().to_owned())
                .collect();
            seen.insert(view["node"].as_str().unwrap().to_owned());
            seen == wanted
        });
        if complete && views.len() == REPLICAS {
            println!("{} nodes of {revision} are meshed: {wanted:?}", views.len());
            return;
        }
        assert!(start.elapsed() < PATIENCE, "not meshed: {views:#?}, wanted {wanted:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
