//! One pass for one app: observe, plan, apply, report.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource as _;

use super::{
    apply::{Applied, Applier, Halt},
    cache::AppKey,
    drift::Drifts,
    errors::{CallError, Verdict},
    events::Recorder,
    freshness::Freshness,
    goal,
    health::Health,
    kind::Kind,
    memory::{Memo, Memory, Remembered, Stored},
    observe::{self, Observed},
    scope::Scope,
    snapshot::{Needs, Snapshot},
    status,
    writer::{Pace, Writer},
};
use crate::{
    analysis::Runner,
    api::{PhoenixApp, PhoenixAppStatus, RevisionName, ValidatedApp},
    build::{Revision, Settings},
    plan::{Event, EventKind, Fault, Goal, Plan, World, Write, is_new, plan},
    telemetry::Metrics,
};

/// How often the planner is asked in one pass: each answer of a write that it waits for is one more.
const ROUNDS: usize = 4;
/// Between two writes of a status in which only wording, counts and gates have changed: pods become ready one by one. So
/// many times as long as the API server takes to answer a write: who waits for it is not made to wait for these.
const BETWEEN_REPORTS: Pace =
    Pace { times: 200, least: Duration::from_secs(1), most: Duration::from_mins(1) };

/// What came of a pass.
#[derive(Debug)]
pub enum Outcome {
    /// All that can be done now is done. Time alone changes something then.
    Settled(Option<Timestamp>),
    /// A cache has yet to catch up with what was written; news of it will come.
    Behind(Kind),
    /// A watch is not open; news of it will come.
    Blind,
    /// There is no such app, or it is going.
    Gone,
    /// An object changed meanwhile.
    Outdated(Box<CallError>),
    /// Worth trying again after a while.
    Failed(String),
    /// Only a person or another program can help.
    Faulty(Fault, Tried),
    /// As settled, but the Ingress or the HTTPRoute is refused.
    Edge(Fault, Tried, Option<Timestamp>),
}

/// Whether what stands in the way was tried in a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// It was not: it is remembered.
    Before,
    /// It was, and nothing else was done.
    Again,
    /// It was, and something else was done: it is not the same as last time.
    Anew,
}

impl Outcome {
    /// The value of the metric's label `outcome`.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Settled(_) => "settled",
            Self::Behind(_) => "behind",
            Self::Blind => "blind",
            Self::Gone => "gone",
            Self::Outdated(_) => "outdated",
            Self::Failed(_) => "failed",
            Self::Faulty(..) | Self::Edge(..) => "faulty",
        }
    }
}

/// All that a pass needs.
pub struct Reconciler {
    /// Sends every write.
    pub writer: Arc<Writer>,
    /// Publishes events.
    pub recorder: Recorder,
    /// What the caches have yet to show.
    pub freshness: Arc<Mutex<Freshness>>,
    /// Faults and persisting differences.
    pub memory: Memory,
    /// Whether the watches are open.
    pub health: Health,
    /// What is counted.
    pub metrics: Metrics,
    /// Measures what the planner asks for.
    pub runner: Runner<AppKey>,
    /// Facts about the cluster.
    pub settings: Settings,
    /// The caches, by namespace; one for all under none.
    pub scopes: BTreeMap<Option<String>, Scope>,
}

/// A pass in the making.
struct Pass<'a> {
    key: &'a AppKey,
    snapshot: &'a Snapshot,
    app: Option<&'a ValidatedApp>,
    stored: &'a BTreeMap<RevisionName, Revision>,
    goal: Goal,
    world: World,
    /// The version of the app as last written, for the next write.
    version: String,
    /// The status as last written.
    written: Option<PhoenixAppStatus>,
    /// The status that is planned from.
    status: PhoenixAppStatus,
    applied: Applied,
    /// Writes at the edge that are not tried now.
    refused: Vec<(Write, Fault)>,
    /// When the status was last written.
    reported: Option<Timestamp>,
    /// When it is to be, since it was just before.
    due: Option<Timestamp>,
    /// What of the edge the operator's own configuration does not allow.
    forbidden: Option<Fault>,
}

impl Pass<'_> {
    /// How what stands in the way was tried.
    const fn tried(&self) -> Tried {
        if self.applied.wrote { Tried::Anew } else { Tried::Again }
    }
}

impl Reconciler {
    /// The caches an app is in.
    pub fn scope(&self, key: &AppKey) -> Option<&Scope> {
        self.scopes.get(&None).or_else(|| self.scopes.get(&Some(key.namespace.clone())))
    }

    /// There is such an app, and nothing can be done with it whatever it needs: there will be news of it.
    pub fn is_blind(&self, key: &AppKey) -> bool {
        Needs::ALL.into_iter().all(|needs| self.health.is_blind(&key.namespace, needs))
            && self.scope(key).is_some_and(|scope| scope.knows(key))
    }

    /// The next pass will begin a rollout, while none is under way. More pods of what runs, or fewer, begin none.
    pub fn begins(&self, key: &AppKey) -> bool {
        let Some(app) = self.scope(key).and_then(|scope| scope.app(key)) else { return false };
        let unwritten = PhoenixAppStatus::default();
        let status = app.status.as_ref().unwrap_or(&unwritten);
        let seen = app.metadata.generation == Some(status.observed_generation);
        if seen || status.under_way().is_some() || self.memory.moving(key) {
            return false;
        }
        ValidatedApp::try_from(&*app).is_ok_and(|valid| {
            let named = goal::desired(&valid, &BTreeMap::new(), |_| false);
            named.is_some_and(|named| is_new(status, named.as_str()))
        })
    }

    /// Every app.
    pub fn apps(&self) -> Vec<AppKey> {
        self.scopes.values().flat_map(Scope::apps).collect()
    }

    /// Makes what is known of apps that have been at rest for so long small.
    pub fn rest(&self, quiet: Duration) {
        for app in self.scopes.values().flat_map(|scope| scope.rest(quiet)) {
            self.memory.rest(&app);
        }
        self.recorder.rest();
    }

    /// One pass. With `probe`, what a fault prevented last time is tried again.
    pub async fn reconcile(&self, key: &AppKey, probe: bool) -> Outcome {
        let Some(scope) = self.scope(key) else { return Outcome::Gone };
        let Some(app) = scope.app(key) else {
            scope.forget(key);
            return Outcome::Gone;
        };
        let needs = scope.needs(key, &app);
        if self.health.is_blind(&key.namespace, needs) {
            return Outcome::Blind;
        }
        let behind = self.fresh(|freshness| freshness.behind(key, |kind| scope.version(kind)));
        if let Some(kind) = behind {
            return Outcome::Behind(kind);
        }
        // Read only now: what was read before the caches were found to be current may be older.
        let Some(mut snapshot) = scope.snapshot(key, app, needs, &self.health) else { return Outcome::Gone };
        if snapshot.app.metadata.deletion_timestamp.is_some() {
            return Outcome::Gone;
        }
        snapshot.going = self.fresh(|freshness| freshness.going(key, &snapshot.uids()));
        Box::pin(self.pass(key, &snapshot, probe)).await
    }

    async fn pass(&self, key: &AppKey, snapshot: &Snapshot, probe: bool) -> Outcome {
        let begun = Instant::now();
        let generation = snapshot.app.metadata.generation.unwrap_or_default();
        let mut remembered = self.memory.of(key, generation);
        let read = remembered.memo.stored(snapshot);
        let Stored { uids, revisions: stored, unreadable } = &*read;
        let Observed { mut world, wake, killed } = observe::observe(snapshot, stored);
        world.measured = self.runner.answers(key);
        let mut status = snapshot.app.status.clone().unwrap_or_default();
        if !snapshot.quoting() {
            status::forget_quotes(&mut status);
        }
        let valid = remembered.memo.valid(&snapshot.app);
        // What a new command asks for may be possible where something else was not.
        if snapshot.app.command().is_some_and(|command| status.is_unanswered(command)) {
            remembered.forgive();
        }
        let mut applied = Applied::default();
        remembered.note_killed(killed, &mut applied.events);
        let (goal, app) = match &valid {
            Ok(app) => {
                let known = std::mem::take(&mut remembered.same);
                let mut drifts = Drifts::new(remembered.drifts.clone(), known, app, uids);
                observe::compare(&mut world, snapshot, app, stored, &self.settings, &mut drifts);
                remembered.same = std::mem::take(&mut drifts.same);
                status::note_drifts(&mut status, &drifts, generation, snapshot.now);
                let taken = |name: &RevisionName| stored.contains_key(name);
                let Some(desired) = goal::desired(app, stored, taken) else {
                    return Outcome::Failed("no name is free for a new revision".to_owned());
                };
                status.effective = status::effective(app, stored.get(&desired));
                (goal::goal(app, &desired), Some(&**app))
            }
            Err(faults) => {
                let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
                world.fault = Some(fault("Invalid", &faults.join("; ")));
                (goal::of_invalid(&snapshot.app), None)
            }
        };
        if let Some(first) = unreadable.first() {
            world.fault = Some(fault("RevisionUnreadable", first));
        }
        if let Some(fault) = self.health.fault(&key.namespace, snapshot.needs) {
            world.fault = Some(fault);
        }
        let permanent = world.fault.clone();
        if world.fault.is_none() && !probe {
            world.fault.clone_from(&remembered.fault);
        }
        let forbidden = world.edge.take();
        world.edge = forbidden.clone().or_else(|| remembered.edge.first().map(|(_, fault)| fault.clone()));
        let refused = if probe { Vec::new() } else { remembered.edge.clone() };
        let mut pass = Pass {
            key,
            snapshot,
            app,
            stored,
            goal,
            world,
            version: snapshot.app.metadata.resource_version.clone().unwrap_or_default(),
            written: snapshot.app.status.clone(),
            status,
            applied,
            refused,
            reported: remembered.reported,
            due: None,
            forbidden,
        };
        let result = Box::pin(self.rounds(&mut pass, remembered.fault.is_some())).await;
        remembered.take_drifts(std::mem::take(&mut pass.applied.drifts));
        for event in std::mem::take(&mut pass.applied.events) {
            self.recorder.publish(&reference(&snapshot.app), &event).await;
        }
        let wake = earliest(wake, pass.due);
        let outcome = match result {
            Ok(plan_wake) => match (pass.world.fault.clone(), permanent) {
                (Some(fault), None) => Outcome::Faulty(fault, Tried::Before),
                (Some(_), Some(_)) => Outcome::Settled(earliest(plan_wake, wake)),
                (None, _) => {
                    remembered.edge = std::mem::take(&mut pass.applied.edge);
                    self.report_edge(&mut pass, &remembered.edge, probe, earliest(plan_wake, wake)).await
                }
            },
            Err(Halt::Fault(fault)) => self.report_fault(&mut pass, fault).await,
            Err(halt) => halted(halt, pass.tried()),
        };
        remembered.fault = match &outcome {
            Outcome::Faulty(fault, _) => Some(fault.clone()),
            Outcome::Settled(_) | Outcome::Edge(..) => None,
            _ => remembered.fault,
        };
        remembered.reported = pass.reported;
        remembered.begun = Some(begun);
        remembered.moving = pass.status.under_way().is_some();
        if !self.scope(key).is_some_and(|scope| scope.is_lively(key)) {
            remembered.memo = Memo::default();
        }
        self.memory.keep(key, remembered);
        outcome
    }

    /// Plans, reports and writes, again while the planner waits for the answer to a write of this pass.
    ///
    /// Facts go into the status before the writes that follow from them. After a fault, when only the report would
    /// change, the writes go first: should they fail again, the status stays as it is.
    async fn rounds(&self, pass: &mut Pass<'_>, after_fault: bool) -> Result<Option<Timestamp>, Halt> {
        for _ in 0..ROUNDS {
            let Plan { mut status, writes, wake, measure } =
                plan(&pass.goal, &pass.status, &pass.world, pass.snapshot.now);
            if pass.snapshot.since.is_none() {
                status::keep_counts(&mut status, &pass.status);
            }
            // Making sure of the Secret comes alone and follows from nothing, and its answer belongs into the same status.
            let asks = writes.iter().any(|write| matches!(write, Write::PostSecret { .. }));
            let same = status::same_facts(&pass.status, &status);
            let writes_first = asks || (after_fault && !writes.is_empty() && same);
            if !writes_first {
                self.report(pass, &status).await?;
            }
            if let Some(app) = pass.app {
                let applier = Applier {
                    writer: &self.writer,
                    key: pass.key,
                    app,
                    snapshot: pass.snapshot,
                    stored: pass.stored,
                    restarts: &pass.status.restarts,
                    settings: &self.settings,
                    refused: &pass.refused,
                };
                applier.carry_out(&writes, &mut pass.applied).await?;
            }
            if writes_first && !asks {
                self.report(pass, &status).await?;
            }
            let Some(posted) = pass.applied.secret.take() else {
                // after the status: what it has counted is not asked for any more
                self.runner.ask(pass.key, measure);
                return Ok(wake);
            };
            pass.world.secret_posted = Some(posted);
        }
        Ok(None)
    }

    /// Writes the status, unless it was written a moment ago and nothing has happened since that cannot wait.
    async fn report(&self, pass: &mut Pass<'_>, status: &PhoenixAppStatus) -> Result<(), Halt> {
        let now = Timestamp::now();
        // A clock that was set back is no reason to wait.
        let last = pass.reported.filter(|last| *last <= now);
        let again = last.and_then(|last| last.checked_add(self.writer.wait(BETWEEN_REPORTS)).ok());
        let differs = pass
            .written
            .as_ref()
            .is_some_and(|written| written != status && status::may_wait(written, status));
        // What a Secret made anew means is told once, and a fault puts the next pass off.
        let telling = pass.world.secret_posted.as_ref().is_some_and(|posted| posted.created);
        let quiet = differs && !telling && pass.world.fault.is_none();
        pass.due = again.filter(|again| quiet && *again > now);
        if pass.due.is_none() {
            return self.write_status(pass, status).await;
        }
        pass.status = status.clone();
        Ok(())
    }

    /// Says in the status whether the Ingress or the HTTPRoute is refused, or is asked for as the operator may not write
    /// it, which nothing else waits for.
    async fn report_edge(
        &self,
        pass: &mut Pass<'_>,
        refused: &[(Write, Fault)],
        probe: bool,
        wake: Option<Timestamp>,
    ) -> Outcome {
        let edge = refused.first().map(|(_, fault)| fault.clone());
        let told = pass.forbidden.clone().or_else(|| edge.clone());
        if pass.world.edge != told {
            pass.world.edge = told;
            let status = plan(&pass.goal, &pass.status, &pass.world, pass.snapshot.now).status;
            if let Err(halt) = self.write_status(pass, &status).await {
                return halted(halt, pass.tried());
            }
        }
        let tried = if probe { pass.tried() } else { Tried::Before };
        edge.map_or(Outcome::Settled(wake), |fault| Outcome::Edge(fault, tried, wake))
    }

    /// Says what stands in the way, in the status.
    async fn report_fault(&self, pass: &mut Pass<'_>, fault: Fault) -> Outcome {
        pass.world.fault = Some(fault.clone());
        let status = plan(&pass.goal, &pass.status, &pass.world, pass.snapshot.now).status;
        match self.write_status(pass, &status).await {
            Ok(()) => Outcome::Faulty(fault, pass.tried()),
            Err(halt) => halted(halt, pass.tried()),
        }
    }

    /// Writes the status if it differs, and tells of every transition.
    async fn write_status(&self, pass: &mut Pass<'_>, status: &PhoenixAppStatus) -> Result<(), Halt> {
        self.metrics.phase(&pass.key.namespace, &pass.key.name, status.phase);
        pass.status = status.clone();
        if pass.written.as_ref() == Some(status) {
            return Ok(());
        }
        let made = self.writer.replace_status(pass.key, &pass.snapshot.app, &pass.version, status).await?;
        pass.reported = Some(Timestamp::now());
        pass.version = made.version();
        let before = pass.written.replace(status.clone()).unwrap_or_default();
        for event in crate::plan::events(&before, status) {
            tracing::info!(reason = event.reason, "{}", event.note);
            self.recorder.publish(&reference(&pass.snapshot.app), &event).await;
        }
        for entry in status.history.iter().filter(|entry| !before.history.contains(entry)) {
            let took = entry.started_at.0.duration_until(entry.ended_at.0);
            self.metrics.rolled_out(&format!("{:?}", entry.outcome), took.as_secs_f64());
        }
        Ok(())
    }

    /// Says of an object that it cannot be read.
    pub async fn report_unreadable(&self, unreadable: &super::watch::Unreadable) {
        let super::watch::Unreadable { kind, key, uid, error } = unreadable;
        tracing::warn!(%kind, object = %key, error, "an object cannot be read; it is treated as absent");
        if *kind == Kind::PhoenixApp {
            let note =
                format!("this app cannot be read, and nothing is done for it: {error}; correct the field");
            let event = Event { kind: EventKind::Warning, reason: "Unreadable", note };
            let about = ObjectReference {
                api_version: Some(PhoenixApp::api_version(&()).into_owned()),
                kind: Some(kind.to_string()),
                name: Some(key.name.clone()),
                namespace: Some(key.namespace.clone()),
                uid: Some(uid.clone()),
                ..ObjectReference::default()
            };
            self.recorder.publish(&about, &event).await;
        }
    }

    /// The app is gone: nothing of it is kept.
    pub fn forget(&self, key: &AppKey) {
        self.fresh(|freshness| freshness.forget(key));
        self.memory.forget(key);
        self.runner.forget(key);
        self.metrics.phase(&key.namespace, &key.name, None);
    }

    fn fresh<T>(&self, act: impl FnOnce(&mut Freshness) -> T) -> T {
        act(&mut self.freshness.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn halted(halt: Halt, tried: Tried) -> Outcome {
    match halt {
        Halt::Call(error) if matches!(error.verdict(), Verdict::Outdated | Verdict::Exists) => {
            Outcome::Outdated(error)
        }
        Halt::Call(error) => Outcome::Failed(error.to_string()),
        Halt::Wait(why) => Outcome::Failed(why),
        Halt::Fault(fault) => Outcome::Faulty(fault, tried),
    }
}

fn fault(reason: &str, message: &str) -> Fault {
    Fault { reason: reason.to_owned(), message: message.to_owned() }
}

fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// What events are about.
fn reference(app: &PhoenixApp) -> ObjectReference {
    app.object_ref(&())
}

/// How long until an instant; nothing when it has passed.
pub fn until(at: Timestamp) -> Duration {
    Duration::try_from(Timestamp::now().duration_until(at)).unwrap_or(Duration::ZERO)
}

impl Remembered {
    /// Tells of each pod that was killed, once.
    fn note_killed(&mut self, killed: BTreeMap<String, String>, events: &mut Vec<Event>) {
        self.killed.retain(|uid| killed.contains_key(uid));
        for (uid, pod) in killed {
            if self.killed.insert(uid) {
                let note = format!(
                    "pod {pod} did not end within its grace and was killed; raise spec.shutdown.grace, or see what \
                     it waits for"
                );
                events.push(Event { kind: EventKind::Warning, reason: "UncleanShutdown", note });
            }
        }
    }
}
