//! `kubectl phx report`: a zip for a bug report.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use clap::Args;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Event};
use kube::{Api, Resource, ResourceExt as _, api::ListParams};
use serde::Serialize;
use serde_json::Value;

use super::{
    exit::Exit,
    explain::paragraph,
    gather::{Gathered, gather},
    inside::captured,
    output::Format,
    place::Cluster,
    redact::{self, Taken},
    render::render,
    view::view_without,
    zip::zip,
};
use crate::{api::LogTail, controller::snapshot::Snapshot};

/// The operator, wherever its chart is installed.
const OPERATOR: &str = "app.kubernetes.io/name=phoenix-operator";
/// Lines of the operator's log that are looked through.
const LOG_LINES: &str = "--tail=20000";

/// Write a zip file for a bug report: the app, its children, its events, and what the operator logged about it.
///
/// No Secret is read. Values of environments and `ConfigMap`s, probes' headers and what containers said last are taken
/// out, and the same values wherever else they stand. Look through it before you hand it on.
#[derive(Debug, Args)]
pub struct Report {
    /// The app; absent: the only one of the namespace.
    app: Option<String>,
    /// Where it is written; absent: `<app>-report.zip`.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Serialize)]
struct Written {
    file: PathBuf,
    files: Vec<String>,
}

impl Report {
    /// Writes it.
    ///
    /// # Errors
    /// When the app cannot be read, or the file cannot be written.
    pub async fn run(self, cluster: &Cluster, format: Format) -> Result<Exit> {
        let app = cluster.app(self.app.as_deref()).await?;
        let name = app.name_any();
        let gathered = gather(cluster, app).await?;
        let events = events(cluster, &name).await;
        let log = operator_log(cluster, &name).await;
        let version = captured({
            let mut command = cluster.kubectl();
            command.args(["version", "-o", "yaml"]);
            command
        });
        let version = version.await.unwrap_or_else(|error| format!("{error:#}"));
        let files = contents(&gathered, events, &log, &version)?;
        let file = self.file.unwrap_or_else(|| PathBuf::from(format!("{name}-report.zip")));
        std::fs::write(&file, zip(&files)?).with_context(|| format!("writing {}", file.display()))?;
        let written = Written { file, files: files.into_iter().map(|(name, _)| name).collect() };
        format.print(&written, || {
            format!(
                "{}: {} files; look through it before you hand it on",
                written.file.display(),
                written.files.len()
            )
        })?;
        Ok(Exit::Done)
    }
}

/// PURE. The files, with everything taken out that must not leave the cluster.
///
/// # Errors
/// When an object cannot be written as YAML.
pub fn contents(
    gathered: &Gathered,
    events: Value,
    log: &str,
    version: &str,
) -> Result<Vec<(String, String)>> {
    let Gathered { snapshot, unread } = gathered;
    let mut taken = Taken::new();
    let mut objects: Vec<(String, Value)> = Vec::new();
    objects.push(named("PhoenixApp", &*snapshot.app)?);
    let Snapshot {
        revisions,
        deployments,
        pods,
        services,
        slices,
        jobs,
        config_maps,
        service_accounts,
        budgets,
        role_bindings,
        ingresses,
        routes,
        gateway_api: _,
        app: _,
        replica_sets: _,
        going: _,
        needs: _,
        since: _,
        now: _,
    } = snapshot;
    revisions
        .iter()
        .try_for_each(|object| named("ControllerRevision", &**object).map(|one| objects.push(one)))?;
    deployments.iter().try_for_each(|object| named("Deployment", &**object).map(|one| objects.push(one)))?;
    pods.iter().try_for_each(|object| named("Pod", &**object).map(|one| objects.push(one)))?;
    services.iter().try_for_each(|object| named("Service", &**object).map(|one| objects.push(one)))?;
    slices.iter().try_for_each(|object| named("EndpointSlice", &**object).map(|one| objects.push(one)))?;
    jobs.iter().try_for_each(|object| named("Job", &**object).map(|one| objects.push(one)))?;
    config_maps.iter().try_for_each(|object| named("ConfigMap", &**object).map(|one| objects.push(one)))?;
    service_accounts
        .iter()
        .try_for_each(|object| named("ServiceAccount", &**object).map(|one| objects.push(one)))?;
    budgets
        .iter()
        .try_for_each(|object| named("PodDisruptionBudget", &**object).map(|one| objects.push(one)))?;
    role_bindings
        .iter()
        .try_for_each(|object| named("RoleBinding", &**object).map(|one| objects.push(one)))?;
    ingresses.iter().try_for_each(|object| named("Ingress", &**object).map(|one| objects.push(one)))?;
    routes.iter().try_for_each(|object| named("HTTPRoute", &**object).map(|one| objects.push(one)))?;
    objects.push(("events.yaml".to_owned(), events));
    for (_, object) in &mut objects {
        redact::object(object, &mut taken);
    }
    let view = view_without(&without_logs(snapshot), unread);
    let mut files = vec![
        ("explain.txt".to_owned(), paragraph(&view)),
        ("status.txt".to_owned(), render(&view, false).join("\n")),
        ("version.txt".to_owned(), format!("kubectl-phx {}\n{version}", env!("CARGO_PKG_VERSION"))),
        ("operator.log".to_owned(), log.to_owned()),
    ];
    for (name, object) in objects {
        files.push((name, serde_saphyr::to_string(&object).context("cannot write YAML")?));
    }
    for (_, content) in &mut files {
        *content = redact::text(content, &taken);
    }
    Ok(files)
}

fn named<K: Resource<DynamicType = ()> + Serialize>(kind: &str, object: &K) -> Result<(String, Value)> {
    let value = serde_json::to_value(object).with_context(|| format!("reading a {kind}"))?;
    Ok((format!("{}/{}.yaml", kind.to_lowercase(), object.name_any()), value))
}

/// Events about the app and its children; an error in their place does not end the report.
async fn events(cluster: &Cluster, name: &str) -> Value {
    let api: Api<Event> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let ours = |event: &Event| {
        let about = event.involved_object.name.as_deref().unwrap_or_default();
        about == name || about.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'))
    };
    match api.list(&ListParams::default()).await {
        Ok(list) => {
            let events: Vec<Event> = list.items.into_iter().filter(ours).collect();
            serde_json::to_value(events).unwrap_or_default()
        }
        Err(error) => Value::String(format!("events could not be read: {error}")),
    }
}

/// What the operator logged about the app; why not, where that cannot be read.
async fn operator_log(cluster: &Cluster, name: &str) -> String {
    let api: Api<Deployment> = Api::all(cluster.client.clone());
    let operators = match api.list(&ListParams::default().labels(OPERATOR)).await {
        Ok(list) => list.items,
        Err(error) => return format!("the operator was not looked for: {error}"),
    };
    let mut log = String::new();
    for operator in operators {
        let mut place = cluster.clone();
        place.namespace = operator.namespace().unwrap_or_default();
        let mut command = place.kubectl();
        command.args(["logs", "--prefix", LOG_LINES, "--selector", OPERATOR]);
        let said = captured(command).await.unwrap_or_else(|error| format!("{error:#}"));
        log.extend(["# ", &place.namespace, "/", &operator.name_any(), "\n"]);
        log.push_str(&about(&said, &cluster.namespace, name));
    }
    if log.is_empty() { format!("no Deployment is labelled {OPERATOR}") } else { log }
}

/// What containers said stays in the cluster.
fn without_logs(snapshot: &Snapshot) -> Snapshot {
    let mut quiet = snapshot.clone();
    let app = Arc::make_mut(&mut quiet.app);
    app.spec.migrations.log_tail = LogTail::Omit;
    if let Some(migration) = app.status.as_mut().and_then(|status| status.migration.as_mut()) {
        migration.log_tail.clear();
    }
    quiet
}

/// PURE. Lines that name the app, and those that name none: errors of watches, starts and stops.
fn about(log: &str, namespace: &str, name: &str) -> String {
    let ours = |line: &&str| {
        let of_an_app = line.contains("\"app\":") || line.contains("app=");
        let says = |key: &str, value: &str| {
            [format!("\"{key}\":\"{value}\""), format!("{key}=\"{value}\""), format!("{key}={value} ")]
                .iter()
                .any(|text| line.contains(text))
        };
        !of_an_app || (says("app", name) && says("namespace", namespace))
    };
    log.lines().filter(ours).fold(String::new(), |all, line| all + line + "\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::phx::tests::scene;

    #[test]
    fn everything_is_in_it_but_what_is_secret() {
        let mut scene = scene::canary_paused().0;
        let app = std::sync::Arc::make_mut(&mut scene.app);
        app.spec.env = serde_json::from_value(json!([{"name": "API_KEY", "value": "topsecret"}])).unwrap();
        let events = json!([{"message": "env API_KEY=topsecret"}]);
        let files = contents(
            &Gathered { snapshot: scene, unread: Vec::new() },
            events,
            "the operator saw topsecret",
            "v1.36",
        )
        .unwrap();
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        for wanted in [
            "explain.txt",
            "status.txt",
            "operator.log",
            "phoenixapp/shop.yaml",
            "service/shop.yaml",
            "events.yaml",
        ] {
            assert!(names.contains(&wanted), "{wanted} is not in {names:?}");
        }
        assert_eq!(names.iter().filter(|name| name.starts_with("pod/")).count(), 4);
        assert!(files.iter().all(|(_, content)| !content.contains("topsecret")));
        assert!(files.iter().any(|(_, content)| content.contains("API_KEY")));
    }

    #[test]
    fn lines_about_other_apps_stay_out() {
        let log = "{\"span\":{\"app\":\"shop\",\"namespace\":\"prod\"}}\n{\"span\":{\"app\":\"blog\",\"namespace\":\"prod\"}}\nwatch closed";
        assert_eq!(about(log, "prod", "shop").lines().count(), 2);
        let admin = "{\"span\":{\"app\":\"shop-admin\",\"namespace\":\"prod\"}}";
        assert!(about(admin, "prod", "shop").is_empty());
    }
}
