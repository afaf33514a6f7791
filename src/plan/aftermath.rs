//! After a promotion: the bake, in which a failure still returns, and what is kept of the revision before.

use super::report::Gate;
use super::{Draft, clock, decide, proof, strategy, workers};
use crate::api::Outcome;

/// How the checks of the bake stand. Should one have failed, or workers crash, the revision before is stable again, if it is still
/// stored.
pub(super) fn prove(d: &mut Draft) -> Gate {
    let gate = proof::bake(d);
    if let Gate::Failed { message, .. } = &gate
        && let Some(previous) = d.status.previous.clone()
        && d.world.revisions.contains_key(&previous)
    {
        decide::revert(d, &previous, "", Outcome::Failed, proof::ANALYSIS_FAILED, message);
    }
    if d.status.candidate.is_none()
        && let Some(previous) = d.status.previous.clone()
        && d.world.revisions.contains_key(&previous)
        && let Some(message) = workers::fail_the_bake(d)
    {
        decide::revert(d, &previous, "", Outcome::Failed, workers::NOT_READY, &message);
    }
    gate
}

/// Ends what has lasted long enough.
pub(super) fn go_on(d: &mut Draft) {
    if let Some(bake) = d.status.bake.clone() {
        let lasts = strategy::bake(d, bake.strategy);
        if clock::lasted(d, bake.since.0, lasts) {
            d.status.bake = None;
        }
    }
    let Some(kept) = d.status.kept.clone() else { return };
    if clock::lasted(d, kept.since.0, d.goal.keep_old) {
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
