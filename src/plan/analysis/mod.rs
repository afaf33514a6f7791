//! Whether a release is good: checks of numbers, and smoke tests. Pure, as everything here: what is to be measured
//! goes out with the plan ([`Measurement`]), and comes back with the world ([`Measured`]).
//!
//! A measurement is known by its [`MeasureKey`]. It is asked for until its answer is in the world, and the answer is
//! written into the status, counted once. An answer that gets lost is simply asked for again.

mod check;
mod smoke;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Rev;
use crate::api::{Check, During, HttpTest, Limits, SmokeTest, StrategyKind, ValidatedApp};

pub use check::{Assessment, Judgement, Span, Which, acknowledge, assess};
pub use smoke::{SmokeAssessment, SmokeJudgement, SmokeSpan, smoke, sweep};

/// Longest sentence of elsewhere that the status keeps, in bytes.
const LONGEST: usize = 300;

/// Everything that a release is to prove. Live: an edit counts from the next measurement on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proofs {
    /// Checks of numbers.
    pub checks: Vec<CheckGoal>,
    /// Tests of the new pods.
    pub smoke_tests: Vec<SmokeTest>,
    /// The port of the pods that HTTP tests ask.
    pub port: u16,
}

/// A check, as far as it does not depend on the revision.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckGoal {
    /// Its name.
    pub name: String,
    /// The Prometheus to ask.
    pub provider: String,
    /// `PromQL`; only `{{revision}}` and `{{stable}}` are left to fill in.
    pub query: String,
    /// What the number may be.
    pub limits: Limits,
    /// From one measurement to the next.
    pub interval: Duration,
    /// Successes it takes to pass.
    pub count: i32,
    /// From the beginning to the first measurement.
    pub initial_delay: Duration,
    /// Failures that are borne.
    pub failure_limit: i32,
    /// Inconclusive measurements in a row that are borne.
    pub inconclusive_limit: i32,
    /// When it is measured in the background, by strategy.
    check: Check,
}

impl CheckGoal {
    /// Out of the spec, everything but the revisions filled in.
    pub fn of(check: &Check, app: &ValidatedApp) -> Self {
        let query = check
            .template()
            .replace("{{app}}", app.name.as_str())
            .replace("{{namespace}}", app.namespace.as_str())
            .replace("{{release}}", &app.release_name)
            .replace("{{window}}", &check.window.to_string());
        Self {
            name: check.name.clone(),
            provider: check.provider.clone(),
            query,
            limits: check.limits(),
            interval: check.interval.into(),
            count: check.count,
            initial_delay: check.initial_delay.into(),
            failure_limit: check.failure_limit,
            inconclusive_limit: check.inconclusive_limit,
            check: check.clone(),
        }
    }

    /// Whether it is measured in the background of that time.
    pub fn is_measured(&self, during: During, strategy: StrategyKind) -> bool {
        self.check.is_measured(during, strategy)
    }
}

impl Proofs {
    /// What an app's spec asks for.
    pub fn of(app: &ValidatedApp) -> Self {
        let strategy = &app.spec.strategy;
        Self {
            checks: strategy.analysis.iter().map(|check| CheckGoal::of(check, app)).collect(),
            smoke_tests: strategy.smoke_tests.clone(),
            port: u16::try_from(app.spec.port).unwrap_or_default(),
        }
    }
}

/// Which measurement.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MeasureKey {
    /// Of which attempt.
    pub attempt: i64,
    /// Of which span: `rollout`, `bake`, `step-2`.
    pub span: String,
    /// Of a check, or of a smoke test: both may have the same name.
    pub kind: MeasureKind,
    /// The check or the smoke test.
    pub name: String,
    /// Counts from 1.
    pub n: i32,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MeasureKind {
    /// A number.
    Check,
    /// Whether new pods answer as they should.
    SmokeTest,
    /// Whether nodes see each other.
    Cluster,
}

/// What is to be measured now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// Which one it is.
    pub key: MeasureKey,
    /// How.
    pub probe: Probe,
}

/// How something is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Ask a Prometheus of the operator's configuration.
    Query {
        /// Which.
        provider: String,
        /// `PromQL`.
        query: String,
    },
    /// Ask pods of the app.
    Http {
        /// Their own addresses. All must pass.
        addresses: Vec<String>,
        /// Their port.
        port: u16,
        /// What is asked, and what must be answered.
        test: HttpTest,
    },
    /// Ask pods of the app whom they see.
    Peers {
        /// Their own addresses.
        addresses: Vec<String>,
        /// Their port.
        port: u16,
        /// Path of the request.
        path: String,
        /// Where in the answer the peers are: their number, or a list of them.
        json_path: String,
    },
}

/// What a measurement brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// When.
    pub at: Timestamp,
    /// What.
    pub answer: Answer,
}

/// The answer to a [`Probe`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// One number, as it was given; also `NaN` and `+Inf`.
    Value(String),
    /// No number, and why: no data, several, a timeout, an error, ...
    Nothing(String),
    /// All pods answered as they should.
    Passed,
    /// A pod did not, and how.
    Failed(String),
    /// All pods said how many peers they see.
    Peers {
        /// Fewest that one sees.
        least: u32,
        /// The address of that one.
        pod: String,
    },
}

/// When something is due that was last done at `last`. A clock that jumped back must not put it off.
pub(super) fn due(last: Timestamp, wait: Duration, now: Timestamp) -> Timestamp {
    if last > now { now } else { later(last, wait) }
}

fn later(at: Timestamp, wait: Duration) -> Timestamp {
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    at.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

pub(super) fn cut(text: &str) -> &str {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn wake_at(wake: &mut Option<Timestamp>, at: Timestamp) {
    *wake = Some(wake.map_or(at, |earlier| earlier.min(at)));
}

/// A revision's name in the place of a placeholder.
fn fill(query: &str, revision: &Rev, stable: &Rev) -> String {
    query.replace("{{revision}}", revision).replace("{{stable}}", stable)
}
