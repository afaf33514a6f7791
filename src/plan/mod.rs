//! The pure core: from what is asked and what is observed to the writes to make now.
//!
//! [`plan`] has no client, no clock and no randomness. The same input always gives the same plan, and nothing
//! is remembered but what stands in the status. Facts that cannot be recomputed are written to the status
//! before the first write that follows from them.

mod aftermath;
pub mod analysis;
mod budget;
mod clock;
mod cluster;
mod command;
mod decide;
mod events;
mod follow_up;
mod history;
mod migration;
mod proof;
mod prune;
mod recover;
mod replicas;
mod report;
mod rollout;
mod route;
mod strategy;
mod traffic;
mod workers;
mod world;

#[cfg(test)]
mod tests;

use jiff::Timestamp;

use crate::api::{Outcome, PhoenixAppStatus, Stage};
use analysis::Measurement;

pub use decide::is_new;
pub use events::{Event, EventKind, events};
pub use follow_up::BEHIND_CONTRACT;
pub use migration::LOG_QUOTE;
pub use report::SECRET_REGENERATED;
pub use strategy::may_stand;
pub use world::{
    Budget, DeploymentObs, Fault, Goal, JobFailure, JobObs, JobState, MigrationPod, PodsObs, PreviewObs, Rev,
    RevisionObs, RouteAnswer, RouteObs, SecretPosted, Selector, ServiceObs, SmokeJobObs, Upkeep, Verify,
    WorkerGoal, WorkerObs, World,
};

/// What to do now.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The status to report, written (when it differs) before any of `writes`.
    pub status: PhoenixAppStatus,
    /// Writes, in order; neighbours that do not depend on each other may be sent at once. The first that fails ends the
    /// pass.
    pub writes: Vec<Write>,
    /// When time alone will change the plan.
    pub wake: Option<Timestamp>,
    /// What is to be measured now, and has not been; its answers come with a later world.
    pub measure: Vec<Measurement>,
}

/// One change to a child. Of those that requests depend on, at most one write of a plan lowers, moves or deletes
/// something, and it is the last; each worker is judged by itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Make the generated Secret if there is none.
    PostSecret {
        /// The revision that will read it.
        revision: Rev,
    },
    /// Make or repair a child that can harm nothing.
    Upkeep(Upkeep),
    /// Store the revision that the spec describes, rendered by the present builders.
    CreateRevision {
        /// Its name.
        revision: Rev,
        /// The attempt it is stored for; none: it is no candidate.
        attempt: Option<i64>,
    },
    /// Record facts on a stored revision. Only fields that are `Some` change.
    Annotate {
        /// The revision.
        revision: Rev,
        /// What to record.
        facts: Facts,
        /// The version it was planned from.
        version: String,
    },
    /// Make the active Service.
    CreateService {
        /// What it selects.
        selector: Selector,
    },
    /// Repair the active Service or move its selector.
    ApplyService {
        /// What it selects.
        selector: Selector,
        /// The version it was planned from.
        version: String,
    },
    /// Make the preview Service.
    CreatePreview {
        /// The revision it leads to; none: it leads nowhere.
        revision: Option<Rev>,
    },
    /// Repair the preview Service or lead it elsewhere.
    ApplyPreview {
        /// The revision it leads to; none: it leads nowhere.
        revision: Option<Rev>,
        /// The version it was planned from.
        version: String,
    },
    /// Make the HTTPRoute, to the active Service alone.
    CreateRoute,
    /// Repair the HTTPRoute or move its weight.
    ApplyRoute {
        /// Percent of the requests for the preview Service; none: it is not named.
        share: Option<u32>,
        /// The version it was planned from.
        version: String,
    },
    /// Delete the HTTPRoute, which is not wanted any more.
    DeleteRoute {
        /// The UID it was planned from.
        uid: String,
        /// The version it was planned from.
        version: String,
    },
    /// Delete the preview Service, which apps have whose candidates stand beside the stable revision.
    DeletePreview {
        /// The UID it was planned from.
        uid: String,
        /// The version it was planned from.
        version: String,
    },
    /// Make a Deployment from the stored revision.
    CreateDeployment {
        /// The revision.
        revision: Rev,
        /// `spec.replicas`.
        replicas: u32,
    },
    /// Scale or repair a Deployment from the stored revision.
    ApplyDeployment {
        /// The revision.
        revision: Rev,
        /// `spec.replicas`.
        replicas: u32,
        /// The version it was planned from.
        version: String,
    },
    /// Make the Deployment of a worker from the stored revision.
    CreateWorker {
        /// The worker.
        worker: String,
        /// The revision.
        revision: Rev,
        /// `spec.replicas`.
        replicas: u32,
    },
    /// Scale or repair the Deployment of a worker from the stored revision.
    ApplyWorker {
        /// The worker.
        worker: String,
        /// The revision.
        revision: Rev,
        /// `spec.replicas`.
        replicas: u32,
        /// The version it was planned from.
        version: String,
    },
    /// Delete the Deployment of a worker that its revision needs no more.
    DeleteWorker {
        /// The worker.
        worker: String,
        /// The revision.
        revision: Rev,
        /// The UID it was planned from.
        uid: String,
        /// The version it was planned from.
        version: String,
    },
    /// Make a Job of a migration, provided that a live list shows no other migration pod.
    CreateJob {
        /// The revision.
        revision: Rev,
        /// Which one.
        stage: Stage,
        /// The attempt.
        attempt: i64,
    },
    /// Make the Job of a smoke test.
    CreateSmokeJob {
        /// The revision.
        revision: Rev,
        /// The attempt.
        attempt: i64,
        /// What it is made for: `rollout`, `step-2`.
        span: String,
        /// The test.
        test: String,
    },
    /// Delete a migration Job, or that of a smoke test, and its pods.
    DeleteJob {
        /// Its name.
        name: String,
        /// The UID it was planned from.
        uid: String,
        /// The version it was planned from.
        version: String,
    },
    /// Delete the Deployment of a revision that is no longer needed.
    DeleteDeployment {
        /// The revision.
        revision: Rev,
        /// The UID it was planned from.
        uid: String,
        /// The version it was planned from.
        version: String,
    },
    /// Delete a stored revision and its defaults.
    DeleteRevision {
        /// The revision.
        revision: Rev,
        /// The UID it was planned from.
        uid: String,
        /// The version it was planned from.
        version: String,
    },
    /// Store again a revision that somebody deleted, from its live Deployment.
    RebuildRevision {
        /// The revision.
        revision: Rev,
        /// Its contract is known to be done.
        contracted: bool,
    },
}

/// Facts recorded on a stored revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its migration is done, or is not any more.
    pub migrated: Option<bool>,
    /// So many of the Jobs before its migration are done in this attempt.
    pub before: Option<(i64, usize)>,
    /// Its contract is done, or is not any more.
    pub contracted: Option<bool>,
    /// The last attempt in which it was the candidate.
    pub attempt: Option<i64>,
    /// How that attempt ended.
    pub outcome: Option<Outcome>,
    /// Its promotion number.
    pub promotion: Option<i64>,
}

impl Write {
    /// True for a write that takes something away: it must carry the version it was planned from.
    pub const fn takes_away(&self, current: u32) -> bool {
        match self {
            Self::ApplyDeployment { replicas, .. } | Self::ApplyWorker { replicas, .. } => {
                *replicas < current
            }
            Self::DeleteJob { .. }
            | Self::DeleteDeployment { .. }
            | Self::DeleteWorker { .. }
            | Self::DeleteRevision { .. } => true,
            _ => false,
        }
    }
}

/// Decides what to do now.
///
/// `status` is the status as stored; `now` is the present instant.
pub fn plan(goal: &Goal, status: &PhoenixAppStatus, world: &World, now: Timestamp) -> Plan {
    let mut draft = Draft {
        goal,
        world,
        now,
        status: status.clone(),
        writes: Vec::new(),
        wake: None,
        measure: Vec::new(),
        squeezed: None,
        draining: false,
        share: route::Share::default(),
    };
    if goal.deleting {
        return Plan { status: draft.status, writes: Vec::new(), wake: None, measure: Vec::new() };
    }
    let stands_still = world.fault.is_some() || goal.suspend;
    if !stands_still {
        let writes = recover::revisions(&draft);
        if !writes.is_empty() {
            return Plan { status: draft.status, writes, wake: None, measure: Vec::new() };
        }
    }
    draft.status.observed_generation = goal.generation;
    recover::status(&mut draft);
    command::take(&mut draft);
    let found = if stands_still {
        clock::stop(&mut draft);
        report::Found::default()
    } else {
        decide::decide(&mut draft)
    };
    report::report(&mut draft, &found);
    if stands_still {
        draft.writes.clear();
        draft.measure.clear();
    }
    Plan { status: draft.status, writes: draft.writes, wake: draft.wake, measure: draft.measure }
}

/// A plan in the making.
struct Draft<'a> {
    goal: &'a Goal,
    world: &'a World,
    now: Timestamp,
    status: PhoenixAppStatus,
    writes: Vec<Write>,
    wake: Option<Timestamp>,
    measure: Vec<Measurement>,
    /// Why fewer pods are asked for than are wanted: the database has no connections for more.
    squeezed: Option<String>,
    /// The same, but pods are on their way out that hold some.
    draining: bool,
    /// What the HTTPRoute is to do.
    share: route::Share,
}

impl Draft<'_> {
    fn write(&mut self, write: Write) {
        self.writes.push(write);
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |earlier| earlier.min(at)));
    }

    /// The stable revision, once there is one.
    fn stable(&self) -> Option<Rev> {
        self.status.stable.clone()
    }
}
