//! Questions that tests ask about recorded pods.

use serde_json::Value;

use phoenix_operator::api::labels;

use super::record::{Change, Seen};

/// The value of a label.
pub(super) fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/labels")?.get(key)?.as_str()
}

/// The status of a condition.
fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)?["status"].as_str()
}

impl Seen {
    /// The app's serving pods that are not going: name and object.
    pub fn web_pods(&self, app: &str) -> Vec<&Value> {
        self.all("Pod")
            .filter(|pod| label(pod, labels::APP) == Some(app))
            .filter(|pod| label(pod, labels::COMPONENT) == Some(labels::WEB))
            .filter(|pod| pod.pointer("/metadata/deletionTimestamp").is_none())
            .collect()
    }

    /// Of those, the ready ones of a revision.
    pub fn ready_pods(&self, app: &str, revision: &str) -> Vec<&Value> {
        let mut pods = self.web_pods(app);
        pods.retain(|pod| {
            label(pod, labels::REVISION) == Some(revision) && condition(pod, "Ready") == Some("True")
        });
        pods
    }

    /// Whether a pod, by name, is ready.
    pub fn is_ready(&self, pod: &str) -> bool {
        self.get("Pod", pod).is_some_and(|pod| condition(pod, "Ready") == Some("True"))
    }

    /// The store's revision at which the first serving pod of a revision was created.
    pub fn first_pod(&self, revision: &str) -> Option<u64> {
        self.history("Pod")
            .filter(|event| label(&event.object, labels::REVISION) == Some(revision))
            .filter(|event| label(&event.object, labels::COMPONENT) == Some(labels::WEB))
            .map(|event| event.revision)
            .min()
    }

    /// The store's revision at which a revision's migration was recorded on its `ControllerRevision`.
    pub fn migrated_at(&self, revision: &str) -> Option<u64> {
        self.history("ControllerRevision")
            .filter(|event| label(&event.object, labels::REVISION) == Some(revision))
            .filter(|event| {
                let annotations = event.object.pointer("/metadata/annotations");
                annotations.is_some_and(|annotations| annotations.get(labels::MIGRATED).is_some())
            })
            .map(|event| event.revision)
            .min()
    }

    /// Names of the migration pods of a revision that there ever were, and whether each succeeded.
    pub fn migration_pods(&self, app: &str, revision: &str) -> Vec<(String, bool)> {
        let mut pods = std::collections::BTreeMap::new();
        for event in self.history("Pod") {
            let of_app = label(&event.object, labels::MIGRATION) == Some(app);
            if of_app && label(&event.object, labels::REVISION) == Some(revision) {
                let succeeded =
                    event.object.pointer("/status/phase").is_some_and(|phase| phase == "Succeeded");
                *pods.entry(event.name.clone()).or_insert(false) |= succeeded;
            }
        }
        pods.into_iter().collect()
    }

    /// Names of the migration Jobs of a revision that there ever were.
    pub fn migration_jobs(&self, revision: &str) -> Vec<String> {
        let mut jobs: Vec<String> = self
            .history("Job")
            .filter(|event| label(&event.object, labels::REVISION) == Some(revision))
            .map(|event| event.object.pointer("/metadata/uid").map(ToString::to_string).unwrap_or_default())
            .collect();
        jobs.sort();
        jobs.dedup();
        jobs
    }

    /// How the containers of the app's serving pods ended: pod, exit code, reason.
    pub fn exits(&self, app: &str) -> Vec<(String, i64, String)> {
        let mut exits = Vec::new();
        for event in self.history("Pod").filter(|event| label(&event.object, labels::APP) == Some(app)) {
            let statuses = event.object.pointer("/status/containerStatuses").and_then(Value::as_array);
            for status in statuses.into_iter().flatten() {
                for state in ["state", "lastState"] {
                    let Some(ended) = status.get(state).and_then(|state| state.get("terminated")) else {
                        continue;
                    };
                    let code = ended["exitCode"].as_i64().unwrap_or(-1);
                    let reason = ended["reason"].as_str().unwrap_or_default().to_owned();
                    exits.push((event.name.clone(), code, reason));
                }
            }
        }
        exits.sort();
        exits.dedup();
        exits
    }

    /// Whether every serving pod of a revision that there ever was is gone.
    pub fn all_gone(&self, app: &str, revision: &str) -> bool {
        !self
            .all("Pod")
            .any(|pod| label(pod, labels::APP) == Some(app) && label(pod, labels::REVISION) == Some(revision))
    }

    /// Serving pods of a revision that were deleted.
    pub fn deleted_pods(&self, revision: &str) -> usize {
        self.history("Pod")
            .filter(|event| event.change == Change::Deleted)
            .filter(|event| label(&event.object, labels::REVISION) == Some(revision))
            .filter(|event| label(&event.object, labels::COMPONENT) == Some(labels::WEB))
            .count()
    }
}
