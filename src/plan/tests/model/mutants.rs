//! The planner, broken on purpose.

use jiff::Timestamp;

use super::Mutant;
use crate::api::{FollowUpKind, PhoenixAppStatus, Stage};
use crate::plan::{Goal, Plan, Selector, World, Write, plan};

/// The planner, or the mutant in its place.
pub(super) fn ask(mutant: Mutant, goal: &Goal, status: &PhoenixAppStatus, world: &World) -> Plan {
    let now = Timestamp::UNIX_EPOCH;
    let (mut status, mut world) = (status.clone(), world.clone());
    deceive(mutant, &mut status, &mut world);
    let mut goal = goal.clone();
    if mutant == Mutant::SkipsPauses {
        goal.steps.retain(|step| step.pause.is_none());
    }
    let before = status.clone();
    let mut plan = plan(&goal, &status, &world, now);
    match mutant {
        Mutant::EagerSelector => {
            if let Some(candidate) = &plan.status.candidate {
                for write in &mut plan.writes {
                    if let Write::ApplyService { selector, .. } = write {
                        *selector = Selector::Only(candidate.revision.clone());
                    }
                }
            }
        }
        Mutant::EagerContract => {
            let free = world.jobs.is_empty() && world.migration_pods.is_empty();
            if let (Some(stable), None, true) = (&plan.status.stable, &plan.status.candidate, free)
                && world.revisions.get(stable).is_some_and(|revision| !revision.contracted)
            {
                let (revision, attempt) = (stable.clone(), plan.status.attempt);
                plan.writes.push(Write::CreateJob { revision, stage: Stage::Contract, attempt });
            }
        }
        Mutant::PromotesSuperseded => {
            let (old, new) = (&before.candidate, &plan.status.candidate);
            if let (Some(old), Some(new)) = (old, new)
                && old.revision != new.revision
            {
                plan.status.stable = Some(old.revision.clone());
            }
        }
        Mutant::IgnoresWeights => {
            let candidate = plan.status.candidate.as_ref().map(|candidate| candidate.revision.clone());
            for write in &mut plan.writes {
                if let Write::CreateDeployment { revision, replicas }
                | Write::ApplyDeployment { revision, replicas, .. } = write
                    && Some(&*revision) == candidate.as_ref()
                {
                    *replicas = goal.replicas + goal.surge;
                }
            }
        }
        Mutant::KeepsBrokenStable => {
            plan.writes.retain(|write| match write {
                Write::ApplyDeployment { revision, replicas, .. } => {
                    let unavailable = world.asked(revision) > 0 && world.serving(revision) == 0;
                    !(status.stable.as_ref() == Some(revision)
                        && unavailable
                        && *replicas < world.asked(revision))
                }
                _ => true,
            });
        }
        _ => {}
    }
    plan
}

/// What the mutant takes for the truth.
fn deceive(mutant: Mutant, status: &mut PhoenixAppStatus, world: &mut World) {
    match mutant {
        Mutant::CountsAskedPods => {
            for (name, deployment) in &mut world.deployments {
                world.endpoints.insert(name.clone(), deployment.replicas);
                deployment.available = deployment.replicas;
            }
        }
        Mutant::SkipsMigration => {
            for revision in world.revisions.values_mut() {
                revision.migrated = true;
            }
        }
        Mutant::SkipsBefore => {
            for revision in world.revisions.values_mut() {
                revision.before.clear();
            }
        }
        Mutant::KeepsRecord => {
            if let Some(follow_up) = &status.follow_up
                && follow_up.kind == FollowUpKind::Rollback
                && let Some(revision) = world.revisions.get_mut(&follow_up.revision)
            {
                (revision.migrated, revision.contracted) = (false, false);
            }
        }
        Mutant::IgnoresLag => {
            if let Some(route) = status.route.as_mut() {
                route.since.0 = Timestamp::from_second(-1_000_000).expect("an instant");
            }
        }
        Mutant::WeighsBlindly => {
            for (name, published) in &mut world.published {
                *published = world.deployments.get(name).map_or(0, |deployment| deployment.replicas);
            }
        }
        Mutant::ForgetsAbort => {
            if let Some(candidate) = status.candidate.as_mut() {
                candidate.verdict = None;
            }
        }
        _ => {}
    }
}
