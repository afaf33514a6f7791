//! The floor: a raw client that writes what the operator would write, as fast as the API server takes it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, ListParams, PostParams};
use kube::{Api, Client};
use phoenix_operator::api::{Phase, PhoenixApp, PhoenixAppStatus, labels};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::contest::make_homes;
use super::events::Events;
use super::program;
use super::work::{self, Change, IN_FLIGHT, Object};
use crate::fixtures::image;

/// Writes the objects of so many apps and waits until all Deployments are available.
pub async fn objects(client: &Client, namespace: &str, apps: usize) -> Result<Duration> {
    make_homes(client, namespace, apps).await?;
    let mut objects = Vec::new();
    for number in 0..apps {
        let children = work::children(app(number), namespace, None)?;
        // Nobody looks after them: their owner is not there.
        objects.extend(work::objects(children)?.into_iter().map(work::Object::alone));
    }
    let writing = {
        let (client, namespace) = (client.clone(), namespace.to_owned());
        async move { work::create(&client, &namespace, objects).await }
    };
    until_all(client, namespace, apps, is_available, writing).await
}

/// Gives all those Deployments another image, one patch each, and waits until all have rolled over to it by themselves.
pub async fn update(client: &Client, namespace: &str, apps: usize) -> Result<Duration> {
    let resource = ApiResource::erase::<Deployment>(&());
    let deployments: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let made = deployments.list(&ListParams::default()).await.context("listing Deployments")?;
    let is_ours = |one: &DynamicObject| {
        one.metadata.namespace.as_deref().is_some_and(|there| work::is_home(namespace, there))
    };
    let changes = made.into_iter().filter(is_ours).map(|deployment| {
        // A merge patch takes a list whole.
        let mut containers = deployment.data["spec"]["template"]["spec"]["containers"].clone();
        containers[0]["image"] = json!(image("v2"));
        let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
        (deployment.metadata.name.unwrap_or_default(), Change::Patch(patch))
    });
    let asking = work::ask(client.clone(), namespace.to_owned(), resource, changes.collect());
    until_all(client, namespace, apps, is_updated, async { asking.await.map(drop) }).await
}

/// Writes, and gives back how long it took until this held of all Deployments.
async fn until_all(
    client: &Client,
    namespace: &str,
    apps: usize,
    holds: fn(&Value) -> bool,
    writing: impl Future<Output = Result<()>> + Send + 'static,
) -> Result<Duration> {
    let mut events = Events::follow(client, namespace, &[ApiResource::erase::<Deployment>(&())]).await?;
    let began = Instant::now();
    let writing = tokio::spawn(writing);
    let mut done = HashSet::new();
    let what = format!("{apps} Deployments");
    let all = events.until(&what, work::patience(apps), |event| {
        if holds(&event.object) {
            done.insert(event.name.clone());
        }
        (done.len() == apps).then_some(event.at)
    });
    let writing = async { writing.await.context("a task ended in disorder")? };
    let (last, ()) = tokio::try_join!(all, writing)?;
    Ok(last - began)
}

/// What the floor took with the apps and their statuses.
#[derive(Clone, Copy, Debug)]
pub struct Whole {
    /// From the first request until the last was answered.
    pub took: Duration,
    /// CPU seconds of this process.
    pub cpu: f64,
    /// Requests that write.
    pub writes: usize,
}

/// The same with the apps themselves, and two writes of each status: one before its objects, one when it is available.
pub async fn with_status(client: &Client, namespace: &str, apps: usize) -> Result<Whole> {
    make_homes(client, namespace, apps).await?;
    let mut all = Vec::new();
    let mut count = 0;
    for number in 0..apps {
        let children = work::children(app(number), namespace, None)?;
        let objects = work::objects(children)?;
        // The app, two of its statuses, its objects.
        count += 1 + 2 + objects.len();
        all.push((number, objects));
    }
    let mut events = Events::follow(client, namespace, &[ApiResource::erase::<Deployment>(&())]).await?;
    let writer = Arc::new(Writer {
        client: client.clone(),
        namespace: namespace.to_owned(),
        turns: Semaphore::new(IN_FLIGHT),
    });
    let cpu = program::cpu("self")?;
    let began = Instant::now();
    let (tell, mut told) = unbounded_channel();
    let mut writing = {
        let writer = Arc::clone(&writer);
        tokio::spawn(async move {
            let one = |(number, objects)| writer.begin(number, objects, &tell);
            stream::iter(all).map(one).buffer_unordered(IN_FLIGHT).try_collect::<()>().await
        })
    };
    // An app is done when its Deployment is available and it is known what was made of it, in whatever order.
    let (mut made, mut available, mut written) = (HashMap::new(), HashSet::new(), false);
    let deadline = began + work::patience(apps);
    let mut ending = JoinSet::new();
    while ending.len() < apps {
        let name = tokio::select! {
            // What it is refused ends it at once.
            ended = &mut writing, if !written => {
                ended.context("a task ended in disorder")??;
                written = true;
                continue;
            }
            Some((name, app)) = told.recv() => {
                made.insert(name.clone(), app);
                name
            }
            event = events.next(deadline, "Deployments to be available") => {
                let event = event?;
                if is_available(&event.object) {
                    available.insert(app_of(&event.object));
                }
                app_of(&event.object)
            }
        };
        if available.contains(&name)
            && let Some(app) = made.remove(&name)
        {
            let writer = Arc::clone(&writer);
            ending.spawn(async move { writer.end(&name, app).await });
        }
    }
    while let Some(ended) = ending.join_next().await {
        ended.context("a task ended in disorder")??;
    }
    let took = began.elapsed();
    Ok(Whole { took, cpu: program::cpu("self")? - cpu, writes: count })
}

struct Writer {
    client: Client,
    namespace: String,
    turns: Semaphore,
}

impl Writer {
    fn apps(&self, name: &str) -> Api<PhoenixApp> {
        Api::namespaced(self.client.clone(), &work::home(&self.namespace, name))
    }

    /// The app, its first status, its objects: one after the other.
    async fn begin(
        &self,
        number: usize,
        objects: Vec<Object>,
        tell: &UnboundedSender<(String, PhoenixApp)>,
    ) -> Result<()> {
        let _turn = self.turns.acquire().await;
        let name = work::name(number);
        let app: PhoenixApp = serde_json::from_value(app(number))?;
        let mut made =
            self.apps(&name).create(&PostParams::default(), &app).await.context("creating an app")?;
        made.status = Some(status(Phase::RollingOut, None));
        let made = self.apps(&name).replace_status(&name, &PostParams::default(), &made).await;
        let made = made.context("writing a status")?;
        for mut object in objects {
            object.belong_to(made.metadata.uid.as_deref().unwrap_or_default());
            object.create(&self.client, &self.namespace).await?;
        }
        // Nobody listens any more: another has failed.
        let _ = tell.send((name, made));
        Ok(())
    }

    /// The last status.
    async fn end(&self, name: &str, mut app: PhoenixApp) -> Result<()> {
        let _turn = self.turns.acquire().await;
        app.status = Some(status(Phase::Healthy, Some(name)));
        let ended = self.apps(name).replace_status(name, &PostParams::default(), &app).await;
        ended.map(drop).context("writing a status")
    }
}

/// The app of a Deployment.
fn app_of(deployment: &Value) -> String {
    crate::fixtures::label(deployment, labels::APP).to_owned()
}

fn app(number: usize) -> Value {
    work::phoenix_app(&work::name(number), "v1", &json!({}))
}

/// A status of the usual length.
fn status(phase: Phase, stable: Option<&str>) -> PhoenixAppStatus {
    let condition = |kind: &str| Condition {
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
        message: "what is waited for, since when, and what is wrong with the worst pod".to_owned(),
        observed_generation: Some(1),
        reason: format!("{phase:?}"),
        status: "False".to_owned(),
        type_: kind.to_owned(),
    };
    PhoenixAppStatus {
        observed_generation: 1,
        phase: Some(phase),
        message: "what is waited for, since when, and what is wrong with the worst pod".to_owned(),
        replicas: work::REPLICAS,
        stable: stable.map(str::to_owned),
        attempt: 1,
        conditions: [
            "Ready",
            "Reconciling",
            "Stalled",
            "Available",
            "Migrated",
            "PodsReady",
            "TrafficShifted",
        ]
        .map(condition)
        .into(),
        ..PhoenixAppStatus::default()
    }
}

/// It has rolled over to the image that [`update`] gives it.
fn is_updated(deployment: &Value) -> bool {
    let Value::Object(status) = &deployment["status"] else { return false };
    let containers = &deployment["spec"]["template"]["spec"]["containers"];
    containers[0]["image"] == image("v2")
        && status.get("observedGeneration") == Some(&deployment["metadata"]["generation"])
        && ["replicas", "updatedReplicas", "availableReplicas"]
            .iter()
            .all(|count| status.get(*count) == Some(&json!(work::REPLICAS)))
}

fn is_available(deployment: &Value) -> bool {
    deployment["status"]["availableReplicas"] == work::REPLICAS
}
