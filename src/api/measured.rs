//! What the status keeps of checks and smoke tests: what counts, and the last few measurements for people.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a check stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckStatus {
    /// The check.
    pub name: String,
    /// What it is measured for: `rollout`, `bake`, or a step as `step-2`.
    pub span: String,
    /// The attempt.
    pub attempt: i64,
    /// How it stands.
    pub phase: CheckPhase,
    /// When the span began for this check.
    pub started_at: Time,
    /// Measurements so far.
    #[serde(default)]
    pub measured: i32,
    /// Successes so far.
    #[serde(default)]
    pub successes: i32,
    /// Failures so far.
    #[serde(default)]
    pub failures: i32,
    /// Inconclusive measurements since the last that was not.
    #[serde(default)]
    pub inconclusive: i32,
    /// Why it does not pass, in a sentence; empty while it does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The last five measurements, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<Sample>,
}

/// A measurement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// When it was answered.
    pub at: Time,
    /// The number as Prometheus gave it; absent when it gave none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What it counts as.
    pub verdict: SampleVerdict,
}

/// What a measurement counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum SampleVerdict {
    /// Within the limits.
    Success,
    /// Beyond `min` or `max`.
    Failure,
    /// Beyond `warnMin` or `warnMax`, or no number.
    Inconclusive,
}

/// How a check stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum CheckPhase {
    /// Not measured yet, or not well.
    Waiting,
    /// The last measurement was a success, but there are too few.
    Passing,
    /// It has its successes.
    Passed,
    /// Too often no number, or one beyond a warning: a person decides.
    Inconclusive,
    /// Too many failures.
    Failed,
}

/// How a smoke test stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SmokeTestStatus {
    /// The test.
    pub name: String,
    /// What it is made for: `rollout`, or a step as `step-2`.
    pub span: String,
    /// The attempt.
    pub attempt: i64,
    /// How it stands.
    pub phase: SmokeTestPhase,
    /// How often it was made.
    #[serde(default)]
    pub tries: i32,
    /// When it was last made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
    /// What went wrong last, or what is waited for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// How a smoke test stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum SmokeTestPhase {
    /// It has not ended.
    Running,
    /// It succeeded.
    Passed,
    /// It failed as often as it may.
    Failed,
}
