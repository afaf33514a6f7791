//! How requests reach the pods, and what node drains must leave.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How requests reach the pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrafficSpec {
    /// The Service named after the app. Example: `{type: LoadBalancer, port: 80}`
    #[serde(default)]
    pub service: ServiceSpec,
}

/// The Service named after the app.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Who can reach it, as in a Service.
    #[serde(default, rename = "type")]
    pub kind: ServiceType,
    /// Its port; the pods' is spec.port. Example: `80`
    #[serde(default = "eighty")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Its annotations. Example: `{external-dns.alpha.kubernetes.io/hostname: shop.example.com}`
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('phoenix-operator.dev/'))").message(
        "traffic.service.annotations must not begin with phoenix-operator.dev/, which the operator keeps for itself; choose another key"
    ))]
    pub annotations: BTreeMap<String, String>,
}

impl Default for ServiceSpec {
    fn default() -> Self {
        Self { kind: ServiceType::default(), port: eighty(), annotations: BTreeMap::new() }
    }
}

/// Who can reach a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// The cluster.
    #[default]
    ClusterIP,
    /// Who reaches a node.
    NodePort,
    /// Who reaches the load balancer of the cloud.
    LoadBalancer,
}

impl ServiceType {
    /// As Kubernetes writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// What node drains must leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodDisruptionBudgetSpec {
    /// `Auto`: all pods but one, from two replicas on. `Disabled`: no PodDisruptionBudget.
    #[serde(default)]
    pub mode: PodDisruptionBudgetMode,
}

/// Whether there is a PodDisruptionBudget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PodDisruptionBudgetMode {
    /// From two replicas on.
    #[default]
    Auto,
    /// Never.
    Disabled,
}

const fn eighty() -> i32 {
    80
}
