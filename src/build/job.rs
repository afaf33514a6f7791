//! The migration.

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::{Container, PodSpec, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Effective, Revision, env, metadata, pod, seconds, volumes::volumes};
use crate::api::{ValidatedApp, labels, names};

/// Keys, labels for new meshes and annotations for old, that keep a sidecar out: it would never end, nor the Job.
const NO_MESH: [(&str, &str); 2] = [("sidecar.istio.io/inject", "false"), ("linkerd.io/inject", "disabled")];

/// The migration's pod: the app's image and environment, but labels that no Service and no libcluster selector
/// matches, so neither the app's own labels (a selector may name them) nor a `PersistentVolumeClaim`.
pub(super) fn template(app: &ValidatedApp, facts: &env::Facts, effective: &Effective) -> PodTemplateSpec {
    let migrations = &app.spec.migrations;
    let (volumes, mounts) = volumes(&app.spec.volumes, false);
    let command = migrations
        .command
        .clone()
        .unwrap_or_else(|| vec![format!("{}/bin/migrate", app.spec.release.root.trim_end_matches('/'))]);
    let container = Container {
        command: Some(command),
        env: Some(env::of_job(app, facts)),
        resources: migrations.resources.clone().or_else(|| app.spec.resources.clone()),
        ..pod::container(app, facts, mounts)
    };
    let mut annotations = app.spec.pod_metadata.annotations.clone();
    annotations.extend(no_mesh());
    let mut labels = labels::of_migration(&app.name, &facts.revision);
    labels.extend(no_mesh());
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            containers: vec![container],
            volumes: Some(volumes),
            restart_policy: Some("Never".to_owned()),
            affinity: app.affinity.clone(),
            ..pod::pod(app, effective)
        }),
    }
}

/// What keeps a sidecar out.
pub(super) fn no_mesh() -> impl Iterator<Item = (String, String)> {
    NO_MESH.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()))
}

/// The Job of an attempt, from the stored template; none when no Job migrates for this revision.
///
/// How long it may take and how often it is tried are the app's present settings. The operator deletes it after
/// recording its end, so it has no `ttlSecondsAfterFinished`: one that vanished unrecorded would run again.
pub fn migration_job(app: &ValidatedApp, revision: &Revision, attempt: i64) -> Option<Job> {
    let template = revision.job_template.clone()?;
    let settings = app.migration_settings();
    let mut metadata = metadata(
        app,
        names::migration_job(&app.name, &revision.name, attempt),
        labels::of_migration(&app.name, &revision.name),
    );
    metadata.annotations = Some([(labels::ATTEMPT.to_owned(), attempt.to_string())].into());
    Some(Job {
        metadata,
        spec: Some(JobSpec {
            backoff_limit: Some(i32::try_from(settings.retries).unwrap_or(i32::MAX)),
            active_deadline_seconds: Some(seconds(settings.timeout)),
            // never two at a time: the next starts when the last has ended, not when it was told to
            pod_replacement_policy: Some("Failed".to_owned()),
            template,
            ..JobSpec::default()
        }),
        status: None,
    })
}
