//! What was lost is made anew: stored revisions from their Deployments, and a status, as after the restoration of a
//! backup, from what the stored revisions record.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::world::{Rev, RevisionObs};
use super::{Draft, Write, follow_up};
use crate::api::{Candidate, Outcome, Verdict};

/// Stores again what somebody deleted of revisions that have a Deployment, whatever they are to a rollout: without it the
/// Deployment can be neither scaled nor repaired, and nobody can return to it. Everything else waits for that, for what a
/// revision needs, and its number among the others, is known only then.
pub(super) fn revisions(d: &Draft) -> Vec<Write> {
    let lost = d.world.deployments.keys().filter(|name| !d.world.revisions.contains_key(*name));
    lost.map(|name| {
        let contracted = follow_up::was_contracted(d, name);
        Write::RebuildRevision { revision: name.clone(), contracted }
    })
    .collect()
}

/// Nothing is known of an app that has a history: what is recorded with its revisions is taken over, and an attempt
/// that had failed is not made again.
pub(super) fn status(d: &mut Draft) {
    let world = d.world;
    if d.status.attempt > 0 || d.status.stable.is_some() || d.status.candidate.is_some() {
        return;
    }
    let attempts = world.revisions.values().map(|revision| revision.attempt);
    let jobs = world.jobs.iter().map(|job| job.attempt);
    let attempt = attempts.chain(jobs).max().unwrap_or_default();
    if attempt == 0 {
        return;
    }
    let mut promoted: Vec<(&Rev, &RevisionObs)> =
        world.revisions.iter().filter(|(_, revision)| revision.promotion > 0).collect();
    promoted.sort_by_key(|(_, revision)| std::cmp::Reverse(revision.promotion));
    d.status.attempt = attempt;
    d.status.promotion = promoted.first().map_or(0, |(_, revision)| revision.promotion);
    d.status.stable = promoted.first().map(|(name, _)| (*name).clone());
    d.status.previous = promoted.get(1).map(|(name, _)| (*name).clone());
    d.status.secrets_for.clone_from(&d.status.stable);
    if d.status.stable.as_ref() == Some(&d.goal.desired) {
        return;
    }
    let desired = d.goal.desired.clone();
    // A migration under way is not made twice.
    let migrating =
        world.jobs.iter().find(|job| job.stage.gates() && job.revision == desired).map(|job| job.attempt);
    let stored = world.revisions.get(&desired);
    let ended = stored.and_then(|revision| {
        let ended =
            matches!(revision.outcome, Some(Outcome::Failed | Outcome::Aborted | Outcome::RolledBack));
        revision.outcome.filter(|_| ended && d.status.stable.is_some())
    });
    let (strategy, steps) = super::strategy::steps(d);
    let known = stored.map_or(0, |revision| revision.attempt);
    let verdict = ended.filter(|_| migrating.is_none()).map(|outcome| Verdict {
        outcome,
        reason: "StatusLost".to_owned(),
        message: format!("attempt {known} had ended before the status was lost"),
        returned: false,
        held: false,
    });
    if verdict.is_none() && migrating.is_none() {
        return;
    }
    d.status.candidate = Some(Candidate {
        revision: desired,
        attempt: migrating.unwrap_or(known),
        asked: String::new(),
        strategy,
        gateway: super::strategy::by_gateway(d, strategy) && d.status.stable.is_some(),
        steps,
        step: 0,
        step_since: None,
        weight: None,
        started_at: Time(d.now),
        verdict,
        progress: None,
    });
}
