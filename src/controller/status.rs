//! The parts of the status that the planner does not know of, and which parts are facts rather than reports.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{drift::Drifts, pods};
use crate::{
    api::{Candidate, EffectiveStatus, PhoenixAppStatus, ValidatedApp},
    build::{Revision, Settings, render},
};

const DRIFT_PERSISTS: &str = "DriftPersists";

/// Conditional defaults as they are in force: those of the stored revision, else those it will have.
pub fn effective(app: &ValidatedApp, stored: Option<&Revision>) -> Option<EffectiveStatus> {
    let effective = if let Some(revision) = stored {
        revision.effective.clone()
    } else {
        let name = "0000000000".parse().ok()?;
        render(app, &name, &Settings::default()).effective
    };
    Some(EffectiveStatus {
        migrations_mode: effective.migrations.as_str().to_owned(),
        isolation: format!("{:?}", effective.isolation),
        run_as_user: effective.run_as_user,
    })
}

/// Takes out what was quoted of logs while that was allowed.
pub fn forget_quotes(status: &mut PhoenixAppStatus) {
    let bare = |text: &mut String| {
        if let Some(at) = pods::QUOTES.iter().filter_map(|quote| text.find(quote)).min() {
            text.truncate(at);
        }
    };
    if let Some(migration) = status.migration.as_mut() {
        migration.log_tail.clear();
        bare(&mut migration.message);
    }
    if let Some(follow_up) = status.follow_up.as_mut() {
        follow_up.log_tail.clear();
        bare(&mut follow_up.message);
    }
    for test in &mut status.smoke_tests {
        bare(&mut test.message);
    }
    if let Some(verdict) = status.candidate.as_mut().and_then(|candidate| candidate.verdict.as_mut()) {
        bare(&mut verdict.message);
    }
}

/// Keeps the condition that tells of differences which our own apply did not remove.
///
/// After a restart of the operator nothing is known of them, until they have been found again: it stays meanwhile.
pub fn note_drifts(status: &mut PhoenixAppStatus, drifts: &Drifts, generation: i64, now: Timestamp) {
    let at = status.conditions.iter().position(|condition| condition.type_ == DRIFT_PERSISTS);
    if drifts.still.is_empty() {
        if let (Some(at), false) = (at, drifts.fresh) {
            status.conditions.remove(at);
        }
        return;
    }
    let objects: Vec<String> = drifts
        .still
        .iter()
        .map(|which| {
            let fields = drifts.persisting.get(which).map(|one| one.fields.join(", ")).unwrap_or_default();
            format!("{} {} in {fields}", which.0, which.1)
        })
        .collect();
    let message = format!(
        "another program changes what is applied: {}; it is left so until the spec changes",
        objects.join("; ")
    );
    let condition = Condition {
        type_: DRIFT_PERSISTS.to_owned(),
        status: "True".to_owned(),
        reason: "ChangedByOthers".to_owned(),
        message,
        last_transition_time: at.map_or(Time(now), |at| status.conditions[at].last_transition_time.clone()),
        observed_generation: Some(generation),
    };
    match at {
        Some(at) => status.conditions[at] = condition,
        None => status.conditions.push(condition),
    }
}

/// While a watch is not open, what is counted may not be so: it stays as it was last known.
pub fn keep_counts(status: &mut PhoenixAppStatus, known: &PhoenixAppStatus) {
    const AVAILABLE: &str = "Available";
    status.replicas = known.replicas;
    status.ready_replicas = known.ready_replicas;
    status.conditions.retain(|condition| condition.type_ != AVAILABLE);
    let available = known.conditions.iter().position(|condition| condition.type_ == AVAILABLE);
    if let Some(at) = available {
        let at_most = status.conditions.len();
        status.conditions.insert(at.min(at_most), known.conditions[at].clone());
    }
}

/// Whether two statuses hold the same facts: what cannot be computed anew, and so is written before acting on it.
/// The progress clock is none of them: it starts with the writes.
pub fn same_facts(one: &PhoenixAppStatus, other: &PhoenixAppStatus) -> bool {
    let PhoenixAppStatus {
        stable,
        previous,
        promotion,
        candidate,
        attempt,
        bake,
        route,
        kept,
        drained_at,
        paused,
        restarts,
        secrets_for,
        migration,
        follow_up,
        analysis,
        smoke_tests,
        last_command,
        history,
        observed_generation: _,
        phase: _,
        message: _,
        replicas: _,
        ready_replicas: _,
        selector: _,
        effective: _,
        cluster: _,
        rollback_safe: _,
        workers: _,
        conditions: _,
    } = one;
    *stable == other.stable
        && *previous == other.previous
        && *promotion == other.promotion
        && same_candidate(candidate.as_ref(), other.candidate.as_ref())
        && *attempt == other.attempt
        && *bake == other.bake
        && *route == other.route
        && *kept == other.kept
        && *drained_at == other.drained_at
        && *paused == other.paused
        && *restarts == other.restarts
        && *secrets_for == other.secrets_for
        && *migration == other.migration
        && *follow_up == other.follow_up
        && *analysis == other.analysis
        && *smoke_tests == other.smoke_tests
        && *last_command == other.last_command
        && *history == other.history
}

/// The same but for the progress clock.
fn same_candidate(one: Option<&Candidate>, other: Option<&Candidate>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => {
            let progress = one.progress.clone();
            *one == Candidate { progress, ..other.clone() }
        }
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// Whether a status may be told together with what comes after it: only its wording, counts and gates have changed, not
/// its phase.
pub fn may_wait(written: &PhoenixAppStatus, status: &PhoenixAppStatus) -> bool {
    // Which conditions there are, and whether it is ready: those that stand for trouble come and go.
    fn verdict(status: &PhoenixAppStatus) -> (Option<&String>, BTreeSet<&str>) {
        let ready = status.conditions.iter().find(|one| one.type_ == "Ready").map(|one| &one.status);
        (ready, status.conditions.iter().map(|one| one.type_.as_str()).collect())
    }
    written.phase == status.phase
        && written.observed_generation == status.observed_generation
        && written.cluster == status.cluster
        && verdict(written) == verdict(status)
        && same_facts(written, status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::testing::app,
        controller::{drift::Persisting, kind::Kind},
    };

    #[test]
    fn a_report_is_no_fact() {
        let one = PhoenixAppStatus { message: "a".to_owned(), ..PhoenixAppStatus::default() };
        let mut other = PhoenixAppStatus { message: "b".to_owned(), ..PhoenixAppStatus::default() };
        assert!(same_facts(&one, &other));
        other.attempt = 1;
        assert!(!same_facts(&one, &other));
    }

    #[test]
    fn a_verdict_and_a_fact_are_told_at_once_and_progress_may_wait() {
        let ready = |status: &str, message: &str| PhoenixAppStatus {
            conditions: vec![Condition {
                type_: "Ready".to_owned(),
                status: status.to_owned(),
                reason: "Any".to_owned(),
                message: message.to_owned(),
                last_transition_time: Time(Timestamp::UNIX_EPOCH),
                observed_generation: Some(1),
            }],
            ..PhoenixAppStatus::default()
        };
        assert!(may_wait(&ready("False", "1 of 3"), &ready("False", "2 of 3")));
        assert!(!may_wait(&ready("False", "2 of 3"), &ready("True", "3 of 3")));
        assert!(!may_wait(&ready("True", ""), &PhoenixAppStatus { attempt: 2, ..ready("True", "") }));
        let mut troubled = ready("False", "1 of 3");
        troubled.conditions.push(Condition { type_: "Stalled".to_owned(), ..troubled.conditions[0].clone() });
        assert!(!may_wait(&ready("False", "1 of 3"), &troubled));
    }

    #[test]
    fn the_condition_stays_until_nothing_differs() {
        let which = (Kind::Service, "shop".to_owned());
        let persisting = Persisting { wanted: "h".to_owned(), fields: vec!["spec.type".to_owned()] };
        let persisting = [(which.clone(), persisting)].into();
        let mut drifts = Drifts::new(persisting, BTreeSet::new(), &app("{image: shop:1}"), &[]);
        drifts.still.push(which);
        let mut status = PhoenixAppStatus::default();
        note_drifts(&mut status, &drifts, 1, Timestamp::UNIX_EPOCH);
        assert!(status.conditions[0].message.contains("Service shop in spec.type"));
        let mut unknown = Drifts::default();
        unknown.fresh = true;
        note_drifts(&mut status, &unknown, 1, Timestamp::UNIX_EPOCH);
        assert_eq!(status.conditions.len(), 1, "after a restart");
        note_drifts(&mut status, &Drifts::default(), 1, Timestamp::UNIX_EPOCH);
        assert!(status.conditions.is_empty());
    }

    #[test]
    fn effective_defaults_are_shown_before_they_are_stored() {
        let effective = effective(&app("{image: shop:1}"), None).unwrap();
        assert_eq!(
            (effective.migrations_mode.as_str(), effective.isolation.as_str()),
            ("Disabled", "Shared")
        );
    }
}
