//! The database and the app's secrets: always references within the app's own namespace.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The app's database.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseSpec {
    /// Where DATABASE_URL is. Example: `{secretKeyRef: {name: shop-db-app, key: uri}}`
    pub url_from: SecretSource,
    /// Connections of one pod, given to the app as POOL_SIZE. Absent: the app decides. Example: `10`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub pool_size: Option<i32>,
    /// Connections that a pod may hold. Absent: `poolSize`, else 10. Example: `12`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub connections_per_pod: Option<i32>,
    /// Most connections of all pods and Jobs together. Absent: not counted. Example: `90`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: Option<i32>,
}

impl DatabaseSpec {
    /// Connections that a pod may hold, as counted: what is said, else its pool, else Ecto's default of ten.
    pub fn of_a_pod(&self) -> u32 {
        let said = self.connections_per_pod.or(self.pool_size);
        said.and_then(|count| u32::try_from(count).ok()).filter(|count| *count > 0).unwrap_or(10)
    }
}

/// One value out of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretSource {
    /// Which key of which Secret. Example: `{name: shop-db-app, key: uri}`
    pub secret_key_ref: SecretKeyRef,
}

/// A key of a Secret in the app's namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret. Example: `shop-db-app`
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in its data. Example: `uri` of a database's Secret
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// SECRET_KEY_BASE and the Erlang cookie.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretsSpec {
    /// Where SECRET_KEY_BASE is. Absent: generated once. Example: `{secretKeyRef: {name: shop, key: skb}}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_base: Option<SecretSource>,
    /// Where the Erlang cookie is. Absent: generated once. Example: `{secretKeyRef: {name: shop, key: cookie}}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<SecretSource>,
    /// What becomes of the generated Secret when the app is deleted; fixed once the app exists.
    /// `Retain`: it stays, and an app of the same name finds its sessions again. `Delete`: it goes too.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message(
        "secrets.onDelete cannot be changed once the app exists; delete the app and create it anew, or delete the Secret by hand"
    ))]
    pub on_delete: OnDelete,
}

/// What becomes of the generated Secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnDelete {
    /// It outlives the app.
    #[default]
    Retain,
    /// It is deleted with the app.
    Delete,
}
