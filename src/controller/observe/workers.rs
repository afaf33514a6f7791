//! Workers: their Deployments and their pods.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::{Drifts, Snapshot, deployment_obs, lost, refused, restarted_at};
use crate::{
    api::{PhoenixApp, RevisionName, ValidatedApp, WorkerStrategy, labels, names},
    build::{self, Revision},
    controller::pods::{self, Trouble},
    plan::{Rev, WorkerGoal, WorkerObs, World},
};

/// By worker and revision.
type Workers = BTreeMap<(String, Rev), WorkerObs>;

/// What is there of workers. Their pods count by their labels, whatever made them: of a Recreate worker no other pod may
/// start while one is there whose Deployment is gone.
pub(super) fn workers(snapshot: &Snapshot, wake: &mut Option<Timestamp>) -> Workers {
    let mut workers = Workers::new();
    for object in snapshot.deployments.iter().filter(|object| snapshot.owns(&object.metadata)) {
        let Some((worker, revision)) = snapshot.worker_of(&object.metadata) else { continue };
        let seen = workers.entry((worker, revision.to_string())).or_default();
        seen.deployment = Some(deployment_obs(snapshot, object));
        seen.worst = refused(object);
    }
    let mut worst: BTreeMap<(String, Rev), Trouble> = BTreeMap::new();
    for pod in snapshot.pods.iter().filter(|pod| is_of_one(pod) && !pods::is_terminal(pod)) {
        let key = (label(pod, labels::WORKER), label(pod, labels::REVISION));
        let seen = workers.entry(key.clone()).or_default();
        seen.total += 1;
        seen.lost_nodes.extend(lost(snapshot.now, pod, wake));
        if snapshot.leaving(&pod.metadata) {
            continue;
        }
        if pods::is_ready(pod) {
            seen.addresses.extend(pod.status.as_ref().and_then(|status| status.pod_ip.clone()));
        }
        seen.crashing |= pods::crashes(pod);
        if let Some(trouble) = pods::trouble(pod, snapshot.quoting())
            && worst.get(&key).is_none_or(|known| trouble < *known)
        {
            worst.insert(key, trouble);
        }
    }
    for (key, trouble) in worst {
        workers.entry(key).or_default().worst.get_or_insert_with(|| trouble.to_string());
    }
    workers
}

/// A pod of a worker.
pub(super) fn is_of_one(pod: &Arc<Pod>) -> bool {
    label(pod, labels::COMPONENT) == labels::WORKER_COMPONENT
}

fn label(pod: &Pod, key: &str) -> String {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(key)).cloned().unwrap_or_default()
}

/// What a stored revision says of its workers.
pub(super) fn frozen(revision: &Revision) -> BTreeMap<String, WorkerGoal> {
    let goal = |worker: &build::StoredWorker| WorkerGoal {
        replicas: worker.replicas,
        recreate: worker.strategy == WorkerStrategy::Recreate,
    };
    revision.workers.iter().map(|(name, worker)| (name.clone(), goal(worker))).collect()
}

/// The Erlang cluster that a revision's nodes are in; none when they stay alone.
pub(super) fn cluster(app: &PhoenixApp, revision: &Revision) -> Option<String> {
    let app = app.metadata.name.as_deref()?.parse().ok()?;
    let isolated = revision.isolated().map(|revision| &revision.name);
    revision.canonical.clustering().mode.connects().then(|| names::cluster(&app, isolated))
}

/// Notes which Deployments differ from what they should be.
pub(super) fn compare(
    world: &mut World,
    snapshot: &Snapshot,
    app: &ValidatedApp,
    stored: &BTreeMap<RevisionName, Revision>,
    drifts: &mut Drifts,
) {
    for ((worker, rev), seen) in &mut world.workers {
        let Some(deployment) = seen.deployment.as_mut() else { continue };
        let revision = rev.parse::<RevisionName>().ok().and_then(|name| stored.get(&name));
        let Some(revision) = revision else { continue };
        let name = names::worker_deployment(&app.name, worker, &revision.name);
        let Some(there) = snapshot.find(&snapshot.deployments, &name) else { continue };
        let restarted = restarted_at(there);
        let replicas = deployment.replicas;
        let desired = || build::worker_deployment(app, revision, worker, replicas, restarted.as_deref());
        let of = (rev, replicas, restarted.as_deref());
        // One that its revision does not have is as it should be: the planner deletes it.
        deployment.drifted = drifts.differs(&**there, of, || desired().unwrap_or_else(|| (**there).clone()));
    }
}
