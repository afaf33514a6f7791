//! How many connections the database has for the app: who holds some, and what still fits.
//!
//! A pod holds its connections until it is gone, so pods on their way out count, and so does the pod of a Job. A
//! migration runs before the first new pod, so the two are not added up. Pods of workers hold as many as web pods.

use std::collections::BTreeSet;

use super::replicas::Moves;
use super::world::{Budget, JobObs, JobState, Rev, RevisionObs, WorkerObs, World};
use super::{Draft, Write, migration, strategy};
use crate::api::{Candidate, StrategyKind};

/// The reason when nothing fits any more.
pub(super) const REASON: &str = "DatabaseBudget";

/// Who holds connections at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    /// Pods that are there, or are wanted.
    serving: u32,
    /// Pods of a new revision beside them.
    new: u32,
    /// Pods of workers.
    workers: u32,
    /// Pods of migrations.
    jobs: u32,
    /// Pods of smoke tests.
    tests: u32,
}

impl Load {
    const fn pods(self) -> u32 {
        let Self { serving, new, workers, jobs, tests } = self;
        serving.saturating_add(new).saturating_add(workers).saturating_add(jobs).saturating_add(tests)
    }

    /// The arithmetic, if it is too much.
    fn exceeds(self, budget: Budget) -> Option<String> {
        let Self { serving, new, workers, jobs, tests } = self;
        let per = budget.per_pod;
        if self.pods() <= most(budget) {
            return None;
        }
        let pods = match (serving, new) {
            (0, 0) => None,
            (0, new) => Some(format!("{new} new pods x {per}")),
            (serving, 0) => Some(format!("{serving} serving pods x {per}")),
            (serving, new) => Some(format!("{serving} serving + {new} new pods x {per}")),
        };
        let workers = (workers > 0).then(|| format!("{workers} workers x {per}"));
        let jobs = (jobs > 0).then(|| format!("{jobs} migration x {per}"));
        let tests = (tests > 0).then(|| format!("{tests} smoke test x {per}"));
        let sum = [pods, workers, jobs, tests].into_iter().flatten().collect::<Vec<_>>().join(" + ");
        let total = u64::from(self.pods()) * u64::from(per);
        Some(format!(
            "{sum} = {total} > database.maxConnections {}: raise it, or lower replicas or the connections of a pod",
            budget.max
        ))
    }
}

/// Pods and Jobs that fit at once.
fn most(budget: Budget) -> u32 {
    budget.max / budget.per_pod.max(1)
}

/// Pods of a revision that may exist without another write, those on their way out included, were it to ask for so many.
fn pods(world: &World, rev: &str, asked: u32) -> u32 {
    let living = world.deployments.get(rev).map_or(0, |deployment| deployment.pods);
    let total = world.pods.get(rev).map_or(0, |pods| pods.total);
    total.saturating_sub(living).saturating_add(living.max(asked))
}

/// Pods that may exist, those of Jobs included.
fn load(world: &World) -> Load {
    let serving = world.populated().into_iter().map(|rev| pods(world, rev, world.asked(rev))).sum();
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let runs = |job: &&JobObs| job.state == JobState::Running;
    let jobs = count(world.jobs.iter().filter(runs).count().max(world.migration_pods.len()));
    let tests = count(world.smoke_jobs.iter().map(|test| &test.job).filter(runs).count());
    Load { serving, new: 0, workers: world.worker_pods(), jobs, tests }
}

/// Pods of workers through a rollout: those of the stable revision stay until it is promoted, those that the spec drops
/// too.
fn workers(d: &Draft) -> u32 {
    let stable = d.stable();
    let there = |name: &String| {
        let seen = stable.as_ref().and_then(|stable| d.world.workers.get(&(name.clone(), stable.clone())));
        seen.map_or(0, WorkerObs::asked)
    };
    let known = d.world.workers.keys().map(|(worker, _)| worker);
    let names: BTreeSet<&String> = d.goal.workers.keys().chain(known).collect();
    let wanted = |name: &String| d.goal.workers.get(name).map_or(0, |worker| worker.replicas);
    names.into_iter().map(|name| wanted(name).max(there(name))).fold(0, u32::saturating_add)
}

/// Pods of workers that may still be asked for, beside what this pass asks for already.
pub(super) fn room(d: &Draft) -> u32 {
    let Some(budget) = d.goal.budget else { return u32::MAX };
    let world = d.world;
    let asked = |write: &Write| match write {
        Write::CreateDeployment { revision, replicas }
        | Write::ApplyDeployment { revision, replicas, .. } => {
            let now = pods(world, revision, world.asked(revision));
            pods(world, revision, *replicas).saturating_sub(now)
        }
        Write::CreateWorker { replicas, .. } => *replicas,
        Write::ApplyWorker { worker, revision, replicas, .. } => {
            let seen = world.workers.get(&(worker.clone(), revision.clone()));
            replicas.saturating_sub(seen.map_or(0, WorkerObs::asked))
        }
        Write::CreateJob { .. } | Write::CreateSmokeJob { .. } => 1,
        _ => 0,
    };
    let more: u32 = d.writes.iter().map(asked).sum();
    most(budget).saturating_sub(load(world).pods()).saturating_sub(more)
}

/// Pods above the wanted ones that may be asked for, with `jobs` beside them.
pub(super) fn surge(d: &Draft, jobs: u32) -> u32 {
    let others = workers(d).saturating_add(jobs);
    let room = |budget| most(budget).saturating_sub(d.goal.replicas).saturating_sub(others);
    d.goal.budget.map_or(d.goal.surge, |budget| d.goal.surge.min(room(budget)))
}

/// Cuts raises down to what the database has connections for. Nothing that is there is ever taken for it.
pub(super) fn squeeze(d: &mut Draft, mut moves: Moves) -> Moves {
    let Some(budget) = d.goal.budget else { return moves };
    let world = d.world;
    let present = load(world);
    let mut load = present;
    let mut cut = false;
    for (rev, replicas) in &mut moves.raise {
        let (asked, wanted) = (world.asked(rev), *replicas);
        while *replicas > asked {
            let more = pods(world, rev, *replicas) - pods(world, rev, asked);
            if load.pods() + more <= most(budget) {
                load.new += more;
                break;
            }
            *replicas -= 1;
        }
        cut |= *replicas < wanted;
    }
    moves.raise.retain(|(rev, replicas)| *replicas > world.asked(rev));
    let going = world.populated().into_iter().any(|rev| pods(world, rev, 0) > world.asked(rev));
    d.draining |= cut && going;
    if cut && !going {
        let new = d.goal.replicas.saturating_sub(present.serving).max(1);
        d.squeezed = Load { new, ..present }.exceeds(budget);
    }
    moves
}

/// Whether there will be room for so many more pods of workers once pods on their way out are gone, and for one pod of a
/// next release.
pub(super) fn will_fit(d: &Draft, more: u32) -> bool {
    let Some(budget) = d.goal.budget else { return true };
    let web: u32 = d.world.deployments.keys().map(|rev| d.world.asked(rev)).sum();
    Load { serving: web, new: more.saturating_add(1), ..load(d.world) }.exceeds(budget).is_none()
}

/// Why a migration's Job has to wait.
pub(super) fn no_job(d: &Draft) -> Option<String> {
    let present = load(d.world);
    let why = Load { jobs: present.jobs + 1, ..present }.exceeds(d.goal.budget?)?;
    Some(format!("waits for connections of the database: {why}"))
}

/// Why the Job of one more smoke test has to wait, beside those that this pass makes.
pub(super) fn no_test(d: &Draft) -> Option<String> {
    let present = load(d.world);
    let made = d.writes.iter().filter(|write| matches!(write, Write::CreateSmokeJob { .. })).count();
    let tests = present.tests.saturating_add(u32::try_from(made).unwrap_or(u32::MAX)).saturating_add(1);
    let why = Load { tests, ..present }.exceeds(d.goal.budget?)?;
    Some(format!("the Job of a smoke test waits for connections of the database: {why}"))
}

/// Why a restart, which in each Deployment starts a pod before the one that it replaces stops, cannot begin.
pub(super) fn no_restart(d: &Draft) -> Option<String> {
    let present = load(d.world);
    let stable = d.stable();
    let restarting = |(worker, rev): &&(String, Rev)| {
        let recreate = d.goal.workers.get(worker).is_some_and(|worker| worker.recreate);
        Some(rev) == stable.as_ref() && !recreate
    };
    let with_pods = d.world.workers.iter().filter(|(key, seen)| restarting(key) && seen.asked() > 0).count();
    let new = u32::try_from(with_pods).unwrap_or(u32::MAX).saturating_add(1);
    Load { new, ..present }.exceeds(d.goal.budget?)
}

/// Why no step of a rollout fits, not even the smallest. A rollout that only needs pods to be gone is not blocked.
pub(super) fn blocked(d: &Draft, candidate: &Candidate, revision: &RevisionObs) -> Option<String> {
    let budget = d.goal.budget?;
    let wanted = d.goal.replicas;
    let focus = &candidate.revision;
    if wanted == 0 || d.world.asked(focus) >= wanted {
        return None;
    }
    let workers = workers(d);
    let alone = Load { new: wanted, workers, ..Load::default() }.exceeds(budget);
    let stable = d.stable().filter(|stable| stable != focus && d.world.asked(stable) > 0);
    let (None, Some(stable)) = (&alone, stable) else { return alone };
    let beside = Load { serving: wanted, workers, ..Load::default() };
    if !d.goal.stop_before_migration && migration::is_due(d, revision) {
        let why = Load { jobs: 1, ..beside }.exceeds(budget);
        if why.is_some() {
            return why;
        }
    }
    match candidate.strategy {
        StrategyKind::Recreate => None,
        kind if strategy::stands(kind, candidate.gateway) => Load { new: wanted, ..beside }.exceeds(budget),
        _ => {
            let smallest = Load { new: 1, ..beside }.exceeds(budget);
            // Pods that do not serve make room, and so do those that may be unavailable.
            let full = serving(d, focus, &stable) >= wanted;
            smallest.filter(|_| full && d.goal.unavailable == 0).or_else(|| {
                let least = wanted.saturating_sub(d.goal.unavailable);
                Load { serving: least, new: 1, ..beside }.exceeds(budget).filter(|_| full)
            })
        }
    }
}

fn serving(d: &Draft, focus: &Rev, stable: &Rev) -> u32 {
    let weighed = strategy::before_standing(d);
    let others = d.world.deployments.keys().filter(|rev| weighed || *rev == focus || *rev == stable);
    others.map(|rev| d.world.serving(rev)).sum()
}
