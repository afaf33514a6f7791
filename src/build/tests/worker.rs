//! Workers: their pods beside those that serve.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Container, PodSpec},
};

use super::rendered;
use crate::{
    api::labels,
    build::{Revision, defaults_config_map, deployment, worker_deployment},
};

const JOBS: &str = "{image: x, env: [{name: A, value: b}, {name: PHX_SERVER, value: 'true'}], hosts: [h], \
    release: {command: [/app/bin/server]}, resources: {limits: {cpu: 500m}}, clustering: {isolation: PerRevision}, \
    shutdown: {grace: 2m, endpointLag: 10s}, workers: [{name: jobs, replicas: 3, command: [/app/bin/shop, start], \
    env: [{name: QUEUES, value: $(A)}, {name: POOL_SIZE, value: '3'}], health: {path: /up, port: 4001}, grace: 5m}, \
    {name: mail, strategy: Recreate}]}";

fn worker(spec: &str, name: &str) -> Deployment {
    let (app, revision) = rendered(spec);
    worker_deployment(&app, &revision, name, 3, None).unwrap()
}

fn parts(deployment: &Deployment) -> (&PodSpec, &Container) {
    let spec = deployment.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    (spec, &spec.containers[0])
}

fn env<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    container.env.iter().flatten().find(|entry| entry.name == name)?.value.as_deref()
}

#[test]
fn it_has_the_pods_environment_and_serves_nothing() {
    let (app, revision) = rendered(JOBS);
    let web = deployment(&app, &revision, 1, None);
    let jobs = worker(JOBS, "jobs");
    let (web, jobs) = (parts(&web).1, parts(&jobs).1);
    assert_eq!(env(jobs, "PHX_SERVER"), None);
    assert_eq!((env(jobs, "QUEUES"), env(jobs, "POOL_SIZE")), (Some("$(A)"), Some("3")));
    for entry in web.env.iter().flatten().filter(|entry| entry.name != "PHX_SERVER") {
        assert!(jobs.env.iter().flatten().any(|own| own == entry), "{entry:?}");
    }
    assert_eq!(jobs.env_from, web.env_from);
    assert_eq!(jobs.image, web.image);
    assert!(jobs.ports.iter().flatten().all(|port| port.name.as_deref() != Some("http")));
}

#[test]
fn it_is_a_node_of_its_cluster_and_behind_no_service() {
    let (app, revision) = rendered(JOBS);
    let template = worker(JOBS, "jobs").spec.unwrap().template;
    let labels = template.metadata.unwrap().labels.unwrap();
    assert_eq!(labels[labels::CLUSTER], revision.name.as_str());
    assert_eq!(labels[labels::COMPONENT], "worker");
    let matches = |selector: std::collections::BTreeMap<String, String>| {
        selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    };
    assert!(matches(labels::select_cluster(&app.name, revision.name.as_str())));
    assert!(!matches(labels::select_web(&app.name)));
}

#[test]
fn it_has_a_command_of_its_own_or_that_of_the_web_pods() {
    let (jobs, mail) = (worker(JOBS, "jobs"), worker(JOBS, "mail"));
    assert_eq!(parts(&jobs).1.command.as_deref().unwrap(), ["/app/bin/shop", "start"]);
    assert_eq!(parts(&mail).1.command.as_deref().unwrap(), ["/app/bin/server"]);
}

#[test]
fn it_ends_at_once_and_in_its_own_time() {
    let (jobs, mail) = (worker(JOBS, "jobs"), worker(JOBS, "mail"));
    let grace = |deployment: &Deployment| parts(deployment).0.termination_grace_period_seconds;
    assert_eq!((grace(&jobs), grace(&mail)), (Some(300), Some(120)));
    assert_eq!(parts(&jobs).1.lifecycle, None, "it has no requests to wait out");
    let signalled = worker("{image: x, shutdown: {method: SignalVM}, workers: [{name: jobs}]}", "jobs");
    assert!(parts(&signalled).1.lifecycle.is_some());
}

#[test]
fn only_one_that_says_where_is_asked_how_it_is() {
    let (jobs, mail) = (worker(JOBS, "jobs"), worker(JOBS, "mail"));
    let probes = |container: &Container| {
        [&container.readiness_probe, &container.liveness_probe, &container.startup_probe]
            .map(|probe| probe.clone().and_then(|probe| probe.http_get?.path))
    };
    assert_eq!(
        probes(parts(&jobs).1),
        [Some("/up".to_owned()), Some("/up".to_owned()), Some("/up".to_owned())]
    );
    assert_eq!(probes(parts(&mail).1), [None, None, None]);
}

#[test]
fn its_own_deployment_replaces_pods_as_its_strategy_says() {
    let kind = |name: &str| worker(JOBS, name).spec.unwrap().strategy.unwrap().type_.unwrap();
    assert_eq!((kind("jobs").as_str(), kind("mail").as_str()), ("RollingUpdate", "Recreate"));
    // The spec's word, as long as it names the worker; then that of the stored revision.
    let (mut app, revision) = rendered(JOBS);
    app.spec.workers.clear();
    let kept = worker_deployment(&app, &revision, "mail", 1, None).unwrap();
    assert_eq!(kept.spec.unwrap().strategy.unwrap().type_.as_deref(), Some("Recreate"));
    assert_eq!(worker_deployment(&app, &revision, "other", 1, None), None);
}

#[test]
fn a_restart_is_asked_for_in_its_template() {
    let (app, revision) = rendered(JOBS);
    let jobs = worker_deployment(&app, &revision, "jobs", 3, Some("2026-01-01T00:00:00Z")).unwrap();
    let annotations = jobs.spec.unwrap().template.metadata.unwrap().annotations.unwrap();
    assert_eq!(annotations[labels::RESTARTED_AT], "2026-01-01T00:00:00Z");
}

#[test]
fn a_lost_revision_has_the_workers_that_run() {
    let (app, revision) = rendered(JOBS);
    let live = deployment(&app, &revision, 3, None);
    let rebuilt = Revision::from_deployment(&live, Some(&defaults_config_map(&app, &revision))).unwrap();
    assert!(rebuilt.workers.is_empty());
    let jobs = worker_deployment(&app, &revision, "jobs", 3, Some("2026-01-01T00:00:00Z")).unwrap();
    let mail = worker_deployment(&app, &revision, "mail", 1, None).unwrap();
    let rebuilt = rebuilt.with_workers_of([&live, &jobs, &mail]);
    let without_empty = |revision: &Revision| {
        let mut workers = revision.workers.clone();
        for metadata in workers.values_mut().filter_map(|worker| worker.template.metadata.as_mut()) {
            metadata.annotations = metadata.annotations.take().filter(|all| !all.is_empty());
        }
        workers
    };
    assert_eq!(without_empty(&rebuilt), without_empty(&revision));
}

#[test]
fn a_revision_of_an_earlier_version_has_none() {
    let (_, revision) = rendered("image: x");
    let mut stored = serde_json::to_value(&revision).unwrap();
    assert!(stored.as_object_mut().unwrap().remove("workers").is_none(), "none are not written");
    assert_eq!(serde_json::from_value::<Revision>(stored).unwrap(), revision);
}
