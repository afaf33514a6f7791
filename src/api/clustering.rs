//! How the nodes of an app find each other.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the nodes find each other.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusteringSpec {
    /// `DNS`: a headless Service lists the pods (`dns_cluster`, libcluster's Kubernetes.DNS and DNSPoll).
    /// `KubernetesAPI`: the pods get a token and ask the API server (libcluster's Kubernetes).
    /// `Disabled`: every pod stays alone; rpc and remote still work inside it.
    #[serde(default)]
    pub mode: ClusteringMode,
    /// Whether revisions share one cluster. Absent: by strategy when the revision is made: `Shared` for Rolling and
    /// Recreate, `PerRevision` for BlueGreen and Canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// The part of the node name before the `@`; libcluster apps state it in their code.
    /// Absent: release.name. Example: `shop`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z0-9_-]+$"))]
    pub node_basename: Option<String>,
    /// Ports for Erlang distribution. The node, `rpc`, `remote` and a stop take one each.
    /// Example: `{min: 4370, max: 4379}`
    #[serde(default)]
    pub distribution_ports: DistributionPorts,
    /// The family of the pods' own address. Absent: the cluster's, and distribution over IPv4. Example: `IPv6`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_family: Option<IpFamily>,
    /// How each pod says whom it sees; absent: nobody asks. Example: `{http: {path: /peers, jsonPath: nodes}}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<VerifySpec>,
}

/// How each pod says whom it sees.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifySpec {
    /// A GET on `port`, answered with JSON.
    pub http: VerifyHttp,
}

/// A request, and where in its answer the peers are.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyHttp {
    /// Its path. Example: `/peers`
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^/"))]
    pub path: String,
    /// Place of their number, or of a list of them. Example: `cluster.nodes`
    #[schemars(length(min = 1, max = 253))]
    pub json_path: String,
}

/// Who lists the peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClusteringMode {
    /// A headless Service.
    #[default]
    #[serde(rename = "DNS")]
    Dns,
    /// The API server; the pods' ServiceAccount may list pods and endpoints of its namespace.
    #[serde(rename = "KubernetesAPI")]
    KubernetesApi,
    /// No one.
    Disabled,
}

impl ClusteringMode {
    /// Whether nodes connect at all.
    pub const fn connects(self) -> bool {
        match self {
            Self::Dns | Self::KubernetesApi => true,
            Self::Disabled => false,
        }
    }
}

/// Which addresses the nodes are named and found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IpFamily {
    /// IPv4.
    IPv4,
    /// IPv6: distribution runs over `inet6_tcp`.
    IPv6,
}

impl IpFamily {
    /// As Kubernetes writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IPv4 => "IPv4",
            Self::IPv6 => "IPv6",
        }
    }
}

/// Whether revisions share one cluster. `Shared`: old and new nodes talk, so their code must understand each other.
/// `PerRevision`: each revision has a cookie and a headless Service of its own; nothing crosses over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Isolation {
    /// All pods of the app form one cluster, whatever their revision.
    Shared,
    /// The pods of each revision form a cluster of their own.
    PerRevision,
}

impl Isolation {
    /// As written in the spec and in status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "Shared",
            Self::PerRevision => "PerRevision",
        }
    }
}

/// A range of TCP ports.
#[derive(KubeSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.min < self.max").message(
        "clustering.distributionPorts.min must be below max, because rpc and remote need a port beside the node's; widen the range"
    ),
    validation = Rule::new("self.max - self.min < 64").message(
        "clustering.distributionPorts must hold at most 64 ports, because the headless Service lists each; narrow the range"
    ),
    validation = Rule::new("self.min > 4369 || self.max < 4369")
        .message("clustering.distributionPorts must not hold 4369, the port of epmd; choose another range")
)]
pub struct DistributionPorts {
    /// The lowest. Example: `4370`
    #[serde(default = "lowest")]
    #[schemars(range(min = 1024, max = 65535))]
    pub min: i32,
    /// The highest. Example: `4379`
    #[serde(default = "highest")]
    #[schemars(range(min = 1024, max = 65535))]
    pub max: i32,
}

impl Default for DistributionPorts {
    fn default() -> Self {
        Self { min: lowest(), max: highest() }
    }
}

const fn lowest() -> i32 {
    4370
}

const fn highest() -> i32 {
    4379
}
