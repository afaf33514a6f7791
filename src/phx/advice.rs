//! PURE. What a person can do now.

use super::view::{FollowUpView, StepState, View};
use crate::api::{FollowUpKind, FollowUpState, Phase};
use crate::plan::BEHIND_CONTRACT;

/// Commands that help now, each with a word on what it does; none while all goes by itself.
pub fn advice(view: &View) -> Vec<String> {
    let name = &view.name;
    let line = |verb: &str, what: &str| format!("kubectl phx {verb} {name}: {what}");
    let mut advice = Vec::new();
    let Some(phase) = view.phase else {
        return vec![
            "see whether the operator runs, and looks after this namespace: kubectl get pods -A -l \
             app.kubernetes.io/name=phoenix-operator"
                .to_owned(),
        ];
    };
    let attempt = view.attempt.as_ref();
    let ended = attempt.is_some_and(|attempt| attempt.ended.is_some());
    if view.paused {
        advice.push(line("resume", "the rollout goes on"));
    }
    match phase {
        Phase::Paused if !ended => {
            let step = attempt
                .and_then(|attempt| attempt.steps.iter().position(|step| step.state == StepState::Now));
            if !view.paused {
                let what = step.map_or_else(
                    || "the rollout goes on".to_owned(),
                    |step| format!("ends the pause of step {} and goes on", step + 1),
                );
                advice.push(line("promote", &what));
                advice.push(line("promote --full", "skips all remaining steps"));
            }
            advice.push(line("abort", "everything returns to the stable revision"));
        }
        Phase::RollingOut | Phase::Migrating if attempt.is_some() && !view.paused => {
            advice.push(line("abort", "everything returns to the stable revision"));
        }
        // What comes next is about the way back first.
        Phase::RolledBack if view.follow_up.as_ref().is_some_and(FollowUpView::failed) => {}
        Phase::Failed | Phase::Aborted | Phase::RolledBack | Phase::Paused => {
            if attempt.is_some_and(|attempt| attempt.held) {
                advice.push(line("abort", "everything returns to the stable revision"));
            }
            let forbids = view.gates.iter().find(|gate| gate.reason == BEHIND_CONTRACT);
            if let (Some(attempt), Some(gate)) = (attempt, forbids) {
                advice.push("apply a spec that needs nothing of what the contract removed".to_owned());
                // It names the command where there is one: what never ran is no way back.
                if gate.message.contains("`rollback ") {
                    let back = format!("rollback {name} {} --force", attempt.revision);
                    advice.push(format!("kubectl phx {back}: returns to it nevertheless"));
                }
            } else {
                advice.push(line("retry", "tries the same spec again"));
                advice.push("or correct the spec and apply it".to_owned());
                advice.push(line("logs --candidate", "what its pods said, while they are there"));
            }
        }
        Phase::Blocked => {
            advice.push("cure what the message names; the operator goes on by itself then".to_owned());
            advice.push(line("doctor", "what the release makes of its environment"));
        }
        Phase::Suspended => {
            advice.push(format!(
                "kubectl patch phx {name} --type=merge -p '{{\"spec\":{{\"suspend\":false}}}}': the operator goes on"
            ));
        }
        Phase::Degraded => advice.push(line("logs", "what its pods say")),
        Phase::Healthy if view.bake_seconds.is_some() => {
            advice.push(line("rollback", "returns to the previous revision at once"));
        }
        Phase::Healthy | Phase::RollingBack | Phase::RollingOut | Phase::Migrating => {}
    }
    if let Some(follow_up) = &view.follow_up {
        follows(follow_up, &line, &mut advice);
    }
    advice
}

/// What helps a contract or a way back of migrations. Whatever becomes of them, what serves stays.
fn follows(follow_up: &FollowUpView, line: &dyn Fn(&str, &str) -> String, advice: &mut Vec<String>) {
    let contract = follow_up.kind == FollowUpKind::Contract;
    let (again, up) = if contract {
        ("runs the contract again", "gives the contract up until `retry`; what serves stays")
    } else {
        ("rolls the migrations back again", "leaves the migrations as they are now; what serves stays")
    };
    match follow_up.state {
        FollowUpState::Running => {
            advice.push(line("logs --follow-up --follow", "what its Job says"));
            advice.push(line("abort", up));
        }
        FollowUpState::WaitingToRetry | FollowUpState::Failed if follow_up.failed() => {
            if follow_up.reason != "AbortedByCommand" {
                let cure = if contract {
                    "cure in the database what its log names, or apply a release with another contract"
                } else {
                    "cure in the database what its log names; it may be half rolled back"
                };
                advice.push(cure.to_owned());
            }
            advice.push(line("retry", again));
            if follow_up.state == FollowUpState::WaitingToRetry {
                advice.push(line("abort", up));
            }
        }
        _ => {}
    }
}
