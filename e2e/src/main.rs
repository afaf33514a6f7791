//! Brings a real Kubernetes up and takes it down.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use e2e::cluster::{
    self, Cluster, Nodes, Options, Process,
    tools::{self, Group},
};

/// A real Kubernetes on this machine, without a container engine.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

/// Which cluster is meant.
#[derive(clap::Args)]
struct Which {
    /// The kind of nodes.
    #[arg(long, value_enum, default_value = "kwok")]
    nodes: Nodes,
    /// The cluster's directory [default: .cluster/<NODES>]
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl Which {
    fn dir(&self) -> PathBuf {
        self.dir.clone().unwrap_or_else(|| cluster::default_dir(self.nodes))
    }
}

#[derive(Subcommand)]
enum Action {
    /// Bring a cluster up; it stays up until `down`.
    Up(Which),
    /// Take a cluster down, also one that a crash left behind.
    Down(Which),
    /// Print the path of the administrator's kubeconfig.
    Kubeconfig(Which),
    /// Load OCI image archives into every real node.
    Load {
        /// The archives.
        #[arg(required = true)]
        archives: Vec<PathBuf>,
        /// The cluster's directory [default: .cluster/real]
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Show the operator at work, and leave it running.
    Demo,
    /// Say what is missing on this machine, for either kind of nodes.
    Doctor,
    /// Build the pinned tools that are missing.
    Tools {
        /// Which groups [default: those that the tests use]
        groups: Vec<Group>,
    },
    /// Measure the operator beside a raw client and beside Argo Rollouts.
    Bench(e2e::bench::Options),
    /// Print Argo CD's ConfigMap with the health check and the actions of `argocd/` in it.
    Argocd,
    /// Take a cluster down when its owner dies (the program starts this itself).
    #[command(hide = true)]
    Watch {
        /// The owner's process id.
        #[arg(long)]
        pid: i32,
        /// The owner's start, in clock ticks since boot.
        #[arg(long)]
        start: u64,
        /// The cluster's directory.
        #[arg(long)]
        dir: PathBuf,
    },
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    match act(Arguments::parse().command).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("e2e: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn act(action: Action) -> Result<()> {
    match action {
        Action::Up(which) => up(&which).await,
        Action::Down(which) => cluster::down(&std::path::absolute(which.dir())?),
        Action::Kubeconfig(which) => {
            let cluster = Cluster::attach(&which.dir()).await?;
            println!("{}", cluster.kubeconfig().display());
            Ok(())
        }
        Action::Load { archives, dir } => {
            let dir = dir.unwrap_or_else(|| cluster::default_dir(Nodes::Real));
            Cluster::attach(&dir).await?.load_images(&archives).await
        }
        Action::Demo => Box::pin(e2e::demo::run()).await,
        Action::Doctor => doctor(),
        Action::Tools { groups } => {
            let groups = if groups.is_empty() { Group::tested() } else { groups };
            for dir in tools::ensure(&groups)?.directories() {
                println!("{}", dir.display());
            }
            Ok(())
        }
        Action::Bench(options) => Box::pin(e2e::bench::run(&options)).await,
        Action::Argocd => {
            print!("{}", e2e::argocd::config_map()?);
            Ok(())
        }
        Action::Watch { pid, start, dir } => {
            let name = "owner".to_owned();
            cluster::watch(&Process { name, pid, start }, &dir)
        }
    }
}

async fn up(which: &Which) -> Result<()> {
    let start = std::time::Instant::now();
    let options = Options::kept(which.nodes, which.dir());
    let cluster = tokio::select! {
        cluster = Cluster::up(options) => cluster?,
        interrupt = tokio::signal::ctrl_c() => {
            interrupt.context("waiting for Ctrl-C")?;
            // Dropping the half-made cluster has taken it down.
            anyhow::bail!("interrupted");
        }
    };
    eprintln!("e2e: up after {:.1} s", start.elapsed().as_secs_f64());
    println!("export KUBECONFIG={}", cluster.kubeconfig().display());
    Ok(())
}

fn doctor() -> Result<()> {
    for nodes in [Nodes::Kwok, Nodes::Real] {
        println!("{nodes:?} nodes:");
        for obstacle in cluster::obstacles(nodes)? {
            println!("  missing: {obstacle}");
        }
        for group in tools::missing(nodes.groups())? {
            println!("  to be built by `e2e tools {0}`: {0}", group.name());
        }
    }
    Ok(())
}
