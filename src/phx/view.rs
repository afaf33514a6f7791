//! PURE. What `status` and `explain` show: a small picture of an app, made from everything there is of it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde::Serialize;

use crate::{
    api::{CanaryStep, MigrationState, Phase, PhoenixAppStatus, labels},
    build::Revision,
    controller::{
        pods::{condition, is_terminal, trouble},
        snapshot::{Snapshot, controller},
    },
};

/// An app, in one picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The wanted image.
    pub image: String,
    /// The strategy of the spec.
    pub strategy: String,
    /// Wanted pods.
    pub replicas: i32,
    /// Pods that receive requests.
    pub serving: i32,
    /// The operator has seen the present spec.
    pub observed: bool,
    /// Where the app stands; absent until the operator has seen it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// What is waited for.
    pub message: String,
    /// Since when `Ready` is as it is, in seconds before now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_seconds: Option<i64>,
    /// The candidate's attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<AttemptView>,
    /// Revisions that have a part or pods, the candidate first.
    pub revisions: Vec<RevisionView>,
    /// The migration, while there is something to say of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration: Option<MigrationView>,
    /// The conditions, gates and all.
    pub gates: Vec<GateView>,
    /// Seconds since bake began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bake_seconds: Option<i64>,
    /// A person holds the rollout.
    pub paused: bool,
    /// The last command and its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_command: Option<String>,
}

/// A rollout under way, or one that failed and has not been replaced.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AttemptView {
    /// Which one.
    pub number: i64,
    /// Its revision.
    pub revision: String,
    /// Its strategy.
    pub strategy: String,
    /// Its steps.
    pub steps: Vec<StepView>,
    /// How it ended, if it has: the outcome, and the sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Everything is back on the stable revision.
    pub returned: bool,
    /// It ended, and everything stays as it is until a person decides.
    pub held: bool,
}

/// One step of a rollout.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepView {
    /// What it does, in words.
    pub what: String,
    /// `done`, `now` or `later`.
    pub state: StepState,
    /// Seconds since it began, when it is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_seconds: Option<i64>,
}

/// How a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum StepState {
    /// Behind.
    Done,
    /// Under way.
    Now,
    /// Ahead.
    Later,
}

/// One revision and its pods.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionView {
    /// Its name.
    pub name: String,
    /// `candidate`, `stable`, `previous`, `kept`.
    pub parts: Vec<&'static str>,
    /// Its image, as far as it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Pods that are asked for.
    pub asked: i32,
    /// Pods that receive requests.
    pub serving: i32,
    /// Share of all serving pods, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<i32>,
    /// Wanted share, in percent, during a canary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<i32>,
    /// Its pods.
    pub pods: Vec<PodView>,
}

/// One pod.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// Whether it is ready.
    pub ready: bool,
    /// `ready`, `not ready`, `pending`, `going`, `failed`, `succeeded`.
    pub state: &'static str,
    /// The node it is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Seconds since it was made.
    pub age_seconds: i64,
    /// How often its containers were started again.
    pub restarts: i32,
}

/// A migration.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MigrationView {
    /// Its Job, while there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// `running`, `succeeded`, `failed`, `waiting to be tried again`, `being removed`.
    pub state: &'static str,
    /// What is known of a failure.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Exit code of the last failed pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The end of its log.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub log_tail: String,
    /// Its pods.
    pub pods: Vec<PodView>,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GateView {
    /// Its type.
    pub name: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
    /// Its reason.
    pub reason: String,
    /// Its message.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Seconds since its last transition.
    pub since_seconds: i64,
}

impl View {
    /// The worst of what is wrong with pods, those of the candidate first.
    pub fn worst(&self) -> Option<&str> {
        let pods = self.revisions.iter().flat_map(|revision| &revision.pods);
        let migrating = self.migration.iter().flat_map(|migration| &migration.pods);
        migrating.chain(pods).find_map(|pod| pod.trouble.as_deref())
    }
}

/// Draws the picture.
pub fn view(snapshot: &Snapshot) -> View {
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
        revisions: revisions(snapshot, &status),
        migration: migration(snapshot, &status),
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
    match (step.set_weight, step.pause) {
        (Some(weight), _) => format!("set weight {weight} %"),
        (None, Some(pause)) => match pause.duration {
            Some(duration) => format!("pause for {duration}"),
            None => "pause until promoted".to_owned(),
        },
        (None, None) => "a step this version does not know".to_owned(),
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

fn revisions(snapshot: &Snapshot, status: &PhoenixAppStatus) -> Vec<RevisionView> {
    let mut asked: BTreeMap<String, i32> = BTreeMap::new();
    for deployment in snapshot.deployments.iter().filter(|object| snapshot.owns(&object.metadata)) {
        if let Some(name) = snapshot.revision_of(&deployment.metadata) {
            let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            asked.insert(name.to_string(), replicas);
        }
    }
    let mut pods: BTreeMap<String, Vec<&Pod>> = BTreeMap::new();
    for pod in snapshot.pods.iter().filter(|pod| has_label(pod, labels::COMPONENT)) {
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
            asked: asked.get(name).copied().unwrap_or_default(),
            serving: serving(name),
            share: (all > 0).then(|| (serving(name) * 100 + all / 2) / all),
            weight: status
                .candidate
                .as_ref()
                .filter(|candidate| &candidate.revision == name)
                .and_then(|candidate| candidate.weight),
            pods: pod_views(snapshot, pods.get(name).into_iter().flatten().copied()),
        })
        .collect()
}

/// Images by revision: of stored revisions, and of Deployments.
pub fn images(snapshot: &Snapshot) -> BTreeMap<String, String> {
    let of = |spec: Option<&k8s_openapi::api::core::v1::PodSpec>| spec?.containers.first()?.image.clone();
    let stored = snapshot.revisions.iter().filter_map(|object| {
        let revision = Revision::from_controller_revision(object).ok()?;
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

fn migration(snapshot: &Snapshot, status: &PhoenixAppStatus) -> Option<MigrationView> {
    let pods: Vec<&Pod> =
        snapshot.pods.iter().filter(|pod| has_label(pod, labels::MIGRATION)).map(AsRef::as_ref).collect();
    let job = snapshot.jobs.iter().find(|job| snapshot.owns(&job.metadata));
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
        job: job.and_then(|job| job.metadata.name.clone()),
        state,
        message: known.map(|known| known.message.clone()).unwrap_or_default(),
        exit_code: known.and_then(|known| known.exit_code),
        log_tail: known.map(|known| known.log_tail.clone()).unwrap_or_default(),
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
    let mut pods: Vec<&Pod> = snapshot
        .pods
        .iter()
        .filter(|pod| has_label(pod, labels::COMPONENT) && !is_terminal(pod))
        .filter(|pod| revision.is_none_or(|revision| label(pod, labels::REVISION) == revision))
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
