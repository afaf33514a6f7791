//! HTTPRoute of the Gateway API, as much of it as the operator writes and reads.
//!
//! <https://gateway-api.sigs.k8s.io/reference/spec/#httproute>

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use serde::{Deserialize, Serialize};

use super::GatewayRef;

/// Which requests go where.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "HTTPRoute",
    root = "HttpRoute",
    namespaced,
    schema = "disabled",
    status = "HttpRouteStatus",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteSpec {
    /// The Gateways.
    #[serde(default)]
    pub parent_refs: Vec<GatewayRef>,
    /// Hosts of the requests.
    #[serde(default)]
    pub hostnames: Vec<String>,
    /// What is done with them.
    #[serde(default)]
    pub rules: Vec<HttpRouteRule>,
}

/// Requests that match go to backends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteRule {
    /// Which requests.
    #[serde(default)]
    pub matches: Vec<HttpRouteMatch>,
    /// Where they go, by weight.
    #[serde(default)]
    pub backend_refs: Vec<BackendRef>,
}

/// Requests by path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpRouteMatch {
    /// The path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
}

/// A path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathMatch {
    /// `PathPrefix`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Its beginning.
    #[serde(default)]
    pub value: String,
}

/// A Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendRef {
    /// Its name.
    pub name: String,
    /// Its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// Its part of the sum of all weights; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<i32>,
}

/// What Gateways make of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HttpRouteStatus {
    /// One entry for each Gateway that has answered.
    #[serde(default)]
    pub parents: Vec<ParentStatus>,
}

/// What one Gateway makes of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentStatus {
    /// Which.
    pub parent_ref: GatewayRef,
    /// `Accepted`, `ResolvedRefs`.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}
