//! Everything that happens to the objects of a namespace, in the order the API server tells it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::watcher;
use kube::{Api, Client};
use phoenix_operator::api::PhoenixAppStatus;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What is watched: group, version, kind, plural.
const KINDS: [(&str, &str, &str, &str); 11] = [
    ("phoenix-operator.dev", "v1alpha1", "PhoenixApp", "phoenixapps"),
    ("apps", "v1", "ControllerRevision", "controllerrevisions"),
    ("apps", "v1", "Deployment", "deployments"),
    ("batch", "v1", "Job", "jobs"),
    ("", "v1", "Pod", "pods"),
    ("", "v1", "Service", "services"),
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
    ("", "v1", "Secret", "secrets"),
    ("", "v1", "ConfigMap", "configmaps"),
    ("", "v1", "ServiceAccount", "serviceaccounts"),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
];

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is there, new or changed.
    Applied,
    /// It is gone.
    Deleted,
}

/// One change of one object.
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened.
    pub change: Change,
    /// Kind of the object.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The store's revision at which it was written. All kinds count on one counter (etcd's), so it tells
    /// which of two writes came first whatever they wrote.
    pub revision: u64,
    /// When it was heard of.
    pub at: std::time::Instant,
    /// The object.
    pub object: Value,
}

/// What is known by now.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Every change, in the order it was heard of.
    pub events: Vec<Event>,
    /// The objects that are there, by kind and name.
    pub objects: BTreeMap<(String, String), Value>,
    /// Kinds whose first list has come in.
    listed: usize,
}

impl Seen {
    /// The object of that kind and name, if it is there.
    pub fn get(&self, kind: &str, name: &str) -> Option<&Value> {
        self.objects.get(&(kind.to_owned(), name.to_owned()))
    }

    /// Every object of a kind.
    pub fn all<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |((of, _), _)| of == kind).map(|(_, object)| object)
    }

    /// The status of an app, if it has one that can be read.
    pub fn status(&self, app: &str) -> Option<PhoenixAppStatus> {
        serde_json::from_value(self.get("PhoenixApp", app)?.get("status")?.clone()).ok()
    }

    /// Every change of the objects of a kind.
    pub fn history<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Event> {
        self.events.iter().filter(move |event| event.kind == kind)
    }
}

/// The record of a namespace. Dropped, it stops.
#[derive(Debug)]
pub struct Record {
    seen: Arc<Mutex<Seen>>,
    news: watch::Receiver<()>,
    _watches: JoinSet<()>,
}

impl Record {
    /// Starts to record; returns when all that is there already is known.
    pub async fn start(client: &Client, namespace: &str) -> Result<Self> {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (send, news) = watch::channel(());
        let send = Arc::new(send);
        let mut watches = JoinSet::new();
        for (group, version, kind, plural) in KINDS {
            let resource = resource(group, version, kind, plural);
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
            let (seen, send) = (Arc::clone(&seen), Arc::clone(&send));
            watches.spawn(async move { follow(api, kind, &seen, &send).await });
        }
        let record = Self { seen, news, _watches: watches };
        let listed = |seen: &Seen| (seen.listed >= KINDS.len()).then_some(());
        record.until(Duration::from_secs(30), listed).await?.context("the first lists did not come in")?;
        Ok(record)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at what is known by now.
    pub fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.lock())
    }

    /// Waits until something is found; looks again at each change. None: not found in time.
    pub async fn until<T>(
        &self,
        within: Duration,
        mut found: impl FnMut(&Seen) -> Option<T>,
    ) -> Result<Option<T>> {
        let deadline = tokio::time::Instant::now() + within;
        let mut news = self.news.clone();
        loop {
            news.borrow_and_update();
            if let Some(value) = found(&self.lock()) {
                return Ok(Some(value));
            }
            match tokio::time::timeout_at(deadline, news.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => bail!("the record has ended"),
                Err(_) => return Ok(None),
            }
        }
    }
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version,
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

async fn follow(api: Api<DynamicObject>, kind: &str, seen: &Mutex<Seen>, news: &watch::Sender<()>) {
    let mut stream = std::pin::pin!(watcher(api, watcher::Config::default()));
    while let Some(event) = stream.next().await {
        {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match event {
                Ok(watcher::Event::Init) => {}
                Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
                    note(&mut seen, Change::Applied, kind, &object);
                }
                Ok(watcher::Event::Delete(object)) => note(&mut seen, Change::Deleted, kind, &object),
                Ok(watcher::Event::InitDone) => seen.listed += 1,
                // The watcher begins anew by itself.
                Err(error) => eprintln!("e2e: watching {kind}: {error}"),
            }
        }
        news.send_replace(());
    }
}

fn note(seen: &mut Seen, change: Change, kind: &str, object: &DynamicObject) {
    let name = object.metadata.name.clone().unwrap_or_default();
    let version = object.metadata.resource_version.as_deref().unwrap_or_default();
    let revision = version.parse().unwrap_or_default();
    let mut object = serde_json::to_value(object).unwrap_or_default();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    let key = (kind.to_owned(), name.clone());
    if change == Change::Applied {
        if seen.objects.get(&key) == Some(&object) {
            return;
        }
        seen.objects.insert(key, object.clone());
    } else {
        seen.objects.remove(&key);
    }
    let at = std::time::Instant::now();
    seen.events.push(Event { change, kind: kind.to_owned(), name, revision, at, object });
}
