//! PURE. Draws the picture of an app from everything there is of it.

use std::collections::{BTreeMap, BTreeSet};

use super::gather::Unread;
pub use super::picture::{
    AttemptView, FollowUpView, GateView, MigrationView, PodView, RevisionView, StepState, StepView, View,
    WorkerView,
};
use crate::{
    api::{CanaryStep, FollowUpState, MigrationState, PhoenixAppStatus, RevisionName, Stage, labels, names},
    build::Revision,
    controller::{
        pods::{condition, is_terminal, trouble},
        snapshot::{Snapshot, controller},
    },
};
use jiff::Timestamp;
use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

/// Draws the picture, when everything was read.
#[cfg(test)]
pub fn view(snapshot: &Snapshot) -> View {
    view_without(snapshot, &[])
}

/// Draws the picture. Of kinds that were not read it says nothing.
pub fn view_without(snapshot: &Snapshot, unread: &[Unread]) -> View {
    let app = &snapshot.app;
    let status = app.status.clone().unwrap_or_default();
    let now = snapshot.now;
    let generation = app.metadata.generation.unwrap_or_default();
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
    View {
        name: app.metadata.name.clone().unwrap_or_default(),
        namespace: app.metadata.namespace.clone().unwrap_or_default(),
        image: app.spec.image.clone(),
        strategy: app.spec.strategy.kind.as_str().to_owned(),
        replicas: app.spec.replicas,
        serving: status.ready_replicas,
        observed: status.observed_generation >= generation,
        phase: status.phase,
        message: status.message.clone(),
        since_seconds: ready.map(|ready| seconds(ready.last_transition_time.0, now)),
        attempt: attempt(&status, now),
        revisions: revisions(snapshot, &status, unread),
        workers: workers(snapshot),
        unread: unread.iter().map(Unread::to_string).collect(),
        migration: migration(snapshot, &status),
        follow_up: follow_up(snapshot, &status),
        gates: status
            .conditions
            .iter()
            .map(|condition| GateView {
                name: condition.type_.clone(),
                status: condition.status.clone(),
                reason: condition.reason.clone(),
                message: condition.message.clone(),
                since_seconds: seconds(condition.last_transition_time.0, now),
            })
            .collect(),
        bake_seconds: status.bake.as_ref().map(|bake| seconds(bake.since.0, now)),
        contracted: status.rollback_safe == Some(false),
        paused: status.paused,
        last_command: status
            .last_command
            .as_ref()
            .map(|last| format!("{}: {:?}, {}", last.text, last.answer, last.message)),
    }
}

/// Seconds from one instant to another; never negative.
pub fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    to.duration_since(from).as_secs().max(0)
}

/// A step in words.
pub fn step(step: &CanaryStep) -> String {
    let which = |names: &[String]| if names.is_empty() { "all".to_owned() } else { names.join(", ") };
    let CanaryStep { set_weight, pause, analysis, smoke_test } = step;
    if let Some(weight) = set_weight {
        format!("set weight {weight} %")
    } else if let Some(pause) = pause {
        match pause.duration {
            Some(duration) => format!("pause for {duration}"),
            None => "pause until promoted".to_owned(),
        }
    } else if let Some(analysis) = analysis {
        let at_least = analysis.duration.map_or_else(String::new, |duration| format!(" for {duration}"));
        format!("analysis{at_least}: {}", which(&analysis.names))
    } else if let Some(smoke_test) = smoke_test {
        format!("smoke tests: {}", which(&smoke_test.names))
    } else {
        "a step this version does not know".to_owned()
    }
}

fn attempt(status: &PhoenixAppStatus, now: Timestamp) -> Option<AttemptView> {
    let candidate = status.candidate.as_ref()?;
    let at = usize::try_from(candidate.step).unwrap_or_default();
    let over = candidate.verdict.is_some();
    let steps = candidate.steps.iter().enumerate().map(|(index, one)| {
        let state = match index.cmp(&at) {
            std::cmp::Ordering::Less => StepState::Done,
            std::cmp::Ordering::Equal if !over => StepState::Now,
            _ => StepState::Later,
        };
        let since = candidate.step_since.as_ref().filter(|_| state == StepState::Now);
        StepView { what: step(one), state, since_seconds: since.map(|since| seconds(since.0, now)) }
    });
    Some(AttemptView {
        number: candidate.attempt,
        revision: candidate.revision.clone(),
        strategy: candidate.strategy.as_str().to_owned(),
        steps: steps.collect(),
        ended: candidate
            .verdict
            .as_ref()
            .map(|verdict| format!("{:?}: {}", verdict.outcome, verdict.message)),
        returned: candidate.verdict.as_ref().is_some_and(|verdict| verdict.returned),
        held: candidate.verdict.as_ref().is_some_and(|verdict| verdict.held),
    })
}

fn revisions(snapshot: &Snapshot, status: &PhoenixAppStatus, unread: &[Unread]) -> Vec<RevisionView> {
    let read = |kinds: &[&str]| !unread.iter().any(|one| kinds.contains(&one.kind.as_str()));
    let (sizes_read, serving_read) = (read(&["Deployment"]), read(&["Pod", "Service", "EndpointSlice"]));
    let mut asked: BTreeMap<String, i32> = BTreeMap::new();
    for deployment in snapshot.deployments.iter().filter(|object| snapshot.owns(&object.metadata)) {
        if let Some(name) = snapshot.revision_of(&deployment.metadata) {
            let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            asked.insert(name.to_string(), replicas);
        }
    }
    let mut pods: BTreeMap<String, Vec<&Pod>> = BTreeMap::new();
    for pod in snapshot.pods.iter().filter(|pod| label(pod, labels::COMPONENT) == labels::WEB) {
        pods.entry(label(pod, labels::REVISION)).or_default().push(pod);
    }
    let published = published(snapshot);
    let serving = |name: &str| {
        let pods = pods.get(name).into_iter().flatten();
        let uids = pods.filter_map(|pod| pod.metadata.uid.as_deref());
        i32::try_from(uids.filter(|uid| published.contains(uid)).count()).unwrap_or(i32::MAX)
    };
    let images = images(snapshot);
    let candidate = status.candidate.as_ref().map(|candidate| candidate.revision.clone());
    let mut names: Vec<String> =
        [&candidate, &status.stable, &status.previous].into_iter().flatten().cloned().collect();
    names.extend(asked.iter().filter(|(_, replicas)| **replicas > 0).map(|(name, _)| name.clone()));
    names.extend(pods.keys().cloned());
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    let all: i32 = names.iter().map(|name| serving(name)).sum();
    // What the gateways have taken, while they split the requests.
    let taken = status.route.as_ref().map_or(0, |route| route.weight);
    let routed = status.candidate.as_ref().is_some_and(|candidate| candidate.gateway) && taken > 0;
    let weight = |name: &str| {
        let is = |other: &Option<String>| other.as_deref() == Some(name);
        match (routed, is(&candidate), is(&status.stable)) {
            (true, true, _) => Some(taken),
            (true, _, true) => Some(100 - taken),
            (false, true, _) => status.candidate.as_ref()?.weight,
            _ => None,
        }
    };
    let part = |name: &str| {
        let is = |other: &Option<String>| other.as_deref() == Some(name);
        let parts = [
            ("candidate", is(&candidate)),
            ("stable", is(&status.stable)),
            ("previous", is(&status.previous)),
            ("kept", is(&status.previous) && status.kept.is_some()),
        ];
        parts.into_iter().filter(|(_, is)| *is).map(|(part, _)| part).collect()
    };
    names
        .iter()
        .map(|name| RevisionView {
            name: name.clone(),
            parts: part(name),
            image: images.get(name).cloned(),
            asked: sizes_read.then(|| asked.get(name).copied().unwrap_or_default()),
            serving: serving_read.then(|| serving(name)),
            share: (all > 0 && !routed).then(|| (serving(name) * 100 + all / 2) / all),
            weight: weight(name),
            pods: pod_views(snapshot, pods.get(name).into_iter().flatten().copied()),
        })
        .collect()
}

/// Workers that have pods or are to have some, by name.
fn workers(snapshot: &Snapshot) -> Vec<WorkerView> {
    let mut workers = Vec::new();
    for deployment in snapshot.deployments.iter().filter(|object| snapshot.owns(&object.metadata)) {
        let Some((name, revision)) = snapshot.worker_of(&deployment.metadata) else { continue };
        let of_it = |pod: &&std::sync::Arc<Pod>| {
            label(pod, labels::WORKER) == name && label(pod, labels::REVISION) == revision.as_str()
        };
        let pods = pod_views(snapshot, snapshot.pods.iter().filter(of_it).map(AsRef::as_ref));
        let asked = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        if asked > 0 || !pods.is_empty() {
            let ready = deployment.status.as_ref().and_then(|status| status.available_replicas);
            workers.push(WorkerView {
                name,
                revision: revision.to_string(),
                asked,
                ready: ready.unwrap_or_default(),
                pods,
            });
        }
    }
    workers.sort_by(|one, other| (&one.name, &one.revision).cmp(&(&other.name, &other.revision)));
    workers
}

/// Images by revision: of stored revisions, and of Deployments.
pub fn images(snapshot: &Snapshot) -> BTreeMap<String, String> {
    let of = |spec: Option<&k8s_openapi::api::core::v1::PodSpec>| spec?.containers.first()?.image.clone();
    let stored = snapshot.revisions.iter().filter_map(|object| {
        let revision = Revision::from_stored(object).ok()?;
        Some((revision.name.to_string(), of(revision.pod_template.spec.as_ref())?))
    });
    let deployed = snapshot.deployments.iter().filter_map(|object| {
        let name = snapshot.revision_of(&object.metadata)?;
        Some((name.to_string(), of(object.spec.as_ref()?.template.spec.as_ref())?))
    });
    deployed.chain(stored).collect()
}

/// UIDs of the pods that the active Service's endpoints call ready.
fn published(snapshot: &Snapshot) -> BTreeSet<&str> {
    let service = snapshot.active_service().and_then(|service| service.metadata.uid.as_deref());
    snapshot
        .slices
        .iter()
        .filter(|slice| service.is_some() && controller(&slice.metadata) == service)
        .flat_map(|slice| &slice.endpoints)
        .filter(|endpoint| {
            endpoint.conditions.as_ref().is_none_or(|conditions| {
                conditions.ready != Some(false) && conditions.terminating != Some(true)
            })
        })
        .filter_map(|endpoint| endpoint.target_ref.as_ref()?.uid.as_deref())
        .collect()
}

/// The stage that a Job of migrations is of.
fn stage_of(meta: &ObjectMeta) -> Stage {
    let annotation = meta.annotations.as_ref().and_then(|all| all.get(labels::STAGE));
    Stage::of(annotation.map(String::as_str))
}

/// Jobs of migrations of these stages, and pods of such Jobs, the Job gone or not.
fn jobs_of(snapshot: &Snapshot, wanted: impl Fn(Stage) -> bool) -> (Option<&Job>, Vec<&Pod>) {
    let job = snapshot
        .jobs
        .iter()
        .filter(|job| snapshot.owns(&job.metadata))
        .find(|job| wanted(stage_of(&job.metadata)));
    // Only its Job's annotation names a pod's stage; that Job's name does, too.
    let stage = |pod: &Pod| names::stage_of_job(&label(pod, labels::JOB_NAME));
    let pods = snapshot.pods.iter().filter(|pod| has_label(pod, labels::MIGRATION));
    (job.map(AsRef::as_ref), pods.map(AsRef::as_ref).filter(|pod| wanted(stage(pod))).collect())
}

fn migration(snapshot: &Snapshot, status: &PhoenixAppStatus) -> Option<MigrationView> {
    let (job, pods) = jobs_of(snapshot, Stage::gates);
    let known = status.migration.as_ref();
    if job.is_none() && known.is_none() && pods.is_empty() {
        return None;
    }
    let ended = |kind: &str| {
        let conditions = job.and_then(|job| job.status.as_ref()?.conditions.as_ref());
        conditions.into_iter().flatten().any(|one| one.type_ == kind && one.status == "True")
    };
    let state = match known.map(|known| known.state) {
        Some(MigrationState::Failed) => "failed",
        Some(MigrationState::WaitingToRetry) => "waiting to be tried again",
        Some(MigrationState::Ending) => "being removed",
        None if ended("Complete") => "succeeded",
        None if ended("Failed") => "failed",
        None => "running",
    };
    Some(MigrationView {
        what: job.map_or_else(|| "migration".to_owned(), |job| stage_words(snapshot, &job.metadata)),
        job: job.and_then(|job| job.metadata.name.clone()),
        state,
        message: known.map(|known| known.message.clone()).unwrap_or_default(),
        exit_code: known.and_then(|known| known.exit_code),
        log_tail: known.map(|known| known.log_tail.clone()).unwrap_or_default(),
        pods: pod_views(snapshot, pods.into_iter()),
    })
}

/// What a Job before a rollout does; one before the migration is named as the revision that it is of names it.
fn stage_words(snapshot: &Snapshot, meta: &ObjectMeta) -> String {
    let Stage::Before(index) = stage_of(meta) else { return "migration".to_owned() };
    let revision = meta.labels.as_ref().and_then(|all| all.get(labels::REVISION)?.parse().ok());
    let named = revision.and_then(|revision: RevisionName| {
        let (mut stored, _) = snapshot.stored();
        Some(stored.remove(&revision)?.before.get(index)?.name.clone())
    });
    format!("step {} before the migration", named.unwrap_or_else(|| (index + 1).to_string()))
}

fn follow_up(snapshot: &Snapshot, status: &PhoenixAppStatus) -> Option<FollowUpView> {
    let known = status.follow_up.as_ref()?;
    let (job, pods) = jobs_of(snapshot, |stage| stage == known.kind.stage());
    let at = known.retry_at.as_ref().filter(|_| known.state == FollowUpState::WaitingToRetry);
    Some(FollowUpView {
        kind: known.kind,
        revision: known.revision.clone(),
        state: known.state,
        reason: known.reason.clone(),
        message: known.message.clone(),
        log_tail: known.log_tail.clone(),
        retry_seconds: at.map(|at| seconds(snapshot.now, at.0)),
        job: job.and_then(|job| job.metadata.name.clone()),
        pods: pod_views(snapshot, pods.into_iter()),
    })
}

fn pod_views<'a>(snapshot: &Snapshot, pods: impl Iterator<Item = &'a Pod>) -> Vec<PodView> {
    let mut views: Vec<PodView> = pods.map(|pod| pod_view(snapshot, pod)).collect();
    views.sort_by(|one, other| one.name.cmp(&other.name));
    views
}

fn pod_view(snapshot: &Snapshot, pod: &Pod) -> PodView {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let going = pod.metadata.deletion_timestamp.is_some();
    let ready = !going && condition(pod, "Ready").is_some_and(|ready| ready.status == "True");
    let state = match phase {
        _ if going => "going",
        _ if ready => "ready",
        "Succeeded" => "succeeded",
        "Failed" => "failed",
        "Pending" => "pending",
        _ => "not ready",
    };
    let trouble = (!going && phase != "Succeeded").then(|| trouble(pod, snapshot.quoting())).flatten();
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    PodView {
        name: pod.metadata.name.clone().unwrap_or_default(),
        ready,
        state,
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        trouble: trouble.map(|trouble| trouble.to_string()),
        age_seconds: pod.metadata.creation_timestamp.as_ref().map_or(0, |made| seconds(made.0, snapshot.now)),
        restarts: statuses.into_iter().flatten().map(|status| status.restart_count).sum(),
    }
}

/// Ready pods of a revision that serve and are not going.
pub fn ready_pods<'a>(snapshot: &'a Snapshot, revision: Option<&str>) -> Vec<&'a Pod> {
    let mut pods = ready_nodes(snapshot);
    pods.retain(|pod| label(pod, labels::COMPONENT) == labels::WEB);
    pods.retain(|pod| revision.is_none_or(|revision| label(pod, labels::REVISION) == revision));
    pods
}

/// Ready pods that are not going, those of workers included.
pub fn ready_nodes(snapshot: &Snapshot) -> Vec<&Pod> {
    let mut pods: Vec<&Pod> = snapshot
        .pods
        .iter()
        .filter(|pod| has_label(pod, labels::COMPONENT) && !is_terminal(pod))
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter(|pod| condition(pod, "Ready").is_some_and(|ready| ready.status == "True"))
        .map(AsRef::as_ref)
        .collect();
    pods.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
    pods
}

/// Value of a pod's label; empty without it.
pub fn label(pod: &Pod, key: &str) -> String {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(key)).cloned().unwrap_or_default()
}

fn has_label(pod: &Pod, key: &str) -> bool {
    pod.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_step_has_words() {
        for (given, words) in [
            (r#"{"setWeight": 10}"#, "set weight 10 %"),
            (r#"{"pause": {}}"#, "pause until promoted"),
            (r#"{"pause": {"duration": "5m"}}"#, "pause for 5m"),
            (r#"{"analysis": {"names": ["errors"], "duration": "10m"}}"#, "analysis for 10m: errors"),
            (r#"{"analysis": {}}"#, "analysis: all"),
            (r#"{"smokeTest": {"names": ["home", "login"]}}"#, "smoke tests: home, login"),
        ] {
            assert_eq!(step(&serde_json::from_str(given).unwrap()), words);
        }
    }
}
