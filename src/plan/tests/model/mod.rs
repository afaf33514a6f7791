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

mod hands;
mod mutants;
mod route;
mod status;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::{
    CanaryStep, FollowUpKind, FollowUpState, MigrationState, OnFailure, Outcome, Pause, Stage, StrategyKind,
};
use crate::plan::{
    DeploymentObs, Facts, Goal, JobFailure, JobObs, JobState, MigrationPod, PodsObs, PreviewObs, RevisionObs,
    SecretPosted, Selector, ServiceObs, World, Write,
};

use hands::Child;
use mutants::ask;
use route::{Route, Weighed, preview_at};

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
    preview: Preview,
    route: Option<(Option<u8>, bool)>,
    status: Status,
    mutant: Mutant,
    needs: (bool, bool, bool, bool, bool),
    limits: (u32, u32, Option<u32>),
    steps: Steps,
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
#[allow(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Config {
    pub strategy: StrategyKind,
    /// What stands before all requests.
    pub steps: Steps,
    /// Blue-green pods before the promotion.
    pub preview: Option<u32>,
    /// A promotion can be taken back for a while, and a revision before it is kept.
    pub bake: bool,
    /// Pods that go when a revision is no longer needed stop one by one.
    pub batches: bool,
    /// A failure waits for a person.
    pub on_failure_pause: bool,
    /// Commands of these kinds may be given, each at any moment.
    pub verbs: &'static [Verb],
    pub commands: u8,
    /// Canaries go by the weights of an HTTPRoute.
    pub gateway: bool,
    /// An edit may take the HTTPRoute away, and ask for it again.
    pub gateway_edits: bool,
    /// What an edit may change the strategy to.
    pub other_strategy: Option<StrategyKind>,
    /// The status may be lost.
    pub losses: u8,
    /// Somebody may delete or scale a child.
    pub meddling: u8,
    pub replicas: u8,
    pub most_replicas: u8,
    pub surge: u32,
    pub unavailable: u32,
    pub revisions: usize,
    /// Revisions need a migration Job.
    pub migrations: bool,
    /// A Job comes before each migration, each revision has a contract, and each migration a way back.
    pub phases: bool,
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
    /// Takes every contract for due.
    EagerContract,
    /// Forgets what comes before a migration.
    SkipsBefore,
    /// Rolls migrations back and leaves them recorded.
    KeepsRecord,
    /// A gate: takes a wait for a person for passed.
    SkipsPauses,
    /// A weight: takes every step for the last.
    IgnoresWeights,
    /// A route: takes a weight for in force as soon as the gateway has answered.
    IgnoresLag,
    /// A route: takes pods for available that are only asked for.
    WeighsBlindly,
}

/// What stands before all requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Steps {
    #[default]
    None,
    /// A person.
    Person,
    /// A third of the requests, and a person.
    ThirdThenPerson,
    /// A third, two thirds, a third again.
    UpAndDown,
}

impl Steps {
    fn list(self) -> Vec<CanaryStep> {
        let weight = |percent| CanaryStep { set_weight: Some(percent), ..CanaryStep::default() };
        let person = || CanaryStep { pause: Some(Pause { duration: None }), ..CanaryStep::default() };
        match self {
            Self::None => Vec::new(),
            Self::Person => vec![person()],
            Self::ThirdThenPerson => vec![weight(33), person()],
            Self::UpAndDown => vec![weight(33), weight(67), weight(33)],
        }
    }

    fn of(steps: &[CanaryStep]) -> Self {
        [Self::Person, Self::ThirdThenPerson, Self::UpAndDown]
            .into_iter()
            .find(|known| known.list() == steps)
            .unwrap_or_default()
    }

    fn waits_for_a_person(self) -> bool {
        matches!(self, Self::Person | Self::ThirdThenPerson)
    }
}

/// A command's first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    Promote,
    PromoteFull,
    Abort,
    Retry,
    Rollback,
    RollbackWithMigrations,
    Pause,
    Resume,
}

impl Verb {
    const ALL: [(Self, &str); 8] = [
        (Self::Promote, "promote"),
        (Self::PromoteFull, "promote-full"),
        (Self::Abort, "abort"),
        (Self::Retry, "retry"),
        (Self::Rollback, "rollback"),
        (Self::RollbackWithMigrations, "rollback"),
        (Self::Pause, "pause"),
        (Self::Resume, "resume"),
    ];
}

/// A command as it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Given {
    pub verb: Verb,
    pub revision: usize,
    pub attempt: u8,
    pub n: u8,
}

impl Given {
    fn text(self) -> String {
        let word = Verb::ALL.into_iter().find(|(verb, _)| *verb == self.verb).map_or("", |(_, word)| word);
        let Self { revision, attempt, n, .. } = self;
        let name = NAMES.get(revision).copied().unwrap_or("?");
        match self.verb {
            Verb::Pause | Verb::Resume => format!("{word} {name}/{attempt}/{n}"),
            Verb::RollbackWithMigrations => format!("{word} {name}/{attempt} force with-migrations"),
            _ => format!("{word} {name}/{attempt}"),
        }
    }

    fn of(text: &str, n: i64) -> Option<Self> {
        let mut words = text.split_whitespace();
        let word = words.next()?;
        let verb = match Verb::ALL.into_iter().find(|(_, known)| *known == word)?.0 {
            Verb::Rollback if text.ends_with("with-migrations") => Verb::RollbackWithMigrations,
            verb => verb,
        };
        let mut parts = words.next()?.split('/');
        let (revision, attempt) = (index(parts.next()?), parts.next()?.parse().ok()?);
        let n =
            parts.next().and_then(|n| n.parse().ok()).unwrap_or_else(|| u8::try_from(n).unwrap_or_default());
        Some(Self { verb, revision, attempt, n })
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct App {
    pub desired: usize,
    pub replicas: u8,
    pub strategy: StrategyKind,
    pub gateway: bool,
    pub command: Option<Given>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stored {
    pub exists: bool,
    pub migrated: bool,
    /// The attempt in which what comes before its migration is recorded.
    pub before: u8,
    pub contracted: bool,
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
    pub stage: Stage,
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
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Tried {
    pub revision: usize,
    pub attempt: u8,
    pub strategy: StrategyKind,
    pub gateway: bool,
    pub steps: Steps,
    pub step: u8,
    /// The step under way has begun.
    pub begun: bool,
    pub verdict: Option<Ended>,
    pub available: Option<u8>,
    pub running: bool,
    pub late: bool,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ended {
    pub outcome: Outcome,
    pub returned: bool,
    pub held: bool,
    /// By its migration.
    pub migration: bool,
}

/// A time after a promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct After {
    pub strategy: StrategyKind,
    pub gateway: bool,
    /// What was kept is fresh.
    pub drained: bool,
    /// It has lasted long enough.
    pub over: bool,
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
    pub follow_up: Option<Follows>,
    pub bake: Option<After>,
    pub route: Option<Weighed>,
    pub kept: Option<After>,
    pub paused: bool,
    pub answered: Option<Given>,
}

/// The Job that follows a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Follows {
    pub kind: FollowUpKind,
    pub revision: usize,
    pub attempt: u8,
    pub state: FollowUpState,
    pub aborted: bool,
}

/// The preview Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Preview {
    #[default]
    Absent,
    Nowhere,
    At(usize),
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
    pub commands: u8,
    pub breaks: u8,
    pub losses: u8,
    pub meddling: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub truth: Lagging,
    pub seen: Lagging,
    pub stored: [Stored; REVISIONS],
    pub service: Points,
    pub preview: Preview,
    pub route: Option<Route>,
    pub secret: bool,
    pub status: Status,
    /// A person has once let a rollout go on.
    pub approved: bool,
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
    EditStrategy(StrategyKind),
    EditGateway,
    GatewayAnswers,
    LagPasses,
    Command(Verb),
    DeadlinePasses,
    BakeEnds,
    KeepEnds,
    LoseStatus,
    Delete(Child),
    /// A Deployment is scaled by hand.
    Scale(usize, u8),
    Breaks(usize),
}

impl State {
    pub fn start(config: &Config) -> Self {
        let app = App {
            desired: 0,
            replicas: config.replicas,
            strategy: config.strategy,
            gateway: config.gateway,
            command: None,
        };
        let lagging = Lagging { app, ..Lagging::default() };
        Self {
            truth: lagging,
            seen: lagging,
            stored: [Stored::default(); REVISIONS],
            service: Points::Nowhere,
            preview: Preview::Absent,
            route: None,
            secret: false,
            status: Status::default(),
            approved: false,
            broken: std::array::from_fn(|revision| config.never_ready == Some(revision)),
            unpublished: [0; REVISIONS],
            undelivered: [0; REVISIONS],
            left: Budget {
                edits: config.edits,
                kills: config.kills,
                pod_failures: config.pod_failures,
                deadlines: config.deadlines,
                commands: config.commands,
                breaks: config.breaks,
                losses: config.losses,
                meddling: config.meddling,
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
            before: 1,
            contracted: config.phases,
            attempt: 1,
            outcome: Some(Outcome::Promoted),
            promotion: 1,
        };
        state.truth.deployments[0] =
            Deployment { exists: true, asked: size, observed: true, pods: size, ready: size, going: false };
        state.truth.endpoints[0] = size;
        state.service = Points::Only(0);
        if config.strategy == StrategyKind::BlueGreen
            || (config.gateway && config.strategy == StrategyKind::Canary)
        {
            state.preview = Preview::Nowhere;
        }
        let weighed = Weighed { weight: 0, current: true, over: true };
        state.status =
            Status { stable: Some(0), attempt: 1, promotion: 1, secrets_for: Some(0), ..Status::default() };
        if config.gateway {
            state.route = Some(Route::AT_REST);
            state.status.route = Some(weighed);
        }
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
            "app {:?} seen {:?} preview {:?} route {:?} status {:?}\n  pods {} seen {}\n  endpoints {:?} seen {:?} {:?}\n  jobs {:?} seen {:?}\n  stable {:?} {:?} {:?} {:?}",
            self.truth.app,
            self.seen.app,
            self.preview,
            self.route,
            self.status,
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
        if self.left.edits > 0
            && let Some(other) = config.other_strategy
        {
            let kinds = [config.strategy, other].into_iter().filter(|kind| *kind != self.truth.app.strategy);
            actions.extend(kinds.map(Action::EditStrategy));
        }
        if self.left.edits > 0 && config.gateway_edits {
            actions.push(Action::EditGateway);
        }
        if self.left.commands > 0 {
            let sensible = config.verbs.iter().filter(|verb| self.may_be_given(**verb));
            actions.extend(sensible.map(|verb| Action::Command(*verb)));
        }
        if self.left.losses > 0 && self.status != Status::default() {
            actions.push(Action::LoseStatus);
        }
        if self.left.meddling > 0 {
            actions.extend(self.by_hand(config));
        }
        actions.extend(self.time_passes());
        if self.left.deadlines > 0 && self.clock_runs() {
            actions.push(Action::DeadlinePasses);
        }
        actions
    }

    fn edit(&mut self, change: impl FnOnce(&mut App)) {
        self.left.edits -= 1;
        self.change(Kind::App, |truth| change(&mut truth.app));
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
        if self.route.is_some_and(|route| !route.answered) {
            actions.push(Action::GatewayAnswers);
        }
        if self.lag_runs() {
            actions.push(Action::LagPasses);
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

    /// Commands that would only be refused are not given.
    fn may_be_given(&self, verb: Verb) -> bool {
        let tried = self.status.candidate;
        let under_way = tried.is_some_and(|tried| tried.verdict.is_none());
        match verb {
            Verb::Promote => tried.is_some_and(|tried| tried.verdict.is_none() && tried.begun),
            Verb::PromoteFull => under_way,
            Verb::Abort => {
                under_way
                    || self.status.bake.is_some()
                    || self.truth.jobs.job.is_some_and(|job| !job.stage.gates())
                    || tried.is_some_and(|tried| tried.verdict.is_some_and(|ended| ended.held))
            }
            Verb::Retry => tried.is_some_and(|tried| tried.verdict.is_some()),
            Verb::Rollback | Verb::RollbackWithMigrations => self.status.previous.is_some() && !under_way,
            Verb::Pause => !self.status.paused,
            Verb::Resume => self.status.paused,
        }
    }

    /// What only the clock brings.
    pub fn time_passes(&self) -> Vec<Action> {
        let running = |after: Option<After>| after.is_some_and(|after| !after.over);
        let bake = running(self.status.bake).then_some(Action::BakeEnds);
        // What is kept outlasts the bake.
        let keep = (self.status.bake.is_none() && running(self.status.kept)).then_some(Action::KeepEnds);
        bake.into_iter().chain(keep).collect()
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
                truth.deployments[revision].adjust(config);
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
            Action::EditRevision(revision) => next.edit(|app| app.desired = revision),
            Action::EditReplicas(size) => next.edit(|app| app.replicas = size),
            Action::EditStrategy(kind) => next.edit(|app| app.strategy = kind),
            Action::EditGateway => next.edit(|app| app.gateway = !app.gateway),
            Action::GatewayAnswers => next.gateway_answers(),
            Action::LagPasses => next.lag_passes(),
            Action::Command(verb) => {
                next.left.commands -= 1;
                next.approved |= matches!(verb, Verb::Promote | Verb::PromoteFull);
                let status = next.status;
                let target = status.candidate.map(|tried| (tried.revision, tried.attempt));
                let target = target.or_else(|| Some((status.stable?, status.attempt)));
                let (revision, attempt) = target.unwrap_or((0, 0));
                let n = status.answered.map_or(0, |given| given.n) + 1;
                let given = Given { verb, revision, attempt, n };
                next.change(Kind::App, |truth| truth.app.command = Some(given));
            }
            Action::BakeEnds => {
                if let Some(bake) = next.status.bake.as_mut() {
                    bake.over = true;
                }
            }
            Action::KeepEnds => {
                if let Some(kept) = next.status.kept.as_mut() {
                    kept.over = true;
                }
            }
            Action::LoseStatus => {
                next.left.losses -= 1;
                next.status = Status::default();
            }
            Action::Delete(child) => next.delete(child),
            Action::Scale(revision, size) => next.scale(revision, size),
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
            let stored = self.stored[revision];
            // What is recorded goes with its record.
            let deleted = config.meddling > 0 && !stored.exists;
            if config.migrations && deployment.pods > 0 && !stored.migrated && !deleted {
                self.violation = Some("2: a pod exists before its migration is recorded");
            }
        }
        let pods = |revision: usize| {
            let deployment = self.truth.deployments[revision];
            deployment.pods > 0 || deployment.going
        };
        if let Some(job) = self.truth.jobs.job.filter(|_| self.truth.jobs.pods > 0) {
            let others = (0..REVISIONS).any(|revision| revision != job.revision && pods(revision));
            if job.stage == Stage::Contract && others {
                self.violation = Some("contract: a pod of another revision is there");
            }
            if job.stage == Stage::Rollback && pods(job.revision) {
                self.violation = Some("rollback: a pod of the newer revision is there");
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
            preview: self.preview,
            route: self.route.map(|route| (route.share, route.answered)),
            status: self.status,
            mutant: config.mutant,
            needs: (config.migrations, config.stop_first, config.bake, config.batches, config.phases),
            limits: (config.surge, config.unavailable, config.preview),
            steps: config.steps,
        };
        if let Some(known) = SEEN.with_borrow(|seen| seen.get(&sight).cloned()) {
            return known;
        }
        let goal = self.goal(config);
        let status = self.status.inflate();
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
        let lasts =
            if config.bake { Duration::from_secs(DEADLINE_SECONDS.unsigned_abs()) } else { Duration::ZERO };
        Goal {
            app: "shop".to_owned(),
            generation: 1,
            deleting: false,
            suspend: false,
            replicas: u32::from(app.replicas),
            strategy: app.strategy,
            steps: match app.strategy {
                StrategyKind::Canary | StrategyKind::BlueGreen => config.steps.list(),
                StrategyKind::Rolling | StrategyKind::Recreate => Vec::new(),
            },
            preview_replicas: config.preview,
            blue_green_bake: lasts,
            canary_bake: lasts,
            keep_old: lasts,
            keep_old_replicas: 1,
            on_failure: if config.on_failure_pause { OnFailure::Pause } else { OnFailure::Rollback },
            drain_batch: config.batches.then_some(1),
            drain_interval: Duration::ZERO,
            surge: config.surge,
            unavailable: config.unavailable,
            progress_deadline: Duration::from_secs(DEADLINE_SECONDS.unsigned_abs()),
            rollback_window: 3,
            history_limit: 5,
            stop_before_migration: config.stop_first,
            budget: None,
            gateway: app.gateway,
            endpoint_lag: Duration::from_secs(10),
            desired: NAMES[app.desired].to_owned(),
            command: app.command.map(Given::text),
            proofs: crate::plan::analysis::Proofs::default(),
            workers: std::collections::BTreeMap::new(),
            verify: None,
        }
    }

    pub fn world(&self, config: &Config) -> World {
        let mut world = World { observing_since: None, ..World::default() };
        for (revision, name) in NAMES.iter().enumerate() {
            let name = (*name).to_owned();
            let stored = self.stored[revision];
            if stored.exists {
                world.revisions.insert(name.clone(), stored.observed(config, revision));
            }
            let deployment = self.seen.deployments[revision];
            if deployment.exists {
                world.deployments.insert(name.clone(), deployment.observation());
            }
            let total = u32::from(deployment.pods) + u32::from(deployment.going);
            if deployment.exists || total > 0 {
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
        world.preview = match self.preview {
            Preview::Absent => None,
            Preview::Nowhere => Some(None),
            Preview::At(revision) => Some(Some(NAMES[revision].to_owned())),
        }
        .map(|revision| PreviewObs {
            version: String::new(),
            uid: String::new(),
            revision,
            drifted: false,
        });
        if let Preview::At(revision) = self.preview {
            let ready = u32::from(self.seen.deployments[revision].ready);
            world.published.insert(NAMES[revision].to_owned(), ready);
        }
        world.gateway_api = true;
        world.route = self.route.map(Route::observation);
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
                self.store(config, planned.status);
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
                        self.store(config, status);
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
        let status = self.status.inflate();
        Status::deflate(&ask(config.mutant, &self.goal(config), &status, &world).status)
    }

    /// Stores the status; a stable revision changes only by promotion of a candidate that has all its pods, and an
    /// attempt that was ended stays so.
    fn store(&mut self, config: &Config, status: Status) {
        let verdict = |tried: Option<Tried>| tried.map(|tried| (tried.attempt, tried.verdict.is_some()));
        let known = self.status != Status::default();
        if let (Some((before, true)), Some((after, false))) =
            (verdict(self.status.candidate), verdict(status.candidate))
            && before == after
        {
            self.violation = Some("6: an attempt that was ended goes on");
        }
        if status.stable != self.status.stable {
            let promoted = self.status.candidate.map(|candidate| candidate.revision);
            // By a command; a newer spec may be begun in the same pass.
            let reverted = self.status.previous.is_some()
                && status.stable == self.status.previous
                && status.answered != self.status.answered
                && status.answered.is_some_and(|given| {
                    matches!(given.verb, Verb::Abort | Verb::Rollback | Verb::RollbackWithMigrations)
                });
            let gated = config.steps.waits_for_a_person() && config.other_strategy.is_none();
            let gated = gated && self.status.stable.is_some() && !reverted;
            if gated && !self.approved {
                self.violation = Some("gate: promoted without the person that it waits for");
            }
            let wanted = self.seen.app.replicas;
            let fit = status.stable.is_some_and(|stable| {
                // A spec that asks for what serves already is begun and promoted in one pass.
                (promoted == Some(stable) || self.seen.app.desired == stable)
                    && self.seen.deployments[stable].ready >= wanted
                    && self.seen.endpoints[stable] >= wanted
            });
            if fit && !reverted && self.weighs() {
                self.violation = Some("order: promoted while a gateway leads around the Service");
            }
            if known && !fit && !reverted {
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
            Write::CreateRevision { revision, attempt } => {
                self.stored[index(revision)].exists = true;
                self.annotate(index(revision), &Facts { attempt: *attempt, ..Facts::default() });
            }
            Write::RebuildRevision { revision, contracted } => {
                let contracted = *contracted;
                self.stored[index(revision)] =
                    Stored { exists: true, migrated: config.migrations, contracted, ..Stored::default() };
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
                self.weigh(config, revision, asked);
                // Pods of one that was deleted may be on their way out.
                let going = self.truth.deployments[revision].going;
                self.truth.deployments[revision] =
                    Deployment { exists: true, asked, going, ..Deployment::default() };
                self.deliver(Kind::Deployments);
            }
            Write::ApplyDeployment { revision, replicas, .. } => {
                let revision = index(revision);
                if self.truth.deployments[revision] != planned_from.deployments[revision] {
                    return false;
                }
                let asked = u8::try_from(*replicas).unwrap_or(u8::MAX);
                self.lower(config, planned_from, revision, asked);
                self.lower_behind(planned_from, revision, asked);
                self.weigh(config, revision, asked);
                self.truth.deployments[revision].asked = asked;
                self.truth.deployments[revision].observed = false;
                self.deliver(Kind::Deployments);
            }
            Write::CreateJob { revision, stage, attempt } => {
                // The live list that precedes it.
                if self.truth.jobs.pods > 0 || self.truth.jobs.job.is_some() {
                    return false;
                }
                let attempt = u8::try_from(*attempt).unwrap_or(u8::MAX);
                let job = Job {
                    revision: index(revision),
                    stage: *stage,
                    attempt,
                    phase: JobPhase::Running,
                    terminating: false,
                };
                let stored = self.stored[job.revision];
                let wrong = match stage {
                    Stage::Before(_) | Stage::Migrate if stored.migrated => {
                        "2: a second migration for one key"
                    }
                    Stage::Before(_) if stored.before == attempt => "before: what is recorded runs again",
                    Stage::Migrate if config.phases && stored.before != attempt => {
                        "before: a migration without what comes before it"
                    }
                    Stage::Contract if stored.contracted => "contract: what is recorded runs again",
                    Stage::Rollback if stored.migrated => "rollback: what goes is still recorded",
                    _ => "",
                };
                if !wrong.is_empty() {
                    self.violation = Some(wrong);
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
            Write::CreatePreview { revision } | Write::ApplyPreview { revision, .. } => {
                self.preview_moves(preview_at(revision.as_ref()));
            }
            Write::DeletePreview { .. } => self.preview_moves(Preview::Absent),
            Write::CreateRoute => self.create_route(),
            Write::ApplyRoute { share, .. } => self.weigh_route(*share, planned_from),
            Write::DeleteRoute { .. } => self.delete_route(),
            Write::CreateSmokeJob { .. } => self.violation = Some("a smoke test that nobody asked for"),
            Write::CreateWorker { .. } | Write::ApplyWorker { .. } | Write::DeleteWorker { .. } => {
                self.violation = Some("a worker that nobody asked for");
            }
            Write::DeleteDeployment { .. } | Write::DeleteRevision { .. } => {
                self.violation = Some("prune: three revisions are within the window");
            }
        }
        true
    }

    fn annotate(&mut self, revision: usize, facts: &Facts) {
        let stored = &mut self.stored[revision];
        stored.migrated = facts.migrated.unwrap_or(stored.migrated);
        stored.contracted = facts.contracted.unwrap_or(stored.contracted);
        if let Some((attempt, _)) = facts.before {
            stored.before = u8::try_from(attempt).unwrap_or(u8::MAX);
        }
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
        let was = self.service;
        self.service = match selector {
            Selector::Wide => Points::Wide,
            Selector::Only(revision) => Points::Only(index(revision)),
        };
        let moved = matches!((was, self.service), (Points::Only(from), Points::Only(to)) if from != to);
        if let Points::Only(revision) = self.service {
            let after = if moved {
                // None of its pods is among the endpoints yet: those that are known to be ready will be. That one has
                // failed meanwhile is known to nobody but its kubelet.
                planned_from.deployments[revision].ready
            } else {
                self.certain(planned_from)[revision]
            };
            if before > 0 && after == 0 {
                self.violation = Some("3: traffic moved to a revision that is not available");
            }
            let floor = planned_from.app.replicas.min(before);
            let lowered = after.min(self.seen.deployments[revision].asked) < floor;
            if moved && lowered && self.violation.is_none() {
                self.violation = Some("1: a write of the selector lowered the serving pods below the floor");
            }
        }
        if let Some(tried) = self.status.candidate
            && tried.verdict.is_none()
            && (tried.strategy == StrategyKind::BlueGreen || tried.gateway)
            && usize::from(tried.step) < tried.steps.list().len()
            && self.service != was
            && (self.service == Points::Wide || self.service == Points::Only(tried.revision))
        {
            self.violation = Some("3: requests reach a blue-green candidate before its gates");
        }
    }

    /// A canary has some pods, and never all, before its last step.
    fn weigh(&mut self, config: &Config, revision: usize, asked: u8) {
        let Some(tried) = self.status.candidate else { return };
        let before_the_last = tried.verdict.is_none() && usize::from(tried.step) < tried.steps.list().len();
        if before_the_last
            && tried.strategy == StrategyKind::Canary
            && tried.revision == revision
            && asked > self.truth.deployments[revision].asked
            && u32::from(asked) >= u32::from(self.seen.app.replicas.max(2)) + config.surge.min(1)
        {
            self.violation = Some("weight: a canary has all pods before its last step");
        }
    }

    /// Pods that certainly serve: ready now, ready in the caches, and asked for as far as the caches know, which show the
    /// operator's own writes at once. A pod whose failure they have not seen counts as failing after the write, and what
    /// somebody did by hand as done after it: no client of an API server can tell the two apart.
    fn certain(&self, planned_from: &Lagging) -> [u8; REVISIONS] {
        let selected = self.selected();
        std::array::from_fn(|revision| {
            let unseen = self.unpublished[revision] + self.undelivered[revision];
            let known = planned_from.endpoints[revision].min(planned_from.deployments[revision].ready);
            (selected[revision] + unseen).min(known).min(self.seen.deployments[revision].asked)
        })
    }

    fn lower(&mut self, config: &Config, planned_from: &Lagging, revision: usize, asked: u8) {
        let recreated = self.seen.app.strategy == StrategyKind::Recreate;
        if asked >= self.truth.deployments[revision].asked || recreated {
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
    fn adjust(&mut self, config: &Config) {
        self.observed = true;
        if self.pods > self.asked {
            self.going = config.strategy == StrategyKind::Recreate || config.bake || config.phases;
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
    fn observed(self, config: &Config, index: usize) -> RevisionObs {
        let phased = config.phases;
        RevisionObs {
            number: i64::try_from(index).unwrap_or_default() + 1,
            before: if phased { vec!["backup".to_owned()] } else { Vec::new() },
            before_done: (i64::from(self.before), usize::from(self.before > 0)),
            has_contract: phased,
            contracted: self.contracted,
            has_rollback: phased,
            contract_key: phased.then(|| NAMES[index].to_owned()),
            migration_key: phased.then(|| NAMES[index].to_owned()),
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
            stage: self.stage,
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

fn index(name: &str) -> usize {
    NAMES.iter().position(|known| *known == name).unwrap_or(REVISIONS)
}
