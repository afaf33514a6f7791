//! A cluster made ready for tests of the operator.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::runtime::{conditions, wait::await_condition};
use kube::{Api, Client};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::rights;
use super::space::Space;
use crate::cluster::{self, Cluster, Nodes, Options, ServerOptions};
use crate::image;
use crate::postgres::Postgres;

/// Names the directory of a cluster that is up already, to be used instead of a new one.
const ATTACH: &str = "PHOENIX_E2E_ATTACH";

/// How long the API server may take to serve a new resource.
const ESTABLISHED: Duration = Duration::from_secs(30);

/// Why tests on such nodes cannot run on this machine; none: they can. Errors when that cannot be told.
pub fn obstacle(nodes: Nodes) -> Result<Option<String>> {
    let obstacles = cluster::obstacles(nodes)?;
    Ok((!obstacles.is_empty()).then(|| obstacles.join("; ")))
}

/// The resource's own name.
const RESOURCE: &str = "phoenixapps.phoenix-operator.dev";

/// Where the resource's definition is.
fn crds() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds").to_string_lossy().into_owned()
}

/// A cluster in which the resource is defined and the operator's rights are bound.
pub struct Lab {
    client: Client,
    restricted: PathBuf,
    postgres: Option<Postgres>,
    scratch: Scratch,
    kubeconfig: PathBuf,
    /// None: it is someone else's.
    cluster: Option<Cluster>,
}

/// A directory of this run, removed at its end.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    /// Below /tmp, because `PostgreSQL`'s own account must be able to enter it.
    fn make() -> Result<Self> {
        let scratch = Self(std::env::temp_dir().join(format!("e2e-lab-{}", std::process::id())));
        std::fs::create_dir_all(&scratch.0).with_context(|| format!("making {}", scratch.0.display()))?;
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Lab {
    /// Real nodes with these versions of roost loaded, and a `PostgreSQL` that pods reach.
    pub async fn real(versions: &[&str]) -> Result<Arc<Self>> {
        let mut lab = Self::on(Options::new(Nodes::Real)).await?;
        let directory = lab.scratch.0.join("postgres");
        lab.postgres = Some(Postgres::start(IpAddr::V4(lab.cluster().bridge_ip()), &directory).await?);
        lab.load(versions).await?;
        Ok(Arc::new(lab))
    }

    /// Fake nodes, on which pods become ready as their image's tag asks.
    pub async fn fake() -> Result<Arc<Self>> {
        Ok(Arc::new(Self::on(Options::new(Nodes::Kwok)).await?))
    }

    /// Fake nodes on a cluster whose audit log holds these users' requests alone: what others ask costs it nothing. There
    /// is room for so many pods.
    pub async fn audited(users: &[&str], pods: usize) -> Result<Arc<Self>> {
        let audited = users.iter().map(|user| (*user).to_owned()).collect();
        let server = ServerOptions { audited, ..ServerOptions::default() };
        Ok(Arc::new(Self::on(Options { server, pods, ..Options::new(Nodes::Kwok) }).await?))
    }

    /// Fake nodes on a cluster whose API server cannot begin a watch with what there is, as before Kubernetes 1.34.
    pub async fn older() -> Result<Arc<Self>> {
        let without = vec!["WatchList".to_owned()];
        let server = ServerOptions { without, ..ServerOptions::default() };
        Ok(Arc::new(Self::on(Options { server, ..Options::new(Nodes::Kwok) }).await?))
    }

    /// The cluster that `KUBECONFIG` names, else fake nodes; for tests that need an API server and no more. On
    /// another's cluster the resource is defined unless it is already, and [`Lab::leave`] takes it away again.
    pub async fn anywhere() -> Result<Arc<Self>> {
        let Some(kubeconfig) = cluster::foreign() else { return Self::fake().await };
        println!("this test runs on the cluster of KUBECONFIG={}", kubeconfig.display());
        let lab = Self {
            client: cluster::client(&kubeconfig).await?,
            restricted: kubeconfig.clone(),
            postgres: None,
            scratch: Scratch::make()?,
            kubeconfig,
            cluster: None,
        };
        if lab.kubectl(&["get", "crd", RESOURCE], None).await.is_ok() {
            println!("{RESOURCE} is defined there already: that definition is what is tested");
        } else {
            lab.kubectl(&["create", "-f", &crds()], None).await?;
            lab.kubectl(&["label", "crd", RESOURCE, "phoenix-operator.dev/made-by=e2e"], None).await?;
        }
        lab.established(RESOURCE).await?;
        Ok(Arc::new(lab))
    }

    /// Takes away from another's cluster what [`Lab::anywhere`] made there.
    pub async fn leave(&self) -> Result<()> {
        if self.cluster.is_none() {
            self.kubectl(&["delete", "crd", "-l", "phoenix-operator.dev/made-by=e2e"], None).await?;
        }
        Ok(())
    }

    async fn on(options: Options) -> Result<Self> {
        let cluster = match std::env::var_os(ATTACH) {
            Some(dir) => Cluster::attach(Path::new(&dir)).await?,
            None => Cluster::up(options).await?,
        };
        let lab = Self {
            client: cluster.client().await?,
            restricted: cluster.kubeconfig_as(rights::USER, &rights::GROUPS)?,
            postgres: None,
            scratch: Scratch::make()?,
            kubeconfig: cluster.kubeconfig().to_owned(),
            cluster: Some(cluster),
        };
        lab.kubectl(&["apply", "--server-side", "-f", &crds()], None).await?;
        lab.established(RESOURCE).await?;
        lab.kubectl(&["apply", "--server-side", "-f", "-"], Some(&rights::manifests()?)).await?;
        Ok(lab)
    }

    /// Waits until the API server serves a resource.
    pub async fn established(&self, crd: &str) -> Result<()> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let established = await_condition(api, crd, conditions::is_crd_established());
        let established = tokio::time::timeout(ESTABLISHED, established).await;
        established.with_context(|| format!("{crd} is not established"))?.map(drop).context("watching it")
    }

    /// Loads versions of roost into every node; they are built first if need be.
    pub async fn load(&self, versions: &[&str]) -> Result<()> {
        let versions: Vec<String> = versions.iter().map(|version| (*version).to_owned()).collect();
        let build = move || versions.iter().map(|version| Ok(image::roost(version)?.archive)).collect();
        let archives: Result<Vec<_>> = tokio::task::spawn_blocking(build).await.context("building images")?;
        self.cluster().load_images(&archives?).await
    }

    /// A new namespace, whose every event is recorded. `name` also names the test's files under `target`.
    pub async fn space(self: &Arc<Self>, name: &str) -> Result<Space> {
        Space::create(Arc::clone(self), name).await
    }

    /// The cluster, which tests that can run [anywhere](Lab::anywhere) must do without.
    ///
    /// # Panics
    /// It is someone else's.
    #[expect(clippy::expect_used, reason = "a test that asks for it has brought it up")]
    pub fn cluster(&self) -> &Cluster {
        self.cluster.as_ref().expect("a cluster of our own")
    }

    /// The path of a pinned program.
    pub fn tool(&self, name: &str) -> PathBuf {
        self.cluster.as_ref().map_or_else(|| cluster::tool(name), |cluster| cluster.tool(name))
    }

    /// A client that may do anything.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The kubeconfig of the user that has the chart's rights.
    pub fn restricted(&self) -> &Path {
        &self.restricted
    }

    /// The database server of real nodes.
    pub fn postgres(&self) -> Result<&Postgres> {
        self.postgres.as_ref().context("only real nodes have a database")
    }

    /// A directory for a test's own use, which the account `postgres` can enter.
    pub fn directory(&self, name: &str) -> PathBuf {
        self.scratch.0.join(name)
    }

    /// Runs the real kubectl as the administrator; gives back what it printed. Errors with its words.
    pub async fn kubectl(&self, arguments: &[&str], input: Option<&str>) -> Result<String> {
        let mut child = Command::new(self.tool("kubectl"))
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(arguments)
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting kubectl")?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            stdin.write_all(input.as_bytes()).await.context("writing to kubectl")?;
        }
        let output = child.wait_with_output().await.context("waiting for kubectl")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl {}: {}", arguments.join(" "), error.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
