//! The migration gate: one Job, one success, recorded before any pod of the revision exists.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::report::Gate;
use super::world::{JobFailure, JobObs, JobState, RevisionObs};
use super::{Draft, Facts, Write, clock, decide, strategy};
use crate::api::{Candidate, MigrationState, MigrationStatus, Outcome};

/// Seconds before the first self-made retry of a migration without a stable revision; doubled each time.
const FIRST_RETRY: i64 = 10;
/// Longest wait between such retries, in seconds.
const LONGEST_RETRY: i64 = 300;

/// The reason of a verdict when the migration failed.
pub(super) const FAILED: &str = "MigrationFailed";

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
        record(d, candidate, revision);
        return Gate::Waiting(format!("the migration of revision {twin} covers this one"));
    }
    let job = d
        .world
        .jobs
        .iter()
        .find(|job| job.attempt == candidate.attempt && job.revision == candidate.revision);
    match job.cloned() {
        Some(job) => running(d, candidate, revision, &job),
        None => absent(d, candidate),
    }
}

/// Whether the candidate's Job still has to end before anything may take the candidate's place.
pub(super) fn in_flight(d: &Draft, candidate: &Candidate) -> bool {
    let ending = d.status.migration.as_ref().is_some_and(|m| m.state == MigrationState::Ending);
    let own = |job: &&JobObs| job.attempt == candidate.attempt && job.revision == candidate.revision;
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
                    if candidate.revision == job.revision =>
                {
                    record(d, candidate, &revision);
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
        record(d, candidate, revision);
        return Gate::Waiting("the migration succeeded and is being recorded".to_owned());
    }
    if d.status.migration.as_ref().is_some_and(|m| m.state == MigrationState::Ending) {
        delete(d, job);
        return Gate::Waiting(format!("waits until the migration Job {} is gone", job.name));
    }
    match &job.state {
        JobState::Failed(failure) => ending(d, candidate, job, failure),
        _ if !job.started && clock::passed(d, job.created, d.goal.progress_deadline) => {
            let failure = JobFailure { reason: "PodNotStarted".to_owned(), ..JobFailure::default() };
            ending(d, candidate, job, &failure)
        }
        _ => {
            let why = job.waiting.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            Gate::Waiting(format!("the migration Job {} runs{why}", job.name))
        }
    }
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

fn sentence(job: &JobObs, failure: &JobFailure) -> String {
    let code = failure.exit_code.map_or_else(String::new, |code| format!(" with exit code {code}"));
    let why = job.waiting.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    // Elixir prints the exception first and the stack trace below it.
    let lines = failure.log_tail.lines().rev().map(str::trim);
    let raised = lines.clone().find(|line| line.starts_with("** ("));
    let telling = raised.or_else(|| lines.clone().find(|line| !line.is_empty()));
    let telling = telling.map_or_else(String::new, |line| format!("{LOG_QUOTE}{line}"));
    format!("the migration Job {} failed ({}){code}{why}{telling}", job.name, failure.reason)
}

fn absent(d: &mut Draft, candidate: &Candidate) -> Gate {
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
    if d.goal.stop_before_migration
        && let Some(waiting) = strategy::waits_for(candidate.strategy, d.world, &candidate.revision)
    {
        return Gate::Waiting(waiting);
    }
    if d.status.paused {
        return Gate::Waiting(PAUSED.to_owned());
    }
    d.write(Write::CreateJob { revision: candidate.revision.clone(), attempt: candidate.attempt });
    Gate::Waiting("the migration Job starts".to_owned())
}

/// The Job and its pod are gone. With a stable revision the attempt fails; without one it is tried again, since
/// a database that starts beside the app is normal.
fn failed(d: &mut Draft, mut migration: MigrationStatus) -> Gate {
    let (reason, message) = (migration.reason.clone(), migration.message.clone());
    if d.status.stable.is_some() {
        migration.state = MigrationState::Failed;
        d.status.migration = Some(migration);
        decide::end(d, Outcome::Failed, FAILED, &message);
        return Gate::Failed { reason, message };
    }
    let factor = 1_i64 << migration.retries.clamp(0, 10);
    let due = clock::after(d.now, (FIRST_RETRY * factor).min(LONGEST_RETRY));
    migration.state = MigrationState::WaitingToRetry;
    migration.retries += 1;
    migration.retry_at = Some(Time(due));
    d.status.migration = Some(migration);
    d.wake_at(due);
    Gate::Failing { reason, message }
}

fn record(d: &mut Draft, candidate: &Candidate, revision: &RevisionObs) {
    let facts = Facts { migrated: Some(true), ..Facts::default() };
    d.write(Write::Annotate {
        revision: candidate.revision.clone(),
        facts,
        version: revision.version.clone(),
    });
}

/// Another revision with the same migration key whose migration is recorded.
fn same_key(d: &Draft, revision: &RevisionObs) -> Option<String> {
    let key = revision.migration_key.as_ref()?;
    let twin = |other: &&RevisionObs| other.migrated && other.migration_key.as_ref() == Some(key);
    d.world.revisions.iter().find(|(_, other)| twin(other)).map(|(name, _)| name.clone())
}

fn leftover(d: &Draft) -> Option<JobObs> {
    d.world.jobs.first().cloned()
}

fn delete(d: &mut Draft, job: &JobObs) {
    if !job.terminating {
        let (name, uid, version) = (job.name.clone(), job.uid.clone(), job.version.clone());
        d.write(Write::DeleteJob { name, uid, version });
    }
}

/// Pods of migrations that have not ended, whatever made them.
fn others(d: &Draft) -> Option<String> {
    let pod = d.world.migration_pods.first()?;
    let node = pod.node.as_ref().map_or_else(String::new, |node| format!(" on node {node}"));
    Some(format!("waits until the migration pod {}{node} has ended", pod.name))
}
