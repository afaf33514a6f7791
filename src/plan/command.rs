//! Commands: `phoenix-operator.dev/command: "<verb> <revision>/<attempt>[/<n>]"`.
//!
//! The target is the candidate with its attempt; without one, the stable revision with the app's attempt. A command that
//! names another is stale. The effect lives in the status, so removing or re-applying the annotation changes nothing.
//!
//! A text is answered once, whatever the answer. A tool that applies a manifest again and again must not bring about
//! later what was refused once, nor do twice what was accepted, also where other commands came in between: so the texts
//! that the present attempt has seen are kept with the answer. Who means to ask again adds a word, `again-2`.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::world::Rev;
use super::{Draft, analysis, budget, decide, follow_up, proof, rollout, strategy};
use crate::api::{AGAIN, CommandAnswer, FollowUpKind, LastCommand, Outcome, Verdict};

/// Texts that are kept, so that they do not act again. An attempt sees a few: most commands end it, or bear a number.
const KEPT: usize = 16;
/// Longest text that is kept, in bytes. None that can be carried out is longer: a verb of 12, a revision of 10, an
/// attempt of 20, another revision, `force`, `with-migrations`, `again-` with 10 digits, and what stands between.
const LONGEST: usize = 128;

/// Answers the command in the annotation, once.
pub(super) fn take(d: &mut Draft) {
    let Some(text) = d.goal.command.clone() else { return };
    if !d.status.is_unanswered(&text) {
        return;
    }
    let last = d.status.last_command.clone();
    let before = last.as_ref().map_or(0, |last| last.n);
    let earlier = last.as_ref().map_or_else(Vec::new, |last| earlier(d, last));
    let Answer(answer, message) = match parse(&text) {
        Ok(_) if last.as_ref().is_some_and(|last| last.answered(&text)) => ignored(format!(
            "it was answered before; to ask again, add the word {AGAIN}2, or one with a higher number"
        )),
        Ok(command) => command.carry_out(d, before + 1),
        Err(message) => Answer(CommandAnswer::Refused, message),
    };
    let n = before + i64::from(answer == CommandAnswer::Accepted);
    d.status.last_command = Some(LastCommand { text, answer, message, n, earlier });
}

/// What was answered before the next command, the latest first, without what can never act again: what names an earlier
/// attempt, and numbered commands that were accepted, since numbers only rise. A step may be asked to go on twice.
fn earlier(d: &Draft, last: &LastCommand) -> Vec<String> {
    let present = target(d).map_or(0, |(_, attempt)| attempt);
    let may_act =
        |text: &String| text.len() <= LONGEST && parse(text).is_ok_and(|command| command.attempt >= present);
    let numbered = |command: Command<'_>| {
        command.number.is_some() && matches!(command.verb, Verb::Pause | Verb::Resume | Verb::Restart)
    };
    let spent = last.answer == CommandAnswer::Accepted && parse(&last.text).is_ok_and(numbered);
    let newest = Some(LastCommand::words(&last.text)).filter(|text| !spent && !last.earlier.contains(text));
    newest.into_iter().chain(last.earlier.iter().cloned()).filter(may_act).take(KEPT).collect()
}

/// What a command must name: the candidate with its attempt, else the stable revision with the app's.
fn target(d: &Draft) -> Option<(Rev, i64)> {
    match (&d.status.candidate, &d.status.stable) {
        (Some(candidate), _) => Some((candidate.revision.clone(), candidate.attempt)),
        (None, Some(stable)) => Some((stable.clone(), d.status.attempt)),
        (None, None) => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Promote,
    PromoteFull,
    Abort,
    Retry,
    Rollback,
    Pause,
    Resume,
    Restart,
}

const VERBS: [(&str, Verb); 8] = [
    ("promote", Verb::Promote),
    ("promote-full", Verb::PromoteFull),
    ("abort", Verb::Abort),
    ("retry", Verb::Retry),
    ("rollback", Verb::Rollback),
    ("pause", Verb::Pause),
    ("resume", Verb::Resume),
    ("restart", Verb::Restart),
];

#[derive(Debug, PartialEq, Eq)]
struct Command<'a> {
    verb: Verb,
    revision: &'a str,
    attempt: i64,
    /// Of `promote`: the step. Of `pause`, `resume` and `restart`: the number of the command.
    number: Option<i64>,
    /// Of `rollback`: the revision to return to.
    to: Option<&'a str>,
    /// Of `rollback`: also to a revision that a contract has taken something from.
    force: bool,
    /// Of `rollback`: the migrations of the revision that is left are rolled back, too.
    with_migrations: bool,
}

/// Word of `rollback`: to a revision that a contract has taken something from, too.
pub(super) const FORCE: &str = "force";
/// Word of `rollback`: the migrations of the revision that is left are rolled back, too.
const WITH_MIGRATIONS: &str = "with-migrations";

/// What becomes of a command, and why.
struct Answer(CommandAnswer, String);

fn accepted(message: impl fmt::Display) -> Answer {
    Answer(CommandAnswer::Accepted, message.to_string())
}

fn ignored(message: impl fmt::Display) -> Answer {
    Answer(CommandAnswer::Ignored, message.to_string())
}

fn refused(message: impl fmt::Display) -> Answer {
    Answer(CommandAnswer::Refused, message.to_string())
}

const BUSY: &str = "a Job that follows the last rollout runs; wait for its end, or `abort` it";

const FORM: &str = "write `<verb> <revision>/<attempt>`, with a verb of promote, promote-full, abort, retry and \
                    rollback, or `<verb> <revision>/<attempt>/<n>`, with a verb of pause, resume and restart and n one \
                    more than status.lastCommand.n; revision and attempt as in status.candidate, or, without one, \
                    status.stable and status.attempt. `rollback` may go on with a revision, and with the \
                    words force and with-migrations. A last word again-2, again-3 and so on asks again for what was \
                    answered before";

fn parse(text: &str) -> Result<Command<'_>, String> {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    if words.last().is_some_and(|last| last.strip_prefix(AGAIN).is_some_and(|n| n.parse::<u32>().is_ok())) {
        words.pop();
    }
    let mut words = words.into_iter();
    let word = words.next().unwrap_or_default();
    let Some((_, verb)) = VERBS.iter().find(|(known, _)| *known == word) else {
        return Err(format!("{word:?} is not a command: {FORM}"));
    };
    let target = words.next().ok_or_else(|| format!("the command names no target: {FORM}"))?;
    let (mut to, mut force, mut with_migrations) = (None, false, false);
    for word in words {
        match word {
            _ if *verb != Verb::Rollback => return Err(format!("the command has too many words: {FORM}")),
            FORCE if !force => force = true,
            WITH_MIGRATIONS if !with_migrations => with_migrations = true,
            _ if to.is_none() && !force && !with_migrations => to = Some(word),
            _ => return Err(format!("the command has too many words: {FORM}")),
        }
    }
    let mut parts = target.split('/');
    let revision = parts.next().filter(|revision| !revision.is_empty());
    let attempt = parts.next().and_then(|attempt| attempt.parse().ok());
    let (given, number) = match parts.next() {
        None => (false, None),
        Some(number) => (true, number.parse().ok()),
    };
    let numbered = matches!(verb, Verb::Pause | Verb::Resume | Verb::Restart);
    let well_formed = match verb {
        _ if numbered => number.is_some(),
        Verb::Promote => !given || number.is_some(),
        _ => !given,
    };
    match (revision, attempt) {
        (Some(revision), Some(attempt)) if well_formed && parts.next().is_none() => {
            Ok(Command { verb: *verb, revision, attempt, number, to, force, with_migrations })
        }
        _ => Err(format!("{target:?} is not a target: {FORM}")),
    }
}

impl Command<'_> {
    /// `next` is the number that a numbered command must bear.
    fn carry_out(&self, d: &mut Draft, next: i64) -> Answer {
        let Some(current) = target(d) else { return ignored("nothing has been rolled out yet") };
        if (self.revision, self.attempt) != (current.0.as_str(), current.1) {
            return ignored(format!("stale: the present target is {}/{}", current.0, current.1));
        }
        match self.verb {
            Verb::Promote => self.promote(d),
            Verb::PromoteFull => promote_full(d),
            Verb::Abort => abort(d),
            Verb::Retry => retry(d),
            Verb::Rollback => self.rollback(d),
            Verb::Pause | Verb::Resume | Verb::Restart if self.number != Some(next) => {
                ignored(format!("stale: the next number is {next}, as in {}/{}/{next}", current.0, current.1))
            }
            Verb::Pause => pause(d),
            Verb::Resume => resume(d),
            Verb::Restart => restart(d, &current.0),
        }
    }

    fn promote(&self, d: &mut Draft) -> Answer {
        let Some(candidate) = d.status.under_way() else { return refused("no rollout is under way") };
        let step = candidate.step;
        if self.number.is_some_and(|number| number != i64::from(step)) {
            return ignored(format!("stale: the present step is {step}"));
        }
        let at = strategy::step(candidate).filter(|_| candidate.step_since.is_some());
        let (pause, proves) = (
            at.is_some_and(|step| step.pause.is_some()),
            at.is_some_and(|step| step.analysis.is_some() || step.smoke_test.is_some()),
        );
        if proof::is_inconclusive(d) {
            analysis::acknowledge(&mut d.status.analysis);
            return accepted("the checks count anew");
        }
        if !pause && !proves {
            return refused(
                "the rollout does not wait at a pause; `promote-full` skips all steps that are left",
            );
        }
        rollout::next_step(d);
        accepted(format!("step {} is left behind", step + 1))
    }

    fn rollback(&self, d: &mut Draft) -> Answer {
        match &d.status.candidate {
            Some(candidate) if !candidate.verdict.as_ref().is_some_and(is_over) => {
                return refused("a rollout is under way; `abort` ends it");
            }
            _ if follow_up::in_flight(d) => return refused(BUSY),
            _ => {}
        }
        let Some(stable) = d.stable() else { return refused("nothing is stable yet") };
        let Some(to) = self.to.map(Rev::from).or_else(|| d.status.previous.clone()) else {
            return refused(
                "there is no earlier revision; name one: `rollback <revision>/<attempt> <revision>`",
            );
        };
        if to == stable {
            return refused(format!("revision {to} is stable already"));
        }
        let known = d.world.revisions.get(&to).filter(|revision| !revision.terminating);
        let Some(revision) = known else {
            return refused(format!(
                "revision {to} is not stored; spec.revisionHistoryLimit says how many are kept"
            ));
        };
        if revision.lacks_migration() {
            return refused(format!("revision {to} has never migrated the database, so it never ran"));
        }
        if let Some(newer) = follow_up::locked_by(d, &to).filter(|_| !self.force) {
            return refused(format!(
                "revision {to} may need what the contract of revision {newer} has removed from the database; add the \
                 word `{FORCE}` if you know that it does not"
            ));
        }
        if let Some(why) = self.no_way_back(d, &stable, &to) {
            return refused(why);
        }
        let asked = d.goal.command.clone().unwrap_or_default();
        let message = format!("a person returned from revision {stable} to {to}");
        decide::revert(d, &to, &asked, Outcome::RolledBack, "RolledBackByCommand", &message);
        let back = format!("revision {to} is stable again; requests move once its pods can take them");
        if !self.with_migrations {
            return accepted(back);
        }
        let attempt = d.status.attempt;
        d.status.follow_up = Some(follow_up::begin(FollowUpKind::Rollback, &stable, attempt));
        accepted(format!(
            "{back}; the migrations of revision {stable} are rolled back once its pods are gone"
        ))
    }

    /// Why migrations cannot be rolled back although it is asked for.
    fn no_way_back(&self, d: &Draft, from: &Rev, to: &Rev) -> Option<String> {
        if !self.with_migrations {
            return None;
        }
        let (from_stored, to_stored) = (d.world.revisions.get(from), d.world.revisions.get(to)?);
        if !from_stored.is_some_and(|revision| revision.has_rollback) {
            return Some(format!(
                "revision {from} was made without migrations.rollback, so nothing is known to roll its migrations \
                 back; leave out `{WITH_MIGRATIONS}`"
            ));
        }
        let from_stored = from_stored?;
        if from_stored.migration_key == to_stored.migration_key {
            return Some(format!(
                "revisions {from} and {to} share one migration; leave out `{WITH_MIGRATIONS}`"
            ));
        }
        // One that failed after its migration: what it did lies on top, and would be left there.
        let on_top = d.world.revisions.iter().find(|(_, other)| {
            let theirs = [&from_stored.migration_key, &to_stored.migration_key];
            other.migrated && other.attempt > from_stored.attempt && !theirs.contains(&&other.migration_key)
        });
        on_top.map(|(newer, _)| {
            format!(
                "the database holds the migrations of revision {newer}, too, which came after those of {from}: roll them \
                 back by hand first, or leave out `{WITH_MIGRATIONS}`"
            )
        })
    }
}

fn promote_full(d: &mut Draft) -> Answer {
    let Some(candidate) = d.status.under_way() else { return refused("no rollout is under way") };
    if strategy::step(candidate).is_none() {
        return refused("no steps are left");
    }
    rollout::skip_steps(d);
    analysis::acknowledge(&mut d.status.analysis);
    d.status.paused = false;
    accepted("all steps that were left are skipped")
}

/// Wins over everything, and ends a bake too.
fn abort(d: &mut Draft) -> Answer {
    const REASON: &str = "AbortedByCommand";
    let held =
        |candidate: &crate::api::Candidate| candidate.verdict.as_ref().is_some_and(|verdict| verdict.held);
    match d.status.candidate.as_mut() {
        Some(candidate) if candidate.verdict.is_none() => {
            d.status.paused = false;
            decide::end(d, Outcome::Aborted, REASON, "a person ended the rollout");
            accepted("the rollout ends; traffic returns to the stable revision")
        }
        Some(candidate) if held(candidate) => {
            if let Some(verdict) = candidate.verdict.as_mut() {
                verdict.held = false;
                verdict.outcome = Outcome::Aborted;
                REASON.clone_into(&mut verdict.reason);
            }
            accepted("traffic returns to the stable revision")
        }
        Some(_) => give_up(d, "the rollout has ended already"),
        None => match (d.status.bake.is_some(), d.status.previous.clone()) {
            (true, Some(previous)) if d.world.revisions.contains_key(&previous) => {
                let message = "a person ended the rollout during its bake";
                let asked = d.goal.command.clone().unwrap_or_default();
                decide::revert(d, &previous, &asked, Outcome::Aborted, REASON, message);
                accepted(format!("traffic returns to revision {previous}"))
            }
            _ => give_up(d, "no rollout is under way; `rollback` returns to an earlier revision"),
        },
    }
}

/// What follows the last rollout ends; if there is nothing, `else_` says why.
fn give_up(d: &mut Draft, else_: &str) -> Answer {
    follow_up::abort(d).map_or_else(|| ignored(else_), accepted)
}

/// Nothing of the attempt is left, or there never was anything.
fn is_over(verdict: &Verdict) -> bool {
    verdict.returned || follow_up::is_forbidden(verdict)
}

fn retry(d: &mut Draft) -> Answer {
    match d.status.candidate.clone() {
        Some(_) if follow_up::in_flight(d) => refused(BUSY),
        Some(candidate) if candidate.verdict.is_some() && follow_up::retry_way_back(d) => {
            accepted("the migrations are rolled back again")
        }
        Some(candidate) if candidate.verdict.is_some() => {
            d.status.paused = false;
            let asked = d.goal.command.clone().unwrap_or_default();
            decide::start(d, &candidate.revision, &asked);
            accepted(format!("attempt {} begins", d.status.attempt))
        }
        Some(_) => refused("the rollout is still under way; abort it first"),
        None if follow_up::retry(d) => accepted("what followed the last rollout is begun again"),
        None => refused("no rollout has failed"),
    }
}

fn pause(d: &mut Draft) -> Answer {
    if d.status.paused {
        return ignored("it is paused already");
    }
    d.status.paused = true;
    accepted("nothing goes on until `resume`")
}

fn resume(d: &mut Draft) -> Answer {
    if !d.status.paused {
        return ignored("it is not paused");
    }
    d.status.paused = false;
    accepted("it goes on")
}

fn restart(d: &mut Draft, revision: &str) -> Answer {
    let now = d.now;
    if d.world.asked(revision) == 0 && !d.world.has_workers(revision) {
        return refused(format!("revision {revision} has no pods"));
    }
    if let Some(why) = budget::no_restart(d) {
        return refused(why);
    }
    // Of revisions that are gone nothing needs to be known.
    let world = d.world;
    d.status.restarts.retain(|name, _| world.revisions.contains_key(name));
    d.status.restarts.insert(revision.to_owned(), Time(now));
    accepted(format!("the pods of revision {revision} are replaced, one after the other"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_the_documentation_shows() {
        let command = |verb, number, to| Command {
            verb,
            revision: "7f3a9c1d2e",
            attempt: 4,
            number,
            to,
            force: false,
            with_migrations: false,
        };
        let back = |to, force, with_migrations| Command {
            force,
            with_migrations,
            ..command(Verb::Rollback, None, to)
        };
        for (text, parsed) in [
            ("abort 7f3a9c1d2e/4", command(Verb::Abort, None, None)),
            ("promote 7f3a9c1d2e/4", command(Verb::Promote, None, None)),
            ("promote 7f3a9c1d2e/4/2", command(Verb::Promote, Some(2), None)),
            ("promote-full 7f3a9c1d2e/4", command(Verb::PromoteFull, None, None)),
            ("rollback 7f3a9c1d2e/4", command(Verb::Rollback, None, None)),
            ("rollback 7f3a9c1d2e/4 0123456789", command(Verb::Rollback, None, Some("0123456789"))),
            ("rollback 7f3a9c1d2e/4 force", back(None, true, false)),
            ("rollback 7f3a9c1d2e/4 with-migrations force", back(None, true, true)),
            ("rollback 7f3a9c1d2e/4 0123456789 with-migrations", back(Some("0123456789"), false, true)),
            ("restart 7f3a9c1d2e/4/7", command(Verb::Restart, Some(7), None)),
            ("abort 7f3a9c1d2e/4 again-2", command(Verb::Abort, None, None)),
            ("rollback 7f3a9c1d2e/4 0123456789 force again-13", back(Some("0123456789"), true, false)),
        ] {
            assert_eq!(parse(text), Ok(parsed), "{text}");
        }
    }

    #[test]
    fn refuses_nonsense_with_the_form_to_use() {
        for text in [
            "",
            "destroy x/1",
            "abort",
            "abort x",
            "abort x/y",
            "abort x/1/2",
            "retry x/1 more",
            "abort /1",
            "promote x/1/z",
            "pause x/1",
            "restart x/1/",
            "rollback x/1 y z",
            "rollback x/1 force force",
            "rollback x/1 force y",
            "retry x/1 force",
            "rollback x/1/2",
            "resume x/1/2/3",
            "retry x/1 again-2 again-3",
            "retry x/1 again-",
            "again-2",
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains("<verb> <revision>/<attempt>"), "{text:?}: {message}");
        }
    }
}
