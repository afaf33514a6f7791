//! Keys of labels and annotations, and the sets that select pods.
//!
//! The app's own labels are never copied onto a child: a GitOps tool tracks what it applied by them.

use std::collections::BTreeMap;

use super::names::{AppName, RevisionName};

/// Prefix of every key the operator owns.
pub const PREFIX: &str = "phoenix-operator.dev/";
/// Label: who manages the object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Its value.
pub const OPERATOR: &str = "phoenix-operator";
/// Label: the app an object belongs to. Not on migrations.
pub const APP: &str = "phoenix-operator.dev/app";
/// Label: which part of the app a pod is.
pub const COMPONENT: &str = "phoenix-operator.dev/component";
/// Value of [`COMPONENT`] for pods that serve requests.
pub const WEB: &str = "web";
/// Value of [`COMPONENT`] for pods of workers.
pub const WORKER_COMPONENT: &str = "worker";
/// Label: the worker that a pod or a Deployment is of.
pub const WORKER: &str = "phoenix-operator.dev/worker";
/// Label: the revision an object belongs to.
pub const REVISION: &str = "phoenix-operator.dev/revision";
/// Value of [`REVISION`] in a selector that is to match no pod.
pub const NO_REVISION: &str = "none";
/// Label: the Erlang cluster a pod belongs to.
pub const CLUSTER: &str = "phoenix-operator.dev/cluster";
/// Label: the app for which a Job or its pod migrates.
pub const MIGRATION: &str = "phoenix-operator.dev/migration";
/// Label: the app that a Job or its pod tests.
pub const SMOKE: &str = "phoenix-operator.dev/smoke";

/// Label that Kubernetes gives the pods of a Job: its name (well-known labels, since 1.27).
pub const JOB_NAME: &str = "batch.kubernetes.io/job-name";

/// Annotation of the app: a person's command.
pub const COMMAND: &str = "phoenix-operator.dev/command";
/// Annotation of a `ControllerRevision`: when its migration succeeded.
pub const MIGRATED: &str = "phoenix-operator.dev/migrated";
/// Annotation of a `ControllerRevision`: how its last attempt ended.
pub const OUTCOME: &str = "phoenix-operator.dev/outcome";
/// Annotation of a `ControllerRevision`, a Job: the attempt.
pub const ATTEMPT: &str = "phoenix-operator.dev/attempt";
/// Annotation of a `ControllerRevision`: its promotion number; the highest is the stable one.
pub const PROMOTION: &str = "phoenix-operator.dev/promotion";
/// Annotation of a pod template: when a restart was asked for.
pub const RESTARTED_AT: &str = "phoenix-operator.dev/restarted-at";
/// Annotation of a `ControllerRevision`: hash of what its migration depends on.
pub const MIGRATION_KEY: &str = "phoenix-operator.dev/migration-key";

/// Annotation of a `ControllerRevision`: the attempt, and how many Jobs before its migration have succeeded in it.
pub const BEFORE: &str = "phoenix-operator.dev/before";
/// Annotation of a `ControllerRevision`: when its contract succeeded.
pub const CONTRACTED: &str = "phoenix-operator.dev/contracted";
/// Annotation of a Job around a migration: which one it is.
pub const STAGE: &str = "phoenix-operator.dev/stage";

/// Annotation of a smoke test's Job: the test.
pub const SMOKE_TEST: &str = "phoenix-operator.dev/smoke-test";
/// Annotation of a smoke test's Job: what it is made for, such as `step-2`.
pub const SMOKE_SPAN: &str = "phoenix-operator.dev/smoke-span";

fn owned(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Labels of a child that belongs to the app as a whole.
pub fn of_app(app: &AppName) -> BTreeMap<String, String> {
    owned(&[(MANAGED_BY, OPERATOR), (APP, app.as_str())])
}

/// Labels of a child that belongs to one revision.
pub fn of_revision(app: &AppName, revision: &RevisionName) -> BTreeMap<String, String> {
    owned(&[(MANAGED_BY, OPERATOR), (APP, app.as_str()), (REVISION, revision.as_str())])
}

/// Labels of a pod that serves requests; `cluster` is the id of its Erlang cluster.
pub fn of_web_pod(app: &AppName, revision: &RevisionName, cluster: &str) -> BTreeMap<String, String> {
    owned(&[
        (MANAGED_BY, OPERATOR),
        (APP, app.as_str()),
        (COMPONENT, WEB),
        (REVISION, revision.as_str()),
        (CLUSTER, cluster),
    ])
}

/// Labels of the Deployment of a worker in one revision.
pub fn of_worker(app: &AppName, revision: &RevisionName, worker: &str) -> BTreeMap<String, String> {
    owned(&[(MANAGED_BY, OPERATOR), (APP, app.as_str()), (REVISION, revision.as_str()), (WORKER, worker)])
}

/// Labels of a pod of a worker: matched by no Service but the headless one of its cluster.
pub fn of_worker_pod(
    app: &AppName,
    revision: &RevisionName,
    worker: &str,
    cluster: &str,
) -> BTreeMap<String, String> {
    let mut labels = of_worker(app, revision, worker);
    labels.extend(owned(&[(COMPONENT, WORKER_COMPONENT), (CLUSTER, cluster)]));
    labels
}

/// Labels of a migration Job and its pod: matched by no Service and no libcluster selector.
pub fn of_migration(app: &AppName, revision: &RevisionName) -> BTreeMap<String, String> {
    owned(&[(MANAGED_BY, OPERATOR), (MIGRATION, app.as_str()), (REVISION, revision.as_str())])
}

/// Labels of a smoke test's Job and its pod: matched by no Service and no libcluster selector.
pub fn of_smoke_test(app: &AppName, revision: &RevisionName) -> BTreeMap<String, String> {
    owned(&[(MANAGED_BY, OPERATOR), (SMOKE, app.as_str()), (REVISION, revision.as_str())])
}

/// Selects the pods of every revision that serve requests.
pub fn select_web(app: &AppName) -> BTreeMap<String, String> {
    owned(&[(APP, app.as_str()), (COMPONENT, WEB)])
}

/// Selects the pods of one revision that serve requests. Frozen: a Deployment's selector cannot be changed.
pub fn select_revision(app: &AppName, revision: &RevisionName) -> BTreeMap<String, String> {
    owned(&[(APP, app.as_str()), (COMPONENT, WEB), (REVISION, revision.as_str())])
}

/// Selects the pods of a worker in every revision.
pub fn select_worker(app: &AppName, worker: &str) -> BTreeMap<String, String> {
    owned(&[(APP, app.as_str()), (COMPONENT, WORKER_COMPONENT), (WORKER, worker)])
}

/// Selects the pods of a worker in one revision. Frozen, as that of the web pods.
pub fn select_worker_revision(
    app: &AppName,
    revision: &RevisionName,
    worker: &str,
) -> BTreeMap<String, String> {
    let mut selector = select_worker(app, worker);
    selector.insert(REVISION.to_owned(), revision.to_string());
    selector
}

/// Selects the pods of one Erlang cluster.
pub fn select_cluster(app: &AppName, cluster: &str) -> BTreeMap<String, String> {
    owned(&[(APP, app.as_str()), (CLUSTER, cluster)])
}

/// A selector as `status.selector` and libcluster want it: `a=b,c=d`.
pub fn to_text(selector: &BTreeMap<String, String>) -> String {
    selector.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn matches(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
        selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    #[test]
    fn web_pods_are_selected_and_migrations_are_not() {
        let app = "shop".parse().unwrap();
        let revision = "7f3a9c1d2e".parse().unwrap();
        let pod = of_web_pod(&app, &revision, "shop");
        let migration = of_migration(&app, &revision);
        let test = of_smoke_test(&app, &revision);
        for selector in [select_web(&app), select_revision(&app, &revision), select_cluster(&app, "shop")] {
            assert!(matches(&selector, &pod), "{selector:?}");
            assert!(!matches(&selector, &migration), "{selector:?}");
            assert!(!matches(&selector, &test), "{selector:?}");
        }
        assert!(!migration.contains_key(APP) && !migration.contains_key(CLUSTER));
    }

    #[test]
    fn workers_are_in_the_cluster_and_behind_no_service() {
        let app = "shop".parse().unwrap();
        let revision = "7f3a9c1d2e".parse().unwrap();
        let pod = of_worker_pod(&app, &revision, "jobs", "shop");
        assert!(matches(&select_cluster(&app, "shop"), &pod));
        assert!(matches(&select_worker(&app, "jobs"), &pod));
        assert!(matches(&select_worker_revision(&app, &revision, "jobs"), &pod));
        for selector in [select_web(&app), select_revision(&app, &revision), select_worker(&app, "mail")] {
            assert!(!matches(&selector, &pod), "{selector:?}");
        }
        let web = of_web_pod(&app, &revision, "shop");
        assert!(!matches(&select_worker_revision(&app, &revision, "jobs"), &web));
    }

    #[test]
    fn every_key_but_managed_by_has_the_prefix() {
        for key in [
            APP,
            COMPONENT,
            REVISION,
            WORKER,
            CLUSTER,
            MIGRATION,
            SMOKE,
            SMOKE_TEST,
            SMOKE_SPAN,
            COMMAND,
            MIGRATED,
            OUTCOME,
            ATTEMPT,
            PROMOTION,
            RESTARTED_AT,
            MIGRATION_KEY,
            BEFORE,
            CONTRACTED,
            STAGE,
        ] {
            assert!(key.starts_with(PREFIX), "{key}");
        }
    }

    #[test]
    fn selectors_read_as_text() {
        assert_eq!(
            to_text(&select_web(&"shop".parse().unwrap())),
            "phoenix-operator.dev/app=shop,phoenix-operator.dev/component=web"
        );
    }
}
