//! Commands inside pods, also those that want a terminal.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::space::Space;

impl Space {
    /// Runs a command in a pod; gives back what it printed. Errors with its words when its status is not 0.
    pub async fn exec(&self, pod: &str, command: &[&str]) -> Result<String> {
        self.kubectl(&[&["exec", pod, "--"], command].concat(), None).await
    }

    /// Runs a command in a pod, on a terminal.
    pub fn terminal(&self, pod: &str, command: &[&str]) -> Result<Terminal> {
        let cluster = self.lab().cluster();
        let kubectl = format!(
            "exec {} --kubeconfig {} --namespace {} exec -it {pod} -- {}",
            cluster.tool("kubectl").display(),
            cluster.kubeconfig().display(),
            self.name(),
            command.join(" ")
        );
        Terminal::start(&kubectl)
    }
}

/// A program on a terminal of its own. Dropped, it is killed.
#[derive(Debug)]
pub struct Terminal {
    _child: Child,
    input: ChildStdin,
    output: ChildStdout,
    said: String,
}

impl Terminal {
    /// script(1) makes the terminal; it ends with its program, and the other way round.
    fn start(command: &str) -> Result<Self> {
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--", "script", "-qfec", command, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .env("TERM", "dumb")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("starting script")?;
        let input = child.stdin.take().context("script has no input")?;
        let output = child.stdout.take().context("script has no output")?;
        Ok(Self { _child: child, input, output, said: String::new() })
    }

    /// Types a line.
    pub async fn type_line(&mut self, line: &str) -> Result<()> {
        self.input.write_all(format!("{line}\n").as_bytes()).await.context("typing")?;
        self.input.flush().await.context("typing")
    }

    /// Reads until the program has said `wanted`; gives back everything up to and with it, once.
    pub async fn until(&mut self, wanted: &str, within: Duration) -> Result<String> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            if let Some(at) = self.said.find(wanted) {
                let rest = self.said.split_off(at + wanted.len());
                return Ok(std::mem::replace(&mut self.said, rest));
            }
            let mut bytes = [0; 4096];
            match tokio::time::timeout_at(deadline, self.output.read(&mut bytes)).await {
                Ok(Ok(0)) => bail!("the terminal closed before {wanted:?}; it said:\n{}", self.said),
                Ok(read) => {
                    let read = read.context("reading a terminal")?;
                    self.said.push_str(&String::from_utf8_lossy(&bytes[..read]));
                }
                Err(_) => bail!("no {wanted:?} within {within:?}; the terminal said:\n{}", self.said),
            }
        }
    }
}
