//! Whose nodes see each other: revisions apart, revisions together, and peers that the API server lists.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use e2e::harness::{Seen, Space};
use phoenix_operator::api::Phase;
use serde_json::{Value, json};

use crate::shop;

/// Pods of each revision.
const PODS: usize = 2;
/// Several apps start at once on two processors.
const LONG: Duration = Duration::from_mins(4);

fn spec(image: &str, clustering: &Value) -> Value {
    let fields = json!({
        "replicas": PODS,
        "migrations": {"mode": "Disabled"},
        "clustering": clustering,
        "env": [{"name": "ROOST_CLUSTER_INTERVAL_MS", "value": "300"}],
        "shutdown": {"endpointLag": "1s"},
        "strategy": {
            "type": "BlueGreen", "progressDeadline": "2m",
            "blueGreen": {"autoPromote": false, "bake": "0s", "keepOld": "0s"},
        },
    });
    shop::with(shop::spec(image), &fields)
}

fn names(value: &Value) -> BTreeSet<String> {
    value.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// Nodes of the ready pods of these revisions.
fn nodes(seen: &Seen, app: &str, revisions: &[&str]) -> BTreeSet<String> {
    let pods = revisions.iter().flat_map(|revision| seen.ready_pods(app, revision));
    pods.map(shop::node_of).collect()
}

/// Waits until each node sees the others of these revisions; only they know.
async fn meshed(space: &Space, app: &str, revisions: &[&str]) -> BTreeSet<String> {
    let start = Instant::now();
    loop {
        let all = space.record().look(|seen| nodes(seen, app, revisions));
        let mut views = Vec::new();
        for revision in revisions {
            views.extend(shop::ask_app(space, app, revision, "/nodes").await);
        }
        let complete = views.iter().all(|view| {
            let mut seen = names(&view["nodes"]);
            seen.insert(view["node"].as_str().unwrap().to_owned());
            seen == all
        });
        if complete && all.len() == PODS * revisions.len() {
            return all;
        }
        assert!(start.elapsed() < LONG, "{app} is not meshed: {views:#?}, wanted {all:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

pub async fn keeps_revisions_apart(space: Arc<Space>) {
    let _operator = space.operator().await.unwrap();
    space.database().await.unwrap();
    let apps = [
        ("apart", json!({})),
        ("together", json!({"isolation": "Shared"})),
        ("listed", json!({"mode": "KubernetesAPI"})),
    ];
    let release = |app: &str, image: &str, clustering: &Value| {
        let spec = spec(image, clustering);
        if app == "listed" { shop::with_env(spec, "ROOST_CLUSTER", "kubernetes") } else { spec }
    };
    let mut stable = Vec::new();
    for (app, clustering) in &apps {
        space.apply(app, &release(app, "v1", clustering)).await.unwrap();
    }
    for (app, _) in &apps {
        let status = space.wait_phase(app, 1, Phase::Healthy, LONG).await.unwrap();
        stable.push(status.stable.unwrap());
    }
    for ((app, clustering), old) in apps.iter().zip(&stable) {
        meshed(&space, app, &[old]).await;
        space.apply(app, &release(app, "v2", clustering)).await.unwrap();
    }
    for ((app, _), old) in apps.iter().zip(&stable) {
        let paused = space.wait_phase(app, 2, Phase::Paused, LONG).await.unwrap();
        let candidate = paused.candidate.unwrap();
        let (old, new) = (old.as_str(), candidate.revision.as_str());
        if *app == "together" {
            println!("{app}: {:?} see each other", meshed(&space, app, &[old, new]).await);
        } else {
            let (olds, news) = (meshed(&space, app, &[old]).await, meshed(&space, app, &[new]).await);
            strangers(&space, app, (old, &olds), (new, &news)).await;
            println!("{app}: {olds:?} and {news:?} never see each other");
        }
        if *app == "listed" {
            rights(&space, app, new).await;
        }
        let promote = format!("promote {new}/{}/0", candidate.attempt);
        space.command(app, &promote).await.unwrap();
        space.wait_phase(app, 2, Phase::Healthy, LONG).await.unwrap();
        let gone = |seen: &Seen| seen.all_gone(app, old).then_some(());
        space.wait("the old pods to be gone", LONG, gone).await.unwrap();
        // Those that are left tell whom they ever saw, to the end.
        let left = meshed(&space, app, &[new]).await;
        for view in shop::ask_app(&space, app, new, "/nodes").await {
            let foreign: Vec<_> = names(&view["ever"]).difference(&left).cloned().collect();
            assert_eq!(foreign.is_empty(), *app != "together", "{app}: ever seen besides: {foreign:?}");
        }
    }
}

/// Neither side ever saw the other, nor can when it tries: the cookies differ.
async fn strangers(
    space: &Space,
    app: &str,
    (old, olds): (&str, &BTreeSet<String>),
    (new, news): (&str, &BTreeSet<String>),
) {
    for (revision, others) in [(old, news), (new, olds)] {
        for view in shop::ask_app(space, app, revision, "/nodes").await {
            assert!(names(&view["ever"]).is_disjoint(others), "{app}: {view}");
        }
        let pod = pod(space, app, revision);
        let other = others.first().unwrap();
        let tried = rpc(space, &pod, &format!("IO.inspect(Node.connect(:\"{other}\"))")).await;
        assert_eq!(tried.trim(), "false", "{app}: {revision} reached {other}");
    }
}

fn pod(space: &Space, app: &str, revision: &str) -> String {
    space.record().look(|seen| shop::name(seen.ready_pods(app, revision)[0]))
}

async fn rpc(space: &Space, pod: &str, expression: &str) -> String {
    space.exec(pod, &["/app/bin/roost", "rpc", expression]).await.unwrap()
}

/// What the mounted token is good for, asked from within the pod: lists of pods and endpoints of its namespace.
async fn rights(space: &Space, app: &str, revision: &str) {
    let own = format!("/api/v1/namespaces/{}", space.name());
    let pod_of_apart = space.record().look(|seen| shop::name(seen.web_pods("apart")[0]));
    let pod = pod(space, app, revision);
    for (path, wanted) in [
        (format!("{own}/pods"), 200),
        (format!("{own}/endpoints"), 200),
        (format!("{own}/secrets"), 403),
        (format!("{own}/pods/{pod}"), 403),
        ("/api/v1/namespaces/default/pods".to_owned(), 403),
    ] {
        let ask = format!("IO.inspect(elem(Roost.Cluster.Kubernetes.get(\"{path}\"), 0))");
        let status = rpc(space, &pod, &ask).await;
        assert_eq!(status.trim(), wanted.to_string(), "GET {path}");
    }
    // Where the API server is not asked, no token is mounted.
    let mounted = ["sh", "-c", "ls /var/run/secrets/kubernetes.io 2>/dev/null | wc -l"];
    assert_eq!(space.exec(&pod_of_apart, &mounted).await.unwrap().trim(), "0");
    println!("{app}: its token lists pods and endpoints of its namespace, and no more");
}
