//! The control group of a node: everything its containers run is in it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;

use super::process::Process;

/// Where the kernel shows control groups.
const ROOT: &str = "/sys/fs/cgroup";

/// Makes a group in every hierarchy, or in the one of version 2.
pub fn create(group: &str) -> Result<()> {
    let root = Path::new(ROOT);
    if root.join("cgroup.controllers").exists() {
        let controllers = "+cpuset +cpu +io +memory +pids";
        write(&root.join("cgroup.subtree_control"), controllers)?;
        make(&root.join(group))?;
        return write(&root.join(group).join("cgroup.subtree_control"), controllers);
    }
    let hierarchies = fs::read_dir(root).with_context(|| format!("listing {ROOT}"))?;
    for hierarchy in hierarchies.flatten() {
        let hierarchy = hierarchy.path();
        // Some are links to others, and some of version 2 beside them.
        if hierarchy.is_symlink() || !hierarchy.join("cgroup.procs").exists() {
            continue;
        }
        if hierarchy.ends_with("unified") {
            continue;
        }
        let dir = hierarchy.join(group);
        make(&dir)?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(value) = fs::read_to_string(hierarchy.join(file)) {
                write(&dir.join(file), value.trim())?;
            }
        }
    }
    Ok(())
}

fn make(dir: &Path) -> Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("making the control group {}", dir.display()))
        }
        _ => Ok(()),
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}

/// The group in every hierarchy that has it.
fn dirs(group: &str) -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    let mut dirs = vec![root.join(group)];
    if let Ok(controllers) = fs::read_dir(root) {
        dirs.extend(
            controllers
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| !path.is_symlink())
                .map(|path| path.join(group)),
        );
    }
    dirs.retain(|dir| dir.is_dir());
    dirs
}

/// A directory and all below it, deepest first.
fn tree(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if let Ok(entries) = fs::read_dir(dir) {
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.extend(tree(&entry.path()));
            }
        }
    }
    found.push(dir.to_owned());
    found
}

/// The processes in a group and in those below it.
pub fn members(group: &str) -> Vec<Process> {
    let inside: BTreeSet<i32> = dirs(group)
        .iter()
        .flat_map(|dir| tree(dir))
        .filter_map(|dir| fs::read_to_string(dir.join("cgroup.procs")).ok())
        .flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<i32>>())
        .collect();
    inside.into_iter().filter_map(|pid| Process::with_id("container", pid)).collect()
}

/// Ends what runs in a group and removes it.
pub fn remove(group: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        for process in members(group) {
            process.signal(Signal::KILL)?;
            process.wait(Duration::from_secs(5))?;
        }
        let mut stuck = None;
        for dir in dirs(group).iter().flat_map(|dir| tree(dir)) {
            if fs::remove_dir(&dir).is_err() && dir.exists() {
                stuck = Some(dir);
            }
        }
        let Some(stuck) = stuck else {
            return Ok(());
        };
        if Instant::now() > deadline {
            bail!("the control group {} cannot be removed", stuck.display());
        }
        // A group stays busy for a moment after its last process has ended.
        std::thread::sleep(Duration::from_millis(20));
    }
}
