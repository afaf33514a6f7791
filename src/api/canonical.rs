//! What the user set of everything that reaches a pod: the identity of a revision.
//!
//! A revision is found by comparing what the user set with what is stored; the hash only names it. Values equal to
//! their unconditional default are left out (the API server writes those into every object, and one that a newer
//! version adds must not make a revision), and what is absent stays absent (resolved conditional defaults are frozen
//! in the revision and not compared).

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{ClusteringSpec, PhoenixAppSpec, names::RevisionName, schema};

/// Fields of the spec that reach a pod (or, `migrations`, the Job that must come before it).
pub(super) const REACHES_A_POD: [&str; 26] = [
    "affinity",
    "clustering",
    "database",
    "env",
    "envFrom",
    "extraPorts",
    "health",
    "hosts",
    "image",
    "imagePullPolicy",
    "imagePullSecrets",
    "migrations",
    "nodeSelector",
    "podMetadata",
    "port",
    "priorityClassName",
    "release",
    "resources",
    "secrets",
    "security",
    "serviceAccountName",
    "shutdown",
    "tolerations",
    "topologySpread",
    "volumes",
    "workers",
];

/// Of those, what does not: how a Job is run rather than what it does, and what Services list.
const STAYS_OUTSIDE: [(&str, &[&str]); 5] = [
    ("clustering", &["verify"]),
    ("database", &["connectionsPerPod", "maxConnections"]),
    ("migrations", &["timeout", "retries", "logTail"]),
    ("secrets", &["onDelete"]),
    ("shutdown", &["drainBatch", "drainInterval"]),
];

/// What the user set of everything that reaches a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Canonical(Map<String, Value>);

impl Canonical {
    /// Out of a spec.
    pub fn of(spec: &PhoenixAppSpec) -> Self {
        let mut value = serde_json::to_value(spec).unwrap_or_default();
        schema::remove_defaults(&mut value, schema::defaults());
        let Value::Object(mut fields) = value else { return Self(Map::new()) };
        fields.retain(|name, _| REACHES_A_POD.contains(&name.as_str()));
        if let Some(hosts) = fields.get_mut("hosts").and_then(Value::as_array_mut) {
            hosts.truncate(1); // PHX_HOST; the others are only routed
        }
        if let Some(ports) = fields.get_mut("extraPorts").and_then(Value::as_array_mut) {
            for port in ports.iter_mut().filter_map(Value::as_object_mut) {
                port.remove("expose"); // which Service lists it
            }
        }
        if let Some(workers) = fields.get_mut("workers").and_then(Value::as_array_mut) {
            for worker in workers.iter_mut().filter_map(Value::as_object_mut) {
                worker.retain(|key, _| !["replicas", "strategy"].contains(&key.as_str()));
            }
            // their order says nothing
            workers.sort_by_key(|worker| worker["name"].as_str().unwrap_or_default().to_owned());
        }
        for (name, inner) in STAYS_OUTSIDE {
            if let Some(object) = fields.get_mut(name).and_then(Value::as_object_mut) {
                object.retain(|key, _| !inner.contains(&key.as_str()));
                if object.is_empty() {
                    fields.remove(name);
                }
            }
        }
        Self(fields)
    }

    /// How its nodes find each other. Every field has a default, so what is absent reads as what it means.
    pub fn clustering(&self) -> ClusteringSpec {
        let clustering = self.0.get("clustering").cloned().unwrap_or_else(|| Value::Object(Map::new()));
        serde_json::from_value(clustering).unwrap_or_default()
    }

    /// As JSON with sorted keys and no spaces, whatever map `serde_json` was built with.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        write_object(&self.0, &mut text);
        text
    }

    /// The revision that is this one, among those stored.
    pub fn find<'a>(
        &self,
        stored: impl IntoIterator<Item = (&'a RevisionName, &'a Self)>,
    ) -> Option<&'a RevisionName> {
        stored.into_iter().find_map(|(name, canonical)| (canonical == self).then_some(name))
    }

    /// The name of a new revision: the first of its hashes that is not taken.
    ///
    /// # Errors
    /// Never in practice: none of the first hundred hashes is free.
    pub fn name_for(&self, taken: impl Fn(&RevisionName) -> bool) -> Option<RevisionName> {
        (0..100).filter_map(|n| self.name(n)).find(|name| !taken(name))
    }

    /// The `n`-th name: ten hexadecimal digits of the hash.
    fn name(&self, n: u32) -> Option<RevisionName> {
        let mut text = self.to_text();
        if n > 0 {
            let _ = write!(text, ":{n}");
        }
        let mut name = hash(&text);
        name.truncate(10);
        name.try_into().ok()
    }

    /// Hash of what a migration depends on. Two revisions with the same key need one migration.
    ///
    /// Its resources and how long it may take are no part of it: a changed memory limit runs nothing.
    pub fn migration_key(&self) -> String {
        self.key_with(&["command", "env"])
    }

    /// Hash of what a contract depends on. Of two revisions with the same key, only the first needs to contract.
    pub fn contract_key(&self) -> String {
        self.key_with(&["env", "contract"])
    }

    /// Hash of the image, its environment, its database, and these of its migrations' fields.
    fn key_with(&self, fields: &[&str]) -> String {
        let mut parts = Map::new();
        for name in ["image", "env", "envFrom", "database", "migrations"] {
            if let Some(part) = self.0.get(name) {
                parts.insert(name.to_owned(), part.clone());
            }
        }
        if let Some(migrations) = parts.get_mut("migrations").and_then(Value::as_object_mut) {
            migrations.retain(|key, _| fields.contains(&key.as_str()));
            if migrations.is_empty() {
                parts.remove("migrations");
            }
        }
        hash(&Self(parts).to_text())
    }
}

fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn write_value(value: &Value, text: &mut String) {
    match value {
        Value::Object(object) => write_object(object, text),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_value(item, text);
            }
            text.push(']');
        }
        scalar => {
            let _ = write!(text, "{scalar}");
        }
    }
}

fn write_object(object: &Map<String, Value>, text: &mut String) {
    let mut entries: Vec<_> = object.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    text.push('{');
    for (index, (key, value)) in entries.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write_value(&Value::String(key.clone()), text);
        text.push(':');
        write_value(value, text);
    }
    text.push('}');
}
