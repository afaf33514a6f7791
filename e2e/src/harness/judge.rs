//! Whether every status tells the truth to those who read it: kstatus, as Flux, kpt and `helm --wait` do.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use phoenix_operator::api::Phase;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::record::Seen;

/// What was judged: how often each phase (`unseen` before the operator saw a generation) got each verdict.
pub type Judged = BTreeMap<String, BTreeMap<String, usize>>;

/// Every distinct status of every app, with what kstatus needs to judge it.
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

/// Judges statuses with the program `kstatus` and holds each verdict against its phase.
///
/// Errors, naming the status, unless: Healthy is Current; Failed, Aborted and Blocked are Failed; all other
/// phases and all statuses of an older generation are in progress; no status is ahead of its object; and what
/// is Current serves, or was asked for no pods.
pub async fn judge_statuses(kstatus: &Path, objects: &[Value]) -> Result<Judged> {
    let verdicts = verdicts(kstatus, objects).await?;
    ensure!(verdicts.len() == objects.len(), "{} verdicts on {} statuses", verdicts.len(), objects.len());
    let mut judged = Judged::new();
    for (object, verdict) in objects.iter().zip(verdicts) {
        let (phase, wanted) = wanted(object)?;
        ensure!(verdict == wanted, "kstatus says {verdict}, not {wanted}, of phase {phase}:\n{object:#}");
        if verdict == "Current" {
            let serves = condition(object, "Available") == Some("True");
            let none_asked = object.pointer("/spec/replicas").and_then(Value::as_i64) == Some(0);
            ensure!(serves || none_asked, "Current, and serves nothing:\n{object:#}");
        }
        *judged.entry(phase).or_default().entry(verdict).or_default() += 1;
    }
    Ok(judged)
}

/// The phase of an object, and what kstatus is to say of it.
fn wanted(object: &Value) -> Result<(String, &'static str)> {
    let generation = object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default();
    let observed = object.pointer("/status/observedGeneration").and_then(Value::as_i64).unwrap_or(-1);
    ensure!(observed <= generation, "observedGeneration is ahead:\n{object:#}");
    if observed < generation {
        return Ok(("unseen".to_owned(), "InProgress"));
    }
    let phase = object.pointer("/status/phase").with_context(|| format!("no phase:\n{object:#}"))?;
    let known: Phase = serde_json::from_value(phase.clone()).with_context(|| format!("phase {phase}"))?;
    let wanted = match known {
        Phase::Healthy => "Current",
        Phase::Failed | Phase::Aborted | Phase::RolledBack | Phase::Blocked => "Failed",
        Phase::Migrating
        | Phase::RollingOut
        | Phase::Paused
        | Phase::RollingBack
        | Phase::Degraded
        | Phase::Suspended => "InProgress",
    };
    Ok((format!("{known:?}"), wanted))
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)?["status"].as_str()
}

async fn verdicts(kstatus: &Path, objects: &[Value]) -> Result<Vec<String>> {
    let mut child = Command::new(kstatus)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {}", kstatus.display()))?;
    let mut stdin = child.stdin.take().context("kstatus has no input")?;
    let lines: Vec<String> = objects.iter().map(Value::to_string).collect();
    let input = lines.join("\n");
    // Beside the reading, or both could wait for the other with full pipes.
    let write = async move { stdin.write_all(input.as_bytes()).await };
    let (written, output) = tokio::join!(write, child.wait_with_output());
    written.context("writing to kstatus")?;
    let output = output.context("waiting for kstatus")?;
    ensure!(output.status.success(), "kstatus ended with {}", output.status);
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| {
            let verdict: Value =
                serde_json::from_str(line).with_context(|| format!("kstatus said {line:?}"))?;
            Ok(verdict["status"].as_str().unwrap_or_default().to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(observed: i64, phase: &str) -> Value {
        json!({"metadata": {"generation": 2}, "status": {"observedGeneration": observed, "phase": phase}})
    }

    #[test]
    fn each_phase_has_one_verdict_and_a_status_is_never_ahead() {
        assert_eq!(wanted(&app(2, "Healthy")).unwrap().1, "Current");
        assert_eq!(wanted(&app(2, "Blocked")).unwrap().1, "Failed");
        assert_eq!(wanted(&app(2, "Degraded")).unwrap().1, "InProgress");
        assert_eq!(wanted(&app(1, "Healthy")).unwrap(), ("unseen".to_owned(), "InProgress"));
        assert!(wanted(&app(3, "Healthy")).is_err());
        assert!(wanted(&app(2, "Other")).is_err());
        assert_eq!(wanted(&json!({"metadata": {"generation": 1}})).unwrap().1, "InProgress");
    }
}
