//! Parse arguments, dispatch.

use std::process::ExitCode;

fn main() -> ExitCode {
    phoenix_operator::phx::main()
}
