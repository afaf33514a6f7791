//! The last finished rollouts, newest first.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{Candidate, HistoryEntry, Outcome, PhoenixAppStatus};

/// How many finished rollouts the status keeps.
const KEPT: usize = 10;

/// Notes that an attempt ended.
pub(super) fn ended(
    status: &mut PhoenixAppStatus,
    candidate: &Candidate,
    outcome: Outcome,
    reason: &str,
    now: Timestamp,
) {
    status.history.insert(
        0,
        HistoryEntry {
            revision: candidate.revision.clone(),
            attempt: candidate.attempt,
            started_at: candidate.started_at.clone(),
            ended_at: Time(now),
            outcome,
            reason: reason.to_owned(),
        },
    );
    status.history.truncate(KEPT);
}
