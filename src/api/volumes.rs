//! Volumes: the few sources an app needs, none that reaches a node or another namespace.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A file or directory of the pods.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "[has(self.emptyDir), has(self.persistentVolumeClaim), has(self.secret), has(self.configMap), has(self.projected)].filter(x, x).size() == 1"
    )
    .message("a volume must have exactly one of emptyDir, persistentVolumeClaim, secret, configMap and projected"),
    validation = Rule::new("!(self.name in ['tmp', 'crash-dumps'])")
        .message("volumes must not be named tmp or crash-dumps, which the operator mounts itself; choose another name (mounting at /tmp or /var/crash is allowed and replaces them)")
)]
pub struct Volume {
    /// Its name. Example: `uploads`
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Where it is seen. Example: `/app/uploads`
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^/[^:]*$"))]
    pub mount_path: String,
    /// Only this path of it. Example: `shop/uploads`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.split('/').exists(p, p == '..')").message(
        "subPath must be relative and must not hold '..'; write it from the root of the volume"
    ))]
    pub sub_path: Option<String>,
    /// `true`: the app cannot write to it.
    #[serde(default)]
    pub read_only: bool,
    /// Empty at the start of each pod. Example: `{sizeLimit: 1Gi}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDir>,
    /// Kept beyond the pods. Example: `{claimName: shop-uploads}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<PersistentVolumeClaim>,
    /// Keys of a Secret as files. Example: `{secretName: shop-tls}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretVolume>,
    /// Keys of a ConfigMap as files. Example: `{name: shop-config}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapVolume>,
    /// Several Secrets and ConfigMaps in one directory. Example: `{sources: [{secret: {name: shop-tls}}]}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projected: Option<Projected>,
}

/// A directory that is empty at the start of each pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmptyDir {
    /// `Memory`: on a tmpfs, counted against the memory limit. Absent: on the node's disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medium: Option<Medium>,
    /// The pod is evicted when it holds more. Example: `1Gi`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_limit: Option<Quantity>,
}

/// Where an emptyDir is. `Memory`: on a tmpfs, counted against the memory limit. Absent: on the node's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Medium {
    /// On a tmpfs.
    Memory,
}

/// A PersistentVolumeClaim in the app's namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PersistentVolumeClaim {
    /// Its name. Example: `shop-uploads`
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
}

/// Keys of a Secret as files.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretVolume {
    /// Name of the Secret. Example: `shop-tls`
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
    /// Only these keys, each at a path. Absent: all. Example: `[{key: tls.crt, path: cert.pem}]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub items: Vec<KeyToPath>,
}

/// Keys of a ConfigMap as files.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapVolume {
    /// Name of the ConfigMap, in `projected.sources[].secret` of the Secret. Example: `shop-config`
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Only these keys, each at a path. Absent: all. Example: `[{key: app.toml, path: app.toml}]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub items: Vec<KeyToPath>,
}

/// A key at a path.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyToPath {
    /// Key in the data. Example: `tls.crt`
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
    /// Path below mountPath. Example: `cert.pem`
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
}

/// Several Secrets and ConfigMaps in one directory.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Projected {
    /// What is put together. Example: `[{secret: {name: shop-tls}}, {configMap: {name: shop-config}}]`
    #[schemars(length(min = 1, max = 16))]
    pub sources: Vec<ProjectedSource>,
}

/// One part of a projected volume.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.secret) != has(self.configMap)")
    .message("a projected source must have exactly one of secret and configMap"))]
pub struct ProjectedSource {
    /// Keys of a Secret. Example: `{name: shop-tls}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<ConfigMapVolume>,
    /// Keys of a ConfigMap. Example: `{name: shop-config}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapVolume>,
}
