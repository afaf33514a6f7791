//! What a pod looks like beyond its probes and volumes.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;

/// The release inside the image.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseSpec {
    /// Its name, as in mix.exs. Absent: metadata.name with `-` as `_`. Example: `shop`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z][A-Za-z0-9_]*$"))]
    pub name: Option<String>,
    /// Where it lies in the image. Example: `/app`
    #[serde(default = "app")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^/"))]
    pub root: String,
    /// What the container runs. Absent: the image's own entrypoint. Example: `[/app/bin/server]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub command: Vec<String>,
    /// Its arguments. Absent: the image's own. Example: `[start]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub args: Vec<String>,
}

impl Default for ReleaseSpec {
    fn default() -> Self {
        Self { name: None, root: app(), command: Vec::new(), args: Vec::new() }
    }
}

/// When nodes pull the image. Absent: `Always` for the tag `latest`, else `IfNotPresent`, as in any pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// At every start of a container.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// Never.
    Never,
}

impl ImagePullPolicy {
    /// As Kubernetes writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// A Secret with which nodes pull the image.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImagePullSecret {
    /// Its name. Example: `registry-login`
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// One more port of the pods.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(self.name in ['http', 'epmd']) && !self.name.startsWith('dist-')").message(
    "extraPorts must not be named http, epmd or dist-..., which the operator uses; choose another name"
))]
pub struct ExtraPort {
    /// Its name. Example: `metrics`
    #[schemars(length(min = 1, max = 15), regex(pattern = "^[a-z]([a-z0-9]|-[a-z0-9])*$"))]
    pub name: String,
    /// Its number. Example: `9568`
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// What is spoken over IP.
    #[serde(default)]
    pub protocol: Protocol,
    /// `Service`: requests reach it through the app's Service. `Peers`: the headless Service lists it.
    /// `None`: only the pod has it.
    #[serde(default)]
    pub expose: Expose,
}

/// What is spoken over IP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// As Kubernetes writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

/// Which Service lists a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Expose {
    /// The app's.
    #[default]
    Service,
    /// The headless one.
    Peers,
    /// None.
    None,
}

/// Labels and annotations of the pods.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodMetadata {
    /// Labels; the migration's pod gets none of them. Example: `{team: shop}`
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('phoenix-operator.dev/') && !(k in ['app.kubernetes.io/managed-by', 'pod-template-hash', 'controller-uid', 'job-name']))").message(
        "podMetadata.labels must not hold phoenix-operator.dev/..., app.kubernetes.io/managed-by, pod-template-hash, controller-uid or job-name, which select the pods; choose another key"
    ))]
    pub labels: BTreeMap<String, String>,
    /// Annotations. Example: `{prometheus.io/scrape: "true"}`
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('phoenix-operator.dev/'))").message(
        "podMetadata.annotations must not begin with phoenix-operator.dev/, which the operator keeps for itself; choose another key"
    ))]
    pub annotations: BTreeMap<String, String>,
}

/// How a pod ends.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.grace).getSeconds() > duration(self.endpointLag).getSeconds()").message(
    "shutdown.grace must be longer than shutdown.endpointLag, which is part of it; raise grace to endpointLag plus the time the app takes to drain"
))]
pub struct ShutdownSpec {
    /// `Signal`: SIGTERM to the container's first process. `SignalVM`: to the Erlang VM, wherever it runs in the
    /// container, for entrypoints that do not `exec` it; takes /bin/sh in the image, and the VM's own user.
    #[serde(default)]
    pub method: ShutdownMethod,
    /// From the pod's removal from the endpoints to SIGTERM: what load balancers need to notice. Example: `10s`
    #[serde(default = "ten_seconds")]
    pub endpoint_lag: Duration,
    /// From deletion to SIGKILL, endpointLag included. Sockets, requests and jobs drain one after the other.
    /// Example: `90s`
    #[serde(default = "ninety_seconds")]
    pub grace: Duration,
    /// Most pods that stop at once when a whole revision is no longer needed, so that their clients do not all
    /// reconnect together. Absent: all. Example: `2`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub drain_batch: Option<i32>,
    /// From one such batch to the next. Example: `30s`
    #[serde(default = "thirty_seconds")]
    pub drain_interval: Duration,
}

impl Default for ShutdownSpec {
    fn default() -> Self {
        Self {
            method: ShutdownMethod::default(),
            endpoint_lag: ten_seconds(),
            grace: ninety_seconds(),
            drain_batch: None,
            drain_interval: thirty_seconds(),
        }
    }
}

/// How the app is told to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ShutdownMethod {
    /// SIGTERM to the container's first process.
    #[default]
    Signal,
    /// SIGTERM to every `beam.smp` of the container, whose end is waited for.
    #[serde(rename = "SignalVM")]
    SignalVm,
}

/// One rule of how pods are spread over the cluster.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopologySpread {
    /// The node label whose values count as places. Example: `topology.kubernetes.io/zone`
    #[schemars(length(min = 1, max = 317))]
    pub topology_key: String,
    /// How many more pods one place may have than another. Example: `1`
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_skew: i32,
    /// What happens when that cannot be kept.
    #[serde(default)]
    pub when_unsatisfiable: WhenUnsatisfiable,
}

/// What happens when pods cannot be spread as asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WhenUnsatisfiable {
    /// The pod starts all the same.
    #[default]
    ScheduleAnyway,
    /// The pod waits.
    DoNotSchedule,
}

impl WhenUnsatisfiable {
    /// As Kubernetes writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ScheduleAnyway => "ScheduleAnyway",
            Self::DoNotSchedule => "DoNotSchedule",
        }
    }
}

/// User and privileges of the containers.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.profile != 'Restricted' || !has(self.runAsUser) || self.runAsUser > 0").message(
    "security.runAsUser must not be 0 under the profile Restricted; choose another user, or the profile Baseline"
))]
pub struct SecuritySpec {
    /// `Restricted`: as the Pod Security Standard of that name. `Baseline`: the image's own user, sudo works.
    #[serde(default)]
    pub profile: SecurityProfile,
    /// Numeric user. Absent: 65534 (nobody) under Restricted, else the image's own. Example: `1000`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub run_as_user: Option<i64>,
    /// Numeric group. Absent: the image's own. Example: `1000`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub run_as_group: Option<i64>,
    /// Group that owns the volumes. Absent: as runAsUser under Restricted. Example: `1000`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub fs_group: Option<i64>,
    /// `true`: only volumes, /tmp and /var/crash can be written to.
    #[serde(default)]
    pub read_only_root_filesystem: bool,
}

/// How much a container may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SecurityProfile {
    /// As the Pod Security Standard `restricted`.
    #[default]
    Restricted,
    /// As the Pod Security Standard `baseline`.
    Baseline,
}

fn app() -> String {
    "/app".to_owned()
}

const fn one() -> i32 {
    1
}

const fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

/// Sockets (30 s), requests (15 s) and jobs (15 s) drain one after the other, after endpointLag (10 s).
const fn thirty_seconds() -> Duration {
    Duration::from_secs(30)
}

const fn ninety_seconds() -> Duration {
    Duration::from_secs(90)
}
