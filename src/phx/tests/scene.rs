//! Apps in many situations, as the API server would show them.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{api::PhoenixApp, controller::snapshot::Snapshot, phx::gather::nothing};

/// Two revisions.
pub const OLD: &str = "1a2b3c4d5e";
pub const NEW: &str = "7f3a9c1d2e";

/// The present instant of every scene.
pub fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

/// So many seconds before.
pub fn ago(seconds: i64) -> String {
    now().saturating_sub(SignedDuration::from_secs(seconds)).unwrap().to_string()
}

fn made<K: DeserializeOwned>(value: Value) -> Arc<K> {
    Arc::new(serde_json::from_value(value).unwrap())
}

fn owner() -> Value {
    json!([{"apiVersion": "phoenix-operator.dev/v1alpha1", "kind": "PhoenixApp", "name": "shop", "uid": "app",
        "controller": true}])
}

/// An app of this status; what is not named in the status is as in a healthy one.
pub fn app(spec: &Value, status: &Value) -> PhoenixApp {
    let mut spec = spec.clone();
    if spec["image"].is_null() {
        spec["image"] = json!("registry.example.com/shop:2");
    }
    serde_json::from_value(json!({
        "apiVersion": "phoenix-operator.dev/v1alpha1", "kind": "PhoenixApp",
        "metadata": {"name": "shop", "namespace": "prod", "uid": "app", "generation": 2},
        "spec": defaulted(&spec), "status": status,
    }))
    .unwrap()
}

fn defaulted(spec: &Value) -> Value {
    let mut object = json!({"spec": spec});
    crate::api::schema::apply_defaults(&mut object, crate::api::schema::root());
    object["spec"].take()
}

/// A condition.
pub fn condition(kind: &str, status: &str, reason: &str, message: &str, since: i64) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": ago(since)})
}

/// Conditions that all gates have passed.
pub fn passed() -> Vec<Value> {
    ["SecretsReady", "Migrated", "PodsReady", "TrafficShifted"]
        .into_iter()
        .map(|gate| condition(gate, "True", "Passed", "", 3600))
        .collect()
}

/// A cluster in the making.
pub struct Scene(pub Snapshot);

impl Scene {
    pub fn new(spec: &Value, status: &Value) -> Self {
        Self(Snapshot {
            services: vec![made(
                json!({"metadata": {"name": "shop", "uid": "service", "ownerReferences": owner()}}),
            )],
            since: None,
            now: now(),
            ..nothing(app(spec, status))
        })
    }

    /// A Deployment and pods: of each a letter, whether it is ready, and what more stands in its status.
    pub fn revision(mut self, revision: &str, tag: u8, asked: i32, pods: &[(&str, bool, Value)]) -> Self {
        let labels = json!({"phoenix-operator.dev/app": "shop", "phoenix-operator.dev/component": "web",
            "phoenix-operator.dev/revision": revision});
        let image = format!("registry.example.com/shop:{tag}");
        self.0.deployments.push(made(json!({
            "metadata": {"name": format!("shop-{revision}"), "ownerReferences": owner()},
            "spec": {"replicas": asked, "selector": {}, "template": {"spec": {"containers": [{"name": "app", "image": image}]}}},
        })));
        for (index, (letter, ready, more)) in pods.iter().enumerate() {
            let uid = format!("{revision}-{letter}");
            let mut status = json!({"phase": "Running", "podIP": format!("10.0.0.{}", index + 1),
                "conditions": [{"type": "Ready", "status": if *ready { "True" } else { "False" }}]});
            for (key, value) in more.as_object().into_iter().flatten() {
                status[key] = value.clone();
            }
            self.0.pods.push(made(json!({
                "metadata": {"name": format!("shop-{revision}-{letter}"), "uid": uid, "labels": labels,
                    "creationTimestamp": ago(600)},
                "spec": {"nodeName": format!("node-{}", index + 1), "containers": []},
                "status": status,
            })));
        }
        self
    }

    /// A worker of a revision with one ready pod of two.
    pub fn worker(mut self, name: &str, revision: &str) -> Self {
        let labels = json!({"phoenix-operator.dev/app": "shop", "phoenix-operator.dev/component": "worker",
            "phoenix-operator.dev/worker": name, "phoenix-operator.dev/revision": revision});
        self.0.deployments.push(made(json!({
            "metadata": {"name": format!("shop-{name}-{revision}"), "ownerReferences": owner(), "labels": labels},
            "spec": {"replicas": 2, "selector": {}, "template": {}}, "status": {"availableReplicas": 1},
        })));
        self.0.pods.push(made(json!({
            "metadata": {"name": format!("shop-{name}-{revision}-a"), "labels": labels, "creationTimestamp": ago(60)},
            "spec": {"nodeName": "node-1", "containers": []},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        })));
        self
    }

    /// Every ready pod of this revision receives requests.
    pub fn serving(mut self, revision: &str) -> Self {
        let endpoints: Vec<Value> = super::super::view::ready_pods(&self.0, Some(revision))
            .iter()
            .map(|pod| {
                json!({"addresses": ["10.0.0.1"], "conditions": {"ready": true},
                "targetRef": {"kind": "Pod", "uid": pod.metadata.uid}})
            })
            .collect();
        self.0.slices.push(made(json!({
            "metadata": {"name": format!("shop-{revision}"), "ownerReferences":
                [{"apiVersion": "v1", "kind": "Service", "name": "shop", "uid": "service", "controller": true}]},
            "addressType": "IPv4", "endpoints": endpoints,
        })));
        self
    }

    /// A migration Job with one pod in this phase.
    pub fn job(self, attempt: i64, phase: &str) -> Self {
        self.job_of("migrate", attempt, phase)
    }

    /// A Job of another stage, such as `contract` or `before-1`.
    pub fn job_of(mut self, stage: &str, attempt: i64, phase: &str) -> Self {
        let name = format!("shop-{stage}-{NEW}-{attempt}");
        let mut labels =
            json!({"phoenix-operator.dev/migration": "shop", "phoenix-operator.dev/revision": NEW});
        let annotations =
            if stage == "migrate" { json!({}) } else { json!({"phoenix-operator.dev/stage": stage}) };
        self.0.jobs.push(made(json!({"metadata": {
            "name": name, "labels": labels, "annotations": annotations, "ownerReferences": owner()}})));
        labels["batch.kubernetes.io/job-name"] = json!(name);
        self.0.pods.push(made(json!({
            "metadata": {"name": format!("{name}-x"), "labels": labels, "creationTimestamp": ago(20)},
            "spec": {"nodeName": "node-1", "containers": []}, "status": {"phase": phase},
        })));
        self
    }
}

const NONE: Value = Value::Null;

/// A candidate's part of a status.
pub fn candidate(strategy: &str, steps: &Value, step: i32) -> Value {
    json!({"revision": NEW, "attempt": 2, "strategy": strategy, "startedAt": ago(900), "steps": steps, "step": step})
}

pub fn healthy() -> Scene {
    let mut conditions =
        vec![condition("Ready", "True", "Serving", "2 of 2 pods of revision 7f3a9c1d2e serve", 3600)];
    conditions.extend(passed());
    let status = json!({"observedGeneration": 2, "phase": "Healthy", "message": "2 of 2 pods of revision 7f3a9c1d2e serve",
        "replicas": 2, "readyReplicas": 2, "stable": NEW, "previous": OLD, "attempt": 2, "conditions": conditions});
    Scene::new(&json!({}), &status)
        .revision(NEW, 2, 2, &[("a", true, NONE), ("b", true, NONE)])
        .revision(OLD, 1, 0, &[])
        .serving(NEW)
}

pub fn canary_paused() -> Scene {
    let steps = json!([{"setWeight": 25}, {"pause": {}}, {"setWeight": 50}, {"pause": {"duration": "5m"}}]);
    let mut candidate = candidate("Canary", &steps, 1);
    candidate["weight"] = json!(25);
    candidate["stepSince"] = json!(ago(720));
    let message = "attempt 2 of revision 7f3a9c1d2e waits at step 2 of 4 until a person says promote";
    let mut conditions = vec![
        condition("Ready", "False", "Paused", message, 720),
        condition("Reconciling", "True", "Paused", message, 900),
    ];
    conditions.extend(passed().into_iter().take(3));
    conditions.push(condition(
        "TrafficShifted",
        "False",
        "Waiting",
        "1 of 4 pods of revision 7f3a9c1d2e receive requests",
        900,
    ));
    let status = json!({"observedGeneration": 2, "phase": "Paused", "message": message, "replicas": 4, "readyReplicas": 4,
        "stable": OLD, "attempt": 2, "candidate": candidate, "conditions": conditions});
    Scene::new(&json!({"replicas": 4, "strategy": {"type": "Canary", "canary": {"steps": steps}}}), &status)
        .revision(NEW, 2, 1, &[("a", true, NONE)])
        .revision(OLD, 1, 3, &[("a", true, NONE), ("b", true, NONE), ("c", true, NONE)])
        .serving(NEW)
        .serving(OLD)
}

pub fn migration_failed() -> Scene {
    let mut candidate = candidate("Rolling", &json!([]), 0);
    candidate["verdict"] = json!({"outcome": "Failed", "reason": "MigrationFailed", "returned": true,
        "message": "the migration failed: BackoffLimitExceeded, exit code 1"});
    let message = "revision 7f3a9c1d2e was not promoted: the migration failed: BackoffLimitExceeded, exit code 1; \
                   2 of 2 pods of revision 1a2b3c4d5e serve; change the spec, or annotate \
                   phoenix-operator.dev/command=\"retry 7f3a9c1d2e/2\"";
    let conditions = [
        condition("Ready", "False", "MigrationFailed", message, 300),
        condition("Stalled", "True", "MigrationFailed", message, 300),
        condition("SecretsReady", "True", "Passed", "", 900),
        condition(
            "Migrated",
            "False",
            "MigrationFailed",
            "the migration failed: BackoffLimitExceeded, exit code 1",
            300,
        ),
    ];
    let status = json!({"observedGeneration": 2, "phase": "Failed", "message": message, "replicas": 2, "readyReplicas": 2,
        "stable": OLD, "attempt": 2, "candidate": candidate, "conditions": conditions,
        "migration": {"attempt": 2, "state": "Failed", "reason": "BackoffLimitExceeded", "exitCode": 1,
            "message": "the migration failed", "logTail": "12:00 [info] == Running 3 Shop.Repo.Migrations.AddPrice\n** (Postgrex.Error) ERROR 42701 (duplicate_column)"}});
    Scene::new(&json!({}), &status).revision(OLD, 1, 2, &[("a", true, NONE), ("b", true, NONE)]).serving(OLD)
}

pub fn migrating() -> Scene {
    let message = "attempt 2 of revision 7f3a9c1d2e: its migration runs";
    let conditions = [
        condition("Ready", "False", "Migrating", message, 20),
        condition("Migrated", "False", "Waiting", "its migration runs", 20),
    ];
    let status = json!({"observedGeneration": 2, "phase": "Migrating", "message": message, "replicas": 2, "readyReplicas": 2,
        "stable": OLD, "attempt": 2, "candidate": candidate("Rolling", &json!([]), 0), "conditions": conditions});
    Scene::new(&json!({}), &status)
        .revision(OLD, 1, 2, &[("a", true, NONE), ("b", true, NONE)])
        .serving(OLD)
        .job(2, "Running")
}

/// A Job runs before the migration.
pub fn backing_up() -> Scene {
    let mut scene = migrating();
    scene.0.jobs.clear();
    scene.0.pods.retain(|pod| !pod.metadata.name.as_deref().unwrap_or_default().contains("migrate"));
    scene.job_of("before-1", 2, "Running")
}

fn followed(kind: &str, state: &str, more: &Value) -> Scene {
    let mut scene = healthy();
    let app = Arc::make_mut(&mut scene.0.app);
    let mut follow_up = json!({"kind": kind, "revision": NEW, "attempt": 2, "state": state});
    for (key, value) in more.as_object().into_iter().flatten() {
        follow_up[key] = value.clone();
    }
    app.status.as_mut().unwrap().follow_up = serde_json::from_value(follow_up).unwrap();
    scene
}

pub fn contracting() -> Scene {
    followed("Contract", "Running", &json!({"message": "the Job shop-contract-7f3a9c1d2e-2 runs"}))
        .job_of("contract", 2, "Running")
}

pub fn contract_failed() -> Scene {
    let mut scene = followed(
        "Contract",
        "WaitingToRetry",
        &json!({"reason": "BackoffLimitExceeded", "retries": 3, "retryAt": ago(-40),
            "message": "the contract failed: BackoffLimitExceeded, exit code 1",
            "logTail": "** (Postgrex.Error) ERROR 55P03 (lock_not_available)"}),
    );
    let condition = condition("Contracted", "False", "BackoffLimitExceeded", "the contract failed", 300);
    let status = Arc::make_mut(&mut scene.0.app).status.as_mut().unwrap();
    status.conditions.push(serde_json::from_value(condition).unwrap());
    scene
}

pub fn way_back_failed() -> Scene {
    let mut scene = followed(
        "Rollback",
        "Failed",
        &json!({"reason": "BackoffLimitExceeded", "message": "the Job failed: BackoffLimitExceeded, exit code 2"}),
    );
    let status = Arc::make_mut(&mut scene.0.app).status.as_mut().unwrap();
    status.phase = Some(crate::api::Phase::RolledBack);
    status.stable = Some(OLD.to_owned());
    let verdict = json!({"outcome": "RolledBack", "reason": "RolledBackByCommand", "returned": true,
        "message": "a person returned from revision 7f3a9c1d2e to 1a2b3c4d5e"});
    let mut candidate = candidate("Rolling", &json!([]), 0);
    candidate["verdict"] = verdict;
    status.candidate = serde_json::from_value(candidate).unwrap();
    scene
}

pub fn baking() -> Scene {
    let mut scene = healthy();
    let app = Arc::make_mut(&mut scene.0.app);
    let status = app.status.as_mut().unwrap();
    status.bake = serde_json::from_value(json!({"since": ago(200), "strategy": "BlueGreen"})).unwrap();
    status.last_command =
        serde_json::from_value(json!({"text": "promote 7f3a9c1d2e/2/0", "answer": "Accepted",
        "message": "the pause of step 1 ends", "n": 1}))
        .unwrap();
    app.spec.strategy.kind = crate::api::StrategyKind::BlueGreen;
    scene.0.deployments.clear();
    scene.0.pods.clear();
    scene.0.slices.clear();
    scene
        .revision(NEW, 2, 2, &[("a", true, NONE), ("b", true, NONE)])
        .revision(OLD, 1, 2, &[("a", true, NONE), ("b", true, NONE)])
        .serving(NEW)
}

pub fn blocked() -> Scene {
    let waiting = json!({"phase": "Pending", "containerStatuses": [{"name": "app", "image": "registry.example.com/shop:2",
        "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff",
        "message": "Back-off pulling image: not found"}}}]});
    let message =
        "attempt 2 of revision 7f3a9c1d2e: no more pods of revision 7f3a9c1d2e became available within 600 s";
    let conditions = [
        condition("Ready", "False", "ProgressDeadlineExceeded", message, 60),
        condition("Stalled", "True", "ProgressDeadlineExceeded", message, 60),
        condition("PodsReady", "False", "ProgressDeadlineExceeded", message, 660),
    ];
    let status = json!({"observedGeneration": 2, "phase": "Blocked", "message": message, "replicas": 1, "readyReplicas": 0,
        "attempt": 2, "candidate": candidate("Rolling", &json!([]), 0), "conditions": conditions});
    Scene::new(&json!({"replicas": 1}), &status).revision(NEW, 2, 1, &[("a", false, waiting)])
}

pub fn crashing() -> Scene {
    let crash = json!({"containerStatuses": [{"name": "app", "image": "registry.example.com/shop:2", "imageID": "",
        "ready": false, "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}}]});
    let message = "attempt 2 of revision 7f3a9c1d2e: 0 of 2 pods of revision 7f3a9c1d2e are available";
    let conditions = [condition("Ready", "False", "RollingOut", message, 240)];
    let status = json!({"observedGeneration": 2, "phase": "RollingOut", "message": message, "replicas": 3, "readyReplicas": 2,
        "stable": OLD, "attempt": 2, "candidate": candidate("Rolling", &json!([]), 0), "conditions": conditions});
    Scene::new(&json!({}), &status)
        .revision(NEW, 2, 1, &[("a", false, crash)])
        .revision(OLD, 1, 2, &[("a", true, NONE), ("b", true, NONE)])
        .serving(OLD)
}

pub fn unseen() -> Scene {
    Scene::new(&json!({}), &json!({}))
}

/// All of them, by name.
pub fn all() -> Vec<(&'static str, Scene)> {
    vec![
        ("healthy", healthy()),
        ("canary_paused", canary_paused()),
        ("migrating", migrating()),
        ("migration_failed", migration_failed()),
        ("blue_green_bakes", baking()),
        ("blocked", blocked()),
        ("crashing", crashing()),
        ("unseen", unseen()),
        ("workers", healthy().worker("jobs", NEW)),
        ("backing_up", backing_up()),
        ("contracting", contracting()),
        ("contract_failed", contract_failed()),
        ("way_back_failed", way_back_failed()),
    ]
}
