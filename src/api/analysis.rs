//! What tells a good release from a bad one: numbers out of Prometheus, and tests of the new pods themselves.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{StrategyKind, decimal::Decimal, duration::Duration};

/// A number that Prometheus is asked for again and again, and what it may be.
///
/// Each answer is a success, a failure (beyond `min` or `max`), or inconclusive: beyond `warnMin` or `warnMax`, or no
/// number at all. No data, NaN and a Prometheus that does not answer are never a success.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.query) != has(self.preset)")
        .message("a check of strategy.analysis must have exactly one of query and preset"),
    validation = Rule::new(
        "has(self.preset) || has(self.min) || has(self.max) || has(self.warnMin) || has(self.warnMax)"
    )
    .message("a check of strategy.analysis must have a limit, or every number would pass; give min, max, warnMin or warnMax"),
    validation = Rule::new("!(has(self.min) && has(self.max)) || double(self.min) <= double(self.max)")
        .message("min of a check in strategy.analysis must not be above its max, or no number could pass"),
    validation = Rule::new("!(has(self.warnMin) && has(self.warnMax)) || double(self.warnMin) <= double(self.warnMax)")
        .message("warnMin of a check in strategy.analysis must not be above its warnMax, or no number could pass")
)]
pub struct Check {
    /// What it is called in the status, in steps and in messages. Example: `error-rate`
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Which Prometheus, of those that the operator's own configuration names. Example: `prometheus`
    #[serde(default = "prometheus")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub provider: String,
    /// A ready-made query with its limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// PromQL with one number as its answer. `{{app}}`, `{{namespace}}`, `{{release}}`, `{{revision}}` (the new one),
    /// `{{stable}}` (the one before) and `{{window}}` are filled in.
    /// Example: `sum(rate(errors_total{phoenix_operator_dev_revision="{{revision}}"}[{{window}}]))`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub query: Option<String>,
    /// A smaller number is a failure. A decimal number in quotes. Example: `"0.9"`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Decimal>,
    /// A larger number is a failure. A decimal number in quotes. Example: `"0.05"`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Decimal>,
    /// A smaller number is inconclusive. Example: `"0.95"`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warn_min: Option<Decimal>,
    /// A larger number is inconclusive. Example: `"0.02"`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warn_max: Option<Decimal>,
    /// How far back `{{window}}` looks: at least four scrapes. Example: `2m`
    #[serde(default = "five_minutes")]
    #[x_kube(validation = Rule::new("duration(self).getSeconds() >= 1").message("window must be at least 1s"))]
    pub window: Duration,
    /// From one measurement to the next. Example: `30s`
    #[serde(default = "one_minute")]
    #[x_kube(validation = Rule::new("duration(self).getSeconds() >= 1").message("interval must be at least 1s"))]
    pub interval: Duration,
    /// Successes it takes to pass. Example: `5`
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 1000))]
    pub count: i32,
    /// How long after the beginning the first measurement is made. Example: `1m`
    #[serde(default)]
    pub initial_delay: Duration,
    /// Failures that are borne; one more fails the rollout. Example: `1`
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub failure_limit: i32,
    /// Inconclusive answers in a row that are borne; one more pauses the rollout. Example: `4`
    #[serde(default = "two")]
    #[schemars(range(min = 0, max = 1000))]
    pub inconclusive_limit: i32,
    /// When it is measured besides in `analysis` steps. Absent: `[Rollout, Bake]`, but `[Bake]` with BlueGreen, whose
    /// new pods serve nobody before. `[]`: only in steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2))]
    pub during: Option<Vec<During>>,
}

/// Limits of a check: absent ones bind nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Below it is a failure.
    pub min: Option<Decimal>,
    /// Above it is a failure.
    pub max: Option<Decimal>,
    /// Below it is inconclusive.
    pub warn_min: Option<Decimal>,
    /// Above it is inconclusive.
    pub warn_max: Option<Decimal>,
}

impl Check {
    /// The limits in force: the check's own, else the preset's.
    pub fn limits(&self) -> Limits {
        let preset = self.preset.map(Preset::limits).unwrap_or_default();
        Limits {
            min: self.min.or(preset.min),
            max: self.max.or(preset.max),
            warn_min: self.warn_min.or(preset.warn_min),
            warn_max: self.warn_max.or(preset.warn_max),
        }
    }

    /// The query with its placeholders.
    pub fn template(&self) -> &str {
        self.query.as_deref().or(self.preset.map(Preset::query)).unwrap_or_default()
    }

    /// Whether it is measured in the background of that time.
    pub fn is_measured(&self, during: During, strategy: StrategyKind) -> bool {
        match (&self.during, strategy) {
            (Some(times), _) => times.contains(&during),
            (None, StrategyKind::BlueGreen) => during == During::Bake,
            (None, _) => true,
        }
    }
}

/// When a check is measured in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum During {
    /// From the first available new pod until the promotion.
    Rollout,
    /// After the promotion, while a failure still returns to the revision before.
    Bake,
}

/// A ready-made query with its limits. `PromEx...`: the metrics of PromEx's Phoenix plugin. `Telemetry...`: a
/// `distribution("phoenix.endpoint.stop.duration", tags: [:status], unit: {:native, :millisecond})` of
/// telemetry_metrics_prometheus. ErrorRate: 5 % of 5xx fail, 2 % pause. P99: 2 s fail. P95: 1 s pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Preset {
    /// Share of 5xx.
    PromExErrorRate,
    /// The slowest request of a hundred, in seconds.
    PromExP99,
    /// The slowest request of twenty, in seconds.
    PromExP95,
    /// Share of 5xx.
    TelemetryErrorRate,
    /// The slowest request of a hundred, in seconds.
    TelemetryP99,
    /// The slowest request of twenty, in seconds.
    TelemetryP95,
}

/// A preset's query, with which requests of which pods: the labels that Prometheus' own examples and the Prometheus
/// operator (`podTargetLabels`) make of a pod's labels.
macro_rules! query {
    (errors $count:literal) => {
        concat!(
            // without a single 5xx there is no such series, which is no error and not no data
            "(sum(rate(", $count, query!(labels r#",status=~"5..""#), "[{{window}}])) or vector(0)) / sum(rate(",
            $count, query!(labels ""), "[{{window}}]))"
        )
    };
    ($quantile:literal $bucket:literal) => {
        concat!(
            "histogram_quantile(", $quantile, ", sum by (le) (rate(", $bucket, query!(labels ""),
            "[{{window}}]))) / 1000"
        )
    };
    (labels $more:literal) => {
        concat!(
            r#"{namespace="{{namespace}}",phoenix_operator_dev_app="{{app}}","#,
            r#"phoenix_operator_dev_revision="{{revision}}""#, $more, "}"
        )
    };
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 6] = [
        Self::PromExErrorRate,
        Self::PromExP99,
        Self::PromExP95,
        Self::TelemetryErrorRate,
        Self::TelemetryP99,
        Self::TelemetryP95,
    ];

    /// PromQL with placeholders. Without requests the rate is 0/0 or absent, which is inconclusive.
    ///
    /// Names: `PromEx.Plugins.Phoenix` (prefix `<otp_app>_prom_ex_phoenix`, tag `status`), and
    /// `TelemetryMetricsPrometheus.Core`, which joins the parts of a metric's name with `_`.
    pub const fn query(self) -> &'static str {
        match self {
            Self::PromExErrorRate => query!(errors "{{release}}_prom_ex_phoenix_http_requests_total"),
            Self::PromExP99 => {
                query!("0.99" "{{release}}_prom_ex_phoenix_http_request_duration_milliseconds_bucket")
            }
            Self::PromExP95 => {
                query!("0.95" "{{release}}_prom_ex_phoenix_http_request_duration_milliseconds_bucket")
            }
            Self::TelemetryErrorRate => query!(errors "phoenix_endpoint_stop_duration_count"),
            Self::TelemetryP99 => query!("0.99" "phoenix_endpoint_stop_duration_bucket"),
            Self::TelemetryP95 => query!("0.95" "phoenix_endpoint_stop_duration_bucket"),
        }
    }

    /// The usual limits.
    pub const fn limits(self) -> Limits {
        const fn hundredths(hundredths: i128) -> Decimal {
            Decimal::from_billionths(hundredths * 10_000_000)
        }
        const NONE: Limits = Limits { min: None, max: None, warn_min: None, warn_max: None };
        match self {
            Self::PromExErrorRate | Self::TelemetryErrorRate => {
                Limits { max: Some(hundredths(5)), warn_max: Some(hundredths(2)), ..NONE }
            }
            Self::PromExP99 | Self::TelemetryP99 => Limits { max: Some(hundredths(200)), ..NONE },
            Self::PromExP95 | Self::TelemetryP95 => Limits { warn_max: Some(hundredths(100)), ..NONE },
        }
    }
}

/// A test of the new pods: exactly one of `http` and `job`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.http) != has(self.job)")
    .message("a test of strategy.smokeTests must have exactly one of http and job"))]
pub struct SmokeTest {
    /// What it is called in the status, in steps and in messages. Example: `home-page`
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// A request to each of the new pods. Example: `{path: /health, bodyContains: ok}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpTest>,
    /// A Job with the new image and the pods' environment. Example: `{command: [/app/bin/shop, eval, Shop.Smoke.run]}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobTest>,
}

/// A GET to a new pod's own address and `spec.port`. A redirect is a failure unless its status is asked for; none is
/// followed.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.jsonPath) == has(self.value)")
    .message("http of a test in strategy.smokeTests must have both of jsonPath and value, or neither"))]
pub struct HttpTest {
    /// Path, with a query string if need be. Example: `/health`
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^/[!-~]*$"))]
    pub path: String,
    /// The status that is wanted.
    #[serde(default = "ok")]
    #[schemars(range(min = 200, max = 599))]
    pub status: i32,
    /// Text that the first 64 KiB of the body must hold. Example: `Welcome`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub body_contains: Option<String>,
    /// A place in a JSON body of at most 64 KiB. Example: `checks[0].status`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = r"^[A-Za-z0-9_-]+(\[[0-9]{1,4}\])*(\.[A-Za-z0-9_-]+(\[[0-9]{1,4}\])*)*$")
    )]
    pub json_path: Option<String>,
    /// What must stand there: a string as it is, anything else as JSON. Example: `"true"`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub value: Option<String>,
    /// How long to wait for the whole answer. Example: `5s`
    #[serde(default = "five_seconds")]
    #[x_kube(validation = Rule::new("duration(self).getSeconds() >= 1 && duration(self).getSeconds() <= 60").message("timeout must be from 1s to 60s"))]
    pub timeout: Duration,
    /// How often the test is made again, 5 s later, before it has failed. Example: `3`
    #[serde(default = "two")]
    #[schemars(range(min = 0, max = 100))]
    pub retries: i32,
    /// More request headers. `Host: localhost` and `X-Forwarded-Proto: https` are sent unless set here.
    /// Example: `{X-Smoke: "1"}`
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub headers: BTreeMap<String, String>,
}

/// A Job that must succeed. It is no node of the app's cluster, serves nothing and mounts no PersistentVolumeClaim.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobTest {
    /// What it runs. Example: `[/app/bin/shop, eval, Shop.Smoke.run]`
    #[schemars(length(min = 1, max = 64))]
    pub command: Vec<String>,
    /// Its arguments. Example: `["--fast"]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub args: Vec<String>,
    /// More environment; beats that of the pods. Example: `[{name: SMOKE, value: "1"}]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<NamedValue>,
    /// How long it may take, all retries included. Example: `10m`
    #[serde(default = "five_minutes")]
    #[x_kube(validation = Rule::new("duration(self).getSeconds() >= 1").message("timeout must be at least 1s"))]
    pub timeout: Duration,
    /// How often a failed one is tried again. Example: `1`
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub retries: i32,
}

/// A variable of the environment.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new(
    "!(self.name in ['RELEASE_NAME', 'RELEASE_VSN', 'PHOENIX_REVISION', 'PHOENIX_HEADLESS_SERVICE', 'PHOENIX_HEADLESS_FQDN', 'PHOENIX_CLUSTER_SELECTOR'])"
).message("env must not set RELEASE_NAME, RELEASE_VSN or one of the PHOENIX_ names that the operator sets; choose another name"))]
pub struct NamedValue {
    /// Its name. Example: `SMOKE`
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z][-._a-zA-Z0-9]*$"))]
    pub name: String,
    /// Its value. Example: `"1"`
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// A step that waits for checks to pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisStep {
    /// Checks of `strategy.analysis`. Absent: all. Example: `[error-rate]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 40)))]
    pub names: Vec<String>,
    /// How long it goes on at least. Absent: until every check has its `count` of successes. Example: `10m`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
}

/// A step that waits for smoke tests to pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SmokeTestStep {
    /// Tests of `strategy.smokeTests`. Absent: all. Example: `[home-page]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 40)))]
    pub names: Vec<String>,
}

fn prometheus() -> String {
    "prometheus".to_owned()
}

const fn ok() -> i32 {
    200
}

const fn two() -> i32 {
    2
}

const fn three() -> i32 {
    3
}

const fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

const fn one_minute() -> Duration {
    Duration::from_secs(60)
}

const fn five_minutes() -> Duration {
    Duration::from_secs(300)
}
