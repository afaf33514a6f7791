//! The operator against a real API server with fake nodes: it brings an app up, rolls it, repairs it, is silent at
//! rest, and lets go of it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail as the test does")]

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use e2e::cluster::{Cluster, Nodes, Options};
use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::Service},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::wait::{await_condition, conditions::is_crd_established},
};
use phoenix_operator::api::{Phase, PhoenixApp, schema};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_mins(1);

/// The operator, ended when dropped.
struct Operator(Child);

impl Operator {
    fn start(cluster: &Cluster) -> Self {
        let kubeconfig = cluster.kubeconfig_as("operator", &["system:masters"]).unwrap();
        let log = fs::File::create(cluster.dir().join("logs/operator.log")).unwrap();
        let child = Command::new(program())
            .args(["run", "--log-format", "plain", "--listen", "127.0.0.1:0"])
            .args(["--log-level", "info,phoenix_operator=debug"])
            .env("KUBECONFIG", kubeconfig)
            .stderr(log)
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    /// Asks it to end, and returns whether it did in good order and how long that took.
    fn stop(mut self) -> (bool, Duration) {
        let began = Instant::now();
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        (self.0.wait().unwrap().success(), began.elapsed())
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // Already ended: nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Builds the operator beside this test.
fn program() -> PathBuf {
    let built = Command::new(env!("CARGO")).args(["build", "--quiet", "-p", "phoenix-operator"]).status();
    assert!(built.unwrap().success());
    let here = std::env::current_exe().unwrap();
    here.parent().and_then(std::path::Path::parent).unwrap().join("phoenix-operator")
}

async fn healthy(apps: &Api<PhoenixApp>, generation: i64) -> PhoenixApp {
    let condition = |app: Option<&PhoenixApp>| {
        app.and_then(|app| app.status.as_ref()).is_some_and(|status| {
            status.observed_generation >= generation && status.phase == Some(Phase::Healthy)
        })
    };
    let waiting = await_condition(apps.clone(), "shop", condition);
    if let Ok(app) = tokio::time::timeout(PATIENCE, waiting).await {
        return app.unwrap().unwrap();
    }
    panic!("{:#?}", apps.get("shop").await.unwrap().status);
}

async fn change(apps: &Api<PhoenixApp>, spec: Value) -> PhoenixApp {
    let patch = json!({"spec": spec});
    let changed = apps.patch("shop", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    healthy(apps, changed.metadata.generation.unwrap()).await
}

/// Requests of the operator other than watches.
fn requests(cluster: &Cluster) -> Vec<String> {
    let log = fs::read_to_string(cluster.audit_log()).unwrap();
    log.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|event| event["stage"] == "ResponseComplete" && event["verb"] != "watch")
        .filter(|event| event["user"]["username"] == "operator")
        .map(|event| format!("{} {} {}", event["verb"], event["requestURI"], event["responseStatus"]["code"]))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_looks_after_an_app_and_is_silent_at_rest() {
    let cluster = Cluster::up(Options { nodes: Nodes::Kwok, dir: None, keep: false }).await.unwrap();
    let client = cluster.client().await.unwrap();
    install(&client).await;
    let operator = Operator::start(&cluster);
    let apps: Api<PhoenixApp> = Api::namespaced(client.clone(), "default");
    let app = json!({
        "apiVersion": "phoenix-operator.dev/v1alpha1", "kind": "PhoenixApp", "metadata": {"name": "shop"},
        "spec": {"image": "registry.local/roost:v1", "database": {"urlFrom": {"secretKeyRef": {"name": "db", "key": "uri"}}}},
    });
    let dynamic: Api<kube::core::DynamicObject> = Api::namespaced_with(
        client.clone(),
        "default",
        &kube::discovery::ApiResource::erase::<PhoenixApp>(&()),
    );
    dynamic.create(&PostParams::default(), &serde_json::from_value(app).unwrap()).await.unwrap();
    let first = healthy(&apps, 1).await.status.unwrap();
    assert_eq!(first.ready_replicas, 2);

    let scaled = change(&apps, json!({"replicas": 4})).await.status.unwrap();
    assert_eq!((scaled.ready_replicas, &scaled.stable), (4, &first.stable));
    let rolled = change(&apps, json!({"image": "registry.local/roost:v2"})).await.status.unwrap();
    assert_eq!(rolled.previous, first.stable);
    assert_eq!(rolled.history.len(), 2);

    let ports = json!([{"name": "metrics", "port": 9568, "expose": "Service"}]);
    change(&apps, json!({"extraPorts": ports})).await;
    change(&apps, json!({"extraPorts": null})).await;
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let spec = services.get("shop").await.unwrap().spec.unwrap();
    assert_eq!(spec.ports.unwrap().len(), 1, "what was posted and is not wanted any more goes");

    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = requests(&cluster);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let after = requests(&cluster);
    assert_eq!(after[before.len()..], [] as [String; 0], "silent at rest");

    apps.delete("shop", &DeleteParams::default()).await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    let began = Instant::now();
    while !deployments.list(&ListParams::default()).await.unwrap().items.is_empty() {
        assert!(began.elapsed() < PATIENCE, "the Deployments are still there");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(requests(&cluster).len(), after.len(), "a deleted app is left to the garbage collector");
    let (in_order, took) = operator.stop();
    assert!(in_order && took < Duration::from_secs(10), "{took:?}");
    cluster.down().await.unwrap();
}

async fn install(client: &Client) {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let crd: CustomResourceDefinition = serde_json::from_value(schema::crd().clone()).unwrap();
    let name = crd.metadata.name.clone().unwrap();
    crds.create(&PostParams::default(), &crd).await.unwrap();
    let established = await_condition(crds, &name, is_crd_established());
    tokio::time::timeout(PATIENCE, established).await.unwrap().unwrap();
}
