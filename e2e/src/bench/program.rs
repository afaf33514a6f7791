//! A contender as a process of this machine, and what it takes of the machine.

use std::ffi::OsString;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::process::Child;

use super::account::Account;
use crate::process;

/// How long it may take until it serves its metrics.
const STARTED: Duration = Duration::from_mins(1);
/// Clock ticks per second in `/proc`: part of the kernel's interface, the same on every machine.
const TICKS: f64 = 100.0;

/// How a program is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Whom it runs as.
    pub account: Account,
    /// Where it serves its metrics, as one of the arguments says.
    pub metrics: SocketAddr,
    /// Where its log goes.
    pub log: PathBuf,
}

/// A running program. Dropped, it is killed, by its own id; it is also killed when this process ends.
#[derive(Debug)]
pub struct Program {
    child: Child,
    pid: u32,
    metrics: SocketAddr,
}

impl Program {
    /// Starts it, without waiting for anything.
    pub fn start(launch: &Launch) -> Result<Self> {
        let command = launch.account.command(&launch.program, &launch.arguments);
        let child = process::spawn(command, &launch.log)
            .with_context(|| format!("starting {}", launch.program.display()))?;
        let pid = child.id().context("it ended as it started")?;
        Ok(Self { child, pid, metrics: launch.metrics })
    }

    /// Waits until it serves its metrics. Errors when it has ended, or does not serve within a minute.
    pub async fn serves(&mut self) -> Result<()> {
        let deadline = Instant::now() + STARTED;
        while self.metrics().await.is_err() {
            ensure!(matches!(self.child.try_wait(), Ok(None)), "the program has ended");
            ensure!(Instant::now() < deadline, "no metrics within {STARTED:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Its metrics, in the Prometheus text format.
    pub async fn metrics(&self) -> Result<String> {
        let (code, text) = process::get(self.metrics, "/metrics").await?;
        ensure!(code == 200, "metrics: {code}");
        Ok(text)
    }

    /// CPU seconds that it has taken since its start.
    pub fn cpu(&self) -> Result<f64> {
        cpu(&self.pid.to_string())
    }

    /// A size of its memory, in KiB: `VmRSS` is what it takes now, `VmHWM` the most since its start or
    /// [`forget_peak`](Self::forget_peak).
    pub fn memory(&self, field: &str) -> Result<u64> {
        process::memory(self.pid, field)
    }

    /// Makes what it takes now the most that it ever took.
    pub fn forget_peak(&self) -> Result<()> {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid), "5").context("resetting VmHWM")
    }

    /// Kills it as a lost machine would.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("killing the program")
    }
}

/// CPU seconds of a process of that id, or of `self`, since its start.
pub fn cpu(pid: &str) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("reading /proc")?;
    ticks(&stat).map(|ticks| ticks / TICKS).context("/proc has another form")
}

/// The fields utime and stime of proc(5) stat. The name before them may hold spaces and parentheses.
fn ticks(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// An empty file for a log, under `target/e2e-logs`.
pub fn log(name: &str) -> Result<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/e2e-logs");
    std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    let path = dir.join(format!("bench-{name}.log"));
    File::create(&path).with_context(|| format!("making {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_stand_behind_a_name_with_anything_in_it() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 12345 1000 10";
        assert_eq!(ticks(stat), Some(300.0));
        assert_eq!(ticks("7 (a) S"), None);
        assert!(cpu("self").unwrap() >= 0.0);
    }
}
