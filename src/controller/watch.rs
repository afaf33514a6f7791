//! One watch: list, then follow, for ever; into a cache, and out as the names of the apps concerned.
//!
//! Written out rather than taken from `kube::runtime::watcher`, which hides two things that are needed here: up to
//! which `resourceVersion` a cache is current (lists and bookmarks tell), and whether the watch is open.

use std::{
    collections::BTreeSet,
    future::Future,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream::BoxStream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Client, Resource,
    api::{ListParams, ObjectList, WatchEvent, WatchParams},
    core::{Request, watch::BookmarkMeta},
};
use tokio::sync::mpsc::UnboundedSender;

use super::{
    backoff::jitter,
    cache::{AppKey, Concerned, number},
    errors::{Call, CallError, Verdict},
    guarded::{Invalid, Sent},
    health::{Down, Gauge},
    kind::Kind,
    shelf::{Listing, Shelf},
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
pub struct Source {
    client: Client,
    url: String,
    /// Nothing else of them is asked for.
    only_metadata: bool,
}

impl Source {
    /// Objects of a namespace, or of all.
    pub fn new<K: Resource<DynamicType = ()>>(client: Client, namespace: Option<&str>) -> Self {
        Self { client, url: K::url_path(&(), namespace), only_metadata: K::metadata_api() }
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

/// A watch to be run. Its code is the same of all kinds, and there once: that of each would be resident, too.
pub struct Watch {
    /// Of what.
    pub source: Source,
    /// Which objects.
    pub selector: Option<String>,
    /// Where they are kept.
    pub shelf: Box<dyn Shelf>,
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
enum Told {
    /// An object, as it is now.
    There(Sent),
    /// One is gone.
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

impl Watch {
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
                    tracing::info!(kind = %self.shelf.kind(), "the watch expired; listing again");
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
        self.tell(self.shelf.list().done(u64::MAX));
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
        let mut list = self.shelf.list();
        loop {
            let Some(told) = self.told(&mut events).await? else {
                let cut_short = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                return Err(CallError::of(self.call("watch"), kube::Error::ReadEvents(cut_short)));
            };
            match told {
                Told::There(object) => {
                    self.note(&mut *list, &object).map_err(|error| self.garbled("watch", error))?;
                }
                Told::Gone(meta) => list.strike(&meta),
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
        let mut list = self.shelf.list();
        let version = loop {
            let page = self.timed("list", self.source.list(&params)).await?;
            for object in page.items {
                self.note(&mut *list, &object).map_err(|error| self.garbled("list", error))?;
            }
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                break page.metadata.resource_version.unwrap_or_default();
            }
        };
        self.listed(list, &version);
        Ok(version)
    }

    /// Puts an object on a list, in place of how it was there; not one that cannot be read, of which people are told.
    fn note(&self, list: &mut dyn Listing, object: &Sent) -> serde_json::Result<()> {
        if let Err(invalid) = list.add(object)? {
            list.strike(&invalid.metadata);
            self.unreadable(*invalid);
        }
        Ok(())
    }

    /// All that there is has been read.
    fn listed(&self, list: Box<dyn Listing>, version: &str) {
        let changed = list.done(number(version));
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
                    let applied = self.shelf.apply(&object).map_err(|error| self.garbled("watch", error))?;
                    let (newer, Concerned { changed, seen }) = applied.unwrap_or_else(|invalid| {
                        let changed = self.shelf.delete(&invalid.metadata);
                        let newer = invalid.metadata.resource_version.clone();
                        self.unreadable(*invalid);
                        (newer, Concerned { changed, seen: None })
                    });
                    keep(version, newer);
                    self.tell(changed);
                    if let Some(app) = seen {
                        self.send(News::Seen(app));
                    }
                }
                Told::Gone(meta) => {
                    self.tell(self.shelf.delete(&meta));
                    keep(version, meta.resource_version);
                }
                Told::Until(bookmark) => {
                    version.clone_from(&bookmark.resource_version);
                    self.shelf.bookmark(number(version));
                    self.send(News::Current);
                }
            }
        }
    }

    /// What the next event tells, of which an error is one; none when the watch has ended, or may have unnoticed.
    async fn told(&self, events: &mut Events) -> Result<Option<Told>, CallError> {
        let Some(event) = self.next(events).await? else { return Ok(None) };
        let garbled = |error| self.garbled("watch", error);
        Ok(Some(match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => Told::There(object),
            WatchEvent::Deleted(object) => Told::Gone(Box::new(object.meta().map_err(garbled)?)),
            WatchEvent::Bookmark(bookmark) => Told::Until(bookmark.metadata),
            WatchEvent::Error(status) => {
                return Err(CallError::Refused { call: self.call("watch"), status });
            }
        }))
    }

    async fn next(&self, events: &mut Events) -> Result<Option<WatchEvent<Sent>>, CallError> {
        let event = tokio::time::timeout(SILENCE, events.next()).await.ok().flatten();
        event.transpose().map_err(|error| CallError::of(self.call("watch"), error))
    }

    /// Tells people of an object that cannot be read.
    fn unreadable(&self, Invalid { metadata, error }: Invalid) {
        let ObjectMeta { namespace, name, uid, .. } = metadata;
        let key = AppKey { namespace: namespace.unwrap_or_default(), name: name.unwrap_or_default() };
        let kind = self.shelf.kind();
        self.send(News::Unreadable(Unreadable { kind, key, uid: uid.unwrap_or_default(), error }));
    }

    fn garbled(&self, verb: &'static str, error: serde_json::Error) -> CallError {
        CallError::of(self.call(verb), kube::Error::SerdeError(error))
    }

    fn down(&self, error: &CallError) {
        let kind = self.shelf.kind();
        tracing::warn!(%kind, %error, "a watch failed; trying again");
        self.metrics.watch_failed(kind.as_str());
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

    fn call(&self, verb: &'static str) -> Call {
        let namespace = self.gauge.namespace().unwrap_or("*").to_owned();
        Call { verb, kind: self.shelf.kind(), namespace, name: "*".to_owned() }
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

fn keep(version: &mut String, newer: Option<String>) {
    if let Some(newer) = newer {
        *version = newer;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::stream;
    use k8s_openapi::api::core::v1::ConfigMap;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;
    use crate::controller::{
        cache::{Cache, child},
        client,
        health::Health,
        lean::whole,
        shelf::Reader,
    };

    /// A watch that has nobody to ask, where it keeps what it is told, and what it tells.
    fn watch() -> (Watch, Arc<Cache<ConfigMap>>, UnboundedReceiver<News>) {
        // as `main` does
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = client::connect(&kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
        let cache = Arc::new(Cache::new(child, Arc::default()));
        let (news, heard) = unbounded_channel();
        let watch = Watch {
            source: Source::new::<ConfigMap>(client, None),
            selector: None,
            shelf: Box::new(Reader { cache: cache.clone(), read: whole }),
            timeout: Duration::from_secs(1),
            gauge: Health::default().gauge(None, Kind::ConfigMap),
            news,
            metrics: Metrics::new().unwrap(),
            optional: None,
        };
        (watch, cache, heard)
    }

    fn object(version: u64, rest: &str) -> String {
        format!(
            r#"{{"metadata": {{"name": "a", "namespace": "prod", "uid": "u", "resourceVersion": "{version}",
                "labels": {{"phoenix-operator.dev/app": "shop"}}}}{rest}}}"#
        )
    }

    fn events(events: &[(&str, String)]) -> Events {
        let event = |(kind, object): &(&str, String)| {
            serde_json::from_str(&format!(r#"{{"type": "{kind}", "object": {object}}}"#)).unwrap()
        };
        let events: Vec<WatchEvent<Sent>> = events.iter().map(event).collect();
        stream::iter(events.into_iter().map(Ok)).boxed()
    }

    fn heard(news: &mut UnboundedReceiver<News>) -> Vec<String> {
        let mut heard = Vec::new();
        while let Ok(news) = news.try_recv() {
            heard.push(match news {
                News::Changed(app) => format!("changed {app}"),
                News::Seen(app) => format!("seen {app}"),
                News::Unreadable(Unreadable { key, uid, error, .. }) => format!("{key} {uid}: {error}"),
                News::Current => "current".to_owned(),
                News::Watches => continue,
            });
        }
        heard
    }

    const WRONG: &str = r#", "data": {"k": 1}"#;
    const TOLD: &str = "prod/a u: invalid type: integer `1`, expected a string";

    #[tokio::test]
    async fn what_cannot_be_read_is_told_and_let_go_until_it_can() {
        let (watch, cache, mut news) = watch();
        let mut version = "1".to_owned();
        let told = [("ADDED", object(5, "")), ("MODIFIED", object(6, WRONG))];
        assert!(matches!(watch.follow(&mut version, Some(events(&told))).await, Ok(End::Closed)));
        assert_eq!((version.as_str(), cache.count()), ("6", 0));
        assert_eq!(heard(&mut news), ["changed prod/shop", TOLD, "changed prod/shop"]);
        let bookmark = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"resourceVersion": "9", "annotations": {}}}"#;
        let told =
            [("MODIFIED", object(7, "")), ("DELETED", object(8, "")), ("BOOKMARK", bookmark.to_owned())];
        assert!(matches!(watch.follow(&mut version, Some(events(&told))).await, Ok(End::Closed)));
        assert_eq!((version.as_str(), cache.count(), cache.version()), ("9", 0, 9));
        assert_eq!(heard(&mut news), ["changed prod/shop", "changed prod/shop", "current"]);
    }

    #[tokio::test]
    async fn what_has_no_metadata_ends_a_watch_where_it_was() {
        let (watch, cache, _news) = watch();
        let mut version = "1".to_owned();
        let told = [("ADDED", object(5, "")), ("ADDED", r#"{"metadata": 5}"#.to_owned())];
        let ended = watch.follow(&mut version, Some(events(&told))).await;
        assert!(matches!(ended, Err(CallError::Transport { .. })));
        assert_eq!((version.as_str(), cache.count()), ("5", 1));
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_not_on_a_list() {
        let (watch, cache, mut news) = watch();
        let mut list = watch.shelf.list();
        for text in [object(5, ""), object(6, WRONG)] {
            watch.note(&mut *list, &serde_json::from_str(&text).unwrap()).unwrap();
        }
        watch.listed(list, "7");
        assert_eq!((cache.count(), cache.version()), (0, 7));
        assert_eq!(heard(&mut news), [TOLD, "current"]);
    }
}
