//! How one revision takes the place of another.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{amount::Amount, duration::Duration};

/// How one revision takes the place of another. Nothing here makes a revision.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StrategySpec {
    /// `Rolling`: pod by pod, nothing is lost. `Recreate`: the old pods are gone before the first new one starts.
    #[serde(default, rename = "type")]
    pub kind: StrategyKind,
    /// How long a rollout may go without one more available pod. Example: `10m`
    #[serde(default = "ten_minutes")]
    pub progress_deadline: Duration,
    /// What a failed rollout does. `Rollback`: traffic and pods return to the stable revision.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Revisions kept deployed without pods, so that a return to them is only a scale-up. Example: `3`
    #[serde(default = "three")]
    #[schemars(range(min = 0, max = 50))]
    pub rollback_window: i32,
    /// How long a pod must be ready before it counts as available. Example: `10s`
    #[serde(default)]
    pub min_ready: Duration,
    /// Sizes of a rolling rollout. Example: `{maxSurge: 1, maxUnavailable: 0}`
    #[serde(default)]
    pub rolling: RollingSpec,
}

impl Default for StrategySpec {
    fn default() -> Self {
        Self {
            kind: StrategyKind::default(),
            progress_deadline: ten_minutes(),
            on_failure: OnFailure::default(),
            rollback_window: three(),
            min_ready: Duration::default(),
            rolling: RollingSpec::default(),
        }
    }
}

/// How one revision takes the place of another.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum StrategyKind {
    /// Pod by pod.
    #[default]
    Rolling,
    /// All old pods go, then the new ones start.
    Recreate,
}

impl StrategyKind {
    /// As written in the spec.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rolling => "Rolling",
            Self::Recreate => "Recreate",
        }
    }
}

/// What a failed rollout does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnFailure {
    /// Return to the stable revision.
    #[default]
    Rollback,
}

/// Sizes of a rolling rollout.
#[derive(KubeSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!(string(self.maxSurge) in ['0', '0%'] && string(self.maxUnavailable) in ['0', '0%'])"
)
.message("strategy.rolling.maxSurge and maxUnavailable must not both be zero, or no pod could ever be replaced; raise one of them"))]
pub struct RollingSpec {
    /// Pods above the wanted number; percentages round up. Example: `1` or `25%`
    #[serde(default = "quarter")]
    pub max_surge: Amount,
    /// Pods below the wanted number; percentages round down. Example: `0` or `25%`
    #[serde(default = "none")]
    pub max_unavailable: Amount,
}

impl Default for RollingSpec {
    fn default() -> Self {
        Self { max_surge: quarter(), max_unavailable: none() }
    }
}

const fn ten_minutes() -> Duration {
    Duration::from_secs(600)
}

const fn three() -> i32 {
    3
}

const fn quarter() -> Amount {
    Amount::Percent(25)
}

const fn none() -> Amount {
    Amount::Count(0)
}
