//! Whether every status tells the truth to those who read it: kstatus, as Flux, kpt and `helm --wait` do, and
//! Argo CD with the health check in `argocd/`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use phoenix_operator::api::Phase;
use serde::Deserialize;
use serde_json::{Value, json};

use super::record::Seen;
use crate::argocd::Evaluator;
use crate::lines::through;

/// How a status is called that speaks of no generation or an older one.
const UNSEEN: &str = "unseen";

/// What was judged: how often each phase (`unseen` before the operator saw a generation) got each pair of
/// verdicts, that of kstatus and that of Argo CD.
pub type Judged = BTreeMap<String, BTreeMap<String, usize>>;

/// Every distinct status of every app, with what is needed to judge it.
pub(super) fn distinct(seen: &Seen) -> Vec<Value> {
    let mut objects: Vec<Value> = Vec::new();
    let alive = |object: &Value| object.pointer("/metadata/deletionTimestamp").is_none();
    for event in seen.history("PhoenixApp").filter(|event| alive(&event.object)) {
        let object = json!({
            "apiVersion": "phoenix-operator.dev/v1alpha1",
            "kind": "PhoenixApp",
            "metadata": {
                "name": event.name,
                "namespace": event.object.pointer("/metadata/namespace"),
                "generation": event.object.pointer("/metadata/generation"),
            },
            "spec": {"replicas": event.object.pointer("/spec/replicas")},
            "status": event.object.get("status").cloned().unwrap_or_else(|| json!({})),
        });
        if !objects.contains(&object) {
            objects.push(object);
        }
    }
    objects
}

/// The programs that judge.
pub struct Judges {
    /// `kstatus`.
    pub kstatus: PathBuf,
    /// `argocd-lua`.
    pub argocd: PathBuf,
}

/// Judges statuses with both programs and holds each verdict against its phase.
///
/// Errors, naming the status, unless: both say of each what the table in `docs/status.md` says; Argo CD passes
/// the message on; no status is ahead of its object; and what is Current serves, or was asked for no pods.
pub async fn judge_statuses(judges: &Judges, objects: &[Value]) -> Result<Judged> {
    let kstatus: Vec<Kstatus> = through(&judges.kstatus, &[], objects).await?;
    let argocd = Evaluator::new(judges.argocd.clone()).health(objects).await?;
    let mut counts = Judged::new();
    for (object, (kstatus, argocd)) in objects.iter().zip(kstatus.into_iter().zip(argocd)) {
        let (phase, wanted) = wanted(object)?;
        let verdict = (kstatus.status.as_str(), argocd.status.as_str());
        ensure!(
            verdict == wanted,
            "kstatus and Argo CD say {verdict:?}, not {wanted:?}, of phase {phase}:\n{object:#}"
        );
        let message = object.pointer("/status/message").and_then(Value::as_str).unwrap_or_default();
        ensure!(
            phase == UNSEEN || argocd.message == message,
            "Argo CD shows {:?} instead of the message:\n{object:#}",
            argocd.message
        );
        if kstatus.status == "Current" {
            let serves = condition(object, "Available") == Some("True");
            let none_asked = object.pointer("/spec/replicas").and_then(Value::as_i64) == Some(0);
            ensure!(serves || none_asked, "Current, and serves nothing:\n{object:#}");
        }
        let verdicts = format!("{}, {}", kstatus.status, argocd.status);
        *counts.entry(phase).or_default().entry(verdicts).or_default() += 1;
    }
    Ok(counts)
}

/// One line of what kstatus says.
#[derive(Deserialize)]
struct Kstatus {
    status: String,
}

/// The phase of an object, and what kstatus and Argo CD are to say of it.
fn wanted(object: &Value) -> Result<(String, (&'static str, &'static str))> {
    let generation = object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default();
    let observed = object.pointer("/status/observedGeneration").and_then(Value::as_i64).unwrap_or(-1);
    ensure!(observed <= generation, "observedGeneration is ahead:\n{object:#}");
    if observed < generation {
        return Ok((UNSEEN.to_owned(), ("InProgress", "Progressing")));
    }
    let phase = object.pointer("/status/phase").with_context(|| format!("no phase:\n{object:#}"))?;
    let known: Phase = serde_json::from_value(phase.clone()).with_context(|| format!("phase {phase}"))?;
    let wanted = match known {
        Phase::Healthy => ("Current", "Healthy"),
        Phase::Failed | Phase::Aborted | Phase::RolledBack | Phase::Blocked => ("Failed", "Degraded"),
        Phase::Migrating | Phase::RollingOut | Phase::RollingBack | Phase::Degraded => {
            ("InProgress", "Progressing")
        }
        Phase::Paused | Phase::Suspended => ("InProgress", "Suspended"),
    };
    Ok((format!("{known:?}"), wanted))
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)?["status"].as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(observed: i64, phase: &str) -> Value {
        json!({"metadata": {"generation": 2}, "status": {"observedGeneration": observed, "phase": phase}})
    }

    #[test]
    fn each_phase_has_one_verdict_and_a_status_is_never_ahead() {
        assert_eq!(wanted(&app(2, "Healthy")).unwrap().1, ("Current", "Healthy"));
        assert_eq!(wanted(&app(2, "Blocked")).unwrap().1, ("Failed", "Degraded"));
        assert_eq!(wanted(&app(2, "Degraded")).unwrap().1, ("InProgress", "Progressing"));
        assert_eq!(wanted(&app(2, "Paused")).unwrap().1, ("InProgress", "Suspended"));
        assert_eq!(wanted(&app(1, "Healthy")).unwrap(), (UNSEEN.to_owned(), ("InProgress", "Progressing")));
        assert!(wanted(&app(3, "Healthy")).is_err());
        assert!(wanted(&app(2, "Other")).is_err());
        assert_eq!(wanted(&json!({"metadata": {"generation": 1}})).unwrap().0, UNSEEN);
    }
}
