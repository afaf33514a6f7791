//! Jobs of migrations and smoke tests, and their pods.

use std::sync::Arc;

use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    api::{Stage, labels},
    controller::{
        events::tail,
        pods::{self, Trouble},
        snapshot::{Snapshot, controller},
    },
    plan::{JobFailure, JobObs, JobState, MigrationPod, SmokeJobObs},
};

/// Longest end of a migration's log that is kept, in bytes.
const LOG_TAIL: usize = 2048;

/// How a migration Job of ours stands.
pub(super) fn migration_job(snapshot: &Snapshot, job: &Job) -> Option<JobObs> {
    label(&job.metadata, labels::MIGRATION)?;
    job_obs(snapshot, job)
}

/// How a Job of ours stands that is a smoke test.
pub(super) fn smoke_job(snapshot: &Snapshot, job: &Job) -> Option<SmokeJobObs> {
    label(&job.metadata, labels::SMOKE)?;
    let annotation = |key: &str| job.metadata.annotations.as_ref().and_then(|all| all.get(key)).cloned();
    Some(SmokeJobObs {
        test: annotation(labels::SMOKE_TEST).unwrap_or_default(),
        span: annotation(labels::SMOKE_SPAN).unwrap_or_default(),
        job: job_obs(snapshot, job)?,
    })
}

fn label(meta: &ObjectMeta, key: &str) -> Option<String> {
    meta.labels.as_ref().and_then(|all| all.get(key)).cloned()
}

fn job_obs(snapshot: &Snapshot, job: &Job) -> Option<JobObs> {
    let meta = &job.metadata;
    if !snapshot.owns(meta) {
        return None;
    }
    let attempt = meta.annotations.as_ref().and_then(|all| all.get(labels::ATTEMPT));
    let stage = meta.annotations.as_ref().and_then(|all| all.get(labels::STAGE));
    let uid = meta.uid.as_deref()?;
    let pods: Vec<_> = snapshot.pods.iter().filter(|pod| controller(&pod.metadata) == Some(uid)).collect();
    let mut state = job_state(job, &pods);
    let failed = matches!(state, JobState::Failed(_));
    let trouble = pods.iter().filter_map(|pod| pods::trouble(pod, snapshot.quoting())).min();
    let waiting = match &state {
        JobState::Failed(failure) => pods::cure(&failure.log_tail).map(str::to_owned),
        _ => trouble.as_ref().map(Trouble::to_string),
    };
    if let JobState::Failed(failure) = &mut state
        && !snapshot.quoting()
    {
        failure.log_tail.clear();
    }
    let status = job.status.as_ref();
    let counted = status.is_some_and(|status| {
        [status.succeeded, status.failed, status.ready].into_iter().flatten().any(|count| count > 0)
    });
    Some(JobObs {
        name: meta.name.clone()?,
        uid: uid.to_owned(),
        version: meta.resource_version.clone().unwrap_or_default(),
        revision: label(meta, labels::REVISION).unwrap_or_default(),
        stage: Stage::of(stage.map(String::as_str)),
        attempt: attempt.and_then(|text| text.parse().ok()).unwrap_or_default(),
        state,
        terminating: snapshot.leaving(meta),
        created: meta.creation_timestamp.as_ref().map_or(snapshot.now, |time| time.0),
        waiting,
        started: failed || counted || pods.iter().any(|pod| pods::has_run(pod)),
    })
}

/// `FailureTarget` and `SuccessCriteriaMet` announce an end while pods may still run: not final.
fn job_state(job: &Job, pods: &[&Arc<Pod>]) -> JobState {
    let conditions = job.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    let mut state = JobState::Running;
    for condition in conditions.filter(|condition| condition.status == "True") {
        match condition.type_.as_str() {
            "Complete" => return JobState::Succeeded,
            "Failed" => {
                let last = pods
                    .iter()
                    .filter_map(|pod| pods::failure(pod))
                    .max_by_key(|end| end.finished_at.as_ref().map(|time| time.0));
                let log = last.and_then(|end| end.message.as_deref()).unwrap_or_default();
                state = JobState::Failed(JobFailure {
                    reason: condition.reason.clone().unwrap_or_default(),
                    exit_code: last.map(|end| end.exit_code),
                    log_tail: tail(log, LOG_TAIL).to_owned(),
                });
            }
            _ => {}
        }
    }
    state
}

/// Pods of migrations that have not ended, whatever made them.
pub(super) fn migration_pods(snapshot: &Snapshot, app: &str) -> Vec<MigrationPod> {
    snapshot.pods.iter().filter(|pod| is_migration(pod, app)).map(|pod| migration_pod(pod)).collect()
}

/// A pod of this app's migrations that has not ended.
pub fn is_migration(pod: &Pod, app: &str) -> bool {
    let label = pod.metadata.labels.as_ref().and_then(|all| all.get(labels::MIGRATION));
    label.is_some_and(|name| name == app) && !pods::is_terminal(pod)
}

fn migration_pod(pod: &Pod) -> MigrationPod {
    MigrationPod {
        name: pod.metadata.name.clone().unwrap_or_default(),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
    }
}
