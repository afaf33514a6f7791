//! What a person wants to see when a wait was in vain.

use std::fmt::Write as _;

use phoenix_operator::api::labels;
use serde_json::Value;

use super::pods::label;
use super::record::Seen;
use super::space::Space;

/// Lines of the operator's log that are shown.
const LOG_LINES: usize = 60;

/// Apps with their statuses, children, pods, events, and the end of the operator's log.
pub(super) async fn of(space: &Space) -> String {
    let mut text = space.record().look(objects);
    let events = [
        "get",
        "events",
        "--sort-by=.metadata.creationTimestamp",
        "-o",
        "custom-columns=AT:.metadata.creationTimestamp,TYPE:.type,ON:.involvedObject.name,REASON:.reason,NOTE:.message",
    ];
    match space.kubectl(&events, None).await {
        Ok(events) => {
            let lines: Vec<&str> = events.lines().collect();
            let _ =
                writeln!(text, "\nevents:\n{}", lines[lines.len().saturating_sub(LOG_LINES)..].join("\n"));
        }
        Err(error) => {
            let _ = writeln!(text, "\nevents: {error:#}");
        }
    }
    let log = std::fs::read(space.operator_log()).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
    let _ = writeln!(text, "\nthe operator's log ends:\n{tail}");
    text
}

fn objects(seen: &Seen) -> String {
    let mut text = String::new();
    for app in seen.all("PhoenixApp") {
        let _ = writeln!(
            text,
            "\nPhoenixApp {} (generation {}) {:#}",
            name(app),
            app["metadata"]["generation"],
            app.get("status").unwrap_or(&Value::Null)
        );
    }
    for revision in seen.all("ControllerRevision") {
        let _ =
            writeln!(text, "ControllerRevision {} {}", name(revision), revision["metadata"]["annotations"]);
    }
    for deployment in seen.all("Deployment") {
        let status = &deployment["status"];
        let _ = writeln!(
            text,
            "Deployment {}: {} wanted, {} there, {} available",
            name(deployment),
            deployment["spec"]["replicas"],
            status["replicas"],
            status["availableReplicas"]
        );
    }
    for service in seen.all("Service") {
        let _ = writeln!(text, "Service {} selects {}", name(service), service["spec"]["selector"]);
    }
    for job in seen.all("Job") {
        let _ = writeln!(text, "Job {} {}", name(job), job["status"]);
    }
    for pod in seen.all("Pod") {
        let revision = label(pod, labels::REVISION).unwrap_or("?");
        let deleted = pod.pointer("/metadata/deletionTimestamp").map_or("", |_| ", going");
        let ready = if seen.is_ready(name(pod)) { ", ready" } else { "" };
        let _ = writeln!(
            text,
            "Pod {} of {revision} on {}: {}{ready}{deleted}",
            name(pod),
            pod["spec"]["nodeName"],
            pod["status"]["phase"]
        );
        for status in pod.pointer("/status/containerStatuses").and_then(Value::as_array).into_iter().flatten()
        {
            let _ = writeln!(text, "  now {} before {}", status["state"], status["lastState"]);
        }
    }
    text
}

fn name(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}
