//! The migration.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::{Container, PodSpec, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Before, Effective, Revision, env, metadata, pod, seconds, unless_empty, volumes::volumes};
use crate::api::{BeforeJob, Stage, ValidatedApp, labels, names};

/// Keys, labels for new meshes and annotations for old, that keep a sidecar out: it would never end, nor the Job.
const NO_MESH: [(&str, &str); 2] = [("sidecar.istio.io/inject", "false"), ("linkerd.io/inject", "disabled")];

/// The migration's pod.
pub(super) fn template(app: &ValidatedApp, facts: &env::Facts, effective: &Effective) -> PodTemplateSpec {
    let command = app
        .spec
        .migrations
        .command
        .clone()
        .unwrap_or_else(|| vec![format!("{}/bin/migrate", app.spec.release.root.trim_end_matches('/'))]);
    with_command(app, facts, effective, command)
}

/// Pods of the Jobs before the migration: as its own, with an image, arguments and environment of theirs.
pub(super) fn before(app: &ValidatedApp, facts: &env::Facts, effective: &Effective) -> Vec<Before> {
    let one = |job: &BeforeJob| {
        let mut template = with_command(app, facts, effective, job.command.clone());
        for container in template.spec.iter_mut().flat_map(|spec| &mut spec.containers) {
            if let Some(image) = &job.image {
                container.image = Some(image.clone());
                // that of the release was chosen for the release's tag
                container.image_pull_policy = None;
            }
            container.args = unless_empty(job.args.clone());
            let env = container.env.get_or_insert_default();
            env.retain(|entry| job.env.iter().all(|own| own.name != entry.name));
            env.extend(job.env.iter().map(|own| env::value(&own.name, own.value.clone())));
        }
        Before { name: job.name.clone(), template }
    };
    app.spec.migrations.before.iter().map(one).collect()
}

/// The pod of a migration's Job: the app's image and environment, but labels that no Service and no libcluster selector
/// matches, so neither the app's own labels (a selector may name them) nor a `PersistentVolumeClaim`.
pub(super) fn with_command(
    app: &ValidatedApp,
    facts: &env::Facts,
    effective: &Effective,
    command: Vec<String>,
) -> PodTemplateSpec {
    let migrations = &app.spec.migrations;
    let (volumes, mounts) = volumes(&app.spec.volumes, false);
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

/// The Job of a stage in an attempt, from the stored template; none when the revision has no such stage.
///
/// How long it may take and how often it is tried are the app's present settings. The operator deletes it after
/// recording its end, so it has no `ttlSecondsAfterFinished`: one that vanished unrecorded would run again.
pub fn migration_job(app: &ValidatedApp, revision: &Revision, stage: Stage, attempt: i64) -> Option<Job> {
    let template = revision.template_of(stage)?.clone();
    let settings = app.migration_settings();
    let mut metadata = metadata(
        app,
        names::stage_job(&app.name, &revision.name, stage, attempt),
        labels::of_migration(&app.name, &revision.name),
    );
    let mut annotations = BTreeMap::from([(labels::ATTEMPT.to_owned(), attempt.to_string())]);
    annotations.extend(stage.text().map(|text| (labels::STAGE.to_owned(), text)));
    metadata.annotations = Some(annotations);
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
