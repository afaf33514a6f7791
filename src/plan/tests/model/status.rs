//! The status, as small as the model needs it, and back.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{After, DEADLINE_SECONDS, Ended, Follows, Given, NAMES, Status, Steps, Tried, Weighed, index};
use crate::api::{
    Bake, Candidate, CommandAnswer, FollowUp, Kept, LastCommand, MigrationStatus, PhoenixAppStatus, Progress,
    RouteStatus, Verdict,
};

/// Long before the model's only instant.
fn long_ago() -> Timestamp {
    Timestamp::from_second(-1_000_000).expect("an instant")
}

fn since(over: bool) -> Time {
    Time(if over { long_ago() } else { Timestamp::UNIX_EPOCH })
}

impl Status {
    pub fn inflate(&self) -> PhoenixAppStatus {
        let name = |revision: usize| NAMES[revision].to_owned();
        PhoenixAppStatus {
            stable: self.stable.map(name),
            previous: self.previous.map(name),
            promotion: i64::from(self.promotion),
            attempt: i64::from(self.attempt),
            secrets_for: self.secrets_for.map(name),
            bake: self.bake.map(|after| Bake {
                since: since(after.over),
                strategy: after.strategy,
                gateway: after.gateway,
            }),
            route: self.route.map(|known| RouteStatus {
                refused: false,
                generation: if known.current { 2 } else { 1 },
                weight: i32::from(known.weight),
                since: since(known.over),
            }),
            kept: self.kept.map(|after| Kept { since: since(after.over), drained: after.drained }),
            paused: self.paused,
            restarts: BTreeMap::new(),
            candidate: self.candidate.map(Tried::inflate),
            migration: self.migration.map(|(attempt, state)| MigrationStatus {
                attempt: i64::from(attempt),
                state,
                reason: "BackoffLimitExceeded".to_owned(),
                message: String::new(),
                exit_code: None,
                log_tail: String::new(),
                retries: 0,
                retry_at: Some(since(false)),
            }),
            follow_up: self.follow_up.map(|follows| FollowUp {
                kind: follows.kind,
                revision: name(follows.revision),
                attempt: i64::from(follows.attempt),
                state: follows.state,
                reason: if follows.aborted { "AbortedByCommand" } else { "" }.to_owned(),
                message: String::new(),
                log_tail: String::new(),
                retries: 0,
                retry_at: Some(since(false)),
            }),
            last_command: self.answered.map(|given| LastCommand {
                text: given.text(),
                answer: CommandAnswer::Accepted,
                message: String::new(),
                n: i64::from(given.n),
                earlier: Vec::new(),
            }),
            ..PhoenixAppStatus::default()
        }
    }

    pub fn deflate(status: &PhoenixAppStatus) -> Self {
        let over = |since: &Time| since.0 < Timestamp::UNIX_EPOCH;
        Self {
            stable: status.stable.as_ref().map(|name| index(name)),
            previous: status.previous.as_ref().map(|name| index(name)),
            candidate: status.candidate.as_ref().map(Tried::deflate),
            attempt: small(status.attempt),
            promotion: small(status.promotion),
            secrets_for: status.secrets_for.as_ref().map(|name| index(name)),
            migration: status.migration.as_ref().map(|m| (small(m.attempt), m.state)),
            follow_up: status.follow_up.as_ref().map(|follow_up| Follows {
                kind: follow_up.kind,
                revision: index(&follow_up.revision),
                attempt: small(follow_up.attempt),
                state: follow_up.state,
                aborted: follow_up.reason == "AbortedByCommand",
            }),
            bake: status.bake.as_ref().map(|bake| After {
                strategy: bake.strategy,
                gateway: bake.gateway,
                drained: false,
                over: over(&bake.since),
            }),
            route: status.route.as_ref().map(|known| Weighed {
                weight: small(known.weight.into()),
                current: known.generation == 2,
                over: over(&known.since),
            }),
            kept: status.kept.as_ref().map(|kept| After {
                strategy: crate::api::StrategyKind::BlueGreen,
                gateway: false,
                drained: kept.drained,
                over: over(&kept.since),
            }),
            paused: status.paused,
            answered: status.last_command.as_ref().and_then(|command| {
                Some(Given { n: small(command.n), ..Given::of(&command.text, command.n)? })
            }),
        }
    }
}

impl Tried {
    fn inflate(self) -> Candidate {
        Candidate {
            revision: NAMES[self.revision].to_owned(),
            attempt: i64::from(self.attempt),
            asked: String::new(),
            strategy: self.strategy,
            gateway: self.gateway,
            steps: self.steps.list(),
            step: i32::from(self.step),
            step_since: self.begun.then(|| since(false)),
            // that it had a weight shows in how its pods go
            weight: None,
            started_at: since(false),
            verdict: self.verdict.map(|ended| Verdict {
                outcome: ended.outcome,
                reason: if ended.migration { "MigrationFailed" } else { "ProgressDeadlineExceeded" }
                    .to_owned(),
                message: String::new(),
                returned: ended.returned,
                held: ended.held,
            }),
            progress: self.available.map(|available| Progress {
                available: i32::from(available),
                elapsed_seconds: if self.late { DEADLINE_SECONDS } else { 0 },
                since: self.running.then(|| since(false)),
            }),
        }
    }

    fn deflate(candidate: &Candidate) -> Self {
        let progress = candidate.progress.as_ref();
        Self {
            revision: index(&candidate.revision),
            attempt: small(candidate.attempt),
            strategy: candidate.strategy,
            gateway: candidate.gateway,
            steps: Steps::of(&candidate.steps),
            step: small(candidate.step.into()),
            begun: candidate.step_since.is_some(),
            verdict: candidate.verdict.as_ref().map(|verdict| Ended {
                outcome: verdict.outcome,
                returned: verdict.returned,
                held: verdict.held,
                migration: verdict.reason == "MigrationFailed",
            }),
            available: progress.map(|progress| small(progress.available.into())),
            running: progress.is_some_and(|progress| progress.since.is_some()),
            late: progress.is_some_and(|p| p.elapsed_seconds >= DEADLINE_SECONDS),
        }
    }
}

fn small(number: i64) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}
