//! Every validation rule of the resource, on a real API server, within its cost budget.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use e2e::harness::{Lab, Space};
use k8s_openapi::api::networking::v1::Ingress;
use kube::{Api, api::PostParams};
use phoenix_operator::{
    api::{HttpRoute, PhoenixApp, ValidatedApp},
    build,
};
use serde_json::Value;

/// Specs that are refused, and words of the refusal.
const REFUSED: &[(&str, &str)] = &[
    ("hosts: ['*.example.com']", "hosts[0] must not be a wildcard"),
    ("strategy: {progressDeadline: 5m}", "strategy.progressDeadline must be longer"),
    ("health: {startup: {failureThreshold: 120}}", "strategy.progressDeadline must be longer"),
    ("strategy: {rolling: {maxSurge: 0}}", "must not both be zero"),
    ("strategy: {rolling: {maxSurge: 0%, maxUnavailable: 0%}}", "must not both be zero"),
    ("strategy: {rolling: {maxSurge: 0, maxUnavailable: 0%}}", "must not both be zero"),
    ("strategy: {type: Canary}", "strategy.canary.steps must not be empty with type Canary"),
    ("strategy: {canary: {steps: [{pause: {}}]}}", "strategy.canary.steps must begin with a setWeight"),
    ("strategy: {canary: {steps: [{setWeight: 5, pause: {}}]}}", "exactly one of setWeight"),
    ("strategy: {canary: {steps: [{setWeight: 5}, {}]}}", "exactly one of setWeight"),
    (
        "strategy: {canary: {maxSurge: 0}}",
        "strategy.canary.maxSurge and maxUnavailable must not both be zero",
    ),
    (
        "strategy: {type: BlueGreen}, volumes: [{name: a, mountPath: /a, persistentVolumeClaim: {claimName: a}}]",
        "must not share a persistentVolumeClaim",
    ),
    ("env: [{name: RELEASE_NAME, value: a}]", "env must not set RELEASE_NAME"),
    ("env: [{name: RELEASE_VSN, value: a}]", "env must not set RELEASE_NAME"),
    ("env: [{name: PHOENIX_REVISION, value: a}]", "env must not set PHOENIX_REVISION"),
    ("env: [{name: PHOENIX_HEADLESS_SERVICE, value: a}]", "env must not set PHOENIX_REVISION"),
    ("env: [{name: PHOENIX_CLUSTER_SELECTOR, value: a}]", "env must not set PHOENIX_REVISION"),
    ("migrations: {env: [{name: RELEASE_NAME, value: a}]}", "migrations.env must not set"),
    ("migrations: {env: [{name: PHOENIX_REVISION, value: a}]}", "migrations.env must not set"),
    (
        "env: [{name: RELEASE_COOKIE, value: a}], clustering: {isolation: PerRevision}",
        "env must not set RELEASE_COOKIE",
    ),
    ("podMetadata: {labels: {phoenix-operator.dev/app: a}}", "podMetadata.labels must not hold"),
    ("podMetadata: {labels: {app.kubernetes.io/managed-by: a}}", "podMetadata.labels must not hold"),
    ("podMetadata: {annotations: {phoenix-operator.dev/x: a}}", "podMetadata.annotations must not"),
    (
        "traffic: {service: {annotations: {phoenix-operator.dev/x: a}}}",
        "traffic.service.annotations must not begin",
    ),
    (
        "hosts: [a.example.com], traffic: {ingress: {annotations: {phoenix-operator.dev/x: a}}}",
        "traffic.ingress.annotations must not begin",
    ),
    ("hosts: [a..b]", "should match"),
    ("hosts: [Shop.example.com]", "should match"),
    ("hosts: ['*.*.example.com']", "should match"),
    ("hosts: [a, 10.0.0.1], traffic: {ingress: {}}", "hosts must not be IP addresses"),
    ("hosts: [a, 10.0.0.1], traffic: {gateway: {parentRefs: [{name: a}]}}", "hosts must not be IP addresses"),
    (
        "hosts: [a], traffic: {gateway: {parentRefs: [{name: a}, {name: a, sectionName: b}]}}",
        "must not name a Gateway twice",
    ),
    (
        "hosts: [a], traffic: {gateway: {parentRefs: [{name: a, port: 80}, {name: a, port: 80}]}}",
        "must not name a Gateway twice",
    ),
    (
        "hosts: [a], traffic: {ingress: {className: b, annotations: {kubernetes.io/ingress.class: c}}}",
        "traffic.ingress.annotations must not name another class",
    ),
    ("hosts: [a], traffic: {ingress: {className: b..c}}", "should match"),
    ("hosts: [a], traffic: {ingress: {tls: {secretName: b..c}}}", "should match"),
    ("traffic: {ingress: {}}", "traffic.gateway and traffic.ingress route by hosts"),
    ("traffic: {gateway: {parentRefs: [{name: a}]}}", "traffic.gateway and traffic.ingress route by hosts"),
    ("extraPorts: [{name: a, port: 4000}]", "extraPorts must not repeat port"),
    ("extraPorts: [{name: a, port: 1}, {name: b, port: 1}]", "must not use a port number twice"),
    ("extraPorts: [{name: a, port: 4369}]", "extraPorts must not take 4369"),
    ("extraPorts: [{name: a, port: 4375}]", "extraPorts must not take 4369"),
    ("extraPorts: [{name: http, port: 1}]", "extraPorts must not be named"),
    ("extraPorts: [{name: dist-4370, port: 1}]", "extraPorts must not be named"),
    ("extraPorts: [{name: a, port: 80}]", "extraPorts must not take traffic.service.port"),
    ("port: 4370", "port must not be 4369"),
    ("clustering: {distributionPorts: {min: 4380, max: 4380}}", "min must be below max"),
    ("clustering: {distributionPorts: {min: 5000, max: 5064}}", "at most 64 ports"),
    ("clustering: {distributionPorts: {min: 4360, max: 4372}}", "must not hold 4369"),
    ("volumes: [{name: a, mountPath: /a, readOnly: true}]", "exactly one of emptyDir"),
    ("volumes: [{name: a, mountPath: /a, emptyDir: {}, secret: {secretName: a}}]", "exactly one of emptyDir"),
    (
        "volumes: [{name: a, mountPath: /a, projected: {sources: [{}]}}]",
        "exactly one of secret and configMap",
    ),
    ("volumes: [{name: a, mountPath: /a, emptyDir: {}, subPath: /b}]", "subPath must be relative"),
    ("volumes: [{name: a, mountPath: /a, emptyDir: {}, subPath: b/../c}]", "subPath must be relative"),
    ("volumes: [{name: tmp, mountPath: /a, emptyDir: {}}]", "must not be named tmp"),
    (
        "volumes: [{name: a, mountPath: /a, emptyDir: {}}, {name: b, mountPath: /a, emptyDir: {}}]",
        "must not use a mountPath twice",
    ),
    ("shutdown: {grace: 10s}", "shutdown.grace must be longer"),
    ("shutdown: {endpointLag: 2m}", "shutdown.grace must be longer"),
    ("health: {readiness: {period: 0s}}", "period must be at least 1s"),
    ("health: {liveness: {period: 0s}}", "period must be at least 1s"),
    ("health: {startup: {period: 0s}}", "period must be at least 1s"),
    ("health: {readiness: {timeout: 0s}}", "timeout must be at least 1s"),
    ("health: {liveness: {timeout: 0s}}", "timeout must be at least 1s"),
    ("health: {startup: {timeout: 0s}}", "timeout must be at least 1s"),
    ("migrations: {timeout: 0s}", "migrations.timeout must be at least 1s"),
    ("migrations: {contract: {command: [a]}}", "must stand around a migration by Job"),
    ("migrations: {rollback: {command: [a]}}", "must stand around a migration by Job"),
    ("migrations: {before: [{name: a, command: [b]}]}", "must stand around a migration by Job"),
    (
        "migrations: {mode: Job, before: [{name: a, command: [b], env: [{name: PHOENIX_REVISION, value: a}]}]}",
        "env must not set RELEASE_NAME, RELEASE_VSN or one of",
    ),
    (
        "workers: [{name: a, env: [{name: A, value: a}, {name: RELEASE_VSN, value: a}]}]",
        "env must not set RELEASE_NAME, RELEASE_VSN or one of",
    ),
    ("workers: [{name: a, env: [{name: 'A=B', value: a}]}]", "should match"),
    ("workers: [{name: a, env: [{name: RELEASE_COOKIE, value: a}]}]", "env of a worker must not set"),
    (
        "strategy: {smokeTests: [{name: a, job: {command: [b], env: [{name: RELEASE_NAME, value: a}]}}]}",
        "env must not set RELEASE_NAME, RELEASE_VSN or one of",
    ),
    ("migrations: {mode: Entrypoint, contract: {command: [a]}}", "must stand around a migration by Job"),
    ("security: {runAsUser: 0}", "security.runAsUser must not be 0"),
    ("strategy: {analysis: [{name: a, query: up}]}", "must have a limit"),
    (
        "strategy: {analysis: [{name: a, query: up, max: '1', preset: PromExP95}]}",
        "exactly one of query and preset",
    ),
    (
        "strategy: {analysis: [{name: a, query: up, min: '0.5', max: '0.05'}]}",
        "min of a check in strategy.analysis must not",
    ),
    ("strategy: {analysis: [{name: a, query: up, warnMin: '10', warnMax: '9'}]}", "warnMin of a check"),
    ("strategy: {analysis: [{name: a, query: up, max: '1', interval: 0s}]}", "interval must be at least 1s"),
    ("strategy: {analysis: [{name: a, query: up, max: '1', window: 0s}]}", "window must be at least 1s"),
    ("strategy: {smokeTests: [{name: a}]}", "exactly one of http and job"),
    ("strategy: {smokeTests: [{name: a, http: {path: /, jsonPath: b}}]}", "both of jsonPath and value"),
    ("strategy: {smokeTests: [{name: a, http: {path: /, timeout: 61s}}]}", "timeout must be from 1s to 60s"),
    ("strategy: {smokeTests: [{name: a, job: {command: [b], timeout: 0s}}]}", "timeout must be at least 1s"),
    (
        "strategy: {canary: {steps: [{setWeight: 10}, {analysis: {names: [a]}}]}}",
        "must name checks that strategy.analysis holds",
    ),
    (
        "strategy: {canary: {steps: [{setWeight: 10}, {smokeTest: {}}]}}",
        "must name tests that strategy.smokeTests holds",
    ),
    (
        "strategy: {canary: {steps: [{setWeight: 10}, {setWeight: 20, pause: {}}]}}",
        "exactly one of setWeight, pause, analysis and smokeTest",
    ),
];

/// Specs close to those that are accepted.
const ACCEPTED: &[&str] = &[
    "hosts: []",
    "hosts: [shop.example.com, '*.shop.example.com']",
    "hosts: [10.0.0.1]",
    "hosts: [a], traffic: {gateway: {parentRefs: [{name: a, sectionName: b}, {name: a, sectionName: c}, {name: b}]}}",
    "hosts: [a], traffic: {ingress: {className: b, annotations: {kubernetes.io/ingress.class: b}, tls: {secretName: c.d}}}",
    "migrations: {before: []}",
    "migrations: {command: [a], contract: {command: [b]}}",
    "database: {urlFrom: {secretKeyRef: {name: a, key: b}}}, migrations: {rollback: {command: [b]}}",
    "migrations: {mode: Job, before: [{name: a, command: [b], env: [{name: C, value: d}]}]}",
    "workers: [{name: a, env: [{name: RELEASE_NODE, value: a}]}]",
    "strategy: {progressDeadline: 5m1s}",
    "health: {startup: {failureThreshold: 120}}, strategy: {progressDeadline: 1h30m}",
    "strategy: {rolling: {maxSurge: 0, maxUnavailable: 1}}",
    "strategy: {rolling: {maxUnavailable: 50%}}",
    "replicas: 0",
    "strategy: {type: Canary, canary: {steps: [{setWeight: 10}, {pause: {}}]}}",
    "strategy: {type: BlueGreen, blueGreen: {autoPromote: false, bake: 0s}}",
    "strategy: {blueGreen: {autoPromote: true}}, volumes: [{name: a, mountPath: /a, persistentVolumeClaim: {claimName: a}}]",
    "replicas: 500, strategy: {rolling: {maxSurge: 1}}",
    "env: [{name: RELEASE_COOKIE, value: a}, {name: PORT, value: a}, {name: POD_IP, value: a}]",
    "env: [{name: RELEASE_COOKIE, value: a}], clustering: {isolation: Shared}, strategy: {type: BlueGreen}",
    "env: [{name: A, value: a}], clustering: {isolation: PerRevision}",
    "podMetadata: {labels: {team: a}, annotations: {b: c}}",
    "extraPorts: [{name: a, port: 80, expose: None}]",
    "extraPorts: [{name: metrics, port: 9568}, {name: grpc, port: 50051, expose: None}]",
    "port: 4370, clustering: {mode: Disabled}",
    "clustering: {distributionPorts: {min: 9100, max: 9110}}",
    "clustering: {mode: KubernetesAPI, isolation: PerRevision, ipFamily: IPv6}",
    "shutdown: {method: SignalVM}",
    "volumes: [{name: a, mountPath: /a, projected: {sources: [{secret: {name: a}}]}}]",
    "volumes: [{name: a, mountPath: /a, emptyDir: {}, subPath: b/c..d}]",
    "volumes: [{name: mine, mountPath: /tmp, emptyDir: {}}]",
    "replicas: 1, volumes: [{name: a, mountPath: /a, persistentVolumeClaim: {claimName: a}}]",
    "shutdown: {endpointLag: 0s, grace: 1s}",
    "security: {profile: Baseline, runAsUser: 0}",
    "secrets: {onDelete: Delete}",
    "strategy: {analysis: [{name: a, preset: PromExErrorRate, max: '0.1'}, {name: b, query: up, min: '-1.5'}]}",
    "strategy: {smokeTests: [{name: a, http: {path: '/a?b=c', jsonPath: 'a.b[0]', value: ''}}, \
     {name: b, job: {command: [c], env: [{name: D, value: e}]}}]}",
    "strategy: {canary: {steps: [{setWeight: 10}, {analysis: {names: [a], duration: 10m}}, {smokeTest: {}}]}, \
     analysis: [{name: a, preset: TelemetryP99}], smokeTests: [{name: b, http: {path: /}}]}",
];

/// Specs with an edge, and whether they are accepted.
const EDGE: &[(&str, bool)] = &[
    (
        "hosts: [a, localhost, shop.example.com, '*.example.com', '*.a', 1.example.com, '1.2.3', 1.2.3.4.5, \
         '*.1.2.3.4', xn--bcher-kva.example, a--b.c], \
         traffic: {gateway: {parentRefs: [{name: a}]}, ingress: {className: b, tls: {secretName: c}}}",
        true,
    ),
    (
        "hosts: [aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.b], \
         traffic: {gateway: {parentRefs: [{name: a}]}, ingress: {}}",
        true,
    ),
    (
        "hosts: [aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.b], \
         traffic: {gateway: {parentRefs: [{name: a}]}, ingress: {}}",
        false,
    ),
    ("hosts: [a..b], traffic: {gateway: {parentRefs: [{name: a}]}}", false),
    ("hosts: [a..b], traffic: {ingress: {}}", false),
    ("hosts: [a.-b], traffic: {ingress: {}}", false),
    ("hosts: [a.b.], traffic: {ingress: {}}", false),
    ("hosts: [A.b], traffic: {ingress: {}}", false),
    ("hosts: [a, '*'], traffic: {ingress: {}}", false),
    ("hosts: [a, '*.*.b'], traffic: {ingress: {}}", false),
    ("hosts: [a, 'a.*.b'], traffic: {ingress: {}}", false),
    ("hosts: [10.0.0.1], traffic: {ingress: {}}", false),
    ("hosts: [a, 010.0.0.1], traffic: {ingress: {}}", false),
    ("hosts: [a], traffic: {gateway: {parentRefs: [{name: a}, {name: a}]}}", false),
    ("hosts: [a], traffic: {gateway: {parentRefs: [{name: a}, {name: b}, {name: a, namespace: c}]}}", true),
    (
        "hosts: [a], traffic: {gateway: {parentRefs: [{name: a, sectionName: b}, {name: a, sectionName: c.d}]}}",
        true,
    ),
    ("hosts: [a], traffic: {gateway: {parentRefs: [{name: a, sectionName: b}, {name: a}]}}", false),
    ("hosts: [a], traffic: {gateway: {parentRefs: [{name: a, sectionName: b..c}]}}", false),
    ("hosts: [a], traffic: {gateway: {parentRefs: [{name: a..b}]}}", false),
    ("hosts: [a], traffic: {ingress: {className: a.b}}", true),
    ("hosts: [a], traffic: {ingress: {className: A}}", false),
    ("hosts: [a], traffic: {ingress: {annotations: {kubernetes.io/ingress.class: a}}}", true),
    ("hosts: [a], traffic: {ingress: {className: b, annotations: {kubernetes.io/ingress.class: b}}}", true),
    ("hosts: [a], traffic: {ingress: {className: b, annotations: {kubernetes.io/ingress.class: c}}}", false),
    ("hosts: [a], traffic: {ingress: {tls: {secretName: a.b}}}", true),
    ("hosts: [a], traffic: {ingress: {tls: {secretName: a_b}}}", false),
];

/// Names, and whether they are accepted.
const NAMES: &[(&str, bool)] = &[
    ("shop", true),
    ("a", true),
    ("shop-2", true),
    ("2shop", false),
    ("shop.eu", false),
    ("a23456789-123456789-123456789-123456789x", true),
    ("a23456789-123456789-123456789-123456789xy", false),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_is_enforced() -> Result<()> {
    let lab = Lab::anywhere().await?;
    let space = lab.space("rules").await?;
    let mut said = BTreeSet::new();
    for (spec, because) in REFUSED {
        let refusal = ask(&space, "shop", spec, true).await?.with_context(|| format!("accepted: {spec}"))?;
        ensure!(refusal.contains(because), "{spec}: {refusal}");
        said.insert(refusal);
    }
    for spec in ACCEPTED {
        ensure!(ask(&space, "shop", spec, true).await?.is_none(), "refused: {spec}");
    }
    for (name, fine) in NAMES {
        let refusal = ask(&space, name, "port: 4000", true).await?;
        ensure!(refusal.is_none() == *fine, "{name}: {refusal:?}");
        said.extend(refusal);
    }

    // Between two versions of one app.
    for (first, then) in [("Retain", "Delete"), ("Delete", "Retain")] {
        let name = first.to_lowercase();
        ask(&space, &name, &format!("secrets: {{onDelete: {first}}}"), false).await?;
        let patch = format!(r#"{{"spec":{{"secrets":{{"onDelete":"{then}"}}}}}}"#);
        let patched =
            space.kubectl(&["patch", "phoenixapp", &name, "--type=merge", "-p", &patch], None).await;
        let refusal = format!("{:#}", patched.err().context("onDelete was changed")?);
        ensure!(refusal.contains("secrets.onDelete cannot be changed"), "{refusal}");
        said.insert(refusal);
        // The rules never stand in an autoscaler's way.
        space.kubectl(&["scale", "phoenixapp", &name, "--replicas=0"], None).await?;
        space.kubectl(&["scale", "phoenixapp", &name, "--replicas=500"], None).await?;
    }

    let rules = rules();
    let said: Vec<String> = said.iter().map(|refusal| words(refusal)).collect();
    let silent: Vec<&String> =
        rules.keys().filter(|rule| !said.iter().any(|refusal| refusal.contains(&words(rule)))).collect();
    ensure!(silent.is_empty(), "rules that refused nothing: {silent:#?}");
    println!(
        "{} rules in {} places, each refused something: {} specs refused, {} accepted, {} names",
        rules.len(),
        rules.values().sum::<usize>(),
        REFUSED.len() + 2,
        ACCEPTED.len(),
        NAMES.len()
    );
    space.close().await?;
    lab.leave().await
}

/// What the resource takes of the fields that reach an Ingress or an HTTPRoute, these take as well.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_resource_takes_its_edge_takes() -> Result<()> {
    let lab = Lab::fake().await?;
    e2e::gateway::define(&lab).await?;
    let space = lab.space("edge").await?;
    let mut taken = 0;
    for (spec, fine) in EDGE {
        let made = match made(&space, "shop", spec, true).await? {
            Ok(made) => made,
            Err(refusal) => {
                ensure!(!fine, "refused: {spec}: {refusal}");
                continue;
            }
        };
        ensure!(*fine, "accepted: {spec}");
        let app: PhoenixApp = serde_json::from_value(made)?;
        let app = ValidatedApp::try_from(&app).map_err(|faults| anyhow::anyhow!("{spec}: {faults:?}"))?;
        let (dry, params) = (space.name(), PostParams { dry_run: true, ..PostParams::default() });
        if let Some(route) = build::http_route(&app, None) {
            let routes = Api::<HttpRoute>::namespaced(lab.client().clone(), dry);
            routes.create(&params, &route).await.with_context(|| format!("the HTTPRoute of {spec}"))?;
            taken += 1;
        }
        if let Some(ingress) = build::ingress(&app) {
            let ingresses = Api::<Ingress>::namespaced(lab.client().clone(), dry);
            ingresses.create(&params, &ingress).await.with_context(|| format!("the Ingress of {spec}"))?;
            taken += 1;
        }
    }
    let fine = EDGE.iter().filter(|(_, fine)| *fine).count();
    ensure!(fine > 5 && taken >= fine, "{fine} specs accepted, but only {taken} objects tried");
    println!("{} specs, {taken} objects taken", EDGE.len());
    space.close().await?;
    lab.leave().await
}

/// kubectl quotes and wraps what the server says.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Asks the API server to create an app; gives back its refusal.
async fn ask(space: &Space, name: &str, spec: &str, dry: bool) -> Result<Option<String>> {
    Ok(made(space, name, spec, dry).await?.err())
}

/// Asks the API server to create an app; gives back what it made, or its refusal.
async fn made(space: &Space, name: &str, spec: &str, dry: bool) -> Result<Result<Value, String>> {
    let manifest = format!(
        "{{apiVersion: phoenix-operator.dev/v1alpha1, kind: PhoenixApp, metadata: {{name: {name}}}, \
         spec: {{image: x, {spec}}}}}"
    );
    let dry = if dry { "?dryRun=All" } else { "" };
    let uri = format!("/apis/phoenix-operator.dev/v1alpha1/namespaces/{}/phoenixapps{dry}", space.name());
    let request =
        http::Request::post(uri).header("content-type", "application/yaml").body(manifest.into_bytes())?;
    match space.lab().client().request::<Value>(request).await {
        Ok(made) => Ok(Ok(made)),
        Err(kube::Error::Api(status)) => {
            // A rule's refusal, not a misspelt field.
            ensure!(status.code == 422, "{spec}: {}", status.message);
            Ok(Err(status.message.clone()))
        }
        Err(error) => Err(error).context("asking the API server"),
    }
}

/// The message of every rule in the schema, and in how many places it stands.
fn rules() -> BTreeMap<String, usize> {
    fn collect(schema: &Value, messages: &mut BTreeMap<String, usize>) {
        match schema {
            Value::Object(object) => {
                let rules = object.get("x-kubernetes-validations").and_then(Value::as_array);
                for rule in rules.into_iter().flatten() {
                    let message = rule["message"].as_str().unwrap_or_default();
                    *messages.entry(message.to_owned()).or_default() += 1;
                }
                object.values().for_each(|value| collect(value, messages));
            }
            Value::Array(items) => items.iter().for_each(|value| collect(value, messages)),
            _ => {}
        }
    }
    let mut messages = BTreeMap::new();
    collect(phoenix_operator::api::schema::root(), &mut messages);
    messages
}
