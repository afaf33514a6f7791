//! Parse arguments, dispatch.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    phoenix_operator::cli::Cli::parse().run()
}
