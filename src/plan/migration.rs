//! The migration gate: one Job, one success, recorded before any pod of the revision exists.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::report::Gate;
use super::world::{JobFailure, JobObs, JobState, RevisionObs};
use super::{Draft, Facts, Write, budget, clock, decide, follow_up, strategy};
use crate::api::{Candidate, MigrationState, MigrationStatus, Outcome, Stage};

/// Seconds before the first self-made retry of a migration without a stable revision; doubled each time.
const FIRST_RETRY: i64 = 10;
/// Longest wait between such retries, in seconds.
const LONGEST_RETRY: i64 = 300;

/// The reason of a verdict when the migration failed.
pub(super) const FAILED: &str = "MigrationFailed";

/// The reason of a migration that never started, and is not wanted any more.
const SUPERSEDED: &str = "Superseded";

/// Why the migration does not begin.
pub(super) const PAUSED: &str = "the migration waits until a person says resume";

/// What stands before the line of a log in a message, to its end.
pub const LOG_QUOTE: &str = "; its log says: ";

/// Brings the candidate's migration about.
pub(super) fn gate(d: &mut Draft, candidate: &Candidate, revision: &RevisionObs) -> Gate {
    if revision.migrated {
        d.status.migration = None;
        return match leftover(d) {
            Some(job) => {
                delete(d, &job);
                Gate::Passed
            }
            None => Gate::Passed,
        };
    }
    if !revision.needs_migration {
        return Gate::NotRequired;
    }
    if let Some(twin) = same_key(d, revision) {
        record(d, candidate, revision, Stage::Migrate);
        return Gate::Waiting(format!("the migration of revision {twin} covers this one"));
    }
    let stage = stage(candidate, revision);
    match d.world.jobs.iter().find(|job| job.stage == stage && is_of(candidate, job)).cloned() {
        Some(job) => running(d, candidate, revision, &job),
        None => absent(d, candidate, stage),
    }
}

/// The first stage that is not recorded. What comes before a migration comes anew with each attempt.
fn stage(candidate: &Candidate, revision: &RevisionObs) -> Stage {
    let (attempt, count) = revision.before_done;
    let done = if attempt == candidate.attempt { count } else { 0 };
    if done < revision.before.len() { Stage::Before(done) } else { Stage::Migrate }
}

/// One of the Jobs that gate this candidate.
fn is_of(candidate: &Candidate, job: &JobObs) -> bool {
    job.stage.gates() && job.attempt == candidate.attempt && job.revision == candidate.revision
}

/// Whether the candidate's Job still has to end before anything may take the candidate's place.
pub(super) fn in_flight(d: &Draft, candidate: &Candidate) -> bool {
    let ending = d.status.migration.as_ref().is_some_and(|m| m.state == MigrationState::Ending);
    let own = |job: &&JobObs| is_of(candidate, job);
    let recorded = d.world.revisions.get(&candidate.revision).is_some_and(|revision| revision.migrated);
    let job = d.world.jobs.iter().find(own);
    ending || job.is_some_and(|job| !(recorded && job.terminating))
}

/// After an attempt ended: records a success that came in time, then removes the Job. Returns what is waited for.
pub(super) fn clear(d: &mut Draft, candidate: Option<&Candidate>) -> Option<String> {
    if let Some(job) = leftover(d) {
        if !job.terminating {
            let unrecorded =
                d.world.revisions.get(&job.revision).filter(|revision| !revision.migrated).cloned();
            match (&job.state, unrecorded, candidate) {
                (JobState::Succeeded, Some(revision), Some(candidate))
                    if candidate.revision == job.revision && job.stage == Stage::Migrate =>
                {
                    record(d, candidate, &revision, Stage::Migrate);
                }
                _ => delete(d, &job),
            }
        }
        return Some(format!("waits until the migration Job {} is gone", job.name));
    }
    let waiting = others(d);
    // An abort may come between a failure and its record: nothing but this ends what it left `Ending`.
    if candidate.is_some()
        && waiting.is_none()
        && let Some(migration) = d.status.migration.as_mut()
        && migration.state == MigrationState::Ending
    {
        migration.state = MigrationState::Failed;
    }
    waiting
}

fn running(d: &mut Draft, candidate: &Candidate, revision: &RevisionObs, job: &JobObs) -> Gate {
    if job.terminating {
        return Gate::Waiting(format!("waits until the migration Job {} is gone", job.name));
    }
    if let JobState::Succeeded = job.state {
        record(d, candidate, revision, job.stage);
        return Gate::Waiting(match job.stage {
            Stage::Before(index) => {
                format!("{} succeeded and is being recorded", before(revision, index))
            }
            _ => "the migration succeeded and is being recorded".to_owned(),
        });
    }
    if d.status.migration.as_ref().is_some_and(|m| m.state == MigrationState::Ending) {
        delete(d, job);
        return Gate::Waiting(format!("waits until the migration Job {} is gone", job.name));
    }
    match &job.state {
        JobState::Failed(failure) => ending(d, candidate, job, failure),
        // What kept it from starting may be what the newer spec corrects.
        _ if !job.started && job.waiting.is_some() && candidate.revision != d.goal.desired => {
            let failure = JobFailure { reason: SUPERSEDED.to_owned(), ..JobFailure::default() };
            ending(d, candidate, job, &failure)
        }
        _ if !job.started && clock::passed(d, job.created, d.goal.progress_deadline) => {
            let failure = JobFailure { reason: "PodNotStarted".to_owned(), ..JobFailure::default() };
            ending(d, candidate, job, &failure)
        }
        _ => {
            let why = job.waiting.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            Gate::Waiting(match job.stage {
                Stage::Before(index) => {
                    format!("{}, Job {}, runs{why}", before(revision, index), job.name)
                }
                _ => format!("the migration Job {} runs{why}", job.name),
            })
        }
    }
}

/// A Job before the migration, in words.
fn before(revision: &RevisionObs, index: usize) -> String {
    let name = revision.before.get(index).map_or("", String::as_str);
    format!("before the migration: {name} ({} of {})", index + 1, revision.before.len())
}

/// Keeps what is known of a failure before its Job goes.
fn ending(d: &mut Draft, candidate: &Candidate, job: &JobObs, failure: &JobFailure) -> Gate {
    let retries =
        d.status.migration.as_ref().filter(|m| m.attempt == candidate.attempt).map_or(0, |m| m.retries);
    let message = sentence(job, failure);
    d.status.migration = Some(MigrationStatus {
        attempt: candidate.attempt,
        state: MigrationState::Ending,
        reason: failure.reason.clone(),
        message: message.clone(),
        exit_code: failure.exit_code,
        log_tail: failure.log_tail.clone(),
        retries,
        retry_at: None,
    });
    delete(d, job);
    Gate::Waiting(message)
}

/// Why a Job failed, with the telling line of its log.
pub(super) fn sentence(job: &JobObs, failure: &JobFailure) -> String {
    let name = &job.name;
    let what = match job.stage {
        Stage::Before(_) => format!("the Job before the migration, {name},"),
        Stage::Migrate => format!("the migration Job {name}"),
        Stage::Contract => format!("the contract Job {name}"),
        Stage::Rollback => format!("the Job that rolls migrations back, {name},"),
    };
    let code = failure.exit_code.map_or_else(String::new, |code| format!(" with exit code {code}"));
    let why = job.waiting.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    // Elixir prints the exception first and the stack trace below it.
    let lines = failure.log_tail.lines().rev().map(str::trim);
    let raised = lines.clone().find(|line| line.starts_with("** ("));
    let telling = raised.or_else(|| lines.clone().find(|line| !line.is_empty()));
    let telling = telling.map_or_else(String::new, |line| format!("{LOG_QUOTE}{line}"));
    format!("{what} failed ({}){code}{why}{telling}", failure.reason)
}

fn absent(d: &mut Draft, candidate: &Candidate, stage: Stage) -> Gate {
    let known = d.status.migration.clone().filter(|m| m.attempt == candidate.attempt);
    if let Some(waiting) = clear(d, None) {
        return Gate::Waiting(waiting);
    }
    match known {
        Some(migration) if migration.state == MigrationState::Ending => return failed(d, migration),
        Some(migration) if migration.state == MigrationState::WaitingToRetry => {
            let due = migration.retry_at.as_ref().map_or(d.now, |at| at.0);
            if d.now < due {
                d.wake_at(due);
                return Gate::Failing { reason: migration.reason, message: migration.message };
            }
        }
        _ => {}
    }
    if d.goal.replicas == 0 {
        return Gate::Waiting("the migration waits until replicas is above 0".to_owned());
    }
    if d.status.paused {
        return Gate::Waiting(PAUSED.to_owned());
    }
    if d.goal.stop_before_migration
        && let Some(waiting) = strategy::waits_for(candidate.strategy, d.world, &candidate.revision)
    {
        return Gate::Waiting(waiting);
    }
    if let Some(waiting) = budget::no_job(d) {
        return Gate::Waiting(waiting);
    }
    d.write(Write::CreateJob { revision: candidate.revision.clone(), stage, attempt: candidate.attempt });
    Gate::Waiting(match stage {
        Stage::Before(_) => "a Job before the migration starts".to_owned(),
        _ => "the migration Job starts".to_owned(),
    })
}

/// The Job and its pod are gone. With a stable revision the attempt fails; without one it is tried again, since
/// a database that starts beside the app is normal.
fn failed(d: &mut Draft, mut migration: MigrationStatus) -> Gate {
    let (reason, message) = (migration.reason.clone(), migration.message.clone());
    if reason == SUPERSEDED {
        // The newer spec comes next.
        d.status.migration = None;
        return Gate::Waiting(message);
    }
    if d.status.stable.is_some() {
        migration.state = MigrationState::Failed;
        d.status.migration = Some(migration);
        decide::end(d, Outcome::Failed, FAILED, &message);
        return Gate::Failed { reason, message };
    }
    let due = retry_at(d, migration.retries);
    migration.state = MigrationState::WaitingToRetry;
    migration.retries += 1;
    migration.retry_at = Some(Time(due));
    d.status.migration = Some(migration);
    d.wake_at(due);
    Gate::Failing { reason, message }
}

/// When something is tried again that has been so often already.
pub(super) fn retry_at(d: &Draft, retries: i32) -> Timestamp {
    let factor = 1_i64 << retries.clamp(0, 10);
    clock::after(d.now, (FIRST_RETRY * factor).min(LONGEST_RETRY))
}

fn record(d: &mut Draft, candidate: &Candidate, revision: &RevisionObs, stage: Stage) {
    let facts = match stage {
        Stage::Before(index) => Facts { before: Some((candidate.attempt, index + 1)), ..Facts::default() },
        _ => Facts { migrated: Some(true), ..Facts::default() },
    };
    d.write(Write::Annotate {
        revision: candidate.revision.clone(),
        facts,
        version: revision.version.clone(),
    });
}

/// A Job has to run for this revision before its pods.
pub(super) fn is_due(d: &Draft, revision: &RevisionObs) -> bool {
    revision.lacks_migration() && same_key(d, revision).is_none()
}

/// Another revision with the same migration key whose migration is recorded.
fn same_key(d: &Draft, revision: &RevisionObs) -> Option<String> {
    let key = revision.migration_key.as_ref()?;
    let twin = |other: &&RevisionObs| other.migrated && other.migration_key.as_ref() == Some(key);
    d.world.revisions.iter().find(|(_, other)| twin(other)).map(|(name, _)| name.clone())
}

/// A Job that nothing waits for any more.
fn leftover(d: &Draft) -> Option<JobObs> {
    d.world.jobs.iter().find(|job| !follow_up::owns(&d.status, job)).cloned()
}

pub(super) fn delete(d: &mut Draft, job: &JobObs) {
    if !job.terminating {
        let (name, uid, version) = (job.name.clone(), job.uid.clone(), job.version.clone());
        d.write(Write::DeleteJob { name, uid, version });
    }
}

/// Pods of migrations that have not ended, whatever made them.
pub(super) fn others(d: &Draft) -> Option<String> {
    let pod = d.world.migration_pods.first()?;
    let node = pod.node.as_ref().map_or_else(String::new, |node| format!(" on node {node}"));
    Some(format!("waits until the migration pod {}{node} has ended", pod.name))
}
