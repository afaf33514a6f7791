//! The pinned programs, built from `e2e/tools/<group>` and kept between runs.
//!
//! A group is a Go module of its own, because the `replace` lines of one would
//! break another. What was built is kept under a hash of what it was built from.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

/// A Go module under `e2e/tools` and the programs built from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Group {
    /// etcd, the control plane, kubelet, kube-proxy, kubectl.
    Kubernetes,
    /// Fake nodes.
    Kwok,
    /// The container runtime of real nodes.
    Containerd,
    /// The cluster's name server.
    Coredns,
    /// Helm.
    Helm,
    /// The judgement of Flux, kpt and `helm --wait`.
    Kstatus,
    /// The judgement of Argo CD, and its actions.
    Argocd,
    /// A gateway, and with it the Gateway API's definitions.
    Traefik,
    /// Argo Rollouts, which the benchmark measures beside the operator; no test needs it.
    Rollouts,
    /// Static programs that become container images.
    Images,
}

/// One program of a group: its file name, and the package it is built from.
type Program = (&'static str, &'static str);

impl Group {
    /// Every group.
    pub const ALL: [Self; 10] = [
        Self::Kubernetes,
        Self::Kwok,
        Self::Containerd,
        Self::Coredns,
        Self::Helm,
        Self::Kstatus,
        Self::Argocd,
        Self::Traefik,
        Self::Rollouts,
        Self::Images,
    ];

    /// The directory under `e2e/tools`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Kwok => "kwok",
            Self::Containerd => "containerd",
            Self::Coredns => "coredns",
            Self::Helm => "helm",
            Self::Kstatus => "kstatus",
            Self::Argocd => "argocd",
            Self::Traefik => "traefik",
            Self::Rollouts => "rollouts",
            Self::Images => "images",
        }
    }

    /// What it is built into.
    pub const fn programs(self) -> &'static [Program] {
        match self {
            Self::Kubernetes => &[
                ("etcd", "go.etcd.io/etcd/server/v3"),
                ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
                ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
                ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
                ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
                ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
                ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
            ],
            Self::Kwok => &[("kwok", "sigs.k8s.io/kwok/cmd/kwok")],
            Self::Containerd => &[
                ("containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
                (
                    "containerd-shim-runc-v2",
                    "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
                ),
                ("ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
            ],
            Self::Coredns => &[("coredns", ".")],
            Self::Helm => &[("helm", "helm.sh/helm/v4/cmd/helm")],
            Self::Kstatus => &[("kstatus", ".")],
            Self::Argocd => &[("argocd-lua", ".")],
            Self::Traefik => &[("traefik", "github.com/traefik/traefik/v3/cmd/traefik")],
            Self::Rollouts => {
                &[("rollouts-controller", "github.com/argoproj/argo-rollouts/cmd/rollouts-controller")]
            }
            Self::Images => &[("pause", "./pause"), ("peer", "./peer")],
        }
    }

    /// Those that the tests use.
    pub fn tested() -> Vec<Self> {
        Self::ALL.into_iter().filter(|group| *group != Self::Rollouts).collect()
    }

    /// The version that the programs report is set at link time.
    const fn linker_flags(self) -> &'static str {
        match self {
            Self::Kubernetes => "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3",
            Self::Containerd => "-s -w -X github.com/containerd/containerd/v2/version.Version=v2.4.2",
            _ => "-s -w",
        }
    }

    /// Its source directory.
    pub fn source(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(self.name())
    }

    /// Where its programs are, or would be.
    fn target(self) -> Result<PathBuf> {
        let mut hash = Sha256::new();
        hash.update(self.linker_flags());
        hash_files(&self.source(), &mut hash)?;
        let mut short = [0; 8];
        short.copy_from_slice(&hash.finalize()[..8]);
        let short = u64::from_be_bytes(short);
        Ok(cache().join("tools").join(format!("{}-{short:016x}", self.name())))
    }
}

/// Adds the names and contents of all files under `dir`, in order.
fn hash_files(dir: &Path, hash: &mut Sha256) -> Result<()> {
    let mut paths = fs::read_dir(dir)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>())
        .with_context(|| format!("listing {}", dir.display()))?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            hash_files(&path, hash)?;
        } else {
            let content = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            hash.update(path.file_name().unwrap_or_default().as_encoded_bytes());
            hash.update(content.len().to_le_bytes());
            hash.update(content);
        }
    }
    Ok(())
}

/// Where what was built is kept: `$PHOENIX_E2E_CACHE`, else `target/e2e-cache` of the workspace.
pub fn cache() -> PathBuf {
    match std::env::var_os("PHOENIX_E2E_CACHE") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => super::workspace().join("target/e2e-cache"),
    }
}

/// The programs of the groups that were asked for.
#[derive(Clone, Debug, Default)]
pub struct BinDir {
    groups: BTreeMap<Group, PathBuf>,
}

impl BinDir {
    /// The path of a program. One that no ensured group has is left to `PATH`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.groups
            .iter()
            .find(|(group, _)| group.programs().iter().any(|(program, _)| *program == name))
            .map_or_else(|| PathBuf::from(name), |(_, dir)| dir.join(name))
    }

    /// The directories to put in front of `PATH`.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        self.groups.values().map(PathBuf::as_path)
    }
}

/// Which group has a program.
pub fn group_of(program: &str) -> Option<Group> {
    Group::ALL.into_iter().find(|group| group.programs().iter().any(|(name, _)| *name == program))
}

/// Builds what is missing of the groups, with progress on standard error, and
/// says where it all is. Concurrent callers, in any process, wait for each other.
pub fn ensure(groups: &[Group]) -> Result<BinDir> {
    let mut bin = BinDir::default();
    for &group in groups {
        let target = group.target()?;
        if !target.is_dir() {
            build(group, &target)?;
        }
        bin.groups.insert(group, target);
    }
    Ok(bin)
}

/// The groups that would have to be built first.
pub fn missing(groups: &[Group]) -> Result<Vec<Group>> {
    let mut missing = Vec::new();
    for &group in groups {
        if !group.target()?.is_dir() {
            missing.push(group);
        }
    }
    Ok(missing)
}

fn build(group: Group, target: &Path) -> Result<()> {
    let parent = cache().join("tools");
    fs::create_dir_all(&parent).with_context(|| format!("making {}", parent.display()))?;
    let lock = parent.join(format!("{}.lock", group.name()));
    let lock = fs::File::create(&lock).with_context(|| format!("opening {}", lock.display()))?;
    if lock.try_lock().is_err() {
        eprintln!("e2e: waiting for another process that builds {}", group.name());
        lock.lock().context("waiting for the build lock")?;
    }
    if target.is_dir() {
        return Ok(());
    }
    let fresh = target.with_extension("building");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).with_context(|| format!("removing {}", fresh.display()))?;
    }
    fs::create_dir_all(&fresh).with_context(|| format!("making {}", fresh.display()))?;
    let programs = group.programs();
    for (index, program) in programs.iter().enumerate() {
        let title = format!("{} ({} of {} of {})", program.0, index + 1, programs.len(), group.name());
        compile(group, *program, &fresh, &title)?;
    }
    fs::rename(&fresh, target).with_context(|| format!("moving what was built to {}", target.display()))
}

fn compile(group: Group, (name, package): Program, into: &Path, title: &str) -> Result<()> {
    /// How often a build that goes on says so.
    const BEAT: Duration = Duration::from_secs(10);
    let start = Instant::now();
    eprintln!("e2e: building {title}");
    let mut command = Command::new("go");
    command
        .args(["build", "-v", "-mod=readonly", "-buildvcs=false", "-ldflags"])
        .arg(group.linker_flags())
        .arg("-o")
        .arg(into.join(name))
        .arg(package)
        .current_dir(group.source())
        .env("GOWORK", "off")
        .env("GOFLAGS", "")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if group == Group::Images {
        // They run in images that hold no C library.
        command.env("CGO_ENABLED", "0");
    }
    let mut child = command
        .spawn()
        .context("starting `go`: Go 1.26 or later is needed to build the pinned tools (https://go.dev/dl)")?;
    let mut said: Vec<String> = Vec::new();
    let mut beat = start;
    if let Some(output) = child.stderr.take() {
        for line in BufReader::new(output).lines() {
            said.push(line.context("reading what the Go compiler says")?);
            if beat.elapsed() > BEAT {
                beat = Instant::now();
                eprintln!("e2e:   {title}: {} s, {} packages", start.elapsed().as_secs(), said.len());
            }
        }
    }
    let status = child.wait().context("waiting for the Go compiler")?;
    if !status.success() {
        let end = said[said.len().saturating_sub(20)..].join("\n");
        bail!("`go build {package}` in {} failed ({status}):\n{end}", group.source().display());
    }
    eprintln!("e2e:   {title}: built in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_a_pinned_module() {
        for group in Group::ALL {
            assert!(group.source().join("go.mod").is_file(), "{group:?}");
            assert_ne!(group.target().unwrap(), cache());
        }
    }

    #[test]
    fn a_program_belongs_to_one_group() {
        let mut names: Vec<&str> =
            Group::ALL.iter().flat_map(|group| group.programs()).map(|(name, _)| *name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        assert_eq!(group_of("kubectl"), Some(Group::Kubernetes));
        assert_eq!(group_of("tar"), None);
    }
}
