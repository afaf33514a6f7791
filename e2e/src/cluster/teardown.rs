//! Takes away everything a cluster's ledger names, however the cluster ended.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::{mount::UnmountFlags, process::Signal};

use super::{
    cgroup,
    ledger::{Ledger, Record},
    process::{self, MARK, Process},
};

/// What stays of a cluster's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    Nothing,
    /// The logs and the audit log, to find out what went wrong.
    Logs,
}

/// Takes the cluster in `dir` away; if there is none, that is fine. All is tried
/// even if some of it fails, so that a second attempt has less to do.
pub fn down(dir: &Path, keep: Keep) -> Result<()> {
    let Some(ledger) = Ledger::read(dir)? else {
        return Ok(());
    };
    let record = ledger.record();
    let mut failures: Vec<anyhow::Error> = Vec::new();
    let mut attempt = |result: Result<()>| failures.extend(result.err());
    attempt(end_processes(&record));
    for group in &record.cgroups {
        attempt(cgroup::remove(group));
    }
    // Once more: what was being started while we ended the rest.
    attempt(end_processes(&record));
    attempt(unmount_under(dir));
    if let Some(run) = &record.run_dir {
        attempt(unmount_under(run));
    }
    for link in &record.links {
        attempt(remove_link(link));
    }
    for netns in &record.netns {
        attempt(remove_netns(netns));
    }
    if !failures.is_empty() {
        let text: Vec<String> = failures.iter().map(|error| format!("{error:#}")).collect();
        bail!("taking down the cluster in {}:\n{}", dir.display(), text.join("\n"));
    }
    remove_traces(dir, &record)?;
    if let Some(run) = &record.run_dir
        && run.exists()
    {
        fs::remove_dir_all(run).with_context(|| format!("removing {}", run.display()))?;
    }
    remove_dir(dir, keep)?;
    end_watchdog(&record)
}

fn end_processes(record: &Record) -> Result<()> {
    // First those that start others.
    let processes: Vec<Process> = record
        .processes
        .iter()
        .cloned()
        .chain(process::marked(MARK, &record.id))
        .filter(|process| Some(process) != record.watchdog.as_ref())
        .collect();
    for process in &processes {
        process.signal(Signal::KILL)?;
    }
    for process in &processes {
        process.wait(Duration::from_secs(10))?;
    }
    Ok(())
}

/// Last of all, so that it finishes the work if we are killed before; unless it is us.
fn end_watchdog(record: &Record) -> Result<()> {
    match &record.watchdog {
        Some(watchdog) if u32::try_from(watchdog.pid) != Ok(std::process::id()) => watchdog.kill(),
        _ => Ok(()),
    }
}

/// Mount points at or below a directory, the latest first.
pub fn mounts_under(dir: &Path) -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("reading the mounts")?;
    let mut found: Vec<PathBuf> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|path| PathBuf::from(path.replace("\\040", " ")))
        .filter(|path| path.starts_with(dir))
        .collect();
    found.reverse();
    Ok(found)
}

fn unmount_under(dir: &Path) -> Result<()> {
    for mount in mounts_under(dir)? {
        rustix::mount::unmount(&mount, UnmountFlags::DETACH)
            .with_context(|| format!("unmounting {}", mount.display()))?;
    }
    Ok(())
}

fn remove_link(link: &str) -> Result<()> {
    if Path::new("/sys/class/net").join(link).exists() {
        process::run("ip", &["link", "delete", link])?;
    }
    Ok(())
}

fn remove_netns(netns: &str) -> Result<()> {
    if Path::new("/run/netns").join(netns).exists() {
        process::run("ip", &["netns", "delete", netns])?;
    }
    Ok(())
}

/// What programs of a node leave in places they cannot be told to avoid: the
/// kubelet's links to container logs, and the network library's cache.
fn remove_traces(dir: &Path, record: &Record) -> Result<()> {
    let listed = |place: &str| fs::read_dir(place).into_iter().flatten().flatten();
    for link in listed("/var/log/containers") {
        if fs::read_link(link.path()).is_ok_and(|target| target.starts_with(dir)) {
            fs::remove_file(link.path()).with_context(|| format!("removing {}", link.path().display()))?;
        }
    }
    for result in listed("/var/lib/cni/results") {
        if result.file_name().to_string_lossy().starts_with(&record.id) {
            fs::remove_file(result.path())
                .with_context(|| format!("removing {}", result.path().display()))?;
        }
    }
    Ok(())
}

fn remove_dir(dir: &Path, keep: Keep) -> Result<()> {
    // Through a mount that is left one would delete what is not ours.
    if let Some(mount) = mounts_under(dir)?.first() {
        bail!("{} is still mounted", mount.display());
    }
    if keep == Keep::Nothing {
        return fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()));
    }
    let entries = fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("listing {}", dir.display()))?.path();
        if path.ends_with("logs") || path.ends_with("audit.log") {
            continue;
        }
        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }
            .with_context(|| format!("removing {}", path.display()))?;
    }
    eprintln!("e2e: the logs are in {}", dir.display());
    Ok(())
}
