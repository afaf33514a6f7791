//! Programs that tests and benchmarks start on this machine, and what they take of it.

use std::ffi::OsString;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Starts a program that talks to an API server as `kubeconfig` says; what it prints is added to `log`. Dropped, it is
/// killed, by its own id; it is also killed when this process ends.
pub fn start(program: &Path, arguments: &[OsString], kubeconfig: &Path, log: &Path) -> Result<Child> {
    let mut command = tied();
    command.arg(program).args(arguments).env("KUBECONFIG", kubeconfig);
    spawn(command, log).with_context(|| format!("starting {}", program.display()))
}

/// What runs the program that is named next under the command's own id, and kills it when this process ends.
pub fn tied() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]);
    command
}

/// Starts what is asked for; what it prints is added to `log`. Dropped, it is killed, by its own id.
pub fn spawn(mut command: Command, log: &Path) -> Result<Child> {
    let output = File::options().create(true).append(true).open(log);
    let output = output.with_context(|| format!("opening {}", log.display()))?;
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone().context("sharing a log file")?)
        .stderr(output)
        .kill_on_drop(true);
    Ok(command.spawn()?)
}

/// A size of a process' memory, in KiB, as `/proc` has it: `VmRSS` is what it takes now, `VmHWM` the most since its start
/// or since that was forgotten.
pub fn memory(pid: u32, field: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("reading /proc")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()).context("no such field")?;
    number.parse().context("a size that is no number")
}

/// What is answered to a GET: the status code and the text.
pub async fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await.context("connecting to the program")?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status code")?;
    Ok((code, body.to_owned()))
}

/// An address of loopback with a port that is free now.
pub fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("finding a free port")?;
    listener.local_addr().context("finding a free port")
}
