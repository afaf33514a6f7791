//! PURE. What `status` and `explain` show: a small picture of an app. With `-o json` programs get it as it is.

use serde::Serialize;

use crate::api::{FollowUpKind, FollowUpState, Phase};

/// An app, in one picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The wanted image.
    pub image: String,
    /// The strategy of the spec.
    pub strategy: String,
    /// Wanted pods.
    pub replicas: i32,
    /// Pods that receive requests.
    pub serving: i32,
    /// The operator has seen the present spec.
    pub observed: bool,
    /// Where the app stands; absent until the operator has seen it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// What is waited for.
    pub message: String,
    /// Since when `Ready` is as it is, in seconds before now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_seconds: Option<i64>,
    /// The candidate's attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<AttemptView>,
    /// Revisions that have a part or pods, the candidate first.
    pub revisions: Vec<RevisionView>,
    /// Workers that have pods or are to have some.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<WorkerView>,
    /// Children that the person may not list, as `pods`; nothing is said of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
    /// The migration, while there is something to say of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration: Option<MigrationView>,
    /// What follows the last rollout: a contract, or the way back of migrations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub follow_up: Option<FollowUpView>,
    /// The conditions, gates and all.
    pub gates: Vec<GateView>,
    /// Seconds since bake began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bake_seconds: Option<i64>,
    /// A contract has run: a return to an older revision takes force.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub contracted: bool,
    /// A person holds the rollout.
    pub paused: bool,
    /// The last command and its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_command: Option<String>,
}

/// A rollout under way, or one that failed and has not been replaced.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AttemptView {
    /// Which one.
    pub number: i64,
    /// Its revision.
    pub revision: String,
    /// Its strategy.
    pub strategy: String,
    /// Its steps.
    pub steps: Vec<StepView>,
    /// How it ended, if it has: the outcome, and the sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Everything is back on the stable revision.
    pub returned: bool,
    /// It ended, and everything stays as it is until a person decides.
    pub held: bool,
}

/// One step of a rollout.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepView {
    /// What it does, in words.
    pub what: String,
    /// `done`, `now` or `later`.
    pub state: StepState,
    /// Seconds since it began, when it is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_seconds: Option<i64>,
}

/// How a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum StepState {
    /// Behind.
    Done,
    /// Under way.
    Now,
    /// Ahead.
    Later,
}

/// A worker in one revision, and its pods.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerView {
    /// Its name.
    pub name: String,
    /// The revision.
    pub revision: String,
    /// Pods that are asked for.
    pub asked: i32,
    /// Pods that are available.
    pub ready: i32,
    /// Its pods.
    pub pods: Vec<PodView>,
}

/// One revision and its pods.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionView {
    /// Its name.
    pub name: String,
    /// `candidate`, `stable`, `previous`, `kept`.
    pub parts: Vec<&'static str>,
    /// Its image, as far as it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Pods that are asked for, as far as that may be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<i32>,
    /// Pods that receive requests, as far as that may be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serving: Option<i32>,
    /// Share of all serving pods, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<i32>,
    /// Wanted share, in percent, during a canary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<i32>,
    /// Its pods.
    pub pods: Vec<PodView>,
}

/// One pod.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// Whether it is ready.
    pub ready: bool,
    /// `ready`, `not ready`, `pending`, `going`, `failed`, `succeeded`.
    pub state: &'static str,
    /// The node it is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Seconds since it was made.
    pub age_seconds: i64,
    /// How often its containers were started again.
    pub restarts: i32,
}

/// A migration.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MigrationView {
    /// What runs: `migration`, or a `step` before it, as `step backup before the migration`.
    pub what: String,
    /// Its Job, while there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// `running`, `succeeded`, `failed`, `waiting to be tried again`, `being removed`.
    pub state: &'static str,
    /// What is known of a failure.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Exit code of the last failed pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The end of its log.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub log_tail: String,
    /// Its pods.
    pub pods: Vec<PodView>,
}

/// What follows a rollout.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FollowUpView {
    /// `Contract` or `Rollback`.
    pub kind: FollowUpKind,
    /// The revision whose command and image it has.
    pub revision: String,
    /// How it stands.
    pub state: FollowUpState,
    /// Why, in one word for programs.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What it waits for, or what is known of a failure.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The end of its log, if it failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub log_tail: String,
    /// Seconds until it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_seconds: Option<i64>,
    /// Its Job, while there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Its pods.
    pub pods: Vec<PodView>,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GateView {
    /// Its type.
    pub name: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
    /// Its reason.
    pub reason: String,
    /// Its message.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Seconds since its last transition.
    pub since_seconds: i64,
}

impl FollowUpView {
    /// What it is, in words.
    pub fn what(&self) -> String {
        match self.kind {
            FollowUpKind::Contract => format!("contract of revision {}", self.revision),
            FollowUpKind::Rollback => format!("way back of the migrations of revision {}", self.revision),
        }
    }

    /// How it stands, in words.
    pub fn stands(&self) -> &'static str {
        match self.state {
            FollowUpState::Pending => "waits",
            FollowUpState::Running => "running",
            FollowUpState::Ending => "being ended",
            FollowUpState::WaitingToRetry => "failed, to be tried again",
            FollowUpState::Failed if self.reason == "AbortedByCommand" => "given up",
            FollowUpState::Failed if self.reason == "NewerSpec" => "not run",
            FollowUpState::Failed => "failed",
            FollowUpState::Succeeded => "done",
        }
    }

    /// It failed, and a person may have to do something. One that a newer spec came before is over.
    pub fn failed(&self) -> bool {
        matches!(self.state, FollowUpState::WaitingToRetry | FollowUpState::Failed)
            && self.reason != "NewerSpec"
    }
}

impl View {
    /// The worst of what is wrong with pods, those of the candidate first.
    pub fn worst(&self) -> Option<&str> {
        let pods = self.revisions.iter().flat_map(|revision| &revision.pods);
        let migrating = self.migration.iter().flat_map(|migration| &migration.pods);
        let following = self.follow_up.iter().flat_map(|follow_up| &follow_up.pods);
        migrating.chain(pods).chain(following).find_map(|pod| pod.trouble.as_deref())
    }
}
