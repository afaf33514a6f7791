//! The Job of a smoke test.

use k8s_openapi::api::batch::v1::Job;

use super::rendered;
use crate::{
    api::{JobTest, labels},
    build::{Revision, Settings, render, smoke_job},
};

const SPEC: &str = "
image: shop:1
port: 4001
podMetadata: {labels: {team: shop}, annotations: {a: b}}
env: [{name: RELEASE_NODE, value: mine}, {name: LOG_LEVEL, value: info}]
database: {urlFrom: {secretKeyRef: {name: db, key: uri}}}
volumes:
  - {name: uploads, mountPath: /data, persistentVolumeClaim: {claimName: uploads}}
  - {name: certs, mountPath: /certs, secret: {secretName: certs}}
strategy: {smokeTests: [{name: whole, job: {command: [/app/bin/shop, eval, Shop.smoke], retries: 2, timeout: 7m,
  env: [{name: LOG_LEVEL, value: debug}, {name: URL, value: $(DATABASE_URL)}]}}]}
";

fn job(spec: &str) -> (Job, Revision) {
    let (app, revision) = rendered(spec);
    let test: JobTest = app.spec.strategy.smoke_tests[0].job.clone().unwrap();
    (smoke_job(&app, &revision, 4, "step-2", "whole", &test), revision)
}

#[test]
fn it_is_the_pod_without_what_makes_a_node_of_it() {
    let (job, _) = job(SPEC);
    let spec = job.spec.unwrap();
    let pod = spec.template.spec.unwrap();
    let container = &pod.containers[0];
    assert_eq!(container.image.as_deref(), Some("shop:1"));
    assert_eq!(container.command.as_ref().unwrap()[1], "eval");
    let env = container.env.as_ref().unwrap();
    let values = |name: &str| -> Vec<_> {
        env.iter()
            .filter(|entry| entry.name == name)
            .map(|entry| entry.value.clone().unwrap_or_default())
            .collect()
    };
    for absent in ["RELEASE_NODE", "PHX_SERVER", "DNS_CLUSTER_QUERY"] {
        assert!(values(absent).is_empty(), "{absent}");
    }
    assert_eq!(values("RELEASE_DISTRIBUTION"), ["none"]);
    assert_eq!(values("LOG_LEVEL"), ["debug"], "once, and the test's own");
    assert_eq!(values("PORT"), ["4001"]);
    let position = |name: &str| env.iter().position(|entry| entry.name == name).unwrap();
    assert!(position("DATABASE_URL") < position("URL"), "it may refer to the pods' own");
    assert!(container.env_from.as_ref().is_some_and(|sources| sources.len() == 2));
    assert!(container.readiness_probe.is_none() && container.liveness_probe.is_none());
    assert!(container.startup_probe.is_none() && container.lifecycle.is_none() && container.ports.is_none());
    assert_eq!(pod.restart_policy.as_deref(), Some("Never"));
    assert!(pod.topology_spread_constraints.is_none());
    assert_eq!(pod.enable_service_links, Some(false));
    assert_eq!(pod.security_context.unwrap().run_as_non_root, Some(true));
}

#[test]
fn it_mounts_no_claim() {
    let (job, _) = job(SPEC);
    let pod = job.spec.unwrap().template.spec.unwrap();
    let names: Vec<_> = pod.volumes.unwrap().into_iter().map(|volume| volume.name).collect();
    assert!(!names.contains(&"uploads".to_owned()) && names.contains(&"certs".to_owned()), "{names:?}");
    let mounts = pod.containers[0].volume_mounts.clone().unwrap();
    assert!(mounts.iter().all(|mount| names.contains(&mount.name)), "{mounts:?}");
}

#[test]
fn nothing_selects_it() {
    let (job, _) = job(SPEC);
    let template = job.spec.unwrap().template.metadata.unwrap();
    for labels in [job.metadata.labels.unwrap(), template.labels.unwrap()] {
        assert_eq!(labels[labels::SMOKE], "shop");
        for absent in [labels::APP, labels::COMPONENT, labels::CLUSTER, labels::MIGRATION, "team"] {
            assert!(!labels.contains_key(absent), "{absent}");
        }
    }
    assert_eq!(template.annotations.unwrap()["a"], "b");
}

#[test]
fn how_it_is_run() {
    let (job, revision) = job(SPEC);
    let name = job.metadata.name.unwrap();
    assert!(name.starts_with(&format!("shop-smoke-{}-4-", revision.name)), "{name}");
    let annotations = job.metadata.annotations.unwrap();
    assert_eq!(annotations[labels::ATTEMPT], "4");
    assert_eq!(annotations[labels::SMOKE_TEST], "whole");
    assert_eq!(annotations[labels::SMOKE_SPAN], "step-2");
    assert_eq!(job.metadata.owner_references.unwrap()[0].kind, "PhoenixApp");
    let spec = job.spec.unwrap();
    assert_eq!((spec.backoff_limit, spec.active_deadline_seconds), (Some(2), Some(420)));
    assert!(spec.ttl_seconds_after_finished.is_none(), "one that vanished unrecorded would run again");
    assert_eq!(spec.pod_failure_policy.unwrap().rules[0].action, "Ignore");
}

#[test]
fn it_tests_the_stored_revision_whatever_the_spec_says_by_now() {
    let (_, stored) = rendered(SPEC);
    let (later, _) = rendered(&SPEC.replace("shop:1", "shop:2"));
    let test = later.spec.strategy.smoke_tests[0].job.clone().unwrap();
    let job = smoke_job(&later, &stored, 4, "step-2", "whole", &test);
    let image = job.spec.unwrap().template.spec.unwrap().containers[0].image.clone();
    assert_eq!(image.as_deref(), Some("shop:1"));
}

#[test]
fn tests_and_checks_make_no_revision() {
    let (app, revision) = rendered(SPEC);
    let (without, _) = rendered(&SPEC[..SPEC.find("strategy").unwrap()]);
    assert_eq!(app.canonical, without.canonical);
    assert_eq!(render(&without, &revision.name, &Settings::default()), revision);
}
