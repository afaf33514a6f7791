//! The status of a `PhoenixApp`: what readers see, and the few durable facts that cannot be recomputed.
//!
//! Durable facts (`stable`, `candidate`, `attempt`, `migration`, ...) are written before the first write that
//! follows from them, so that an operator killed at any moment goes on where it stopped.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CanaryStep, CheckStatus, SmokeTestStatus, Stage, StrategyKind};

/// Observed state of the app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PhoenixAppStatus {
    /// The `metadata.generation` this status speaks of; -1 until the operator has seen the app.
    #[serde(default = "unseen")]
    pub observed_generation: i64,
    /// Where the app stands, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// One sentence: what is waited for, since when, and what is wrong with the worst pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Pods that exist, not counting those that are going. Read by the scale subresource.
    #[serde(default)]
    pub replicas: i32,
    /// Pods that receive requests through the active Service.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Label selector of the active Service, as text. Read by autoscalers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// Conditional defaults as they are in force for the newest revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<EffectiveStatus>,
    /// The revision last promoted. A failed rollout returns to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<String>,
    /// The revision that was stable before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// Counts promotions; the revision with the highest number is the stable one.
    #[serde(default)]
    pub promotion: i64,
    /// The revision that is to become stable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Candidate>,
    /// Counts rollouts of this app; never reused.
    #[serde(default)]
    pub attempt: i64,
    /// The time after a promotion in which a failure still returns to `previous`; absent outside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake: Option<Bake>,
    /// The weight that the gateways were last seen to have taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteStatus>,
    /// What is kept of `previous` after a blue-green promotion; absent when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
    /// When pods that stood beside the stable revision were last told to stop; the next batch waits from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained_at: Option<Time>,
    /// A person holds the rollout.
    #[serde(default, skip_serializing_if = "is_false")]
    pub paused: bool,
    /// When a restart of a revision's pods was last asked for by a command.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub restarts: BTreeMap<String, Time>,
    /// The revision for which the generated Secret was last known to exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets_for: Option<String>,
    /// The migration of the current attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<MigrationStatus>,
    /// The Job that follows a rollout: a contract, or the way back of migrations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow_up: Option<FollowUp>,
    /// `false`: a contract has run, so that `rollback` to an older revision needs the word `force`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_safe: Option<bool>,
    /// Checks of the rollout or bake under way, or of the last one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub analysis: Vec<CheckStatus>,
    /// Smoke tests of the rollout under way, or of the last one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub smoke_tests: Vec<SmokeTestStatus>,
    /// Whether the nodes see each other; absent unless `clustering.verify` asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterStatus>,
    /// Workers of the stable revision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<WorkerStatus>,
    /// The command last answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_command: Option<LastCommand>,
    /// The last ten finished rollouts, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryEntry>,
    /// `Ready`, `Reconciling`, `Stalled`, `Available`, and one per gate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl PhoenixAppStatus {
    /// The candidate, while nothing is decided about it.
    pub fn under_way(&self) -> Option<&Candidate> {
        self.candidate.as_ref().filter(|candidate| candidate.verdict.is_none())
    }

    /// A command in this very text has no answer yet.
    pub fn is_unanswered(&self, command: &str) -> bool {
        self.last_command.as_ref().is_none_or(|last| last.text != command)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

const fn unseen() -> i64 {
    -1
}

impl Default for PhoenixAppStatus {
    fn default() -> Self {
        Self {
            observed_generation: unseen(),
            phase: None,
            message: String::new(),
            replicas: 0,
            ready_replicas: 0,
            selector: String::new(),
            effective: None,
            stable: None,
            previous: None,
            promotion: 0,
            candidate: None,
            attempt: 0,
            bake: None,
            route: None,
            kept: None,
            drained_at: None,
            paused: false,
            restarts: BTreeMap::new(),
            secrets_for: None,
            migration: None,
            follow_up: None,
            rollback_safe: None,
            analysis: Vec::new(),
            smoke_tests: Vec::new(),
            cluster: None,
            workers: Vec::new(),
            last_command: None,
            history: Vec::new(),
            conditions: Vec::new(),
        }
    }
}

/// Where the app stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// The candidate's migration runs, or waits to run.
    Migrating,
    /// The candidate's pods replace the older ones.
    RollingOut,
    /// The rollout waits for a person: at a pause without an end, or because a person said `pause`.
    Paused,
    /// Pods of the stable revision replace those of a failed or withdrawn candidate.
    RollingBack,
    /// The wanted pods serve.
    Healthy,
    /// The stable revision serves below its wanted size.
    Degraded,
    /// The rollout failed; the stable revision serves.
    Failed,
    /// A person ended the rollout; the stable revision serves.
    Aborted,
    /// A person returned to an earlier revision; it serves.
    RolledBack,
    /// The app cannot go on until something is cured; the message names it.
    Blocked,
    /// `spec.suspend` is true: nothing is written but the status.
    Suspended,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 11] = [
        Self::Migrating,
        Self::RollingOut,
        Self::Paused,
        Self::RollingBack,
        Self::Healthy,
        Self::Degraded,
        Self::Failed,
        Self::Aborted,
        Self::RolledBack,
        Self::Blocked,
        Self::Suspended,
    ];
}

/// Conditional defaults in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveStatus {
    /// `Job`, `Entrypoint` or `Disabled`.
    pub migrations_mode: String,
    /// `Shared` or `PerRevision`.
    pub isolation: String,
    /// Numeric user of the containers; absent: the image's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as_user: Option<i64>,
}

/// A rollout under way, or one that failed and has not been replaced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Name of the revision.
    pub revision: String,
    /// Which attempt of the app this is.
    pub attempt: i64,
    /// What asked for it: a generation of the spec, or a command.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub asked: String,
    /// The strategy, frozen for this attempt.
    pub strategy: StrategyKind,
    /// A canary by the weights of an HTTPRoute, frozen for this attempt.
    #[serde(default, skip_serializing_if = "is_false")]
    pub gateway: bool,
    /// What stands between the first pods and all requests, frozen for this attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<CanaryStep>,
    /// Index of the step under way, from 0; the number of steps once all are behind.
    #[serde(default)]
    pub step: i32,
    /// When that step began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_since: Option<Time>,
    /// Wanted share of the requests, in percent. By pods it is met as nearly as whole pods can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<i32>,
    /// When the attempt began.
    pub started_at: Time,
    /// Set once the attempt ended without promotion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// The progress clock; absent until the first pods are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// The time after a promotion in which a failure still returns to the revision before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bake {
    /// When it began.
    pub since: Time,
    /// How the promoted revision was rolled out, and so how it would be taken back.
    pub strategy: StrategyKind,
    /// By the weights of an HTTPRoute.
    #[serde(default, skip_serializing_if = "is_false")]
    pub gateway: bool,
}

/// A version of the HTTPRoute that every gateway has answered to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// Its `metadata.generation`.
    pub generation: i64,
    /// Percent of the requests that it sends to the candidate.
    pub weight: i32,
    /// When the answer was seen; `shutdown.endpointLag` later it is in force everywhere.
    pub since: Time,
    /// The answer was no.
    #[serde(default, skip_serializing_if = "is_false")]
    pub refused: bool,
}

/// What is kept of the revision that was stable before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// Since when.
    pub since: Time,
    /// Its old pods, and the sockets they held, are gone; what runs of it is fresh.
    #[serde(default)]
    pub drained: bool,
}

/// Why an attempt ended, and whether the return to the stable revision is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Failed by itself, or aborted by a person.
    pub outcome: Outcome,
    /// A word for machines, such as `MigrationFailed`.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// All traffic and pods are back on the stable revision.
    #[serde(default)]
    pub returned: bool,
    /// Nothing returns by itself (`onFailure: Pause`): everything stays until a person decides.
    #[serde(default, skip_serializing_if = "is_false")]
    pub held: bool,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Outcome {
    /// Became the stable revision.
    Promoted,
    /// A gate failed.
    Failed,
    /// A person ended it.
    Aborted,
    /// A newer spec took its place.
    Superseded,
    /// A person returned from it to an earlier revision.
    RolledBack,
}

/// Clock of the progress deadline. It starts anew when more candidate pods are available than ever before in
/// this attempt, and stands still while nothing can progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Most pods that were available at once in this attempt.
    pub available: i32,
    /// Seconds counted before `since`.
    pub elapsed_seconds: i64,
    /// Since when the clock runs; absent while it stands still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

/// The migration Job of an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationStatus {
    /// The attempt it belongs to.
    pub attempt: i64,
    /// How it stands.
    pub state: MigrationState,
    /// A word for machines, such as `BackoffLimitExceeded`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// A sentence for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Exit code of the last failed pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The end of the last failed pod's log, at most 2,048 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub log_tail: String,
    /// How often the Job was replaced within this attempt.
    #[serde(default)]
    pub retries: i32,
    /// When the next Job starts, while nothing has ever been stable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Time>,
}

/// How a migration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum MigrationState {
    /// It failed; its Job and pod are being removed.
    Ending,
    /// It failed and its pod is gone; it is tried again at `retryAt`.
    WaitingToRetry,
    /// It failed and its pod is gone.
    Failed,
}

/// A Job that follows a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FollowUp {
    /// Which one.
    pub kind: FollowUpKind,
    /// The revision whose command and image it has.
    pub revision: String,
    /// The attempt it is named after.
    pub attempt: i64,
    /// How it stands.
    pub state: FollowUpState,
    /// A word for machines.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// A sentence for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The end of its log, at most 2,048 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub log_tail: String,
    /// How often it was begun again.
    #[serde(default)]
    pub retries: i32,
    /// When it is begun again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Time>,
}

/// What follows a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum FollowUpKind {
    /// `migrations.contract` of the stable revision.
    Contract,
    /// `migrations.rollback` of a revision that was left.
    Rollback,
}

impl FollowUpKind {
    /// The stage of its Job.
    pub const fn stage(self) -> Stage {
        match self {
            Self::Contract => Stage::Contract,
            Self::Rollback => Stage::Rollback,
        }
    }
}

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum FollowUpState {
    /// It waits for pods to be gone.
    Pending,
    /// Its Job runs, or is about to be made.
    Running,
    /// It failed; its Job and pod are being removed.
    Ending,
    /// It failed, and is begun again at `retryAt`.
    WaitingToRetry,
    /// It failed, or was given up.
    Failed,
    /// It is done.
    Succeeded,
}

/// Whether the nodes of a revision's cluster see each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// The revision whose ready pods are asked.
    pub revision: String,
    /// Peers that each is to see.
    pub expected: i32,
    /// Peers that the one that sees the fewest does see.
    pub seen: i32,
    /// Each sees them all; they are asked again only when other nodes are there.
    pub formed: bool,
    /// Only nodes of this revision are expected: those of the stable one had not found each other.
    #[serde(default, skip_serializing_if = "is_false")]
    pub apart: bool,
    /// Which nodes were asked, and about whom.
    pub set: String,
    /// How often they were asked.
    pub asked: i32,
    /// When they last answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
    /// Who does not see enough.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A worker of the stable revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerStatus {
    /// Its name.
    pub name: String,
    /// The revision whose pods it is to have.
    pub revision: String,
    /// Wanted pods.
    pub replicas: i32,
    /// Of these, available ones.
    pub ready: i32,
    /// Since when its pods start; absent once all of them were available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting_since: Option<Time>,
}

/// A command from the annotation, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastCommand {
    /// The annotation's value as it was given.
    pub text: String,
    /// Accepted, Ignored (stale: it names another revision or attempt) or Refused.
    pub answer: CommandAnswer,
    /// Why, and what to do.
    pub message: String,
    /// Counts accepted commands.
    #[serde(default)]
    pub n: i64,
    /// Answered before; none acts again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<String>,
}

impl LastCommand {
    /// A command in these words was answered, however they are spaced.
    pub fn answered(&self, text: &str) -> bool {
        let text = Self::words(text);
        Self::words(&self.text) == text || self.earlier.contains(&text)
    }

    /// A text's words, one space apart.
    pub fn words(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// This command in words that were not answered yet: if they were, with one more, which means nothing.
    pub fn unanswered(last: Option<&Self>, text: &str) -> String {
        let answered = |text: &String| last.is_some_and(|last| last.answered(text));
        let mut fresh = text.to_owned();
        let mut number = 1_u32;
        while answered(&fresh) && number < u32::MAX {
            number += 1;
            fresh = format!("{text} {AGAIN}{number}");
        }
        fresh
    }
}

/// Begins the last word of a command that is given again: `again-2`.
pub const AGAIN: &str = "again-";

/// The answer to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum CommandAnswer {
    /// It takes effect.
    Accepted,
    /// It names another revision or attempt than the current one.
    Ignored,
    /// It cannot be carried out.
    Refused,
}

/// A finished rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// The revision rolled out.
    pub revision: String,
    /// Its image; empty when it was never stored.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// What asked for it: a generation of the spec, or a command.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub asked: String,
    /// The attempt.
    pub attempt: i64,
    /// When it began.
    pub started_at: Time,
    /// When it ended.
    pub ended_at: Time,
    /// How it ended.
    pub outcome: Outcome,
    /// A word for machines; empty after a promotion.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}
