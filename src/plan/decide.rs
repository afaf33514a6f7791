//! The driver of the machine: which revision is to serve, what stands between, and the next writes.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::replicas::Moves;
use super::report::{self, Found, Gate};
use super::strategy;
use super::world::{Rev, RevisionObs, Selector, Upkeep};
use super::{
    Draft, Facts, Write, aftermath, budget, clock, cluster, follow_up, history, migration, proof, prune,
    rollout, route, traffic, workers,
};
use crate::api::{Candidate, OnFailure, Outcome, PhoenixAppStatus, StrategyKind, Verdict};

/// Decides everything but what the status says about it.
pub(super) fn decide(d: &mut Draft) -> Found {
    route::look(d);
    follow_up::outlive(d);
    follow_up::adopt(d);
    choose(d);
    let mut found = match d.status.candidate.clone() {
        Some(candidate) if candidate.verdict.is_none() => forward(d, &candidate),
        Some(candidate) if d.status.stable.is_some() => back(d, &candidate),
        Some(candidate) => stay(d, &candidate),
        None => {
            let analysis = aftermath::prove(d);
            let found = match d.status.candidate.clone() {
                Some(candidate) => back(d, &candidate),
                None => rest(d),
            };
            Found { analysis, ..found }
        }
    };
    // A candidate under way was looked at on its way.
    let under_way = d.status.under_way().is_some();
    if let (false, Some(stable)) = (under_way, d.stable()) {
        found.cluster = cluster::look(d, &stable);
    } else if d.goal.verify.is_none() {
        d.status.cluster = None;
    }
    found.workers = workers::go_on(d);
    if found.prunable {
        prune::prune(d);
    }
    proof::sweep(d);
    found.surplus = d.status.candidate.is_none()
        && d.stable().is_some_and(|stable| !alone(d, &stable) || route::weighs(d));
    record_facts(d);
    found
}

/// Which revision is the candidate. A spec that moved on replaces it, but never kills a running migration.
fn choose(d: &mut Draft) {
    let desired = d.goal.desired.clone();
    let spec = format!("generation {}", d.goal.generation);
    if follow_up::in_flight(d) {
        return;
    }
    let new = is_new(&d.status, &desired);
    match d.status.candidate.clone() {
        None if new => start(d, &desired, &spec),
        Some(candidate) if candidate.revision != desired => {
            if migration::in_flight(d, &candidate) {
                return;
            }
            if candidate.verdict.is_none() {
                history::ended(d, &candidate, Outcome::Superseded, "NewerSpec");
            }
            if new {
                start(d, &desired, &spec);
            } else {
                d.status.candidate = None;
                d.status.migration = None;
            }
        }
        _ => {}
    }
}

/// Whether what the spec describes is a revision that is neither stable nor being tried, nor was tried last.
pub fn is_new(status: &PhoenixAppStatus, desired: &str) -> bool {
    let tried = status.candidate.as_ref().map(|candidate| candidate.revision.as_str());
    status.stable.as_deref() != Some(desired) && tried != Some(desired)
}

/// Begins a new attempt. What was kept of an earlier revision is not kept beside it.
pub(super) fn start(d: &mut Draft, revision: &Rev, asked: &str) {
    let (strategy, steps) = strategy::steps(d);
    let gateway = strategy::by_gateway(d, strategy) && d.status.stable.is_some();
    d.status.attempt += 1;
    d.status.migration = None;
    d.status.bake = None;
    d.status.kept = None;
    follow_up::supersede(d, revision);
    d.status.analysis.clear();
    d.status.smoke_tests.clear();
    d.status.conditions.retain(|condition| !report::PROOFS.contains(&condition.type_.as_str()));
    d.status.candidate = Some(Candidate {
        revision: revision.clone(),
        attempt: d.status.attempt,
        asked: asked.to_owned(),
        strategy,
        gateway,
        steps,
        step: 0,
        step_since: None,
        weight: None,
        started_at: Time(d.now),
        verdict: None,
        progress: None,
    });
}

/// Ends the attempt without promotion. A failure waits for a person where the app asks for that, once it has pods.
pub(super) fn end(d: &mut Draft, outcome: Outcome, reason: &str, message: &str) {
    let held = outcome == Outcome::Failed
        && d.goal.on_failure == OnFailure::Pause
        && d.status.stable.is_some()
        && ![migration::FAILED, follow_up::BEHIND_CONTRACT].contains(&reason);
    if let Some(candidate) = d.status.candidate.as_mut() {
        candidate.progress = None;
        candidate.verdict = Some(Verdict {
            outcome,
            reason: reason.to_owned(),
            message: message.to_owned(),
            returned: false,
            held,
        });
        let candidate = candidate.clone();
        history::ended(d, &candidate, outcome, reason);
    }
}

/// Makes an earlier revision stable again; the one that was stable has ended like a candidate that failed. Traffic stays
/// where it is until the earlier one can take it.
///
/// `asked` is the command that asked for it, if one did.
pub(super) fn revert(d: &mut Draft, to: &Rev, asked: &str, outcome: Outcome, reason: &str, message: &str) {
    let Some(from) = d.status.stable.replace(to.clone()) else { return };
    let at_rest = (d.goal.strategy, strategy::by_gateway(d, d.goal.strategy));
    let (strategy, gateway) = d.status.bake.take().map_or(at_rest, |bake| (bake.strategy, bake.gateway));
    d.status.previous = Some(from.clone());
    d.status.kept = None;
    d.status.follow_up = None;
    d.status.promotion += 1;
    d.status.attempt += 1;
    // What was tried last is not to be tried again by itself; a newer spec is.
    let tried = d.status.candidate.take().map(|candidate| candidate.revision);
    let revision = tried.filter(|tried| tried != to).unwrap_or(from);
    d.status.candidate = Some(Candidate {
        revision,
        attempt: d.status.attempt,
        asked: asked.to_owned(),
        strategy,
        gateway,
        steps: Vec::new(),
        step: 0,
        step_since: None,
        weight: None,
        started_at: Time(d.now),
        verdict: None,
        progress: None,
    });
    end(d, outcome, reason, message);
    if d.goal.desired == *to {
        d.status.candidate = None;
    }
}

/// An attempt under way: gate after gate.
fn forward(d: &mut Draft, candidate: &Candidate) -> Found {
    if !migration::in_flight(d, candidate)
        && let Some(why) = follow_up::forbids(d, &candidate.revision)
    {
        end(d, Outcome::Failed, follow_up::BEHIND_CONTRACT, &why);
        // Unless it comes in the midst of another there is nothing to return from, however the stable revision fares.
        let rests = d.stable().is_some_and(|stable| alone(d, &stable)) && route::rests(d);
        let Some(ended) = d.status.candidate.as_mut() else { return Found::default() };
        if let Some(verdict) = ended.verdict.as_mut() {
            verdict.returned = rests;
        }
        let ended = ended.clone();
        return back(d, &ended);
    }
    let later = || Gate::Waiting(format!("revision {} has no pods yet", candidate.revision));
    let secrets = secrets(d, &candidate.revision);
    let mut found = Found { secrets, pods: later(), traffic: later(), ..Found::default() };
    if found.secrets != Gate::Passed {
        hold(d, candidate, true);
        return found;
    }
    let Some(revision) = stored(d, &candidate.revision) else {
        hold(d, candidate, true);
        found.migrated = Gate::Waiting("the revision is being stored".to_owned());
        return found;
    };
    if !migration::in_flight(d, candidate)
        && let Some(why) = budget::blocked(d, candidate, &revision)
    {
        clock::stop(d);
        if d.world.asked(&candidate.revision) == 0 {
            hold(d, candidate, true);
        } else {
            let moves = strategy::freeze(d, candidate, strategy::aim(d, candidate));
            d.share = route::Share::Keep;
            perform(d, Some(&candidate.revision), &moves);
        }
        found.blocked = Some(why);
        return found;
    }
    // Before the Job, which reads the revision's defaults.
    upkeep(d, &[&candidate.revision]);
    found.migrated = migration::gate(d, candidate, &revision);
    if found.migrated.is_open() && candidate.revision != d.goal.desired {
        // It was only kept for its migration; nothing more is made of it.
        found.migrated = Gate::Waiting("its migration Job is being removed".to_owned());
    }
    if !found.migrated.is_open() {
        found.paused = found.migrated == Gate::Waiting(migration::PAUSED.to_owned());
        clock::stop(d);
        if d.status.under_way().is_some() {
            let others = migration::others(d).is_some() && !migration::in_flight(d, candidate);
            hold(d, candidate, found.paused || others);
        }
        let failed_before = d.status.migration.as_ref().is_some_and(|migration| migration.retries > 0);
        found.overdue = d.status.stable.is_none()
            && failed_before
            && clock::passed(d, candidate.started_at.0, d.goal.progress_deadline);
        return found;
    }
    rollout::go_on(d, &mut found);
    found
}

/// An attempt that ended: everything returns to the stable revision, or stays until a person decides.
fn back(d: &mut Draft, candidate: &Candidate) -> Found {
    let mut found = Found { secrets: Gate::Passed, ..Found::default() };
    let Some(stable) = d.stable() else { return found };
    found.secrets = kept_secret(d, &stable);
    found.waits = migration::clear(d, Some(candidate));
    upkeep(d, &[&stable]);
    if stored(d, &stable).is_none() {
        return found;
    }
    if candidate.verdict.as_ref().is_some_and(|verdict| verdict.held) {
        let aim = strategy::aim(d, candidate);
        let moves = strategy::freeze(d, candidate, aim);
        d.share = route::Share::Keep;
        perform(d, Some(&stable), &moves);
        clock::stop(d);
        found.worst = worst(d, &candidate.revision);
        return found;
    }
    let moves = strategy::settle(d, candidate.strategy, candidate.gateway, &stable);
    perform(d, Some(&stable), &moves);
    let returned = is_up(d, &stable)
        && d.world.serving(&stable) >= d.goal.replicas
        && alone(d, &stable)
        && route::rests(d)
        && found.waits.is_none();
    let done = candidate.verdict.as_ref().is_some_and(|verdict| verdict.returned);
    if returned
        && !done
        && let Some(verdict) = d.status.candidate.as_mut().and_then(|c| c.verdict.as_mut())
    {
        verdict.returned = true;
    }
    follow_up::go_on(d, returned || done);
    if returned || done {
        clock::stop(d);
        found.prunable = found.waits.is_none();
    } else {
        let available = d.world.deployments.get(&stable).map_or(0, |deployment| deployment.available);
        found.overdue = d.goal.replicas > 0 && clock::run(d, available);
    }
    found.worst = worst(d, &stable);
    let strategy = candidate.strategy;
    found.waits = found.waits.or_else(|| strategy::waits_for(strategy, d.world, &stable));
    if !route::rests(d) {
        found.waits = found.waits.or_else(|| route::waits(d));
    }
    found
}

/// A person ended the very first rollout: what serves stays.
fn stay(d: &mut Draft, candidate: &Candidate) -> Found {
    let mut found = Found { secrets: kept_secret(d, &candidate.revision), ..Found::default() };
    found.waits = migration::clear(d, Some(candidate));
    perform(d, Some(&candidate.revision), &Moves::default());
    if found.waits.is_none()
        && let Some(verdict) = d.status.candidate.as_mut().and_then(|c| c.verdict.as_mut())
    {
        verdict.returned = true;
    }
    found
}

/// No rollout: the stable revision is kept at its size.
fn rest(d: &mut Draft) -> Found {
    let mut found = Found { secrets: Gate::Passed, migrated: Gate::Passed, ..Found::default() };
    let Some(stable) = d.stable() else { return found };
    found.secrets = kept_secret(d, &stable);
    if d.world.revisions.get(&stable).is_some_and(|revision| !revision.needs_migration) {
        found.migrated = Gate::NotRequired;
    }
    let job_gone = migration::clear(d, None).is_none();
    upkeep(d, &[&stable]);
    if stored(d, &stable).is_none() {
        return found;
    }
    aftermath::go_on(d);
    let strategy = d.goal.strategy;
    let moves = strategy::settle(d, strategy, strategy::by_gateway(d, strategy), &stable);
    perform(d, Some(&stable), &moves);
    found.settled = is_up(d, &stable) && d.world.serving(&stable) >= d.goal.replicas;
    found.worst = worst(d, &stable);
    found.waits = strategy::waits_for(strategy, d.world, &stable);
    follow_up::go_on(d, found.settled);
    found.prunable = found.settled && job_gone;
    found
}

/// The generated Secret exists: made once, posted again for each new revision and when a pod misses it.
fn secrets(d: &mut Draft, revision: &Rev) -> Gate {
    let answered = d.world.secret_posted.as_ref().is_some_and(|posted| posted.revision == *revision);
    if answered {
        d.status.secrets_for = Some(revision.clone());
        return Gate::Passed;
    }
    if d.status.secrets_for.as_ref() == Some(revision) {
        return kept_secret(d, revision);
    }
    d.write(Write::PostSecret { revision: revision.clone() });
    Gate::Waiting("the generated Secret is being made".to_owned())
}

/// The generated Secret was there once: it is posted again when a pod misses it, which no gate waits for.
fn kept_secret(d: &mut Draft, revision: &Rev) -> Gate {
    if d.world.secret_missing && d.world.secret_posted.is_none() {
        d.write(Write::PostSecret { revision: revision.clone() });
    }
    Gate::Passed
}

/// The stored revision; asks for it to be stored when it is not.
fn stored(d: &mut Draft, name: &Rev) -> Option<RevisionObs> {
    match d.world.revisions.get(name) {
        Some(revision) if revision.terminating => None,
        Some(revision) => Some(revision.clone()),
        None if d.goal.desired == *name => {
            let candidate = d.status.candidate.as_ref().filter(|candidate| candidate.revision == *name);
            let attempt = candidate.map(|candidate| candidate.attempt);
            d.write(Write::CreateRevision { revision: name.clone(), attempt });
            None
        }
        None => None,
    }
}

/// The candidate may not have pods yet: what serves is kept, unless it is all that the migration waits for. With `blocked`
/// it waits for something else, too.
fn hold(d: &mut Draft, candidate: &Candidate, blocked: bool) {
    let reference = d.stable();
    let waiting_for_migration = d.world.revisions.get(&candidate.revision).is_some_and(|r| r.needs_migration);
    let mut kept: Vec<&Rev> = vec![&candidate.revision];
    kept.extend(reference.as_ref());
    upkeep(d, &kept);
    let stops = candidate.strategy == StrategyKind::Recreate && d.goal.stop_before_migration;
    let moves = if stops && (blocked || !waiting_for_migration) {
        Moves::default()
    } else {
        strategy::hold(d, candidate)
    };
    perform(d, Some(&candidate.revision), &moves);
}

/// Writes the moves: the selector first, then raises and repairs, and at the very end the one lowering.
pub(super) fn perform(d: &mut Draft, focus: Option<&Rev>, moves: &Moves) {
    let mut moves = budget::squeeze(d, moves.clone());
    route::guard(d, &mut moves);
    let moves = &moves;
    let selector = traffic::steer(d, focus, moves);
    d.status.selector = traffic::text(&d.goal.app, &selector);
    traffic::preview(d);
    route::steer(d);
    strategy::pace(d, moves);
    for (revision, replicas) in &moves.raise {
        set_replicas(d, revision, *replicas);
    }
    let touched: BTreeSet<&Rev> =
        moves.raise.iter().chain(&moves.lower).map(|(revision, _)| revision).collect();
    let world = d.world;
    for (revision, deployment) in &world.deployments {
        let restarting = d.status.restarts.get(revision).map(|at| at.0);
        let stale = deployment.drifted || restarting > deployment.restarted_at;
        if stale && !deployment.terminating && !touched.contains(revision) {
            set_replicas(d, revision, deployment.replicas);
        }
    }
    if let Some((revision, replicas)) = &moves.lower {
        set_replicas(d, revision, *replicas);
    }
}

fn set_replicas(d: &mut Draft, revision: &Rev, replicas: u32) {
    let write = match d.world.deployments.get(revision) {
        // A Deployment of the same name that is going is waited out.
        Some(deployment) if deployment.terminating => return,
        Some(deployment) if d.world.revisions.contains_key(revision) => Write::ApplyDeployment {
            revision: revision.clone(),
            replicas,
            version: deployment.version.clone(),
        },
        None if d.world.revisions.contains_key(revision) => {
            Write::CreateDeployment { revision: revision.clone(), replicas }
        }
        _ => return,
    };
    d.write(write);
}

/// Children whose repair can harm nothing, those that the named revisions do not need left out.
fn upkeep(d: &mut Draft, revisions: &[&Rev]) {
    let world = d.world;
    let may_start = |revision: &Rev| {
        revisions.contains(&revision) && world.revisions.contains_key(revision)
            || world.asked(revision) > 0
            || world.has_workers(revision)
    };
    let has_nodes = |revision: &Rev| may_start(revision) || world.pod_objects(revision) > 0;
    for child in &world.upkeep {
        let needed = match child {
            Upkeep::Defaults(revision) => may_start(revision),
            // Nodes find each other until the last has drained.
            Upkeep::NewHeadlessService(revision) => has_nodes(revision),
            Upkeep::PeersBinding(revisions) => revisions.iter().any(has_nodes),
            Upkeep::NoPeersBinding(revisions) => !revisions.iter().any(has_nodes),
            _ => true,
        };
        let write = Write::Upkeep(child.clone());
        if needed && !d.writes.contains(&write) {
            d.write(write);
        }
    }
}

/// Repairs the facts recorded on the stored revisions; they follow from the status.
fn record_facts(d: &mut Draft) {
    let mut wanted: Vec<(Rev, Facts)> = Vec::new();
    if let Some(stable) = d.stable() {
        let facts = Facts {
            promotion: Some(d.status.promotion),
            outcome: Some(Outcome::Promoted),
            ..Facts::default()
        };
        wanted.push((stable, facts));
    }
    // One that was not even begun is no newer for it.
    let begun = |candidate: &&Candidate| !candidate.verdict.as_ref().is_some_and(follow_up::is_forbidden);
    if let Some(candidate) = d.status.candidate.as_ref().filter(begun) {
        let outcome = candidate.verdict.as_ref().map(|verdict| verdict.outcome);
        let facts = Facts { attempt: Some(candidate.attempt), outcome, ..Facts::default() };
        wanted.push((candidate.revision.clone(), facts));
    }
    for (revision, facts) in wanted {
        let Some(stored) = d.world.revisions.get(&revision) else { continue };
        let known = facts.attempt.is_none_or(|attempt| attempt == stored.attempt)
            && facts.promotion.is_none_or(|promotion| promotion == stored.promotion)
            && (facts.outcome.is_none() || facts.outcome == stored.outcome);
        let busy =
            d.writes.iter().any(|w| matches!(w, Write::Annotate { revision: r, .. } if *r == revision));
        if !known && !busy && !stored.terminating {
            let version = stored.version.clone();
            d.writes.insert(0, Write::Annotate { revision, facts, version });
        }
    }
}

/// The Deployment is at its wanted size, its controller agrees, and all its pods are available.
pub(super) fn is_up(d: &Draft, revision: &Rev) -> bool {
    let wanted = d.goal.replicas;
    match d.world.deployments.get(revision) {
        Some(deployment) => {
            !deployment.terminating
                && deployment.observed
                && deployment.replicas == wanted
                && deployment.available >= wanted
        }
        None => wanted == 0,
    }
}

/// No pod of another revision receives requests, or will when the Service changes.
pub(super) fn alone(d: &Draft, focus: &Rev) -> bool {
    let mut others = d.world.populated().into_iter().filter(|rev| *rev != focus);
    match d.world.service.as_ref().map(|service| &service.selector) {
        Some(Selector::Only(selected)) => {
            selected == focus && others.all(|rev| d.world.endpoints.get(rev).is_none_or(|ready| *ready == 0))
        }
        _ => others.all(|rev| d.world.is_quiet(rev)),
    }
}

pub(super) fn worst(d: &Draft, revision: &Rev) -> String {
    let worst = d.world.pods.get(revision).and_then(|pods| pods.worst.as_ref());
    worst.map_or_else(String::new, |why| format!("; {why}"))
}
