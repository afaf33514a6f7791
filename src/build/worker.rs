//! Workers: what their pods look like, and their Deployments.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Container, ContainerPort, PodSpec, PodTemplateSpec},
};
use serde::{Deserialize, Serialize};

use super::{
    Effective, Revision, deployment, env, metadata, pod, probes::probe, shutdown, unless_empty,
    volumes::volumes,
};
use crate::api::{
    ClusteringMode, Liveness, Readiness, ShutdownSpec, Startup, ValidatedApp, Worker, WorkerStrategy, labels,
    names,
};

/// A worker as it is stored with its revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredWorker {
    /// Its pods.
    pub template: PodTemplateSpec,
    /// Wanted pods when the revision was made; the spec's count, as long as it names the worker.
    pub replicas: u32,
    /// Strategy when the revision was made; the spec's, as long as it names the worker.
    pub strategy: WorkerStrategy,
}

/// All workers of the spec, as a new revision stores them.
pub(super) fn workers(
    app: &ValidatedApp,
    facts: &env::Facts,
    effective: &Effective,
) -> BTreeMap<String, StoredWorker> {
    let stored = |worker: &Worker| StoredWorker {
        template: template(app, worker, facts, effective),
        replicas: u32::try_from(worker.replicas).unwrap_or_default(),
        strategy: worker.strategy,
    };
    app.spec.workers.iter().map(|worker| (worker.name.clone(), stored(worker))).collect()
}

/// A pod of a worker: a node of the same cluster, of which no web listener is expected.
fn template(
    app: &ValidatedApp,
    worker: &Worker,
    facts: &env::Facts,
    effective: &Effective,
) -> PodTemplateSpec {
    let spec = &app.spec;
    let (volumes, mounts) = volumes(&spec.volumes, true);
    let labels = labels::of_worker_pod(&app.name, &facts.revision, &worker.name, &facts.cluster);
    let own = !worker.command.is_empty() || !worker.args.is_empty();
    let (command, args) =
        if own { (&worker.command, &worker.args) } else { (&spec.release.command, &spec.release.args) };
    // No requests come, so none have to be waited out before it is told to stop.
    let stop = ShutdownSpec { endpoint_lag: crate::api::Duration::from_secs(0), ..spec.shutdown.clone() };
    let container = Container {
        command: unless_empty(command.clone()),
        args: unless_empty(args.clone()),
        env: Some(env::of_worker(app, facts, worker)),
        ports: unless_empty(ports(app)),
        resources: worker.resources.clone().or_else(|| spec.resources.clone()),
        lifecycle: shutdown::pre_stop(&stop),
        ..probed(worker, pod::container(app, facts, mounts))
    };
    PodTemplateSpec {
        metadata: Some(pod::metadata(app, labels)),
        spec: Some(PodSpec {
            containers: vec![container],
            volumes: Some(volumes),
            // At 0 the pod object goes before its processes have, and a second one would start beside them.
            termination_grace_period_seconds: Some(
                i64::from(worker.grace.unwrap_or(spec.shutdown.grace).as_secs()).max(1),
            ),
            topology_spread_constraints: unless_empty(pod::topology_spread(
                app,
                &labels::select_worker(&app.name, &worker.name),
            )),
            automount_service_account_token: Some(spec.clustering.mode == ClusteringMode::KubernetesApi),
            affinity: app.affinity.clone(),
            ..pod::pod(app, effective)
        }),
    }
}

/// Asked as web pods are by default; without `health` not at all.
fn probed(worker: &Worker, container: Container) -> Container {
    let Some(health) = &worker.health else { return container };
    let (path, port) = (health.path.clone(), Some(health.port));
    let startup = Startup { path: path.clone(), port, ..Startup::default() };
    let liveness = Liveness { path: path.clone(), port, ..Liveness::default() };
    let readiness = Readiness { path, port, ..Readiness::default() };
    Container {
        startup_probe: Some(probe((&startup).into(), health.port)),
        liveness_probe: Some(probe((&liveness).into(), health.port)),
        readiness_probe: Some(probe((&readiness).into(), health.port)),
        ..container
    }
}

/// As the web pods', but for the one that requests go to.
fn ports(app: &ValidatedApp) -> Vec<ContainerPort> {
    pod::ports(app).into_iter().filter(|port| port.name.as_deref() != Some("http")).collect()
}

/// The Deployment of a worker in a revision, from its stored template; none when the revision has no such worker.
///
/// As that of the web pods, its own strategy only ever acts on a restart.
pub fn worker_deployment(
    app: &ValidatedApp,
    revision: &Revision,
    worker: &str,
    replicas: u32,
    restarted_at: Option<&str>,
) -> Option<Deployment> {
    let stored = revision.workers.get(worker)?;
    let strategy = app.spec.workers.iter().find(|one| one.name == worker).map(|one| one.strategy);
    let strategy = strategy.unwrap_or(stored.strategy);
    let name = names::worker_deployment(&app.name, worker, &revision.name);
    let selector = labels::select_worker_revision(&app.name, &revision.name, worker);
    let template = deployment::restarted(stored.template.clone(), restarted_at);
    Some(Deployment {
        metadata: metadata(app, name, labels::of_worker(&app.name, &revision.name, worker)),
        spec: Some(deployment::spec(app, selector, template, replicas, strategy == WorkerStrategy::Recreate)),
        status: None,
    })
}

impl StoredWorker {
    /// Rebuilt from a live Deployment of ours, when what stored it is lost.
    pub(super) fn from_deployment(deployment: &Deployment) -> Option<(String, Self)> {
        let worker = deployment.metadata.labels.as_ref()?.get(labels::WORKER)?.clone();
        let spec = deployment.spec.as_ref()?;
        let template = deployment::unmarked(spec.template.clone());
        let kind = spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
        let strategy = match kind {
            Some("Recreate") => WorkerStrategy::Recreate,
            _ => WorkerStrategy::Rolling,
        };
        let replicas = u32::try_from(spec.replicas.unwrap_or(1)).unwrap_or_default().max(1);
        Some((worker, Self { template, replicas, strategy }))
    }
}
