//! Commands: `phoenix-operator.dev/command: "<verb> <revision>/<attempt>"`.
//!
//! The effect lives in the status, so removing or re-applying the annotation changes nothing.

use super::{Draft, decide};
use crate::api::{CommandAnswer, LastCommand, Outcome};

/// Answers the command in the annotation, once.
pub(super) fn take(d: &mut Draft) {
    let Some(text) = d.goal.command.clone() else { return };
    if d.status.last_command.as_ref().is_some_and(|last| last.text == text) {
        return;
    }
    let (answer, message) = match parse(&text) {
        Ok(command) => command.carry_out(d),
        Err(message) => (CommandAnswer::Refused, message),
    };
    let before = d.status.last_command.as_ref().map_or(0, |last| last.n);
    let n = before + i64::from(answer == CommandAnswer::Accepted);
    d.status.last_command = Some(LastCommand { text, answer, message, n });
}

#[derive(Debug, PartialEq, Eq)]
enum Verb {
    Abort,
    Retry,
}

#[derive(Debug, PartialEq, Eq)]
struct Command<'a> {
    verb: Verb,
    revision: &'a str,
    attempt: i64,
}

const FORM: &str = "write `abort <revision>/<attempt>` or `retry <revision>/<attempt>`, with the revision and \
                    attempt that status.candidate shows";

fn parse(text: &str) -> Result<Command<'_>, String> {
    let mut words = text.split_whitespace();
    let verb = match words.next() {
        Some("abort") => Verb::Abort,
        Some("retry") => Verb::Retry,
        other => return Err(format!("{:?} is not a command: {FORM}", other.unwrap_or_default())),
    };
    let target = words.next().ok_or_else(|| format!("the command names no target: {FORM}"))?;
    if words.next().is_some() {
        return Err(format!("the command has too many words: {FORM}"));
    }
    let mut parts = target.split('/');
    let revision = parts.next().filter(|revision| !revision.is_empty());
    let attempt = parts.next().and_then(|attempt| attempt.parse().ok());
    match (revision, attempt, parts.next()) {
        (Some(revision), Some(attempt), None) => Ok(Command { verb, revision, attempt }),
        _ => Err(format!("{target:?} is not a target: {FORM}")),
    }
}

impl Command<'_> {
    fn carry_out(&self, d: &mut Draft) -> (CommandAnswer, String) {
        let Some(candidate) = d.status.candidate.clone() else {
            return (CommandAnswer::Ignored, "no rollout is under way".to_owned());
        };
        if candidate.revision != self.revision || candidate.attempt != self.attempt {
            let current = format!("{}/{}", candidate.revision, candidate.attempt);
            return (CommandAnswer::Ignored, format!("stale: the current candidate is {current}"));
        }
        match (&self.verb, candidate.verdict) {
            (Verb::Abort, None) => {
                decide::end(d, Outcome::Aborted, "AbortedByCommand", "a person ended the rollout");
                (
                    CommandAnswer::Accepted,
                    "the rollout ends; traffic returns to the stable revision".to_owned(),
                )
            }
            (Verb::Abort, Some(_)) => (CommandAnswer::Ignored, "the rollout has ended already".to_owned()),
            (Verb::Retry, Some(_)) => {
                decide::start(d, &candidate.revision);
                (CommandAnswer::Accepted, format!("attempt {} begins", d.status.attempt))
            }
            (Verb::Retry, None) => {
                (CommandAnswer::Refused, "the rollout is still under way; abort it first".to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_the_documentation_shows() {
        let abort = Command { verb: Verb::Abort, revision: "7f3a9c1d2e", attempt: 4 };
        assert_eq!(parse("abort 7f3a9c1d2e/4"), Ok(abort));
    }

    #[test]
    fn refuses_nonsense_with_the_form_to_use() {
        for text in
            ["", "promote", "abort", "abort x", "abort x/y", "abort x/1/2", "retry x/1 more", "abort /1"]
        {
            let message = parse(text).unwrap_err();
            assert!(message.contains("abort <revision>/<attempt>"), "{text:?}: {message}");
        }
    }
}
