//! After a promotion: the bake, in which a failure still returns, and what is kept of the revision before.

use std::time::Duration;

use jiff::Timestamp;

use super::{Draft, clock, decide, proof, strategy};
use crate::api::{Candidate, Outcome};

/// A check failed during the bake: the revision before is stable again.
pub(super) fn failed(d: &mut Draft) -> Option<Candidate> {
    let previous = d.status.previous.clone()?;
    let why = proof::bake(d)?;
    if !d.world.revisions.contains_key(&previous) {
        return None;
    }
    decide::revert(d, &previous, "", Outcome::Failed, proof::ANALYSIS_FAILED, &why);
    d.status.candidate.clone()
}

/// Ends what has lasted long enough.
pub(super) fn go_on(d: &mut Draft) {
    if let Some(bake) = d.status.bake.clone() {
        let lasts = strategy::bake(d, bake.strategy);
        if over(d, bake.since.0, lasts) {
            d.status.bake = None;
        }
    }
    let Some(kept) = d.status.kept.clone() else { return };
    if over(d, kept.since.0, d.goal.keep_old) {
        d.status.kept = None;
        return;
    }
    let gone = d.status.previous.as_ref().is_none_or(|previous| d.world.pod_objects(previous) == 0);
    if d.status.bake.is_none()
        && gone
        && !kept.drained
        && let Some(kept) = d.status.kept.as_mut()
    {
        kept.drained = true;
    }
}

/// Whether so long has passed; asks to be woken when it will have. By the clock of the wall: a promise to people.
fn over(d: &mut Draft, since: Timestamp, lasts: Duration) -> bool {
    let until = clock::after(since, i64::try_from(lasts.as_secs()).unwrap_or(i64::MAX));
    if until > d.now {
        d.wake_at(until);
    }
    until <= d.now
}
