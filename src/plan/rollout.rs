//! The candidate has pods: step after step, then the promotion.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::proof::{self, Proof};
use super::report::{Found, Gate};
use super::route::{self, Share};
use super::strategy::{self, Aim};
use super::{Draft, Write, clock, cluster, decide, history};
use crate::api::{Bake, Candidate, Kept, Outcome, StrategyKind};

/// Moves on: steps that have passed are left behind, then what the present one aims for is written.
pub(super) fn go_on(d: &mut Draft, found: &mut Found) {
    let Some(candidate) = d.status.candidate.clone() else { return };
    found.unsplittable = strategy::cannot_split(d, &candidate);
    if route::fail(d, &candidate) {
        return;
    }
    let proof = if d.goal.replicas == 0 { Proof::default() } else { prove(d) };
    found.analysis = proof.analysis.clone();
    found.smoke = proof.smoke.clone();
    found.blocked.clone_from(&proof.held);
    if proof::fail(d, &proof) {
        return;
    }
    let stays = d.status.paused || proof.inconclusive.is_some();
    found.cluster = cluster::look(d, &candidate.revision);
    // Those that are there have to find each other before more come, or requests move.
    let there = d.world.addresses.get(&candidate.revision).is_some_and(|ready| !ready.is_empty());
    let apart = match &found.cluster {
        Gate::Waiting(why) if there => Some(why.clone()),
        _ => None,
    };
    if !stays && apart.is_none() {
        let evaluated = d.status.candidate.as_ref().map(|candidate| candidate.step);
        while pass(d, &proof, evaluated) {}
    }
    let Some(candidate) = d.status.candidate.clone() else { return };
    let aim = strategy::aim(d, &candidate);
    let returning = matches!(aim, Aim::Stand { .. }) && strategy::before_standing(d);
    if stays {
        let moves = strategy::freeze(d, &candidate, aim);
        d.share = Share::Keep;
        decide::perform(d, Some(&candidate.revision), &moves);
        pods(d, &candidate, aim, found);
        found.paused = d.status.paused;
        found.inconclusive = proof.inconclusive;
        clock::stop(d);
    } else if let Some(why) = apart {
        let moves = strategy::freeze(d, &candidate, aim);
        d.share = Share::Keep;
        decide::perform(d, Some(&candidate.revision), &moves);
        pods(d, &candidate, aim, found);
        found.traffic = Gate::Waiting(format!("waits until the nodes see each other: {why}"));
        found.overdue = cluster::hold_back(d, &why) && d.status.stable.is_none();
        found.waits = Some(why);
    } else if returning {
        back_to_stable_first(d, &candidate, aim, found);
    } else {
        let gate = matches!(found.analysis, Gate::Waiting(_));
        d.share = match strategy::step(&candidate) {
            Some(_) => {
                let weight = strategy::weight(&candidate).unwrap_or_default();
                route::share(d, &candidate, false, Some(weight), gate)
            }
            None => route::share(d, &candidate, strategy::there(d, &candidate), None, gate),
        };
        let moves = strategy::advance(d, &candidate, gated(d, &candidate, aim, found));
        decide::perform(d, Some(&candidate.revision), &moves);
        pods(d, &candidate, aim, found);
        match strategy::step(&candidate) {
            Some(_) => at_step(d, &candidate, aim, found),
            None => last_stretch(d, &candidate, found),
        }
    }
}

/// Where all gates come before the requests, the checks do, too.
fn gated(d: &Draft, candidate: &Candidate, aim: Aim, found: &Found) -> Aim {
    let there = strategy::there(d, candidate);
    match aim {
        Aim::Stand { size, .. } if !there && matches!(found.analysis, Gate::Waiting(_)) => {
            Aim::Stand { size, switch: false }
        }
        aim => aim,
    }
}

/// What the step under way has to prove, and the background of the rollout. A step of proofs begins with the pods that
/// it is about.
fn prove(d: &mut Draft) -> Proof {
    let Some(candidate) = d.status.candidate.clone() else { return Proof::default() };
    let aim = strategy::aim(d, &candidate);
    let ready = strategy::reached(d, &candidate, aim);
    let proves =
        strategy::step(&candidate).is_some_and(|step| step.analysis.is_some() || step.smoke_test.is_some());
    if proves && ready && candidate.step_since.is_none() {
        begin(d);
    }
    let candidate = d.status.candidate.clone().unwrap_or(candidate);
    proof::look(d, &candidate, ready)
}

/// Leaves the present step behind, if it has passed. False when there is none, or it has not. The proof was looked at
/// for the step `proven`.
fn pass(d: &mut Draft, proof: &Proof, proven: Option<i32>) -> bool {
    let Some(candidate) = d.status.candidate.clone() else { return false };
    let Some(step) = strategy::step(&candidate).cloned() else { return false };
    if d.goal.replicas == 0 {
        return false;
    }
    let aim = strategy::aim(d, &candidate);
    let begun = candidate.step_since.as_ref().map(|since| since.0);
    let passed = if step.set_weight.is_some() {
        if begun.is_none() {
            begin(d);
        }
        strategy::reached(d, &candidate, aim)
    } else if step.analysis.is_some() || step.smoke_test.is_some() {
        if Some(candidate.step) != proven {
            // It has just begun: what it asks for is looked at next.
            d.wake_at(d.now);
            return false;
        }
        proof.step_passed
    } else {
        let since = match begun {
            Some(since) => since,
            // What stands before the first wait: pods that are ready to take over.
            None if !strategy::reached(d, &candidate, aim) => return false,
            None => {
                begin(d);
                d.now
            }
        };
        let duration = step.pause.and_then(|pause| pause.duration);
        duration.is_some_and(|duration| clock::lasted(d, since, duration.into()))
    };
    if passed {
        next_step(d);
    }
    passed
}

fn begin(d: &mut Draft) {
    let now = d.now;
    if let Some(candidate) = d.status.candidate.as_mut() {
        candidate.step_since = Some(Time(now));
        let weight = strategy::weight(candidate).and_then(|weight| i32::try_from(weight).ok());
        candidate.weight =
            weight.map(|weight| if strategy::step(candidate).is_none() { 100 } else { weight });
    }
}

/// The next step begins now.
pub(super) fn next_step(d: &mut Draft) {
    if let Some(candidate) = d.status.candidate.as_mut() {
        candidate.step += 1;
        candidate.progress = None;
    }
    begin(d);
}

/// Skips every step that is left.
pub(super) fn skip_steps(d: &mut Draft) {
    if let Some(candidate) = d.status.candidate.as_mut() {
        candidate.step = i32::try_from(candidate.steps.len()).unwrap_or(i32::MAX);
        candidate.progress = None;
    }
    begin(d);
}

/// How the candidate's pods stand, as against what is aimed for.
fn pods(d: &Draft, candidate: &Candidate, aim: Aim, found: &mut Found) {
    let focus = &candidate.revision;
    let available = d.world.deployments.get(focus).map_or(0, |deployment| deployment.available);
    let wanted = strategy::size(d, aim);
    let up = match strategy::step(candidate) {
        Some(_) => available >= wanted,
        None => decide::is_up(d, focus),
    };
    found.pods = if up && wanted > 0 {
        Gate::Passed
    } else {
        Gate::Waiting(format!("{} of {wanted} pods of revision {focus} are available", available.min(wanted)))
    };
}

/// A step is under way: its pods come, or it waits for time or a person.
fn at_step(d: &mut Draft, candidate: &Candidate, aim: Aim, found: &mut Found) {
    let waits_for_pods = found.pods != Gate::Passed;
    found.traffic = Gate::Waiting(format!(
        "all requests move once every step has passed; step {} of {} is under way",
        candidate.step + 1,
        candidate.steps.len()
    ));
    let pause =
        strategy::step(candidate).and_then(|step| step.pause).filter(|_| candidate.step_since.is_some());
    let weighs = found.pods == Gate::Passed && unweighted(d, candidate);
    if weighs {
        found.traffic = Gate::Waiting(route::waits(d).unwrap_or_else(|| route::problem(d)));
    }
    match pause {
        Some(pause) => {
            found.person = pause.duration.is_none();
            found.until = pause.duration.and_then(|duration| {
                let since = candidate.step_since.as_ref()?.0;
                Some(clock::after(since, i64::from(duration.as_secs())))
            });
            clock::stop(d);
        }
        None if waits_for_pods || (weighs && !route::only_lags(d)) => keep_time(d, candidate, aim, found),
        None => clock::stop(d),
    }
}

/// The step under way sets a weight that the gateways have yet to take.
fn unweighted(d: &Draft, candidate: &Candidate) -> bool {
    let weight = strategy::step(candidate).and_then(|step| step.set_weight);
    let percent = weight.and_then(|weight| u32::try_from(weight).ok());
    candidate.gateway && d.goal.gateway && percent.is_some_and(|percent| !route::carries(d, percent))
}

/// All steps are behind: all pods, all requests, promotion.
fn last_stretch(d: &mut Draft, candidate: &Candidate, found: &mut Found) {
    let focus = &candidate.revision;
    let (wanted, serving) = (d.goal.replicas, d.world.serving(focus));
    let ready = decide::is_up(d, focus);
    let steering = d
        .writes
        .iter()
        .any(|write| matches!(write, Write::CreateService { .. } | Write::ApplyService { .. }));
    let alone = decide::alone(d, focus);
    let led = route::rests(d);
    let shifted = ready && wanted > 0 && serving >= wanted && alone && !steering && led;
    let around = candidate.gateway && d.goal.gateway && ready && wanted > 0 && !led;
    found.traffic = if shifted {
        Gate::Passed
    } else if around || (candidate.gateway && ready && !strategy::there(d, candidate)) {
        Gate::Waiting(route::waits(d).unwrap_or_else(|| route::problem(d)))
    } else if serving >= wanted && !alone {
        Gate::Waiting("pods of older revisions still receive requests".to_owned())
    } else if serving >= wanted && steering {
        Gate::Waiting(format!("the Service is being pointed at revision {focus} alone"))
    } else {
        Gate::Waiting(format!("{serving} of {wanted} pods of revision {focus} receive requests"))
    };
    if shifted && matches!(found.analysis, Gate::Waiting(_)) {
        clock::stop(d);
        return;
    }
    if shifted {
        promote(d, candidate);
        found.settled = true;
        return;
    }
    if candidate.gateway && ready && route::only_lags(d) {
        clock::stop(d);
        return;
    }
    if ready && wanted > 0 && serving >= wanted && alone && led {
        // The Service's own event brings the promotion; no deadline comes between.
        return;
    }
    let aim = strategy::aim(d, candidate);
    keep_time(d, candidate, aim, found);
}

/// Fails the attempt when no more pods come.
fn keep_time(d: &mut Draft, candidate: &Candidate, aim: Aim, found: &mut Found) {
    let focus = &candidate.revision;
    found.waits = strategy::waits_for(candidate.strategy, d.world, focus);
    if strategy::size(d, aim) == 0 || d.world.asked(focus) == 0 {
        clock::stop(d);
        // What was counted until now were pods of the stable revision, on their return.
        if let Some(candidate) = d.status.candidate.as_mut() {
            candidate.progress = None;
        }
        return;
    }
    if d.draining {
        clock::stop(d);
        found.waits = Some("waits until pods on their way out have given their connections back".to_owned());
        return;
    }
    let available = d.world.deployments.get(focus).map_or(0, |deployment| deployment.available);
    if !clock::run(d, available) {
        return;
    }
    let worst = decide::worst(d, focus);
    let seconds = d.goal.progress_deadline.as_secs();
    if candidate.gateway && available >= strategy::size(d, aim) && d.status.stable.is_some() {
        let message =
            format!("the gateways did not take the weight within {seconds} s: {}", route::problem(d));
        decide::end(d, Outcome::Failed, route::NOT_ACCEPTED, &message);
        d.writes.clear();
        found.traffic = Gate::Failed { reason: route::NOT_ACCEPTED.to_owned(), message };
        return;
    }
    let message = format!("no more pods of revision {focus} became available within {seconds} s{worst}");
    if d.status.stable.is_some() {
        decide::end(d, Outcome::Failed, "ProgressDeadlineExceeded", &message);
        d.writes.clear();
    }
    // with a stable revision the return begins now, and has its own clock
    found.overdue = d.status.stable.is_none();
    found.pods = Gate::Failed { reason: "ProgressDeadlineExceeded".to_owned(), message };
}

/// An earlier rollout left the requests spread over several revisions. If the stable one cannot take them all again, it
/// is broken, and must not block its fix: the candidate then comes pod by pod.
fn back_to_stable_first(d: &mut Draft, candidate: &Candidate, aim: Aim, found: &mut Found) {
    let moves = strategy::advance(d, candidate, aim);
    decide::perform(d, d.status.stable.clone().as_ref(), &moves);
    found.waits = Some("requests return to the stable revision first".to_owned());
    let stable = d.status.stable.clone().unwrap_or_default();
    let available = d.world.deployments.get(&stable).map_or(0, |deployment| deployment.available);
    if d.goal.replicas == 0 {
        clock::stop(d);
    } else if clock::run(d, available)
        && let Some(candidate) = d.status.candidate.as_mut()
    {
        candidate.strategy = StrategyKind::Rolling;
        candidate.gateway = false;
        candidate.steps.clear();
        candidate.step = 0;
        candidate.step_since = None;
        candidate.progress = None;
        d.writes.clear();
    }
}

fn promote(d: &mut Draft, candidate: &Candidate) {
    let baking = !strategy::bake(d, candidate.strategy).is_zero();
    let keeping = candidate.strategy == StrategyKind::BlueGreen && !d.goal.keep_old.is_zero();
    let since = Time(d.now);
    let status = &mut d.status;
    if status.stable.as_ref() != Some(&candidate.revision) {
        status.previous = status.stable.replace(candidate.revision.clone());
        let previous = status.previous.is_some();
        status.bake = (baking && previous).then(|| Bake {
            since: since.clone(),
            strategy: candidate.strategy,
            gateway: candidate.gateway,
        });
        status.kept = (keeping && previous).then_some(Kept { since, drained: false });
    }
    status.promotion += 1;
    status.candidate = None;
    status.migration = None;
    history::ended(d, candidate, Outcome::Promoted, "");
}
