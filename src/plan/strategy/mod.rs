//! Every strategy is the same machine; they differ only in the replica counts they ask for next.

mod recreate;
mod rolling;

use crate::api::StrategyKind;

use super::replicas::Moves;
use super::world::Rev;
use super::{Draft, World};

/// Where a strategy is to go.
pub(super) struct Course<'a> {
    /// The revision that is to have all pods in the end.
    pub focus: &'a Rev,
    /// The stable revision.
    pub reference: Option<&'a Rev>,
    /// The focus has not proven itself.
    pub cautious: bool,
}

/// The next replica counts on the way to the focus.
pub(super) fn advance(kind: StrategyKind, d: &Draft, course: &Course) -> Moves {
    match kind {
        StrategyKind::Rolling | StrategyKind::BlueGreen | StrategyKind::Canary => rolling::advance(d, course),
        StrategyKind::Recreate => recreate::advance(d, course),
    }
}

/// The next replica counts while the focus may not have pods yet.
pub(super) fn hold(kind: StrategyKind, d: &Draft, course: &Course) -> Moves {
    match kind {
        StrategyKind::Recreate if d.goal.stop_before_migration => recreate::clear(d.world, course.focus),
        _ => rolling::hold(d, course),
    }
}

/// Why a strategy waits although no gate does: pods of earlier revisions that must be gone first.
pub(super) fn waits_for(kind: StrategyKind, world: &World, focus: &Rev) -> Option<String> {
    match kind {
        StrategyKind::Rolling | StrategyKind::BlueGreen | StrategyKind::Canary => None,
        StrategyKind::Recreate => recreate::waits_for(world, focus),
    }
}
