//! Recreate: every pod of another revision is gone before the first of the focus starts.

use super::super::replicas::Moves;
use super::super::world::Rev;
use super::super::{Draft, World};

pub(super) fn advance(d: &Draft, focus: &Rev) -> Moves {
    let asked = d.world.asked(focus);
    let wanted = d.goal.replicas;
    if asked > wanted {
        return Moves { lower: Some((focus.clone(), wanted)), ..Moves::default() };
    }
    let mut moves = clear(d.world, focus);
    if moves.lower.is_none() && asked < wanted && waits_for(d.world, focus).is_none() {
        moves.raise.push((focus.clone(), wanted));
    }
    moves
}

/// Whatever has pods is kept at its size; before anything was taken down, that is the stable revision.
pub(super) fn keep(d: &Draft, focus: &Rev) -> Moves {
    let has_pods = |rev: &&Rev| d.world.asked(rev) > 0;
    let stable = d.status.stable.as_ref();
    let Some(kept) = stable.filter(has_pods).or_else(|| Some(focus).filter(has_pods)).or(stable) else {
        return Moves::default();
    };
    let (asked, wanted) = (d.world.asked(kept), d.goal.replicas);
    let alone = waits_for(d.world, kept).is_none();
    Moves {
        raise: (asked < wanted && alone).then(|| (kept.clone(), wanted)).into_iter().collect(),
        lower: (asked > wanted).then(|| (kept.clone(), wanted)),
        ..Moves::default()
    }
}

/// Takes the pods of every revision but the focus away.
pub(super) fn clear(world: &World, focus: &Rev) -> Moves {
    let lower = world
        .deployments
        .keys()
        .find(|rev| *rev != focus && world.asked(rev) > 0)
        .map(|rev| (rev.clone(), 0));
    Moves { lower, ..Moves::default() }
}

/// Pods of other revisions that still exist, and the lost nodes that hold them.
pub(super) fn waits_for(world: &World, focus: &Rev) -> Option<String> {
    let left: u32 = world
        .populated()
        .into_iter()
        .filter(|rev| *rev != focus)
        .map(|rev| world.pod_objects(rev).max(world.asked(rev)))
        .sum();
    if left == 0 {
        return None;
    }
    let lost: Vec<&str> = world
        .pods
        .iter()
        .filter(|(rev, _)| *rev != focus)
        .flat_map(|(_, pods)| pods.lost_nodes.iter().map(String::as_str))
        .collect();
    Some(if lost.is_empty() {
        format!("waits until {left} older pods are gone")
    } else {
        format!(
            "waits until {left} older pods are gone; node {} does not answer: bring it back, or delete the Node \
             object if it is gone for good",
            lost.join(", ")
        )
    })
}
