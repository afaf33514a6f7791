//! What node drains must leave.

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::{ServiceSelector, metadata};
use crate::api::{ValidatedApp, labels, names};

/// All pods that serve but one; none at one replica, where it would block every drain, or when it is not wanted.
///
/// Pods that are not ready may always go: a broken release must not keep a node from being drained.
pub fn pod_disruption_budget(app: &ValidatedApp, selector: &ServiceSelector) -> Option<PodDisruptionBudget> {
    (app.disruption_budget && app.replicas > 1).then(|| PodDisruptionBudget {
        metadata: metadata(app, names::pod_disruption_budget(&app.name), labels::of_app(&app.name)),
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(i32::try_from(app.replicas - 1).unwrap_or(i32::MAX))),
            selector: Some(LabelSelector {
                match_labels: Some(selector.labels(app)),
                match_expressions: None,
            }),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            max_unavailable: None,
        }),
        status: None,
    })
}
