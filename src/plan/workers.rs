//! Workers: pods beside the web pods that take no requests. They are those of the stable revision and of no other: a
//! candidate has none, and a promotion, or a return, moves them in one go.
//!
//! A Rolling worker's new pods come up before the old ones go; of a Recreate worker no two revisions ever have pods at
//! once. Deployments of revisions that are not stable go once their last pod has: a return makes them anew from what is
//! stored.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::world::{Rev, WorkerGoal, WorkerObs};
use super::{Draft, Write, aftermath, budget, clock};
use crate::api::WorkerStatus;

/// The reason when pods of a worker are missing.
pub(super) const NOT_READY: &str = "WorkersNotReady";

/// How the workers of the stable revision stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Standing {
    /// All wanted pods are there, and no older ones.
    #[default]
    Up,
    /// They start for the first time.
    Starting(String),
    /// They do not come up, or were up once.
    NotReady(String),
}

/// Moves the workers to the stable revision, and says how they stand.
pub(super) fn go_on(d: &mut Draft) -> Standing {
    let Some(stable) = d.stable() else {
        // What a lost status does not name stays.
        return Standing::Up;
    };
    let world = d.world;
    if let Some(stored) = world.revisions.get(&stable).filter(|revision| !revision.terminating) {
        let mut names: BTreeSet<&String> = stored.workers.keys().collect();
        names.extend(world.workers.keys().map(|(worker, _)| worker));
        let mut kept = Vec::new();
        for worker in names {
            let wanted = stored.workers.get(worker).map(|frozen| wanted(d, worker, &stable, *frozen));
            switch(d, worker, &stable, wanted);
            kept.extend(wanted.map(|wanted| standing(d, worker, &stable, wanted)));
        }
        d.status.workers = kept;
    }
    judge(d, &stable)
}

/// What a worker is to be: as the spec says; one that the spec does not name any more stays as it is.
fn wanted(d: &Draft, worker: &str, stable: &Rev, frozen: WorkerGoal) -> WorkerGoal {
    let asked = obs(d, worker, stable).map_or(0, WorkerObs::asked);
    d.goal
        .workers
        .get(worker)
        .copied()
        .unwrap_or(WorkerGoal { replicas: if asked > 0 { asked } else { frozen.replicas }, ..frozen })
}

fn obs<'a>(d: &Draft<'a>, worker: &str, revision: &Rev) -> Option<&'a WorkerObs> {
    d.world.workers.get(&(worker.to_owned(), revision.clone()))
}

/// All wanted pods of the revision are available.
fn is_up(d: &Draft, worker: &str, revision: &Rev, replicas: u32) -> bool {
    let deployment = obs(d, worker, revision).and_then(|seen| seen.deployment.as_ref());
    deployment.map_or(replicas == 0, |deployment| {
        !deployment.terminating
            && deployment.observed
            && deployment.replicas == replicas
            && deployment.available >= replicas
    })
}

/// Pods of any worker of revisions that are not stable.
pub(super) fn left(d: &Draft) -> u32 {
    let stable = d.stable();
    let others = d.world.workers.iter().filter(|((_, rev), _)| Some(rev) != stable.as_ref());
    others.map(|(_, seen)| seen.objects().max(seen.asked())).sum()
}

/// Of other revisions: pods that exist or are asked for.
fn older(d: &Draft, worker: &str, stable: &Rev) -> u32 {
    let others = d.world.workers.iter().filter(|((name, rev), _)| name == worker && rev != stable);
    others.map(|(_, seen)| seen.objects().max(seen.asked())).sum()
}

/// The next writes for one worker. None wanted: the stable revision has no such worker.
fn switch(d: &mut Draft, worker: &str, stable: &Rev, wanted: Option<WorkerGoal>) {
    let room = budget::room(d);
    let replaced = wanted.is_none_or(|wanted| {
        let more = wanted.replicas.saturating_sub(obs(d, worker, stable).map_or(0, WorkerObs::asked));
        // Without connections for both, the old ones make room.
        wanted.recreate || !budget::will_fit(d, more) || is_up(d, worker, stable, wanted.replicas)
    });
    let world = d.world;
    for ((name, revision), seen) in &world.workers {
        if name == worker && (revision != stable || wanted.is_none()) {
            retire(d, worker, revision, seen, replaced);
        }
    }
    let Some(wanted) = wanted else { return };
    let seen = obs(d, worker, stable);
    let deployment = seen.and_then(|seen| seen.deployment.as_ref());
    let asked = deployment.map_or(0, |deployment| deployment.replicas);
    // Its own on their way out, too: of a Recreate worker there are never more pods than wanted.
    let going = if asked == 0 { seen.map_or(0, WorkerObs::objects) } else { 0 };
    let waits = wanted.recreate && older(d, worker, stable) + going > 0;
    let affordable = wanted.replicas.min(asked.saturating_add(room));
    let replicas = if waits { asked.min(wanted.replicas) } else { affordable };
    let (worker, revision) = (worker.to_owned(), stable.clone());
    match deployment {
        Some(deployment) if deployment.terminating => {}
        Some(deployment) => {
            let restarting = d.status.restarts.get(&revision).map(|at| at.0);
            let differs = deployment.drifted || restarting > deployment.restarted_at;
            if differs || deployment.replicas != replicas {
                let version = deployment.version.clone();
                d.write(Write::ApplyWorker { worker, revision, replicas, version });
            }
        }
        None if !waits && (replicas > 0 || wanted.replicas == 0) => {
            d.write(Write::CreateWorker { worker, revision, replicas });
        }
        None => {}
    }
}

/// Takes the pods of a revision that is not stable away, once those in their place are `replaced`; such as do not work
/// go at once. Then the Deployment goes.
fn retire(d: &mut Draft, worker: &str, revision: &Rev, seen: &WorkerObs, replaced: bool) {
    let Some(deployment) = seen.deployment.as_ref().filter(|deployment| !deployment.terminating) else {
        return;
    };
    let (worker, revision) = (worker.to_owned(), revision.clone());
    let stored = d.world.revisions.get(&revision).is_some_and(|stored| stored.workers.contains_key(&worker));
    let (uid, version) = (deployment.uid.clone(), deployment.version.clone());
    let works = deployment.available > 0 || !deployment.observed;
    if deployment.replicas > 0 && !replaced && works {
        return;
    }
    if deployment.replicas > 0 && stored {
        d.write(Write::ApplyWorker { worker, revision, replicas: 0, version });
    } else if !stored || (deployment.observed && seen.objects() == 0) {
        // Without what is stored of it, it cannot be applied, only deleted; its pods end as they would.
        d.write(Write::DeleteWorker { worker, revision, uid, version });
    }
}

/// Available pods of the revision, of as many as are wanted.
fn ready(d: &Draft, worker: &str, revision: &Rev, wanted: i32) -> i32 {
    let available = obs(d, worker, revision).map_or(0, WorkerObs::available);
    i32::try_from(available).unwrap_or(i32::MAX).min(wanted)
}

fn standing(d: &Draft, worker: &str, stable: &Rev, wanted: WorkerGoal) -> WorkerStatus {
    let known = d.status.workers.iter().find(|known| known.name == worker && known.revision == *stable);
    let others = d.world.workers.iter().filter(|((name, rev), _)| name == worker && rev != stable);
    let alone = others.into_iter().all(|(_, seen)| seen.asked() == 0);
    let up = is_up(d, worker, stable, wanted.replicas) && alone;
    // Nothing starts while its first pod may not even be asked for: older ones work on, or connections are missing.
    let begins = d.writes.iter().any(|write| match write {
        Write::CreateWorker { worker: name, revision, replicas }
        | Write::ApplyWorker { worker: name, revision, replicas, .. } => {
            name == worker && revision == stable && *replicas > 0
        }
        _ => false,
    });
    let asked = obs(d, worker, stable).map_or(0, WorkerObs::asked);
    let known = known.filter(|_| asked > 0 || !begins);
    let since = known.map_or_else(|| Some(Time(d.now)), |known| known.starting_since.clone());
    let replicas = i32::try_from(wanted.replicas).unwrap_or(i32::MAX);
    WorkerStatus {
        name: worker.to_owned(),
        revision: stable.clone(),
        replicas,
        ready: ready(d, worker, stable, replicas),
        starting_since: since.filter(|_| !up),
    }
}

/// From what the status says, which is that of an earlier pass while the stable revision is not stored.
fn judge(d: &mut Draft, stable: &Rev) -> Standing {
    let mut starting = None;
    for worker in d.status.workers.clone() {
        if worker.ready >= worker.replicas && worker.starting_since.is_none() {
            continue;
        }
        let message = sentence(d, &worker, stable);
        if worker.starting_since.is_none() || is_broken(d, &worker, stable) {
            return Standing::NotReady(message);
        }
        starting.get_or_insert(message);
    }
    starting.map_or(Standing::Up, Standing::Starting)
}

fn sentence(d: &Draft, worker: &WorkerStatus, stable: &Rev) -> String {
    let WorkerStatus { name, ready, replicas, .. } = worker;
    let older = older(d, name, stable);
    let waits = if older > 0 { format!("; {older} older ones are there") } else { String::new() };
    let lost: BTreeSet<&str> = d
        .world
        .workers
        .iter()
        .filter(|((other, _), _)| other == name)
        .flat_map(|(_, seen)| seen.lost_nodes.iter().map(String::as_str))
        .collect();
    let lost = if lost.is_empty() {
        String::new()
    } else {
        let nodes = lost.into_iter().collect::<Vec<_>>().join(", ");
        format!(
            "; node {nodes} does not answer: bring it back, or delete the Node object if it is gone for good"
        )
    };
    let worst = obs(d, name, stable).and_then(|seen| seen.worst.as_ref());
    let worst = worst.map_or_else(String::new, |why| format!("; {why}"));
    let full = if ready < replicas && budget::room(d) == 0 {
        "; database.maxConnections leaves no room for more: raise it, or lower replicas or the connections of a pod"
    } else {
        ""
    };
    format!(
        "{ready} of {replicas} pods of worker {name} of revision {stable} are ready{waits}{lost}{worst}{full}"
    )
}

/// Its pods crash, or did not come up in time.
fn is_broken(d: &mut Draft, worker: &WorkerStatus, stable: &Rev) -> bool {
    if obs(d, &worker.name, stable).is_some_and(|seen| seen.crashing) {
        return true;
    }
    if obs(d, &worker.name, stable).map_or(0, WorkerObs::asked) == 0 {
        return false;
    }
    let deadline = d.goal.progress_deadline;
    worker.starting_since.as_ref().is_some_and(|since| clock::passed(d, since.0, deadline))
}

/// During a bake: why the workers of the stable revision call for a return.
pub(super) fn fail_the_bake(d: &mut Draft) -> Option<String> {
    let stable = d.stable()?;
    if !aftermath::bakes(d) {
        return None;
    }
    for mut worker in d.status.workers.clone() {
        if worker.revision == stable && is_broken(d, &worker, &stable) {
            // The status has what an earlier pass counted.
            worker.ready = ready(d, &worker.name, &stable, worker.replicas);
            return Some(sentence(d, &worker, &stable));
        }
    }
    None
}
