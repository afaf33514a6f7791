//! Inside a pod: consoles, the environment; and what happens when a pod or a node goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use e2e::harness::{Seen, Space};
use phoenix_operator::api::{Phase, PhoenixAppStatus};
use serde_json::{Value, json};

use crate::shop::{self, PATIENCE, REPLICAS, SHOP};

/// A console is to answer within this time; three at once share two processors.
const CONSOLE: Duration = Duration::from_mins(1);

pub async fn nodes_answer_and_recover(space: Arc<Space>) {
    let _operator = space.operator().await.unwrap();
    space.database().await.unwrap();
    space.secret("more", &[("RELEASE_TMP", "/var/tmp"), ("PHX_SERVER", "false")]).await.unwrap();
    let generation = space.apply(SHOP, &spec()).await.unwrap();
    let v1 = shop::healthy(&space, generation).await;
    shop::meshed(&space, &v1).await;
    environment(&space, &v1).await;
    consoles(&space, &v1).await;
    a_pod_deleted_by_hand(&space, &v1).await;
    a_node_lost(&space, &v1).await;
}

/// Users' values against each kind of injected one.
fn spec() -> Value {
    let mut spec = shop::spec("v1");
    spec["hosts"] = json!(["shop.example.com"]);
    spec["envFrom"] = json!([{"secretRef": {"name": "more"}}]);
    for (name, value) in [
        ("POOL_SIZE", "3"),
        ("ERL_ZFLAGS", "-e2e yes"),
        ("K8S_HEADLESS_SERVICE", "$(PHOENIX_HEADLESS_SERVICE)"),
        ("WHERE", "$(POD_NAMESPACE)/$(PHX_HOST)"),
    ] {
        spec = shop::with_env(spec, name, value);
    }
    spec
}

async fn environment(space: &Space, revision: &str) {
    for answer in shop::ask(space, revision, "/env").await {
        let values: BTreeMap<String, String> = serde_json::from_value(answer["values"].clone()).unwrap();
        let is =
            |name: &str, value: &str| assert_eq!(values.get(name).map(String::as_str), Some(value), "{name}");
        is("POOL_SIZE", "3"); // env beats what is injected
        is("RELEASE_TMP", "/var/tmp"); // envFrom beats a weak default
        is("PHX_SERVER", "true"); // but not a strong value
        is("PHX_HOST", "shop.example.com");
        is("ERL_MAX_PORTS", "65536"); // a weak default nobody set
        is("K8S_HEADLESS_SERVICE", "shop-headless");
        is("WHERE", &format!("{}/shop.example.com", space.name()));
        is("PHOENIX_REVISION", revision);
        is("RELEASE_NODE", answer["values"]["RELEASE_NODE"].as_str().unwrap());
        assert!(values["RELEASE_NODE"].starts_with("roost@"), "{values:?}");
        let flags = &values["ERL_ZFLAGS"];
        assert!(
            flags.starts_with("-kernel inet_dist_listen_min 4370") && flags.ends_with(" -e2e yes"),
            "{flags}"
        );
        assert!(!values.keys().any(|name| name.ends_with("_SERVICE_HOST") && name.starts_with("SHOP")));
    }
    space.record().look(|seen| {
        for pod in seen.ready_pods(SHOP, revision) {
            let sources: Vec<&str> = pod["spec"]["containers"][0]["envFrom"]
                .as_array()
                .unwrap()
                .iter()
                .map(|source| {
                    let named = source.get("secretRef").or_else(|| source.get("configMapRef")).unwrap();
                    named["name"].as_str().unwrap()
                })
                .collect();
            assert_eq!(sources, ["shop-generated", &format!("shop-{revision}-env"), "more"]);
        }
    });
    println!("env beats envFrom's and injected values, envFrom beats weak defaults only");
}

/// Three calls and three consoles at once in one pod: with the node itself seven Erlang nodes.
async fn consoles(space: &Space, revision: &str) {
    let (pod, peers): (String, Vec<String>) = space.record().look(|seen| {
        let pods = seen.ready_pods(SHOP, revision);
        (shop::name(pods[0]), pods[1..].iter().map(|pod| shop::node_of(pod)).collect())
    });
    let start = Instant::now();
    let rpc = ["/app/bin/roost", "rpc", "IO.puts(Enum.join(Enum.sort(Node.list()), \",\"))"];
    let call = || space.exec(&pod, &rpc);
    let answers = tokio::try_join!(call(), call(), call()).unwrap();
    let mut wanted = peers.clone();
    wanted.sort();
    for answer in [answers.0, answers.1, answers.2] {
        assert_eq!(answer.trim(), wanted.join(","));
    }
    println!("three rpc at once answered within {:?}", start.elapsed());

    let start = Instant::now();
    let console = || async {
        let mut console = space.terminal(&pod, &["/app/bin/roost", "remote"])?;
        console.until(")1> ", CONSOLE).await?;
        console.type_line("Node.list()").await?;
        let said = console.until(")2> ", CONSOLE).await?;
        for peer in &peers {
            anyhow::ensure!(said.contains(&format!("\"{peer}\"")), "no {peer} in {said:?}");
        }
        // The third prompt is awaited by none, so that all three are open at once here.
        Ok::<_, anyhow::Error>(console)
    };
    let open = tokio::try_join!(console(), console(), console()).unwrap();
    println!("three consoles open at once, each answered, within {:?}", start.elapsed());
    drop(open);
}

async fn a_pod_deleted_by_hand(space: &Space, revision: &str) {
    let pod = space.record().look(|seen| shop::name(seen.ready_pods(SHOP, revision)[0]));
    let start = Instant::now();
    space.kubectl(&["delete", "pod", &pod, "--wait=false"], None).await.unwrap();
    let degraded = |status: &PhoenixAppStatus| status.phase == Some(Phase::Degraded);
    space.wait_for(SHOP, 0, "that a pod is missing", PATIENCE, degraded).await.unwrap();
    println!("Degraded {:?} after a pod was deleted", start.elapsed());
    shop::healthy(space, 0).await;
    println!("healthy again {:?} after a pod was deleted", start.elapsed());
}

fn ready(seen: &Seen) -> Option<bool> {
    let status = seen.status(SHOP)?;
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready")?;
    Some(ready.status == "True")
}

async fn a_node_lost(space: &Space, revision: &str) {
    // The node that has fewer of the pods still has one: they are spread.
    let (node, lost): (String, Vec<String>) = space.record().look(|seen| {
        let mut by_node: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pod in seen.ready_pods(SHOP, revision) {
            let node = pod["spec"]["nodeName"].as_str().unwrap().to_owned();
            by_node.entry(node).or_default().push(shop::name(pod));
        }
        assert_eq!(by_node.len(), 2, "pods are spread over the nodes: {by_node:?}");
        by_node.into_iter().min_by_key(|(_, pods)| pods.len()).unwrap()
    });
    let start = Instant::now();
    space.lab().cluster().stop_node(&node).await.unwrap();
    let unready = |seen: &Seen| lost.iter().any(|pod| !seen.is_ready(pod)).then(Instant::now);
    let at = space.wait("pods that are not ready", PATIENCE, unready).await.unwrap();
    println!("node {node} stopped; its {} pods count as not ready {:?} later", lost.len(), start.elapsed());
    let told = |seen: &Seen| (ready(seen) == Some(false)).then(Instant::now);
    let said = space.wait("Ready=False", PATIENCE, told).await.unwrap();
    println!("Ready=False {:?} after that", said.duration_since(at));
    assert!(said.duration_since(at) < Duration::from_secs(5));
    let recovered = shop::healthy(space, 0).await;
    println!("healthy on the node that is left {:?} after the loss", start.elapsed());
    assert_eq!(recovered, revision);

    let back = Instant::now();
    space.lab().cluster().start_node(&node).await.unwrap();
    let cleared = |seen: &Seen| lost.iter().all(|pod| seen.get("Pod", pod).is_none()).then_some(());
    space.wait("the lost pods to be gone", PATIENCE, cleared).await.unwrap();
    println!("the lost pods are gone {:?} after the node is back", back.elapsed());
    shop::healthy(space, 0).await;
    assert_eq!(space.record().look(|seen| seen.web_pods(SHOP).len()), REPLICAS);
}
