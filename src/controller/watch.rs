//! One watch: list, then follow, for ever; into a cache, and out as the names of the apps concerned.
//!
//! Written out rather than taken from `kube::runtime::watcher`, which hides two things that are needed here: up to
//! which `resourceVersion` a cache is current (lists and bookmarks tell), and whether the watch is open.

use std::{
    collections::BTreeSet,
    future::Future,
    marker::PhantomData,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt as _, stream::BoxStream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Client, Resource,
    api::{ListParams, ObjectList, WatchEvent, WatchParams},
    core::{PartialObjectMeta, Request, watch::BookmarkMeta},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::mpsc::UnboundedSender;

use super::{
    backoff::jitter,
    cache::{AppKey, Cache, Concerned, Listed, number},
    errors::{Call, CallError, Verdict},
    guarded::{Invalid, Read, Sent},
    health::{Down, Gauge},
    kind::Kind,
};
use crate::telemetry::Metrics;

/// Seconds after which the API server ends a watch.
const WATCH_SECONDS: u32 = 290;
/// Without an event, a bookmark or the end of the watch for this long, the connection may be dead, and another is opened.
/// Bookmarks come about once a minute, but not of a kind of which nothing has happened since the API server started.
const SILENCE: Duration = Duration::from_secs(130);
/// Objects per page of a list: all of a page is in memory at once, as text and as what comes of it.
const PAGE: u32 = 100;
/// On the bookmark after the last object that was there when a watch began.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";
/// Waits after failures, as client-go's reflector has them.
const FIRST_WAIT: Duration = Duration::from_millis(800);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How often a kind is looked for that the cluster does not know.
const ABSENT_WAIT: Duration = Duration::from_secs(20);

/// Whether anything asks for a kind that the cluster does not know.
pub type Needed = Box<dyn Fn() -> bool + Send + Sync>;

/// Events of a watch.
type Events = BoxStream<'static, kube::Result<WatchEvent<Sent>>>;

/// What is listed and watched.
pub struct Source<K> {
    client: Client,
    url: String,
    /// Nothing else of them is asked for.
    only_metadata: bool,
    kind: PhantomData<fn() -> K>,
}

impl<K: Resource<DynamicType = ()> + Clone + DeserializeOwned + 'static> Source<K> {
    /// Objects of a namespace, or of all.
    pub fn new(client: Client, namespace: Option<&str>) -> Self {
        Self { client, url: K::url_path(&(), namespace), only_metadata: false, kind: PhantomData }
    }

    async fn list(&self, params: &ListParams) -> kube::Result<ObjectList<Sent>> {
        let request = Request::new(self.url.as_str());
        let request = if self.only_metadata { request.list_metadata(params) } else { request.list(params) };
        self.client.request(request.map_err(kube::Error::BuildRequest)?).await
    }

    async fn watch(&self, params: &WatchParams, version: &str) -> kube::Result<Events> {
        let request = Request::new(self.url.as_str());
        let request = if self.only_metadata {
            request.watch_metadata(params, version)
        } else {
            request.watch(params, version)
        };
        let request = request.map_err(kube::Error::BuildRequest)?;
        Ok(self.client.request_events(request).await?.boxed())
    }
}

impl<K: Resource<DynamicType = ()> + Clone + DeserializeOwned + 'static> Source<PartialObjectMeta<K>> {
    /// The metadata of objects of a namespace, or of all.
    pub fn metadata(client: Client, namespace: Option<&str>) -> Self {
        Self { only_metadata: true, ..Self::new(client, namespace) }
    }
}

/// What a watch tells the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Something of this app has changed.
    Changed(AppKey),
    /// A cache has moved on without a change that matters to this app, which may go on if it waits for that.
    Seen(AppKey),
    /// A cache has moved on without a change: apps that wait for it may go on.
    Current,
    /// A watch is open (again), or is not any more: every app is to be looked at.
    Watches,
    /// An object cannot be read.
    Unreadable(Unreadable),
}

/// An object that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace and name.
    pub key: AppKey,
    /// Its UID.
    pub uid: String,
    /// What is wrong with it.
    pub error: String,
}

/// A watch to be run.
pub struct Watch<K> {
    /// Of what.
    pub source: Source<K>,
    /// Which objects.
    pub selector: Option<String>,
    /// Where they are kept.
    pub cache: Arc<Cache<K>>,
    /// Reads what is needed of them.
    pub read: Read<K>,
    /// Longest wait for a list, or for a watch to open.
    pub timeout: Duration,
    /// How it stands.
    pub gauge: Gauge,
    /// Where news goes.
    pub news: UnboundedSender<News>,
    /// Counts failures.
    pub metrics: Metrics,
    /// Set for a kind that the cluster need not know.
    pub optional: Option<Needed>,
}

/// What an event of a watch tells.
enum Told<K> {
    /// An object, as it is now.
    There(K),
    /// One is gone, or cannot be read.
    Gone(Box<ObjectMeta>),
    /// All up to a version has been told.
    Until(BookmarkMeta),
}

/// Why a watch ended.
enum End {
    /// The API server ended it in good order.
    Closed,
    /// It has to begin with a list again.
    Expired,
}

impl<K> Watch<K>
where
    K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// Runs until it is dropped.
    pub async fn run(self) {
        let mut wait = FIRST_WAIT;
        loop {
            let began = Instant::now();
            if let Err(error) = self.list_and_follow().await {
                if let Some(needed) = self.optional.as_ref().filter(|_| is_unknown(&error)) {
                    self.absent();
                    wait = FIRST_WAIT;
                    loop {
                        tokio::time::sleep(ABSENT_WAIT.mul_f64(1.0 + jitter())).await;
                        if needed() {
                            break;
                        }
                    }
                    continue;
                }
                self.down(&error);
                if began.elapsed() > LONGEST_WAIT {
                    wait = FIRST_WAIT;
                }
                tokio::time::sleep(wait.mul_f64(1.0 + jitter())).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }

    /// Reads everything, then watches until that is needed again.
    async fn list_and_follow(&self) -> Result<(), CallError> {
        let (mut version, mut events) = match self.stream().await {
            Err(error) if error.is_invalid() => (self.list().await?, None),
            begun => begun.map(|(version, events)| (version, Some(events)))?,
        };
        let mut wait = FIRST_WAIT;
        loop {
            let began = Instant::now();
            match self.follow(&mut version, events.take()).await {
                Ok(End::Closed) if began.elapsed() > Duration::from_secs(1) => wait = FIRST_WAIT,
                Ok(End::Closed) => {
                    // Closed at once, again and again: not a state to hurry in.
                    tokio::time::sleep(wait.mul_f64(1.0 + jitter())).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
                Ok(End::Expired) => {
                    tracing::info!(kind = %Self::kind(), "the watch expired; listing again");
                    return Ok(());
                }
                Err(error) if self.optional.is_some() && is_unknown(&error) => return Err(error),
                Err(error) => {
                    self.down(&error);
                    if began.elapsed() > LONGEST_WAIT {
                        wait = FIRST_WAIT;
                    }
                    tokio::time::sleep(wait.mul_f64(1.0 + jitter())).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }

    /// The cluster does not know the kind: there is nothing of it, and nothing else waits for it.
    fn absent(&self) {
        self.tell(self.cache.replace(Listed::default(), u64::MAX));
        if self.gauge.absent() {
            self.send(News::Watches);
        }
    }

    /// Reads everything, as it is now, by a watch that begins with it, and returns its version and what follows.
    ///
    /// The API server sends it out of its own cache, where pages of a list of custom resources are read anew out of its
    /// store, all but the first. It can from Kubernetes 1.34 on (KEP-3157), or calls the request invalid.
    async fn stream(&self) -> Result<(String, Events), CallError> {
        let params = WatchParams { send_initial_events: true, ..self.params() };
        let mut events = self.timed("watch", self.source.watch(&params, "")).await?;
        let mut list = Listed::default();
        loop {
            let Some(told) = self.told(&mut events).await? else {
                let cut_short = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                return Err(CallError::of(self.call("watch"), kube::Error::ReadEvents(cut_short)));
            };
            match told {
                Told::There(object) => self.cache.add(&mut list, object),
                Told::Gone(meta) => self.cache.strike(&mut list, &meta),
                Told::Until(bookmark) if bookmark.annotations.contains_key(INITIAL_EVENTS_END) => {
                    let version = bookmark.resource_version;
                    self.listed(list, &version);
                    return Ok((version, events));
                }
                Told::Until(_) => {}
            }
        }
    }

    /// Reads everything, as it is now, page by page, and returns its version.
    async fn list(&self) -> Result<String, CallError> {
        let mut params =
            ListParams { label_selector: self.selector.clone(), limit: Some(PAGE), ..ListParams::default() };
        let mut list = Listed::default();
        let version = loop {
            let page = self.timed("list", self.source.list(&params)).await?;
            for object in page.items {
                let object = self.readable(&object).map_err(|error| self.garbled("list", error))?;
                if let Ok(object) = object {
                    self.cache.add(&mut list, object);
                }
            }
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                break page.metadata.resource_version.unwrap_or_default();
            }
        };
        self.listed(list, &version);
        Ok(version)
    }

    /// All that there is has been read.
    fn listed(&self, list: Listed<K>, version: &str) {
        let changed = self.cache.replace(list, number(version));
        self.gauge.synced();
        self.tell(changed);
        self.send(News::Current);
    }

    fn params(&self) -> WatchParams {
        WatchParams {
            label_selector: self.selector.clone(),
            timeout: Some(WATCH_SECONDS),
            bookmarks: true,
            ..WatchParams::default()
        }
    }

    /// Follows changes from `version` on, in a watch that is opened unless it is already.
    async fn follow(&self, version: &mut String, open: Option<Events>) -> Result<End, CallError> {
        let mut events = match open {
            Some(events) => events,
            None => match self.timed("watch", self.source.watch(&self.params(), version)).await {
                Err(error) if is_gone(&error) => return Ok(End::Expired),
                events => events?,
            },
        };
        if self.gauge.up() {
            self.send(News::Watches);
        }
        loop {
            let told = match self.told(&mut events).await {
                Err(error) if is_gone(&error) => return Ok(End::Expired),
                told => told?,
            };
            let Some(told) = told else { return Ok(End::Closed) };
            match told {
                Told::There(object) => {
                    keep(version, object.meta());
                    let Concerned { changed, seen } = self.cache.apply(object);
                    self.tell(changed);
                    if let Some(app) = seen {
                        self.send(News::Seen(app));
                    }
                }
                Told::Gone(meta) => {
                    keep(version, &meta);
                    self.tell(self.cache.delete(&meta));
                }
                Told::Until(bookmark) => {
                    version.clone_from(&bookmark.resource_version);
                    self.cache.bookmark(number(version));
                    self.send(News::Current);
                }
            }
        }
    }

    /// What the next event tells, of which an error is one; none when the watch has ended, or may have unnoticed.
    async fn told(&self, events: &mut Events) -> Result<Option<Told<K>>, CallError> {
        let Some(event) = self.next(events).await? else { return Ok(None) };
        let garbled = |error| self.garbled("watch", error);
        Ok(Some(match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                self.readable(&object).map_err(garbled)?.map_or_else(Told::Gone, Told::There)
            }
            WatchEvent::Deleted(object) => Told::Gone(Box::new(object.meta().map_err(garbled)?)),
            WatchEvent::Bookmark(bookmark) => Told::Until(bookmark.metadata),
            WatchEvent::Error(status) => {
                return Err(CallError::Refused { call: self.call("watch"), status });
            }
        }))
    }

    async fn next<T>(
        &self,
        events: &mut (impl Stream<Item = kube::Result<T>> + Unpin),
    ) -> Result<Option<T>, CallError> {
        let event = tokio::time::timeout(SILENCE, events.next()).await.ok().flatten();
        event.transpose().map_err(|error| CallError::of(self.call("watch"), error))
    }

    /// The object, unless it cannot be read; then people are told, and its metadata is given back. Errors when it has none.
    fn readable(&self, object: &Sent) -> serde_json::Result<Result<K, Box<ObjectMeta>>> {
        Ok(match object.read(self.read)? {
            Ok(mut object) => {
                let meta = object.meta_mut();
                meta.managed_fields = None;
                if let Some(annotations) = meta.annotations.as_mut() {
                    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
                }
                Ok(object)
            }
            Err(invalid) => {
                let Invalid { metadata, error } = *invalid;
                let key = AppKey {
                    namespace: metadata.namespace.clone().unwrap_or_default(),
                    name: metadata.name.clone().unwrap_or_default(),
                };
                let uid = metadata.uid.clone().unwrap_or_default();
                self.send(News::Unreadable(Unreadable { kind: Self::kind(), key, uid, error }));
                Err(Box::new(metadata))
            }
        })
    }

    fn garbled(&self, verb: &'static str, error: serde_json::Error) -> CallError {
        CallError::of(self.call(verb), kube::Error::SerdeError(error))
    }

    fn down(&self, error: &CallError) {
        tracing::warn!(kind = %Self::kind(), %error, "a watch failed; trying again");
        self.metrics.watch_failed(Self::kind().as_str());
        let fault = match error.verdict() {
            Verdict::Fault(fault) => Some(fault),
            _ => None,
        };
        if self.gauge.down(Down { why: error.to_string(), fault }) {
            self.send(News::Watches);
        }
    }

    fn tell(&self, changed: BTreeSet<AppKey>) {
        for app in changed {
            self.send(News::Changed(app));
        }
    }

    fn send(&self, news: News) {
        // The driver is gone only when everything stops.
        let _ = self.news.send(news);
    }

    fn kind() -> Kind {
        Kind::of::<K>()
    }

    fn call(&self, verb: &'static str) -> Call {
        let namespace = self.gauge.namespace().unwrap_or("*").to_owned();
        Call { verb, kind: Self::kind(), namespace, name: "*".to_owned() }
    }

    async fn timed<T>(
        &self,
        verb: &'static str,
        answer: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, CallError> {
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(CallError::of(self.call(verb), error)),
            Err(_) => Err(CallError::Timeout { call: self.call(verb), after: self.timeout }),
        }
    }
}

fn is_gone(error: &CallError) -> bool {
    matches!(error, CallError::Refused { status, .. } if status.code == 410)
}

/// The kind is not known: the answer to a list or a watch, which never asks for one object.
fn is_unknown(error: &CallError) -> bool {
    matches!(error, CallError::Refused { status, .. } if status.code == 404)
}

fn keep(version: &mut String, newer: &ObjectMeta) {
    if let Some(newer) = &newer.resource_version {
        version.clone_from(newer);
    }
}
