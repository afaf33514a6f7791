//! How one revision takes the place of another.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    amount::Amount,
    analysis::{AnalysisStep, Check, SmokeTest, SmokeTestStep},
    duration::Duration,
};

/// How one revision takes the place of another. Nothing here makes a revision.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.type != 'Canary' || has(self.canary.steps)").message(
        "strategy.canary.steps must not be empty with type Canary; give at least one step, as in [{setWeight: 10}, {pause: {}}]"
    ),
    validation = Rule::new(
        "!has(self.canary.steps) || self.canary.steps.all(s, !has(s.analysis) || (has(self.analysis) && (!has(s.analysis.names) || s.analysis.names.all(n, self.analysis.exists(c, c.name == n)))))"
    )
    .message("an analysis step of strategy.canary.steps must name checks that strategy.analysis holds; add them there"),
    validation = Rule::new(
        "!has(self.canary.steps) || self.canary.steps.all(s, !has(s.smokeTest) || (has(self.smokeTests) && (!has(s.smokeTest.names) || s.smokeTest.names.all(n, self.smokeTests.exists(t, t.name == n)))))"
    )
    .message("a smokeTest step of strategy.canary.steps must name tests that strategy.smokeTests holds; add them there")
)]
pub struct StrategySpec {
    /// `Rolling`: pod by pod, nothing is lost. `Recreate`: the old pods are gone before the first new one starts.
    /// `BlueGreen`: the new pods stand ready beside the old ones, then one write moves all requests.
    /// `Canary`: a part of the pods first, in steps.
    #[serde(default, rename = "type")]
    pub kind: StrategyKind,
    /// How long a rollout may go without one more available pod. Example: `10m`
    #[serde(default = "ten_minutes")]
    pub progress_deadline: Duration,
    /// What a failed rollout does. `Rollback`: traffic and pods return to the stable revision. `Pause`: everything
    /// stays as it is, until a person says `retry` or `abort`, or there is a new spec.
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
    /// How a blue-green rollout goes. Example: `{autoPromote: false, bake: 30m}`
    #[serde(default)]
    pub blue_green: BlueGreenSpec,
    /// How a canary goes. Example: `{steps: [{setWeight: 10}, {pause: {duration: 5m}}, {setWeight: 50}, {pause: {}}]}`
    #[serde(default)]
    pub canary: CanarySpec,
    /// Checks of numbers out of Prometheus, during rollouts and after. Example: `[{name: errors, preset: PromExErrorRate}]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub analysis: Vec<Check>,
    /// Tests of the new pods, once each has published its address. Example: `[{name: home, http: {path: /}}]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub smoke_tests: Vec<SmokeTest>,
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
            blue_green: BlueGreenSpec::default(),
            canary: CanarySpec::default(),
            analysis: Vec::new(),
            smoke_tests: Vec::new(),
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
    /// The new pods stand beside the old ones, then take over all requests at once.
    BlueGreen,
    /// The new pods take over in steps.
    Canary,
}

impl StrategyKind {
    /// As written in the spec.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rolling => "Rolling",
            Self::Recreate => "Recreate",
            Self::BlueGreen => "BlueGreen",
            Self::Canary => "Canary",
        }
    }
}

/// What a failed rollout does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnFailure {
    /// Return to the stable revision.
    #[default]
    Rollback,
    /// Leave everything as it is and wait for a person.
    Pause,
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

/// How a blue-green rollout goes.
#[derive(KubeSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlueGreenSpec {
    /// Whether requests move without a person's `promote`, once every gate before has passed.
    #[serde(default = "yes")]
    pub auto_promote: bool,
    /// How long the new pods stand ready before requests move by themselves. Example: `10m`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_promote_after: Option<Duration>,
    /// Pods that stand ready until the promotion; all of them follow before requests move. Absent: all at once.
    /// Example: `1`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub preview_replicas: Option<i32>,
    /// How long the old pods stay at full size after the promotion, so that a return is one write. Example: `10m`
    #[serde(default = "ten_minutes")]
    pub bake: Duration,
    /// How long `keepOldReplicas` of the old revision are kept after the promotion. Example: `24h`
    #[serde(default = "one_day")]
    pub keep_old: Duration,
    /// Pods of the old revision that are kept after bake and drain; fresh ones, without sockets. Example: `0`
    #[serde(default)]
    #[schemars(range(min = 0, max = 10000))]
    pub keep_old_replicas: i32,
}

impl Default for BlueGreenSpec {
    fn default() -> Self {
        Self {
            auto_promote: true,
            auto_promote_after: None,
            preview_replicas: None,
            bake: ten_minutes(),
            keep_old: one_day(),
            keep_old_replicas: 0,
        }
    }
}

/// How a canary goes.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "!(string(self.maxSurge) in ['0', '0%'] && string(self.maxUnavailable) in ['0', '0%'])"
    )
    .message("strategy.canary.maxSurge and maxUnavailable must not both be zero, or no pod could ever be replaced; raise one of them"),
    validation = Rule::new("!has(self.steps) || size(self.steps) == 0 || has(self.steps[0].setWeight)")
        .message("strategy.canary.steps must begin with a setWeight: before it the new revision has no pods")
)]
pub struct CanarySpec {
    /// What happens on the way to all requests; frozen when a rollout begins.
    /// Example: `[{setWeight: 10}, {pause: {duration: 5m}}, {setWeight: 50}, {pause: {}}]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub steps: Vec<CanaryStep>,
    /// Pods above the wanted number; percentages round up. Example: `1` or `25%`
    #[serde(default = "a_pod")]
    pub max_surge: Amount,
    /// Pods below the wanted number; percentages round down. Example: `0` or `25%`
    #[serde(default = "none")]
    pub max_unavailable: Amount,
    /// How long after the promotion a failure still returns to the revision before. Example: `10m`
    #[serde(default = "ten_minutes")]
    pub bake: Duration,
}

impl Default for CanarySpec {
    fn default() -> Self {
        Self { steps: Vec::new(), max_surge: a_pod(), max_unavailable: none(), bake: ten_minutes() }
    }
}

/// One step of a canary: exactly one of its fields.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.setWeight), has(self.pause), has(self.analysis), has(self.smokeTest)].filter(x, x).size() == 1"
).message(
    "a step of strategy.canary.steps must have exactly one of setWeight, pause, analysis and smokeTest; write one step for each"
))]
pub struct CanaryStep {
    /// Share of the requests, in percent. By pods it is the nearest that whole pods can give. Example: `10`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub set_weight: Option<i32>,
    /// Wait: for a time, or, as `{}`, for a person's `promote`. Example: `{duration: 5m}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// Measure until the checks pass. Example: `{names: [errors], duration: 10m}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<AnalysisStep>,
    /// Test the new pods. Example: `{names: [home]}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smoke_test: Option<SmokeTestStep>,
}

/// A wait between two steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pause {
    /// How long. Absent: until a person says `promote`. Example: `5m`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
}

const fn yes() -> bool {
    true
}

const fn a_pod() -> Amount {
    Amount::Count(1)
}

const fn one_day() -> Duration {
    Duration::from_secs(86_400)
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
