//! The commands of the program.

pub mod admission;
pub mod crd;
pub mod render;
pub mod run;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

/// Runs Elixir/Phoenix releases on Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "phoenix-operator", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the CustomResourceDefinition as YAML.
    Crd,
    /// Print the objects that the operator makes for an app, without a cluster.
    Render(render::Render),
    /// Look after every `PhoenixApp`, in a cluster or from outside (KUBECONFIG).
    Run(Box<run::Run>),
}

impl Cli {
    /// Does what was asked and says how it went.
    pub fn run(self) -> ExitCode {
        let output = match self.command {
            Command::Crd => crd::yaml().map_err(anyhow::Error::from),
            Command::Render(render) => render.run(),
            Command::Run(run) => run.run().map(|()| String::new()),
        };
        match output {
            Ok(text) => print(&text),
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

/// Prints; a reader that went away early, as `head` does, is no error.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("error: cannot print: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
