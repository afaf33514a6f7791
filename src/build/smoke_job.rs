//! The Job of a smoke test: the new image with the environment of its pods.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        batch::v1::{
            Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
        },
        core::v1::{Container, EnvVar, PodSpec, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Revision, env, job::no_mesh, metadata, seconds, unless_empty};
use crate::api::{JobTest, ValidatedApp, labels, names};

/// Of the pods' environment, what a test must not take over: it is no node and serves nothing. It does not migrate
/// either, and keeps what tells the pods so.
const NOT_IN_A_TEST: [&str; 4] = ["DNS_CLUSTER_QUERY", "PHX_SERVER", "RELEASE_DISTRIBUTION", "RELEASE_NODE"];

/// The Job of a smoke test in an attempt, made from the stored pod, so that image, environment, user and volumes are
/// those of the revision whatever the spec says by now. It mounts no `PersistentVolumeClaim`, and its labels are
/// matched by no Service and no libcluster selector.
///
/// `span` is what it is made for: a test may stand in several steps.
pub fn smoke_job(
    app: &ValidatedApp,
    revision: &Revision,
    attempt: i64,
    span: &str,
    name: &str,
    test: &JobTest,
) -> Job {
    let labels = labels::of_smoke_test(&app.name, &revision.name);
    let mut metadata =
        metadata(app, names::smoke_job(&app.name, &revision.name, attempt, span, name), labels.clone());
    metadata.annotations = Some(
        [
            (labels::ATTEMPT.to_owned(), attempt.to_string()),
            (labels::SMOKE_SPAN.to_owned(), span.to_owned()),
            (labels::SMOKE_TEST.to_owned(), name.to_owned()),
        ]
        .into(),
    );
    Job {
        metadata,
        spec: Some(JobSpec {
            backoff_limit: Some(test.retries),
            active_deadline_seconds: Some(seconds(test.timeout.into())),
            pod_replacement_policy: Some("Failed".to_owned()),
            // a pod that a node drain evicted says nothing about the release: it is made anew
            pod_failure_policy: Some(PodFailurePolicy { rules: vec![evicted()] }),
            template: template(revision, labels, test),
            ..JobSpec::default()
        }),
        status: None,
    }
}

fn evicted() -> PodFailurePolicyRule {
    PodFailurePolicyRule {
        action: "Ignore".to_owned(),
        on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
            type_: "DisruptionTarget".to_owned(),
            status: "True".to_owned(),
        }]),
        ..PodFailurePolicyRule::default()
    }
}

fn template(revision: &Revision, mut labels: BTreeMap<String, String>, test: &JobTest) -> PodTemplateSpec {
    let stored = revision.pod_template.clone();
    let mut annotations = stored.metadata.and_then(|metadata| metadata.annotations).unwrap_or_default();
    annotations.extend(no_mesh());
    labels.extend(no_mesh());
    let pod = stored.spec.unwrap_or_default();
    let (claims, volumes): (Vec<_>, Vec<_>) =
        pod.volumes.into_iter().flatten().partition(|volume| volume.persistent_volume_claim.is_some());
    let containers = pod.containers.into_iter().map(|stored| {
        let mounts = stored.volume_mounts.map(|mounts| {
            mounts.into_iter().filter(|mount| claims.iter().all(|claim| claim.name != mount.name)).collect()
        });
        Container {
            command: Some(test.command.clone()),
            args: unless_empty(test.args.clone()),
            env: Some(environment(stored.env.unwrap_or_default(), test)),
            volume_mounts: mounts,
            ports: None,
            readiness_probe: None,
            liveness_probe: None,
            startup_probe: None,
            lifecycle: None,
            ..stored
        }
    });
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            containers: containers.collect(),
            volumes: Some(volumes),
            restart_policy: Some("Never".to_owned()),
            topology_spread_constraints: None,
            termination_grace_period_seconds: None,
            ..pod
        }),
    }
}

/// The pods' environment without what makes a node of them; the test's own beats it, and may refer to it.
fn environment(stored: Vec<EnvVar>, test: &JobTest) -> Vec<EnvVar> {
    let own = |name: &str| test.env.iter().any(|entry| entry.name == name);
    let kept =
        stored.into_iter().filter(|entry| !NOT_IN_A_TEST.contains(&entry.name.as_str()) && !own(&entry.name));
    let no_node = Some(env::value("RELEASE_DISTRIBUTION", "none")).filter(|entry| !own(&entry.name));
    let mut entries: Vec<EnvVar> = no_node.into_iter().chain(kept).collect();
    entries.extend(test.env.iter().map(|entry| env::value(&entry.name, entry.value.clone())));
    entries
}
