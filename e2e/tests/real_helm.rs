//! The operator as people install it: by Helm, in the cluster, under `restricted` pod security.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests may fail as tests do")]

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    time::Duration,
};

use e2e::{
    cluster::{Cluster, Nodes, Options},
    image,
    operator_image::{self, NAMESPACE, RELEASE, helm, workspace},
    postgres::Postgres,
};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Namespace, Pod, Secret},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Resource,
    api::{ListParams, PostParams},
    runtime::wait::await_condition,
};
use phoenix_operator::api::{Phase, PhoenixApp, labels};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const APP: &str = "hello";
const APPS: &str = "web";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real nodes"]
async fn helm_installs_upgrades_and_uninstalls_without_a_restart() {
    let cluster = Cluster::up(Options::new(Nodes::Real)).await.unwrap();
    let client = cluster.client().await.unwrap();
    let (operator, release) = (operator_image::operator().unwrap(), image::roost("v1").unwrap());
    cluster.load_images(&[operator.archive.clone(), release.archive]).await.unwrap();
    for name in [NAMESPACE, APPS] {
        restricted_namespace(&client, name).await;
    }

    for (user, role) in [("viewer", "view"), ("editor", "edit")] {
        let (role, to) = (format!("--clusterrole={role}"), format!("--user={user}"));
        assert!(kubectl(&cluster, &["create", "rolebinding", user, &role, &to]));
    }
    operator_image::install(&cluster, &operator, &[]).unwrap();

    let database = std::env::temp_dir().join(format!("e2e-helm-{}", std::process::id()));
    let postgres = Postgres::start(cluster.bridge_ip().into(), &database).await.unwrap();
    postgres.create_database(APP).await.unwrap();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hello-db-app"},
        "stringData": {"uri": postgres.url(APP)},
    });
    create::<Secret>(&Api::namespaced(client.clone(), APPS), secret).await;
    let manifest = workspace().join("examples/quickstart.yaml");
    assert!(kubectl(&cluster, &["apply", "-f", manifest.to_str().unwrap()]));
    healthy(&client).await;

    let before = pods(&client, APPS, &format!("{}={APP}", labels::APP)).await;
    assert_eq!(before.len(), 2, "{before:?}");
    let operators = pods(&client, NAMESPACE, "app.kubernetes.io/name=phoenix-operator").await;
    operator_image::install(&cluster, &operator, &["podAnnotations.upgrade=1"]).unwrap();
    let upgraded = pods(&client, NAMESPACE, "app.kubernetes.io/name=phoenix-operator").await;
    assert!(upgraded.keys().all(|pod| !operators.contains_key(pod)), "the operator itself is replaced");
    // A write of the app makes the new operator answer for it: what it would do wrong is done by then.
    assert!(kubectl(&cluster, &["scale", "phoenixapp", APP, "--replicas=3"]));
    healthy(&client).await;
    let after = pods(&client, APPS, &format!("{}={APP}", labels::APP)).await;
    assert_eq!(after.len(), 3, "{after:?}");
    for (pod, restarts) in &before {
        assert_eq!(after.get(pod), Some(restarts), "{pod} was restarted by an upgrade of the operator");
    }

    rights_are_enough(&cluster);
    for (user, verb, part, may) in [
        ("viewer", "watch", "", true),
        ("viewer", "patch", "", false),
        ("viewer", "patch", "scale", false),
        ("editor", "watch", "", true),
        ("editor", "patch", "", true),
        ("editor", "patch", "scale", true),
        ("editor", "patch", "status", false),
    ] {
        let question = ["auth", "can-i", verb, "phoenixapps", "--subresource", part, "--as", user];
        assert_eq!(kubectl(&cluster, &question), may, "{question:?}");
    }

    helm(&cluster, &["uninstall", RELEASE, "--wait"].map(str::as_ref)).unwrap();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    assert!(deployments.get_opt(RELEASE).await.unwrap().is_none());
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let crd = crds.get("phoenixapps.phoenix-operator.dev").await.unwrap();
    assert!(crd.metadata.deletion_timestamp.is_none());
    apps(&client).get(APP).await.unwrap();
    assert_eq!(pods(&client, APPS, &format!("{}={APP}", labels::APP)).await, after, "the app runs on");

    drop(postgres);
    cluster.down().await.unwrap();
    std::fs::remove_dir_all(database).unwrap();
}

/// Whether kubectl did what it was asked for in the apps' namespace.
fn kubectl(cluster: &Cluster, arguments: &[&str]) -> bool {
    let output = Command::new(cluster.tool("kubectl"))
        .args(["--namespace", APPS])
        .args(arguments)
        .env("KUBECONFIG", cluster.kubeconfig())
        .output()
        .unwrap();
    if !output.status.success() {
        println!("kubectl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.success()
}

fn apps(client: &Client) -> Api<PhoenixApp> {
    Api::namespaced(client.clone(), APPS)
}

async fn healthy(client: &Client) {
    let settled = await_condition(apps(client), APP, |app: Option<&PhoenixApp>| {
        app.and_then(|app| Some((app.metadata.generation?, app.status.as_ref()?))).is_some_and(
            |(generation, status)| {
                status.observed_generation == generation && status.phase == Some(Phase::Healthy)
            },
        )
    });
    if tokio::time::timeout(Duration::from_mins(3), settled).await.is_err() {
        let status = apps(client).get(APP).await.unwrap().status;
        panic!("not healthy in three minutes: {status:#?}");
    }
}

/// Every audited answer to the operator: nothing was refused, and no Secret was read. Prints which rights it used.
fn rights_are_enough(cluster: &Cluster) {
    let account = format!("system:serviceaccount:{NAMESPACE}:{RELEASE}");
    let log = std::fs::read_to_string(cluster.audit_log()).unwrap();
    let mut used = BTreeSet::new();
    for line in log.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        if event["user"]["username"] != account.as_str() || event["objectRef"].is_null() {
            continue;
        }
        assert_ne!(event["responseStatus"]["code"], 403, "{line}");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let object = &event["objectRef"];
        let mut resource = text(&object["resource"]);
        if let Some(part) = object["subresource"].as_str() {
            resource = format!("{resource}/{part}");
        }
        used.insert((resource, text(&event["verb"])));
    }
    let secrets: Vec<&str> =
        used.iter().filter(|(resource, _)| resource == "secrets").map(|(_, verb)| verb.as_str()).collect();
    assert_eq!(secrets, ["create"]);
    println!("the operator used {} of its rights: {used:?}", used.len());
}

/// Pods that are not going, by UID, with how often their containers were started anew.
async fn pods(client: &Client, namespace: &str, selector: &str) -> BTreeMap<String, i32> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let listed = api.list(&ListParams::default().labels(selector)).await.unwrap();
    let staying = listed.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    staying
        .filter(|pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running"))
        .map(|pod| {
            let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
            (pod.metadata.uid.unwrap(), statuses.iter().map(|status| status.restart_count).sum())
        })
        .collect()
}

async fn restricted_namespace(client: &Client, name: &str) {
    let object = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    });
    create::<Namespace>(&Api::all(client.clone()), object).await;
}

async fn create<K>(api: &Api<K>, object: Value)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + serde::Serialize,
{
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
}
