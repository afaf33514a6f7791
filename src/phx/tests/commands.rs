//! The command line.

use clap::{CommandFactory as _, Parser as _};

use crate::phx::{Cli, exit::Exit};

#[test]
fn what_the_documentation_shows_is_understood() {
    let documentation = include_str!("../../../docs/kubectl-phx.md");
    let mut shown = 0;
    for line in documentation.lines().filter_map(|line| line.strip_prefix("$ kubectl phx ")) {
        let line =
            line.split(" #").next().unwrap().split(" | ").next().unwrap().split(" && ").next().unwrap();
        let words = shell_words(line);
        if let Err(error) = Cli::try_parse_from(std::iter::once("kubectl-phx".to_owned()).chain(words)) {
            assert!(!error.use_stderr(), "{line}: {error}");
        }
        shown += 1;
    }
    assert!(shown > 15, "{shown} lines");
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        assert!(documentation.contains(&format!("$ kubectl phx {name}")), "{name} is not documented");
    }
}

/// Words, of which some are quoted.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (None, '"' | '\'') => quote = Some(letter),
            (None, ' ') => words.push(String::new()),
            _ => words.last_mut().unwrap().push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn exit_codes_are_those_of_the_help() {
    let exits = [Exit::Done, Exit::Error, Exit::Failed, Exit::Declined, Exit::TimedOut];
    assert_eq!(exits.map(Exit::code), [0, 1, 2, 3, 4]);
    for exit in exits {
        assert!(crate::phx::exit::HELP.contains(&format!("\n  {}  ", exit.code())));
    }
}

#[test]
fn nonsense_is_refused() {
    for line in [
        "",
        "promote --step 0",
        "promote --step 1 --full",
        "rollback a b c",
        "wait --for ever",
        "logs --stable --candidate",
        "run",
        "completion tcsh",
    ] {
        let words = std::iter::once("kubectl-phx".to_owned()).chain(shell_words(line));
        assert!(Cli::try_parse_from(words).is_err(), "{line}");
    }
}
