//! Pods stand beside those that serve; then one write of the Service moves all requests.

use jiff::Timestamp;

use super::super::replicas::Moves;
use super::super::world::{Rev, Selector};
use super::super::{Draft, budget, clock};

/// The stable revision serves alone; what else has pods loses them, batch by batch, or is kept as asked.
pub(super) fn to_stable(d: &Draft) -> Moves {
    let Some(stable) = d.status.stable.clone() else { return Moves::default() };
    Stand { d, focus: &stable, size: d.goal.replicas, switch: true, ceiling: u32::MAX }.next()
}

/// What serves goes on alone, while pods that no request may reach go, or are kept as asked; within the surge.
pub(super) fn clear(d: &Draft) -> Moves {
    let Some(Selector::Only(selected)) = d.world.service.as_ref().map(|service| &service.selector) else {
        return Moves::default();
    };
    let ceiling = d.goal.replicas + budget::surge(d, 0);
    let serves = Some(selected).filter(|rev| d.world.asked(rev) > 0);
    let Some(focus) = serves.or(d.status.stable.as_ref()) else { return Moves::default() };
    Stand { d, focus, size: d.goal.replicas, switch: true, ceiling }.next()
}

/// So many pods of the focus beside those that serve, and, with `switch`, all requests on them once all are available.
pub(super) fn beside(d: &Draft, focus: &Rev, size: u32, switch: bool) -> Moves {
    Stand { d, focus, size, switch, ceiling: u32::MAX }.next()
}

/// Requests stay where they are, and what serves keeps its size.
pub(super) fn still(d: &Draft) -> Moves {
    let Some(service) = &d.world.service else { return to_stable(d) };
    let Selector::Only(selected) = &service.selector else { return Moves::default() };
    let (asked, wanted) = (d.world.asked(selected), d.goal.replicas);
    let exists = asked > 0 || d.status.stable.as_ref() == Some(selected);
    let settled = d.world.settled(selected);
    Moves {
        raise: (exists && asked < wanted && settled)
            .then(|| (selected.clone(), wanted))
            .into_iter()
            .collect(),
        lower: (asked > wanted && settled).then(|| (selected.clone(), wanted)),
        selector: Some(service.selector.clone()),
    }
}

struct Stand<'a> {
    d: &'a Draft<'a>,
    focus: &'a Rev,
    size: u32,
    switch: bool,
    /// Most pods of all revisions; what is kept does not count.
    ceiling: u32,
}

impl Stand<'_> {
    fn next(&self) -> Moves {
        let mut moves = Moves { selector: Some(Selector::Only(self.selected().clone())), ..Moves::default() };
        let world = self.d.world;
        let full = self.d.goal.replicas;
        let incumbent = self.incumbent().filter(|rev| world.asked(rev) > 0).map(|rev| (rev, full));
        let stable = self.d.status.stable.as_ref().filter(|_| !self.switch).map(|rev| (rev, full));
        let sizes = [Some((self.focus, self.size)), incumbent, stable, self.held()];
        for (rev, size) in sizes.into_iter().flatten() {
            let taken = moves.raise.iter().any(|(raised, _)| raised == rev);
            let room = if self.ceiling == u32::MAX { size } else { self.room() };
            let up = size.min(world.asked(rev).saturating_add(room));
            if world.asked(rev) < up && world.settled(rev) && !taken {
                moves.raise.push((rev.clone(), up));
            }
        }
        moves.lower = self.lower();
        moves
    }

    fn room(&self) -> u32 {
        let held = self.held().map(|(rev, _)| rev);
        let world = self.d.world;
        let total: u32 =
            world.deployments.keys().filter(|rev| Some(*rev) != held).map(|rev| world.asked(rev)).sum();
        self.ceiling.saturating_sub(total)
    }

    /// Whom the Service sends all requests to, if it is another than the focus.
    fn incumbent(&self) -> Option<&Rev> {
        match self.d.world.service.as_ref().map(|service| &service.selector) {
            Some(Selector::Only(rev)) if rev != self.focus => Some(rev),
            _ => None,
        }
    }

    /// What is kept of the revision before, and at what size.
    fn held(&self) -> Option<(&Rev, u32)> {
        let status = &self.d.status;
        let previous = status.previous.as_ref().filter(|rev| *rev != self.focus)?;
        let size = match (&status.bake, &status.kept) {
            (Some(bake), _) if super::stands(bake.strategy, bake.gateway) => self.d.goal.replicas,
            (None, Some(kept)) if kept.drained => self.d.goal.keep_old_replicas,
            _ => return None,
        };
        let revision = self.d.world.revisions.get(previous)?;
        (revision.migrated || !revision.needs_migration).then_some((previous, size))
    }

    /// Whom the Service is to send all requests to: the focus with `switch`, else the stable revision, as soon as it
    /// can take them.
    fn selected(&self) -> &Rev {
        let stable = self.d.status.stable.as_ref();
        let wanted = if self.switch { self.focus } else { stable.unwrap_or(self.focus) };
        match self.d.world.service.as_ref().map(|service| &service.selector) {
            Some(Selector::Only(present)) => self.instead_of(present, wanted),
            Some(Selector::Wide) => wanted,
            None => stable.unwrap_or(wanted),
        }
    }

    fn instead_of<'b>(&'b self, present: &'b Rev, wanted: &'b Rev) -> &'b Rev {
        let dead = self.d.world.deployments.get(present).is_none_or(|deployment| deployment.available == 0);
        if present != wanted && self.takes_over(wanted, present) {
            return wanted;
        }
        // What serves in its place is no more than a guest, or dead: the stable revision has the requests meanwhile.
        let stable = self.d.status.stable.as_ref().filter(|stable| *stable != present);
        let back = stable.filter(|stable| (present != wanted || dead) && self.takes_over(stable, present));
        back.unwrap_or(present)
    }

    /// A candidate takes over in full. The stable revision takes over as soon as no request is lost by it: it is what
    /// a failure returns to.
    fn takes_over(&self, wanted: &Rev, present: &Rev) -> bool {
        let world = self.d.world;
        let full = self.d.goal.replicas;
        let proven = self.d.status.stable.as_ref() == Some(wanted);
        // With no pods wanted, those that still serve go first.
        if full == 0 {
            return proven && world.serving(present) == 0;
        }
        let Some(deployment) = world.deployments.get(wanted).filter(|d| !d.terminating) else {
            return false;
        };
        let available = deployment.available.min(deployment.replicas);
        let least = if proven { world.serving(present).clamp(1, full) } else { full };
        available >= least && (proven || deployment.observed)
    }

    /// Above its size, and no request goes there: at most one revision a pass.
    fn lower(&self) -> Option<(Rev, u32)> {
        let world = self.d.world;
        // What receives requests is as large as the app, whatever it is to be in the end.
        let receives = self.incumbent().is_none() || world.endpoints.get(self.focus).is_some_and(|n| *n > 0);
        let size = if receives { self.size.max(self.d.goal.replicas) } else { self.size };
        let trimmed = [Some((self.focus, size)), self.incumbent().map(|rev| (rev, self.d.goal.replicas))];
        for (rev, size) in trimmed.into_iter().flatten() {
            if world.asked(rev) > size && world.settled(rev) {
                return Some((rev.clone(), size));
            }
        }
        world.deployments.keys().find_map(|rev| {
            // Until a promotion the stable revision is what a failure returns to.
            let stable = self.d.status.stable.as_ref() == Some(rev);
            let spared = rev == self.focus || Some(rev) == self.incumbent() || stable;
            let size = self.held().filter(|(held, _)| *held == rev).map_or(0, |(_, size)| size);
            let asked = world.asked(rev);
            let reached = world.endpoints.get(rev).is_some_and(|ready| *ready > 0);
            if spared || reached || asked <= size || !world.settled(rev) {
                return None;
            }
            let batch = self.batch(rev)?;
            Some((rev.clone(), asked.saturating_sub(batch).max(size)))
        })
    }

    /// How many pods of a revision may stop now; none: the last batch was too short a while ago. Pods that never got
    /// a request hold no sockets, and go together.
    fn batch(&self, rev: &Rev) -> Option<u32> {
        if !has_served(self.d, rev) {
            return Some(u32::MAX);
        }
        match self.d.goal.drain_batch {
            None => Some(u32::MAX),
            Some(batch) => due(self.d).is_none().then_some(batch.max(1)),
        }
    }
}

/// A revision that was stable once, or a candidate that all requests went to before it failed.
fn has_served(d: &Draft, rev: &Rev) -> bool {
    let promoted = d.world.revisions.get(rev).is_some_and(|revision| revision.promotion > 0);
    let switched = |candidate: &crate::api::Candidate| {
        let weighed = candidate.gateway && candidate.weight.is_some();
        let last = usize::try_from(candidate.step).is_ok_and(|step| step >= candidate.steps.len());
        candidate.revision == *rev && (last || weighed)
    };
    promoted || d.status.candidate.as_ref().is_some_and(switched)
}

/// When the next batch may stop, if that is still to come.
fn due(d: &Draft) -> Option<Timestamp> {
    let since = d.status.drained_at.as_ref()?.0;
    let seconds = i64::try_from(d.goal.drain_interval.as_secs()).unwrap_or(i64::MAX);
    Some(clock::after(since, seconds)).filter(|due| *due > d.now)
}

/// Notes when a batch stops, and asks to be woken for the next.
pub(in crate::plan) fn pace(d: &mut Draft, moves: &Moves) {
    if d.goal.drain_batch.is_none() || moves.selector.is_none() {
        return;
    }
    if let Some((rev, _)) = &moves.lower
        && has_served(d, rev)
        && Some(rev) != d.status.stable.as_ref()
    {
        let now = clock::whole_second(d.now);
        d.status.drained_at = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
    }
    let waiting = d
        .world
        .deployments
        .keys()
        .any(|rev| Some(rev) != d.status.stable.as_ref() && d.world.asked(rev) > 0 && has_served(d, rev));
    if waiting && let Some(due) = due(d) {
        d.wake_at(due);
    }
}
