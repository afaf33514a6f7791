//! What a rollout came to, so that one that was disturbed can be held against one that was not.

use std::collections::{BTreeMap, BTreeSet};

use phoenix_operator::api::labels;
use serde_json::json;

use crate::harness::{Change, Seen};

/// What the operator makes of an app.
const MADE: [&str; 8] = [
    "ControllerRevision",
    "Deployment",
    "Job",
    "Service",
    "Secret",
    "ConfigMap",
    "ServiceAccount",
    "PodDisruptionBudget",
];

/// How often each object was made and deleted, by the UIDs that were seen: a request whose client was killed is carried
/// out all the same, but the audit log may not call it a success.
pub fn made_and_deleted(seen: &Seen) -> BTreeMap<String, (usize, usize)> {
    let mut uids: BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
    for kind in MADE {
        for event in seen.history(kind) {
            let uid = event.object["metadata"]["uid"].to_string();
            let (made, deleted) = uids.entry(format!("{kind}/{}", event.name)).or_default();
            if event.change == Change::Deleted {
                deleted.insert(uid.clone());
            }
            made.insert(uid);
        }
    }
    uids.into_iter().map(|(name, (made, deleted))| (name, (made.len(), deleted.len()))).collect()
}

/// What there is in the end, without what differs from one namespace or one moment to another.
pub fn objects(seen: &Seen, namespace: &str) -> BTreeMap<String, String> {
    let mut objects = BTreeMap::new();
    for kind in ["Deployment", "Service", "ControllerRevision", "Job"] {
        for object in seen.all(kind) {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let fact = |key: &str| object["metadata"]["annotations"].get(key).cloned();
            let rest = json!({
                "replicas": object.pointer("/spec/replicas"),
                "template": object.pointer("/spec/template"),
                "selector": object.pointer("/spec/selector"),
                "facts": [fact(labels::ATTEMPT), fact(labels::OUTCOME), fact(labels::PROMOTION)],
                "migrated": fact(labels::MIGRATED).is_some(),
            });
            objects.insert(format!("{kind}/{name}"), rest);
        }
    }
    if let Some(status) = seen.status("shop") {
        let history: Vec<_> =
            status.history.iter().map(|e| json!([e.revision, e.attempt, e.outcome, e.reason])).collect();
        let rest = json!({
            "stable": status.stable, "previous": status.previous, "attempt": status.attempt,
            "promotion": status.promotion, "candidate": status.candidate, "migration": status.migration,
            "phase": status.phase, "message": status.message, "history": history,
        });
        objects.insert("status".to_owned(), rest);
    }
    // Pods are told their namespace, as part of names in the cluster's DNS.
    objects.into_iter().map(|(name, object)| (name, object.to_string().replace(namespace, "here"))).collect()
}
