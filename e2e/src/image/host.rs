//! What this machine needs to build the release and its root file system.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Debian's packages of Erlang and Elixir that `mix release` uses, and what makes the base layer.
const PACKAGES: &[&str] = &[
    "debootstrap",
    "elixir",
    "erlang-base",
    "erlang-crypto",
    "erlang-dev",
    "erlang-eunit",
    "erlang-inets",
    "erlang-p1-pgsql",
    "erlang-parsetools",
    "erlang-runtime-tools",
    "erlang-ssl",
    "erlang-syntax-tools",
    "erlang-tools",
];

/// The release is compiled here and runs on the base layer: both have to be the same Debian.
pub(super) const SUITE: &str = "bookworm";

/// Installs missing packages when this process is root. Errors say which are missing.
pub(super) fn prepare() -> Result<()> {
    let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
    ensure!(
        system.lines().any(|line| line == format!("VERSION_CODENAME={SUITE}")),
        "the release can only be built on Debian {SUITE}, the system of its base layer"
    );
    let missing = missing()?;
    if missing.is_empty() {
        return Ok(());
    }
    if fs::metadata("/proc/self")?.uid() != 0 {
        bail!("missing packages; as root: apt-get install --no-install-recommends {}", missing.join(" "));
    }
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    run(Command::new("apt-get")
        .args(["install", "-qq", "-y", "--no-install-recommends"])
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

/// The installed versions, for the name of what they build.
pub(super) fn versions() -> Result<Vec<u8>> {
    let query =
        Command::new("dpkg-query").args(["-W", "-f", "${Package} ${Version}\n"]).args(PACKAGES).output();
    Ok(query.context("cannot run dpkg-query")?.stdout)
}

fn missing() -> Result<Vec<&'static str>> {
    let query = Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status} ${Package}\n"])
        .args(PACKAGES)
        .output()
        .context("cannot run dpkg-query")?;
    let known = String::from_utf8_lossy(&query.stdout);
    let installed: Vec<&str> = known.lines().filter_map(|line| line.strip_prefix("installed ")).collect();
    Ok(PACKAGES.iter().copied().filter(|package| !installed.contains(package)).collect())
}

/// Runs a build step. Errors quote what it wrote.
pub(super) fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} ended with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
