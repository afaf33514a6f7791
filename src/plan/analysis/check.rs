//! Checks: when each is measured, what a measurement counts as, and what all of them together say.
//!
//! Failures count over the whole span, inconclusive measurements in a row: a release that fails now and then is bad,
//! a Prometheus that is away now and then says nothing about the release. Only numbers within all limits are
//! successes, and only `count` of them, the last one among them, pass.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    Answer, CheckGoal, MeasureKey, MeasureKind, Measured, Measurement, Probe, cut, due, fill, later, wake_at,
};
use crate::api::{CheckPhase, CheckStatus, During, Limits, Number, Sample, SampleVerdict, StrategyKind};
use crate::plan::Rev;

/// Measurements of a check that the status keeps.
const KEPT_SAMPLES: usize = 5;
/// Longest number that the status keeps, in characters; Prometheus writes 1e300 with 301.
const LONGEST_VALUE: usize = 32;

/// A time in which checks are measured: a whole rollout, a step of it, the bake.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// `rollout`, `bake`, `step-2`.
    pub name: String,
    /// The attempt.
    pub attempt: i64,
    /// What is judged: the candidate; in a bake the promoted revision.
    pub revision: Rev,
    /// What it may be compared with: stable; in a bake the previous revision.
    pub stable: Rev,
    /// Which checks.
    pub which: Which,
    /// It does not pass before it has lasted so long.
    pub at_least: Duration,
}

/// Which checks are measured in a span.
#[derive(Clone, Debug, PartialEq)]
pub enum Which {
    /// Those that are measured in the background of that time.
    Background(During, StrategyKind),
    /// Those of a step: all if it names none.
    Named(Vec<String>),
}

/// What the checks of a span say together: the worst of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Judgement {
    /// There is nothing to measure.
    NotRequired,
    /// Every check has its successes.
    Passed,
    /// Every check's last measurement was a success, but one has too few, or the span is too short yet.
    Passing(String),
    /// A check has not been measured yet, or not well.
    Waiting(String),
    /// A person has to decide: neither a success nor a failure.
    Inconclusive(String),
    /// Too many failures.
    Failed(String),
}

/// What comes of one look at a span.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessment {
    /// What its checks say.
    pub judgement: Judgement,
    /// What is to be measured now.
    pub measure: Vec<Measurement>,
    /// When time alone changes something.
    pub wake: Option<Timestamp>,
}

/// Takes in what was measured, judges, and says what is to be measured next: an [`Assessment`] for each span.
///
/// `status` keeps the checks of these spans; where they have none, those of the attempt that have passed. Not called
/// while nothing is under way, it stays as it is: people want to see why something failed.
pub fn assess(
    checks: &[CheckGoal],
    spans: &[Span],
    status: &mut Vec<CheckStatus>,
    measured: &BTreeMap<MeasureKey, Measured>,
    now: Timestamp,
) -> Vec<Assessment> {
    let known = std::mem::take(status);
    let found = spans.iter().map(|span| assess_span(checks, span, &known, status, measured, now)).collect();
    if status.is_empty() {
        let of_this = |run: &CheckStatus| spans.iter().any(|span| span.attempt == run.attempt);
        let passed = known.into_iter().filter(|run| run.phase == CheckPhase::Passed);
        status.extend(passed.filter(of_this));
    }
    found
}

fn assess_span(
    checks: &[CheckGoal],
    span: &Span,
    known: &[CheckStatus],
    status: &mut Vec<CheckStatus>,
    measured: &BTreeMap<MeasureKey, Measured>,
    now: Timestamp,
) -> Assessment {
    let mut assessment = Assessment { judgement: Judgement::NotRequired, measure: Vec::new(), wake: None };
    if let Some(missing) = missing(checks, span) {
        assessment.judgement = Judgement::Inconclusive(missing);
    }
    for check in checks.iter().filter(|check| concerns(check, span)) {
        let same = |run: &&CheckStatus| {
            run.name == check.name && run.span == span.name && run.attempt == span.attempt
        };
        let mut run = known.iter().find(same).cloned().unwrap_or_else(|| begin(check, span, now));
        // as after a jump of the clock: it began now at the latest
        run.started_at = Time(run.started_at.0.min(now));
        while let Some(answer) = measured.get(&next(check, span, &run)) {
            record(check, &mut run, answer, now);
        }
        let judgement = judge(check, &run, span.at_least, now);
        run.phase = phase(&judgement);
        if run.phase != CheckPhase::Failed {
            let due = run.samples.last().map_or_else(
                || later(run.started_at.0, check.initial_delay),
                |last| due(last.at.0, check.interval, now),
            );
            if due <= now {
                let query = fill(&check.query, &span.revision, &span.stable);
                let probe = Probe::Query { provider: check.provider.clone(), query };
                assessment.measure.push(Measurement { key: next(check, span, &run), probe });
            } else {
                wake_at(&mut assessment.wake, due);
            }
            let end = later(run.started_at.0, span.at_least);
            if end > now {
                wake_at(&mut assessment.wake, end);
            }
        }
        assessment.judgement = assessment.judgement.max(judgement);
        status.push(run);
    }
    assessment
}

/// A person has seen that these checks are inconclusive, and lets the rollout go on: they count anew.
pub fn acknowledge(status: &mut [CheckStatus]) {
    for run in status.iter_mut().filter(|run| run.phase == CheckPhase::Inconclusive) {
        run.phase = CheckPhase::Waiting;
        run.inconclusive = 0;
    }
}

fn concerns(check: &CheckGoal, span: &Span) -> bool {
    match &span.which {
        Which::Background(during, strategy) => check.is_measured(*during, *strategy),
        Which::Named(names) => names.is_empty() || names.contains(&check.name),
    }
}

/// A step asks for what the spec does not hold any more: that is no success.
fn missing(checks: &[CheckGoal], span: &Span) -> Option<String> {
    let Which::Named(names) = &span.which else { return None };
    if checks.is_empty() {
        return Some(
            "strategy.analysis holds no check, but a step asks for one; add it, or promote".to_owned(),
        );
    }
    let name = names.iter().find(|name| checks.iter().all(|check| check.name != **name))?;
    Some(format!("strategy.analysis holds no check {name}, but a step asks for it; add it, or promote"))
}

fn begin(check: &CheckGoal, span: &Span, now: Timestamp) -> CheckStatus {
    CheckStatus {
        name: check.name.clone(),
        span: span.name.clone(),
        attempt: span.attempt,
        phase: CheckPhase::Waiting,
        started_at: Time(now),
        measured: 0,
        successes: 0,
        failures: 0,
        inconclusive: 0,
        message: String::new(),
        samples: Vec::new(),
    }
}

fn next(check: &CheckGoal, span: &Span, run: &CheckStatus) -> MeasureKey {
    MeasureKey {
        attempt: span.attempt,
        span: span.name.clone(),
        kind: MeasureKind::Check,
        name: check.name.clone(),
        n: run.measured.saturating_add(1),
    }
}

/// Counts a measurement.
fn record(check: &CheckGoal, run: &mut CheckStatus, measured: &Measured, now: Timestamp) {
    let (verdict, message) = weigh(check.limits, &measured.answer);
    run.measured = run.measured.saturating_add(1);
    run.inconclusive = match verdict {
        SampleVerdict::Inconclusive => run.inconclusive.saturating_add(1),
        SampleVerdict::Success | SampleVerdict::Failure => 0,
    };
    run.successes = run.successes.saturating_add(i32::from(verdict == SampleVerdict::Success));
    run.failures = run.failures.saturating_add(i32::from(verdict == SampleVerdict::Failure));
    cut(&message).clone_into(&mut run.message);
    let value = match &measured.answer {
        Answer::Value(value) => Some(value.chars().take(LONGEST_VALUE).collect()),
        _ => None,
    };
    // what was answered after the world was looked at counts as answered then
    run.samples.push(Sample { at: Time(measured.at.min(now)), value, verdict });
    let surplus = run.samples.len().saturating_sub(KEPT_SAMPLES);
    run.samples.drain(..surplus);
}

/// What an answer counts as, and why if it is no success.
fn weigh(limits: Limits, answer: &Answer) -> (SampleVerdict, String) {
    use SampleVerdict::{Failure, Inconclusive, Success};
    let value = match answer {
        Answer::Value(value) => value,
        Answer::Nothing(why) | Answer::Failed(why) => return (Inconclusive, why.clone()),
        Answer::Passed | Answer::Peers { .. } => return (Inconclusive, "no number was answered".to_owned()),
    };
    let Some(number) = Number::measured(value) else {
        return (Inconclusive, format!("the answer is {}, as after a division by no requests", cut(value)));
    };
    let shown: String = value.chars().take(LONGEST_VALUE).collect();
    let Limits { min, max, warn_min, warn_max } = limits;
    for (low, high, low_name, high_name, verdict) in
        [(min, max, "min", "max", Failure), (warn_min, warn_max, "warnMin", "warnMax", Inconclusive)]
    {
        if let Some(low) = low.filter(|low| number < (*low).into()) {
            return (verdict, format!("{shown} is below {low_name} {low}"));
        }
        if let Some(high) = high.filter(|high| number > (*high).into()) {
            return (verdict, format!("{shown} is above {high_name} {high}"));
        }
    }
    (Success, String::new())
}

/// What the measurements of a check say so far. An inconclusive check stays so until a person decides, or until it
/// fails.
pub(super) fn judge(check: &CheckGoal, run: &CheckStatus, at_least: Duration, now: Timestamp) -> Judgement {
    let (name, span, why) = (&run.name, &run.span, &run.message);
    if run.failures > check.failure_limit {
        let (failures, limit) = (run.failures, check.failure_limit);
        let why = if why.is_empty() { "a measurement was beyond its limit" } else { why };
        return Judgement::Failed(format!(
            "check {name} ({span}): {why}; failures: {failures}, borne: {limit}"
        ));
    }
    if run.inconclusive > check.inconclusive_limit || run.phase == CheckPhase::Inconclusive {
        let why = if why.is_empty() { "it was inconclusive too often in a row" } else { why };
        return Judgement::Inconclusive(format!("check {name} ({span}): {why}"));
    }
    let Some(last) = run.samples.last() else {
        return Judgement::Waiting(format!("check {name} ({span}) has not been measured yet"));
    };
    if last.verdict != SampleVerdict::Success {
        return Judgement::Waiting(format!("check {name} ({span}): {why}"));
    }
    let (successes, count) = (run.successes, check.count.max(1));
    if successes < count {
        return Judgement::Passing(format!("check {name} ({span}) has {successes} of {count} successes"));
    }
    if now < later(run.started_at.0, at_least) {
        return Judgement::Passing(format!("check {name} ({span}) goes on for the time of its step"));
    }
    Judgement::Passed
}

const fn phase(judgement: &Judgement) -> CheckPhase {
    match judgement {
        Judgement::Waiting(_) | Judgement::NotRequired => CheckPhase::Waiting,
        Judgement::Passing(_) => CheckPhase::Passing,
        Judgement::Passed => CheckPhase::Passed,
        Judgement::Inconclusive(_) => CheckPhase::Inconclusive,
        Judgement::Failed(_) => CheckPhase::Failed,
    }
}
