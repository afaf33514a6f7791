//! Parse arguments, dispatch.

use std::process::ExitCode;

use clap::Parser;

#[cfg(not(feature = "system-allocator"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    phoenix_operator::cli::Cli::parse().run()
}
