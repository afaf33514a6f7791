//! Where a command's result goes: standard output, as text or for machines.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::{Context as _, Result};
use serde::Serialize;

/// How a result is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
    /// For both.
    Yaml,
}

impl Format {
    /// Writes a result: `text` for people, `value` for programs.
    ///
    /// # Errors
    /// When it cannot be serialised, or standard output cannot be written to.
    pub fn print(self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
        let output = match self {
            Self::Text => text(),
            Self::Json => serde_json::to_string_pretty(value).context("cannot write JSON")?,
            Self::Yaml => serde_saphyr::to_string(value).context("cannot write YAML")?,
        };
        line(output.trim_end_matches('\n'))
    }
}

/// Prints a text and ends its line. A reader that went away early, as `head` does, is no error.
///
/// # Errors
/// When standard output cannot be written to.
pub fn line(text: &str) -> Result<()> {
    raw(&format!("{text}\n"))
}

/// Prints a text as it is.
///
/// # Errors
/// When standard output cannot be written to.
pub fn raw(text: &str) -> Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot print"),
        _ => Ok(()),
    }
}

/// Whether standard output is a terminal.
pub fn on_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether colours are wanted: on a terminal, unless `NO_COLOR` is set (<https://no-color.org>) or `TERM` is `dumb`.
pub fn colours() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    on_terminal() && set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    /// To readers of YAML 1.1, as kubectl and Argo CD have them, a bare `n` is `false`: the count would be lost.
    #[test]
    fn keys_that_older_yaml_takes_for_booleans_are_quoted() {
        let keys = ["n", "N", "y", "no", "yes", "on", "off", "true"];
        for key in keys {
            let yaml = serde_saphyr::to_string(&json!({"lastCommand": {key: 1}})).unwrap();
            assert!(
                yaml.contains(&format!("\"{key}\": 1")) || yaml.contains(&format!("'{key}': 1")),
                "{yaml}"
            );
        }
    }
}
