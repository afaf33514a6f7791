//! The Gateway API on a cluster: its definitions, and Traefik as a gateway on the machine itself.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::cluster::{
    module,
    tools::{self, Group},
};
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

/// The definitions, as the module has them that Traefik is built with.
fn definitions() -> Result<PathBuf> {
    let wanted = |name: &str| name.starts_with("gateway.networking.k8s.io_");
    let from = ["config/crd/standard"];
    module::files(Group::Traefik, "sigs.k8s.io/gateway-api", "definitions", &from, wanted)
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
        let address = crate::process::free_address()?;
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
