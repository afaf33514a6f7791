//! A real Prometheus for tests: Debian's, on a directory and a port of its own.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cluster::{packages, tools};

/// How long a server may take until it answers queries.
const DEADLINE: Duration = Duration::from_mins(1);

/// A running server. Dropped, it is stopped by its own process id.
#[derive(Debug)]
pub struct Prometheus {
    address: SocketAddr,
    log: PathBuf,
    server: Child,
}

impl Prometheus {
    /// Starts Debian's Prometheus with an empty store in `dir` on a free port of `listen`, and waits until it is ready.
    ///
    /// `config` is a whole `prometheus.yml`, scrape configs included. The package is unpacked beside what was built for
    /// tests: installed, it would start a service of the machine's own. Errors when it cannot be had, or does not come
    /// up within a minute (its log is quoted).
    pub async fn start(listen: IpAddr, dir: &Path, config: &str) -> Result<Self> {
        let program = program()?;
        let data = dir.join("data");
        if data.exists() {
            fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display()))?;
        }
        fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
        let (file, log) = (dir.join("prometheus.yml"), dir.join("prometheus.log"));
        fs::write(&file, config).with_context(|| format!("cannot write {}", file.display()))?;
        let address = free_address(listen)?;
        let output = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        let flag = |name: &str, value: &Path| format!("--{name}={}", value.display());
        let server = Command::new(&program)
            .arg(flag("config.file", &file))
            .arg(flag("storage.tsdb.path", &data))
            .arg(format!("--web.listen-address={address}"))
            .args(["--storage.tsdb.retention.time=1d", "--log.level=warn"])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut prometheus = Self { address, log, server };
        prometheus.wait_ready().await?;
        Ok(prometheus)
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// As the operator's configuration names it: an argument of `--prometheus`.
    pub fn endpoint(&self, name: &str) -> String {
        format!("{name}=http://{}", self.address)
    }

    /// Stops it, for a test of what happens without it.
    pub fn stop(&mut self) {
        // It is our child and not reaped yet: its id is no stranger's. An error means that it has ended by itself.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while !self.ready().await {
            let log = || fs::read_to_string(&self.log).unwrap_or_default();
            ensure!(self.server.try_wait()?.is_none(), "Prometheus ended as it started; its log:\n{}", log());
            ensure!(Instant::now() < deadline, "Prometheus did not come up; its log:\n{}", log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn ready(&self) -> bool {
        let ask = async {
            let mut stream = TcpStream::connect(self.address).await.ok()?;
            let request = "GET /-/ready HTTP/1.0\r\nHost: localhost\r\n\r\n";
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            let status = answer.split_whitespace().nth(1)?;
            Some(status == "200")
        };
        ask.await.unwrap_or(false)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The machine's own, or one unpacked out of Debian's package.
fn program() -> Result<PathBuf> {
    if let Some(program) = packages::find("prometheus") {
        return Ok(program);
    }
    let unpacked = tools::cache().join("prometheus");
    let program = unpacked.join("usr/bin/prometheus");
    if !program.is_file() {
        packages::unpack("prometheus", &unpacked)?;
    }
    ensure!(program.is_file(), "the package prometheus holds no {}", program.display());
    Ok(program)
}

/// Free when asked; nothing keeps another process from taking it before the server does.
fn free_address(listen: IpAddr) -> Result<SocketAddr> {
    let socket = TcpListener::bind((listen, 0)).with_context(|| format!("cannot listen on {listen}"))?;
    Ok(socket.local_addr()?)
}
