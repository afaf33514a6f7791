//! One Service over the pods of several revisions: how many pods each has is the split of the requests.

use super::super::replicas::{Moves, Roll};
use super::super::world::{Rev, Selector};
use super::super::{Draft, budget};

/// Towards so many pods of the focus and of the stable revision. Only a focus that is not stable has to prove itself,
/// batch by batch.
pub(super) fn roll<'a>(d: &'a Draft, focus: &'a Rev, size: u32, stable: u32) -> Roll<'a> {
    let reference = d.status.stable.as_ref();
    Roll {
        world: d.world,
        focus,
        reference,
        replicas: d.goal.replicas,
        target: size,
        rest: stable,
        surge: budget::surge(d, 0),
        unavailable: d.goal.unavailable,
        cautious: reference.is_some_and(|stable| stable != focus),
    }
}

/// Towards the stable revision alone.
pub(super) fn roll_back<'a>(d: &'a Draft, stable: &'a Rev) -> Roll<'a> {
    roll(d, stable, d.goal.replicas, 0)
}

/// What serves is kept at its size.
pub(super) fn hold(d: &Draft) -> Moves {
    // A Job may be waiting for its connections.
    Roll { surge: budget::surge(d, 1), ..roll(d, &Rev::new(), d.goal.replicas, 0) }.hold()
}

/// Pods that no request may reach (of a failed or an earlier revision) would get some if the Service became wide. They
/// go first.
pub(super) fn in_the_way(d: &Draft, focus: &Rev) -> bool {
    let Some(Selector::Only(selected)) = d.world.service.as_ref().map(|service| &service.selector) else {
        return false;
    };
    let meant = |rev: &Rev| rev == focus || rev == selected || Some(rev) == d.status.stable.as_ref();
    d.world.populated().into_iter().any(|rev| !meant(rev) && !d.world.is_quiet(rev))
}
