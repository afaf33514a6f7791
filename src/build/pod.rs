//! The pod that serves, and what migrations share with it.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Capabilities, Container, ContainerPort, LocalObjectReference, PodSecurityContext, PodSpec,
        PodTemplateSpec, SeccompProfile, SecurityContext, TopologySpreadConstraint, VolumeMount,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};

use super::{Effective, env, probes::probe, shutdown, unless_empty, volumes::volumes};
use crate::api::{
    ClusteringMode, SecurityProfile, TopologySpread, ValidatedApp, WhenUnsatisfiable, labels, names,
};

/// Name of the container; `kubectl logs` and `exec` need none.
pub(super) const CONTAINER: &str = "app";

/// The pod that serves.
pub(super) fn template(app: &ValidatedApp, facts: &env::Facts, effective: &Effective) -> PodTemplateSpec {
    let spec = &app.spec;
    let (volumes, mounts) = volumes(&spec.volumes, true);
    let labels = labels::of_web_pod(&app.name, &facts.revision, &facts.cluster);
    let container = Container {
        command: unless_empty(spec.release.command.clone()),
        args: unless_empty(spec.release.args.clone()),
        env: Some(env::of_pod(app, facts)),
        ports: Some(ports(app)),
        resources: spec.resources.clone(),
        readiness_probe: Some(probe((&spec.health.readiness).into(), spec.port)),
        liveness_probe: Some(probe((&spec.health.liveness).into(), spec.port)),
        startup_probe: Some(probe((&spec.health.startup).into(), spec.port)),
        lifecycle: shutdown::pre_stop(&spec.shutdown),
        ..container(app, facts, mounts)
    };
    PodTemplateSpec {
        metadata: Some(metadata(app, labels)),
        spec: Some(PodSpec {
            containers: vec![container],
            volumes: Some(volumes),
            termination_grace_period_seconds: Some(i64::from(spec.shutdown.grace.as_secs())),
            topology_spread_constraints: unless_empty(topology_spread(app, &labels::select_web(&app.name))),
            automount_service_account_token: Some(spec.clustering.mode == ClusteringMode::KubernetesApi),
            affinity: app.affinity.clone(),
            ..pod(app, effective)
        }),
    }
}

/// What the app says of its pods, and labels of ours, which beat the app's.
pub(super) fn metadata(app: &ValidatedApp, own: BTreeMap<String, String>) -> ObjectMeta {
    let said = &app.spec.pod_metadata;
    let mut labels = said.labels.clone();
    labels.extend(own);
    ObjectMeta {
        labels: Some(labels),
        annotations: unless_empty(said.annotations.clone()),
        ..ObjectMeta::default()
    }
}

/// What every pod of the app has: identity, scheduling, privileges.
pub(super) fn pod(app: &ValidatedApp, effective: &Effective) -> PodSpec {
    let spec = &app.spec;
    let pull_secrets: Vec<_> = spec
        .image_pull_secrets
        .iter()
        .map(|secret| LocalObjectReference { name: secret.name.clone() })
        .collect();
    PodSpec {
        service_account_name: Some(
            spec.service_account_name.clone().unwrap_or_else(|| names::service_account(&app.name)),
        ),
        // only nodes that list their peers at the API server need a token; a migration is no node
        automount_service_account_token: Some(false),
        // a Service named as the app would inject <APP>_PORT=tcp://..., which apps read as their port
        enable_service_links: Some(false),
        image_pull_secrets: unless_empty(pull_secrets),
        node_selector: unless_empty(spec.node_selector.clone()),
        tolerations: unless_empty(spec.tolerations.clone()),
        priority_class_name: spec.priority_class_name.clone(),
        security_context: Some(pod_security(app, effective)),
        ..PodSpec::default()
    }
}

/// What every container of the app has: image, sources of its environment, privileges, mounts.
pub(super) fn container(app: &ValidatedApp, facts: &env::Facts, mounts: Vec<VolumeMount>) -> Container {
    Container {
        name: CONTAINER.to_owned(),
        image: Some(app.spec.image.clone()),
        image_pull_policy: app.spec.image_pull_policy.map(|policy| policy.as_str().to_owned()),
        env_from: Some(env::sources(app, &facts.revision)),
        security_context: Some(container_security(app)),
        volume_mounts: Some(mounts),
        // the end of the log reaches the pod's status, which needs no right to read logs
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

fn pod_security(app: &ValidatedApp, effective: &Effective) -> PodSecurityContext {
    let security = &app.spec.security;
    let restricted = security.profile == SecurityProfile::Restricted;
    let fs_group = security.fs_group.or(if restricted { effective.run_as_user } else { None });
    PodSecurityContext {
        run_as_user: effective.run_as_user,
        run_as_group: security.run_as_group,
        run_as_non_root: restricted.then_some(true),
        fs_group,
        // a large volume is not walked at every start
        fs_group_change_policy: fs_group.map(|_| "OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..PodSecurityContext::default()
    }
}

/// The Pod Security Standard `restricted`, or under `Baseline` the runtime's defaults, with which sudo works.
fn container_security(app: &ValidatedApp) -> SecurityContext {
    let security = &app.spec.security;
    let read_only = security.read_only_root_filesystem.then_some(true);
    match security.profile {
        SecurityProfile::Restricted => SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            read_only_root_filesystem: read_only,
            ..SecurityContext::default()
        },
        SecurityProfile::Baseline => {
            SecurityContext { read_only_root_filesystem: read_only, ..SecurityContext::default() }
        }
    }
}

pub(super) fn ports(app: &ValidatedApp) -> Vec<ContainerPort> {
    let port = |name: &str, number, protocol: &str| ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        protocol: Some(protocol.to_owned()),
        ..ContainerPort::default()
    };
    let mut ports = vec![port("http", app.spec.port, "TCP")];
    if app.spec.clustering.mode.connects() {
        ports.push(port("epmd", super::service::EPMD, "TCP"));
    }
    ports.extend(
        app.spec.extra_ports.iter().map(|extra| port(&extra.name, extra.port, extra.protocol.as_str())),
    );
    ports
}

/// Pods that match are spread.
pub(super) fn topology_spread(
    app: &ValidatedApp,
    matching: &BTreeMap<String, String>,
) -> Vec<TopologySpreadConstraint> {
    let over_nodes = [TopologySpread {
        topology_key: "kubernetes.io/hostname".to_owned(),
        max_skew: 1,
        when_unsatisfiable: WhenUnsatisfiable::ScheduleAnyway,
    }];
    let wanted = app.spec.topology_spread.as_deref().unwrap_or(&over_nodes);
    wanted
        .iter()
        .map(|rule| TopologySpreadConstraint {
            topology_key: rule.topology_key.clone(),
            max_skew: rule.max_skew,
            when_unsatisfiable: rule.when_unsatisfiable.as_str().to_owned(),
            label_selector: Some(LabelSelector {
                match_labels: Some(matching.clone()),
                match_expressions: None,
            }),
            // else the pods of the revision that goes would decide where those of the next may run
            match_label_keys: Some(vec![labels::REVISION.to_owned()]),
            ..TopologySpreadConstraint::default()
        })
        .collect()
}
