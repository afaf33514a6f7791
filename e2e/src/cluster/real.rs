//! Two real nodes, their network and the cluster's name server.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::EndpointSlice,
    rbac::v1::{ClusterRole, ClusterRoleBinding},
};
use kube::api::{Api, PostParams};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    control::{self, Plan},
    kwok,
    network::{self, NODES, Network},
    node::{self, Place},
    tools::BinDir,
};
use crate::image;

/// The name server's port on the bridge: not 53, which the machine may use itself.
const DNS_PORT: u16 = 1053;

/// Starts the nodes' container runtimes: they need no API server.
pub async fn start_runtimes(plan: &Plan<'_>, network: Network) -> Result<Vec<Place>> {
    let places: Vec<Place> = (0..NODES).map(|index| Place::new(plan.ledger, network, index)).collect();
    for place in &places {
        place.create(plan.ledger)?;
        place.write_resolver()?;
        place.start_runtime(plan)?;
    }
    let pause = sandbox_image(plan.bin)?;
    for place in &places {
        control::until(
            plan.ledger,
            &format!("the container runtime of {}", place.name),
            node::RUNTIME_PATIENCE,
            || async { place.runtime_ready(plan.bin) },
        )
        .await?;
        place.load(plan.bin, &pause)?;
    }
    Ok(places)
}

fn sandbox_image(bin: &BinDir) -> Result<PathBuf> {
    let config = image::Config { entrypoint: vec!["/pause".to_owned()], ..image::Config::default() };
    let files = [(bin.program("pause"), "/pause")];
    Ok(image::scratch(node::SANDBOX_IMAGE, &files, config)?.archive)
}

/// Starts the kubelets, the proxies and the name server, and waits until the
/// nodes are Ready.
pub async fn start(plan: &Plan<'_>, network: Network, places: &[Place], client: &kube::Client) -> Result<()> {
    for place in places {
        place.start_kubelet(plan)?;
    }
    let netns = network.clients_netns();
    // It stands for no node; the first lends it its name.
    node::start_proxy(plan, network, "clients", &network::node_name(0), &netns, Vec::new())?;
    start_dns(plan, network, client).await?;
    kwok::nodes_ready(plan, client, usize::from(NODES)).await
}

async fn start_dns(plan: &Plan<'_>, network: Network, client: &kube::Client) -> Result<()> {
    create::<ClusterRole>(&Api::all(client.clone()), dns_role()).await?;
    create::<ClusterRoleBinding>(&Api::all(client.clone()), dns_binding()).await?;
    create::<Service>(&Api::namespaced(client.clone(), "kube-system"), dns_service(network)).await?;
    create::<EndpointSlice>(&Api::namespaced(client.clone(), "kube-system"), dns_endpoints(network)).await?;
    let kubeconfig = plan.authority.path("coredns.kubeconfig");
    plan.authority.kubeconfig(&kubeconfig, &plan.ledger.record().server, "system:coredns", &[])?;
    let corefile = plan.ledger.dir().join("Corefile");
    let text = format!(
        ".:{DNS_PORT} {{
    bind {}
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {}
        ttl 5
    }}
    cache 5
    loadbalance
}}
",
        network.bridge_ip(),
        kubeconfig.display()
    );
    fs::write(&corefile, text).with_context(|| format!("writing {}", corefile.display()))?;
    let command = control::command(plan.bin, "coredns", [format!("-conf={}", corefile.display())]);
    plan.ledger.spawn("coredns", None, command)?;
    let address = std::net::SocketAddr::from((network.bridge_ip(), DNS_PORT));
    control::until(plan.ledger, "the name server", Duration::from_secs(30), || async {
        Ok(tokio::net::TcpStream::connect(address).await.is_ok())
    })
    .await
}

async fn create<K>(api: &Api<K>, object: Value) -> Result<()>
where
    K: Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    let what = format!("{} {}", object["kind"], object["metadata"]["name"]);
    let object = serde_json::from_value(object).with_context(|| format!("describing {what}"))?;
    api.create(&PostParams::default(), &object).await.with_context(|| format!("creating {what}"))?;
    Ok(())
}

fn dns_role() -> Value {
    let read = json!(["get", "list", "watch"]);
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "system:coredns"},
        "rules": [
            {"apiGroups": [""], "resources": ["services", "namespaces", "pods"], "verbs": read},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
        ],
    })
}

fn dns_binding() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "system:coredns"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:coredns"}],
    })
}

fn dns_service(network: Network) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system"},
        "spec": {"clusterIP": network.dns_service(), "ports": [
            {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": DNS_PORT},
            {"name": "dns-tcp", "protocol": "TCP", "port": 53, "targetPort": DNS_PORT},
        ]},
    })
}

/// The name server is no pod: its Service selects nothing, and its endpoint is
/// written by hand.
fn dns_endpoints(network: Network) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {
            "kubernetes.io/service-name": "kube-dns",
            "endpointslice.kubernetes.io/managed-by": "phoenix-operator-e2e",
        }},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [network.bridge_ip()], "conditions": {"ready": true}}],
        "ports": [
            {"name": "dns", "protocol": "UDP", "port": DNS_PORT},
            {"name": "dns-tcp", "protocol": "TCP", "port": DNS_PORT},
        ],
    })
}
