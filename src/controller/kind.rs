//! The kinds the operator deals with, as a closed set: what metrics, freshness and messages are keyed by.

use kube::Resource;

/// A kind of object that the operator watches or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The resource itself.
    PhoenixApp,
    /// `apps/v1`.
    ControllerRevision,
    /// `apps/v1`.
    Deployment,
    /// `apps/v1`; only metadata is watched.
    ReplicaSet,
    /// `v1`.
    Pod,
    /// `v1`.
    Service,
    /// `discovery.k8s.io/v1`.
    EndpointSlice,
    /// `batch/v1`.
    Job,
    /// `v1`.
    ConfigMap,
    /// `v1`.
    ServiceAccount,
    /// `rbac.authorization.k8s.io/v1`.
    RoleBinding,
    /// `policy/v1`.
    PodDisruptionBudget,
    /// `networking.k8s.io/v1`.
    Ingress,
    /// `gateway.networking.k8s.io/v1`, where the cluster knows it.
    HttpRoute,
    /// `v1`; only ever created.
    Secret,
    /// `events.k8s.io/v1`; only ever written.
    Event,
    /// Anything else; never used.
    Other,
}

impl Kind {
    const ALL: [Self; 16] = [
        Self::PhoenixApp,
        Self::ControllerRevision,
        Self::Deployment,
        Self::ReplicaSet,
        Self::Pod,
        Self::Service,
        Self::EndpointSlice,
        Self::Job,
        Self::ConfigMap,
        Self::ServiceAccount,
        Self::RoleBinding,
        Self::PodDisruptionBudget,
        Self::Ingress,
        Self::HttpRoute,
        Self::Secret,
        Self::Event,
    ];

    /// The kind of a Rust type.
    pub fn of<K: Resource<DynamicType = ()>>() -> Self {
        let name = K::kind(&());
        Self::ALL.into_iter().find(|kind| kind.as_str() == name).unwrap_or(Self::Other)
    }

    /// As Kubernetes writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PhoenixApp => "PhoenixApp",
            Self::ControllerRevision => "ControllerRevision",
            Self::Deployment => "Deployment",
            Self::ReplicaSet => "ReplicaSet",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Job => "Job",
            Self::ConfigMap => "ConfigMap",
            Self::ServiceAccount => "ServiceAccount",
            Self::RoleBinding => "RoleBinding",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::Ingress => "Ingress",
            Self::HttpRoute => "HTTPRoute",
            Self::Secret => "Secret",
            Self::Event => "Event",
            Self::Other => "Other",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{apps::v1::Deployment, discovery::v1::EndpointSlice};

    use super::*;

    #[test]
    fn types_know_their_kind() {
        assert_eq!(Kind::of::<Deployment>(), Kind::Deployment);
        assert_eq!(Kind::of::<EndpointSlice>(), Kind::EndpointSlice);
        assert_eq!(Kind::of::<crate::api::PhoenixApp>(), Kind::PhoenixApp);
        assert_eq!(Kind::of::<crate::api::HttpRoute>(), Kind::HttpRoute);
    }
}
