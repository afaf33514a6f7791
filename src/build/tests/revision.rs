//! Revisions in storage.

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

use super::rendered;
use crate::{
    api::labels,
    build::{
        Revision, Settings, StoredRevision, controller_revision, defaults_config_map, deployment, render,
    },
};

const FULL: &str = "{image: x, hosts: [h], database: {urlFrom: {secretKeyRef: {name: db, key: uri}}}, \
    resources: {limits: {cpu: 500m, memory: 1Gi}}, env: [{name: A, value: b}], affinity: {nodeAffinity: {}}, \
    volumes: [{name: v, mountPath: /v, persistentVolumeClaim: {claimName: c}}]}";

#[test]
fn a_revision_is_stored_whole() {
    let (app, revision) = rendered(FULL);
    let stored = controller_revision(&app, &revision, 7);
    assert_eq!(stored.revision, 7);
    assert_eq!(stored.metadata.name.as_deref(), Some(format!("shop-{}", revision.name).as_str()));
    let text = serde_json::to_string(&stored).unwrap();
    let back: StoredRevision = serde_json::from_str(&text).unwrap();
    assert_eq!(back.revision, 7);
    assert_eq!(Revision::from_stored(&back).unwrap(), revision);
    let annotations = stored.metadata.annotations.unwrap();
    assert_eq!(annotations.get(labels::MIGRATION_KEY), revision.migration_key.as_ref());
}

#[test]
fn without_a_job_there_is_no_migration_to_record() {
    for spec in ["image: x", "{image: x, migrations: {mode: Entrypoint}}"] {
        let (app, revision) = rendered(spec);
        assert_eq!((&revision.migration_key, &revision.job_template), (&None, &None));
        assert_eq!(controller_revision(&app, &revision, 1).metadata.annotations, None);
    }
}

#[test]
fn what_is_no_revision_is_refused_with_the_cure() {
    let (app, revision) = rendered("image: x");
    let mut stored = controller_revision(&app, &revision, 1);
    stored.data.as_mut().unwrap().0 = json!({"spec": 1});
    let error = Revision::from_stored(&stored.clone().into()).unwrap_err().to_string();
    assert!(error.contains("cannot be read") && error.contains("delete it"), "{error}");
    stored.data = None;
    let error = Revision::from_stored(&stored.clone().into()).unwrap_err().to_string();
    assert!(error.contains("holds no revision"), "{error}");
}

#[test]
fn a_lost_revision_is_rebuilt_from_its_deployment() {
    let (app, revision) = rendered(FULL);
    let live = deployment(&app, &revision, 3, Some("2026-01-01T00:00:00Z"));
    let defaults: ConfigMap = defaults_config_map(&app, &revision);
    let rebuilt = Revision::from_deployment(&live, Some(&defaults)).unwrap();
    assert_eq!(
        Revision { job_template: None, ..revision.clone() },
        Revision {
            pod_template: {
                let mut template = rebuilt.pod_template.clone();
                if let Some(metadata) = template.metadata.as_mut() {
                    metadata.annotations = metadata.annotations.take().filter(|all| !all.is_empty());
                }
                template
            },
            ..rebuilt
        }
    );
    let mut foreign = live;
    foreign.metadata.annotations = None;
    assert_eq!(Revision::from_deployment(&foreign, None), None);
}

#[test]
fn resolved_defaults_are_frozen_in_it() {
    for (spec, user) in [
        ("image: x", Some(65_534)),
        ("{image: x, security: {runAsUser: 1000}}", Some(1000)),
        ("{image: x, security: {profile: Baseline}}", None),
        ("{image: x, security: {profile: Baseline, runAsUser: 0}}", Some(0)),
    ] {
        assert_eq!(rendered(spec).1.effective.run_as_user, user, "{spec}");
    }
}

#[test]
fn the_same_app_renders_the_same() {
    let (app, revision) = rendered(FULL);
    assert_eq!(render(&app, &revision.name, &Settings::default()), revision);
}

#[test]
fn what_is_live_does_not_change_what_is_rendered() {
    let (_, base) = rendered("image: x");
    for live in [
        "replicas: 9",
        "suspend: true",
        "strategy: {type: Recreate, minReady: 10s}",
        "traffic: {service: {port: 8080}}",
        "podDisruptionBudget: {mode: Disabled}",
        "revisionHistoryLimit: 2",
        "migrations: {timeout: 3h}",
    ] {
        assert_eq!(rendered(&format!("{{image: x, {live}}}")).1, base, "{live}");
    }
}

#[test]
fn a_revision_fits_an_object_many_times() {
    let (app, revision) = rendered(FULL);
    let size = serde_json::to_vec(&controller_revision(&app, &revision, 1)).unwrap().len();
    assert!(size < 32 * 1024, "{size}"); // etcd takes 1.5 MiB
}
