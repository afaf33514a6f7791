//! Fake nodes: they and their pods exist only in the API.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams, PostParams};
use serde_json::json;

use super::{
    control::{self, MASTERS, Plan},
    module,
    process::Process,
    tools,
};

/// How many zones there are, each with a fake node at the least.
const ZONES: usize = 3;

/// How many pods a fake node easily looks after.
const PODS: usize = 3000;

/// What the process of each node is called: this and the node's name.
const PROCESS: &str = "kwok-";

/// How fake pods misbehave when a test asks for it.
const OWN_STAGES: &str = include_str!("stages/own.yaml");

/// The program's own stages, in its module.
const STAGES: [&str; 3] = ["pod/fast", "node/fast", "node/heartbeat-with-lease"];

/// The names of the nodes that these processes are.
pub fn names(processes: &[Process]) -> Vec<String> {
    processes.iter().filter_map(|process| process.name.strip_prefix(PROCESS)).map(str::to_owned).collect()
}

/// Starts the fake nodes that so many pods need, and waits until they are Ready.
///
/// Each is a process of its own, which watches its own pods: one for all of them falls behind with some thousands, and
/// the API server ends its watch again and again.
pub async fn start(plan: &Plan<'_>, client: &kube::Client, pods: usize) -> Result<()> {
    let nodes = ZONES.max(pods.div_ceil(PODS));
    let dir = plan.ledger.dir();
    let kubeconfig = plan.authority.path("kwok.kubeconfig");
    plan.authority.kubeconfig(&kubeconfig, &plan.ledger.record().server, "kwok", &[MASTERS])?;
    let own = dir.join("stages.yaml");
    fs::write(&own, OWN_STAGES).with_context(|| format!("writing {}", own.display()))?;
    let stages = stage_files()?;
    let api: Api<Node> = Api::all(client.clone());
    for index in 0..nodes {
        let name = format!("fake-{}", index + 1);
        let mut command = control::command(
            plan.bin,
            "kwok",
            [
                format!("--kubeconfig={}", kubeconfig.display()),
                format!("--manage-single-node={name}"),
                // Without a lease a node would count as lost after its first minute.
                "--node-lease-duration-seconds=40".to_owned(),
                format!("--config={}", own.display()),
            ],
        );
        for file in &stages {
            command.push("--config".into());
            command.push(file.into());
        }
        plan.ledger.spawn(&format!("{PROCESS}{name}"), None, command)?;
        let node = node(&name, index)?;
        api.create(&PostParams::default(), &node)
            .await
            .with_context(|| format!("creating the node {name}"))?;
    }
    nodes_ready(plan, client, nodes).await
}

fn node(name: &str, index: usize) -> Result<Node> {
    serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "topology.kubernetes.io/zone": format!("zone-{}", index % ZONES + 1),
            },
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        // Pods of different nodes get different addresses.
        "spec": {"podCIDR": format!("10.{}.0.0/16", 64 + index)},
        "status": {
            "allocatable": {"cpu": "1000", "memory": "1Ti", "pods": "10000"},
            "capacity": {"cpu": "1000", "memory": "1Ti", "pods": "10000"},
        },
    }))
    .context("describing a node")
}

/// The stage files of the program's own module.
fn stage_files() -> Result<Vec<std::path::PathBuf>> {
    let from = STAGES.map(|stage| format!("kustomize/stage/{stage}"));
    let from: Vec<&str> = from.iter().map(String::as_str).collect();
    let wanted = |name: &str| name != "kustomization.yaml";
    let kept = module::files(tools::Group::Kwok, "sigs.k8s.io/kwok", "stages", &from, wanted)?;
    let mut files = fs::read_dir(&kept)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>())
        .with_context(|| format!("listing {}", kept.display()))?;
    files.sort();
    Ok(files)
}

/// Waits until so many nodes are Ready.
pub async fn nodes_ready(plan: &Plan<'_>, client: &kube::Client, count: usize) -> Result<()> {
    let api: Api<Node> = Api::all(client.clone());
    control::until(plan.ledger, &format!("{count} nodes to be Ready"), Duration::from_mins(1), || async {
        let nodes = api.list(&ListParams::default()).await?;
        Ok(nodes.items.iter().filter(|node| is_ready(node)).count() >= count)
    })
    .await
}

/// Whether a node says that it is Ready.
pub fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|conditions| {
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}
