//! Probes. Readiness decides on traffic, liveness on restarts, startup on how long a boot may take.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;

/// How the kubelet asks the app how it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthSpec {
    /// Whether the pod gets requests. Example: `{path: /health}`
    #[serde(default)]
    pub readiness: Readiness,
    /// Whether the container is restarted; must not depend on the database. Example: `{path: /live}`
    #[serde(default)]
    pub liveness: Liveness,
    /// How long a boot may take: period times failureThreshold, 5 minutes by default.
    /// Example: `{failureThreshold: 120}`
    #[serde(default)]
    pub startup: Startup,
}

/// A probe whatever its purpose: the three types below differ in their defaults only.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe<'a> {
    /// Path of an HTTP request; none: a TCP connection suffices.
    pub path: Option<&'a str>,
    /// Port; none: the app's.
    pub port: Option<i32>,
    /// More request headers.
    pub headers: &'a BTreeMap<String, String>,
    /// From one probe to the next.
    pub period: Duration,
    /// How long to wait for an answer.
    pub timeout: Duration,
    /// Failures in a row that count.
    pub failure_threshold: i32,
}

macro_rules! probe {
    ($(#[$doc:meta])* $name:ident, $period:ident = $period_path:literal, $failures:ident = $failures_path:literal) => {
        $(#[$doc])*
        #[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {
            /// An HTTP GET that must answer 2xx or 3xx. Absent: TCP suffices. Example: `/health`
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(length(min = 1, max = 1024), regex(pattern = "^/"))]
            pub path: Option<String>,
            /// Port to ask. Absent: spec.port. Example: `4001`
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(range(min = 1, max = 65535))]
            pub port: Option<i32>,
            /// More request headers, beside `Host: localhost` and `X-Forwarded-Proto: https`. Example: `{X-Probe: "1"}`
            #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
            pub headers: BTreeMap<String, String>,
            /// From one probe to the next. Example: `5s`
            #[serde(default = $period_path)]
            #[x_kube(validation = Rule::new("duration(self).getSeconds() >= 1").message("period must be at least 1s"))]
            pub period: Duration,
            /// How long to wait for an answer. Example: `5s`
            #[serde(default = "timeout")]
            #[x_kube(validation = Rule::new("duration(self).getSeconds() >= 1").message("timeout must be at least 1s"))]
            pub timeout: Duration,
            /// Failures in a row that count. Example: `3`, for startup `60`
            #[serde(default = $failures_path)]
            #[schemars(range(min = 1, max = 10000))]
            pub failure_threshold: i32,
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    path: None,
                    port: None,
                    headers: BTreeMap::new(),
                    period: $period(),
                    timeout: timeout(),
                    failure_threshold: $failures(),
                }
            }
        }

        impl<'a> From<&'a $name> for Probe<'a> {
            fn from(probe: &'a $name) -> Self {
                let $name { path, port, headers, period, timeout, failure_threshold } = probe;
                Self {
                    path: path.as_deref(),
                    port: *port,
                    headers,
                    period: *period,
                    timeout: *timeout,
                    failure_threshold: *failure_threshold,
                }
            }
        }
    };
}

probe!(
    /// Whether the pod gets requests.
    Readiness, five_seconds = "five_seconds", three = "three"
);
probe!(
    /// Whether the container is restarted.
    Liveness, fifteen_seconds = "fifteen_seconds", four = "four"
);
probe!(
    /// How long a boot may take.
    Startup, five_seconds = "five_seconds", sixty = "sixty"
);

const fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

const fn fifteen_seconds() -> Duration {
    Duration::from_secs(15)
}

const fn timeout() -> Duration {
    Duration::from_secs(5)
}

const fn three() -> i32 {
    3
}

const fn four() -> i32 {
    4
}

/// Five minutes at a period of five seconds: a first boot may compile caches or wait for a database.
const fn sixty() -> i32 {
    60
}
