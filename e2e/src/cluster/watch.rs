//! The watchdog: a process that takes a cluster down when its owner dies,
//! whatever the owner died of.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{
    ledger::Ledger,
    process::{self, Launch, Process},
    teardown::{self, Keep},
};

/// Starts the watchdog of this process' cluster and writes it down.
pub fn start(ledger: &Ledger) -> Result<()> {
    let owner = Process::myself()?;
    let Some(program) = program() else {
        eprintln!(
            "e2e: the `e2e` program was not found (build it with `cargo build -p e2e`): \
             if this process is killed, run `e2e down --dir {}`",
            ledger.dir().display()
        );
        return Ok(());
    };
    let log = ledger.log("watchdog");
    let watchdog = process::spawn(&Launch {
        name: "watchdog",
        command: vec![
            program.into(),
            "watch".into(),
            "--pid".into(),
            owner.pid.to_string().into(),
            "--start".into(),
            owner.start.to_string().into(),
            "--dir".into(),
            ledger.dir().into(),
        ],
        log: &log,
        netns: None,
        env: Vec::new(),
        // Not the cluster's own mark: it is not to be ended with the rest.
        id: "watchdog",
    })?;
    ledger.update(|record| record.watchdog = Some(watchdog))
}

/// The `e2e` program: `$PHOENIX_E2E_BIN`, ourselves, or beside us where Cargo puts it.
fn program() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("PHOENIX_E2E_BIN") {
        return Some(PathBuf::from(path));
    }
    let own = std::env::current_exe().ok()?;
    if own.file_name().is_some_and(|name| name == "e2e") {
        return Some(own);
    }
    let beside = own.ancestors().skip(1).take(2).map(|dir| dir.join("e2e"));
    beside.into_iter().find(|path| path.is_file())
}

/// Waits for the owner's end, then takes the cluster down unless it is to be kept.
pub fn watch(owner: &Process, dir: &Path) -> Result<()> {
    while owner.alive() {
        // Wakes by itself on the owner's end; the limit is only that of one wait.
        let _ = owner.wait(Duration::from_hours(1));
    }
    match Ledger::read(dir)? {
        Some(ledger) if !ledger.record().kept => {
            teardown::down(dir, Keep::Logs).context("after the owner's end")
        }
        _ => Ok(()),
    }
}
