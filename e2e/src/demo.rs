//! `e2e demo`: a cluster, the operator, an app that rolls from one version to the next, and all of it left running.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
    runtime::wait::{Condition, await_condition},
};
use phoenix_operator::api::{Phase, PhoenixApp, labels};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    cluster::{self, Cluster, Nodes, Options},
    image::{self, Image},
    operator_image::{self, NAMESPACE, workspace},
    postgres::Postgres,
};

/// The app of `examples/quickstart.yaml`, and the Secret with its database's URL.
const APP: &str = "hello";
const DATABASE_SECRET: &str = "hello-db-app";
/// What it is rolled through, run after run.
const VERSIONS: [&str; 3] = ["v1", "v2", "v3"];
/// How long a rollout may take here.
const PATIENCE: Duration = Duration::from_mins(10);

/// Shows everything, as far as this machine can, and leaves it running.
///
/// # Errors
/// In a sentence, with what to do where that is known.
pub async fn run() -> Result<()> {
    let demo = Demo::prepare().await?;
    let app = match demo.app().await? {
        Some(app) => {
            demo.say(&format!("found {APP} at {}", app.spec.image));
            app
        }
        None => demo.first_rollout().await?,
    };
    demo.next_rollout(&app).await?;
    demo.show_nodes().await?;
    demo.say_what_next();
    Ok(())
}

struct Demo {
    start: Instant,
    cluster: Cluster,
    client: Client,
}

impl Demo {
    async fn prepare() -> Result<Self> {
        let start = Instant::now();
        let nodes = kind_of_nodes()?;
        let cluster = find_or_start(nodes).await?;
        let client = cluster.client().await?;
        let demo = Self { start, cluster, client };
        demo.say(&format!("the cluster is up: {} nodes", demo.cluster.node_names().len()));
        match nodes {
            Nodes::Real => demo.install_in_cluster().await?,
            Nodes::Kwok => demo.run_beside().await?,
        }
        demo.ensure_database().await?;
        Ok(demo)
    }

    fn say(&self, text: &str) {
        say(self.start, text);
    }

    fn real(&self) -> bool {
        self.cluster.nodes() == Nodes::Real
    }

    /// By Helm, as anyone would, but with an image that was never in a registry.
    async fn install_in_cluster(&self) -> Result<()> {
        self.say("building the operator and its image");
        let image = blocking(operator_image::operator).await?;
        self.cluster.load_images(std::slice::from_ref(&image.archive)).await?;
        self.say("installing it: helm upgrade --install phoenix-operator charts/phoenix-operator");
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let restricted = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        });
        apply(&namespaces, NAMESPACE, &restricted).await?;
        tokio::task::block_in_place(|| operator_image::install(&self.cluster, &image, &[]))?;
        self.say("the operator is ready");
        Ok(())
    }

    /// Fake nodes run no containers, so the operator runs beside the cluster.
    async fn run_beside(&self) -> Result<()> {
        let pid_file = self.cluster.dir().join("operator.pid");
        let known = fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse().ok());
        if known.and_then(|pid| cluster::Process::with_id("operator", pid)).is_some_and(|p| p.alive()) {
            return Ok(());
        }
        self.say("building the operator");
        let program = blocking(operator_image::binary).await?;
        let crd = workspace().join("crds/phoenixapps.phoenix-operator.dev.yaml");
        self.kubectl(&["apply", "-f", &crd.to_string_lossy()])?;
        self.kubectl(&[
            "wait",
            "--for=condition=Established",
            "--timeout=30s",
            "-f",
            &crd.to_string_lossy(),
        ])?;
        let log = File::create(self.cluster.dir().join("logs/operator.log"))
            .context("making the operator's log")?;
        let (name, value) = self.cluster.mark();
        let child = Command::new(program)
            .args(["run", "--log-format=plain", "--listen=127.0.0.1:0", "--leader-elect=false"])
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .env(name, value)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting the operator")?;
        fs::write(&pid_file, child.id().to_string()).context("writing the operator's process id")?;
        self.say("the operator runs beside the cluster");
        Ok(())
    }

    /// `PostgreSQL` on this machine, and the Secret that an operator for databases would have made.
    async fn ensure_database(&self) -> Result<()> {
        let secrets: Api<Secret> = Api::default_namespaced(self.client.clone());
        if secrets.get_opt(DATABASE_SECRET).await?.is_some() {
            return Ok(());
        }
        let url = if let Some(dir) = self.cluster.run_dir() {
            self.say("starting PostgreSQL");
            let listen = self.cluster.bridge_ip().into();
            let postgres = Postgres::start_kept(listen, &dir.join("postgres"), self.cluster.mark()).await?;
            postgres.create_database(APP).await?;
            postgres.url(APP)
        } else {
            "ecto://nobody@127.0.0.1/nothing".to_owned()
        };
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": DATABASE_SECRET},
            "stringData": {"uri": url},
        });
        apply(&secrets, DATABASE_SECRET, &secret).await
    }

    async fn app(&self) -> Result<Option<PhoenixApp>> {
        Ok(self.apps().get_opt(APP).await?)
    }

    fn apps(&self) -> Api<PhoenixApp> {
        Api::default_namespaced(self.client.clone())
    }

    async fn first_rollout(&self) -> Result<PhoenixApp> {
        self.load(VERSIONS[0]).await?;
        let manifest = workspace().join("examples/quickstart.yaml");
        self.say("kubectl apply -f examples/quickstart.yaml");
        self.kubectl(&["apply", "-f", &manifest.to_string_lossy()])?;
        self.follow().await
    }

    /// Rolls to the version after the one the app has.
    async fn next_rollout(&self, app: &PhoenixApp) -> Result<()> {
        let now = app.spec.image.rsplit(':').next().unwrap_or_default();
        let next =
            VERSIONS.iter().position(|version| *version == now).map_or(0, |at| (at + 1) % VERSIONS.len());
        let version = VERSIONS[next];
        self.load(version).await?;
        let image = format!("registry.local/roost:{version}");
        self.say(&format!("rolling from {now} to {version}: kubectl patch phoenixapp {APP} (spec.image)"));
        let patch = Patch::Merge(json!({"spec": {"image": image}}));
        self.apps().patch(APP, &PatchParams::default(), &patch).await?;
        self.follow().await.map(drop)
    }

    /// Builds a version's image and loads it into the nodes; fake nodes need none.
    async fn load(&self, version: &'static str) -> Result<()> {
        if !self.real() {
            return Ok(());
        }
        self.say(&format!("building the image of a Phoenix-shaped release, {version}"));
        let image: Image = blocking(move || image::roost(version)).await?;
        self.cluster.load_images(&[image.archive]).await
    }

    /// Prints what the status says, line by line, until the app is healthy.
    async fn follow(&self) -> Result<PhoenixApp> {
        let progress = Progress { start: self.start, said: Mutex::default() };
        let settled = await_condition(self.apps(), APP, progress);
        let app = tokio::time::timeout(PATIENCE, settled)
            .await
            .with_context(|| format!("{APP} did not settle in {} minutes", PATIENCE.as_secs() / 60))??
            .with_context(|| format!("{APP} was deleted"))?;
        let status = app.status.as_ref();
        ensure!(
            status.and_then(|status| status.phase) == Some(Phase::Healthy),
            "{APP} did not become healthy: {}",
            status.map(|status| status.message.as_str()).unwrap_or_default()
        );
        Ok(app)
    }

    /// Asks a pod for its peers, once the pods of the version before have drained and gone.
    async fn show_nodes(&self) -> Result<()> {
        if !self.real() {
            return Ok(());
        }
        let pods: Api<Pod> = Api::default_namespaced(self.client.clone());
        let web = ListParams::default().labels(&format!(
            "{}={APP},{}={}",
            labels::APP,
            labels::COMPONENT,
            labels::WEB
        ));
        let mut waiting = false;
        for _ in 0..60 {
            let listed = pods.list(&web).await?.items;
            let going = listed.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some()).count();
            let ips: Vec<&str> =
                listed.iter().filter_map(|pod| pod.status.as_ref()?.pod_ip.as_deref()).collect();
            if going == 0
                && let Some(ip) = ips.first()
            {
                let nodes = get(ip, "/nodes").await?;
                // Each node asks DNS every five seconds.
                if nodes.matches('@').count() == ips.len() {
                    self.say(&format!(
                        "its Erlang nodes have found each other (GET http://{ip}:4000/nodes):"
                    ));
                    println!("          {nodes}");
                    return Ok(());
                }
            } else if !waiting {
                self.say(&format!("{going} pods of the version before drain and go"));
                waiting = true;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        bail!("the Erlang nodes did not find each other in a minute: kubectl logs -l {}={APP}", labels::APP)
    }

    fn say_what_next(&self) {
        let kubectl = self.cluster.tool("kubectl");
        println!("\nIt is left running. To look at it:\n");
        println!("  export KUBECONFIG={}", self.cluster.kubeconfig().display());
        println!("  export PATH={}:$PATH\n", kubectl.parent().unwrap_or(Path::new(".")).display());
        println!(
            "  kubectl get phoenixapp {APP} -o wide                           # ready, phase, image, message"
        );
        println!("  kubectl get phoenixapp {APP} -o jsonpath='{{.status}}' | less    # all that is known");
        println!("  kubectl get deployments,services,pods -l {}={APP}", labels::APP);
        println!("  kubectl get events --field-selector involvedObject.name={APP}");
        if self.real() {
            println!("  kubectl -n {NAMESPACE} logs deployment/phoenix-operator");
        } else {
            println!("  less {}", self.cluster.dir().join("logs/operator.log").display());
        }
        println!("\nTo try:\n");
        println!("  kubectl scale phoenixapp {APP} --replicas 4");
        if self.real() {
            println!(
                "  kubectl patch phoenixapp {APP} --type merge -p '{{\"spec\":{{\"image\":\"registry.local/roost:nosuch\"}}}}'"
            );
            println!(
                "      # an image that cannot be pulled: the old pods go on serving, and the message says why"
            );
        }
        println!("  kubectl explain phoenixapp.spec.strategy");
        println!("  make demo     # again: the next version");
        println!("  make down     # takes all of it away");
        if !self.real() {
            println!(
                "\nNot shown, because the nodes are fake: containers, so no release runs, no Erlang cluster forms, no \
                 database is migrated;\nand the operator runs beside the cluster rather than in it, installed by Helm."
            );
        }
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<()> {
        let output = Command::new(self.cluster.tool("kubectl"))
            .args(arguments)
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .stdin(Stdio::null())
            .output()
            .context("starting kubectl")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl {}: {}", arguments.join(" "), said.trim());
        Ok(())
    }
}

/// Prints each new phase and message; met when the newest spec is healthy, or cannot become so.
struct Progress {
    start: Instant,
    said: Mutex<String>,
}

impl Condition<PhoenixApp> for Progress {
    fn matches_object(&self, app: Option<&PhoenixApp>) -> bool {
        let Some((app, status)) = app.and_then(|app| Some((app, app.status.as_ref()?))) else { return false };
        if Some(status.observed_generation) != app.metadata.generation {
            return false;
        }
        let phase = status.phase.map_or_else(|| "-".to_owned(), |phase| format!("{phase:?}"));
        let line = format!("{phase}: {}", status.message);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *said != line {
            say(self.start, &format!("  {line}"));
            *said = line;
        }
        let stalled = status
            .conditions
            .iter()
            .any(|condition| condition.type_ == "Stalled" && condition.status == "True");
        status.phase == Some(Phase::Healthy) || stalled
    }
}

fn say(start: Instant, text: &str) {
    println!("[{:4} s]  {text}", start.elapsed().as_secs());
}

/// Real nodes where they are possible; else fake ones, and why.
fn kind_of_nodes() -> Result<Nodes> {
    let obstacles = cluster::obstacles(Nodes::Real)?;
    if obstacles.is_empty() {
        return Ok(Nodes::Real);
    }
    println!("Real nodes are not possible here, so the nodes will be fake:");
    for obstacle in obstacles {
        println!("  - {obstacle}");
    }
    Ok(Nodes::Kwok)
}

async fn find_or_start(nodes: Nodes) -> Result<Cluster> {
    let dir = cluster::default_dir(nodes);
    if dir.join("ledger.json").exists() {
        let cluster = Cluster::attach(&dir).await?;
        let answer = cluster.client().await?.apiserver_version().await;
        if answer.is_ok() {
            println!("Found the cluster in {}", dir.display());
            return Ok(cluster);
        }
        println!("The cluster in {} does not answer any more; making it anew", dir.display());
        blocking({
            let dir = dir.clone();
            move || cluster::down(&dir)
        })
        .await?;
    }
    println!(
        "Bringing a Kubernetes up in {} (the first time its programs are compiled: minutes)",
        dir.display()
    );
    tokio::select! {
        cluster = Cluster::up(Options::kept(nodes, dir)) => cluster,
        interrupt = tokio::signal::ctrl_c() => {
            interrupt.context("waiting for Ctrl-C")?;
            bail!("interrupted")
        }
    }
}

/// Server-side apply; what others made is left as it is where we say nothing.
async fn apply<K>(api: &Api<K>, name: &str, object: &serde_json::Value) -> Result<()>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    api.patch(name, &PatchParams::apply("e2e-demo"), &Patch::Apply(object)).await?;
    Ok(())
}

/// The body of an answer, asked for as a load balancer on this machine would.
async fn get(ip: &str, path: &str) -> Result<String> {
    let asked = async {
        let mut stream = TcpStream::connect((ip, 4000)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(5), asked)
        .await
        .with_context(|| format!("{ip} did not answer in five seconds"))?
        .with_context(|| format!("asking {ip} for {path}"))?;
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned()).unwrap_or_default())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("a blocking task ended")?
}
