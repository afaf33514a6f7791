//! The CEL rules of the CRD, run as the API server runs them.

use kube::core::cel::Validator;
use serde_json::{Value, json};

use crate::api::schema;

pub(super) fn object(spec: &str) -> Value {
    let spec: Value = serde_saphyr::from_str(spec).unwrap();
    let mut object = json!({"metadata": {"name": "shop"}, "spec": spec});
    schema::apply_defaults(&mut object, schema::root());
    object
}

pub(super) fn verdict(new: &Value, old: Option<&Value>) -> Result<(), String> {
    Validator::new().validate(schema::root(), new, old).map_err(|errors| {
        errors
            .into_vec()
            .iter()
            .map(|e| format!("{}: {}", e.field_path, e.message))
            .collect::<Vec<_>>()
            .join("\n")
    })
}

#[track_caller]
pub(super) fn accepted(spec: &str) {
    assert_eq!(verdict(&object(spec), None), Ok(()), "{spec}");
}

#[track_caller]
pub(super) fn refused(spec: &str, because: &str) {
    let said = verdict(&object(spec), None).expect_err(spec);
    assert!(said.contains(because) && said.lines().count() == 1, "{spec}\n{said}");
}

#[test]
fn a_fresh_app_is_accepted() {
    accepted("image: x");
    accepted(
        "{image: x, hosts: [shop.example.com, '*.shop.example.com'], \
         database: {urlFrom: {secretKeyRef: {name: db, key: uri}}}}",
    );
}

/// The API server runs the rules on defaults too, as they stand, when the CRD is created.
#[test]
fn defaults_satisfy_the_rules() {
    fn check(path: &str, schema: &Value) {
        if let Some(default) = schema.get("default") {
            assert_eq!(Validator::new().validate(schema, default, Some(default)), Ok(()), "{path}");
        }
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            check(&format!("{path}.{name}"), property);
        }
    }
    check("", schema::root());
}

#[test]
fn names() {
    for (name, fine) in [
        ("shop", true),
        ("a", true),
        ("shop-2", true),
        ("2shop", false),
        ("shop.eu", false),
        ("shop-", false),
        ("a23456789-123456789-123456789-123456789x", true),
        ("a23456789-123456789-123456789-123456789xy", false),
    ] {
        let mut app = object("image: x");
        app["metadata"]["name"] = json!(name);
        let verdict = verdict(&app, None);
        assert_eq!(verdict.is_ok(), fine, "{name}: {verdict:?}");
        if let Err(said) = verdict {
            assert!(said.contains("metadata.name must"), "{said}");
        }
    }
}

#[test]
fn the_first_host_is_plain() {
    refused("{image: x, hosts: ['*.example.com']}", "hosts[0] must not be a wildcard");
    accepted("{image: x, hosts: []}");
}

#[test]
fn a_rollout_must_outlast_a_start() {
    refused("{image: x, strategy: {progressDeadline: 5m}}", "strategy.progressDeadline must be longer");
    accepted("{image: x, strategy: {progressDeadline: 5m1s}}");
    refused(
        "{image: x, health: {startup: {failureThreshold: 120}}}",
        "strategy.progressDeadline must be longer",
    );
    accepted("{image: x, health: {startup: {failureThreshold: 120}}, strategy: {progressDeadline: 1h30m}}");
}

#[test]
fn something_must_give_in_a_rolling_rollout() {
    for zeros in ["{maxSurge: 0}", "{maxSurge: 0%, maxUnavailable: 0%}", "{maxSurge: 0, maxUnavailable: 0%}"]
    {
        refused(&format!("{{image: x, strategy: {{rolling: {zeros}}}}}"), "must not both be zero");
    }
    for fine in ["{maxSurge: 0, maxUnavailable: 1}", "{maxSurge: 1}", "{maxUnavailable: 50%}"] {
        accepted(&format!("{{image: x, strategy: {{rolling: {fine}}}}}"));
    }
}

fn strategy(rest: &str) -> String {
    format!("{{image: x, strategy: {{{rest}}}}}")
}

fn check(rest: &str) -> String {
    strategy(&format!("analysis: [{{name: a, {rest}}}]"))
}

fn smoke(rest: &str) -> String {
    strategy(&format!("smokeTests: [{{name: a, {rest}}}]"))
}

#[test]
fn a_check_asks_one_thing_and_has_a_limit() {
    accepted(&check("preset: PromExErrorRate"));
    accepted(&check("preset: TelemetryP99, max: '1.5'"));
    for limit in ["min", "max", "warnMin", "warnMax"] {
        accepted(&check(&format!("query: up, {limit}: '1'")));
    }
    refused(&check("query: up"), "must have a limit");
    refused(&check("query: up, max: '1', preset: PromExP95"), "exactly one of query and preset");
    refused(&check("max: '1'"), "exactly one of query and preset");
    accepted(&check("query: up, min: '-0.5', max: '-0.5'"));
    refused(&check("query: up, min: '0.5', max: '0.05'"), "min of a check in strategy.analysis must not");
    refused(&check("query: up, warnMin: '10', warnMax: '9'"), "warnMin of a check");
    refused(&check("query: up, max: '1', interval: 0s"), "interval must be at least 1s");
    refused(&check("query: up, max: '1', window: 0s"), "window must be at least 1s");
}

#[test]
fn a_smoke_test_is_a_request_or_a_job() {
    accepted(&smoke("http: {path: /}"));
    accepted(&smoke("http: {path: '/health?full=1', status: 302, jsonPath: 'a.b[0].c', value: ok}"));
    accepted(&smoke("job: {command: [/app/bin/shop, eval, 'Shop.smoke()']}"));
    refused(&smoke("http: {path: /}, job: {command: [x]}"), "exactly one of http and job");
    refused("{image: x, strategy: {smokeTests: [{name: a}]}}", "exactly one of http and job");
    refused(&smoke("http: {path: /, jsonPath: a}"), "both of jsonPath and value");
    refused(&smoke("http: {path: /, value: a}"), "both of jsonPath and value");
    refused(&smoke("http: {path: /, timeout: 0s}"), "timeout must be from 1s");
    refused(&smoke("http: {path: /, timeout: 61s}"), "timeout must be from 1s");
    refused(&smoke("job: {command: [x], timeout: 0s}"), "timeout must be at least 1s");
}

#[test]
fn steps_name_what_there_is() {
    let steps = |steps: &str| {
        strategy(&format!(
            "type: Canary, canary: {{steps: [{{setWeight: 10}}, {steps}]}}, \
             analysis: [{{name: errors, preset: PromExErrorRate}}], smokeTests: [{{name: home, http: {{path: /}}}}]"
        ))
    };
    accepted(&steps("{analysis: {}}, {smokeTest: {}}"));
    accepted(&steps("{analysis: {names: [errors], duration: 10m}}, {smokeTest: {names: [home]}}"));
    refused(&steps("{analysis: {names: [error]}}"), "must name checks that strategy.analysis holds");
    refused(&steps("{smokeTest: {names: [hom]}}"), "must name tests that strategy.smokeTests holds");
    refused(&steps("{analysis: {}, pause: {}}"), "exactly one of setWeight, pause, analysis and smokeTest");
    refused(&steps("{}"), "exactly one of setWeight, pause, analysis and smokeTest");
    let bare = |step: &str| strategy(&format!("canary: {{steps: [{{setWeight: 10}}, {{{step}: {{}}}}]}}"));
    refused(&bare("analysis"), "must name checks that strategy.analysis holds");
    refused(&bare("smokeTest"), "must name tests that strategy.smokeTests holds");
}

#[test]
fn replicas_are_never_judged() {
    // an autoscaler writes them through /scale, and must not be refused
    for replicas in [0, 1, 500] {
        accepted(&format!("{{image: x, replicas: {replicas}, strategy: {{rolling: {{maxSurge: 1}}}}}}"));
    }
}

#[test]
fn reserved_environment() {
    for name in [
        "RELEASE_NAME",
        "RELEASE_VSN",
        "PHOENIX_REVISION",
        "PHOENIX_HEADLESS_SERVICE",
        "PHOENIX_CLUSTER_SELECTOR",
    ] {
        refused(&format!("{{image: x, env: [{{name: {name}, value: a}}]}}"), "env must not set");
        refused(
            &format!("{{image: x, migrations: {{env: [{{name: {name}, value: a}}]}}}}"),
            "migrations.env must not set",
        );
    }
    for name in ["RELEASE_NAME", "PHOENIX_HEADLESS_FQDN"] {
        let env = format!("env: [{{name: A, value: a}}, {{name: {name}, value: a}}]");
        let said = "env must not set RELEASE_NAME, RELEASE_VSN or one of the PHOENIX_ names";
        refused(&format!("{{image: x, workers: [{{name: a, {env}}}]}}"), said);
        refused(
            &format!("{{image: x, migrations: {{mode: Job, before: [{{name: a, command: [b], {env}}}]}}}}"),
            said,
        );
        refused(&smoke(&format!("job: {{command: [x], {env}}}")), said);
    }
    let cookie = "env: [{name: RELEASE_COOKIE, value: a}]";
    refused(
        &format!("{{image: x, workers: [{{name: a, {cookie}}}]}}"),
        "env of a worker must not set RELEASE_COOKIE",
    );
    accepted(&format!(
        "{{image: x, migrations: {{mode: Job, before: [{{name: a, command: [b], {cookie}}}]}}}}"
    ));
    accepted("{image: x, workers: [{name: a, env: [{name: RELEASE_NODE, value: a}]}]}");
    for name in ["RELEASE_COOKIE", "RELEASE_NODE", "PORT", "POD_IP", "DNS_CLUSTER_QUERY"] {
        accepted(&format!("{{image: x, env: [{{name: {name}, value: a}}]}}"));
    }
}

#[test]
fn an_isolated_revision_makes_its_own_cookie() {
    let cookie = "env: [{name: A, value: a}, {name: RELEASE_COOKIE, value: a}]";
    refused(
        &format!("{{image: x, {cookie}, clustering: {{isolation: PerRevision}}}}"),
        "env must not set RELEASE_COOKIE",
    );
    accepted(&format!(
        "{{image: x, {cookie}, clustering: {{isolation: Shared}}, strategy: {{type: BlueGreen}}}}"
    ));
    accepted("{image: x, env: [{name: A, value: a}], clustering: {isolation: PerRevision}}");
    accepted("{image: x, clustering: {isolation: PerRevision}}");
    // the default is no rule of the schema: it is frozen in a revision, and changes with none
    accepted(&format!("{{image: x, {cookie}, strategy: {{type: BlueGreen}}}}"));
}

#[test]
fn reserved_keys() {
    refused(
        "{image: x, podMetadata: {labels: {phoenix-operator.dev/app: a}}}",
        "podMetadata.labels must not hold",
    );
    refused(
        "{image: x, podMetadata: {labels: {app.kubernetes.io/managed-by: a}}}",
        "podMetadata.labels must not hold",
    );
    refused(
        "{image: x, podMetadata: {annotations: {phoenix-operator.dev/x: a}}}",
        "podMetadata.annotations must not",
    );
    refused(
        "{image: x, traffic: {service: {annotations: {phoenix-operator.dev/x: a}}}}",
        "traffic.service.annotations",
    );
    refused(
        "{image: x, hosts: [a.example.com], traffic: {ingress: {annotations: {phoenix-operator.dev/x: a}}}}",
        "traffic.ingress.annotations",
    );
    refused("{image: x, traffic: {ingress: {}}}", "route by hosts");
    refused("{image: x, traffic: {gateway: {parentRefs: [{name: a}]}}}", "route by hosts");
    accepted(
        "{image: x, hosts: [a.example.com], traffic: {ingress: {}, gateway: {parentRefs: [{name: a, port: 443}]}}}",
    );
    accepted("{image: x, podMetadata: {labels: {team: a}, annotations: {b: c}}}");
}

#[test]
fn ports_do_not_collide() {
    refused("{image: x, extraPorts: [{name: a, port: 4000}]}", "extraPorts must not repeat port");
    refused(
        "{image: x, extraPorts: [{name: a, port: 1}, {name: b, port: 1}]}",
        "must not use a port number twice",
    );
    refused("{image: x, extraPorts: [{name: a, port: 4369}]}", "extraPorts must not take 4369");
    refused("{image: x, extraPorts: [{name: a, port: 4375}]}", "extraPorts must not take 4369");
    refused("{image: x, extraPorts: [{name: http, port: 1}]}", "extraPorts must not be named");
    refused("{image: x, extraPorts: [{name: dist-4370, port: 1}]}", "extraPorts must not be named");
    refused("{image: x, port: 4370}", "port must not be 4369");
    refused("{image: x, extraPorts: [{name: a, port: 80}]}", "traffic.service.port");
    accepted("{image: x, extraPorts: [{name: a, port: 80, expose: None}]}");
    accepted(
        "{image: x, extraPorts: [{name: metrics, port: 9568}, {name: grpc, port: 50051, expose: None}]}",
    );
    accepted("{image: x, port: 4370, clustering: {mode: Disabled}}");
    accepted("{image: x, extraPorts: [{name: a, port: 4375}], clustering: {mode: Disabled}}");
}

#[test]
fn distribution_ports() {
    refused("{image: x, clustering: {distributionPorts: {min: 4380, max: 4380}}}", "min must be below max");
    refused("{image: x, clustering: {distributionPorts: {min: 5000, max: 5064}}}", "at most 64 ports");
    refused("{image: x, clustering: {distributionPorts: {min: 4360, max: 4372}}}", "must not hold 4369");
    accepted("{image: x, clustering: {distributionPorts: {min: 9100, max: 9110}}}");
}

#[test]
fn volumes() {
    let volume = |rest: &str| format!("{{image: x, volumes: [{{name: a, mountPath: /a, {rest}}}]}}");
    for one in [
        "emptyDir: {}",
        "secret: {secretName: a}",
        "configMap: {name: a}",
        "persistentVolumeClaim: {claimName: a}",
        "projected: {sources: [{secret: {name: a}}]}",
        "emptyDir: {}, subPath: b/c..d",
    ] {
        accepted(&volume(one));
    }
    refused(&volume("readOnly: true"), "exactly one of");
    refused(&volume("emptyDir: {}, secret: {secretName: a}"), "exactly one of");
    refused(&volume("projected: {sources: [{}]}"), "exactly one of secret and configMap");
    refused(&volume("emptyDir: {}, subPath: /b"), "subPath must be relative");
    refused(&volume("emptyDir: {}, subPath: b/../c"), "subPath must be relative");
    refused("{image: x, volumes: [{name: tmp, mountPath: /a, emptyDir: {}}]}", "must not be named tmp");
    refused(
        "{image: x, volumes: [{name: a, mountPath: /a, emptyDir: {}}, {name: b, mountPath: /a, emptyDir: {}}]}",
        "must not use a mountPath twice",
    );
    accepted("{image: x, volumes: [{name: mine, mountPath: /tmp, emptyDir: {}}]}");
}

#[test]
fn a_pvc_or_a_singleton_may_roll() {
    accepted(
        "{image: x, replicas: 1, volumes: [{name: a, mountPath: /a, persistentVolumeClaim: {claimName: a}}]}",
    );
}

#[test]
fn shutdown_leaves_time_to_drain() {
    refused("{image: x, shutdown: {grace: 10s}}", "shutdown.grace must be longer");
    refused("{image: x, shutdown: {endpointLag: 2m}}", "shutdown.grace must be longer");
    accepted("{image: x, shutdown: {endpointLag: 0s, grace: 1s}}");
}

#[test]
fn probes_take_at_least_a_second() {
    refused("{image: x, health: {readiness: {period: 0s}}}", "period must be at least 1s");
    refused("{image: x, health: {liveness: {timeout: 0s}}}", "timeout must be at least 1s");
    refused("{image: x, migrations: {timeout: 0s}}", "migrations.timeout must be at least 1s");
}

#[test]
fn phases_stand_around_a_migration_by_job() {
    for phase in ["before: [{name: a, command: [b]}]", "contract: {command: [a]}", "rollback: {command: [a]}"]
    {
        for mode in ["Disabled", "Entrypoint"] {
            let spec = format!("{{image: x, migrations: {{mode: {mode}, {phase}}}}}");
            refused(&spec, "must stand around a migration by Job");
        }
        refused(&format!("{{image: x, migrations: {{{phase}}}}}"), "must stand around a migration by Job");
        accepted(&format!("{{image: x, migrations: {{command: [a], {phase}}}}}"));
        accepted(&format!("{{image: x, migrations: {{mode: Job, {phase}}}}}"));
        accepted(&format!(
            "{{image: x, database: {{urlFrom: {{secretKeyRef: {{name: a, key: b}}}}}}, migrations: {{{phase}}}}}"
        ));
    }
}

#[test]
fn ways_to_cluster_and_to_stop() {
    accepted("{image: x, clustering: {mode: KubernetesAPI, isolation: PerRevision, ipFamily: IPv6}}");
    accepted("{image: x, shutdown: {method: SignalVM}}");
    refused("{image: x, port: 4370, clustering: {mode: KubernetesAPI}}", "port must not be 4369");
    refused("{image: x, shutdown: {method: SignalVM, grace: 10s}}", "shutdown.grace must be longer");
}

#[test]
fn root_is_refused_under_restricted() {
    refused("{image: x, security: {runAsUser: 0}}", "security.runAsUser must not be 0");
    accepted("{image: x, security: {profile: Baseline, runAsUser: 0}}");
}

#[test]
fn on_delete_is_fixed_once_the_app_exists() {
    let retain = object("image: x");
    let delete = object("{image: x, secrets: {onDelete: Delete}}");
    assert_eq!(verdict(&delete, None), Ok(()));
    assert_eq!(verdict(&delete, Some(&delete)), Ok(()));
    assert_eq!(verdict(&object("{image: z, secrets: {onDelete: Retain}}"), Some(&retain)), Ok(()));
    for (new, old) in [(&retain, &delete), (&delete, &retain)] {
        let said = verdict(new, Some(old)).unwrap_err();
        assert!(said.contains("secrets.onDelete cannot be changed"), "{said}");
    }
}

#[test]
fn every_rule_says_what_to_do() {
    fn collect(schema: &Value, messages: &mut Vec<String>) {
        match schema {
            Value::Object(object) => {
                for rule in
                    object.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten()
                {
                    messages.push(rule["message"].as_str().unwrap_or_default().to_owned());
                }
                object.values().for_each(|value| collect(value, messages));
            }
            Value::Array(items) => items.iter().for_each(|value| collect(value, messages)),
            _ => {}
        }
    }
    let mut messages = Vec::new();
    collect(schema::root(), &mut messages);
    assert!(messages.len() > 20);
    for message in messages {
        assert!(message.contains("must") || message.contains("cannot"), "{message:?}");
    }
}
