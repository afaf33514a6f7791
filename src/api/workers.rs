//! Workers: pods of the same image, environment and Erlang cluster as the web pods, with a command of their own and no
//! requests.

use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NamedValue, duration::Duration};

/// Pods beside the web pods that take no requests.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Worker {
    /// Its name, part of that of its Deployment. Example: `jobs`
    #[schemars(length(min = 1, max = 20), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Wanted pods; a change is no new revision.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
    /// How its pods follow those of the revision before, once that is promoted.
    #[serde(default)]
    pub strategy: WorkerStrategy,
    /// What the container runs. Absent, with args: as the web pods. Example: `[/app/bin/shop, start]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub command: Vec<String>,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub args: Vec<String>,
    /// More environment, which beats spec.env and may refer to it. Example: `[{name: QUEUES, value: mail}]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = Rule::new("self.all(e, e.name != 'RELEASE_COOKIE')").message(
            "env of a worker must not set RELEASE_COOKIE: it has the cookie of its cluster; set it for all, in secrets.cookie"
        )
    )]
    pub env: Vec<NamedValue>,
    /// CPU and memory of one pod. Absent: as the web pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// How the kubelet asks it how it is. Absent: a pod that runs is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<WorkerHealth>,
    /// How long it may take to end. Absent: shutdown.grace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<Duration>,
}

/// Asked at start, for readiness and for liveness, as often as spec.health asks by default.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerHealth {
    /// Path of an HTTP GET. Absent: a TCP connection suffices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^/"))]
    pub path: Option<String>,
    /// Port to ask. Example: `4001`
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// How the pods of a worker follow those of the revision before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WorkerStrategy {
    /// The new ones come up first, then the old ones go.
    #[default]
    Rolling,
    /// The old ones are gone before the first new one starts.
    Recreate,
}

const fn one() -> i32 {
    1
}
