//! PURE: from a validated app and a revision to the objects of Kubernetes. One file per kind of child.
//!
//! Nothing here can fail: what could go wrong was refused by [`ValidatedApp`]. Pod templates are rendered once, by
//! [`render`], and stored in the revision; an operator upgrade therefore restarts no pod.

mod annotations;
mod defaults;
mod deployment;
mod disruption_budget;
pub mod drift;
mod env;
mod job;
mod peers;
mod pod;
mod probes;
mod revision;
mod route;
mod secret;
mod service;
mod service_account;
mod shutdown;
mod smoke_job;
mod stored;
mod volumes;
mod worker;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, Deployment},
        batch::v1::Job,
        core::v1::{ConfigMap, Secret, Service, ServiceAccount},
        networking::v1::Ingress,
        policy::v1::PodDisruptionBudget,
        rbac::v1::RoleBinding,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::Resource;

use crate::api::{HttpRoute, PhoenixApp, Stage, ValidatedApp};

pub use annotations::{
    AllowedAnnotations, ingress_is_refused, refused_annotations, with_allowed_annotations,
};
pub use defaults::defaults_config_map;
pub use deployment::deployment;
pub use disruption_budget::pod_disruption_budget;
pub use env::overridden_env;
pub use job::migration_job;
pub use peers::{PeersRole, peers_binding};
pub use revision::{Before, Effective, Revision, RevisionError, controller_revision, render};
pub use route::{http_route, ingress};
pub use secret::generated_secret;
pub use service::{ServiceSelector, active_service, headless_service, preview_service};
pub use service_account::service_account;
pub use smoke_job::smoke_job;
pub use stored::StoredRevision;
pub use worker::{StoredWorker, worker_deployment};

/// Facts about the cluster that the operator is told at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The domain of the cluster's DNS.
    pub cluster_domain: String,
    /// What nodes may do that list their peers at the API server.
    pub peers_role: PeersRole,
    /// Annotations that apps may put on their Ingress and their Service.
    pub allowed_annotations: AllowedAnnotations,
}

impl Default for Settings {
    /// `cluster.local`, which kubeadm and most distributions use, and the role as the chart names it; any annotation.
    fn default() -> Self {
        Self {
            cluster_domain: "cluster.local".to_owned(),
            peers_role: PeersRole::default(),
            allowed_annotations: AllowedAnnotations::default(),
        }
    }
}

/// Every child of an app in one revision. Take it apart without `..`: a forgotten child then does not compile.
#[derive(Clone, Debug, PartialEq)]
pub struct Children {
    /// The identity of the pods.
    pub service_account: ServiceAccount,
    /// What lets the nodes list their peers, when they do so at the API server.
    pub peers_binding: Option<RoleBinding>,
    /// `SECRET_KEY_BASE` and the cookie; made once, never changed.
    pub generated_secret: Secret,
    /// The revision.
    pub controller_revision: ControllerRevision,
    /// Weak defaults of the environment.
    pub defaults: ConfigMap,
    /// What requests go through.
    pub active_service: Service,
    /// What the nodes of this revision's cluster find each other by.
    pub headless_service: Service,
    /// The migration, when a Job runs it, and what comes before it.
    pub migration_jobs: Vec<Job>,
    /// The pods.
    pub deployment: Deployment,
    /// Pods beside them that take no requests, once the revision is promoted.
    pub workers: Vec<Deployment>,
    /// What node drains must leave.
    pub pod_disruption_budget: Option<PodDisruptionBudget>,
    /// What leads requests here from gateways.
    pub http_route: Option<HttpRoute>,
    /// What leads requests here from an ingress controller.
    pub ingress: Option<Ingress>,
}

/// Every child of an app whose only revision is this, in its first attempt: what `render` prints.
pub fn children(
    app: &ValidatedApp,
    revision: &Revision,
    settings: &Settings,
    random: &mut dyn FnMut(&mut [u8]),
) -> Children {
    let selector = ServiceSelector::Only(revision.name.clone());
    let stages = (0..revision.before.len()).map(Stage::Before).chain([Stage::Migrate]);
    Children {
        service_account: service_account(app),
        peers_binding: peers_binding(app, [revision], settings),
        generated_secret: generated_secret(app, random),
        controller_revision: controller_revision(app, revision, 1),
        defaults: defaults_config_map(app, revision),
        active_service: active_service(app, &selector),
        headless_service: headless_service(app, revision.isolated()),
        migration_jobs: stages.filter_map(|stage| migration_job(app, revision, stage, 1)).collect(),
        deployment: deployment(app, revision, app.replicas, None),
        workers: revision
            .workers
            .iter()
            .filter_map(|(worker, stored)| worker_deployment(app, revision, worker, stored.replicas, None))
            .collect(),
        pod_disruption_budget: pod_disruption_budget(app, &selector),
        http_route: http_route(app, None),
        ingress: ingress(app),
    }
}

/// Makes the garbage collector delete a child with its app, and names the app as the child's only controller.
pub fn owner_reference(app: &ValidatedApp) -> OwnerReference {
    OwnerReference {
        api_version: PhoenixApp::api_version(&()).into_owned(),
        kind: PhoenixApp::kind(&()).into_owned(),
        name: app.name.to_string(),
        uid: app.uid.to_string(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Metadata of a child.
fn metadata(app: &ValidatedApp, name: String, labels: BTreeMap<String, String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(app.namespace.to_string()),
        labels: Some(labels),
        owner_references: Some(vec![owner_reference(app)]),
        ..ObjectMeta::default()
    }
}

/// Seconds as Kubernetes' fields want them.
fn seconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// A list or map as Kubernetes' types want it: absent when empty, so that server-side apply does not own it.
fn unless_empty<T: IntoIterator + Default + PartialEq>(items: T) -> Option<T> {
    (items != T::default()).then_some(items)
}
