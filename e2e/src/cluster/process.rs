//! Processes that outlive whoever started them, and that are ended by their
//! own id without ever hitting a stranger who was given a recycled one.

use std::{ffi::OsString, fs, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use serde::{Deserialize, Serialize};

/// The environment variable that marks every process of a cluster, and of what
/// those start in turn (container shims), with the cluster's id.
pub const MARK: &str = "PHOENIX_E2E_CLUSTER";

/// The environment variable that marks the processes of one node.
pub const NODE_MARK: &str = "PHOENIX_E2E_NODE";

/// Open files allowed to each child, where the machine lets us raise it.
const OPEN_FILES: u32 = 1_048_576;

/// A process that was started, told apart from a later one with the same id by
/// the time of its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// What it is, for people and for the name of its log.
    pub name: String,
    /// Its process id.
    pub pid: i32,
    /// When it started, in clock ticks since boot (field 22 of proc(5) stat).
    pub start: u64,
}

impl Process {
    /// The process that has this id now, if any.
    pub fn with_id(name: &str, pid: i32) -> Option<Self> {
        let (_, start) = stat(pid)?;
        Some(Self { name: name.to_owned(), pid, start })
    }

    /// This very process.
    pub fn myself() -> Result<Self> {
        let pid = i32::try_from(std::process::id()).context("a process id fits 31 bits")?;
        Self::with_id("owner", pid).context("reading /proc/self/stat")
    }

    /// Whether it still runs; a zombie does not.
    pub fn alive(&self) -> bool {
        self.state().is_some_and(|state| !matches!(state, 'Z' | 'X'))
    }

    /// Its state letter, until it is reaped.
    fn state(&self) -> Option<char> {
        stat(self.pid).filter(|(_, start)| *start == self.start).map(|(state, _)| state)
    }

    /// Sends a signal; to one that has ended that is no error. The descriptor
    /// pins the process between the check of its start and the signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            bail!("{} has no valid process id: {}", self.name, self.pid);
        };
        let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else {
            return Ok(());
        };
        if !self.alive() {
            return Ok(());
        }
        match rustix::process::pidfd_send_signal(&pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("signalling {} ({})", self.name, self.pid)),
        }
    }

    /// Kills it and waits, up to ten seconds, until it is gone.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.wait(Duration::from_secs(10))
    }

    /// Waits until it has ended with all its threads, and reaps it if it is our child. One whose first thread has ended is
    /// a zombie already, while others may still hold its files and ports, and cannot be reaped yet.
    pub fn wait(&self, patience: Duration) -> Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(());
        };
        if let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            && self.state().is_some()
        {
            let until = std::time::Instant::now() + patience;
            loop {
                let left = until.saturating_duration_since(std::time::Instant::now());
                let timeout = rustix::event::Timespec::try_from(left).context("a timeout that fits")?;
                let mut fds = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
                // A signal, such as that of a child that ended, interrupts the wait.
                if rustix::event::poll(&mut fds, Some(&timeout)) != Err(rustix::io::Errno::INTR) {
                    break;
                }
            }
            if self.alive() {
                bail!("{} ({}) is still running after {patience:?}", self.name, self.pid);
            }
        }
        if self.state().is_some() {
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
        }
        Ok(())
    }
}

/// State letter and start time of a process.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name, in parentheses, may itself hold spaces and parentheses.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let start = fields.nth(18)?.parse().ok()?;
    Some((state, start))
}

/// How a process is to be started.
pub struct Launch<'a> {
    /// What it is.
    pub name: &'a str,
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// Where its output goes.
    pub log: &'a Path,
    /// The network namespace it lives in; the caller's when `None`.
    pub netns: Option<&'a Path>,
    /// Further environment.
    pub env: Vec<(&'a str, OsString)>,
    /// The id of the cluster it belongs to.
    pub id: &'a str,
}

/// Starts a process in a session of its own, so that neither a terminal's
/// Ctrl-C nor its closing reaches it. All wrappers replace themselves: the id
/// is that of the program.
pub fn spawn(launch: &Launch<'_>) -> Result<Process> {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(launch.log)
        .with_context(|| format!("opening {}", launch.log.display()))?;
    let script = format!("ulimit -n {OPEN_FILES} 2>/dev/null || ulimit -n \"$(ulimit -Hn)\"; exec \"$@\"");
    let mut command = std::process::Command::new("setsid");
    command.args(["sh", "-c", &script, "sh"]);
    if let Some(netns) = launch.netns {
        let mut flag = OsString::from("--net=");
        flag.push(netns);
        command.arg("nsenter").arg(flag).arg("--");
    }
    let child = command
        .args(&launch.command)
        .env(MARK, launch.id)
        .envs(launch.env.iter().map(|(key, value)| (*key, value)))
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("sharing a log file")?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("starting {}", launch.name))?;
    let pid = i32::try_from(child.id()).context("a process id fits 31 bits")?;
    Process::with_id(launch.name, pid).with_context(|| format!("{} ended as it started", launch.name))
}

/// Every process that carries a mark with this value, except this one.
pub fn marked(mark: &str, value: &str) -> Vec<Process> {
    let needle = format!("{mark}={value}");
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != own)
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|pair| pair == needle.as_bytes()))
        })
        .filter_map(|pid| Process::with_id("marked", pid))
        .filter(Process::alive)
        .collect()
}

/// The last lines of a log, for an error message.
pub fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// Runs a short command to its end; an error carries what it said.
pub fn run(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Result<String> {
    let program = program.as_ref();
    let output = std::process::Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", program.display()))?;
    if !output.status.success() {
        bail!(
            "`{} {}` failed: {}",
            program.display(),
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recycled_id_is_not_the_same_process() {
        let me = Process::myself().unwrap();
        assert!(me.alive());
        let earlier = Process { start: me.start - 1, ..me };
        assert!(!earlier.alive());
        earlier.signal(Signal::KILL).unwrap();
    }

    #[test]
    fn a_killed_child_is_gone_and_reaped() {
        let dir = std::env::temp_dir();
        let log = dir.join(format!("e2e-process-{}.log", std::process::id()));
        let id = format!("test-{}", std::process::id());
        let process = spawn(&Launch {
            name: "sleeper",
            command: vec!["sleep".into(), "600".into()],
            log: &log,
            netns: None,
            env: Vec::new(),
            id: &id,
        })
        .unwrap();
        assert!(process.alive());
        process.kill().unwrap();
        assert!(!process.alive());
        assert!(stat(process.pid).is_none());
        assert!(marked(MARK, &id).is_empty());
        std::fs::remove_file(log).unwrap();
    }
}
