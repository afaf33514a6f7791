//! Arithmetic of a roll: how many pods each revision is to have next.
//!
//! Pure integers. The floor is `replicas - unavailable` serving pods, the ceiling `replicas + surge` pods asked
//! for; raises happen together, at most one lowering a pass.

use std::cmp::{max, min};

use super::world::{Rev, Selector, World};

/// What a roll wants.
pub(super) struct Roll<'a> {
    pub world: &'a World,
    /// The revision that is to have `target` pods.
    pub focus: &'a Rev,
    /// The stable revision: it is to have `rest` pods; last to be lowered, first to grow.
    pub reference: Option<&'a Rev>,
    /// Wanted pods.
    pub replicas: u32,
    /// Pods that the focus is to have; all `replicas` in the end.
    pub target: u32,
    /// Pods that the reference is to have; none in the end. Other revisions are to have none.
    pub rest: u32,
    pub surge: u32,
    pub unavailable: u32,
    /// The focus has not proven itself: it grows in batches, each after the last has become available.
    pub cautious: bool,
}

/// The next step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Moves {
    /// New replica counts, all above the present ones.
    pub raise: Vec<(Rev, u32)>,
    /// A new replica count below the present one.
    pub lower: Option<(Rev, u32)>,
    /// What the active Service is to select. None: whatever has pods.
    pub selector: Option<Selector>,
}

impl Roll<'_> {
    /// The next step of a roll towards the focus.
    pub fn next(&self) -> Moves {
        let mut moves = Moves::default();
        let grown = self.grow(&mut moves);
        let focus_asked = self.world.asked(self.focus) + grown.focus;
        let total = grown.total;
        let room = self.ceiling().saturating_sub(total);
        let olds: u32 = self.olds().iter().map(|old| self.world.asked(old)).sum();
        let mut want = self.target.saturating_sub(focus_asked);
        if self.cautious && olds > 0 {
            let proven = self.world.serving(self.focus) + max(1, self.surge + self.unavailable);
            want = min(want, proven.saturating_sub(focus_asked));
        }
        // From zero pods the reference comes first.
        let up = if grown.total > self.total() && grown.focus == 0 && self.total() == 0 {
            0
        } else {
            min(want, room)
        };
        if grown.focus + up > 0 {
            moves.raise.push((self.focus.clone(), focus_asked + up));
        }
        self.refill(&mut moves, room - up);
        let crowded = max(want - up, total.saturating_sub(self.ceiling()));
        moves.lower = self.lower(crowded);
        self.settle(moves)
    }

    /// The next step while the focus may not have pods yet: only the size is kept.
    pub fn hold(&self) -> Moves {
        let mut moves = Moves::default();
        let total = self.total();
        let populated = self.olds();
        let ceiling = if populated.len() > 1 { self.ceiling() } else { self.replicas };
        // Only the reference grows: a superseded candidate loses its unready pods, and would get them back.
        if let Some(reference) = self.reference
            && (total < self.floor() || (populated.len() <= 1 && total < self.replicas))
        {
            let missing = self.replicas - total;
            moves.raise.push((reference.clone(), self.world.asked(reference) + missing));
        }
        let over = total.saturating_sub(ceiling);
        moves.lower = self.purge();
        if moves.lower.is_none() && over > 0 {
            moves.lower =
                self.drop_serving(min(self.spare(), over)).or_else(|| self.drop_unavailable(over, 0));
        }
        self.settle(moves)
    }

    /// A Deployment that is still shrinking is not raised: its pods could not be counted.
    fn settle(&self, mut moves: Moves) -> Moves {
        moves.raise.retain(|(rev, _)| self.world.settled(rev));
        moves
    }

    fn ceiling(&self) -> u32 {
        self.replicas + self.surge
    }

    fn floor(&self) -> u32 {
        self.replicas.saturating_sub(self.unavailable)
    }

    fn total(&self) -> u32 {
        self.world.deployments.keys().map(|rev| self.world.asked(rev)).sum()
    }

    /// Pods that serve above the floor.
    fn spare(&self) -> u32 {
        let serving: u32 = self.world.deployments.keys().map(|rev| self.world.serving(rev)).sum();
        serving.saturating_sub(self.floor())
    }

    /// Revisions other than the focus that ask for pods; the reference comes last.
    fn olds(&self) -> Vec<&Rev> {
        let (mut olds, reference): (Vec<&Rev>, Vec<&Rev>) = self
            .world
            .deployments
            .keys()
            .filter(|rev| *rev != self.focus && self.world.asked(rev) > 0)
            .partition(|rev| Some(*rev) != self.reference);
        olds.extend(reference);
        olds
    }

    /// The reference has fewer pods than it is to keep, as after a step to a lower weight.
    fn refill(&self, moves: &mut Moves, room: u32) {
        let Some(reference) = self.reference.filter(|rev| *rev != self.focus) else { return };
        let asked = self.world.asked(reference);
        let up = min(self.rest.saturating_sub(asked), room);
        if up > 0 && moves.raise.iter().all(|(rev, _)| rev != reference) {
            moves.raise.push((reference.clone(), asked + up));
        }
    }

    /// What a revision other than the focus keeps.
    fn keeps(&self, rev: &Rev) -> u32 {
        if Some(rev) == self.reference { self.rest } else { 0 }
    }

    /// Growth of the app in mid-roll goes to the reference while it serves, else to the focus.
    fn grow(&self, moves: &mut Moves) -> Grown {
        let total = self.total();
        let missing = self.floor().saturating_sub(total);
        if missing == 0 {
            return Grown { total, focus: 0 };
        }
        match self.reference.filter(|rev| *rev != self.focus) {
            Some(rev) if total == 0 || self.world.serving(rev) > 0 => {
                moves.raise.push((rev.clone(), self.world.asked(rev) + missing));
                Grown { total: total + missing, focus: 0 }
            }
            _ => Grown { total: total + missing, focus: missing },
        }
    }

    fn lower(&self, crowded: u32) -> Option<(Rev, u32)> {
        self.purge()
            .or_else(|| self.drop_serving(self.spare()))
            .or_else(|| self.drop_unavailable(crowded, 0))
            .or_else(|| self.trim())
            .or_else(|| self.drop_idle())
    }

    /// The focus serves in full: reference pods that do not serve are not waited for.
    fn drop_idle(&self) -> Option<(Rev, u32)> {
        if self.world.serving(self.focus) < self.target {
            None
        } else {
            self.drop_unavailable(u32::MAX, self.rest)
        }
    }

    /// Pods of neither the focus nor the reference that do not serve go at once.
    fn purge(&self) -> Option<(Rev, u32)> {
        self.olds().into_iter().filter(|rev| Some(*rev) != self.reference).find_map(|rev| {
            let serving = self.world.serving(rev);
            (self.world.settled(rev) && serving < self.world.asked(rev)).then(|| (rev.clone(), serving))
        })
    }

    /// Takes up to `spare` serving pods from the first old revision that has any; those of it that do not
    /// serve go with them.
    fn drop_serving(&self, spare: u32) -> Option<(Rev, u32)> {
        if spare == 0 && self.floor() > 0 {
            return None;
        }
        self.olds().into_iter().find_map(|rev| {
            let serving = self.world.serving(rev);
            let left = max(serving.saturating_sub(spare), self.keeps(rev));
            (self.world.settled(rev) && left < self.world.asked(rev)).then(|| (rev.clone(), left))
        })
    }

    /// Makes room by taking reference pods that do not serve, but for those to `keep`: a broken stable release never
    /// blocks its fix.
    fn drop_unavailable(&self, crowded: u32, keep: u32) -> Option<(Rev, u32)> {
        let rev = self.reference.filter(|rev| *rev != self.focus)?;
        let asked = self.world.asked(rev);
        let gone = min(crowded, asked.saturating_sub(max(self.world.serving(rev), keep)));
        (gone > 0 && self.world.settled(rev)).then(|| (rev.clone(), asked - gone))
    }

    /// The focus itself is larger than wanted. Serving pods of it go only as far as the floor allows.
    fn trim(&self) -> Option<(Rev, u32)> {
        let asked = self.world.asked(self.focus);
        let serving = self.world.serving(self.focus);
        let left = if self.target < self.replicas {
            max(self.target, serving.saturating_sub(self.spare()))
        } else {
            self.target
        };
        (left < asked && self.world.settled(self.focus)).then(|| (self.focus.clone(), left))
    }
}

struct Grown {
    total: u32,
    focus: u32,
}
