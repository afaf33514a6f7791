//! The last finished rollouts, newest first.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Draft;
use crate::api::{Candidate, HistoryEntry, Outcome};

/// How many finished rollouts the status keeps.
const KEPT: usize = 10;

/// Notes that an attempt ended.
pub(super) fn ended(d: &mut Draft, candidate: &Candidate, outcome: Outcome, reason: &str) {
    let image = d.world.revisions.get(&candidate.revision).map(|revision| revision.image.clone());
    let now = d.now;
    let history = &mut d.status.history;
    history.insert(
        0,
        HistoryEntry {
            revision: candidate.revision.clone(),
            image: image.unwrap_or_default(),
            asked: candidate.asked.clone(),
            attempt: candidate.attempt,
            started_at: candidate.started_at.clone(),
            ended_at: Time(now),
            outcome,
            reason: reason.to_owned(),
        },
    );
    history.truncate(KEPT);
}
