//! A real Kubernetes on this machine, without a container engine.
//!
//! [`Cluster::up`] starts the pinned control plane and then either fake nodes
//! ([`Nodes::Kwok`]: no root, seconds) or two real ones ([`Nodes::Real`]: root on
//! Linux). What it makes is written to a ledger as it is made; dropping the
//! [`Cluster`], a panic, Ctrl-C or a SIGKILL takes all of it away again.

mod cgroup;
mod control;
mod kwok;
mod ledger;
pub(crate) mod module;
mod network;
mod node;
pub(crate) mod packages;
mod pki;
mod process;
mod real;
mod teardown;
pub mod tools;
mod watch;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use self::{
    ledger::{Ledger, Record},
    network::Network,
    node::Place,
    pki::Authority,
    teardown::Keep,
    tools::{BinDir, Group},
};
pub use self::{packages::obstacles, packages::provide, process::Process, watch::watch};

/// Which kind of nodes a cluster has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Nodes {
    /// Three fake nodes, in a zone each: pods become Ready at once, or fail as
    /// their image tag asks (see `stages/own.yaml`). Needs no root.
    Kwok,
    /// Two real nodes with containers. Needs root on Linux.
    Real,
}

impl Nodes {
    const fn name(self) -> &'static str {
        match self {
            Self::Kwok => "kwok",
            Self::Real => "real",
        }
    }

    /// The tools that have to be built first.
    pub const fn groups(self) -> &'static [Group] {
        match self {
            Self::Kwok => &[Group::Kubernetes, Group::Kwok],
            Self::Real => &[Group::Kubernetes, Group::Containerd, Group::Coredns, Group::Images],
        }
    }
}

/// How a cluster is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which kind of nodes.
    pub nodes: Nodes,
    /// Where it keeps its files; a fresh directory under `.cluster` when `None`.
    pub dir: Option<PathBuf>,
    /// Whether it stays up when the [`Cluster`] is dropped or this process ends.
    pub keep: bool,
    /// What its API server does.
    pub server: ServerOptions,
    /// For how many pods there is room if the nodes are fake, at the least.
    pub pods: usize,
}

impl Options {
    /// In a fresh directory, down with the [`Cluster`], and like any other.
    pub fn new(nodes: Nodes) -> Self {
        Self { nodes, dir: None, keep: false, server: ServerOptions::default(), pods: 0 }
    }

    /// In this directory, and up until it is taken down.
    pub fn kept(nodes: Nodes, dir: PathBuf) -> Self {
        Self { dir: Some(dir), keep: true, ..Self::new(nodes) }
    }
}

/// What an API server does.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    /// Whose requests are in the audit log; nobody: everybody's.
    pub audited: Vec<String>,
    /// Features that it is to be without.
    pub without: Vec<String>,
}

/// A running cluster. Dropping it takes it down, unless it is to be kept or was
/// only attached to.
#[derive(Debug)]
pub struct Cluster {
    ledger: Ledger,
    authority: Authority,
    bin: BinDir,
    kubeconfig: PathBuf,
    audit_log: PathBuf,
    owned: bool,
}

/// The root of the workspace.
fn workspace() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// Where `e2e up` puts a cluster unless told otherwise.
pub fn default_dir(nodes: Nodes) -> PathBuf {
    workspace().join(".cluster").join(nodes.name())
}

/// A cluster of someone else, when `KUBECONFIG` names one: tests that can run
/// there should, and should say so.
pub fn foreign() -> Option<PathBuf> {
    std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// A client with the rights that a kubeconfig gives.
pub async fn client(kubeconfig: &Path) -> Result<kube::Client> {
    control::client(kubeconfig).await
}

/// The path of a pinned program, such as `kubectl`; it is built first if need be, which may take minutes.
pub fn tool(name: &str) -> PathBuf {
    match tools::ensure(tools::group_of(name).as_slice()) {
        Ok(bin) => bin.program(name),
        Err(error) => {
            eprintln!("e2e: {error:#}");
            PathBuf::from(name)
        }
    }
}

/// Takes down the cluster in `dir`, also one that was left by a crash.
pub fn down(dir: &Path) -> Result<()> {
    teardown::down(dir, Keep::Nothing)
}

impl Cluster {
    /// Builds the tools that are missing, then brings a cluster up. Nothing of
    /// an earlier cluster is used again.
    pub async fn up(options: Options) -> Result<Self> {
        let nodes = options.nodes;
        let bin = blocking(move || {
            packages::ensure(nodes)?;
            tools::ensure(nodes.groups())
        })
        .await?;
        let dir = options.dir.map_or_else(|| fresh_dir(nodes), std::path::absolute);
        let dir = dir.context("choosing a directory")?;
        make_room(&dir)?;
        let mut cluster = Self::create(&dir, nodes, bin)?;
        watch::start(&cluster.ledger)?;
        let result = match nodes {
            Nodes::Kwok => cluster.start_fake(&options.server, options.pods).await,
            Nodes::Real => cluster.start_real(&options.server).await,
        };
        if let Err(error) = result {
            teardown::down(&dir, Keep::Logs)?;
            cluster.owned = false;
            return Err(error);
        }
        if options.keep {
            cluster.ledger.update(|record| record.kept = true)?;
            cluster.owned = false;
        }
        Ok(cluster)
    }

    /// A cluster that is already running in `dir`. Dropping it leaves it running.
    pub async fn attach(dir: &Path) -> Result<Self> {
        let dir = std::path::absolute(dir).context("finding the cluster")?;
        let Some(ledger) = Ledger::read(&dir)? else {
            bail!("there is no cluster in {}: bring one up with `e2e up --dir {0}`", dir.display());
        };
        let nodes = ledger.record().nodes;
        Ok(Self {
            authority: Authority::open(&dir.join("pki"))?,
            bin: blocking(move || tools::ensure(nodes.groups())).await?,
            kubeconfig: dir.join("kubeconfig"),
            audit_log: dir.join("audit.log"),
            ledger,
            owned: false,
        })
    }

    fn create(dir: &Path, nodes: Nodes, bin: BinDir) -> Result<Self> {
        let logs = dir.join("logs");
        fs::create_dir_all(&logs).with_context(|| format!("making {}", logs.display()))?;
        let me = Process::myself()?;
        let record = Record {
            id: format!("phx-e2e-{}-{}", me.pid, me.start + u64::from(next_number())),
            nodes,
            server: String::new(),
            kept: false,
            slot: None,
            watchdog: None,
            processes: Vec::new(),
            run_dir: None,
            netns: Vec::new(),
            links: Vec::new(),
            cgroups: Vec::new(),
        };
        let ledger = Ledger::create(dir, record)?;
        Ok(Self {
            authority: Authority::create(&dir.join("pki"))?,
            bin,
            kubeconfig: dir.join("kubeconfig"),
            audit_log: dir.join("audit.log"),
            ledger,
            owned: true,
        })
    }

    async fn start_fake(&self, server: &ServerOptions, pods: usize) -> Result<()> {
        let address = Ipv4Addr::LOCALHOST;
        let [port] = control::free_ports(address)?;
        self.ledger.update(|record| record.server = format!("https://{address}:{port}"))?;
        let plan = control::Plan {
            ledger: &self.ledger,
            authority: &self.authority,
            bin: &self.bin,
            address,
            port,
            services: "10.0.0.0/16",
            first_service: Ipv4Addr::new(10, 0, 0, 1),
            reachable_from_pods: false,
            node_grace_seconds: 50,
            server,
        };
        let client = control::start(&plan).await?;
        control::start_controllers(&plan)?;
        kwok::start(&plan, &client, pods).await?;
        ready_for_pods(&plan, &client).await
    }

    async fn start_real(&self, server: &ServerOptions) -> Result<()> {
        let network = Network::claim(&self.ledger)?;
        network.create(&self.ledger)?;
        let address = network.bridge_ip();
        let [port] = control::free_ports(address)?;
        self.ledger.update(|record| record.server = format!("https://{address}:{port}"))?;
        let services = network.services();
        let plan = control::Plan {
            ledger: &self.ledger,
            authority: &self.authority,
            bin: &self.bin,
            address,
            port,
            services: &services,
            first_service: network.first_service(),
            reachable_from_pods: true,
            node_grace_seconds: 20,
            server,
        };
        let (client, places) = tokio::try_join!(control::start(&plan), real::start_runtimes(&plan, network))?;
        control::start_controllers(&plan)?;
        real::start(&plan, network, &places, &client).await?;
        ready_for_pods(&plan, &client).await
    }

    /// Takes it down: processes, namespaces, links, mounts, files.
    pub async fn down(mut self) -> Result<()> {
        self.owned = false;
        let dir = self.ledger.dir().to_owned();
        blocking(move || teardown::down(&dir, Keep::Nothing)).await
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        self.ledger.dir()
    }

    /// Which kind of nodes it has.
    pub fn nodes(&self) -> Nodes {
        self.ledger.record().nodes
    }

    /// Every process that was started for it and not ended by us.
    pub fn processes(&self) -> Vec<Process> {
        let record = self.ledger.record();
        record.processes.into_iter().chain(record.watchdog).collect()
    }

    /// An environment variable: a process that carries it, by whomever it was
    /// started, is ended with the cluster.
    pub fn mark(&self) -> (String, String) {
        (process::MARK.to_owned(), self.ledger.record().id)
    }

    /// A directory that goes with the cluster, and that other accounts can
    /// reach; only with real nodes.
    pub fn run_dir(&self) -> Option<PathBuf> {
        self.ledger.record().run_dir
    }

    /// The API server's address.
    pub fn server(&self) -> Result<SocketAddr> {
        let url = self.ledger.record().server;
        let address = url.trim_start_matches("https://").parse();
        address.with_context(|| format!("{url} is not https and an address"))
    }

    /// The certificate of its authority.
    pub fn certificate(&self) -> PathBuf {
        self.authority.path("ca.crt")
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A client that may do anything.
    pub async fn client(&self) -> Result<kube::Client> {
        control::client(&self.kubeconfig).await
    }

    /// A client with a certificate for that user, in at most two groups.
    pub async fn client_as(&self, user: &str, groups: &[&str]) -> Result<kube::Client> {
        control::client(&self.kubeconfig_as(user, groups)?).await
    }

    /// A kubeconfig with a certificate for that user, in at most two groups. One
    /// made for the same user before is replaced.
    pub fn kubeconfig_as(&self, user: &str, groups: &[&str]) -> Result<PathBuf> {
        let file: String =
            user.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
        let path = self.authority.path(&format!("user-{file}.kubeconfig"));
        let server = self.ledger.record().server;
        self.authority.kubeconfig(&path, &server, user, groups)?;
        Ok(path)
    }

    /// The API server's audit log: a JSON object per line, the metadata of every
    /// request, written when it has been answered.
    pub fn audit_log(&self) -> &Path {
        &self.audit_log
    }

    /// The path of a pinned program, such as `kubectl`. One of a group that is
    /// not built yet is built first, which may take minutes.
    pub fn tool(&self, name: &str) -> PathBuf {
        let path = self.bin.program(name);
        if path.is_absolute() { path } else { tool(name) }
    }

    fn network(&self) -> Option<Network> {
        self.ledger.record().slot.map(Network::new)
    }

    /// The address of this machine that pods reach: on the bridge for real
    /// nodes, loopback for fake ones.
    pub fn bridge_ip(&self) -> Ipv4Addr {
        self.network().map_or(Ipv4Addr::LOCALHOST, Network::bridge_ip)
    }

    fn place(&self, name: &str) -> Result<Place> {
        let index = network::node_names().iter().position(|node| node == name);
        match (self.network(), index.map(u8::try_from)) {
            (Some(network), Some(Ok(index))) => Ok(Place::new(&self.ledger, network, index)),
            (Some(_), _) => bail!("there is no node {name}; there are {:?}", network::node_names()),
            (None, _) => bail!("this cluster has no real nodes"),
        }
    }

    /// The names of its nodes.
    pub fn node_names(&self) -> Vec<String> {
        match self.nodes() {
            Nodes::Kwok => kwok::names(&self.ledger.record().processes),
            Nodes::Real => network::node_names(),
        }
    }

    /// Loads OCI image archives into every real node, the nodes side by side.
    /// Pods use them with `imagePullPolicy` `IfNotPresent` or `Never`.
    pub async fn load_images(&self, archives: &[PathBuf]) -> Result<()> {
        let mut loads = tokio::task::JoinSet::new();
        for name in network::node_names() {
            let (place, bin, archives) = (self.place(&name)?, self.bin.clone(), archives.to_vec());
            loads.spawn_blocking(move || archives.iter().try_for_each(|archive| place.load(&bin, archive)));
        }
        while let Some(load) = loads.join_next().await {
            load.context("a blocking task ended")??;
        }
        Ok(())
    }

    /// Makes a real node vanish as in a power cut seen from outside: its link
    /// goes down and all that runs on it stands still. It counts as lost 20
    /// seconds later, and its pods are replaced 10 seconds after that.
    pub async fn stop_node(&self, name: &str) -> Result<()> {
        let place = self.place(name)?;
        blocking(move || place.stop()).await
    }

    /// Brings a stopped node back, with all that was on it.
    pub async fn start_node(&self, name: &str) -> Result<()> {
        let place = self.place(name)?;
        blocking(move || place.start()).await
    }

    /// The network namespace of a real node, for `nsenter --net=`. From within,
    /// Services and pods are reached.
    pub fn node_netns(&self, name: &str) -> Option<PathBuf> {
        self.place(name).ok()?;
        self.network().map(|network| network.netns_path(name))
    }

    /// A network namespace on the bridge that belongs to no node and has a
    /// kube-proxy of its own, for clients that are to outlive any node. A process
    /// outside reaches Services and pods as well: the machine has a route to
    /// Service addresses through this namespace, and to pods through their nodes.
    pub fn clients_netns(&self) -> Option<PathBuf> {
        self.network().map(Network::clients_netns)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        let keep = if std::thread::panicking() { Keep::Logs } else { Keep::Nothing };
        if let Err(error) = teardown::down(self.ledger.dir(), keep) {
            eprintln!("e2e: {error:#}");
        }
    }
}

/// Pods are admitted once their namespace has its default service account.
async fn ready_for_pods(plan: &control::Plan<'_>, client: &kube::Client) -> Result<()> {
    use k8s_openapi::api::core::v1::ServiceAccount;
    let api: kube::Api<ServiceAccount> = kube::Api::namespaced(client.clone(), "default");
    control::until(plan.ledger, "the default service account", std::time::Duration::from_secs(30), || async {
        Ok(api.get_opt("default").await?.is_some())
    })
    .await
}

/// Refuses a directory with a living cluster, and clears the remains of a dead one.
fn make_room(dir: &Path) -> Result<()> {
    if let Some(ledger) = Ledger::read(dir)? {
        if ledger.record().processes.iter().any(Process::alive) {
            bail!("a cluster is already up in {}: take it down with `e2e down --dir {0}`", dir.display());
        }
        teardown::down(dir, Keep::Nothing)?;
    }
    if dir.exists() {
        // Only what a teardown leaves is ours to remove.
        for (entry, is_dir) in [("logs", true), ("audit.log", false)] {
            let path = dir.join(entry);
            if path.exists() {
                if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }
                    .with_context(|| format!("removing {}", path.display()))?;
            }
        }
        if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
            bail!("{} holds something else: give another directory", dir.display());
        }
    }
    Ok(())
}

fn next_number() -> u32 {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

fn fresh_dir(nodes: Nodes) -> std::io::Result<PathBuf> {
    let name = format!("{}-{}-{}", nodes.name(), std::process::id(), next_number());
    std::path::absolute(workspace().join(".cluster").join(name))
}

/// Runs what blocks outside the threads that must not.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("a blocking task ended")?
}
