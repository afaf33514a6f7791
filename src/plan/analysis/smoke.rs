//! Smoke tests: requests to the new pods, and Jobs with the new image. Each is made until it has passed, or failed as
//! often as it may. A Job that is gone before its end was recorded is made again; it never counts as a success.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Answer, MeasureKey, MeasureKind, Measurement, Probe, Proofs, cut, due, wake_at};
use crate::api::{HttpTest, SmokeTest, SmokeTestPhase, SmokeTestStatus};
use crate::plan::world::{JobFailure, JobState, SmokeJobObs, World};
use crate::plan::{Rev, Write};

/// Pause before a request is made again.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// Pods that one try asks at most.
const MOST_PODS: usize = 16;

/// A time in which smoke tests are made: once before the switch of a blue-green, or a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmokeSpan {
    /// `rollout`, `step-2`.
    pub name: String,
    /// The attempt.
    pub attempt: i64,
    /// The candidate.
    pub revision: Rev,
    /// Tests of a step: all if it names none, and at least one has to be there. None: every test, if there is any.
    pub names: Option<Vec<String>>,
}

/// What the tests of a span say together: the worst of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SmokeJudgement {
    /// There is nothing to test.
    NotRequired,
    /// Every test has passed.
    Passed,
    /// A test has not ended.
    Waiting(String),
    /// A person has to decide: a step asks for a test that is not there any more.
    Inconclusive(String),
    /// A test has failed.
    Failed(String),
}

/// What comes of one look at a span.
#[derive(Clone, Debug, PartialEq)]
pub struct SmokeAssessment {
    /// What its tests say.
    pub judgement: SmokeJudgement,
    /// What is to be asked now.
    pub measure: Vec<Measurement>,
    /// Jobs to be made. They take nothing away.
    pub writes: Vec<Write>,
    /// When time alone changes something.
    pub wake: Option<Timestamp>,
}

/// Takes in what the tests brought, judges, and says what is to be done next.
pub fn smoke(
    proofs: &Proofs,
    span: &SmokeSpan,
    status: &mut Vec<SmokeTestStatus>,
    world: &World,
    now: Timestamp,
) -> SmokeAssessment {
    let known = std::mem::take(status);
    let mut look = Look {
        proofs,
        span,
        world,
        now,
        found: SmokeAssessment {
            judgement: SmokeJudgement::NotRequired,
            measure: Vec::new(),
            writes: Vec::new(),
            wake: None,
        },
    };
    if let Some(missing) = missing(&proofs.smoke_tests, span) {
        look.found.judgement = SmokeJudgement::Inconclusive(missing);
    }
    let wanted = |test: &&SmokeTest| {
        span.names.as_ref().is_none_or(|names| names.is_empty() || names.contains(&test.name))
    };
    for test in proofs.smoke_tests.iter().filter(wanted) {
        let same = |run: &&SmokeTestStatus| {
            run.name == test.name && run.span == span.name && run.attempt == span.attempt
        };
        let mut run = known.iter().find(same).cloned().unwrap_or_else(|| begin(test, span));
        if run.phase == SmokeTestPhase::Running {
            match (&test.http, &test.job) {
                (Some(http), _) => look.http(&mut run, http),
                (None, Some(_)) => look.job(&mut run),
                // the schema refuses it
                (None, None) => fail(&mut run, "it has neither http nor job; give it one of them"),
            }
        }
        let judgement = judge(&run);
        look.found.judgement = look.found.judgement.max(judgement);
        status.push(run);
    }
    look.found
}

/// The deletion of a Job whose test's end is in the status, or that belongs to none of the tests under way.
pub fn sweep(world: &World, status: &[SmokeTestStatus], live: Option<&SmokeSpan>) -> Option<Write> {
    let runs = |job: &SmokeJobObs| {
        live.is_some_and(|span| span.attempt == job.job.attempt && span.name == job.span)
            && status.iter().all(|run| {
                run.phase == SmokeTestPhase::Running
                    || run.name != job.test
                    || run.span != job.span
                    || run.attempt != job.job.attempt
            })
    };
    let job = world.smoke_jobs.iter().find(|job| !job.job.terminating && !runs(job)).map(|job| &job.job)?;
    Some(Write::DeleteJob { name: job.name.clone(), uid: job.uid.clone(), version: job.version.clone() })
}

fn missing(tests: &[SmokeTest], span: &SmokeSpan) -> Option<String> {
    let names = span.names.as_ref()?;
    if tests.is_empty() {
        return Some(
            "strategy.smokeTests holds no test, but a step asks for one; add it, or promote".to_owned(),
        );
    }
    let name = names.iter().find(|name| tests.iter().all(|test| test.name != **name))?;
    Some(format!("strategy.smokeTests holds no test {name}, but a step asks for it; add it, or promote"))
}

fn begin(test: &SmokeTest, span: &SmokeSpan) -> SmokeTestStatus {
    SmokeTestStatus {
        name: test.name.clone(),
        span: span.name.clone(),
        attempt: span.attempt,
        phase: SmokeTestPhase::Running,
        tries: 0,
        at: None,
        message: String::new(),
    }
}

fn fail(run: &mut SmokeTestStatus, why: &str) {
    run.phase = SmokeTestPhase::Failed;
    cut(why).clone_into(&mut run.message);
}

fn judge(run: &SmokeTestStatus) -> SmokeJudgement {
    let (name, span, message) = (&run.name, &run.span, &run.message);
    match run.phase {
        SmokeTestPhase::Passed => SmokeJudgement::Passed,
        SmokeTestPhase::Failed => SmokeJudgement::Failed(format!("smoke test {name} ({span}): {message}")),
        SmokeTestPhase::Running if message.is_empty() => {
            SmokeJudgement::Waiting(format!("smoke test {name} ({span}) runs"))
        }
        SmokeTestPhase::Running => SmokeJudgement::Waiting(format!("smoke test {name} ({span}): {message}")),
    }
}

struct Look<'a> {
    proofs: &'a Proofs,
    span: &'a SmokeSpan,
    world: &'a World,
    now: Timestamp,
    found: SmokeAssessment,
}

impl Look<'_> {
    fn http(&mut self, run: &mut SmokeTestStatus, test: &HttpTest) {
        let key = |run: &SmokeTestStatus| MeasureKey {
            attempt: run.attempt,
            span: run.span.clone(),
            kind: MeasureKind::SmokeTest,
            name: run.name.clone(),
            n: run.tries.saturating_add(1),
        };
        if let Some(measured) = self.world.measured.get(&key(run)) {
            run.tries = run.tries.saturating_add(1);
            run.at = Some(Time(measured.at.min(self.now)));
            match &measured.answer {
                Answer::Passed | Answer::Peers { .. } => {
                    run.phase = SmokeTestPhase::Passed;
                    run.message.clear();
                    return;
                }
                Answer::Failed(why) | Answer::Nothing(why) | Answer::Value(why) => {
                    if run.tries > test.retries {
                        return fail(run, why);
                    }
                    cut(why).clone_into(&mut run.message);
                }
            }
        }
        let due = run.at.as_ref().map_or(self.now, |at| due(at.0, RETRY_PAUSE, self.now));
        if due > self.now {
            wake_at(&mut self.found.wake, due);
            return;
        }
        let addresses: Vec<String> = self
            .world
            .addresses
            .get(&self.span.revision)
            .into_iter()
            .flatten()
            .take(MOST_PODS)
            .cloned()
            .collect();
        if addresses.is_empty() {
            "waits for a ready pod".clone_into(&mut run.message);
            return;
        }
        let probe = Probe::Http { addresses, port: self.proofs.port, test: test.clone() };
        self.found.measure.push(Measurement { key: key(run), probe });
    }

    fn job(&mut self, run: &mut SmokeTestStatus) {
        let same = |job: &&SmokeJobObs| {
            job.test == run.name && job.span == run.span && job.job.attempt == run.attempt
        };
        let Some(SmokeJobObs { job, .. }) = self.world.smoke_jobs.iter().find(same) else {
            run.tries = 1;
            self.found.writes.push(Write::CreateSmokeJob {
                revision: self.span.revision.clone(),
                attempt: run.attempt,
                span: run.span.clone(),
                test: run.name.clone(),
            });
            return;
        };
        if job.terminating {
            run.message = format!("waits until the Job {}, which somebody deleted, is gone", job.name);
            return;
        }
        match &job.state {
            JobState::Succeeded => {
                run.phase = SmokeTestPhase::Passed;
                run.message.clear();
            }
            JobState::Failed(failure) => fail(run, &sentence(&job.name, failure)),
            JobState::Running => run.message = job.waiting.as_deref().map(cut).unwrap_or_default().to_owned(),
        }
    }
}

fn sentence(job: &str, failure: &JobFailure) -> String {
    let code = failure.exit_code.map_or_else(String::new, |code| format!(" with exit code {code}"));
    // Elixir prints the exception first and the stack trace below it.
    let lines = failure.log_tail.lines().rev().map(str::trim);
    let raised = lines.clone().find(|line| line.starts_with("** ("));
    let telling = raised.or_else(|| lines.clone().find(|line| !line.is_empty()));
    let telling = telling.map_or_else(String::new, |line| format!("{}{line}", crate::plan::LOG_QUOTE));
    format!("the Job {job} failed ({}){code}{telling}", failure.reason)
}
