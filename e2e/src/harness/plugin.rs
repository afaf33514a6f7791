//! The kubectl plugin, as a person or a pipeline runs it, on a real terminal too.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tokio::process::Command;

use super::operator;
use super::space::Space;
use crate::cluster;

/// What the plugin came to.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Answer {
    /// Errors with everything it said unless it ended with this code.
    pub fn coded(self, code: i32) -> Result<Self> {
        ensure!(self.code == code, "exit code {} instead of {code}: {}{}", self.code, self.out, self.err);
        Ok(self)
    }

    /// Its standard output, which is JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.out).with_context(|| format!("not JSON: {}", self.out))
    }
}

impl Space {
    /// Runs `kubectl phx` in this namespace, in the scratch directory of the lab.
    pub async fn phx(&self, arguments: &[&str]) -> Result<Answer> {
        let output = self
            .phx_command()
            .await?
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("starting kubectl-phx")?;
        Ok(Answer {
            code: output.status.code().context("kubectl-phx was killed")?,
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    async fn phx_command(&self) -> Result<Command> {
        let mut command = Command::new(operator::plugin().await?);
        // It starts kubectl by its name: the pinned one.
        let kubectl = self.lab().tool("kubectl");
        let own = kubectl.parent().map(Path::to_path_buf).unwrap_or_default();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(own).chain(std::env::split_paths(&path)))?;
        command.env("PATH", path).env("KUBECONFIG", self.lab().cluster().kubeconfig());
        command.args(["--namespace", self.name()]);
        Ok(command)
    }

    /// Runs `kubectl phx` on a terminal of its own (tmux), of 160 columns and 50 lines.
    pub async fn phx_screen(&self, arguments: &[&str]) -> Result<Screen> {
        let tmux = tokio::task::spawn_blocking(|| cluster::provide("tmux", "tmux")).await??;
        let command = self.phx_command().await?;
        let command = command.as_std();
        let socket = format!("e2e-{}", self.name());
        let mut start = Command::new(&tmux);
        start.args(["-L", &socket, "-f", "/dev/null", "new-session", "-d", "-x", "160", "-y", "50"]);
        // Whatever the machine of the test prefers.
        start.args(["-e", "NO_COLOR="]);
        for (key, value) in command.get_envs() {
            if let Some(value) = value {
                start.arg("-e").arg(format!("{}={}", key.to_string_lossy(), value.to_string_lossy()));
            }
        }
        // The shell stays after the program: what it left on the screen can be read.
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<String> = words
            .map(|word| word.to_string_lossy().into_owned())
            .chain(arguments.iter().map(|word| (*word).to_owned()))
            .map(|word| format!("'{word}'"))
            .collect();
        start.arg(format!("{}; echo ended with $?; exec sleep 600", words.join(" ")));
        let output = start.stdin(Stdio::null()).output().await.context("starting tmux")?;
        ensure!(output.status.success(), "tmux: {}", String::from_utf8_lossy(&output.stderr));
        Ok(Screen { tmux, socket })
    }
}

/// A terminal on which a program runs. Dropped, both end.
#[derive(Debug)]
pub struct Screen {
    tmux: std::path::PathBuf,
    socket: String,
}

impl Screen {
    async fn tmux(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(&self.tmux)
            .args(["-L", &self.socket])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .await
            .context("starting tmux")?;
        ensure!(output.status.success(), "tmux: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What stands on it; with `colours` the escape sequences too.
    pub async fn look(&self, colours: bool) -> Result<String> {
        let arguments: &[&str] =
            if colours { &["capture-pane", "-p", "-e"] } else { &["capture-pane", "-p"] };
        self.tmux(arguments).await
    }

    /// Waits until this stands on it.
    pub async fn shows(&self, wanted: &str, within: Duration) -> Result<String> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            let seen = self.look(false).await?;
            if seen.contains(wanted) {
                return Ok(seen);
            }
            if tokio::time::Instant::now() > deadline {
                bail!("no {wanted:?} on the screen within {within:?}; it shows:\n{seen}");
            }
            // A terminal tells nobody that it changed.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Types a line.
    pub async fn type_line(&self, line: &str) -> Result<()> {
        self.tmux(&["send-keys", "-l", line]).await?;
        self.press("Enter").await
    }

    /// Presses a key, as tmux names it: `C-c`.
    pub async fn press(&self, key: &str) -> Result<()> {
        self.tmux(&["send-keys", key]).await.map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // This server is ours alone, by its socket.
        let _ = std::process::Command::new(&self.tmux).args(["-L", &self.socket, "kill-server"]).output();
    }
}
