//! Everything the planner looks at: what the user asks for ([`Goal`]) and what was observed ([`World`]).
//!
//! Both are small and free of Kubernetes types, so that the model checker can walk millions of them. The
//! controller's `observe` step makes them from its caches.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::analysis::{MeasureKey, Measured, Proofs};
use crate::api::{CanaryStep, OnFailure, Stage, StrategyKind};

/// Name of a revision, as it stands in the names and labels of its children.
pub type Rev = String;

/// What the user asks for, as far as the planner cares.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a wish of its own")]
pub struct Goal {
    /// `metadata.name` of the app.
    pub app: String,
    /// `metadata.generation` of the app.
    pub generation: i64,
    /// The app is being deleted: nothing is written.
    pub deleting: bool,
    /// Only the status is written.
    pub suspend: bool,
    /// Wanted pods.
    pub replicas: u32,
    /// How revisions follow one another.
    pub strategy: StrategyKind,
    /// What stands before all requests move: a canary's steps, or a blue-green's wait for time or a person.
    pub steps: Vec<CanaryStep>,
    /// Blue-green pods that stand ready before the promotion; none: all.
    pub preview_replicas: Option<u32>,
    /// How long a blue-green promotion can be taken back by itself.
    pub blue_green_bake: Duration,
    /// How long a canary's promotion can be taken back by itself.
    pub canary_bake: Duration,
    /// How long the revision before is kept after a blue-green promotion.
    pub keep_old: Duration,
    /// Pods of it that are kept.
    pub keep_old_replicas: u32,
    /// What a failed rollout does.
    pub on_failure: OnFailure,
    /// Most pods of a revision no longer needed that stop at once; none: all.
    pub drain_batch: Option<u32>,
    /// From one such batch to the next.
    pub drain_interval: Duration,
    /// Pods above `replicas` during a rollout, resolved against `replicas`.
    pub surge: u32,
    /// Pods below `replicas` during a rollout, resolved against `replicas`.
    pub unavailable: u32,
    /// Longest time without one more available candidate pod.
    pub progress_deadline: Duration,
    /// How many Deployments of earlier revisions are kept, at zero replicas.
    pub rollback_window: usize,
    /// How many earlier revisions are kept.
    pub history_limit: usize,
    /// Recreate with a volume that only one pod may use: stop, migrate, start.
    pub stop_before_migration: bool,
    /// How many connections the database has for this app; none: they are not counted.
    pub budget: Option<Budget>,
    /// An HTTPRoute is asked for.
    pub gateway: bool,
    /// How long after an answer a change of endpoints or weights is in force everywhere.
    pub endpoint_lag: Duration,
    /// The revision that the spec describes.
    pub desired: Rev,
    /// The command annotation, as given.
    pub command: Option<String>,
    /// What a release is to prove.
    pub proofs: Proofs,
    /// Workers that the spec names.
    pub workers: BTreeMap<String, WorkerGoal>,
    /// How pods are asked whom they see; none: they are not.
    pub verify: Option<Verify>,
}

/// How pods are asked whom they see.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Verify {
    /// Path of the request.
    pub path: String,
    /// Where in the answer the peers are: their number, or a list of them.
    pub json_path: String,
}

/// What a worker is to be, whatever its revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerGoal {
    /// Wanted pods.
    pub replicas: u32,
    /// Old pods are gone before the first new one starts.
    pub recreate: bool,
}

/// How many connections the database has for this app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Most connections at once.
    pub max: u32,
    /// Connections that one pod may hold, and one Job.
    pub per_pod: u32,
}

/// What was observed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// Stored revisions.
    pub revisions: BTreeMap<Rev, RevisionObs>,
    /// Deployments, one per revision.
    pub deployments: BTreeMap<Rev, DeploymentObs>,
    /// Pods per revision that exist, those on their way out included.
    pub pods: BTreeMap<Rev, PodsObs>,
    /// Pods per revision that the active Service's EndpointSlices call ready.
    pub endpoints: BTreeMap<Rev, u32>,
    /// Pods per revision that the preview Service's EndpointSlices call ready.
    pub published: BTreeMap<Rev, u32>,
    /// Workers, by name and revision.
    pub workers: BTreeMap<(String, Rev), WorkerObs>,
    /// The active Service.
    pub service: Option<ServiceObs>,
    /// The preview Service.
    pub preview: Option<PreviewObs>,
    /// The cluster knows HTTPRoutes.
    pub gateway_api: bool,
    /// The HTTPRoute.
    pub route: Option<RouteObs>,
    /// Migration Jobs.
    pub jobs: Vec<JobObs>,
    /// Pods of migration Jobs that have not ended, with the node each is on.
    pub migration_pods: Vec<MigrationPod>,
    /// Jobs of smoke tests.
    pub smoke_jobs: Vec<SmokeJobObs>,
    /// Addresses per revision of ready pods that are not on their way out.
    pub addresses: BTreeMap<Rev, BTreeSet<String>>,
    /// Answers to measurements that earlier plans asked for.
    pub measured: BTreeMap<MeasureKey, Measured>,
    /// Children that differ from what they should be and whose repair can harm nothing.
    pub upkeep: BTreeSet<Upkeep>,
    /// The generated Secret exists for this revision: the answer to a write of this very pass.
    pub secret_posted: Option<SecretPosted>,
    /// A pod says that the generated Secret is missing.
    pub secret_missing: bool,
    /// Pods that took their environment from the generated Secret before it was last made anew (all running ones, as
    /// long as it never was).
    pub secret_holders: Vec<String>,
    /// A person or another program stands in the way.
    pub fault: Option<Fault>,
    /// The Ingress or the HTTPRoute is refused, which nothing else waits for.
    pub edge: Option<Fault>,
    /// Since when this process has observed without a gap; deadlines count from here at the earliest.
    pub observing_since: Option<Timestamp>,
}

/// Answer to the write of the generated Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretPosted {
    /// For which revision it was posted.
    pub revision: Rev,
    /// It did not exist before.
    pub created: bool,
}

/// A stored revision (an `apps/v1 ControllerRevision` of ours).
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own, and none depends on another")]
pub struct RevisionObs {
    /// Its `resourceVersion`.
    pub version: String,
    /// Its UID.
    pub uid: String,
    /// Image of its pods.
    pub image: String,
    /// Frozen: the port that its pods serve HTTP on.
    pub port: u16,
    /// Frozen: a Job has to migrate the database before any pod of this revision exists.
    pub needs_migration: bool,
    /// Revisions with the same key share one migration.
    pub migration_key: Option<String>,
    /// The migration is recorded as done.
    pub migrated: bool,
    /// Rises with each revision of the app: an older one has a smaller one.
    pub number: i64,
    /// Frozen: names of the Jobs that come before its migration, in order.
    pub before: Vec<String>,
    /// The attempt in which such Jobs were last recorded, and how many.
    pub before_done: (i64, usize),
    /// Frozen: it has a contract, for when no older revision has pods any more.
    pub has_contract: bool,
    /// Revisions with the same key share one contract.
    pub contract_key: Option<String>,
    /// The contract is recorded as done: what older revisions need is gone.
    pub contracted: bool,
    /// Frozen: its migrations have a way back.
    pub has_rollback: bool,
    /// Last attempt in which it was the candidate.
    pub attempt: i64,
    /// How that attempt ended, as recorded.
    pub outcome: Option<crate::api::Outcome>,
    /// Its rising promotion number; 0: never promoted.
    pub promotion: i64,
    /// Being deleted.
    pub terminating: bool,
    /// Frozen: the id of the Erlang cluster that its nodes are in; none when they stay alone.
    pub cluster: Option<String>,
    /// Frozen: its workers, as the spec had them when it was stored.
    pub workers: BTreeMap<String, WorkerGoal>,
}

/// A Deployment of one revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeploymentObs {
    /// Its `resourceVersion`.
    pub version: String,
    /// Its UID.
    pub uid: String,
    /// `spec.replicas`.
    pub replicas: u32,
    /// The Deployment controller has seen the last change of the spec.
    pub observed: bool,
    /// `status.replicas`: pods that exist and are not on their way out.
    pub pods: u32,
    /// `status.availableReplicas`.
    pub available: u32,
    /// Pods that are not yet of its present template, as in a restart: `status.replicas` without `status.updatedReplicas`.
    pub outdated: u32,
    /// When a restart of its pods was last asked for, as its template says.
    pub restarted_at: Option<Timestamp>,
    /// Being deleted.
    pub terminating: bool,
    /// A field of ours differs from what it should be (the replica count aside).
    pub drifted: bool,
}

/// Pods of one revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodsObs {
    /// Pods that exist, those on their way out included.
    pub total: u32,
    /// What is wrong with the worst one, in words.
    pub worst: Option<String>,
    /// A pod crashes again and again.
    pub crashing: bool,
    /// Nodes that no longer answer and still hold a pod.
    pub lost_nodes: BTreeSet<String>,
}

/// The pods of one worker in one revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkerObs {
    /// Their Deployment.
    pub deployment: Option<DeploymentObs>,
    /// Pods that exist, those on their way out included.
    pub total: u32,
    /// What is wrong with the worst one, in words.
    pub worst: Option<String>,
    /// A pod crashes again and again.
    pub crashing: bool,
    /// Nodes that no longer answer and still hold a pod.
    pub lost_nodes: BTreeSet<String>,
    /// Addresses of ready pods that are not on their way out.
    pub addresses: BTreeSet<String>,
}

impl RevisionObs {
    /// Its migration is not recorded, so it never had a pod.
    pub fn lacks_migration(&self) -> bool {
        self.needs_migration && !self.migrated
    }
}

impl WorkerObs {
    /// `spec.replicas` of the Deployment.
    pub fn asked(&self) -> u32 {
        self.deployment.as_ref().filter(|deployment| !deployment.terminating).map_or(0, |d| d.replicas)
    }

    /// Available pods, as its Deployment says.
    pub fn available(&self) -> u32 {
        self.deployment.as_ref().map_or(0, |deployment| deployment.available)
    }

    /// Pod objects, those on their way out included, and such as its Deployment is about to make.
    pub fn objects(&self) -> u32 {
        let held = self.deployment.as_ref().map_or(0, |d| if d.observed { d.pods } else { d.pods.max(1) });
        self.total.max(held)
    }
}

/// Which pods the active Service, or the disruption budget, selects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selector {
    /// Every pod of the app that serves.
    Wide,
    /// The pods of one revision.
    Only(Rev),
}

/// The active Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceObs {
    /// Its `resourceVersion`.
    pub version: String,
    /// What it selects.
    pub selector: Selector,
    /// Another field of ours differs from what it should be.
    pub drifted: bool,
}

/// The preview Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviewObs {
    /// Its `resourceVersion`.
    pub version: String,
    /// Its UID.
    pub uid: String,
    /// The revision it leads to; none: it leads nowhere.
    pub revision: Option<Rev>,
    /// Another field of ours differs from what it should be.
    pub drifted: bool,
}

/// The HTTPRoute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteObs {
    /// Its `resourceVersion`.
    pub version: String,
    /// Its UID.
    pub uid: String,
    /// Its `generation`, which every change of its spec raises.
    pub generation: i64,
    /// Percent of the requests that it sends to the preview Service; none: it does not name it.
    pub preview: Option<u32>,
    /// What its gateways say.
    pub answer: RouteAnswer,
    /// Another field of ours differs from what it should be.
    pub drifted: bool,
}

/// What the gateways of a route say of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RouteAnswer {
    /// None has ever said anything.
    Unseen,
    /// One has yet to answer to its present generation: which.
    Pending(String),
    /// All have answered to it, and one refuses.
    Refused {
        /// The gateway's word for why.
        reason: String,
        /// Which gateway, and its sentence.
        message: String,
    },
    /// All have taken it.
    Accepted,
}

/// A Job of a migration: itself, or one around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobObs {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its `resourceVersion`.
    pub version: String,
    /// The revision it migrates to.
    pub revision: Rev,
    /// Which one it is.
    pub stage: Stage,
    /// The attempt it was made for.
    pub attempt: i64,
    /// How it stands.
    pub state: JobState,
    /// Being deleted.
    pub terminating: bool,
    /// When it was made.
    pub created: Timestamp,
    /// What its pod waits for, in words, while it has not started.
    pub waiting: Option<String>,
    /// A pod of it has run.
    pub started: bool,
}

/// The Job of a smoke test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmokeJobObs {
    /// The test.
    pub test: String,
    /// The span it was made for.
    pub span: String,
    /// The Job.
    pub job: JobObs,
}

/// How a Job stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum JobState {
    /// Not finished.
    Running,
    /// One pod succeeded.
    Succeeded,
    /// Failed for good.
    Failed(JobFailure),
}

/// Why a Job failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct JobFailure {
    /// The Job condition's reason.
    pub reason: String,
    /// Exit code of the last failed pod.
    pub exit_code: Option<i32>,
    /// The end of its log; empty when the app asks for none.
    pub log_tail: String,
}

/// A pod of a migration Job that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationPod {
    /// Its name.
    pub name: String,
    /// The node it is on.
    pub node: Option<String>,
}

/// A child whose repair can harm nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Upkeep {
    /// The app's ServiceAccount.
    ServiceAccount,
    /// A headless Service: of the cluster that revisions share, or of that of one revision, which has one already.
    HeadlessService(Option<Rev>),
    /// The first headless Service of a revision with a cluster of its own.
    NewHeadlessService(Rev),
    /// What lets the nodes of these revisions list their peers at the API server.
    PeersBinding(BTreeSet<Rev>),
    /// The same is there; not wanted unless one of these revisions has pods, or is to have some.
    NoPeersBinding(BTreeSet<Rev>),
    /// No stored revision shares a cluster any more, so its headless Service is not wanted.
    NoHeadlessService,
    /// The disruption budget, which is to select these pods.
    PodDisruptionBudget(Selector),
    /// The disruption budget is not wanted any more.
    NoPodDisruptionBudget,
    /// The Ingress.
    Ingress,
    /// The Ingress is not wanted any more.
    NoIngress,
    /// The weak defaults of a revision.
    Defaults(Rev),
}

/// Something that stands in the way and that only a person or another program can remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// A word for machines: `NameConflict`, `Forbidden`, `Invalid`, ...
    pub reason: String,
    /// What failed, where, why, and what to do.
    pub message: String,
}

impl World {
    /// Pods of a revision that certainly serve, for judging a write: what the EndpointSlices say, at most what
    /// the Deployment asks for (pods above that are about to go) and at most what it calls available (after a
    /// lowering and a raise the EndpointSlices may still show pods that are gone).
    pub fn serving(&self, rev: &str) -> u32 {
        let endpoints = self.endpoints.get(rev).copied().unwrap_or(0);
        let available = self.deployments.get(rev).map_or(0, |deployment| deployment.available);
        endpoints.min(available).min(self.asked(rev))
    }

    /// The controllers have acted on the last write of the Deployment's size: what is observed counts. Until then
    /// its size is not changed again, neither down nor up.
    ///
    /// The pod that a restart has started in advance is no reason: it may never become ready. It is one while all pods are
    /// available, as they are after a lowering of which the counts do not tell yet.
    pub fn settled(&self, rev: &str) -> bool {
        self.deployments.get(rev).is_none_or(|d| {
            let in_advance = u32::from(d.outdated > 0 && d.available < d.pods);
            d.observed && d.pods <= d.replicas + in_advance && !d.terminating
        })
    }

    /// `spec.replicas` of a revision's Deployment; 0 without one.
    pub fn asked(&self, rev: &str) -> u32 {
        self.deployments.get(rev).filter(|d| !d.terminating).map_or(0, |d| d.replicas)
    }

    /// What the disruption budget is to select: the pods that serve, as the active Service selects them. As long as no
    /// other revision has pods that comes to the same as all pods. All it is then, so that the Service's way through
    /// a rolling update, from one revision to all and on to the next, takes no change of the budget; but not where pods
    /// of the next revision would `stand` beside those that serve, and be counted for them until it is changed. None
    /// before there is a Service.
    pub fn to_guard(&self, stand: bool) -> Option<Selector> {
        let selected = &self.service.as_ref()?.selector;
        let Selector::Only(serving) = selected else { return Some(Selector::Wide) };
        let alone = self.populated().into_iter().all(|rev| rev == serving || self.is_quiet(rev));
        Some(if alone && !stand { Selector::Wide } else { selected.clone() })
    }

    /// Nothing of this revision asks for, holds or serves pods, except pods on their way out.
    pub fn is_quiet(&self, rev: &str) -> bool {
        self.asked(rev) == 0
            && self.endpoints.get(rev).copied().unwrap_or(0) == 0
            && self.deployments.get(rev).is_none_or(|d| d.pods == 0)
    }

    /// Pod objects of a revision, those on their way out included.
    pub fn pod_objects(&self, rev: &str) -> u32 {
        let held = self.deployments.get(rev).map_or(0, |d| d.pods);
        self.pods.get(rev).map_or(0, |p| p.total).max(held)
    }

    fn is_in(&self, rev: &str, cluster: &str) -> bool {
        self.revisions.get(rev).is_some_and(|revision| revision.cluster.as_deref() == Some(cluster))
    }

    /// Addresses of the ready web pods in one Erlang cluster.
    pub fn web_nodes(&self, cluster: &str) -> BTreeSet<String> {
        let web = self.addresses.iter().filter(|(rev, _)| self.is_in(rev, cluster));
        web.flat_map(|(_, ready)| ready).cloned().collect()
    }

    /// The same, and those of workers.
    pub fn nodes(&self, cluster: &str) -> BTreeSet<String> {
        let mut nodes = self.web_nodes(cluster);
        let workers = self.workers.iter().filter(|((_, rev), _)| self.is_in(rev, cluster));
        nodes.extend(workers.flat_map(|(_, seen)| seen.addresses.iter().cloned()));
        nodes
    }

    /// A revision has pods of workers, or asks for some.
    pub fn has_workers(&self, rev: &str) -> bool {
        self.workers.iter().any(|((_, of), seen)| of == rev && seen.asked().max(seen.total) > 0)
    }

    /// Pods of workers that exist, those on their way out included, or are asked for: what a budget of connections has
    /// to count beside the web pods.
    pub fn worker_pods(&self) -> u32 {
        self.workers.values().map(|seen| seen.total.max(seen.asked())).sum()
    }

    /// Every revision that has a Deployment, pods or endpoints.
    pub fn populated(&self) -> BTreeSet<&Rev> {
        self.deployments.keys().chain(self.pods.keys()).chain(self.endpoints.keys()).collect()
    }
}
