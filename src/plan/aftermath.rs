//! After a promotion: the bake, in which a failure still returns, and what is kept of the revision before.

use super::report::Gate;
use super::{Draft, clock, decide, proof, strategy, workers};
use crate::api::Outcome;

/// The reason when a bake ended because every pod crashed.
pub(super) const CRASHED: &str = "PodsCrashed";

/// How the checks of the bake stand. Should one have failed, or all pods or workers crash, the revision before is stable
/// again, if it is still stored.
pub(super) fn prove(d: &mut Draft) -> Gate {
    let gate = proof::bake(d);
    let failure = match &gate {
        Gate::Failed { message, .. } => Some((proof::ANALYSIS_FAILED, message.clone())),
        _ => all_crash(d)
            .map(|message| (CRASHED, message))
            .or_else(|| workers::fail_the_bake(d).map(|message| (workers::NOT_READY, message))),
    };
    if let Some((reason, message)) = failure
        && let Some(previous) = d.status.previous.clone()
        && d.world.revisions.contains_key(&previous)
    {
        decide::revert(d, &previous, "", Outcome::Failed, reason, &message);
    }
    gate
}

/// During a bake: no pod of the stable revision is available, because they crash.
fn all_crash(d: &mut Draft) -> Option<String> {
    let stable = d.stable()?;
    let none_left = d.world.deployments.get(&stable).is_some_and(|deployment| deployment.available == 0);
    let crashing = d.world.pods.get(&stable).is_some_and(|pods| pods.crashing);
    if !crashing || !none_left || !bakes(d) {
        return None;
    }
    let worst = decide::worst(d, &stable);
    Some(format!("every pod of revision {stable} crashed during its bake{worst}"))
}

/// A bake is under way, and not over.
pub(super) fn bakes(d: &mut Draft) -> bool {
    let Some(bake) = d.status.bake.clone() else { return false };
    let lasts = strategy::bake(d, bake.strategy);
    !clock::lasted(d, bake.since.0, lasts)
}

/// Ends what has lasted long enough.
pub(super) fn go_on(d: &mut Draft) {
    if !bakes(d) {
        d.status.bake = None;
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
