//! A small API server with its controllers, as a state machine that a checker can walk.
//!
//! Every kind that others write (the app, Deployments, Jobs, EndpointSlices) reaches the operator's cache either
//! at once or one event late. Our own writes are seen before the next pass, since the controller waits for them;
//! kinds that only we write (stored revisions, the Service) are therefore always current. Pods are counts.
//!
//! What cannot be told apart is one state, so that the walks stay small:
//! - An event counts only once a pass of the operator reads it. So it arrives with a pass ([`Action::Reconcile`]
//!   says which kinds are brought up to date before it) and is no step of its own.
//! - A kill between two passes, before the first write of one or after its last, does less than going on would: the
//!   new process has current caches, which any pass may have. So a kill is a step only between two writes.
//! - Revisions that nobody has seen yet are alike; an edit takes the first of them.
//! - Only Recreate waits for pods on their way out, and for all of them; there is one or there is none.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{
    Candidate, CommandAnswer, LastCommand, MigrationState, MigrationStatus, Outcome, PhoenixAppStatus,
    Progress, StrategyKind, Verdict,
};
use crate::plan::{
    DeploymentObs, Facts, Goal, JobFailure, JobObs, JobState, MigrationPod, Plan, PodsObs, RevisionObs,
    SecretPosted, Selector, ServiceObs, World, Write, plan,
};

thread_local! {
    static SEEN: RefCell<HashMap<Sight, Rc<Planned>>> = RefCell::default();
}

/// How many plans a thread remembers.
const MOST_SEEN: usize = 1_000_000;

/// All that a plan depends on.
#[derive(PartialEq, Eq, Hash)]
struct Sight {
    seen: Lagging,
    stored: [Stored; REVISIONS],
    service: Points,
    status: Status,
    mutant: Mutant,
    needs: (bool, bool),
    limits: (u32, u32, StrategyKind),
}

/// A plan, as the model needs it.
struct Planned {
    status: Status,
    writes: Vec<Write>,
    /// Writes in all, those of the status included.
    count: u8,
}

/// Revisions in play.
pub const REVISIONS: usize = 3;
const NAMES: [&str; REVISIONS] = ["a", "b", "c"];
const DEADLINE_SECONDS: i64 = 600;

/// What a walk is about.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    pub strategy: StrategyKind,
    pub replicas: u8,
    pub most_replicas: u8,
    pub surge: u32,
    pub unavailable: u32,
    pub revisions: usize,
    /// Revisions need a migration Job.
    pub migrations: bool,
    /// Stop, migrate, start.
    pub stop_first: bool,
    /// Pods of this revision never become ready.
    pub never_ready: Option<usize>,
    /// The migration of this revision always fails.
    pub bad_migration: Option<usize>,
    pub edits: u8,
    pub kills: u8,
    pub pod_failures: u8,
    pub deadlines: u8,
    pub aborts: u8,
    /// The stable revision may break for good.
    pub breaks: u8,
    pub mutant: Mutant,
}

/// A planner broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutant {
    None,
    /// Invariant 1: counts pods as serving that are only asked for.
    CountsAskedPods,
    /// Invariant 2: takes every migration for recorded.
    SkipsMigration,
    /// Invariant 3: points the Service at the candidate at once.
    EagerSelector,
    /// Invariant 6: forgets that the rollout was aborted.
    ForgetsAbort,
    /// Invariant 9: takes a superseded candidate for stable.
    PromotesSuperseded,
    /// Invariant 11: never takes unavailable pods of the stable revision.
    KeepsBrokenStable,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct App {
    pub desired: usize,
    pub replicas: u8,
    pub abort: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stored {
    pub exists: bool,
    pub migrated: bool,
    pub attempt: u8,
    pub outcome: Option<Outcome>,
    pub promotion: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Deployment {
    pub exists: bool,
    pub asked: u8,
    pub observed: bool,
    pub pods: u8,
    pub ready: u8,
    /// Some of its pods are on their way out.
    pub going: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobPhase {
    Running,
    Succeeded,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Job {
    pub revision: usize,
    pub attempt: u8,
    pub phase: JobPhase,
    pub terminating: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Jobs {
    pub job: Option<Job>,
    pub pods: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tried {
    pub revision: usize,
    pub attempt: u8,
    pub verdict: Option<(Outcome, bool, bool)>,
    pub available: Option<u8>,
    pub running: bool,
    pub late: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Status {
    pub stable: Option<usize>,
    pub previous: Option<usize>,
    pub candidate: Option<Tried>,
    pub attempt: u8,
    pub promotion: u8,
    pub secrets_for: Option<usize>,
    pub migration: Option<(u8, MigrationState)>,
    pub abort_answered: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Points {
    Nowhere,
    Wide,
    Only(usize),
}

/// Kinds that others write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lagging {
    pub app: App,
    pub deployments: [Deployment; REVISIONS],
    pub endpoints: [u8; REVISIONS],
    pub jobs: Jobs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    App,
    Deployments,
    Endpoints,
    Jobs,
}

const KINDS: [Kind; 4] = [Kind::App, Kind::Deployments, Kind::Endpoints, Kind::Jobs];

/// For each of [`KINDS`], whether a late event arrives before a pass.
pub type Fresh = [bool; KINDS.len()];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    pub edits: u8,
    pub kills: u8,
    pub pod_failures: u8,
    pub deadlines: u8,
    pub aborts: u8,
    pub breaks: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub truth: Lagging,
    pub seen: Lagging,
    pub stored: [Stored; REVISIONS],
    pub service: Points,
    pub secret: bool,
    pub status: Status,
    pub broken: [bool; REVISIONS],
    /// Pods that failed and are not yet missing from the EndpointSlices.
    pub unpublished: [u8; REVISIONS],
    /// Pods missing from the EndpointSlices of which the operator's cache does not know yet.
    pub undelivered: [u8; REVISIONS],
    pub left: Budget,
    pub violation: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A pass of the operator; with a number it is killed after so many writes and starts anew.
    Reconcile(Fresh, Option<u8>),
    DeploymentController(usize),
    PodReady(usize),
    PodFails(usize),
    PodsGone(usize),
    EndpointSliceController,
    JobController,
    JobPodSucceeds,
    JobPodFails,
    JobGone,
    JobPodGone,
    EditRevision(usize),
    EditReplicas(u8),
    Abort,
    DeadlinePasses,
    Breaks(usize),
}

impl State {
    pub fn start(config: &Config) -> Self {
        let app = App { desired: 0, replicas: config.replicas, abort: false };
        let lagging = Lagging { app, ..Lagging::default() };
        Self {
            truth: lagging,
            seen: lagging,
            stored: [Stored::default(); REVISIONS],
            service: Points::Nowhere,
            secret: false,
            status: Status::default(),
            broken: std::array::from_fn(|revision| config.never_ready == Some(revision)),
            unpublished: [0; REVISIONS],
            undelivered: [0; REVISIONS],
            left: Budget {
                edits: config.edits,
                kills: config.kills,
                pod_failures: config.pod_failures,
                deadlines: config.deadlines,
                aborts: config.aborts,
                breaks: config.breaks,
            },
            violation: None,
        }
    }

    /// The first revision has served for a while.
    pub fn at_rest(config: &Config) -> Self {
        let mut state = Self::start(config);
        let size = config.replicas;
        state.secret = true;
        state.stored[0] = Stored {
            exists: true,
            migrated: config.migrations,
            attempt: 1,
            outcome: Some(Outcome::Promoted),
            promotion: 1,
        };
        state.truth.deployments[0] =
            Deployment { exists: true, asked: size, observed: true, pods: size, ready: size, going: false };
        state.truth.endpoints[0] = size;
        state.service = Points::Only(0);
        state.status =
            Status { stable: Some(0), attempt: 1, promotion: 1, secrets_for: Some(0), ..Status::default() };
        state.seen = state.truth;
        state
    }

    /// One line for a report.
    pub fn summary(&self) -> String {
        let pods = |at: &Lagging| {
            let one = |d: &Deployment| {
                let mark = |is: bool, mark: &'static str| if is { mark } else { "" };
                format!("{}{}:{}/{}{}", d.asked, mark(!d.observed, "*"), d.pods, d.ready, mark(d.going, "-"))
            };
            at.deployments.iter().map(one).collect::<Vec<_>>().join(" ")
        };
        format!(
            "app {:?} seen {:?}\n  pods {} seen {}\n  endpoints {:?} seen {:?} {:?}\n  jobs {:?} seen {:?}\n  stable {:?} {:?} {:?} {:?}",
            self.truth.app,
            self.seen.app,
            pods(&self.truth),
            pods(&self.seen),
            self.truth.endpoints,
            self.seen.endpoints,
            self.service,
            self.truth.jobs,
            self.seen.jobs,
            self.status.stable,
            self.status.candidate,
            self.status.migration,
            self.violation
        )
    }

    fn behind(&self, kind: Kind) -> bool {
        match kind {
            Kind::App => self.seen.app != self.truth.app,
            Kind::Deployments => self.seen.deployments != self.truth.deployments,
            Kind::Endpoints => self.seen.endpoints != self.truth.endpoints,
            Kind::Jobs => self.seen.jobs != self.truth.jobs,
        }
    }

    fn deliver(&mut self, kind: Kind) {
        match kind {
            Kind::App => self.seen.app = self.truth.app,
            Kind::Deployments => self.seen.deployments = self.truth.deployments,
            Kind::Endpoints => {
                self.seen.endpoints = self.truth.endpoints;
                self.undelivered = [0; REVISIONS];
            }
            Kind::Jobs => self.seen.jobs = self.truth.jobs,
        }
    }

    /// As it is with late events brought up to date.
    fn refreshed(&self, fresh: Fresh) -> Self {
        let mut next = *self;
        KINDS.into_iter().zip(fresh).filter(|(_, fresh)| *fresh).for_each(|(kind, _)| next.deliver(kind));
        next
    }

    /// Every choice of late events that may arrive before the next pass.
    fn arrivals(&self) -> impl Iterator<Item = Fresh> {
        let behind = KINDS.map(|kind| self.behind(kind));
        (0_u8..1 << KINDS.len())
            .map(|bits| std::array::from_fn(|kind| bits & (1 << kind) != 0))
            .filter(move |fresh: &Fresh| fresh.iter().zip(behind).all(|(fresh, behind)| !fresh || behind))
    }

    /// Everything that may happen next, faults included.
    pub fn actions(&self, config: &Config) -> Vec<Action> {
        let mut actions = self.controllers(config);
        for fresh in self.arrivals() {
            let writes = self.refreshed(fresh).planned(config).count;
            if writes > 0 {
                actions.push(Action::Reconcile(fresh, None));
            }
            if self.left.kills > 0 {
                actions.extend((1..writes).map(|after| Action::Reconcile(fresh, Some(after))));
            }
        }
        for (revision, deployment) in self.truth.deployments.iter().enumerate() {
            if self.left.pod_failures > 0 && deployment.ready > 0 {
                actions.push(Action::PodFails(revision));
            }
            if self.left.breaks > 0 && self.status.stable == Some(revision) && !self.broken[revision] {
                actions.push(Action::Breaks(revision));
            }
        }
        let running = self.truth.jobs.pods > 0 && self.truth.jobs.job.is_some();
        if running && self.left.pod_failures > 0 {
            actions.push(Action::JobPodFails);
        }
        if self.left.edits > 0 {
            actions.extend(self.next_revisions(config).map(Action::EditRevision));
            let sizes = (0..=config.most_replicas).filter(|size| *size != self.truth.app.replicas);
            actions.extend(sizes.map(Action::EditReplicas));
        }
        if self.left.aborts > 0 && self.status.candidate.is_some_and(|candidate| candidate.verdict.is_none())
        {
            actions.push(Action::Abort);
        }
        if self.left.deadlines > 0 && self.clock_runs() {
            actions.push(Action::DeadlinePasses);
        }
        actions
    }

    /// What an edit may ask for: any revision but the present one, and of those never seen only the first.
    fn next_revisions(&self, config: &Config) -> impl Iterator<Item = usize> {
        let special = [config.never_ready, config.bad_migration];
        let alike = move |revision: usize| {
            let asked = [self.truth.app.desired, self.seen.app.desired].contains(&revision);
            !asked && !self.stored[revision].exists && !special.contains(&Some(revision))
        };
        let first = (0..config.revisions).find(|revision| alike(*revision));
        (0..config.revisions).filter(move |revision| {
            *revision != self.truth.app.desired && (!alike(*revision) || first == Some(*revision))
        })
    }

    /// What happens without faults, edits and the passing of deadlines, the operator first.
    pub fn benign(&self, config: &Config) -> Vec<Action> {
        let fresh = KINDS.map(|kind| self.behind(kind));
        if self.refreshed(fresh).planned(config).count > 0 {
            return vec![Action::Reconcile(fresh, None)];
        }
        self.controllers(config)
    }

    /// What the controllers, kubelets and Jobs of the cluster do next.
    fn controllers(&self, config: &Config) -> Vec<Action> {
        let mut actions = Vec::new();
        for (revision, deployment) in self.truth.deployments.iter().enumerate() {
            if deployment.exists && (!deployment.observed || deployment.pods != deployment.asked) {
                actions.push(Action::DeploymentController(revision));
            }
            if deployment.ready < deployment.pods && !self.broken[revision] {
                actions.push(Action::PodReady(revision));
            }
            if deployment.going {
                actions.push(Action::PodsGone(revision));
            }
        }
        if self.truth.endpoints != self.selected() {
            actions.push(Action::EndpointSliceController);
        }
        match self.truth.jobs.job {
            Some(job) if job.terminating => actions.push(Action::JobGone),
            Some(job) if job.phase == JobPhase::Running && self.truth.jobs.pods == 0 => {
                actions.push(Action::JobController);
            }
            Some(job) if job.phase == JobPhase::Running => {
                let bad = config.bad_migration == Some(job.revision);
                actions.push(if bad { Action::JobPodFails } else { Action::JobPodSucceeds });
            }
            None if self.truth.jobs.pods > 0 => actions.push(Action::JobPodGone),
            _ => {}
        }
        actions
    }

    pub fn clock_runs(&self) -> bool {
        self.status.candidate.is_some_and(|candidate| candidate.running && !candidate.late)
    }

    /// Ready pods that the Service selects.
    pub fn selected(&self) -> [u8; REVISIONS] {
        std::array::from_fn(|revision| {
            let selects = match self.service {
                Points::Nowhere => false,
                Points::Wide => true,
                Points::Only(one) => one == revision,
            };
            if selects { self.truth.deployments[revision].ready } else { 0 }
        })
    }

    /// The state after an action.
    pub fn after(&self, action: Action, config: &Config) -> Self {
        let mut next = *self;
        match action {
            Action::Reconcile(fresh, killed) => {
                next = next.refreshed(fresh);
                next.reconcile(config, killed);
            }
            Action::DeploymentController(revision) => next.change(Kind::Deployments, |truth| {
                truth.deployments[revision].adjust(config.strategy);
            }),
            Action::PodReady(revision) => next.change(Kind::Deployments, |truth| {
                truth.deployments[revision].ready += 1;
            }),
            Action::PodFails(revision) => {
                next.left.pod_failures -= 1;
                next.unpublished[revision] += 1;
                next.change(Kind::Deployments, |truth| truth.deployments[revision].ready -= 1);
            }
            Action::PodsGone(revision) => {
                next.change(Kind::Deployments, |truth| truth.deployments[revision].going = false);
            }
            Action::EndpointSliceController => {
                let selected = next.selected();
                next.change(Kind::Endpoints, |truth| truth.endpoints = selected);
                next.undelivered = std::mem::take(&mut next.unpublished);
            }
            Action::JobController => next.change(Kind::Jobs, |truth| truth.jobs.pods += 1),
            Action::JobPodSucceeds => next.finish_job(JobPhase::Succeeded),
            Action::JobPodFails => {
                let bad = next.truth.jobs.job.is_some_and(|job| config.bad_migration == Some(job.revision));
                if !bad {
                    next.left.pod_failures -= 1;
                }
                next.finish_job(JobPhase::Failed);
            }
            Action::JobGone => next.change(Kind::Jobs, |truth| truth.jobs.job = None),
            Action::JobPodGone => next.change(Kind::Jobs, |truth| truth.jobs.pods = 0),
            Action::EditRevision(revision) => {
                next.left.edits -= 1;
                next.change(Kind::App, |truth| truth.app.desired = revision);
            }
            Action::EditReplicas(size) => {
                next.left.edits -= 1;
                next.change(Kind::App, |truth| truth.app.replicas = size);
            }
            Action::Abort => {
                next.left.aborts -= 1;
                next.change(Kind::App, |truth| truth.app.abort = true);
            }
            Action::DeadlinePasses => {
                next.left.deadlines = next.left.deadlines.saturating_sub(1);
                if let Some(candidate) = next.status.candidate.as_mut() {
                    candidate.late = true;
                }
            }
            Action::Breaks(revision) => {
                next.left.breaks -= 1;
                next.broken[revision] = true;
                next.unpublished[revision] += next.truth.deployments[revision].ready;
                next.change(Kind::Deployments, |truth| truth.deployments[revision].ready = 0);
            }
        }
        next.judge(config);
        next
    }

    fn finish_job(&mut self, phase: JobPhase) {
        self.change(Kind::Jobs, |truth| {
            truth.jobs.pods = 0;
            if let Some(job) = truth.jobs.job.as_mut() {
                job.phase = phase;
            }
        });
    }

    /// Others change the API server; a cache that was behind already gets the event before.
    fn change(&mut self, kind: Kind, change: impl FnOnce(&mut Lagging)) {
        self.deliver(kind);
        change(&mut self.truth);
    }

    /// Invariants that every state must satisfy by itself.
    fn judge(&mut self, config: &Config) {
        for (revision, deployment) in self.truth.deployments.iter().enumerate() {
            if config.migrations && deployment.pods > 0 && !self.stored[revision].migrated {
                self.violation = Some("2: a pod exists before its migration is recorded");
            }
        }
        if self.truth.jobs.pods > 1 {
            self.violation = Some("2: two migration pods at once");
        }
    }

    /// What the operator would do now. It depends on what it sees only, and many states look alike to it.
    fn planned(&self, config: &Config) -> Rc<Planned> {
        let sight = Sight {
            seen: self.seen,
            stored: self.stored,
            service: self.service,
            status: self.status,
            mutant: config.mutant,
            needs: (config.migrations, config.stop_first),
            limits: (config.surge, config.unavailable, config.strategy),
        };
        if let Some(known) = SEEN.with_borrow(|seen| seen.get(&sight).cloned()) {
            return known;
        }
        let goal = self.goal(config);
        let status = self.status.inflate(config.strategy);
        let mut plan = ask(config.mutant, &goal, &status, &self.world(config));
        let posts = plan.writes.iter().any(|write| matches!(write, Write::PostSecret { .. }));
        if posts {
            plan.writes.retain(|write| matches!(write, Write::PostSecret { .. }));
        }
        let status = Status::deflate(&plan.status);
        let count = plan.writes.len() + usize::from(status != self.status) + usize::from(posts);
        let count = u8::try_from(count).expect("a pass writes little");
        let planned = Rc::new(Planned { status, writes: plan.writes, count });
        SEEN.with_borrow_mut(|seen| {
            if seen.len() > MOST_SEEN {
                seen.clear();
            }
            seen.insert(sight, planned.clone());
        });
        planned
    }

    fn goal(&self, config: &Config) -> Goal {
        let app = self.seen.app;
        let command = app.abort.then(|| {
            let current = self.status.candidate.map(|candidate| (candidate.revision, candidate.attempt));
            let (revision, attempt) = current.unwrap_or((0, 0));
            format!("abort {}/{}", NAMES[revision], self.status.abort_answered.unwrap_or(attempt))
        });
        Goal {
            app: "shop".to_owned(),
            generation: 1,
            deleting: false,
            suspend: false,
            replicas: u32::from(app.replicas),
            strategy: config.strategy,
            surge: config.surge,
            unavailable: config.unavailable,
            progress_deadline: std::time::Duration::from_secs(DEADLINE_SECONDS.unsigned_abs()),
            rollback_window: 3,
            history_limit: 5,
            stop_before_migration: config.stop_first,
            desired: NAMES[app.desired].to_owned(),
            command: command.filter(|_| self.status.abort_answered.is_none()),
            proofs: crate::plan::analysis::Proofs::default(),
        }
    }

    pub fn world(&self, config: &Config) -> World {
        let mut world = World { observing_since: None, ..World::default() };
        for (revision, name) in NAMES.iter().enumerate() {
            let name = (*name).to_owned();
            let stored = self.stored[revision];
            if stored.exists {
                world.revisions.insert(name.clone(), stored.observed(config));
            }
            let deployment = self.seen.deployments[revision];
            if deployment.exists {
                world.deployments.insert(name.clone(), deployment.observation());
                let total = u32::from(deployment.pods) + u32::from(deployment.going);
                world.pods.insert(name.clone(), PodsObs { total, ..PodsObs::default() });
            }
            if self.seen.endpoints[revision] > 0 {
                world.endpoints.insert(name, u32::from(self.seen.endpoints[revision]));
            }
        }
        world.service = match self.service {
            Points::Nowhere => None,
            Points::Wide => Some(Selector::Wide),
            Points::Only(revision) => Some(Selector::Only(NAMES[revision].to_owned())),
        }
        .map(|selector| ServiceObs { version: String::new(), selector, drifted: false });
        world.jobs = self.seen.jobs.job.iter().map(Job::observation).collect();
        if self.seen.jobs.pods > 0 {
            world.migration_pods.push(MigrationPod { name: "pod".to_owned(), node: None });
        }
        world
    }

    fn reconcile(&mut self, config: &Config, killed: Option<u8>) {
        let planned = self.planned(config);
        let planned_from = self.seen;
        let mut done = 0;
        let alive = |done: &mut u8| {
            let go_on = killed.is_none_or(|after| *done < after);
            *done += 1;
            go_on
        };
        let mut going_on = true;
        if planned.status != self.status {
            going_on = alive(&mut done);
            if going_on {
                self.store(planned.status);
            }
        }
        if going_on {
            for write in &planned.writes {
                if !alive(&mut done) || !self.write(config, write, &planned_from) {
                    break;
                }
                if let Write::PostSecret { revision } = write {
                    let status = self.after_posting(config, revision);
                    if alive(&mut done) {
                        self.store(status);
                    }
                }
            }
        }
        if killed.is_some() {
            self.left.kills -= 1;
            for kind in KINDS {
                self.deliver(kind);
            }
        }
    }

    /// The status once the post of the Secret was answered.
    fn after_posting(&self, config: &Config, revision: &str) -> Status {
        let mut world = self.world(config);
        world.secret_posted = Some(SecretPosted { revision: revision.to_owned(), created: false });
        let status = self.status.inflate(config.strategy);
        Status::deflate(&ask(config.mutant, &self.goal(config), &status, &world).status)
    }

    /// Stores the status; a stable revision changes only by promotion of a candidate that has all its pods, and an
    /// attempt that was ended stays so.
    fn store(&mut self, status: Status) {
        let verdict = |tried: Option<Tried>| tried.map(|tried| (tried.attempt, tried.verdict.is_some()));
        if let (Some((before, true)), Some((after, false))) =
            (verdict(self.status.candidate), verdict(status.candidate))
            && before == after
        {
            self.violation = Some("6: an attempt that was ended goes on");
        }
        if status.stable != self.status.stable {
            let promoted = self.status.candidate.map(|candidate| candidate.revision);
            let wanted = self.seen.app.replicas;
            let fit = status.stable.is_some_and(|stable| {
                // A spec that asks for what serves already is begun and promoted in one pass.
                (promoted == Some(stable) || self.seen.app.desired == stable)
                    && self.seen.deployments[stable].ready >= wanted
                    && self.seen.endpoints[stable] >= wanted
            });
            if !fit {
                self.violation = Some("9: the stable revision changed without a promotion");
            }
        }
        self.status = status;
    }

    /// Carries out a write. False: its precondition failed.
    fn write(&mut self, config: &Config, write: &Write, planned_from: &Lagging) -> bool {
        match write {
            Write::PostSecret { .. } => self.secret = true,
            Write::Upkeep(_) => {}
            Write::CreateRevision { revision } | Write::RebuildRevision { revision } => {
                self.stored[index(revision)].exists = true;
            }
            Write::Annotate { revision, facts, .. } => self.annotate(index(revision), facts),
            Write::CreateService { selector } | Write::ApplyService { selector, .. } => {
                self.point(selector, planned_from);
            }
            Write::CreateDeployment { revision, replicas } => {
                let revision = index(revision);
                if self.truth.deployments[revision].exists {
                    return false;
                }
                let asked = u8::try_from(*replicas).unwrap_or(u8::MAX);
                self.truth.deployments[revision] =
                    Deployment { exists: true, asked, ..Deployment::default() };
                self.deliver(Kind::Deployments);
            }
            Write::ApplyDeployment { revision, replicas, .. } => {
                let revision = index(revision);
                if self.truth.deployments[revision] != planned_from.deployments[revision] {
                    return false;
                }
                let asked = u8::try_from(*replicas).unwrap_or(u8::MAX);
                self.lower(config, planned_from, revision, asked);
                self.truth.deployments[revision].asked = asked;
                self.truth.deployments[revision].observed = false;
                self.deliver(Kind::Deployments);
            }
            Write::CreateJob { revision, attempt } => {
                // The live list that precedes it.
                if self.truth.jobs.pods > 0 || self.truth.jobs.job.is_some() {
                    return false;
                }
                let attempt = u8::try_from(*attempt).unwrap_or(u8::MAX);
                let job =
                    Job { revision: index(revision), attempt, phase: JobPhase::Running, terminating: false };
                if self.stored[job.revision].migrated {
                    self.violation = Some("2: a second migration for one key");
                }
                self.truth.jobs.job = Some(job);
                self.deliver(Kind::Jobs);
            }
            Write::DeleteJob { .. } => {
                if self.truth.jobs != planned_from.jobs {
                    return false;
                }
                if let Some(job) = self.truth.jobs.job.as_mut() {
                    job.terminating = true;
                }
                self.deliver(Kind::Jobs);
            }
            Write::CreateSmokeJob { .. } => self.violation = Some("a smoke test that nobody asked for"),
            Write::DeleteDeployment { .. } | Write::DeleteRevision { .. } => {
                self.violation = Some("prune: three revisions are within the window");
            }
        }
        true
    }

    fn annotate(&mut self, revision: usize, facts: &Facts) {
        let stored = &mut self.stored[revision];
        stored.migrated = facts.migrated.unwrap_or(stored.migrated);
        stored.outcome = facts.outcome.or(stored.outcome);
        if let Some(attempt) = facts.attempt {
            stored.attempt = u8::try_from(attempt).unwrap_or(u8::MAX);
        }
        if let Some(promotion) = facts.promotion {
            stored.promotion = u8::try_from(promotion).unwrap_or(u8::MAX);
        }
    }

    /// Moves the selector. It may leave serving pods behind only for others that serve.
    fn point(&mut self, selector: &Selector, planned_from: &Lagging) {
        let before: u8 = self.certain(planned_from).iter().sum();
        self.service = match selector {
            Selector::Wide => Points::Wide,
            Selector::Only(revision) => Points::Only(index(revision)),
        };
        if let Points::Only(revision) = self.service {
            let certain = self.certain(planned_from);
            if before > 0 && certain[revision] == 0 {
                self.violation = Some("3: traffic moved to a revision that is not available");
            }
        }
    }

    /// Pods that certainly serve: ready now, ready in the caches, and asked for. A pod whose failure the caches
    /// have not seen counts as failing after the write: no client of an API server can tell the two apart.
    fn certain(&self, planned_from: &Lagging) -> [u8; REVISIONS] {
        let selected = self.selected();
        std::array::from_fn(|revision| {
            let unseen = self.unpublished[revision] + self.undelivered[revision];
            let known = planned_from.endpoints[revision].min(planned_from.deployments[revision].ready);
            (selected[revision] + unseen).min(known).min(self.truth.deployments[revision].asked)
        })
    }

    fn lower(&mut self, config: &Config, planned_from: &Lagging, revision: usize, asked: u8) {
        if asked >= self.truth.deployments[revision].asked || config.strategy == StrategyKind::Recreate {
            return;
        }
        let before = self.certain(planned_from);
        let mut after = before;
        after[revision] = after[revision].min(asked);
        let (before, after): (u8, u8) = (before.iter().sum(), after.iter().sum());
        let floor = u32::from(planned_from.app.replicas).saturating_sub(config.unavailable);
        if u32::from(after) < u32::from(before).min(floor) {
            self.violation = Some("1: a write lowered the serving pods below the floor");
        }
    }
}

impl Deployment {
    /// The Deployment and ReplicaSet controllers: unready pods go first.
    fn adjust(&mut self, strategy: StrategyKind) {
        self.observed = true;
        if self.pods > self.asked {
            self.going = strategy == StrategyKind::Recreate;
            self.ready = self.ready.min(self.asked);
        }
        self.pods = self.asked;
    }

    fn observation(self) -> DeploymentObs {
        DeploymentObs {
            replicas: u32::from(self.asked),
            observed: self.observed,
            pods: u32::from(self.pods),
            available: u32::from(self.ready),
            ..DeploymentObs::default()
        }
    }
}

impl Stored {
    fn observed(self, config: &Config) -> RevisionObs {
        RevisionObs {
            needs_migration: config.migrations,
            migrated: self.migrated,
            attempt: i64::from(self.attempt),
            outcome: self.outcome,
            promotion: i64::from(self.promotion),
            ..RevisionObs::default()
        }
    }
}

impl Job {
    fn observation(&self) -> JobObs {
        JobObs {
            name: "job".to_owned(),
            uid: String::new(),
            version: String::new(),
            revision: NAMES[self.revision].to_owned(),
            attempt: i64::from(self.attempt),
            state: match self.phase {
                JobPhase::Running => JobState::Running,
                JobPhase::Succeeded => JobState::Succeeded,
                JobPhase::Failed => JobState::Failed(JobFailure::default()),
            },
            terminating: self.terminating,
            created: Timestamp::UNIX_EPOCH,
            waiting: None,
            started: true,
        }
    }
}

impl Status {
    pub fn inflate(&self, strategy: StrategyKind) -> PhoenixAppStatus {
        let name = |revision: usize| NAMES[revision].to_owned();
        let epoch = Time(Timestamp::UNIX_EPOCH);
        PhoenixAppStatus {
            stable: self.stable.map(name),
            previous: self.previous.map(name),
            promotion: i64::from(self.promotion),
            attempt: i64::from(self.attempt),
            secrets_for: self.secrets_for.map(name),
            candidate: self.candidate.map(|candidate| Candidate {
                revision: name(candidate.revision),
                attempt: i64::from(candidate.attempt),
                strategy,
                steps: Vec::new(),
                step: 0,
                step_since: None,
                weight: None,
                started_at: epoch.clone(),
                verdict: candidate.verdict.map(|(outcome, returned, migration)| Verdict {
                    outcome,
                    reason: if migration { "MigrationFailed" } else { "ProgressDeadlineExceeded" }.to_owned(),
                    message: String::new(),
                    returned,
                    held: false,
                }),
                progress: candidate.available.map(|available| Progress {
                    available: i32::from(available),
                    elapsed_seconds: if candidate.late { DEADLINE_SECONDS } else { 0 },
                    since: candidate.running.then(|| epoch.clone()),
                }),
            }),
            migration: self.migration.map(|(attempt, state)| MigrationStatus {
                attempt: i64::from(attempt),
                state,
                reason: "BackoffLimitExceeded".to_owned(),
                message: String::new(),
                exit_code: None,
                log_tail: String::new(),
                retries: 0,
                retry_at: Some(epoch.clone()),
            }),
            last_command: self.abort_answered.map(|attempt| LastCommand {
                text: format!("abort ?/{attempt}"),
                answer: CommandAnswer::Accepted,
                message: String::new(),
                n: 1,
            }),
            ..PhoenixAppStatus::default()
        }
    }

    pub fn deflate(status: &PhoenixAppStatus) -> Self {
        let small = |number: i64| u8::try_from(number).unwrap_or(u8::MAX);
        Self {
            stable: status.stable.as_ref().map(|name| index(name)),
            previous: status.previous.as_ref().map(|name| index(name)),
            candidate: status.candidate.as_ref().map(|candidate| Tried {
                revision: index(&candidate.revision),
                attempt: small(candidate.attempt),
                verdict: candidate
                    .verdict
                    .as_ref()
                    .map(|verdict| (verdict.outcome, verdict.returned, verdict.reason == "MigrationFailed")),
                available: candidate.progress.as_ref().map(|progress| small(progress.available.into())),
                running: candidate.progress.as_ref().is_some_and(|progress| progress.since.is_some()),
                late: candidate.progress.as_ref().is_some_and(|p| p.elapsed_seconds >= DEADLINE_SECONDS),
            }),
            attempt: small(status.attempt),
            promotion: small(status.promotion),
            secrets_for: status.secrets_for.as_ref().map(|name| index(name)),
            migration: status.migration.as_ref().map(|m| (small(m.attempt), m.state)),
            abort_answered: status.last_command.as_ref().and_then(|command| {
                let attempt = command.text.rsplit('/').next()?;
                attempt.parse().ok()
            }),
        }
    }
}

fn index(name: &str) -> usize {
    NAMES.iter().position(|known| *known == name).unwrap_or(REVISIONS)
}

/// The planner, or the mutant in its place.
fn ask(mutant: Mutant, goal: &Goal, status: &PhoenixAppStatus, world: &World) -> Plan {
    let now = Timestamp::UNIX_EPOCH;
    let (mut status, mut world) = (status.clone(), world.clone());
    match mutant {
        Mutant::CountsAskedPods => {
            for (name, deployment) in &mut world.deployments {
                world.endpoints.insert(name.clone(), deployment.replicas);
                deployment.available = deployment.replicas;
            }
        }
        Mutant::SkipsMigration => {
            for revision in world.revisions.values_mut() {
                revision.migrated = true;
            }
        }
        Mutant::ForgetsAbort => {
            if let Some(candidate) = status.candidate.as_mut() {
                candidate.verdict = None;
            }
        }
        _ => {}
    }
    let before = status.clone();
    let mut plan = plan(goal, &status, &world, now);
    match mutant {
        Mutant::EagerSelector => {
            if let Some(candidate) = &plan.status.candidate {
                for write in &mut plan.writes {
                    if let Write::ApplyService { selector, .. } = write {
                        *selector = Selector::Only(candidate.revision.clone());
                    }
                }
            }
        }
        Mutant::PromotesSuperseded => {
            let (old, new) = (&before.candidate, &plan.status.candidate);
            if let (Some(old), Some(new)) = (old, new)
                && old.revision != new.revision
            {
                plan.status.stable = Some(old.revision.clone());
            }
        }
        Mutant::KeepsBrokenStable => {
            plan.writes.retain(|write| match write {
                Write::ApplyDeployment { revision, replicas, .. } => {
                    let unavailable = world.asked(revision) > 0 && world.serving(revision) == 0;
                    !(status.stable.as_ref() == Some(revision)
                        && unavailable
                        && *replicas < world.asked(revision))
                }
                _ => true,
            });
        }
        _ => {}
    }
    plan
}
