//! The load generator as a process inside a network namespace, where Services are reached.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::load::Report;
use crate::process;

/// What load is made.
#[derive(Clone, Debug)]
pub struct TrafficOptions {
    /// Connections; half are kept alive, half are made for one request.
    pub connections: usize,
    /// Streams of server-sent events.
    pub streams: usize,
    /// Most requests per second.
    pub rate: u32,
    /// Requests that are made in any case.
    pub at_least: u64,
    /// Paths, asked for in turn.
    pub paths: Vec<String>,
}

/// Load that is being made. Dropped, it ends, by its own id.
#[derive(Debug)]
pub struct Traffic {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Traffic {
    /// Starts the program `load` (cargo's `CARGO_BIN_EXE_load`), inside `netns` when given.
    pub fn start(
        program: &Path,
        netns: Option<&Path>,
        target: SocketAddr,
        options: &TrafficOptions,
    ) -> Result<Self> {
        let mut command = process::tied();
        if let Some(netns) = netns {
            command.arg("nsenter").arg(format!("--net={}", netns.display())).arg("--");
        }
        command
            .arg(program)
            .arg(target.to_string())
            .arg(format!("--connections={}", options.connections))
            .arg(format!("--streams={}", options.streams))
            .arg(format!("--rate={}", options.rate))
            .arg(format!("--at-least={}", options.at_least))
            .args(options.paths.iter().map(|path| format!("--path={path}")));
        // All wrappers replace themselves: the id is that of the program.
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let output = child.stdout.take().context("the load generator has no output")?;
        let input = child.stdin.take();
        Ok(Self { child, input, output: BufReader::new(output).lines() })
    }

    /// Waits until so many requests have been made in all.
    pub async fn reaches(&mut self, requests: u64) -> Result<Report> {
        let input = self.input.as_mut().context("it was told to stop")?;
        input.write_all(format!("{requests}\n").as_bytes()).await.context("asking the load generator")?;
        self.report().await
    }

    /// What has been counted by now.
    pub async fn report_now(&mut self) -> Result<Report> {
        self.reaches(0).await
    }

    /// Lets it make the requests that are still missing, then stops it.
    pub async fn stop(mut self) -> Result<Report> {
        self.input = None;
        let report = self.report().await?;
        let ended = tokio::time::timeout(Duration::from_secs(30), self.child.wait()).await;
        ended.context("the load generator does not end")?.context("waiting for the load generator")?;
        Ok(report)
    }

    async fn report(&mut self) -> Result<Report> {
        let line = self.output.next_line().await.context("reading from the load generator")?;
        let line = line.context("the load generator ended before it reported")?;
        serde_json::from_str(&line).with_context(|| format!("the load generator said {line:?}"))
    }
}
