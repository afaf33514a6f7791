//! How requests reach the pods, and what node drains must leave.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names of Kubernetes' objects, and hosts: DNS labels with dots between, in lower case.
const SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// How requests reach the pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrafficSpec {
    /// The Service named after the app. Example: `{type: LoadBalancer, port: 80}`
    #[serde(default)]
    pub service: ServiceSpec,
    /// Routes requests for `hosts` through gateways. Example: `{parentRefs: [{name: public, namespace: gateways}]}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewaySpec>,
    /// Routes requests for `hosts` through an ingress controller. Example: `{className: nginx}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<IngressSpec>,
}

/// An HTTPRoute of the Gateway API. With type Canary its weights split the requests.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySpec {
    /// The gateways. Example: `[{name: public, namespace: gateways, sectionName: https}]`
    #[schemars(length(min = 1, max = 16))]
    // as the HTTPRoute's own two rules, in one, with the port of the experimental channel
    #[x_kube(validation = Rule::new(
        "self.all(p, self.exists_one(q, p.name == q.name && has(p.__namespace__) == has(q.__namespace__) && (!has(p.__namespace__) || p.__namespace__ == q.__namespace__) && (!has(p.sectionName) || !has(q.sectionName) || p.sectionName == q.sectionName) && (!has(p.port) || !has(q.port) || p.port == q.port)))"
    ).message("traffic.gateway.parentRefs must not name a Gateway twice without a sectionName or port of its own in each; add it, or remove one"))]
    pub parent_refs: Vec<GatewayRef>,
}

/// A Gateway. What it lets in is said by its listeners' `allowedRoutes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayRef {
    /// Its name. Example: `public`
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
    /// Its namespace. Absent: that of the app. Example: `gateways`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: Option<String>,
    /// One of its listeners. Absent: all. Example: `https`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub section_name: Option<String>,
    /// Listeners of this port only. Example: `443`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
}

/// An Ingress that leads to the Service.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!has(self.className) || !has(self.annotations) || self.annotations.all(k, k != 'kubernetes.io/ingress.class' || self.annotations[k] == self.className)"
).message("traffic.ingress.annotations must not name another class than className; remove kubernetes.io/ingress.class"))]
pub struct IngressSpec {
    /// Its ingress class. Absent: the cluster's default. Example: `nginx`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub class_name: Option<String>,
    /// TLS for `hosts`. Example: `{secretName: shop-tls}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<IngressTls>,
    /// Its annotations. Example: `{cert-manager.io/cluster-issuer: letsencrypt}`
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('phoenix-operator.dev/'))").message(
        "traffic.ingress.annotations must not begin with phoenix-operator.dev/, which the operator keeps for itself; choose another key"
    ))]
    pub annotations: BTreeMap<String, String>,
}

/// Where the certificate is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressTls {
    /// The Secret, in this namespace. Example: `shop-tls`
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub secret_name: String,
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
