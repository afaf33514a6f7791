//! What real nodes need of the machine: root, Linux, and Debian packages.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::{
    Nodes, process,
    tools::{self, Group},
};

/// A Debian package and a program of it.
const PACKAGES: [(&str, &str); 8] = [
    ("runc", "runc"),
    // Not by its `bridge`: iproute2 has one too.
    ("containernetworking-plugins", PLUGIN),
    ("conntrack", "conntrack"),
    ("iptables", "iptables"),
    ("nftables", "nft"),
    ("iproute2", "ip"),
    ("util-linux", "nsenter"),
    ("procps", "sysctl"),
];

/// A network plugin that no other package has a namesake of.
const PLUGIN: &str = "host-local";

/// Where network plugins are, besides `PATH`.
const PLUGIN_DIRS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

/// The path of a program of this machine.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .chain(PLUGIN_DIRS.map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

/// The directory with the network plugins.
pub fn plugin_dir() -> Result<PathBuf> {
    PLUGIN_DIRS
        .map(PathBuf::from)
        .into_iter()
        .find(|dir| dir.join(PLUGIN).is_file())
        .context("no network plugins: install the package containernetworking-plugins")
}

fn missing_packages() -> Vec<&'static str> {
    PACKAGES.iter().filter(|(_, program)| find(program).is_none()).map(|(package, _)| *package).collect()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What stands in the way of a cluster, as sentences; empty if nothing does.
pub fn obstacles(nodes: Nodes) -> Result<Vec<String>> {
    let mut obstacles = Vec::new();
    let unbuilt: Vec<Group> = tools::missing(nodes.groups())?;
    if !unbuilt.is_empty() && find("go").is_none() {
        obstacles.push("Go 1.26 or later is not installed: it builds the pinned tools".to_owned());
    }
    if find("setsid").is_none() {
        obstacles.push("the program `setsid` is missing (Debian package util-linux)".to_owned());
    }
    if nodes == Nodes::Real {
        if !cfg!(target_os = "linux") {
            obstacles.push("real nodes need Linux".to_owned());
        }
        if !is_root() {
            obstacles.push("real nodes need root: run as root, or use `--nodes kwok`".to_owned());
        }
        let missing = missing_packages();
        let installable = is_root() && find("apt-get").is_some();
        if !missing.is_empty() && !installable {
            obstacles.push(format!("install the Debian packages {}", missing.join(" ")));
        }
        if !Path::new("/sys/fs/cgroup").is_dir() {
            obstacles.push("/sys/fs/cgroup is not mounted".to_owned());
        }
    }
    Ok(obstacles)
}

/// Installs what is missing where that is possible, and fails with everything
/// that stands in the way where it is not.
pub fn ensure(nodes: Nodes) -> Result<()> {
    let obstacles = obstacles(nodes)?;
    if !obstacles.is_empty() {
        bail!("this machine cannot run a cluster with {} nodes:\n- {}", nodes.name(), obstacles.join("\n- "));
    }
    let missing = missing_packages();
    if nodes == Nodes::Kwok || missing.is_empty() {
        return Ok(());
    }
    eprintln!("e2e: installing {}", missing.join(" "));
    if install(&missing).is_err() {
        apt(&["update"])?;
        install(&missing)?;
    }
    Ok(())
}

/// The path of a program of this machine; its Debian package is installed if need be.
pub fn provide(package: &str, program: &str) -> Result<PathBuf> {
    if find(program).is_none() && is_root() && find("apt-get").is_some() {
        eprintln!("e2e: installing {package}");
        if install(&[package]).is_err() {
            apt(&["update"])?;
            install(&[package])?;
        }
    }
    find(program).with_context(|| format!("`{program}` is missing: install the Debian package {package}"))
}

fn install(packages: &[&str]) -> Result<()> {
    apt(&[&["install", "-y", "--no-install-recommends"], packages].concat())
}

/// Unpacks a Debian package into a directory that is not there yet, without installing it: nothing of the machine
/// changes, no service of it starts, and no root is needed. What it depends on is not unpacked.
pub fn unpack(package: &str, into: &Path) -> Result<()> {
    let new = into.with_extension("new");
    if new.exists() {
        fs::remove_dir_all(&new).with_context(|| format!("removing {}", new.display()))?;
    }
    let download = new.join("download");
    fs::create_dir_all(&download).with_context(|| format!("making {}", download.display()))?;
    eprintln!("e2e: unpacking {package}");
    let fetched = apt_in(&download, &["download", package]);
    fetched.with_context(|| format!("the package {package} cannot be had; `apt-get update` may help"))?;
    let archive = fs::read_dir(&download)
        .with_context(|| format!("reading {}", download.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("`apt-get download {package}` left no archive"))?;
    process::run("dpkg-deb", &["-x", &archive.to_string_lossy(), &new.to_string_lossy()])?;
    fs::remove_dir_all(&download).with_context(|| format!("removing {}", download.display()))?;
    fs::rename(&new, into).with_context(|| format!("making {}", into.display()))
}

fn apt(arguments: &[&str]) -> Result<()> {
    apt_in(Path::new("/"), arguments)
}

fn apt_in(dir: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .current_dir(dir)
        .args(["-q", "-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .context("starting apt-get")?;
    if !output.status.success() {
        bail!("`apt-get {}` failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
