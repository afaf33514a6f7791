//! The driver: takes apps out of the queue, hands each to the reconciler, and deals with what comes of it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use kube::{Client, Config};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tracing::Instrument as _;

use super::{
    backoff::{Backoff, jitter},
    cache::AppKey,
    client,
    crowd::Crowd,
    events::Recorder,
    freshness::Freshness,
    health::Health,
    leader::{Candidate, Seat, Tenure},
    memory::Memory,
    queue::Queue,
    reconcile::{Outcome, Reconciler, Tried, until},
    scope::{Scope, Start},
    watch::News,
    writer::{Pace, Writer},
};
use crate::{
    analysis::{Endpoint, Runner},
    build::Settings,
    telemetry::{self, Metrics},
};

/// How long writes in flight may take after a signal to stop.
const FAREWELL: Duration = Duration::from_secs(8);
/// A change retries an app that failed, but not at once.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same after a conflict: news of what changed is on its way.
const HASTE: Duration = Duration::from_millis(50);
/// From the beginning of a pass to that of the next: one change in a cluster brings about others, and one pass does for
/// all of them. So many times as long as the API server takes to answer a write: the other controllers are as slow.
const GATHER: Pace = Pace { times: 5, least: Duration::from_millis(25), most: Duration::from_secs(1) };
/// An API server that takes longer to answer a write is busy: few rollouts are begun beside those under way.
const SLOW: Duration = Duration::from_millis(50);
/// What is known of an app is packed once nothing of it has changed for so long.
const QUIET: Duration = Duration::from_secs(20);

/// How the operator is to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Namespaces to look after; none: all.
    pub namespaces: BTreeSet<String>,
    /// Facts about the cluster.
    pub settings: Settings,
    /// What apps' checks may ask.
    pub prometheus: Vec<Endpoint>,
    /// Where metrics and health are served.
    pub listen: SocketAddr,
    /// Apps reconciled at the same time.
    pub concurrency: usize,
    /// Longest wait for any answer of the API server.
    pub call_timeout: Duration,
    /// Names this process in events and in the Lease.
    pub instance: String,
    /// The Lease it stands for; none: it is the only one.
    pub seat: Option<Seat>,
}

/// Runs until a signal to stop.
///
/// # Errors
/// When there is no way to the API server, the address cannot be listened on, or another leads.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let client = client(&options).await?;
    let metrics = Metrics::new().context("registering metrics")?;
    let health = Health::default();
    let (stop, stopping) = watch::channel(false);
    let mut served = {
        let mut stopping = stopping.clone();
        let stopped = async move {
            // A dropped sender means the same.
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        tokio::spawn(telemetry::serve(options.listen, metrics.clone(), Arc::new(health.clone()), stopped))
    };
    let mut end = pin!(async {
        tokio::select! {
            signal = signal() => signal,
            ended = &mut served => ended.context("serving metrics and health").and_then(|served| served),
        }
    });
    let mut candidate = if let Some(seat) = &options.seat {
        Some(Candidate::new(&client, seat, &options.instance, health.clone(), metrics.clone())?)
    } else {
        metrics.leads(true);
        None
    };
    let ended = tokio::select! {
        won = win(candidate.as_mut()) => won.map(|()| None),
        ended = &mut end => ended.map(Some),
    };
    let ended = match ended {
        Ok(None) => lead(&options, &client, &metrics, &health, candidate, end).await,
        // Asked to stop before it led.
        ended => ended.map(drop),
    };
    // Nobody listens any more: stopped already.
    let _ = stop.send(true);
    ended
}

async fn win(candidate: Option<&mut Candidate>) -> anyhow::Result<()> {
    match candidate {
        Some(candidate) => candidate.win().await,
        None => Ok(()),
    }
}

/// Looks after the apps until `end`, or until another may lead.
async fn lead(
    options: &Options,
    client: &Client,
    metrics: &Metrics,
    health: &Health,
    mut candidate: Option<Candidate>,
    end: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let tenure = candidate.as_ref().map_or_else(Tenure::endless, Candidate::tenure);
    let (news, heard) = mpsc::unbounded_channel();
    let mut watches = JoinSet::new();
    let reconciler = assemble(options, client, metrics, health, tenure, &news, &mut watches);
    let mut driver = Driver {
        reconciler: Arc::new(reconciler),
        health: health.clone(),
        metrics: metrics.clone(),
        concurrency: options.concurrency.max(1),
        queue: Queue::new(),
        crowd: Crowd::new(),
        running: JoinSet::new(),
        keys: HashMap::new(),
        retries: HashMap::new(),
        waiting: BTreeSet::new(),
        heard,
    };
    watches.spawn({
        let reconciler = driver.reconciler.clone();
        async move {
            let mut ticks = tokio::time::interval(QUIET / 2);
            loop {
                ticks.tick().await;
                reconciler.rest(QUIET);
            }
        }
    });
    tracing::info!(namespaces = ?options.namespaces, cluster_domain = options.settings.cluster_domain, "running");
    let ended = {
        let mut lost = pin!(async {
            match candidate.as_mut() {
                Some(candidate) => candidate.keep().await,
                None => std::future::pending().await,
            }
        });
        let ended = tokio::select! {
            () = driver.drive() => Ok(()),
            ended = end => ended,
            // Nothing would be heard of its kind any more.
            Some(ended) = watches.join_next() => Err(match ended {
                Ok(()) => anyhow::anyhow!("a watch ended by itself; this is a bug"),
                Err(error) => anyhow::Error::new(error).context("a watch ended in disorder; this is a bug"),
            }),
            // What is under way is dropped where it stands: nothing may be written beside another leader.
            lost = &mut lost => return Err(lost),
        };
        tracing::info!("stopping");
        health.stop();
        watches.abort_all();
        tokio::select! {
            () = driver.finish() => {}
            lost = &mut lost => return Err(lost),
        }
        ended
    };
    // Passes that did not end in time end here, before another is let in.
    drop(driver);
    if let Some(candidate) = candidate {
        candidate.release().await;
    }
    ended
}

async fn client(options: &Options) -> anyhow::Result<Client> {
    let mut config = Config::infer().await.context("finding the API server (KUBECONFIG, or in a pod)")?;
    config.connect_timeout = Some(options.call_timeout);
    client::connect(&config).context("making a client of the API server")
}

fn assemble(
    options: &Options,
    client: &Client,
    metrics: &Metrics,
    health: &Health,
    tenure: Tenure,
    news: &mpsc::UnboundedSender<News>,
    watches: &mut JoinSet<()>,
) -> Reconciler {
    let freshness = Arc::new(Mutex::new(Freshness::default()));
    let writer = Arc::new(Writer::new(
        client.clone(),
        options.call_timeout,
        tenure,
        metrics.clone(),
        freshness.clone(),
    ));
    let wanted: Vec<Option<String>> = if options.namespaces.is_empty() {
        vec![None]
    } else {
        options.namespaces.iter().cloned().map(Some).collect()
    };
    let mut scopes = BTreeMap::new();
    for namespace in wanted {
        let scope = Scope::start(Start {
            client: client.clone(),
            namespace: namespace.clone(),
            timeout: options.call_timeout,
            health: health.clone(),
            news: news.clone(),
            metrics: metrics.clone(),
            tasks: watches,
            lively: Arc::default(),
        });
        scopes.insert(namespace, scope);
    }
    Reconciler {
        recorder: Recorder::new(writer.clone(), options.instance.clone()),
        writer,
        freshness,
        memory: Memory::default(),
        runner: Runner::new(options.prometheus.clone(), {
            let news = news.clone();
            // nobody listens any more: stopping
            move |key| drop(news.send(News::Changed(key)))
        }),
        health: health.clone(),
        metrics: metrics.clone(),
        settings: options.settings.clone(),
        scopes,
    }
}

async fn signal() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// An app that failed, and when it is tried again.
#[derive(Clone, Copy, Debug)]
struct Retry {
    after: After,
    backoff: Backoff,
    /// Not before, whatever happens.
    earliest: Instant,
    /// At the latest.
    at: Instant,
}

/// What failed. Failures of another kind are no reason to wait longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// A call that may succeed another time.
    Call,
    /// Something stands in the way.
    Fault,
    /// The same, but all else goes on.
    Edge,
}

/// A finished pass.
struct Done {
    key: AppKey,
    outcome: Outcome,
    took: Duration,
    /// What log lines about it stand in.
    span: tracing::Span,
}

struct Driver {
    reconciler: Arc<Reconciler>,
    health: Health,
    metrics: Metrics,
    concurrency: usize,
    queue: Queue<AppKey>,
    /// Rollouts that are under way or held back.
    crowd: Crowd<AppKey>,
    running: JoinSet<Done>,
    /// The app of each running pass.
    keys: HashMap<tokio::task::Id, AppKey>,
    retries: HashMap<AppKey, Retry>,
    /// Apps whose caches have yet to catch up.
    waiting: BTreeSet<AppKey>,
    heard: mpsc::UnboundedReceiver<News>,
}

impl Driver {
    /// Runs for ever.
    async fn drive(&mut self) {
        loop {
            self.start_due();
            // At full strength, the next begins when one ends.
            let due = self.queue.next_due().into_iter().chain(self.crowd.next_due()).min();
            let due = due.filter(|_| self.running.len() < self.concurrency);
            let timer = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = timer => {}
                Some(news) = self.heard.recv() => self.hear(news),
                Some(done) = self.running.join_next_with_id() => self.deal_with(done),
            }
        }
    }

    /// Lets what runs come to its end, for a while.
    async fn finish(&mut self) {
        let rest = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, rest).await.is_err() {
            tracing::warn!("writes in flight did not end in time");
        }
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        let slow = self.reconciler.writer.latency() > SLOW;
        while let Some(key) = self.crowd.next(now) {
            self.queue.add(key, now);
        }
        while self.running.len() < self.concurrency {
            let Some(key) = self.queue.pop(now) else {
                // One by one: each makes the API server busier.
                let Some(key) = (!slow).then(|| self.crowd.any(now)).flatten() else { break };
                self.queue.add(key, now);
                continue;
            };
            if slow && self.reconciler.begins(&key) && !self.crowd.admits(&key, now) {
                self.queue.done(&key);
                continue;
            }
            self.crowd.begun(&key);
            let reconciler = self.reconciler.clone();
            let probe = self.retries.get(&key).is_none_or(|retry| retry.at <= now);
            let span = tracing::info_span!("reconcile", namespace = key.namespace, app = key.name);
            let app = key.clone();
            let pass = async move {
                let began = Instant::now();
                let outcome = reconciler.reconcile(&key, probe).await;
                Done { key, outcome, took: began.elapsed(), span: tracing::Span::current() }
            };
            let task = self.running.spawn(pass.instrument(span));
            self.keys.insert(task.id(), app);
        }
        self.metrics.queued(self.queue.depth() + self.crowd.held());
    }

    fn hear(&mut self, news: News) {
        match news {
            // Nothing is done with an app until all that it needs is seen: not once for each object of a first list.
            News::Changed(key) if self.reconciler.is_blind(&key) => {}
            News::Changed(key) => self.ask(key),
            News::Seen(key) => {
                if self.waiting.remove(&key) {
                    self.ask(key);
                }
            }
            News::Current => {
                for key in std::mem::take(&mut self.waiting) {
                    self.ask(key);
                }
            }
            News::Watches => {
                tracing::info!(
                    open = telemetry::Readiness::faults(&self.health).is_empty(),
                    "the watches changed"
                );
                for key in self.reconciler.apps() {
                    // That is no news of what is held back.
                    if !self.crowd.holds(&key) {
                        self.ask(key);
                    }
                }
            }
            News::Unreadable(unreadable) => {
                let reconciler = self.reconciler.clone();
                tokio::spawn(async move { reconciler.report_unreadable(&unreadable).await });
            }
        }
    }

    /// As soon as possible; soon, if it has just been looked at, or has just failed.
    fn ask(&mut self, key: AppKey) {
        let now = Instant::now();
        let gather = self.reconciler.writer.wait(GATHER);
        let gathered = self.reconciler.memory.begun(&key).map_or(now, |begun| begun + gather);
        let patient = self.retries.get(&key).map_or(now, |retry| retry.earliest);
        self.queue.add(key, now.max(gathered).max(patient));
    }

    /// The one place where the results of passes end: logs, metrics, and when to try again.
    fn deal_with(&mut self, done: Result<(tokio::task::Id, Done), tokio::task::JoinError>) {
        let Done { key, outcome, took, span } = match done {
            Ok((id, done)) => {
                self.keys.remove(&id);
                done
            }
            Err(error) => {
                let Some(key) = self.keys.remove(&error.id()) else { return };
                tracing::error!(%error, namespace = key.namespace, app = key.name, "a pass ended in disorder; this is a bug");
                self.queue.done(&key);
                self.retry(key, After::Call, PATIENCE);
                return;
            }
        };
        let _entered = span.enter();
        self.metrics.reconciled(outcome.label(), took);
        self.queue.done(&key);
        // One whose first pass failed keeps its place.
        let moving =
            self.reconciler.memory.moving(&key) || (self.crowd.goes_on(&key) && self.reconciler.begins(&key));
        self.crowd.passed(&key, moving, Instant::now());
        match outcome {
            Outcome::Settled(wake) => {
                tracing::debug!(?wake, "settled");
                self.retries.remove(&key);
                if let Some(at) = wake {
                    self.queue.add(key, Instant::now() + until(at));
                }
            }
            Outcome::Behind(kind) => {
                tracing::debug!(%kind, "a cache has yet to catch up");
                self.metrics.stale(kind.as_str());
                self.waiting.insert(key.clone());
                self.resume(key);
            }
            Outcome::Blind => tracing::debug!("a watch is not open"),
            Outcome::Gone => {
                tracing::debug!("gone");
                self.retries.remove(&key);
                self.waiting.remove(&key);
                self.crowd.forget(&key);
                self.reconciler.forget(&key);
            }
            Outcome::Outdated(error) => {
                tracing::debug!(%error, "an object changed meanwhile");
                self.retry(key, After::Call, HASTE);
            }
            Outcome::Failed(why) => {
                tracing::warn!("{why}; trying again");
                self.retry(key, After::Call, PATIENCE);
            }
            Outcome::Faulty(fault, Tried::Before) => {
                tracing::debug!(reason = fault.reason, "as before");
                self.resume(key);
            }
            Outcome::Faulty(fault, tried) => {
                tracing::warn!(reason = fault.reason, "{}; trying again", fault.message);
                // What came since waits for it as well.
                if tried == Tried::Anew {
                    self.retries.remove(&key);
                }
                self.retry(key, After::Fault, PATIENCE);
            }
            Outcome::Edge(fault, tried, wake) => {
                if tried == Tried::Before {
                    self.resume(key.clone());
                } else {
                    tracing::warn!(reason = fault.reason, "{}; all else goes on", fault.message);
                    self.retry(key.clone(), After::Edge, PATIENCE);
                }
                if let Some(at) = wake {
                    self.queue.add(key, Instant::now() + until(at));
                }
            }
        }
        self.metrics.backed_off(self.retries.len());
    }

    /// One more failure. News does not make it tried again sooner than after `pause`.
    fn retry(&mut self, key: AppKey, after: After, pause: Duration) {
        let now = Instant::now();
        let known = self.retries.get(&key).filter(|retry| retry.after == after);
        let mut backoff = known.map(|retry| retry.backoff).unwrap_or_default();
        let wait = backoff.next(jitter());
        let retry = Retry { after, backoff, earliest: now + wait.min(pause), at: now + wait };
        tracing::debug!(failures = backoff.failures(), ?wait, "backing off");
        self.retries.insert(key.clone(), retry);
        self.queue.add(key, retry.at);
    }

    /// The wait for the next try goes on.
    fn resume(&mut self, key: AppKey) {
        if let Some(retry) = self.retries.get(&key) {
            let at = retry.at.max(Instant::now() + PATIENCE);
            self.queue.add(key, at);
        }
    }
}
