//! Jobs that follow a rollout: the contract of the stable revision, once no older one has pods, and the way back of
//! migrations, which a person asked for. Neither ever takes away what serves.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::world::{JobFailure, JobObs, JobState, Rev, RevisionObs};
use super::{Draft, Facts, Write, budget, clock, command, migration, workers};
use crate::api::{FollowUp, FollowUpKind, FollowUpState, PhoenixAppStatus, Verdict};

/// The reason when a person gave it up.
const ABORTED: &str = "AbortedByCommand";
/// The reason when a newer spec came first.
const SUPERSEDED: &str = "NewerSpec";

/// Whether a Job is that of the follow-up under way.
pub(super) fn owns(status: &PhoenixAppStatus, job: &JobObs) -> bool {
    status.follow_up.as_ref().is_some_and(|follow_up| {
        let live = matches!(follow_up.state, FollowUpState::Running | FollowUpState::Ending);
        live && is_of(follow_up, job)
    })
}

fn is_of(follow_up: &FollowUp, job: &JobObs) -> bool {
    job.stage == follow_up.kind.stage()
        && job.revision == follow_up.revision
        && job.attempt == follow_up.attempt
}

/// A Job of it is there, or its end is not yet written down: no rollout begins, and none is taken back.
pub(super) fn in_flight(d: &Draft) -> bool {
    let ending = |follow_up: &FollowUp| follow_up.state == FollowUpState::Ending;
    d.status.follow_up.as_ref().is_some_and(ending) || d.world.jobs.iter().any(|job| owns(&d.status, job))
}

/// Behind a newer attempt, whatever wrote the status, nobody wants migrations to be rolled back any more.
pub(super) fn outlive(d: &mut Draft) {
    let attempt = d.status.attempt;
    let outlived = |follow_up: &&mut FollowUp| {
        let way_back = follow_up.kind == FollowUpKind::Rollback && follow_up.state == FollowUpState::Failed;
        way_back && follow_up.attempt != attempt
    };
    if let Some(follow_up) = d.status.follow_up.as_mut().filter(outlived) {
        SUPERSEDED.clone_into(&mut follow_up.reason);
    }
}

/// Takes over a Job whose status was lost.
pub(super) fn adopt(d: &mut Draft) {
    if d.status.follow_up.is_some() || d.status.under_way().is_some() {
        return;
    }
    let known = |kind: FollowUpKind| {
        d.world.jobs.iter().find(|job| job.stage == kind.stage() && !job.terminating).map(|job| (kind, job))
    };
    let stable = d.status.stable.as_ref();
    let wanted = |kind: FollowUpKind, job: &JobObs| {
        let revision = d.world.revisions.get(&job.revision);
        match kind {
            FollowUpKind::Contract => {
                Some(&job.revision) == stable && revision.is_some_and(|revision| !revision.contracted)
            }
            FollowUpKind::Rollback => {
                Some(&job.revision) != stable && revision.is_some_and(|revision| !revision.migrated)
            }
        }
    };
    let found = known(FollowUpKind::Contract).or_else(|| known(FollowUpKind::Rollback));
    if let Some((kind, job)) = found.filter(|(kind, job)| wanted(*kind, job)) {
        let state = FollowUpState::Running;
        d.status.follow_up = Some(FollowUp { state, ..begin(kind, &job.revision, job.attempt) });
    }
}

/// What is to come.
pub(super) fn begin(kind: FollowUpKind, revision: &Rev, attempt: i64) -> FollowUp {
    FollowUp {
        kind,
        revision: revision.clone(),
        attempt,
        state: FollowUpState::Pending,
        reason: String::new(),
        message: String::new(),
        log_tail: String::new(),
        retries: 0,
        retry_at: None,
    }
}

/// A rollout of `revision` begins: a contract is no longer due, and migrations that were to be rolled back stay.
pub(super) fn supersede(d: &mut Draft, revision: &Rev) {
    match d.status.follow_up.as_mut() {
        Some(follow_up) if follow_up.kind == FollowUpKind::Rollback => {
            if follow_up.state == FollowUpState::Failed {
                // Its message stays. Behind a newer release nobody wants it any more, `retry` neither.
                SUPERSEDED.clone_into(&mut follow_up.reason);
            } else if follow_up.state != FollowUpState::Succeeded {
                follow_up.state = FollowUpState::Failed;
                SUPERSEDED.clone_into(&mut follow_up.reason);
                follow_up.message = format!(
                    "the migrations of revision {} were not rolled back: revision {revision} came first",
                    follow_up.revision
                );
            }
        }
        _ => d.status.follow_up = None,
    }
}

/// A person gives it up. None: there is nothing to give up.
pub(super) fn abort(d: &mut Draft) -> Option<&'static str> {
    let running = in_flight(d);
    let follow_up = d.status.follow_up.as_mut()?;
    if matches!(follow_up.state, FollowUpState::Failed | FollowUpState::Succeeded) {
        return None;
    }
    follow_up.state = if running { FollowUpState::Ending } else { FollowUpState::Failed };
    ABORTED.clone_into(&mut follow_up.reason);
    "a person gave it up; `retry` begins it again".clone_into(&mut follow_up.message);
    follow_up.retry_at = None;
    Some(match follow_up.kind {
        FollowUpKind::Contract => "the contract is given up until `retry`",
        FollowUpKind::Rollback => "the migrations are not rolled back any further",
    })
}

/// A person asks for it again. False: there is nothing that failed.
pub(super) fn retry(d: &mut Draft) -> bool {
    let Some(follow_up) = d.status.follow_up.as_mut() else { return false };
    let failed = matches!(follow_up.state, FollowUpState::Failed | FollowUpState::WaitingToRetry);
    let again = failed && follow_up.reason != SUPERSEDED;
    if again {
        *follow_up = begin(follow_up.kind, &follow_up.revision, follow_up.attempt);
    }
    again
}

/// The same, if it is the way back of migrations that failed: it goes before another attempt of the release that it
/// leads away from.
pub(super) fn retry_way_back(d: &mut Draft) -> bool {
    let failed =
        d.status.follow_up.as_ref().is_some_and(|known| {
            known.kind == FollowUpKind::Rollback && known.state == FollowUpState::Failed
        });
    failed && retry(d)
}

/// Brings about what follows the last rollout. `at_rest`: the stable revision serves in full, alone.
pub(super) fn go_on(d: &mut Draft, at_rest: bool) {
    contract(d);
    let Some(follow_up) = d.status.follow_up.clone() else { return };
    let Some(revision) = d.world.revisions.get(&follow_up.revision).cloned() else {
        // Its Job, if there is one, belongs to nothing any more, and is removed.
        set(d, |known| {
            known.state = FollowUpState::Failed;
            "RevisionGone".clone_into(&mut known.reason);
            known.message = format!("revision {} is not stored any more", known.revision);
        });
        return;
    };
    let job = d.world.jobs.iter().find(|job| is_of(&follow_up, job)).cloned();
    match follow_up.state {
        FollowUpState::Failed | FollowUpState::Succeeded => {}
        FollowUpState::Running | FollowUpState::Ending => match job {
            Some(job) => watch(d, &follow_up, &revision, &job),
            None => absent(d, &follow_up, at_rest),
        },
        FollowUpState::Pending => run(d, &follow_up, at_rest),
        FollowUpState::WaitingToRetry => {
            let due = follow_up.retry_at.as_ref().map_or(d.now, |at| at.0);
            if d.now < due {
                d.wake_at(due);
            } else {
                run(d, &follow_up, at_rest);
            }
        }
    }
}

/// The stable revision's contract is due as soon as there is no rollout, unless a twin's covers it.
fn contract(d: &mut Draft) {
    let (Some(stable), None) = (d.stable(), &d.status.candidate) else { return };
    let Some(revision) = d.world.revisions.get(&stable).cloned() else { return };
    if !revision.has_contract || !revision.migrated || revision.contracted {
        return;
    }
    let key = revision.contract_key.as_ref();
    let covers =
        |other: &&RevisionObs| other.contracted && key.is_some() && other.contract_key.as_ref() == key;
    if d.world.revisions.values().any(|other| covers(&other)) {
        record(d, &stable, &revision.version);
        return;
    }
    let free = d.status.follow_up.as_ref().is_none_or(|known| match known.kind {
        FollowUpKind::Contract => known.revision != stable,
        FollowUpKind::Rollback => {
            matches!(known.state, FollowUpState::Failed | FollowUpState::Succeeded)
        }
    });
    if free {
        d.status.follow_up = Some(begin(FollowUpKind::Contract, &stable, d.status.attempt));
    }
}

/// Begins, when nothing stands in the way.
fn run(d: &mut Draft, follow_up: &FollowUp, at_rest: bool) {
    if let Some(why) = waits_for(d, follow_up, at_rest) {
        let failed = follow_up.state == FollowUpState::WaitingToRetry;
        set(d, |known| {
            if !failed {
                known.state = FollowUpState::Pending;
                known.message = why;
            }
        });
        return;
    }
    if follow_up.kind == FollowUpKind::Rollback && withdraw(d, &follow_up.revision) {
        return;
    }
    set(d, |known| {
        known.state = FollowUpState::Running;
        known.message.clear();
        known.retry_at = None;
    });
    d.write(Write::CreateJob {
        revision: follow_up.revision.clone(),
        stage: follow_up.kind.stage(),
        attempt: follow_up.attempt,
    });
}

/// Why it does not begin.
fn waits_for(d: &Draft, follow_up: &FollowUp, at_rest: bool) -> Option<String> {
    let stable = d.status.stable.clone().unwrap_or_default();
    let world = d.world;
    let others = world.populated().into_iter().filter(|rev| **rev != stable);
    let web: u32 = others.map(|rev| world.pod_objects(rev).max(world.asked(rev))).sum();
    let left = web.saturating_add(workers::left(d));
    let contract = follow_up.kind == FollowUpKind::Contract;
    if contract && d.status.bake.is_some() {
        Some("waits until the bake is over".to_owned())
    } else if contract && d.status.kept.is_some() {
        Some("waits until the revision before is no longer kept".to_owned())
    } else if left > 0 {
        Some(format!("waits until {left} pods of other revisions are gone"))
    } else if !at_rest {
        Some(format!("waits until the pods of revision {stable} serve"))
    } else if d.goal.replicas == 0 {
        Some("waits until replicas is above 0".to_owned())
    } else if d.status.paused {
        Some("waits until a person says resume".to_owned())
    } else if let Some(job) = world.jobs.first() {
        Some(format!("waits until the Job {} is gone", job.name))
    } else {
        migration::others(d).or_else(|| budget::no_job(d))
    }
}

/// Takes back what is recorded of the migrations that are to be rolled back, and of their copies: of every revision
/// that is newer than the stable one, or shares a migration with one of those. Before the Job, which may fail half-way:
/// returning to one of them then migrates again, which finds out by itself what is left to do.
fn withdraw(d: &mut Draft, from: &Rev) -> bool {
    let world = d.world;
    let stable = d.stable().unwrap_or_default();
    let own = world.revisions.get(&stable);
    let kept = own.and_then(|revision| revision.migration_key.clone());
    let number = own.map_or(0, |revision| revision.number);
    let newer = |name: &Rev, revision: &RevisionObs| name == from || revision.number > number;
    let keys: Vec<&String> = world
        .revisions
        .iter()
        .filter(|(name, revision)| newer(name, revision))
        .filter_map(|(_, revision)| revision.migration_key.as_ref())
        .filter(|key| Some(*key) != kept.as_ref())
        .collect();
    let undone = |name: &Rev, revision: &RevisionObs| {
        let shares = revision.migration_key.as_ref().is_some_and(|key| keys.contains(&key));
        let keyless = revision.migration_key.is_none() && newer(name, revision);
        *name != stable && (shares || keyless) && (revision.migrated || revision.contracted)
    };
    let mut any = false;
    for (name, revision) in world.revisions.iter().filter(|(name, revision)| undone(name, revision)) {
        let facts = Facts { migrated: Some(false), contracted: Some(false), ..Facts::default() };
        d.write(Write::Annotate { revision: name.clone(), facts, version: revision.version.clone() });
        any = true;
    }
    any
}

/// Its Job is there.
fn watch(d: &mut Draft, follow_up: &FollowUp, revision: &RevisionObs, job: &JobObs) {
    if job.terminating {
        return;
    }
    if job.state == JobState::Succeeded {
        if follow_up.kind == FollowUpKind::Contract && !revision.contracted {
            record(d, &follow_up.revision, &revision.version);
            return;
        }
        set(d, |known| {
            known.state = FollowUpState::Succeeded;
            known.reason.clear();
            known.message.clear();
            known.log_tail.clear();
        });
        migration::delete(d, job);
        return;
    }
    if follow_up.state == FollowUpState::Ending {
        migration::delete(d, job);
        return;
    }
    let unstarted = JobFailure { reason: "PodNotStarted".to_owned(), ..JobFailure::default() };
    let failure = match &job.state {
        JobState::Failed(failure) => failure.clone(),
        _ if !job.started && clock::passed(d, job.created, d.goal.progress_deadline) => unstarted,
        _ => {
            let why = job.waiting.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            let message = format!("the Job {} runs{why}", job.name);
            set(d, |known| known.message = message);
            return;
        }
    };
    let message = migration::sentence(job, &failure);
    set(d, |known| {
        known.state = FollowUpState::Ending;
        known.reason = failure.reason;
        known.message = message;
        known.log_tail = failure.log_tail;
    });
    migration::delete(d, job);
}

/// Its Job is not there: it is to be made, or was removed after a failure.
fn absent(d: &mut Draft, follow_up: &FollowUp, at_rest: bool) {
    if follow_up.state == FollowUpState::Running {
        run(d, follow_up, at_rest);
        return;
    }
    if migration::others(d).is_some() {
        return;
    }
    if follow_up.kind == FollowUpKind::Rollback || follow_up.reason == ABORTED {
        set(d, |known| known.state = FollowUpState::Failed);
        return;
    }
    let due = migration::retry_at(d, follow_up.retries);
    set(d, |known| {
        known.state = FollowUpState::WaitingToRetry;
        known.retries = known.retries.saturating_add(1);
        known.retry_at = Some(Time(due));
    });
    d.wake_at(due);
}

fn record(d: &mut Draft, revision: &Rev, version: &str) {
    let facts = Facts { contracted: Some(true), ..Facts::default() };
    d.write(Write::Annotate { revision: revision.clone(), facts, version: version.to_owned() });
}

fn set(d: &mut Draft, change: impl FnOnce(&mut FollowUp)) {
    if let Some(follow_up) = d.status.follow_up.as_mut() {
        change(follow_up);
    }
}

/// Reason of an attempt that a contract forbids.
pub const BEHIND_CONTRACT: &str = "BehindContract";

/// A contract forbade the attempt, and nothing of it was begun.
pub(super) fn is_forbidden(verdict: &Verdict) -> bool {
    verdict.reason == BEHIND_CONTRACT
}

/// The revision whose contract took away what `to` needs: a newer one, unless `to` went through the same contract or its
/// code is known to do without.
pub(super) fn locked_by(d: &Draft, to: &Rev) -> Option<Rev> {
    let revision = d.world.revisions.get(to)?;
    let stored = || d.world.revisions.iter();
    // It contracted then or later, or serves now.
    let same_code = |other: &RevisionObs| {
        !revision.image.is_empty()
            && stored().filter(|(_, one)| one.image == revision.image).any(|(name, one)| {
                one.contracted && one.number >= other.number || d.status.stable.as_ref() == Some(name)
            })
    };
    let locks = |other: &RevisionObs| {
        let same_contract = revision.contracted && revision.contract_key == other.contract_key;
        other.contracted && other.number > revision.number && !same_contract && !same_code(other)
    };
    stored().find(|(_, other)| locks(other)).map(|(name, _)| name.clone())
}

/// Why the spec of an earlier release is not tried again: what it needs may not be in the database any more.
pub(super) fn forbids(d: &Draft, revision: &Rev) -> Option<String> {
    d.status.stable.as_ref()?;
    let newer = locked_by(d, revision)?;
    let why = format!(
        "the spec is that of revision {revision} again, which may need what the contract of revision {newer} has removed \
         from the database; "
    );
    // Only what has run before can be returned to.
    let ran = d.world.revisions.get(revision).is_some_and(|stored| !stored.lacks_migration());
    Some(if ran {
        let (attempt, force) = (d.status.attempt, command::FORCE);
        format!(
            "{why}release one that does not, or, if you know that {revision} does not, return to it by the command \
             `rollback {revision}/{attempt} {revision} {force}`"
        )
    } else {
        format!("{why}release one that does not; any change of the spec is another revision")
    })
}

/// Only force goes back from the stable revision: its contract, or another's, took away what the one before it needs.
pub(super) fn is_final(d: &Draft) -> bool {
    let Some(stable) = &d.status.stable else { return false };
    let contracted = match d.world.revisions.get(stable) {
        Some(stored) => stored.contracted,
        None => was_contracted(d, stable),
    };
    // A twin, which went through the same contract, needs nothing that is gone.
    let twin = d.status.previous.as_ref().is_some_and(|previous| d.world.revisions.contains_key(previous));
    previous_is_locked(d) || (contracted && !twin)
}

/// Of a revision that is not stored any more, the status tells whether its contract was done.
pub(super) fn was_contracted(d: &Draft, revision: &Rev) -> bool {
    let told = d.status.rollback_safe == Some(false) && d.status.stable.as_ref() == Some(revision);
    let done = d.status.follow_up.as_ref().is_some_and(|last| {
        (last.kind, last.state) == (FollowUpKind::Contract, FollowUpState::Succeeded)
            && last.revision == *revision
    });
    done || (told && !previous_is_locked(d))
}

fn previous_is_locked(d: &Draft) -> bool {
    let previous = d.status.previous.as_ref().filter(|previous| Some(*previous) != d.status.stable.as_ref());
    previous.is_some_and(|previous| locked_by(d, previous).is_some())
}
