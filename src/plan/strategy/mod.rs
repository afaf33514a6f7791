//! Every strategy is the same machine; they differ only in what they aim for next.
//!
//! There are three ways to aim. *Mix*: one Service over all pods, so that pod counts are the split of the requests.
//! *Stand*: the new pods stand beside those that serve, and one write of the Service moves all requests. *Replace*: all
//! old pods go before the first new one starts.

mod mix;
mod recreate;
mod split;
mod stand;

use std::time::Duration;

use crate::api::{CanaryStep, Candidate, StrategyKind};

use super::replicas::Moves;
use super::world::{Rev, Selector};
use super::{Draft, World, budget, route};

pub(super) use stand::pace;

/// What a rollout aims for until its next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// So many pods of the candidate and of the stable revision, all behind one Service.
    Mix { candidate: u32, stable: u32 },
    /// So many pods of the candidate beside those that serve; with `switch`, then all requests.
    Stand { size: u32, switch: bool },
    /// All pods of other revisions go first.
    Replace,
}

/// The steps that an attempt freezes. Without a stable revision there is nothing to compare with, and none.
pub(super) fn steps(d: &Draft) -> (StrategyKind, Vec<CanaryStep>) {
    match d.goal.strategy {
        StrategyKind::Recreate if d.status.stable.is_none() => (StrategyKind::Recreate, Vec::new()),
        _ if d.status.stable.is_none() => (StrategyKind::Rolling, Vec::new()),
        // rolled as Rolling would
        StrategyKind::Canary if one_without_surge(d) && !by_gateway(d, StrategyKind::Canary) => {
            (StrategyKind::Canary, Vec::new())
        }
        kind => (kind, d.goal.steps.clone()),
    }
}

/// Whether a rollout of this kind splits the requests by the weights of an HTTPRoute.
pub(super) fn by_gateway(d: &Draft, kind: StrategyKind) -> bool {
    kind == StrategyKind::Canary && d.goal.gateway && d.world.gateway_api
}

/// Whether its pods stand beside those that serve.
pub(super) fn stands(kind: StrategyKind, gateway: bool) -> bool {
    kind == StrategyKind::BlueGreen || (kind == StrategyKind::Canary && gateway)
}

/// Whether pods of a new revision are to stand beside those that serve, or those of this one may do so already.
pub fn may_stand(kind: StrategyKind, gateway: bool, candidate: Option<&Candidate>) -> bool {
    stands(kind, gateway) || candidate.is_some_and(|candidate| stands(candidate.strategy, candidate.gateway))
}

/// All requests of the Service go to the candidate.
pub(super) fn there(d: &Draft, candidate: &Candidate) -> bool {
    let selected = d.world.service.as_ref().map(|service| &service.selector);
    selected == Some(&Selector::Only(candidate.revision.clone()))
}

/// What the candidate aims for at its present step.
pub(super) fn aim(d: &Draft, candidate: &Candidate) -> Aim {
    let wanted = d.goal.replicas;
    let last = step(candidate).is_none();
    match candidate.strategy {
        StrategyKind::Recreate => Aim::Replace,
        StrategyKind::BlueGreen if last => Aim::Stand { size: wanted, switch: true },
        StrategyKind::BlueGreen => Aim::Stand {
            size: d.goal.preview_replicas.map_or(wanted, |size| size.min(wanted)),
            switch: false,
        },
        // The Service moves once the gateways lead all requests around it, or do not at all.
        StrategyKind::Canary if candidate.gateway && last => {
            let around = there(d, candidate) || !d.goal.gateway || route::carries(d, 100);
            Aim::Stand { size: wanted, switch: around }
        }
        StrategyKind::Canary if candidate.gateway => {
            let size = route::pods_for(wanted, weight(candidate).unwrap_or_default());
            Aim::Stand { size, switch: false }
        }
        StrategyKind::Canary if !last => {
            let weight = weight(candidate).unwrap_or_default();
            // One pod without room for a second is never split, but waits.
            let surge = if wanted == 1 { d.goal.surge } else { budget::surge(d, 0) };
            split::split(wanted, weight, surge).map_or(Aim::Mix { candidate: wanted, stable: 0 }, |split| {
                Aim::Mix { candidate: split.candidate, stable: split.stable }
            })
        }
        // The first batch has the word before the others follow.
        StrategyKind::Rolling if !last => {
            let surge = budget::surge(d, 0);
            let batch = wanted.min(surge.saturating_add(d.goal.unavailable).max(1));
            let stable = wanted.min(wanted.saturating_add(surge).saturating_sub(batch));
            Aim::Mix { candidate: batch, stable }
        }
        StrategyKind::Canary | StrategyKind::Rolling => Aim::Mix { candidate: wanted, stable: 0 },
    }
}

/// Whole pods cannot split the requests as the steps ask: one pod, and no room for a second.
pub(super) fn cannot_split(d: &Draft, candidate: &Candidate) -> bool {
    candidate.strategy == StrategyKind::Canary && !candidate.gateway && one_without_surge(d)
}

const fn one_without_surge(d: &Draft) -> bool {
    d.goal.replicas == 1 && d.goal.surge == 0
}

/// The step under way; none once all are behind.
pub(super) fn step(candidate: &Candidate) -> Option<&CanaryStep> {
    candidate.steps.get(usize::try_from(candidate.step).ok()?)
}

/// The weight of the last `setWeight` up to the step under way, in percent.
pub(super) fn weight(candidate: &Candidate) -> Option<u32> {
    let until = usize::try_from(candidate.step).ok()?.saturating_add(1);
    let weights = candidate.steps.iter().take(until).rev();
    weights.filter_map(|step| step.set_weight).find_map(|weight| u32::try_from(weight).ok())
}

/// The next moves of a rollout.
pub(super) fn advance(d: &Draft, candidate: &Candidate, aim: Aim) -> Moves {
    let focus = &candidate.revision;
    match aim {
        Aim::Replace => recreate::advance(d, focus),
        Aim::Mix { .. } if mix::in_the_way(d, focus) => stand::clear(d),
        Aim::Mix { candidate: size, stable } => mix::roll(d, focus, size, stable).next(),
        Aim::Stand { .. } if before_standing(d) => to_stable(d),
        Aim::Stand { size, switch } => stand::beside(d, focus, size, switch),
    }
}

/// Requests are spread over several revisions: they go back to the stable one before another can stand beside it.
pub(super) fn before_standing(d: &Draft) -> bool {
    d.world.service.as_ref().is_some_and(|service| service.selector == Selector::Wide)
}

/// What was aimed for is there.
pub(super) fn reached(d: &Draft, candidate: &Candidate, aim: Aim) -> bool {
    let world = d.world;
    let focus = &candidate.revision;
    let up = |size: u32| {
        world.deployments.get(focus).map_or(size == 0, |deployment| {
            deployment.observed
                && !deployment.terminating
                && deployment.replicas == size
                && deployment.available >= size
        })
    };
    match aim {
        Aim::Mix { candidate: size, stable } => {
            let others = |rev: &&Rev| **rev != *focus && Some(*rev) != d.status.stable.as_ref();
            let stable_asked = d.status.stable.as_ref().map_or(0, |rev| world.asked(rev));
            let stable_serves = d.status.stable.as_ref().map_or(0, |rev| world.serving(rev));
            // Broken stable pods: what serves in their place (a superseded revision, or more of the candidate than its
            // share) has to go on, and the fix does not wait for them.
            let short = stable_serves < stable;
            let others_gone = world.populated().into_iter().filter(others).all(|rev| world.is_quiet(rev));
            world.serving(focus) >= size && (short || (up(size) && stable_asked == stable && others_gone))
        }
        Aim::Stand { size, .. } => {
            let shown = world.published.get(focus).copied().unwrap_or_default();
            up(size) && !before_standing(d) && shown >= size && weighted(d, candidate)
        }
        Aim::Replace => up(d.goal.replicas),
    }
}

/// The gateways have taken the weight of the step under way, if it has one.
fn weighted(d: &Draft, candidate: &Candidate) -> bool {
    match weight(candidate) {
        Some(percent) if candidate.gateway && d.goal.gateway && step(candidate).is_some() => {
            route::carries(d, percent)
        }
        _ => true,
    }
}

/// Pods that the candidate is to have at this aim.
pub(super) fn size(d: &Draft, aim: Aim) -> u32 {
    match aim {
        Aim::Mix { candidate, .. } => candidate,
        Aim::Stand { size, .. } => size,
        Aim::Replace => d.goal.replicas,
    }
}

/// The next moves of a return to the stable revision, or of keeping it.
pub(super) fn settle(d: &Draft, kind: StrategyKind, gateway: bool, stable: &Rev) -> Moves {
    match kind {
        StrategyKind::Recreate => recreate::advance(d, stable),
        kind if stands(kind, gateway) => to_stable(d),
        StrategyKind::BlueGreen => to_stable(d),
        StrategyKind::Rolling | StrategyKind::Canary if mix::in_the_way(d, stable) => stand::clear(d),
        StrategyKind::Rolling | StrategyKind::Canary => mix::roll_back(d, stable).next(),
    }
}

fn to_stable(d: &Draft) -> Moves {
    match (&d.world.service, &d.status.stable) {
        (Some(service), Some(stable)) if service.selector == Selector::Wide => {
            mix::roll_back(d, stable).next()
        }
        (None, Some(stable)) if d.status.candidate.is_some() => mix::roll_back(d, stable).next(),
        _ => stand::to_stable(d),
    }
}

/// The next moves while the candidate may not have pods yet.
pub(super) fn hold(d: &Draft, candidate: &Candidate) -> Moves {
    let focus = &candidate.revision;
    match candidate.strategy {
        StrategyKind::Recreate if d.goal.stop_before_migration => recreate::clear(d.world, focus),
        kind if stands(kind, candidate.gateway) => to_stable(d),
        // Pods that the candidate may have left from an earlier attempt are in the way, too.
        _ if mix::in_the_way(d, &Rev::new()) => stand::clear(d),
        _ => mix::hold(d),
    }
}

/// Everything stays as it is: a person has the word. What serves is kept at its size.
pub(super) fn freeze(d: &Draft, candidate: &Candidate, aim: Aim) -> Moves {
    let focus = &candidate.revision;
    let asked = d.world.asked(focus).min(d.goal.replicas);
    match aim {
        _ if d.status.stable.is_none() && asked == 0 => Moves::default(),
        Aim::Replace => recreate::keep(d, focus),
        Aim::Mix { .. } if mix::in_the_way(d, focus) => stand::clear(d),
        Aim::Mix { stable, .. } => mix::roll(d, focus, asked, stable.max(d.goal.replicas - asked)).next(),
        Aim::Stand { .. } if before_standing(d) => to_stable(d),
        Aim::Stand { .. } => stand::still(d),
    }
}

/// Why a strategy waits although no gate does: pods of earlier revisions that must be gone first.
pub(super) fn waits_for(kind: StrategyKind, world: &World, focus: &Rev) -> Option<String> {
    match kind {
        StrategyKind::Recreate => recreate::waits_for(world, focus),
        StrategyKind::Rolling | StrategyKind::BlueGreen | StrategyKind::Canary => None,
    }
}

/// How long the promotion of a rollout of this kind can still be taken back by itself.
pub(super) fn bake(d: &Draft, kind: StrategyKind) -> Duration {
    match kind {
        StrategyKind::BlueGreen => d.goal.blue_green_bake,
        StrategyKind::Canary => d.goal.canary_bake,
        StrategyKind::Rolling | StrategyKind::Recreate => Duration::ZERO,
    }
}
