//! What the user does: apps of the same size for everyone, and many writes at a time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use phoenix_operator::api::{PhoenixApp, ValidatedApp};
use phoenix_operator::build::{self, Children, Settings};
use phoenix_operator::cli::admission;
use serde::Serialize;
use serde_json::{Value, json};

use crate::fixtures::image;

/// Requests of the user that are under way at the same time.
pub const IN_FLIGHT: usize = 32;
/// Pods of each app.
pub const REPLICAS: i32 = 2;
/// The step that every canary makes, in percent.
pub const WEIGHT: u32 = 50;
/// How long it stands there, in seconds.
pub const PAUSE: u32 = 5;

/// Apps in one namespace: the controllers of Kubernetes look through all Services and budgets of a pod's namespace.
pub const NEIGHBOURS: usize = 500;

/// The name of an app.
pub fn name(number: usize) -> String {
    format!("shop-{number}")
}

/// The name of an app that comes and goes.
pub fn passing(number: usize) -> String {
    format!("guest-{number}")
}

/// The namespace of an app or of a child of it, of those that begin with this one.
pub fn home(first: &str, name: &str) -> String {
    let number = name.strip_prefix("shop-").and_then(|rest| rest.split('-').next()?.parse::<usize>().ok());
    match number.unwrap_or_default() / NEIGHBOURS {
        0 => first.to_owned(),
        block => format!("{first}-{block}"),
    }
}

/// The namespaces of so many apps.
pub fn homes(first: &str, apps: usize) -> Vec<String> {
    (0..apps.max(1)).step_by(NEIGHBOURS).map(|number| home(first, &name(number))).collect()
}

/// Whether a namespace is one of those that begin with this one.
pub fn is_home(first: &str, namespace: &str) -> bool {
    let block = |rest: &str| rest.strip_prefix('-').is_some_and(|number| number.parse::<usize>().is_ok());
    namespace.strip_prefix(first).is_some_and(|rest| rest.is_empty() || block(rest))
}

/// The `PhoenixApp` of that name, whose spec has these fields besides.
pub fn phoenix_app(name: &str, tag: &str, fields: &Value) -> Value {
    let spec = crate::fixtures::with(json!({"image": image(tag), "replicas": REPLICAS}), fields);
    json!({
        "apiVersion": "phoenix-operator.dev/v1alpha1", "kind": "PhoenixApp",
        "metadata": {"name": name}, "spec": spec,
    })
}

/// What the operator makes of an app, in its namespace of those that begin with this one.
pub fn children(mut app: Value, first: &str, uid: Option<&str>) -> Result<Children> {
    app["metadata"]["namespace"] = json!(home(first, app["metadata"]["name"].as_str().unwrap_or_default()));
    if let Some(uid) = uid {
        app["metadata"]["uid"] = json!(uid);
    }
    let app: ValidatedApp =
        admission::admit(app).map_err(|faults| anyhow!("the app is invalid: {faults:?}"))?;
    let revision = app.canonical.name_for(|_| false).context("no name is free for the revision")?;
    let settings = Settings::default();
    let revision = build::render(&app, &revision, &settings);
    Ok(build::children(&app, &revision, &settings, &mut |bytes| bytes.fill(7)))
}

/// An object to be made.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its kind.
    pub resource: ApiResource,
    /// All of it.
    pub manifest: Value,
}

impl Object {
    /// Of a known kind.
    pub fn of<K: Resource<DynamicType = ()> + Serialize>(object: &K) -> Result<Self> {
        let mut manifest = serde_json::to_value(object).context("writing an object as JSON")?;
        let resource = ApiResource::erase::<K>(&());
        manifest["apiVersion"] = json!(resource.api_version);
        manifest["kind"] = json!(resource.kind);
        Ok(Self { resource, manifest })
    }

    /// Belonging to nobody, so that it is not collected as garbage.
    pub fn alone(mut self) -> Self {
        if let Some(metadata) = self.manifest["metadata"].as_object_mut() {
            metadata.remove("ownerReferences");
        }
        self
    }

    /// Belonging to the app with that UID, unless it outlives its app, as the generated Secret does.
    pub fn belong_to(&mut self, uid: &str) {
        if let Some(owners) = self.manifest["metadata"]["ownerReferences"].as_array_mut() {
            for owner in owners {
                owner["uid"] = json!(uid);
            }
        }
    }

    /// Makes it.
    pub async fn create(&self, client: &Client, first: &str) -> Result<DynamicObject> {
        let namespace = home(first, self.manifest["metadata"]["name"].as_str().unwrap_or_default());
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &self.resource);
        let object: DynamicObject = serde_json::from_value(self.manifest.clone())?;
        let made = api.create(&PostParams::default(), &object).await;
        made.with_context(|| {
            format!("creating {} {}", self.resource.kind, object.metadata.name.unwrap_or_default())
        })
    }
}

/// The objects of an app without migrations. Errors when it has others than every app has.
pub fn objects(children: Children) -> Result<Vec<Object>> {
    let Children {
        service_account,
        peers_binding: None,
        generated_secret,
        controller_revision,
        defaults,
        active_service,
        headless_service,
        migration_jobs,
        deployment,
        workers,
        pod_disruption_budget: Some(budget),
        http_route: None,
        ingress: None,
    } = children
    else {
        anyhow::bail!("the app has other objects than the benchmark knows");
    };
    anyhow::ensure!(migration_jobs.is_empty() && workers.is_empty(), "the app has Jobs or workers");
    Ok(vec![
        Object::of(&service_account)?,
        Object::of(&generated_secret)?,
        Object::of(&defaults)?,
        Object::of(&headless_service)?,
        Object::of(&active_service)?,
        Object::of(&controller_revision)?,
        Object::of(&budget)?,
        Object::of(&deployment)?,
    ])
}

/// The resource itself.
pub fn phoenix_resource() -> ApiResource {
    ApiResource::erase::<PhoenixApp>(&())
}

/// Makes objects, [`IN_FLIGHT`] at a time.
pub async fn create(client: &Client, namespace: &str, objects: Vec<Object>) -> Result<()> {
    stream::iter(objects)
        .map(|object| async move { object.create(client, namespace).await.map(drop) })
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await
}

/// A change that the user makes of an object.
#[derive(Clone, Debug)]
pub enum Change {
    /// It is made.
    Create(Value),
    /// A merge patch.
    Patch(Value),
}

/// Makes changes of objects by name, [`IN_FLIGHT`] at a time; gives back when each was asked for.
pub async fn ask(
    client: Client,
    namespace: String,
    resource: ApiResource,
    changes: Vec<(String, Change)>,
) -> Result<Vec<(String, Instant)>> {
    let (client, namespace, resource) = (&client, &namespace, &resource);
    let one = |(name, change): (String, Change)| async move {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &home(namespace, &name), resource);
        let at = Instant::now();
        let answer = match change {
            Change::Create(manifest) => {
                let object: DynamicObject = serde_json::from_value(manifest)?;
                api.create(&PostParams::default(), &object).await
            }
            Change::Patch(patch) => api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await,
        };
        answer.with_context(|| format!("changing {name}"))?;
        Ok((name, at))
    };
    stream::iter(changes).map(one).buffer_unordered(IN_FLIGHT).try_collect().await
}

/// How long so many apps may take to be healthy.
pub fn patience(apps: usize) -> Duration {
    Duration::from_mins(5) + Duration::from_secs(1) * u32::try_from(apps).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_apps_live_in_several_namespaces() {
        assert_eq!(home("x", "shop-12-generated"), "x");
        assert_eq!(home("x", "shop-1250-7f3a9c1d2e-env"), "x-2");
        assert_eq!(home("x", &passing(1250)), "x");
        assert_eq!(homes("x", NEIGHBOURS), ["x"]);
        assert_eq!(homes("x", 2 * NEIGHBOURS + 1), ["x", "x-1", "x-2"]);
        assert!(homes("x", 2 * NEIGHBOURS).iter().all(|home| is_home("x", home)));
        assert!(["y", "xy", "x-", "x-before"].into_iter().all(|other| !is_home("x", other)));
    }

    #[test]
    fn an_app_has_its_objects() {
        let made = |fields| objects(children(phoenix_app("shop", "v1", &fields), "x", None).unwrap());
        let mut all = made(json!({})).unwrap();
        assert_eq!(all.last().unwrap().resource.kind, "Deployment");
        assert!(all.iter().all(|object| object.manifest["kind"] == object.resource.kind));
        for object in &mut all {
            object.belong_to("u");
        }
        let owner = |object: &Object| object.manifest["metadata"]["ownerReferences"][0]["uid"].clone();
        let orphans = all.iter().filter(|object| owner(object) != "u").map(|object| &object.resource.kind);
        assert_eq!(orphans.collect::<Vec<_>>(), ["Secret"]);
        let mut alone = all.into_iter().map(Object::alone);
        assert!(alone.all(|object| object.manifest["metadata"]["ownerReferences"].is_null()));
        assert!(made(json!({"migrations": {"mode": "Job"}})).is_err());
    }
}
