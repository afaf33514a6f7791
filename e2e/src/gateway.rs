//! The Gateway API on a cluster: its definitions, and Traefik as a gateway on the machine itself.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::cluster::tools::{self, Group};
use crate::harness::Lab;

/// How long Traefik may take until it listens.
const DEADLINE: Duration = Duration::from_mins(1);
/// What a `GatewayClass` of Traefik names.
pub const CONTROLLER: &str = "traefik.io/gateway-controller";

/// Defines the kinds of the Gateway API's standard channel, as the module that Traefik is built from has them.
pub async fn define(lab: &Lab) -> Result<()> {
    let dir = definitions().context("finding the definitions of the Gateway API")?;
    let dir = dir.to_str().context("a path in UTF-8")?;
    lab.kubectl(&["apply", "--server-side", "-f", dir], None).await?;
    let kinds = ["gatewayclasses", "gateways", "httproutes"];
    for kind in kinds.map(|kind| format!("crd/{kind}.gateway.networking.k8s.io")) {
        lab.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", &kind], None).await?;
    }
    Ok(())
}

/// The definitions, copied beside the program the first time: asking Go takes long.
fn definitions() -> Result<PathBuf> {
    let program = tools::ensure(&[Group::Traefik])?.program("traefik");
    let kept = program.with_file_name("definitions");
    if kept.is_dir() {
        return Ok(kept);
    }
    let module = Command::new("go")
        .arg("-C")
        .arg(Group::Traefik.source())
        .args(["list", "-mod=readonly", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api"])
        .env("GOFLAGS", "")
        .output()
        .context("starting `go`")?;
    ensure!(module.status.success(), "go list: {}", String::from_utf8_lossy(&module.stderr));
    let module = PathBuf::from(String::from_utf8(module.stdout).context("a path in UTF-8")?.trim());
    let fresh = kept.with_extension(std::process::id().to_string());
    fs::create_dir_all(&fresh).with_context(|| format!("making {}", fresh.display()))?;
    let from = module.join("config/crd/standard");
    for entry in fs::read_dir(&from).with_context(|| format!("listing {}", from.display()))? {
        let path = entry.with_context(|| format!("listing {}", from.display()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("gateway.networking.k8s.io_") {
            fs::copy(&path, fresh.join(name)).with_context(|| format!("copying {}", path.display()))?;
        }
    }
    if fs::rename(&fresh, &kept).is_err() {
        // Another process was faster.
        fs::remove_dir_all(&fresh).with_context(|| format!("removing {}", fresh.display()))?;
    }
    Ok(kept)
}

/// A running Traefik. Dropped, it is stopped by its own process id.
#[derive(Debug)]
pub struct Traefik {
    address: SocketAddr,
    log: PathBuf,
    server: Child,
}

impl Traefik {
    /// Starts it with one entry point on a free port of loopback, for Gateways whose listener has that port and for
    /// Ingresses of the class `traefik`. It talks to the API server as `kubeconfig` says. Errors when it does not listen
    /// within a minute (its log is quoted).
    pub async fn start(kubeconfig: &Path, dir: &Path) -> Result<Self> {
        let program = tools::ensure(&[Group::Traefik])?.program("traefik");
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let log = dir.join("traefik.log");
        let output = File::create(&log).with_context(|| format!("making {}", log.display()))?;
        let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("finding a free port")?;
        let address = free.local_addr()?;
        drop(free);
        let server = Command::new(&program)
            .arg(format!("--entrypoints.web.address={address}"))
            .args([
                "--providers.kubernetesgateway=true",
                "--providers.kubernetesgateway.statusaddress.ip=127.0.0.1",
                "--providers.kubernetesingress=true",
                "--providers.kubernetesingress.ingressclass=traefik",
                "--global.checknewversion=false",
                "--global.sendanonymoususage=false",
                "--log.level=INFO",
            ])
            .env_clear()
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let mut traefik = Self { address, log, server };
        let deadline = Instant::now() + DEADLINE;
        while tokio::net::TcpStream::connect(address).await.is_err() {
            ensure!(traefik.server.try_wait()?.is_none(), "Traefik ended; its log:\n{}", traefik.log());
            ensure!(Instant::now() < deadline, "Traefik does not listen; its log:\n{}", traefik.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(traefik)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Traefik {
    fn drop(&mut self) {
        // It is our child and not reaped yet: its id is no stranger's. An error means that it has ended by itself.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
