//! PURE. What the planner would do from here, in a cluster where nothing goes wrong: every pod becomes ready, every
//! migration succeeds, and time passes as soon as nothing else does.
//!
//! It is the operator's own planner that is asked, so this holds no rule of its own. It ends where nothing changes any
//! more, or where a person is waited for.

mod cluster;
mod steps;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::{
    api::{Phase, PhoenixAppStatus},
    plan::{Goal, World, Write, plan},
};

pub use cluster::NewRevision;
use cluster::Simulated;
use steps::Recorder;
pub use steps::{Change, Step};

/// How often the planner is asked at most. A canary of 32 steps over a hundred pods takes a few hundred.
const MOST_PASSES: usize = 20_000;

/// What would happen.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    /// Objects that would be made, changed or deleted, by kind and name.
    pub objects: Vec<Change>,
    /// What would happen, in order.
    pub steps: Vec<Step>,
    /// Where it ends.
    pub end: End,
}

/// Where it ends.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// The phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// What the status would say.
    pub message: String,
    /// Seconds from now, when nothing but time is waited for.
    pub after_seconds: i64,
    /// The stable revision then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable: Option<String>,
    /// A person is waited for.
    pub waits_for_person: bool,
}

/// Plays it through.
///
/// `new` tells of the revision that the spec describes, should it not be stored yet.
pub fn preview(
    goal: &Goal,
    status: PhoenixAppStatus,
    world: World,
    new: NewRevision,
    start: Timestamp,
) -> Preview {
    let mut recorder = Recorder::new(&goal.app, start, &new.headless);
    let mut cluster = Simulated::new(goal, &status, world, new);
    let (mut status, mut now) = (status, start);
    for _ in 0..MOST_PASSES {
        let planned = plan(goal, &status, &cluster.world, now);
        recorder.status(&status, &planned.status, now);
        recorder.writes(&planned.writes, &cluster.world, cluster.secret, now);
        let settled = planned.writes.is_empty() && planned.status == status;
        status = planned.status;
        cluster.apply(&planned.writes, &status.restarts, now);
        if !planned.writes.iter().any(|write| matches!(write, Write::PostSecret { .. })) {
            cluster.world.secret_posted = None;
        }
        let asked = !planned.measure.is_empty();
        cluster.measure(&planned.measure, &goal.proofs.checks, now);
        if !settled || asked || cluster.evolve() {
            continue;
        }
        match planned.wake {
            // Never the same instant again, whatever is asked for.
            Some(wake) => now = wake.max(now.saturating_add(SignedDuration::from_secs(1)).unwrap_or(now)),
            None => return recorder.end(&status, now),
        }
    }
    recorder.end(&status, now)
}
