//! What a release has to prove on its way: checks in the background and at steps, and smoke tests.

use std::time::Duration;

use super::analysis::{self, Assessment, Judgement, SmokeJudgement, SmokeSpan, Span, Which};
use super::report::Gate;
use super::{Draft, Write, budget, strategy};
use crate::api::{Candidate, CheckPhase, During, Outcome};

/// The reason of a verdict when a check failed.
pub(super) const ANALYSIS_FAILED: &str = "AnalysisFailed";
/// The reason of a verdict when a smoke test failed.
pub(super) const SMOKE_TEST_FAILED: &str = "SmokeTestFailed";

/// The span of a whole rollout.
const ROLLOUT: &str = "rollout";

/// How the proofs of a rollout stand.
#[derive(Clone, Debug, Default)]
pub(super) struct Proof {
    /// Checks, of the background and of the step under way.
    pub analysis: Gate,
    /// Smoke tests of the step under way.
    pub smoke: Gate,
    /// The step, if it is one of proofs, has passed.
    pub step_passed: bool,
    /// The Job of a smoke test finds no connection of the database, and why.
    pub held: Option<String>,
    /// A person has to decide, and why.
    pub inconclusive: Option<String>,
    /// What failed: the verdict's reason and message.
    pub failed: Option<(&'static str, String)>,
}

/// Looks at all that is to be proven now, and asks for what is due. `ready`: the pods that the step wants are there.
pub(super) fn look(d: &mut Draft, candidate: &Candidate, ready: bool) -> Proof {
    let mut proof = Proof::default();
    // The first release has nothing to be compared with, and nothing to return to.
    if d.status.stable.is_none() {
        return proof;
    }
    checks(d, candidate, ready, &mut proof);
    if ready {
        smoke_tests(d, candidate, &mut proof);
    }
    proof
}

fn checks(d: &mut Draft, candidate: &Candidate, ready: bool, proof: &mut Proof) {
    let stable = d.stable().unwrap_or_default();
    let span = |name: String, which: Which, at_least: Duration| Span {
        name,
        attempt: candidate.attempt,
        revision: candidate.revision.clone(),
        stable: stable.clone(),
        which,
        at_least,
    };
    let mut spans = Vec::new();
    let known = d.status.analysis.iter().any(|run| run.attempt == candidate.attempt);
    let available = d.world.deployments.get(&candidate.revision).map_or(0, |deployment| deployment.available);
    if known || available > 0 {
        let which = Which::Background(During::Rollout, candidate.strategy);
        spans.push(span(ROLLOUT.to_owned(), which, Duration::ZERO));
    }
    let step = strategy::step(candidate).and_then(|step| step.analysis.clone());
    let name = span_of_step(candidate);
    // What was counted stays while a pod is away for a moment.
    let begun = d.status.analysis.iter().any(|run| run.attempt == candidate.attempt && run.span == name);
    let at_step = candidate.step_since.is_some() && (ready || begun);
    if let (Some(step), true) = (step, at_step) {
        let at_least = step.duration.map_or(Duration::ZERO, Duration::from);
        spans.push(span(span_of_step(candidate), Which::Named(step.names), at_least));
    }
    if spans.is_empty() {
        return;
    }
    let goal = d.goal;
    let found =
        analysis::assess(&goal.proofs.checks, &spans, &mut d.status.analysis, &d.world.measured, d.now);
    let mut worst = Judgement::NotRequired;
    for (index, Assessment { judgement, measure, wake }) in found.into_iter().enumerate() {
        d.measure.extend(measure);
        if let Some(wake) = wake {
            d.wake_at(wake);
        }
        if spans[index].name != ROLLOUT {
            proof.step_passed = judgement == Judgement::Passed;
        }
        worst = worst.max(judgement);
    }
    match &worst {
        Judgement::Inconclusive(why) => proof.inconclusive = Some(why.clone()),
        Judgement::Failed(why) => proof.failed = Some((ANALYSIS_FAILED, why.clone())),
        _ => {}
    }
    proof.analysis = gate(worst);
}

fn smoke_tests(d: &mut Draft, candidate: &Candidate, proof: &mut Proof) {
    let Some(span) = smoke_span(candidate) else { return };
    let goal = d.goal;
    let found = analysis::smoke(&goal.proofs, &span, &mut d.status.smoke_tests, d.world, d.now);
    d.measure.extend(found.measure);
    for write in found.writes {
        let starts = matches!(write, Write::CreateSmokeJob { .. });
        match budget::no_test(d).filter(|_| starts) {
            Some(why) => proof.held = Some(why),
            None => d.writes.push(write),
        }
    }
    if let Some(wake) = found.wake {
        d.wake_at(wake);
    }
    proof.smoke = match found.judgement {
        SmokeJudgement::Waiting(why) => Gate::Waiting(proof.held.clone().unwrap_or(why)),
        SmokeJudgement::NotRequired | SmokeJudgement::Passed => {
            proof.step_passed = true;
            Gate::Passed
        }
        SmokeJudgement::Inconclusive(why) => {
            proof.inconclusive = Some(why.clone());
            Gate::Failing { reason: "Inconclusive".to_owned(), message: why }
        }
        SmokeJudgement::Failed(why) => {
            proof.failed = Some((SMOKE_TEST_FAILED, why.clone()));
            Gate::Failed { reason: SMOKE_TEST_FAILED.to_owned(), message: why }
        }
    };
}

/// The smoke tests of the step under way, once it has begun.
fn smoke_span(candidate: &Candidate) -> Option<SmokeSpan> {
    let step = strategy::step(candidate)?.smoke_test.clone()?;
    candidate.step_since.as_ref()?;
    Some(SmokeSpan {
        name: span_of_step(candidate),
        attempt: candidate.attempt,
        revision: candidate.revision.clone(),
        names: Some(step.names),
    })
}

fn span_of_step(candidate: &Candidate) -> String {
    format!("step-{}", candidate.step)
}

/// Removes Jobs of smoke tests that nothing waits for any more.
pub(super) fn sweep(d: &mut Draft) {
    let under_way = d.status.under_way();
    let live = under_way.and_then(smoke_span);
    if let Some(write) = analysis::sweep(d.world, &d.status.smoke_tests, live.as_ref()) {
        d.writes.push(write);
    }
}

/// After a promotion the checks go on.
pub(super) fn bake(d: &mut Draft) -> Gate {
    let (Some(bake), Some(revision), Some(stable)) =
        (d.status.bake.clone(), d.stable(), d.status.previous.clone())
    else {
        return Gate::Unjudged;
    };
    let goal = d.goal;
    if d.status.candidate.is_some()
        || goal.proofs.checks.iter().all(|check| !check.is_measured(During::Bake, bake.strategy))
    {
        return Gate::Unjudged;
    }
    let span = Span {
        name: "bake".to_owned(),
        attempt: d.status.attempt,
        revision,
        stable,
        which: Which::Background(During::Bake, bake.strategy),
        at_least: Duration::ZERO,
    };
    let found =
        analysis::assess(&goal.proofs.checks, &[span], &mut d.status.analysis, &d.world.measured, d.now);
    let mut worst = Judgement::NotRequired;
    for Assessment { judgement, measure, wake } in found {
        d.measure.extend(measure);
        if let Some(wake) = wake {
            d.wake_at(wake);
        }
        worst = worst.max(judgement);
    }
    gate(worst)
}

fn gate(judgement: Judgement) -> Gate {
    match judgement {
        Judgement::NotRequired => Gate::Unjudged,
        Judgement::Passed => Gate::Passed,
        Judgement::Passing(why) | Judgement::Waiting(why) => Gate::Waiting(why),
        Judgement::Inconclusive(message) => Gate::Failing { reason: "Inconclusive".to_owned(), message },
        Judgement::Failed(message) => Gate::Failed { reason: ANALYSIS_FAILED.to_owned(), message },
    }
}

/// Whether a check waits for a person.
pub(super) fn is_inconclusive(d: &Draft) -> bool {
    d.status.analysis.iter().any(|run| run.phase == CheckPhase::Inconclusive)
}

/// Ends the attempt for what failed. False: nothing has.
pub(super) fn fail(d: &mut Draft, proof: &Proof) -> bool {
    let Some((reason, message)) = &proof.failed else { return false };
    if d.status.stable.is_some() {
        super::decide::end(d, Outcome::Failed, reason, message);
        d.writes.clear();
        return true;
    }
    false
}
