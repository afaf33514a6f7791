//! `kubectl phx`: the plugin. One file per command or small family; what needs no cluster is pure, and tested as such.

mod advice;
mod ask;
mod completion;
mod doctor;
mod exit;
mod explain;
mod gather;
mod history;
mod ignorance;
mod inside;
mod mesh;
mod one_off;
mod output;
mod picture;
mod place;
mod plan;
mod preview;
mod redact;
mod render;
mod report;
mod status;
mod tree;
mod view;
mod wait;
mod zip;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use ask::Wish;
use exit::Exit;
use output::Format;
use place::Place;

/// See and steer Phoenix apps that phoenix-operator runs.
#[derive(Debug, Parser)]
#[command(name = "kubectl-phx", bin_name = "kubectl phx", version, after_help = exit::HELP)]
struct Cli {
    #[command(flatten)]
    place: Place,
    /// How the result is written.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Status(status::Status),
    Explain(explain::Explain),
    History(history::History),
    Wait(wait::Wait),
    Promote(ask::Promote),
    /// End the rollout: everything returns to the stable revision.
    Abort(ask::Ask),
    /// Try again what failed or was aborted.
    Retry(ask::Ask),
    /// Hold the rollout where it is.
    Pause(ask::Ask),
    /// Let a held rollout go on.
    Resume(ask::Ask),
    Rollback(ask::Rollback),
    /// Replace every pod, one after the other.
    Restart(ask::Ask),
    Plan(plan::Plan),
    Logs(inside::Logs),
    Cluster(mesh::Mesh),
    Remote(inside::Remote),
    Rpc(inside::Rpc),
    Run(one_off::Run),
    Doctor(doctor::Doctor),
    Report(report::Report),
    Completion(completion::Completion),
}

/// The program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // clap would end a wrong argument with 2, which here means that something was tried and failed
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Error.into() } else { Exit::Done.into() };
        }
    };
    match cli.run() {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            Exit::Error.into()
        }
    }
}

impl Cli {
    fn run(self) -> Result<Exit> {
        // A second provider linked in by a dependency would make the first TLS connection panic.
        rustls::crypto::ring::default_provider()
            .install_default()
            .map_err(|_| anyhow::anyhow!("a TLS provider was installed before"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("starting the runtime")?;
        let result = runtime.block_on(self.dispatch());
        runtime.shutdown_background();
        result
    }

    async fn dispatch(self) -> Result<Exit> {
        let Self { place, output, command } = self;
        let command = match command {
            Command::Completion(completion) => return completion.run(),
            Command::Plan(plan) => return plan.run(&place, output).await,
            command => command,
        };
        let cluster = place.open().await?;
        match command {
            Command::Completion(completion) => completion.run(),
            Command::Plan(plan) => plan.run(&place, output).await,
            Command::Status(status) => status.run(&cluster, output).await,
            Command::Explain(explain) => explain.run(&cluster, output).await,
            Command::History(history) => history.run(&cluster, output).await,
            Command::Wait(wait) => wait.run(&cluster, output).await,
            Command::Promote(promote) => promote.run(&cluster, output).await,
            Command::Abort(ask) => ask.run(Wish::Abort, &cluster, output).await,
            Command::Retry(ask) => ask.run(Wish::Retry, &cluster, output).await,
            Command::Pause(ask) => ask.run(Wish::Pause, &cluster, output).await,
            Command::Resume(ask) => ask.run(Wish::Resume, &cluster, output).await,
            Command::Rollback(rollback) => rollback.run(&cluster, output).await,
            Command::Restart(ask) => ask.run(Wish::Restart, &cluster, output).await,
            Command::Logs(logs) => logs.run(&cluster).await,
            Command::Cluster(mesh) => mesh.run(&cluster, output).await,
            Command::Remote(remote) => remote.run(&cluster).await,
            Command::Rpc(rpc) => rpc.run(&cluster).await,
            Command::Run(run) => Box::pin(run.run(&cluster)).await,
            Command::Doctor(doctor) => doctor.run(&cluster, output).await,
            Command::Report(report) => report.run(&cluster, output).await,
        }
    }
}
