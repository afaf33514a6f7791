//! Removal of what no rollback needs any more. It comes last, one object a pass, and never takes a revision that
//! the spec or the status names.

use super::world::{Rev, RevisionObs};
use super::{Draft, Write};

/// Plans at most one deletion, and none while anything else is to be written.
pub(super) fn prune(d: &mut Draft) {
    if !d.writes.is_empty() {
        return;
    }
    let mut spare: Vec<(&Rev, &RevisionObs)> = d
        .world
        .revisions
        .iter()
        .filter(|(name, revision)| !named(d, name) && !revision.terminating)
        .collect();
    // Newest first: the one most likely to be returned to.
    spare.sort_by_key(|(name, revision)| (std::cmp::Reverse(revision.attempt), (*name).clone()));
    let surplus_revision =
        spare.iter().skip(d.goal.history_limit).map(|(name, _)| (*name).clone()).next_back();
    let surplus_deployment = spare
        .iter()
        .skip(d.goal.rollback_window.min(d.goal.history_limit))
        .map(|(name, _)| (*name).clone())
        .rfind(|name| d.world.deployments.contains_key(name));
    let write = surplus_deployment
        .and_then(|revision| {
            let deployment =
                d.world.deployments.get(&revision).filter(|deployment| !deployment.terminating)?;
            let (uid, version) = (deployment.uid.clone(), deployment.version.clone());
            // What its last pods still need goes with it, so they are waited for.
            let gone = d.world.is_quiet(&revision) && d.world.pod_objects(&revision) == 0;
            gone.then_some(Write::DeleteDeployment { revision, uid, version })
        })
        .or_else(|| {
            let revision = surplus_revision
                .filter(|name| !d.world.deployments.contains_key(name) && !has_workers(d, name))?;
            let stored = d.world.revisions.get(&revision)?;
            let (uid, version) = (stored.uid.clone(), stored.version.clone());
            Some(Write::DeleteRevision { revision, uid, version })
        });
    d.writes.extend(write);
}

fn has_workers(d: &Draft, revision: &Rev) -> bool {
    d.world.workers.keys().any(|(_, of)| of == revision)
}

fn named(d: &Draft, revision: &Rev) -> bool {
    let status = &d.status;
    *revision == d.goal.desired
        || status.stable.as_ref() == Some(revision)
        || status.previous.as_ref() == Some(revision)
        || status.candidate.as_ref().is_some_and(|candidate| candidate.revision == *revision)
}
