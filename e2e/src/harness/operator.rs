//! The operator as a process of this machine.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::rights::LEASE;
use crate::process;

/// How long it may take to stop after SIGTERM.
const STOP: Duration = Duration::from_secs(15);

/// How the operator is to run.
#[derive(Clone, Debug, Default)]
pub struct OperatorOptions {
    /// Namespaces it looks after; none: all.
    pub namespaces: Vec<String>,
    /// Its log is JSON, not text.
    pub json_log: bool,
    /// Its kubeconfig; the lab's restricted one when absent.
    pub kubeconfig: Option<PathBuf>,
    /// Prometheus endpoints that apps may name: `name=http://address`.
    pub prometheus: Vec<String>,
    /// The namespace of the Lease that it stands for; none: it is the only one.
    pub lease: Option<String>,
    /// Tells it from others of the same test: in the Lease, and in the name of its log.
    pub instance: Option<String>,
    /// Another program than the one of this source.
    pub program: Option<PathBuf>,
}

/// A running operator. Dropped, it is killed, by its own id; it is also killed when this process ends.
#[derive(Debug)]
pub struct Operator {
    program: PathBuf,
    arguments: Vec<OsString>,
    kubeconfig: PathBuf,
    log: PathBuf,
    listen: SocketAddr,
    child: Option<Child>,
}

impl Operator {
    /// Starts `phoenix-operator run`; its log, of all its lives, goes to `log`.
    pub(super) async fn start(options: &OperatorOptions, kubeconfig: &Path, log: &Path) -> Result<Self> {
        let listen = process::free_address()?;
        let mut arguments: Vec<OsString> = vec![
            "run".into(),
            format!("--listen={listen}").into(),
            "--cluster-domain=cluster.local".into(),
            if options.json_log { "--log-format=json" } else { "--log-format=plain" }.into(),
            "--log-level=info,phoenix_operator=debug".into(),
        ];
        arguments.extend(options.namespaces.iter().map(|name| format!("--namespace={name}").into()));
        arguments.extend(options.prometheus.iter().map(|endpoint| format!("--prometheus={endpoint}").into()));
        match &options.lease {
            Some(namespace) => {
                arguments.push(format!("--lease-namespace={namespace}").into());
                arguments.push(format!("--lease-name={LEASE}").into());
            }
            None => arguments.push("--leader-elect=false".into()),
        }
        arguments.extend(options.instance.iter().map(|name| format!("--instance={name}").into()));
        if log.exists() {
            std::fs::remove_file(log).with_context(|| format!("removing {}", log.display()))?;
        }
        let mut operator = Self {
            program: match &options.program {
                Some(program) => program.clone(),
                None => binary().await?,
            },
            arguments,
            kubeconfig: options.kubeconfig.clone().unwrap_or_else(|| kubeconfig.to_owned()),
            log: log.to_owned(),
            listen,
            child: None,
        };
        operator.restart()?;
        Ok(operator)
    }

    /// Where it serves metrics and health.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// What it answers to a GET: the status code and the text.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        process::get(self.listen, path).await
    }

    /// A size of its memory, in KiB, as `/proc` has it: `VmRSS` is what it takes now, `VmHWM` the most it ever took.
    pub fn memory(&self, field: &str) -> Result<u64> {
        let pid = self.child.as_ref().and_then(Child::id).context("the operator does not run")?;
        process::memory(pid, field)
    }

    /// Where its log is.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Starts it again after [`kill9`](Self::kill9) or [`stop`](Self::stop).
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "the operator runs already");
        let child = process::start(&self.program, &self.arguments, &self.kubeconfig, &self.log)?;
        self.child = Some(child);
        Ok(())
    }

    /// Kills it as a lost machine would: it can do nothing more, not even finish a write.
    pub async fn kill9(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the operator does not run")?;
        child.kill().await.context("killing the operator")
    }

    /// Asks it to stop and waits until it has; errors when it does not in 15 s, or not with status 0.
    pub async fn stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let mut child = self.child.take().context("the operator does not run")?;
        match tokio::time::timeout(STOP, child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(status) => bail!("the operator ended with {status:?}"),
            Err(_) => bail!("the operator did not stop within {STOP:?}"),
        }
    }

    /// Stops it where it stands, as a machine that stalls would.
    pub fn stall(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on after [`stall`](Self::stall).
    pub fn go_on(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Waits until it ends by itself; the code it ends with.
    pub async fn ended(&mut self, within: Duration) -> Result<Option<i32>> {
        let mut child = self.child.take().context("the operator does not run")?;
        match tokio::time::timeout(within, child.wait()).await {
            Ok(status) => Ok(status.context("waiting for the operator")?.code()),
            Err(_) => bail!("the operator did not end by itself within {within:?}"),
        }
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("the operator does not run")?;
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        kill_process(pid.context("the operator has ended by itself")?, signal)
            .with_context(|| format!("sending {signal:?}"))
    }

    /// Whether it has not ended by itself.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }
}

/// The operator's program: `PHOENIX_OPERATOR_BIN`, else built in release mode, once for all tests.
async fn binary() -> Result<PathBuf> {
    static BUILT: tokio::sync::OnceCell<PathBuf> = tokio::sync::OnceCell::const_new();
    if let Some(path) = std::env::var_os("PHOENIX_OPERATOR_BIN") {
        return Ok(PathBuf::from(path));
    }
    BUILT.get_or_try_init(build).await.cloned()
}

/// The operator's program.
pub async fn program() -> Result<PathBuf> {
    binary().await
}

/// The kubectl plugin: it lies beside the operator's program.
pub(super) async fn plugin() -> Result<PathBuf> {
    let path = binary().await?.with_file_name("kubectl-phx");
    ensure!(path.is_file(), "{} is missing: build it with `cargo build --release --bins`", path.display());
    Ok(path)
}

async fn build() -> Result<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--workspace", "--bin", "phoenix-operator", "--bin", "kubectl-phx"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(workspace)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .await
        .context("starting cargo")?;
    ensure!(output.status.success(), "building the operator ended with {}", output.status);
    // Cargo says where it put the programs, wherever the target directory is.
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
        .find(|path| path.file_name().is_some_and(|name| name == "phoenix-operator"))
        .context("cargo named no program")
}
