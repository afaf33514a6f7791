//! The load generator as a program, so that it can run inside a network namespace.
//!
//! Each line on standard input is a number of requests: once so many have been counted, a report is
//! printed as one line of JSON (0: at once). When standard input is closed it stops, after `--at-least`
//! requests, and prints the last report.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use e2e::load::{Load, Options, Report};
use tokio::sync::mpsc;

/// Load on an HTTP server, half on kept connections, half on one connection per request.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where the server is.
    target: SocketAddr,
    /// What the header `Host` says.
    #[arg(long, default_value = "localhost")]
    host: String,
    /// A path to ask for; several are taken in turn.
    #[arg(long = "path", default_value = "/version")]
    paths: Vec<String>,
    /// Connections.
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Streams of server-sent events.
    #[arg(long, default_value_t = 0)]
    streams: usize,
    /// Path of the streams.
    #[arg(long, default_value = "/stream")]
    stream_path: String,
    /// Most requests per second.
    #[arg(long, default_value_t = 400)]
    rate: u32,
    /// Requests that are made in any case.
    #[arg(long, default_value_t = 0)]
    at_least: u64,
    /// Requests after which it stops.
    #[arg(long, default_value_t = 1_000_000)]
    at_most: u64,
    /// Seconds after which it stops.
    #[arg(long, default_value_t = 7200)]
    seconds: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut load = Load::start(Options {
        target: arguments.target,
        host: arguments.host,
        paths: arguments.paths,
        connections: arguments.connections,
        streams: arguments.streams,
        stream_path: arguments.stream_path,
        rate: arguments.rate,
        at_least: arguments.at_least,
        at_most: arguments.at_most,
        no_longer_than: Duration::from_secs(arguments.seconds),
    });
    let mut lines = lines();
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            report = load.end() => return print(&report),
        };
        let Some(line) = line else { break };
        let requests = line.trim().parse().with_context(|| format!("{line:?} is no number of requests"))?;
        print(&load.reaches(requests).await)?;
    }
    print(&load.stop().await)
}

/// The lines of standard input. The thread that reads them ends with the program.
fn lines() -> mpsc::UnboundedReceiver<String> {
    let (send, receive) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let Ok(line) = line else { return };
            if send.send(line).is_err() {
                return;
            }
        }
    });
    receive
}

fn print(report: &Report) -> Result<()> {
    println!("{}", serde_json::to_string(report).context("writing a report")?);
    Ok(())
}
