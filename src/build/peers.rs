//! What lets the nodes of an app list their peers at the API server.

use std::{collections::BTreeSet, str::FromStr};

use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};

use super::{Revision, Settings, metadata};
use crate::api::{ClusteringMode, ValidatedApp, labels, names};

const RBAC: &str = "rbac.authorization.k8s.io";

/// The role that the installation brings for nodes that list their peers: the operator makes no role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeersRole {
    /// One for all namespaces, by this name.
    Cluster(String),
    /// One of this name in each namespace that is looked after.
    InNamespace(String),
}

impl PeersRole {
    /// As Kubernetes writes its kind.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Cluster(_) => "ClusterRole",
            Self::InNamespace(_) => "Role",
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Cluster(name) | Self::InNamespace(name) => name,
        }
    }
}

impl Default for PeersRole {
    /// As the chart names it when its release is called as the chart.
    fn default() -> Self {
        Self::Cluster("phoenix-operator-peers".to_owned())
    }
}

/// Why a text names no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no role; write ClusterRole/<name> or Role/<name>")]
pub struct PeersRoleError(String);

impl FromStr for PeersRole {
    type Err = PeersRoleError;

    fn from_str(text: &str) -> Result<Self, PeersRoleError> {
        match text.split_once('/') {
            Some(("ClusterRole", name)) if !name.is_empty() => Ok(Self::Cluster(name.to_owned())),
            Some(("Role", name)) if !name.is_empty() => Ok(Self::InNamespace(name.to_owned())),
            _ => Err(PeersRoleError(text.to_owned())),
        }
    }
}

/// Binds the identities of the pods of these revisions to the role that the installation brings: it lists pods and
/// endpoints of the namespace, and holds nothing that the operator does not hold. None when no revision asks for it.
///
/// The identities are those that the stored templates name: a revision that still runs must not lose its rights because
/// the spec names another.
pub fn peers_binding<'a>(
    app: &ValidatedApp,
    revisions: impl IntoIterator<Item = &'a Revision>,
    settings: &Settings,
) -> Option<RoleBinding> {
    let accounts: BTreeSet<&str> =
        revisions.into_iter().filter(|revision| revision.lists_peers()).filter_map(account).collect();
    let subjects: Vec<Subject> = accounts
        .into_iter()
        .map(|name| Subject {
            kind: "ServiceAccount".to_owned(),
            name: name.to_owned(),
            namespace: Some(app.namespace.to_string()),
            api_group: None,
        })
        .collect();
    (!subjects.is_empty()).then(|| RoleBinding {
        metadata: metadata(app, names::peers_binding(&app.name), labels::of_app(&app.name)),
        role_ref: RoleRef {
            api_group: RBAC.to_owned(),
            kind: settings.peers_role.kind().to_owned(),
            name: settings.peers_role.name().to_owned(),
        },
        subjects: Some(subjects),
    })
}

fn account(revision: &Revision) -> Option<&str> {
    revision.pod_template.spec.as_ref()?.service_account_name.as_deref()
}

impl Revision {
    /// Whether its nodes list their peers at the API server.
    pub fn lists_peers(&self) -> bool {
        self.canonical.clustering().mode == ClusteringMode::KubernetesApi
    }
}
