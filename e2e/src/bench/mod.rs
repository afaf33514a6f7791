//! `make bench`: the operator beside a raw client and beside Argo Rollouts, in one run on one machine.
//!
//! Each begins on a fresh cluster with fake nodes, so that none pays for the objects of another; the raw client runs
//! before, between and after the others, because the machine may be busy with something else for a while.

mod account;
mod alone;
mod churn;
mod contender;
mod contest;
mod events;
mod figures;
mod floor;
mod heap;
mod peer;
mod program;
mod report;
mod requests;
mod wire;
mod work;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use self::account::Account;
pub use self::contender::{Contender, Operator, healthy};
pub use self::contest::{Run, Step, many};
pub use self::figures::{Contest, Figures, Passage, kib, number};
use self::figures::{Floor, Machine, Quantiles};
pub use self::floor::{
    objects as floor_of_objects, update as floor_of_updates, with_status as floor_with_status,
};
use self::peer::Peer;
use self::program::Launch;
use crate::audit;
use crate::harness::{self, Lab};

/// The namespace of the apps.
const NAMESPACE: &str = "bench";

/// How many apps there are in the published figures.
const APPS: usize = 500;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// The raw client.
    Floor,
    /// phoenix-operator without migrations.
    Operator,
    /// phoenix-operator with a migration Job in every rollout.
    Migrating,
    /// Argo Rollouts.
    Peer,
    /// Argo Rollouts that may ask as often as the other controllers.
    UnthrottledPeer,
}

/// How much is measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Apps of two replicas.
    #[arg(long, default_value_t = APPS)]
    pub apps: usize,
    /// How often each latency of a single app is taken.
    #[arg(long, default_value_t = 200)]
    pub singles: usize,
    /// Seconds of rest whose requests are counted.
    #[arg(long, default_value_t = 60)]
    pub rest: u64,
    /// Seconds in which apps come, change and go, five a second: 3600 for the hour that memory must survive.
    #[arg(long, default_value_t = 0)]
    pub churn: u64,
    /// All apps are not updated at once, which with 10,000 of them takes hours.
    #[arg(long)]
    pub without_updates: bool,
    /// The benchmarks.json of an earlier run, of which only what --only names is measured anew.
    #[arg(long, value_name = "FILE")]
    pub earlier: Option<PathBuf>,
    /// The benchmarks.json of a run with more apps, which is set beside this one.
    #[arg(long, value_name = "FILE")]
    pub many: Option<PathBuf>,
    /// Who is measured; may be repeated or a list [default: all].
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Part>,
    /// The operator's program, built with symbols: who holds its memory is asked too, which needs heaptrack.
    #[arg(long, value_name = "PROGRAM")]
    pub heap: Option<PathBuf>,
    /// Where benchmarks.md and benchmarks.json are written [default: docs; with --only or fewer apps: target/bench]
    #[arg(long)]
    pub out: Option<PathBuf>,
}

impl Options {
    fn includes(&self, part: Part) -> bool {
        (self.only.is_empty() && self.earlier.is_none()) || self.only.contains(&part)
    }

    /// A fresh cluster with room for all pods twice, whose audit log holds a user's requests.
    async fn lab(&self, user: &str) -> Result<Arc<Lab>> {
        Lab::audited(&[user], 4 * self.apps).await
    }

    fn out(&self) -> PathBuf {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let whole = self.only.is_empty() && !self.without_updates && self.apps >= APPS;
        let usual = workspace.join(if whole { "docs" } else { "target/bench" });
        self.out.clone().unwrap_or(usual)
    }
}

/// Measures, and writes what came of it after each part: an interrupted run has its figures too.
pub async fn run(options: &Options) -> Result<()> {
    let began = Instant::now();
    let out = options.out();
    std::fs::create_dir_all(&out).with_context(|| format!("making {}", out.display()))?;
    let mut figures = match &options.earlier {
        Some(file) => *read(file)?,
        None => {
            Figures { machine: machine(), apps: options.apps, singles: options.singles, ..Figures::default() }
        }
    };
    ensure!(
        (figures.apps, figures.singles) == (options.apps, options.singles),
        "the earlier run is of --apps {} --singles {}: give the same",
        figures.apps,
        figures.singles
    );
    if options.includes(Part::Floor) {
        figures.floors.clear();
    }
    if let Some(file) = &options.many {
        figures.many = Some(read(file)?);
    }
    let rest = Step::Rest(Duration::from_secs(options.rest));
    let notice = Step::Notice(options.singles);
    floor(options, &mut figures).await?;
    if options.includes(Part::Operator) {
        let updates = [Step::Rolling, Step::Canary].into_iter().filter(|_| !options.without_updates);
        let churn = (options.churn > 0).then(|| Step::Churn(Duration::from_secs(options.churn)));
        let heap = options.heap.clone().map(Step::Heap);
        // Memory after an hour is held against that of a process which has worked before, not of one that has just begun.
        let steps = [rest.clone(), notice.clone()].into_iter().chain(updates).chain(churn);
        let steps: Vec<Step> = steps.chain([Step::Cold, Step::Bytes]).chain(heap).collect();
        let single = operator_singles(options).await?;
        figures.operator = Some(operator(options, json!({}), &steps).await?.with(single));
        write(&figures, &out)?;
        floor(options, &mut figures).await?;
    }
    if options.includes(Part::Peer) {
        // It has but one way of rolling.
        let steps = [rest, notice, Step::Canary, Step::Cold, Step::Bytes];
        let single = peer_singles(options).await?;
        figures.peer = Some(peer(options, false, &steps).await?.with(single));
        write(&figures, &out)?;
    }
    if options.includes(Part::UnthrottledPeer) {
        figures.unthrottled_peer = Some(peer(options, true, &[Step::Canary]).await?);
        write(&figures, &out)?;
        floor(options, &mut figures).await?;
    }
    if options.includes(Part::Migrating) {
        let fields = json!({"migrations": {"mode": "Job"}});
        figures.migrating = Some(operator(options, fields, &[Step::Rolling]).await?);
    }
    write(&figures, &out)?;
    println!("measured in {} min: {}", began.elapsed().as_secs() / 60, out.join("benchmarks.md").display());
    Ok(())
}

/// The raw client, if it is asked for.
async fn floor(options: &Options, figures: &mut Figures) -> Result<()> {
    if !options.includes(Part::Floor) {
        return Ok(());
    }
    let load = load();
    let (objects, updated) = {
        let lab = options.lab(audit::OPERATOR).await?;
        let objects = floor_of_objects(lab.client(), NAMESPACE, options.apps).await?;
        (objects, floor_of_updates(lab.client(), NAMESPACE, options.apps).await?)
    };
    let lab = options.lab(audit::OPERATOR).await?;
    let whole = floor_with_status(lab.client(), NAMESPACE, options.apps).await?;
    let floor = Floor {
        load,
        objects: objects.as_secs_f64(),
        updated: updated.as_secs_f64(),
        with_status: whole.took.as_secs_f64(),
        cpu: whole.cpu,
        writes: whole.writes,
    };
    println!("raw client: {floor:?}");
    figures.floors.push(floor);
    Ok(())
}

/// Apps one at a time: until their children exist, and until they are healthy.
async fn operator_singles(options: &Options) -> Result<(Quantiles, Quantiles)> {
    let lab = options.lab(audit::OPERATOR).await?;
    let operator = phoenix_operator(&lab, "single", &[], json!({})).await?;
    Run::start(&lab, &operator, NAMESPACE, options.singles).await?.singles(options.singles).await
}

async fn operator(options: &Options, fields: Value, steps: &[Step]) -> Result<Contest> {
    let lab = options.lab(audit::OPERATOR).await?;
    let operator = phoenix_operator(&lab, "many", &[], fields).await?;
    many(&lab, &operator, NAMESPACE, options.apps, steps).await
}

async fn peer_singles(options: &Options) -> Result<(Quantiles, Quantiles)> {
    let lab = options.lab(peer::USER).await?;
    let peer = Peer::prepare(&lab, NAMESPACE, false).await?;
    Run::start(&lab, &peer, NAMESPACE, options.singles).await?.singles(options.singles).await
}

async fn peer(options: &Options, unthrottled: bool, steps: &[Step]) -> Result<Contest> {
    let lab = options.lab(peer::USER).await?;
    let peer = Peer::prepare(&lab, NAMESPACE, unthrottled).await?;
    many(&lab, &peer, NAMESPACE, options.apps, steps).await
}

/// The operator as its chart installs it: with the default log, and for all namespaces unless some are named.
pub async fn phoenix_operator(lab: &Lab, log: &str, namespaces: &[&str], fields: Value) -> Result<Operator> {
    let metrics = crate::process::free_address()?;
    let mut arguments =
        ["run", "--cluster-domain=cluster.local", "--leader-elect=false"].map(str::to_owned).to_vec();
    arguments.push(format!("--listen={metrics}"));
    arguments.extend(namespaces.iter().map(|name| format!("--namespace={name}")));
    let launch = Launch {
        program: harness::program().await?,
        arguments: arguments.into_iter().map(Into::into).collect(),
        account: Account::make(lab, audit::OPERATOR).await?,
        metrics,
        log: program::log(&format!("operator-{log}"))?,
    };
    Ok(Operator { launch, fields })
}

fn read(file: &Path) -> Result<Box<Figures>> {
    let text = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} holds no figures", file.display()))
}

fn write(figures: &Figures, out: &Path) -> Result<()> {
    let json = serde_json::to_string_pretty(figures).context("writing figures as JSON")? + "\n";
    for (file, text) in [("benchmarks.json", json), ("benchmarks.md", report::markdown(figures))] {
        let path = out.join(file);
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn machine() -> Machine {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let memory = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
    Machine {
        processors: std::thread::available_parallelism().map_or(0, usize::from),
        memory_mib: memory.map_or(0, |kib: u64| kib / 1024),
        kernel: read("/proc/sys/kernel/osrelease").split(['-', '\n']).next().unwrap_or_default().to_owned(),
    }
}

/// The machine's load of the last minute.
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or_default()
}
