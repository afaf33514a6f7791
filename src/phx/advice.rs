//! PURE. What a person can do now.

use super::view::{StepState, View};
use crate::api::Phase;

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
        Phase::Failed | Phase::Aborted | Phase::RolledBack | Phase::Paused => {
            if attempt.is_some_and(|attempt| attempt.held) {
                advice.push(line("abort", "everything returns to the stable revision"));
            }
            advice.push(line("retry", "tries the same spec again"));
            advice.push("or correct the spec and apply it".to_owned());
            advice.push(line("logs --candidate", "what its pods said, while they are there"));
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
    advice
}
