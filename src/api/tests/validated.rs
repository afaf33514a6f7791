//! What validation resolves and refuses.

use std::time::Duration;

use serde_json::json;

use crate::api::{
    Amount, Isolation, MigrationsMode, StrategyKind, ValidatedApp,
    testing::{app, faults, from_value, raw},
    validated::Limits,
};

#[test]
fn a_fresh_app() {
    let app = app("image: x");
    assert_eq!((app.name.as_str(), app.namespace.as_str(), app.generation), ("shop", "prod", 1));
    assert_eq!(app.resource_version.as_ref().map(AsRef::as_ref), Some("100"));
    assert_eq!(app.replicas, 2);
    assert_eq!(app.strategy.kind, StrategyKind::Rolling);
    assert_eq!(app.strategy.progress_deadline, Duration::from_mins(10));
    assert_eq!(app.strategy.min_ready, Duration::ZERO);
    assert_eq!(
        (app.strategy.max_surge, app.strategy.max_unavailable),
        (Amount::Percent(25), Amount::Count(0))
    );
    assert_eq!((app.strategy.rollback_window, app.revision_history_limit), (3, 5));
    assert_eq!((app.migrations_mode, app.migration), (MigrationsMode::Disabled, None));
    assert_eq!(app.isolation, Isolation::Shared);
    assert!(!app.deleting && !app.suspend && !app.has_pvc && app.disruption_budget);
    assert_eq!(app.command, None);
}

#[test]
fn names_come_from_the_app_unless_set() {
    let mut object = json!({
        "apiVersion": "phoenix-operator.dev/v1alpha1", "kind": "PhoenixApp",
        "metadata": {"name": "my-shop", "namespace": "prod", "uid": "u"}, "spec": {"image": "x"},
    });
    let of = |object: &serde_json::Value| ValidatedApp::try_from(&from_value(object.clone())).unwrap();
    assert_eq!(
        (of(&object).release_name.as_str(), of(&object).node_basename.as_str()),
        ("my_shop", "my_shop")
    );
    object["spec"]["release"] = json!({"name": "store"});
    assert_eq!((of(&object).release_name.as_str(), of(&object).node_basename.as_str()), ("store", "store"));
    object["spec"]["clustering"] = json!({"nodeBasename": "blockscout"});
    assert_eq!(of(&object).node_basename, "blockscout");
}

#[test]
fn migrations_run_when_there_is_something_to_migrate_with() {
    let database = "database: {urlFrom: {secretKeyRef: {name: a, key: b}}}";
    for (rest, mode) in [
        ("replicas: 1", MigrationsMode::Disabled),
        ("migrations: {timeout: 2h, retries: 1}", MigrationsMode::Disabled),
        ("migrations: {env: [{name: A, value: b}]}", MigrationsMode::Disabled),
        (database, MigrationsMode::Job),
        ("migrations: {command: [a]}", MigrationsMode::Job),
        ("migrations: {mode: Job}", MigrationsMode::Job),
        ("migrations: {mode: Entrypoint, command: [a]}", MigrationsMode::Entrypoint),
        (&format!("{database}, migrations: {{mode: Disabled}}"), MigrationsMode::Disabled),
    ] {
        let app = app(&format!("{{image: x, {rest}}}"));
        assert_eq!(app.migrations_mode, mode, "{rest}");
        assert_eq!(app.migration.is_some(), mode == MigrationsMode::Job, "{rest}");
    }
}

#[test]
fn phases_need_a_migration() {
    let faults =
        ValidatedApp::try_from(&raw("{image: x, migrations: {contract: {command: [a]}}}")).unwrap_err();
    assert_eq!(faults[0].field, "spec.migrations");
    assert!(faults[0].message.contains("set database or migrations.command"), "{}", faults[0]);
}

#[test]
fn the_connections_of_a_pod_are_its_pool_unless_said() {
    for (rest, connections) in [("", 10), (", poolSize: 4", 4), (", poolSize: 4, connectionsPerPod: 6", 6)] {
        let app =
            app(&format!("{{image: x, database: {{urlFrom: {{secretKeyRef: {{name: a, key: b}}}}{rest}}}}}"));
        assert_eq!(app.spec.database.unwrap().of_a_pod(), connections, "{rest}");
    }
}

#[test]
fn settings_of_the_migration_are_live() {
    let app = app("{image: x, migrations: {command: [a], timeout: 2h, retries: 0, logTail: Omit}}");
    let migration = app.migration.unwrap();
    assert_eq!((migration.timeout, migration.retries), (Duration::from_hours(2), 0));
}

#[test]
fn metadata_is_read() {
    let mut raw = raw("{image: x, suspend: true}");
    raw.metadata.annotations =
        Some([("phoenix-operator.dev/command".to_owned(), "abort 7f3a9c1d2e/3".to_owned())].into());
    raw.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    let app = ValidatedApp::try_from(&raw).unwrap();
    assert!(app.deleting && app.suspend);
    assert_eq!(app.command.as_deref(), Some("abort 7f3a9c1d2e/3"));
}

#[test]
fn limits_round_as_in_a_deployment() {
    for (surge, unavailable, replicas, expected) in [
        ("25%", "0", 2, (1, 0)),
        ("25%", "0", 5, (2, 0)),
        ("0", "25%", 8, (0, 2)),
        ("0", "25%", 3, (0, 1)), // both nothing: one may be unavailable
        ("25%", "0", 0, (0, 1)),
        ("1", "1", 1, (1, 1)),
        ("100%", "0", 10, (10, 0)),
    ] {
        let app = app(&format!(
            "{{image: x, strategy: {{rolling: {{maxSurge: {surge}, maxUnavailable: {unavailable}}}}}}}"
        ));
        let (surge, unavailable) = expected;
        assert_eq!(app.strategy.limits(replicas), Limits { surge, unavailable }, "{replicas}");
    }
}

#[test]
fn what_a_rule_would_refuse_is_refused_here_too() {
    for (spec, field) in [
        ("{image: x, hosts: ['*.a']}", "spec.hosts[0]"),
        ("{image: x, replicas: -1}", "spec.replicas"),
        ("{image: x, strategy: {rolling: {maxSurge: 0}}}", "spec.strategy.rolling"),
        (
            "{image: x, clustering: {distributionPorts: {min: 5, max: 5}}}",
            "spec.clustering.distributionPorts",
        ),
        ("{image: x, volumes: [{name: a, mountPath: /a}]}", "spec.volumes[0]"),
        ("{image: x, env: [{name: A}, {name: A}]}", "spec.env[1].name"),
        ("{image: x, port: 4369}", "spec.port"),
        ("{image: x, extraPorts: [{name: a, port: 4370}]}", "spec.extraPorts[0].port"),
        ("{image: x, affinity: {nodeAffinity: 3}}", "spec.affinity"),
        (
            "{image: x, env: [{name: RELEASE_COOKIE, value: a}], clustering: {isolation: PerRevision}}",
            "spec.env[0]",
        ),
    ] {
        let faults = faults(spec);
        assert_eq!(
            faults.iter().map(|fault| fault.field.as_str()).collect::<Vec<_>>(),
            [field],
            "{spec}: {faults:?}"
        );
    }
}

/// No rule of the schema sees the default.
#[test]
fn a_cookie_of_the_users_is_refused_where_each_revision_has_its_own() {
    for kind in ["BlueGreen", "Canary, canary: {steps: [{setWeight: 10}]}"] {
        let faults = faults(&format!(
            "{{image: x, env: [{{name: A}}, {{name: RELEASE_COOKIE}}], strategy: {{type: {kind}}}}}"
        ));
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!(faults[0].field, "spec.env[1]");
        for word in ["RELEASE_COOKIE", "secrets.cookie", "clustering.isolation: Shared"] {
            assert!(faults[0].message.contains(word), "{}", faults[0].message);
        }
    }
    for fine in ["strategy: {type: Rolling}", "strategy: {type: BlueGreen}, clustering: {isolation: Shared}"]
    {
        app(&format!("{{image: x, env: [{{name: RELEASE_COOKIE}}], {fine}}}"));
    }
}

#[test]
fn every_fault_is_named_at_once() {
    let mut raw = raw("{image: x, hosts: ['*'], replicas: -1}");
    raw.metadata.name = Some("Shop".to_owned());
    raw.metadata.uid = None;
    let faults = ValidatedApp::try_from(&raw).unwrap_err();
    let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["metadata.name", "metadata.uid", "spec.hosts[0]", "spec.replicas"]);
}
