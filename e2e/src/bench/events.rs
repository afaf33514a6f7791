//! What happens in the namespaces of the apps, with the moment at which it was seen.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::work;

/// An object as it came out of a watch.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// When it was seen.
    pub at: Instant,
    /// Whether it is gone.
    pub gone: bool,
    /// All of it.
    pub object: Value,
}

/// Events of a few kinds in one namespace and those that are named after it, in the order in which they were seen.
#[derive(Debug)]
pub struct Events {
    heard: UnboundedReceiver<Event>,
    _watches: JoinSet<()>,
}

impl Events {
    /// Follows these kinds from now on; what is there already comes first.
    pub async fn follow(client: &Client, first: &str, kinds: &[ApiResource]) -> Result<Self> {
        let (tell, heard) = unbounded_channel();
        let (open, mut opened) = unbounded_channel();
        let mut watches = JoinSet::new();
        for kind in kinds {
            let api = Api::all_with(client.clone(), kind);
            watches.spawn(watch(api, first.to_owned(), kind.kind.clone(), tell.clone(), open.clone()));
        }
        for _ in kinds {
            opened.recv().await.context("a watch ended before it was open")?;
        }
        Ok(Self { heard, _watches: watches })
    }

    /// The next event. Errors when there is none before `deadline`, with what was waited for.
    pub async fn next(&mut self, deadline: Instant, what: &str) -> Result<Event> {
        match tokio::time::timeout_at(deadline.into(), self.heard.recv()).await {
            Ok(Some(event)) => Ok(event),
            Ok(None) => bail!("all watches have ended"),
            Err(_) => bail!("waited in vain for {what}"),
        }
    }

    /// The first event of which something is `found`, within that time.
    pub async fn until<T>(
        &mut self,
        what: &str,
        within: Duration,
        mut found: impl FnMut(&Event) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(value) = found(&self.next(deadline, what).await?) {
                return Ok(value);
            }
        }
    }

    /// Forgets what has happened so far.
    pub fn clear(&mut self) {
        while self.heard.try_recv().is_ok() {}
    }
}

async fn watch(
    api: Api<DynamicObject>,
    first: String,
    kind: String,
    tell: UnboundedSender<Event>,
    open: UnboundedSender<()>,
) {
    let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
    while let Some(event) = events.next().await {
        let (object, gone) = match event {
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => (object, false),
            Ok(watcher::Event::Delete(object)) => (object, true),
            Ok(watcher::Event::InitDone) => {
                // Nobody waits any more when it is opened again.
                let _ = open.send(());
                continue;
            }
            Ok(watcher::Event::Init) => continue,
            Err(error) => {
                eprintln!("bench: watching {kind}: {error}");
                continue;
            }
        };
        let (at, name) = (Instant::now(), object.name_any());
        if !object.namespace().is_some_and(|namespace| work::is_home(&first, &namespace)) {
            continue;
        }
        let object = serde_json::to_value(object).unwrap_or_default();
        if tell.send(Event { kind: kind.clone(), name, at, gone, object }).is_err() {
            return;
        }
    }
}
