//! What a cluster has made, written down the moment it is made, so that any
//! later process can take it all away again.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{
    Nodes,
    process::{self, Launch, Process},
};

/// The file name of the ledger in a cluster's directory.
pub const FILE: &str = "ledger.json";

/// Everything that a cluster has made outside its own directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Unique on this machine; marks processes, control groups and containers.
    pub id: String,
    /// Which kind of nodes it has.
    pub nodes: Nodes,
    /// The API server's address, `https://IP:PORT`.
    pub server: String,
    /// Whether it is to outlive the process that started it.
    pub kept: bool,
    /// Which numbered set of addresses and names a cluster with real nodes uses.
    pub slot: Option<u8>,
    /// The process that takes the cluster down if its owner dies.
    pub watchdog: Option<Process>,
    /// Its processes.
    pub processes: Vec<Process>,
    /// Short-named directory for sockets.
    pub run_dir: Option<PathBuf>,
    /// Network namespaces, as in `ip netns`.
    pub netns: Vec<String>,
    /// Links in the machine's own network namespace.
    pub links: Vec<String>,
    /// Control groups, relative to each controller's root.
    pub cgroups: Vec<String>,
}

/// The record and the file it is kept in.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    record: Mutex<Record>,
}

impl Ledger {
    /// Opens a new ledger for a cluster in `dir`.
    pub fn create(dir: &Path, record: Record) -> Result<Self> {
        let ledger = Self { dir: dir.to_owned(), record: Mutex::new(record) };
        ledger.update(|_| ())?;
        Ok(ledger)
    }

    /// Reads the ledger of the cluster in `dir`; `None` if there is no cluster.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let record =
            serde_json::from_slice(&text).with_context(|| format!("understanding {}", path.display()))?;
        Ok(Some(Self { dir: dir.to_owned(), record: Mutex::new(record) }))
    }

    /// The cluster's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a process' output is kept.
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{name}.log"))
    }

    /// A copy of the record.
    pub fn record(&self) -> Record {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the record and writes it before returning.
    pub fn update<T>(&self, change: impl FnOnce(&mut Record) -> T) -> Result<T> {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = change(&mut record);
        let path = self.dir.join(FILE);
        let fresh = self.dir.join(format!("{FILE}.new"));
        let text = serde_json::to_vec_pretty(&*record).context("writing the ledger as JSON")?;
        fs::write(&fresh, text)
            .and_then(|()| fs::rename(&fresh, &path))
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(answer)
    }

    /// Starts a process of the cluster and writes it down.
    pub fn spawn(&self, name: &str, netns: Option<&Path>, command: Vec<OsString>) -> Result<Process> {
        self.spawn_with(name, netns, Vec::new(), command)
    }

    /// Starts a process of the cluster with further environment and writes it down.
    pub fn spawn_with(
        &self,
        name: &str,
        netns: Option<&Path>,
        env: Vec<(&str, OsString)>,
        command: Vec<OsString>,
    ) -> Result<Process> {
        let log = self.log(name);
        let id = self.record().id;
        let process = process::spawn(&Launch { name, command, log: &log, netns, env, id: &id })?;
        self.update(|record| record.processes.push(process.clone()))?;
        Ok(process)
    }

    /// An error for the first process that has died, with the end of its log.
    pub fn all_alive(&self) -> Result<()> {
        for process in self.record().processes {
            if !process.alive() {
                let log = self.log(&process.name);
                anyhow::bail!(
                    "{} ended; the last of its log ({}):\n{}",
                    process.name,
                    log.display(),
                    process::tail(&log)
                );
            }
        }
        Ok(())
    }
}
