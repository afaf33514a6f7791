//! The cluster itself, proven before anything is proven with it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail as the test does")]

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use e2e::{
    cluster::{self, Cluster, Nodes, Options, Process, tools},
    image,
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{Node, Pod, Service},
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, PostParams},
    runtime::wait::{Condition, await_condition},
};
use serde_json::{Value, json};

/// How long anything may take that ought to take seconds.
const PATIENCE: Duration = Duration::from_mins(1);

/// Builds what is missing, so that what is timed afterwards is the start alone.
fn build(nodes: Nodes) {
    tools::ensure(nodes.groups()).unwrap();
}

async fn create<K>(client: &Client, object: Value) -> K
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), "default");
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}

async fn wait<K>(api: Api<K>, name: &str, what: &str, condition: impl Condition<K>)
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let waiting = tokio::time::timeout(PATIENCE, await_condition(api, name, condition));
    waiting.await.unwrap_or_else(|_| panic!("{name}: not {what} in {PATIENCE:?}")).unwrap();
}

fn deployment(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "app", "image": image}]},
            },
        },
    })
}

fn job(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {"spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "migrate", "image": image}],
        }}},
    })
}

fn available(replicas: i32) -> impl Condition<Deployment> {
    move |deployment: Option<&Deployment>| {
        deployment.and_then(|d| d.status.as_ref()).is_some_and(|s| s.available_replicas == Some(replicas))
    }
}

fn job_is(kind: &'static str) -> impl Condition<Job> {
    move |job: Option<&Job>| {
        let conditions = job.and_then(|j| j.status.as_ref()).and_then(|s| s.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|c| c.type_ == kind && c.status == "True"))
    }
}

fn pod_ready(wanted: &'static str) -> impl Condition<Pod> {
    move |pod: Option<&Pod>| {
        let conditions = pod.and_then(|p| p.status.as_ref()).and_then(|s| s.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == wanted))
    }
}

fn node_ready(wanted: &'static str) -> impl Condition<Node> {
    move |node: Option<&Node>| {
        let conditions = node.and_then(|n| n.status.as_ref()).and_then(|s| s.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == wanted))
    }
}

fn assert_gone(processes: &[Process], dir: &Path) {
    for process in processes {
        assert!(!process.alive(), "{} ({}) is still there", process.name, process.pid);
    }
    assert!(!dir.exists(), "{} is still there", dir.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn fake_nodes_run_pods_that_fail_on_request() {
    build(Nodes::Kwok);
    let start = Instant::now();
    let cluster = Cluster::up(Options::new(Nodes::Kwok)).await.unwrap();
    let took = start.elapsed();
    eprintln!("fake nodes: up after {took:?}");
    assert!(took < Duration::from_secs(15), "{took:?}");
    let client = cluster.client().await.unwrap();

    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    for tag in ["ok", "notready", "crash"] {
        create::<Deployment>(&client, deployment(tag, &format!("app:{tag}"))).await;
    }
    wait(deployments.clone(), "ok", "available", available(2)).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    for app in ["notready", "crash"] {
        let list = pods.list(&ListParams::default().labels(&format!("app={app}"))).await.unwrap();
        for pod in list {
            wait(pods.clone(), &pod.metadata.name.unwrap(), "unready", pod_ready("False")).await;
        }
        let deployment = deployments.get(app).await.unwrap();
        assert_eq!(deployment.status.unwrap().ready_replicas, None, "{app}");
    }

    let ready = pods.list(&ListParams::default().labels("app=ok")).await.unwrap().items.remove(0);
    let name = ready.metadata.name.unwrap();
    for (value, wanted) in [(json!("false"), "False"), (Value::Null, "True")] {
        let patch = json!({"metadata": {"annotations": {"e2e/ready": value}}});
        pods.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
        wait(pods.clone(), &name, wanted, pod_ready(wanted)).await;
    }

    let jobs: Api<Job> = Api::namespaced(client.clone(), "default");
    for tag in ["v1", "failmigrate", "hang"] {
        create::<Job>(&client, job(tag, &format!("app:{tag}"))).await;
    }
    wait(jobs.clone(), "v1", "complete", job_is("Complete")).await;
    wait(jobs.clone(), "failmigrate", "failed", job_is("Failed")).await;
    assert_eq!(jobs.get("hang").await.unwrap().status.unwrap().succeeded, None);

    let restricted = cluster.client_as("someone", &["some-group", "another"]).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(restricted, "default");
    let refused = pods.list(&ListParams::default()).await.unwrap_err().to_string();
    assert!(refused.contains("\"someone\" cannot list"), "{refused}");
    let audit = std::fs::read_to_string(cluster.audit_log()).unwrap();
    let seen = audit
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .any(|event| event["user"]["groups"] == json!(["some-group", "another", "system:authenticated"]));
    assert!(seen, "no request of someone's in the audit log");

    let (processes, dir) = (cluster.processes(), cluster.dir().to_owned());
    assert!(processes.len() >= 6, "{processes:?}");
    cluster.down().await.unwrap();
    assert_gone(&processes, &dir);
}

/// The owner of the next test's cluster: this test binary again, in a process that is killed.
const OWNER: &str = "E2E_TEST_OWNER_OF";

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_owner_leaves_nothing() {
    if let Some(dir) = std::env::var_os(OWNER) {
        let dir = Some(PathBuf::from(dir));
        let _cluster = Cluster::up(Options { dir, ..Options::new(Nodes::Kwok) }).await.unwrap();
        println!("up");
        std::future::pending::<()>().await;
    }
    build(Nodes::Kwok);
    let dir = std::env::temp_dir().join(format!("e2e-killed-{}", std::process::id()));
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["a_killed_owner_leaves_nothing", "--exact", "--nocapture"])
        .env(OWNER, &dir)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let output = std::io::BufReader::new(owner.stdout.take().unwrap());
    std::io::BufRead::lines(output).find(|line| line.as_ref().unwrap().contains("up")).unwrap().unwrap();
    let processes = Cluster::attach(&dir).await.unwrap().processes();
    assert!(processes.iter().all(Process::alive), "{processes:?}");
    owner.kill().unwrap();
    owner.wait().unwrap();
    for process in &processes {
        process.wait(PATIENCE).unwrap();
    }
    // Its logs stay, to find out why; nothing else does.
    let mut left: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["audit.log", "logs"]);
    std::fs::remove_dir_all(dir).unwrap();
}

fn peer_pods() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "peer"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "peer"}},
            "template": {
                "metadata": {"labels": {"app": "peer"}},
                "spec": {
                    "topologySpreadConstraints": [{
                        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
                        "whenUnsatisfiable": "DoNotSchedule",
                        "labelSelector": {"matchLabels": {"app": "peer"}},
                    }],
                    "containers": [{
                        "name": "peer",
                        "image": "registry.local/peer:1",
                        "imagePullPolicy": "Never",
                        "args": ["serve", ":8080"],
                        "ports": [{"containerPort": 8080}],
                        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
                    }],
                },
            },
        },
    })
}

fn peer_service(name: &str, headless: bool) -> Value {
    let address = if headless { json!("None") } else { Value::Null };
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {
            "clusterIP": address,
            "selector": {"app": "peer"},
            "ports": [{"port": 80, "targetPort": 8080}],
        },
    })
}

/// Runs `kubectl` until it succeeds: names and addresses reach every node in their own time.
async fn kubectl(cluster: &Cluster, arguments: &[&str]) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let output = tokio::process::Command::new(cluster.tool("kubectl"))
            .arg("--kubeconfig")
            .arg(cluster.kubeconfig())
            .args(arguments)
            .output()
            .await
            .unwrap();
        if output.status.success() {
            return String::from_utf8(output.stdout).unwrap();
        }
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(Instant::now() < deadline, "kubectl {arguments:?}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_nodes_run_pods_and_survive_a_loss() {
    let obstacles = cluster::obstacles(Nodes::Real).unwrap();
    if !obstacles.is_empty() {
        eprintln!("skipped: {}", obstacles.join("; "));
        return;
    }
    build(Nodes::Real);
    let bin = tools::ensure(&[tools::Group::Images]).unwrap();
    let config = image::Config { entrypoint: vec!["/peer".to_owned()], ..image::Config::default() };
    let peer = image::scratch("registry.local/peer:1", &[(bin.program("peer"), "/peer")], config).unwrap();

    let start = Instant::now();
    let cluster = Cluster::up(Options::new(Nodes::Real)).await.unwrap();
    cluster.load_images(&[peer.archive]).await.unwrap();
    let took = start.elapsed();
    eprintln!("real nodes: up with an image loaded after {took:?}");
    assert!(took < Duration::from_mins(1), "{took:?}");
    let client = cluster.client().await.unwrap();

    create::<Service>(&client, peer_service("peers", true)).await;
    let service: Service = create(&client, peer_service("peer", false)).await;
    create::<Deployment>(&client, peer_pods()).await;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    wait(deployments.clone(), "peer", "available", available(2)).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let peers = pods.list(&ListParams::default().labels("app=peer")).await.unwrap().items;
    let mut on: Vec<_> = peers.iter().map(|pod| pod.spec.clone().unwrap().node_name.unwrap()).collect();
    on.sort();
    assert_eq!(on, cluster.node_names());
    let names: Vec<String> = peers.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect();

    // From each pod the other, by the headless name and through the Service.
    for pod in &names {
        for host in ["peers.default.svc.cluster.local:8080", "peer"] {
            let mut seen = std::collections::BTreeSet::new();
            let start = Instant::now();
            while seen.len() < 2 {
                assert!(start.elapsed() < PATIENCE, "{pod} reaches by {host} only {seen:?}");
                let url = format!("http://{host}/");
                seen.insert(
                    kubectl(&cluster, &["exec", pod, "--", "/peer", "get", &url]).await.trim().to_owned(),
                );
            }
        }
        assert!(kubectl(&cluster, &["logs", pod]).await.contains("listening"));
    }

    // From this process and from the clients' namespace, through the Service.
    let address = service.spec.unwrap().cluster_ip.unwrap();
    let url = format!("http://{address}/");
    let peer = bin.program("peer");
    for enter in [None, cluster.clients_netns(), cluster.node_netns("node-2")] {
        let mut command = match &enter {
            None => Command::new(&peer),
            Some(netns) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", netns.display())).arg(&peer);
                command
            }
        };
        let output = command.args(["get", &url]).output().unwrap();
        assert!(output.status.success(), "{enter:?}: {output:?}");
        assert!(names.contains(&String::from_utf8(output.stdout).unwrap().trim().to_owned()));
    }

    // A node is lost and comes back.
    let nodes: Api<Node> = Api::all(client.clone());
    let lost = peers.iter().find(|pod| pod.spec.as_ref().unwrap().node_name.as_deref() == Some("node-2"));
    let lost = lost.unwrap().metadata.name.clone().unwrap();
    let start = Instant::now();
    cluster.stop_node("node-2").await.unwrap();
    wait(nodes.clone(), "node-2", "lost", node_ready("Unknown")).await;
    wait(pods.clone(), &lost, "unready", pod_ready("False")).await;
    eprintln!("a lost node's pods are unready after {:?}", start.elapsed());
    let evicted = |pod: Option<&Pod>| pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_some());
    wait(pods.clone(), &lost, "evicted", evicted).await;
    eprintln!("and evicted after {:?}", start.elapsed());
    let start = Instant::now();
    cluster.start_node("node-2").await.unwrap();
    wait(nodes, "node-2", "Ready", node_ready("True")).await;
    eprintln!("a node that came back is Ready after {:?}", start.elapsed());
    wait(pods, &lost, "gone", |pod: Option<&Pod>| pod.is_none()).await;
    wait(deployments, "peer", "available again", available(2)).await;
    eprintln!("and has replaced its evicted pod after {:?}", start.elapsed());

    let (processes, dir, netns) =
        (cluster.processes(), cluster.dir().to_owned(), cluster.clients_netns().unwrap());
    let slot = netns.file_name().unwrap().to_str().unwrap().strip_suffix("clients").unwrap().to_owned();
    let start = Instant::now();
    cluster.down().await.unwrap();
    eprintln!("real nodes: down after {:?}", start.elapsed());
    assert_gone(&processes, &dir);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(dir.to_str().unwrap()), "{mounts}");
    let prefix = slot.trim_end_matches('-');
    let run = format!("/run/phx-e2e-{}", prefix.trim_start_matches("phx"));
    assert!(!mounts.contains(&run), "{mounts}");
    assert!(!Path::new(&run).exists());
    for place in ["/run/netns", "/sys/class/net"] {
        for entry in std::fs::read_dir(place).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(name != prefix && !name.starts_with(&slot), "{place}/{name}");
        }
    }
}
