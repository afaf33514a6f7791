//! How `wait` ends.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::scene::{ago, app, candidate, now};
use crate::phx::{
    exit::Exit,
    wait::{Goal, Judgement, judge},
};

const BLOCKED: Duration = Duration::from_secs(30);

fn status(phase: &str, more: &Value) -> Value {
    let mut status =
        json!({"observedGeneration": 2, "phase": phase, "message": "so it is", "stable": "1a2b3c4d5e"});
    for (key, value) in more.as_object().into_iter().flatten() {
        status[key] = value.clone();
    }
    status
}

fn of(status: &Value, goal: Goal) -> Option<Exit> {
    match judge(&app(&json!({}), status), goal, BLOCKED, now()) {
        Judgement::Ended(exit, message) => {
            assert!(message.contains("so it is"), "{message}");
            Some(exit)
        }
        Judgement::Waiting(_) => None,
    }
}

#[test]
fn every_phase_ends_as_documented() {
    let trying = json!({"candidate": candidate("Canary", &json!([{"setWeight": 10}]), 0)});
    let mut held = candidate("Canary", &json!([]), 0);
    held["verdict"] = json!({"outcome": "Failed", "reason": "x", "message": "x", "held": true});
    let held = json!({"candidate": held});
    let baking = json!({"bake": {"since": ago(10), "strategy": "Canary"}});
    let none = json!({});
    let (done, failed) = (Some(Exit::Done), Some(Exit::Failed));
    // phase, more of the status; healthy, promoted, paused, baked
    let table = [
        ("Healthy", &none, [done, done, failed, done]),
        ("Healthy", &baking, [done, done, failed, None]),
        ("Degraded", &none, [None, done, failed, None]),
        ("RollingOut", &trying, [None, None, None, None]),
        ("Migrating", &trying, [None, None, None, None]),
        ("Paused", &trying, [None, None, done, None]),
        ("Paused", &held, [failed, failed, failed, failed]),
        ("RollingBack", &trying, [None, None, None, None]),
        ("RollingBack", &none, [None, None, None, None]),
        ("Failed", &held, [failed, failed, failed, failed]),
        ("Aborted", &trying, [failed, failed, failed, failed]),
        ("RolledBack", &trying, [failed, failed, failed, failed]),
        ("Suspended", &none, [failed, failed, failed, failed]),
    ];
    for (phase, more, wanted) in table {
        let status = status(phase, more);
        let seen = [Goal::Healthy, Goal::Promoted, Goal::Paused, Goal::Baked].map(|goal| of(&status, goal));
        assert_eq!(seen, wanted, "{phase} {more}");
    }
}

#[test]
fn a_status_of_an_earlier_spec_says_nothing() {
    let mut status = status("Failed", &json!({}));
    status["observedGeneration"] = json!(1);
    assert_eq!(of(&status, Goal::Healthy), None);
    assert_eq!(of(&json!({}), Goal::Healthy), None);
}

#[test]
fn what_blocks_may_heal_for_a_while() {
    let blocked = |since| {
        let stalled = json!({"type": "Stalled", "status": "True", "reason": "x", "message": "", "lastTransitionTime": ago(since)});
        app(&json!({}), &status("Blocked", &json!({"conditions": [stalled]})))
    };
    let until = now().saturating_add(SignedDuration::from_secs(20)).unwrap();
    assert_eq!(judge(&blocked(10), Goal::Healthy, BLOCKED, now()), Judgement::Waiting(Some(until)));
    assert!(matches!(judge(&blocked(30), Goal::Healthy, BLOCKED, now()), Judgement::Ended(Exit::Failed, _)));
}
