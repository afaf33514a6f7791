//! The Deployment of a revision.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use super::{Revision, metadata, revision::identity, seconds};
use crate::api::{StrategyKind, ValidatedApp, labels, names};

/// The Deployment of a revision, from its stored template.
///
/// Its own strategy only ever acts on a restart, which sets an annotation of the template: `restarted_at`, when one
/// was asked for through the operator, stays part of every later apply.
pub fn deployment(
    app: &ValidatedApp,
    revision: &Revision,
    replicas: u32,
    restarted_at: Option<&str>,
) -> Deployment {
    let template = restarted(revision.pod_template.clone(), restarted_at);
    let mut metadata = metadata(
        app,
        names::deployment(&app.name, &revision.name),
        labels::of_revision(&app.name, &revision.name),
    );
    metadata.annotations = Some(identity(revision));
    let selector = labels::select_revision(&app.name, &revision.name);
    let recreate = app.strategy.kind == StrategyKind::Recreate;
    Deployment { metadata, spec: Some(spec(app, selector, template, replicas, recreate)), status: None }
}

/// What every Deployment of ours asks for.
pub(super) fn spec(
    app: &ValidatedApp,
    selector: BTreeMap<String, String>,
    template: PodTemplateSpec,
    replicas: u32,
    recreate: bool,
) -> DeploymentSpec {
    DeploymentSpec {
        replicas: Some(i32::try_from(replicas).unwrap_or(i32::MAX)),
        selector: LabelSelector { match_labels: Some(selector), match_expressions: None },
        template,
        strategy: Some(strategy(recreate)),
        min_ready_seconds: Some(i32::try_from(seconds(app.strategy.min_ready)).unwrap_or(i32::MAX - 1)),
        // the operator keeps the time; i32::MAX is how a Deployment says: no deadline
        progress_deadline_seconds: Some(i32::MAX),
        // a Deployment of ours has one template; one more for a restart
        revision_history_limit: Some(1),
        paused: None,
    }
}

/// A template that says when a restart was last asked for.
pub(super) fn restarted(mut template: PodTemplateSpec, restarted_at: Option<&str>) -> PodTemplateSpec {
    if let Some(restarted_at) = restarted_at {
        template
            .metadata
            .get_or_insert_with(ObjectMeta::default)
            .annotations
            .get_or_insert_default()
            .insert(labels::RESTARTED_AT.to_owned(), restarted_at.to_owned());
    }
    template
}

/// The template of a live Deployment without the mark of a restart: as it is stored.
pub(super) fn unmarked(mut template: PodTemplateSpec) -> PodTemplateSpec {
    if let Some(annotations) = template.metadata.as_mut().and_then(|all| all.annotations.as_mut()) {
        annotations.remove(labels::RESTARTED_AT);
    }
    template
}

/// How the Deployment itself replaces pods.
fn strategy(recreate: bool) -> DeploymentStrategy {
    if recreate {
        return DeploymentStrategy { type_: Some("Recreate".to_owned()), rolling_update: None };
    }
    DeploymentStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateDeployment {
            max_surge: Some(IntOrString::Int(1)),
            max_unavailable: Some(IntOrString::Int(0)),
        }),
    }
}
