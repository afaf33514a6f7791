//! `kubectl phx completion`: for shells.

use anyhow::Result;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, exit::Exit, output};

/// Print a shell's completion of `kubectl-phx`.
///
/// Bash: `source <(kubectl phx completion bash)`; zsh: `source <(kubectl phx completion zsh)`; fish:
/// `kubectl phx completion fish | source`.
#[derive(Debug, Args)]
pub struct Completion {
    /// The shell.
    #[arg(value_parser = ["bash", "zsh", "fish"])]
    shell: String,
}

impl Completion {
    /// Prints it.
    ///
    /// # Errors
    /// When standard output cannot be written to.
    pub fn run(self) -> Result<Exit> {
        output::raw(&script(&self.shell))?;
        Ok(Exit::Done)
    }
}

fn script(shell: &str) -> String {
    let shell = match shell {
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        _ => Shell::Bash,
    };
    let mut script = Vec::new();
    // The program's own name: what a shell completes is `kubectl-phx`.
    clap_complete::generate(shell, &mut Cli::command().bin_name("kubectl-phx"), "kubectl-phx", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::{Cli, script};

    #[test]
    fn every_command_is_completed() {
        Cli::command().debug_assert();
        for shell in ["bash", "zsh", "fish"] {
            let script = script(shell);
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }
}
