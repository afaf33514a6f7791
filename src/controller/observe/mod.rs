//! From what the caches hold to what the planner looks at. Pure: a function over a [`Snapshot`].

mod jobs;
mod route;
#[cfg(test)]
mod tests;
mod upkeep;
mod workers;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Service},
};

use super::{
    drift::{Drifts, marked, marked_ingress, marked_route},
    pods::{self, Trouble},
    snapshot::{Snapshot, controller},
};
use crate::{
    api::{Outcome, PhoenixApp, RevisionName, ValidatedApp, labels, names},
    build::{self, Revision, Settings},
    plan::{
        DeploymentObs, Fault, PodsObs, PreviewObs, Rev, RevisionObs, SECRET_REGENERATED, Selector,
        ServiceObs, World,
    },
};

pub use jobs::is_migration;

/// After its time to go, a pod that is still there is on a node that does not answer.
const LOST_AFTER: SignedDuration = SignedDuration::from_mins(1);

/// What a snapshot shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// For the planner.
    pub world: World,
    /// When time alone changes what is observed.
    pub wake: Option<Timestamp>,
    /// Pods that were killed because they did not end within their grace, by UID: their names.
    pub killed: BTreeMap<String, String>,
}

/// What is to be seen, whether the spec is valid or not.
pub fn observe(snapshot: &Snapshot, stored: &BTreeMap<RevisionName, Revision>) -> Observed {
    let app = snapshot.app.metadata.name.clone().unwrap_or_default();
    let mut observed = Observed::default();
    let owned_pods = pods_by_revision(snapshot);
    observed.world = World {
        revisions: revisions(snapshot, stored),
        deployments: deployments(snapshot),
        pods: pods_of(snapshot, &owned_pods, &mut observed.wake),
        workers: workers::workers(snapshot, &mut observed.wake),
        endpoints: endpoints(snapshot, &owned_pods, snapshot.active_service()),
        published: endpoints(snapshot, &owned_pods, snapshot.preview_service()),
        service: snapshot.active_service().map(|service| service_obs(&app, service)),
        preview: snapshot.preview_service().filter(|seen| !snapshot.leaving(&seen.metadata)).map(preview_obs),
        gateway_api: snapshot.gateway_api,
        route: snapshot
            .http_route()
            .filter(|seen| !snapshot.leaving(&seen.metadata))
            .map(|seen| route::route_obs(&app, seen)),
        jobs: snapshot.jobs.iter().filter_map(|job| jobs::migration_job(snapshot, job)).collect(),
        migration_pods: jobs::migration_pods(snapshot, &app),
        smoke_jobs: snapshot.jobs.iter().filter_map(|job| jobs::smoke_job(snapshot, job)).collect(),
        addresses: addresses(snapshot, &owned_pods),
        measured: BTreeMap::new(),
        upkeep: BTreeSet::new(),
        secret_posted: None,
        secret_missing: snapshot.pods.iter().any(|pod| {
            !snapshot.leaving(&pod.metadata) && pods::misses_secret(pod, &format!("{app}-generated"))
        }),
        secret_holders: secret_holders(snapshot, &owned_pods),
        fault: None,
        edge: None,
        observing_since: snapshot.since,
    };
    observed.killed = owned_pods
        .values()
        .flatten()
        .copied()
        .chain(snapshot.pods.iter().filter(|pod| workers::is_of_one(pod)))
        .filter(|pod| pods::was_killed(pod))
        .filter_map(|pod| Some((pod.metadata.uid.clone()?, pod.metadata.name.clone()?)))
        .collect();
    observed
}

fn secret_holders(snapshot: &Snapshot, owned: &BTreeMap<Rev, Vec<&Arc<Pod>>>) -> Vec<String> {
    let mut conditions = snapshot.app.status.iter().flat_map(|status| &status.conditions);
    let regenerated = conditions.find(|condition| condition.type_ == SECRET_REGENERATED);
    let since = regenerated.map_or(snapshot.now, |condition| condition.last_transition_time.0);
    let holders =
        owned.values().flatten().copied().chain(snapshot.pods.iter().filter(|pod| workers::is_of_one(pod)));
    let holders = holders.filter(|pod| pods::started_before(pod, since));
    holders.filter_map(|pod| pod.metadata.name.clone()).collect()
}

/// Adds in what differs from what a valid app wants.
pub fn compare(
    world: &mut World,
    snapshot: &Snapshot,
    app: &ValidatedApp,
    stored: &BTreeMap<RevisionName, Revision>,
    settings: &Settings,
    drifts: &mut Drifts,
) {
    world.edge = build::refused_annotations(app, settings)
        .map(|message| Fault { reason: "AnnotationNotAllowed".to_owned(), message });
    if let (Some(service), Some(seen)) = (&mut world.service, snapshot.active_service()) {
        let selector = service_selector(&service.selector);
        service.drifted =
            drifts.differs(&**seen, &selector, || active_service(app, &selector, settings, Some(seen)));
    }
    if let (Some(preview), Some(seen)) = (&mut world.preview, snapshot.preview_service()) {
        let revision = preview.revision.as_ref().and_then(|revision| revision.parse().ok());
        preview.drifted =
            drifts.differs(&**seen, &revision, || marked(build::preview_service(app, revision.as_ref())));
    }
    if let (Some(route), Some(seen)) = (&mut world.route, snapshot.http_route())
        && let Some(desired) = build::http_route(app, route.preview)
    {
        // the weight is compared by itself
        route.drifted = drifts.differs(&**seen, route.preview, || marked_route(desired));
    }
    for (name, revision) in stored {
        let Some(deployment) = world.deployments.get_mut(name.as_str()) else { continue };
        let wanted = names::deployment(&app.name, name);
        let Some(seen) = snapshot.find(&snapshot.deployments, &wanted) else { continue };
        let restarted = restarted_at(seen);
        let replicas = deployment.replicas;
        let of = (name, replicas, restarted.as_deref());
        deployment.drifted =
            drifts.differs(&**seen, of, || build::deployment(app, revision, replicas, restarted.as_deref()));
    }
    workers::compare(world, snapshot, app, stored, drifts);
    world.upkeep = upkeep::upkeep(world, snapshot, app, stored, settings, drifts);
}

/// When a restart was last asked for through the operator; part of every later apply.
pub fn restarted_at(deployment: &Deployment) -> Option<String> {
    let template = deployment.spec.as_ref()?.template.metadata.as_ref()?;
    template.annotations.as_ref()?.get(labels::RESTARTED_AT).cloned()
}

/// When the pods of a Deployment are to be restarted: the later of what was `asked` and what its template says already.
/// The latter stays as it is written, so that no other form of the same instant restarts anything.
pub fn restart(asked: Option<Timestamp>, deployment: Option<&Deployment>) -> Option<String> {
    let noted = deployment.and_then(restarted_at);
    let Some(asked) = asked else { return noted };
    let stands = |noted: &String| noted.parse::<Timestamp>().is_ok_and(|noted| noted >= asked);
    Some(noted.filter(stands).unwrap_or_else(|| asked.to_string()))
}

/// The active Service as it is applied, marked.
pub fn active_service(
    app: &ValidatedApp,
    selector: &build::ServiceSelector,
    settings: &Settings,
    there: Option<&Service>,
) -> Service {
    let service = build::active_service(app, selector);
    marked(build::with_allowed_annotations(service, app, settings, there))
}

/// The planner's word for a selector, as the builders want it. A revision's name that is none selects all.
pub fn service_selector(selector: &Selector) -> build::ServiceSelector {
    match selector {
        Selector::Wide => build::ServiceSelector::Wide,
        Selector::Only(rev) => rev.parse().map_or(build::ServiceSelector::Wide, build::ServiceSelector::Only),
    }
}

fn revisions(snapshot: &Snapshot, stored: &BTreeMap<RevisionName, Revision>) -> BTreeMap<Rev, RevisionObs> {
    let mut revisions = BTreeMap::new();
    for object in snapshot.revisions.iter().filter(|object| snapshot.owns(&object.metadata)) {
        let meta = &object.metadata;
        let Some(name) = snapshot.revision_of(meta) else { continue };
        let Some(revision) = stored.get(&name) else { continue };
        let annotation = |key: &str| meta.annotations.as_ref().and_then(|all| all.get(key));
        let number = |key: &str| annotation(key).and_then(|text| text.parse().ok()).unwrap_or_default();
        let observed = RevisionObs {
            version: meta.resource_version.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            migrated: annotation(labels::MIGRATED).is_some(),
            number: object.revision,
            before_done: annotation(labels::BEFORE).and_then(|text| before_done(text)).unwrap_or_default(),
            contracted: annotation(labels::CONTRACTED).is_some(),
            attempt: number(labels::ATTEMPT),
            outcome: annotation(labels::OUTCOME).and_then(|text| outcome(text)),
            promotion: number(labels::PROMOTION),
            terminating: snapshot.leaving(meta),
            ..unrecorded(&snapshot.app, revision)
        };
        revisions.insert(name.to_string(), observed);
    }
    revisions
}

/// What a revision itself tells, before anything is recorded of it.
pub fn unrecorded(app: &PhoenixApp, revision: &Revision) -> RevisionObs {
    RevisionObs {
        image: image(revision),
        port: port(revision),
        needs_migration: revision.job_template.is_some(),
        migration_key: revision.migration_key.clone(),
        before: revision.before.iter().map(|before| before.name.clone()).collect(),
        has_contract: revision.contract_template.is_some(),
        contract_key: revision.contract_template.as_ref().map(|_| revision.canonical.contract_key()),
        has_rollback: revision.rollback_template.is_some(),
        cluster: workers::cluster(app, revision),
        workers: workers::frozen(revision),
        ..RevisionObs::default()
    }
}

/// `<attempt>/<count>`.
fn before_done(text: &str) -> Option<(i64, usize)> {
    let (attempt, count) = text.split_once('/')?;
    Some((attempt.parse().ok()?, count.parse().ok()?))
}

fn port(revision: &Revision) -> u16 {
    let containers = revision.pod_template.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let http = ports.find(|port| port.name.as_deref() == Some("http"));
    http.and_then(|port| u16::try_from(port.container_port).ok()).unwrap_or_default()
}

fn image(revision: &Revision) -> String {
    let mut containers = revision.pod_template.spec.iter().flat_map(|spec| &spec.containers);
    containers.find_map(|container| container.image.clone()).unwrap_or_default()
}

fn outcome(text: &str) -> Option<Outcome> {
    [Outcome::Promoted, Outcome::Failed, Outcome::Aborted, Outcome::Superseded, Outcome::RolledBack]
        .into_iter()
        .find(|outcome| format!("{outcome:?}") == text)
}

fn deployments(snapshot: &Snapshot) -> BTreeMap<Rev, DeploymentObs> {
    let mut deployments = BTreeMap::new();
    for object in snapshot.deployments.iter().filter(|object| snapshot.owns(&object.metadata)) {
        let meta = &object.metadata;
        let Some(name) = snapshot.revision_of(meta) else { continue };
        deployments.insert(name.to_string(), deployment_obs(snapshot, object));
    }
    deployments
}

fn deployment_obs(snapshot: &Snapshot, object: &Deployment) -> DeploymentObs {
    let (meta, status) = (&object.metadata, object.status.as_ref());
    let count = |value: Option<i32>| u32::try_from(value.unwrap_or_default()).unwrap_or_default();
    let seen = status.and_then(|status| status.observed_generation).unwrap_or_default();
    DeploymentObs {
        version: meta.resource_version.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        // absent means 1, in a Deployment
        replicas: object.spec.as_ref().map_or(0, |spec| count(spec.replicas.or(Some(1)))),
        observed: seen >= meta.generation.unwrap_or_default(),
        pods: count(status.and_then(|status| status.replicas)),
        available: count(status.and_then(|status| status.available_replicas)),
        outdated: status
            .map_or(0, |status| count(status.replicas).saturating_sub(count(status.updated_replicas))),
        terminating: snapshot.leaving(meta),
        drifted: false,
        restarted_at: restarted_at(object).and_then(|text| text.parse().ok()),
    }
}

/// Pods whose `ReplicaSet` belongs to a Deployment of ours, by revision. Others do not count.
fn pods_by_revision(snapshot: &Snapshot) -> BTreeMap<Rev, Vec<&Arc<Pod>>> {
    let deployments: BTreeMap<&str, Rev> = snapshot
        .deployments
        .iter()
        .filter(|object| snapshot.owns(&object.metadata))
        .filter_map(|object| {
            Some((object.metadata.uid.as_deref()?, snapshot.revision_of(&object.metadata)?.to_string()))
        })
        .collect();
    let sets: BTreeMap<&str, &Rev> = snapshot
        .replica_sets
        .iter()
        .filter_map(|set| Some((set.metadata.uid.as_deref()?, deployments.get(controller(&set.metadata)?)?)))
        .collect();
    let mut by_revision: BTreeMap<Rev, Vec<&Arc<Pod>>> = BTreeMap::new();
    for pod in &snapshot.pods {
        let Some(revision) = controller(&pod.metadata).and_then(|owner| sets.get(owner)) else { continue };
        by_revision.entry((*revision).clone()).or_default().push(pod);
    }
    by_revision
}

fn pods_of(
    snapshot: &Snapshot,
    owned: &BTreeMap<Rev, Vec<&Arc<Pod>>>,
    wake: &mut Option<Timestamp>,
) -> BTreeMap<Rev, PodsObs> {
    let mut observed = BTreeMap::new();
    for (revision, pods) in owned {
        let living: Vec<_> = pods.iter().filter(|pod| !pods::is_terminal(pod)).collect();
        let leaving = |pod: &Pod| snapshot.leaving(&pod.metadata);
        let replicas_refused = refused_pods(snapshot, revision);
        let worst = pods
            .iter()
            .filter(|pod| !leaving(pod))
            .filter_map(|pod| pods::trouble(pod, snapshot.quoting()))
            .min();
        let lost_nodes = living.iter().filter_map(|pod| lost(snapshot.now, pod, wake)).collect();
        let observation = PodsObs {
            total: u32::try_from(living.len()).unwrap_or(u32::MAX),
            worst: replicas_refused.or_else(|| worst.as_ref().map(Trouble::to_string)),
            crashing: living.iter().any(|pod| !leaving(pod) && pods::crashes(pod)),
            lost_nodes,
        };
        observed.insert(revision.clone(), observation);
    }
    for object in snapshot.deployments.iter().filter(|object| snapshot.owns(&object.metadata)) {
        let Some(revision) = snapshot.revision_of(&object.metadata) else { continue };
        if let (Some(worst), false) =
            (refused_pods(snapshot, revision.as_str()), observed.contains_key(revision.as_str()))
        {
            observed.insert(revision.to_string(), PodsObs { worst: Some(worst), ..PodsObs::default() });
        }
    }
    observed
}

/// Why a Deployment's pods cannot even be made: a quota, a policy.
fn refused_pods(snapshot: &Snapshot, revision: &str) -> Option<String> {
    let deployment =
        snapshot.deployments.iter().filter(|object| snapshot.owns(&object.metadata)).find(|object| {
            snapshot.revision_of(&object.metadata).is_some_and(|name| name.as_str() == revision)
        })?;
    refused(deployment)
}

fn refused(deployment: &Deployment) -> Option<String> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let failure = conditions.iter().find(|one| one.type_ == "ReplicaFailure" && one.status == "True")?;
    let message = failure.message.as_deref().unwrap_or_default();
    // The name of a pod that was never made differs with each try.
    let message = match (message.strip_prefix("pods \""), message.find("\" ")) {
        (Some(_), Some(end)) => &message[end + 2..],
        _ => message,
    };
    Some(format!("its pods cannot be made: {message}"))
}

/// The node of a pod that should long be gone.
fn lost(now: Timestamp, pod: &Pod, wake: &mut Option<Timestamp>) -> Option<String> {
    let node = pod.spec.as_ref()?.node_name.clone()?;
    let until = pod.metadata.deletion_timestamp.as_ref()?.0.saturating_add(LOST_AFTER).ok()?;
    let unreachable = pod.status.as_ref().and_then(|status| status.reason.as_deref()) == Some("NodeLost");
    if unreachable || now >= until {
        return Some(node);
    }
    *wake = Some(wake.map_or(until, |earlier| earlier.min(until)));
    None
}

/// Where ready pods are that are not on their way out.
fn addresses(snapshot: &Snapshot, owned: &BTreeMap<Rev, Vec<&Arc<Pod>>>) -> BTreeMap<Rev, BTreeSet<String>> {
    let address = |pod: &&&Arc<Pod>| pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    let ready = |pod: &&&Arc<Pod>| !snapshot.leaving(&pod.metadata) && pods::is_ready(pod);
    let of = |pods: &Vec<&Arc<Pod>>| pods.iter().filter(ready).filter_map(|pod| address(&pod)).collect();
    owned.iter().map(|(revision, pods)| (revision.clone(), of(pods))).collect()
}

/// Pods that the EndpointSlices of a Service call ready.
fn endpoints(
    snapshot: &Snapshot,
    owned: &BTreeMap<Rev, Vec<&Arc<Pod>>>,
    service: Option<&Arc<Service>>,
) -> BTreeMap<Rev, u32> {
    let Some(service) = service else { return BTreeMap::new() };
    let uid = service.metadata.uid.as_deref();
    let revision_of: BTreeMap<&str, &Rev> = owned
        .iter()
        .flat_map(|(revision, pods)| pods.iter().map(move |pod| (revision, pod)))
        .filter(|(_, pod)| !snapshot.leaving(&pod.metadata))
        .filter_map(|(revision, pod)| Some((pod.metadata.uid.as_deref()?, revision)))
        .collect();
    let ready: BTreeSet<&str> = snapshot
        .slices
        .iter()
        .filter(|slice| controller(&slice.metadata) == uid)
        .flat_map(|slice| &slice.endpoints)
        .filter(|endpoint| {
            // Absent means ready; a pod on its way out is terminating and not ready.
            endpoint.conditions.as_ref().is_none_or(|conditions| {
                conditions.ready != Some(false) && conditions.terminating != Some(true)
            })
        })
        .filter_map(|endpoint| endpoint.target_ref.as_ref()?.uid.as_deref())
        .collect();
    let mut endpoints = BTreeMap::new();
    for revision in ready.iter().filter_map(|pod| revision_of.get(pod)) {
        *endpoints.entry((*revision).clone()).or_default() += 1;
    }
    endpoints
}

fn preview_obs(service: &Arc<Service>) -> PreviewObs {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let revision = selector.and_then(|selector| selector.get(labels::REVISION)).cloned();
    PreviewObs {
        version: service.metadata.resource_version.clone().unwrap_or_default(),
        uid: service.metadata.uid.clone().unwrap_or_default(),
        revision: revision.filter(|revision| revision != labels::NO_REVISION),
        drifted: false,
    }
}

fn service_obs(app: &str, service: &Service) -> ServiceObs {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
    let ours = selector.get(labels::APP).is_some_and(|name| name == app);
    ServiceObs {
        version: service.metadata.resource_version.clone().unwrap_or_default(),
        selector: match selector.get(labels::REVISION) {
            Some(revision) if ours => Selector::Only(revision.clone()),
            _ => Selector::Wide,
        },
        drifted: false,
    }
}
