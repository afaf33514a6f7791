//! What makes a revision, and what does not.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::api::{Canonical, RevisionName, schema, testing::app};

fn canonical(spec: &str) -> Canonical {
    app(spec).canonical
}

const BASE: &str = "image: x";

#[test]
fn a_fresh_app_is_its_image() {
    assert_eq!(canonical(BASE).to_text(), r#"{"image":"x"}"#);
}

#[test]
fn what_does_not_reach_a_pod_makes_no_revision() {
    for same in [
        "replicas: 7",
        "suspend: true",
        "revisionHistoryLimit: 9",
        "strategy: {type: Recreate, progressDeadline: 20m, rolling: {maxSurge: 3}}",
        "traffic: {service: {type: LoadBalancer, port: 8080, annotations: {a: b}}}",
        "podDisruptionBudget: {mode: Disabled}",
        "secrets: {onDelete: Delete}",
        "migrations: {timeout: 2h, retries: 5, logTail: Omit}",
    ] {
        assert_eq!(canonical(&format!("{{image: x, {same}}}")), canonical(BASE), "{same}");
    }
    assert_eq!(canonical("{image: x, hosts: [a, b]}"), canonical("{image: x, hosts: [a, '*.b', c]}"));
    assert_eq!(
        canonical("{image: x, extraPorts: [{name: a, port: 1}]}"),
        canonical("{image: x, extraPorts: [{name: a, port: 1, expose: Peers}]}")
    );
}

#[test]
fn a_default_written_out_is_no_change() {
    for same in [
        "port: 4000",
        "health: {readiness: {timeout: 5s}, startup: {}}",
        "shutdown: {grace: 1m30s}",
        "clustering: {mode: DNS, distributionPorts: {min: 4370, max: 4379}}",
        "security: {profile: Restricted}",
        "release: {root: /app}",
        "env: []",
        "podMetadata: {labels: {}}",
        "volumes: []",
    ] {
        assert_eq!(canonical(&format!("{{image: x, {same}}}")), canonical(BASE), "{same}");
    }
}

#[test]
fn whatever_reaches_a_pod_makes_a_revision() {
    let mut seen = vec![canonical(BASE)];
    for other in [
        "imagePullPolicy: Always",
        "imagePullSecrets: [{name: a}]",
        "release: {name: z}",
        "release: {root: /srv}",
        "release: {command: [a]}",
        "release: {args: [a]}",
        "port: 4001",
        "extraPorts: [{name: a, port: 1}]",
        "hosts: [a]",
        "hosts: [b]",
        "env: [{name: A, value: '1'}]",
        "env: [{name: A, value: '1'}, {name: B, value: '1'}]",
        "env: [{name: B, value: '1'}, {name: A, value: '1'}]",
        "envFrom: [{secretRef: {name: a}}]",
        "resources: {limits: {cpu: '1'}}",
        "podMetadata: {labels: {a: b}}",
        "podMetadata: {annotations: {a: b}}",
        "database: {urlFrom: {secretKeyRef: {name: a, key: b}}}",
        "database: {urlFrom: {secretKeyRef: {name: a, key: b}}, poolSize: 3}",
        "secrets: {cookie: {secretKeyRef: {name: a, key: b}}}",
        "secrets: {secretKeyBase: {secretKeyRef: {name: a, key: b}}}",
        "health: {readiness: {path: /health}}",
        "health: {liveness: {period: 20s}}",
        "clustering: {mode: Disabled}",
        "clustering: {mode: KubernetesAPI}",
        "clustering: {ipFamily: IPv6}",
        "clustering: {nodeBasename: z}",
        "clustering: {isolation: Shared}",
        "clustering: {isolation: PerRevision}",
        "clustering: {distributionPorts: {max: 4390}}",
        "migrations: {mode: Entrypoint}",
        "migrations: {command: [a]}",
        "migrations: {env: [{name: A, value: '1'}]}",
        "migrations: {resources: {limits: {cpu: '1'}}}",
        "shutdown: {endpointLag: 5s}",
        "shutdown: {grace: 2m}",
        "shutdown: {method: SignalVM}",
        "volumes: [{name: a, mountPath: /a, emptyDir: {}}]",
        "topologySpread: []",
        "nodeSelector: {a: b}",
        "tolerations: [{key: a}]",
        "affinity: {nodeAffinity: {}}",
        "priorityClassName: a",
        "serviceAccountName: a",
        "security: {runAsUser: 5}",
        "security: {readOnlyRootFilesystem: true}",
        "workers: [{name: a}]",
        "workers: [{name: b}]",
        "workers: [{name: a}, {name: b}]",
        "workers: [{name: a, command: [b]}]",
        "workers: [{name: a, args: [b]}]",
        "workers: [{name: a, env: [{name: A, value: '1'}]}]",
        "workers: [{name: a, resources: {limits: {cpu: '1'}}}]",
        "workers: [{name: a, health: {port: 1}}]",
        "workers: [{name: a, grace: 1m}]",
    ] {
        let canonical = canonical(&format!("{{image: x, {other}}}"));
        assert!(!seen.contains(&canonical), "{other}");
        seen.push(canonical);
    }
}

/// A field added to the spec must be decided on: in or out.
#[test]
fn every_field_of_the_spec_is_classified() {
    let outside = BTreeSet::from([
        "podDisruptionBudget",
        "replicas",
        "revisionHistoryLimit",
        "strategy",
        "suspend",
        "traffic",
    ]);
    let inside = BTreeSet::from(crate::api::canonical::REACHES_A_POD);
    let all: BTreeSet<_> =
        schema::spec()["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    assert!(outside.is_disjoint(&inside));
    assert_eq!(all, outside.union(&inside).copied().collect());
}

#[test]
fn a_revision_is_found_by_what_it_says_not_by_its_name() {
    let (one, other) = (canonical(BASE), canonical("image: z"));
    let names: [RevisionName; 2] = ["0000000001".parse().unwrap(), "0000000002".parse().unwrap()];
    let stored = [(&names[0], &one), (&names[1], &other)];
    assert_eq!(one.find(stored), Some(&names[0]));
    assert_eq!(other.find(stored), Some(&names[1]));
    assert_eq!(canonical("image: w").find(stored), None);
}

#[test]
fn names_are_stable_and_step_aside() {
    let canonical = canonical(BASE);
    let first = canonical.name_for(|_| false).unwrap();
    // sha256 of {"image":"x"}: names written by one version are found by the next
    assert_eq!(first.as_str(), "ae2690ffaf");
    let second = canonical.name_for(|name| *name == first).unwrap();
    let third = canonical.name_for(|name| *name == first || *name == second).unwrap();
    assert!(first != second && second != third && first != third);
    assert_eq!(canonical.name_for(|name| *name == second).unwrap(), first, "the smallest free one");
    assert_eq!(canonical.name_for(|_| true), None);
}

#[test]
fn it_survives_storage() {
    let canonical = canonical("{image: x, env: [{name: B, value: ü\"}], resources: {limits: {memory: 1Gi}}}");
    let text = serde_json::to_string(&canonical).unwrap();
    assert_eq!(serde_json::from_str::<Canonical>(&text).unwrap(), canonical);
    let stored: Value = serde_json::from_str(&canonical.to_text()).unwrap();
    assert_eq!(serde_json::from_value::<Canonical>(stored).unwrap(), canonical);
}

#[test]
fn migrations_are_keyed_by_what_they_depend_on() {
    let key = |rest: &str| canonical(&format!("{{image: x{rest}}}")).migration_key();
    let base = key("");
    for same in [
        "resources: {limits: {memory: 1Gi}}",
        "replicas: 3",
        "port: 1",
        "migrations: {timeout: 2h, retries: 9}",
        "migrations: {resources: {limits: {memory: 1Gi}}}",
        "hosts: [a]",
        "shutdown: {grace: 5m}",
    ] {
        assert_eq!(key(&format!(", {same}")), base, "{same}");
    }
    for other in [
        "env: [{name: A, value: '1'}]",
        "envFrom: [{secretRef: {name: a}}]",
        "database: {urlFrom: {secretKeyRef: {name: a, key: b}}}",
        "migrations: {command: [a]}",
        "migrations: {env: [{name: A, value: '1'}]}",
    ] {
        assert_ne!(key(&format!(", {other}")), base, "{other}");
    }
    let job = key(", migrations: {mode: Job}");
    let phases = "before: [{name: a, command: [b]}], contract: {command: [c]}, rollback: {command: [d]}";
    assert_eq!(key(&format!(", migrations: {{mode: Job, {phases}}}")), job);
    assert_ne!(canonical("image: z").migration_key(), base);
    assert_eq!(base.len(), 64);
}

#[test]
fn a_contract_is_keyed_by_what_it_depends_on() {
    let key = |rest: &str| canonical(&format!("{{image: x, {rest}}}")).contract_key();
    let base = key("migrations: {mode: Job, contract: {command: [a]}}");
    assert_eq!(
        key(
            "replicas: 3, resources: {limits: {memory: 1Gi}}, migrations: {mode: Job, command: [b], contract: {command: [a]}}"
        ),
        base
    );
    assert_ne!(key("migrations: {mode: Job, contract: {command: [b]}}"), base);
    assert_ne!(key("env: [{name: A, value: '1'}], migrations: {mode: Job, contract: {command: [a]}}"), base);
}

#[test]
fn the_database_budget_reaches_no_pod() {
    let database = |rest: &str| {
        canonical(&format!(
            "{{image: x, database: {{urlFrom: {{secretKeyRef: {{name: a, key: b}}}}{rest}}}}}"
        ))
    };
    assert_eq!(database(", connectionsPerPod: 3, maxConnections: 90"), database(""));
    assert_ne!(database(", poolSize: 3"), database(""));
}

#[test]
fn a_default_that_a_newer_version_adds_makes_no_revision() {
    let old = json!({"image": "x", "health": {"readiness": {"path": "/h"}}});
    let mut newer = schema::spec().clone();
    newer["properties"]["novelty"] = json!({"type": "string", "default": "On"});
    newer["properties"]["health"]["properties"]["readiness"]["properties"]["novelty"] =
        json!({"type": "object", "default": {}, "properties": {"deep": {"type": "integer", "default": 1}}});
    let mut value = old.clone();
    schema::apply_defaults(&mut value, &newer);
    assert_eq!(value["novelty"], "On");
    assert_eq!(value["health"]["readiness"]["novelty"]["deep"], 1);
    schema::remove_defaults(&mut value, &newer);
    assert_eq!(value, old);
}

fn spec() -> impl Strategy<Value = Value> {
    let part = prop_oneof![
        Just(json!({"port": 4001})),
        Just(json!({"health": {"readiness": {"path": "/h", "period": "9s"}, "liveness": {}}})),
        Just(json!({"strategy": {"rolling": {"maxSurge": 1}, "type": "Recreate"}})),
        Just(json!({"extraPorts": [{"name": "a", "port": 5}]})),
        Just(json!({"clustering": {"distributionPorts": {"max": 4400}}})),
        Just(json!({"volumes": [{"name": "v", "mountPath": "/v", "emptyDir": {}}]})),
        Just(json!({"secrets": {"onDelete": "Delete"}})),
        Just(json!({"topologySpread": []})),
        (0..20_i32).prop_map(|replicas| json!({"replicas": replicas})),
        "[A-Z]{1,3}".prop_map(|name| json!({"env": [{"name": name, "value": "1"}]})),
    ];
    proptest::collection::vec(part, 0..6).prop_map(|parts| {
        let mut spec = json!({"image": "x"});
        for part in parts {
            spec.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
        }
        spec
    })
}

proptest! {
    #[test]
    fn defaults_can_be_applied_and_taken_away(spec in spec()) {
        let mut bare = spec.clone();
        schema::remove_defaults(&mut bare, schema::spec());
        let mut full = bare.clone();
        schema::apply_defaults(&mut full, schema::spec());
        let mut twice = full.clone();
        schema::apply_defaults(&mut twice, schema::spec());
        prop_assert_eq!(&full, &twice);
        let mut directly = spec;
        schema::apply_defaults(&mut directly, schema::spec());
        prop_assert_eq!(&full, &directly);
        schema::remove_defaults(&mut full, schema::spec());
        prop_assert_eq!(&full, &bare);
        schema::remove_defaults(&mut twice, schema::defaults());
        prop_assert_eq!(twice, bare, "by what is left of the schema");
    }

    #[test]
    fn different_canonicals_have_different_texts(one in spec(), other in spec()) {
        let of = |spec: Value| Canonical::of(&serde_json::from_value(spec).unwrap());
        let (one, other) = (of(one), of(other));
        prop_assert_eq!(one == other, one.to_text() == other.to_text());
        prop_assert_eq!(one == other, one.name_for(|_| false) == other.name_for(|_| false));
    }
}

#[test]
fn what_a_worker_is_scaled_to_makes_no_revision() {
    let one = canonical("{image: x, workers: [{name: a, command: [b]}, {name: c}]}");
    for same in [
        "{image: x, workers: [{name: a, command: [b], replicas: 5}, {name: c, strategy: Recreate}]}",
        "{image: x, workers: [{name: c}, {name: a, command: [b]}]}",
    ] {
        assert_eq!(canonical(same), one, "{same}");
    }
}
