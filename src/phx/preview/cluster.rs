//! PURE. A cluster that does what it is told, at once.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{Limits, PhoenixAppStatus, Stage};
use crate::plan::{
    DeploymentObs, Goal, JobObs, JobState, PodsObs, PreviewObs, Rev, RevisionObs, RouteAnswer, RouteObs,
    SecretPosted, Selector, ServiceObs, SmokeJobObs, Upkeep, WorkerObs, World, Write,
    analysis::{Answer, CheckGoal, Measured, Measurement, Probe},
    may_stand,
};

/// What is known of a revision before it is stored.
#[derive(Clone, Debug, Default)]
pub struct NewRevision {
    /// What will be seen of it; its number is given when it is stored.
    pub stored: RevisionObs,
    /// What is missing beside it once it is stored.
    pub upkeep: BTreeSet<Upkeep>,
    /// A disruption budget is wanted beside the Service.
    pub wants_budget: bool,
    /// Headless Services that single revisions have already, by name.
    pub headless: BTreeSet<String>,
}

/// A number within all limits.
fn good(limits: Limits) -> String {
    let Limits { min, max, warn_min, warn_max } = limits;
    let least = [min, warn_min].into_iter().flatten().max();
    let most = [max, warn_max].into_iter().flatten().min();
    least.or(most).map_or_else(|| "0".to_owned(), |number| number.to_string())
}

fn running(revision: &Rev, attempt: i64, now: Timestamp) -> JobObs {
    JobObs {
        name: String::new(),
        uid: String::new(),
        version: String::new(),
        revision: revision.clone(),
        stage: Stage::Migrate,
        attempt,
        state: JobState::Running,
        terminating: false,
        created: now,
        waiting: None,
        started: true,
    }
}

fn route(generation: i64, preview: Option<u32>) -> RouteObs {
    let (version, uid, answer) = (String::new(), String::new(), RouteAnswer::Accepted);
    RouteObs { version, uid, generation, preview, answer, drifted: false }
}

fn change(deployment: &mut DeploymentObs, replicas: u32, restarted: Option<&Time>) {
    deployment.replicas = replicas;
    deployment.observed = false;
    deployment.drifted = false;
    deployment.restarted_at = restarted.map(|at| at.0);
}

/// The cluster.
pub(super) struct Simulated {
    pub world: World,
    pub new: NewRevision,
    /// The generated Secret exists.
    pub secret: bool,
    /// Pods of a new revision stand beside those that serve.
    stand: bool,
    /// What the disruption budget selects.
    guarded: Option<Selector>,
}

impl Simulated {
    /// As it is now, for this app.
    pub fn new(goal: &Goal, status: &PhoenixAppStatus, world: World, new: NewRevision) -> Self {
        let secret = status.secrets_for.is_some();
        let stand = may_stand(goal.strategy, goal.gateway, status.candidate.as_ref());
        // Where it is missing or selects others, that is among what is to be put right already.
        let guarded = world.to_guard(stand);
        Self { world, new, secret, stand, guarded }
    }

    /// Carries writes out.
    pub fn apply(&mut self, writes: &[Write], restarts: &BTreeMap<Rev, Time>, now: Timestamp) {
        for write in writes {
            self.carry_out(write, restarts, now);
        }
        self.guard();
    }

    /// Notes what the disruption budget is to select from now on.
    fn guard(&mut self) {
        let wanted = self.world.to_guard(self.stand).filter(|_| self.new.wants_budget);
        let upkeep = &mut self.world.upkeep;
        if wanted.is_some() && wanted != self.guarded {
            upkeep.retain(|child| !matches!(child, Upkeep::PodDisruptionBudget(_)));
            upkeep.extend(wanted.map(Upkeep::PodDisruptionBudget));
        }
    }

    fn carry_out(&mut self, write: &Write, restarts: &BTreeMap<Rev, Time>, now: Timestamp) {
        let world = &mut self.world;
        match write {
            Write::PostSecret { revision } => {
                world.secret_posted =
                    Some(SecretPosted { revision: revision.clone(), created: !self.secret });
                self.secret = true;
            }
            Write::Upkeep(upkeep) => {
                world.upkeep.remove(upkeep);
                if let Upkeep::PodDisruptionBudget(guarded) = upkeep {
                    self.guarded = Some(guarded.clone());
                }
            }
            Write::CreateRevision { revision, attempt } => self.store(revision, *attempt),
            Write::RebuildRevision { revision, .. } => self.store(revision, None),
            Write::Annotate { revision, facts, .. } => {
                if let Some(stored) = world.revisions.get_mut(revision) {
                    stored.migrated = facts.migrated.unwrap_or(stored.migrated);
                    stored.before_done = facts.before.unwrap_or(stored.before_done);
                    stored.contracted = facts.contracted.unwrap_or(stored.contracted);
                    stored.attempt = facts.attempt.unwrap_or(stored.attempt);
                    stored.outcome = facts.outcome.or(stored.outcome);
                    stored.promotion = facts.promotion.unwrap_or(stored.promotion);
                }
            }
            Write::CreateService { selector } | Write::ApplyService { selector, .. } => {
                world.service =
                    Some(ServiceObs { version: String::new(), selector: selector.clone(), drifted: false });
            }
            Write::CreatePreview { revision } | Write::ApplyPreview { revision, .. } => {
                let (version, uid) = (String::new(), String::new());
                world.preview = Some(PreviewObs { version, uid, revision: revision.clone(), drifted: false });
            }
            Write::DeletePreview { .. } => world.preview = None,
            Write::CreateRoute => world.route = Some(route(1, None)),
            Write::ApplyRoute { share, .. } => {
                let generation = world.route.as_ref().map_or(0, |route| route.generation) + 1;
                world.route = Some(route(generation, *share));
            }
            Write::DeleteRoute { .. } => world.route = None,
            Write::CreateDeployment { revision, replicas } => {
                let made = DeploymentObs { replicas: *replicas, ..DeploymentObs::default() };
                world.deployments.insert(revision.clone(), made);
            }
            Write::ApplyDeployment { revision, replicas, .. } => {
                if let Some(deployment) = world.deployments.get_mut(revision) {
                    change(deployment, *replicas, restarts.get(revision));
                }
            }
            Write::CreateJob { revision, stage, attempt } => {
                world.jobs.push(JobObs { stage: *stage, ..running(revision, *attempt, now) });
            }
            Write::CreateWorker { worker, revision, replicas } => {
                let made = DeploymentObs { replicas: *replicas, ..DeploymentObs::default() };
                let seen = world.workers.entry((worker.clone(), revision.clone())).or_default();
                seen.deployment = Some(made);
            }
            Write::ApplyWorker { worker, revision, replicas, .. } => {
                let seen = world.workers.get_mut(&(worker.clone(), revision.clone()));
                if let Some(deployment) = seen.and_then(|seen| seen.deployment.as_mut()) {
                    change(deployment, *replicas, restarts.get(revision));
                }
            }
            Write::DeleteWorker { worker, revision, .. } => {
                world.workers.remove(&(worker.clone(), revision.clone()));
            }
            Write::CreateSmokeJob { revision, attempt, span, test } => world.smoke_jobs.push(SmokeJobObs {
                job: JobObs { uid: format!("{span}/{test}"), ..running(revision, *attempt, now) },
                span: span.clone(),
                test: test.clone(),
            }),
            Write::DeleteJob { uid, .. } => {
                world.jobs.iter_mut().filter(|job| &job.uid == uid).for_each(|job| job.terminating = true);
                world.smoke_jobs.retain(|job| &job.job.uid != uid);
            }
            Write::DeleteDeployment { revision, .. } => {
                world.deployments.remove(revision);
                world.pods.remove(revision);
                world.endpoints.remove(revision);
            }
            Write::DeleteRevision { revision, .. } => {
                world.revisions.remove(revision);
            }
        }
    }

    fn store(&mut self, revision: &Rev, attempt: Option<i64>) {
        let world = &mut self.world;
        let NewRevision { stored, upkeep, .. } = self.new.clone();
        let number = world.revisions.values().map(|stored| stored.number).max().unwrap_or_default() + 1;
        let attempt = attempt.unwrap_or(stored.attempt);
        world.revisions.insert(revision.clone(), RevisionObs { number, attempt, ..stored });
        world.upkeep.extend(upkeep);
    }

    /// Answers what is to be measured: every number is good, and every pod answers as it should.
    pub fn measure(&mut self, measure: &[Measurement], checks: &[CheckGoal], now: Timestamp) {
        for Measurement { key, probe } in measure {
            let answer = match probe {
                Probe::Http { .. } => Answer::Passed,
                Probe::Peers { .. } => Answer::Peers { least: u32::MAX, pod: String::new() },
                Probe::Query { .. } => {
                    let check = checks.iter().find(|check| check.name == key.name);
                    Answer::Value(check.map_or_else(|| "0".to_owned(), |check| good(check.limits)))
                }
            };
            self.world.measured.insert(key.clone(), Measured { at: now, answer });
        }
    }

    /// Lets the cluster's own controllers and kubelets do all they can. False: there was nothing left to do.
    pub fn evolve(&mut self) -> bool {
        let before = self.world.clone();
        let world = &mut self.world;
        world.secret_missing = false;
        world.deployments.retain(|_, deployment| !deployment.terminating);
        world.revisions.retain(|_, revision| !revision.terminating);
        world.jobs.retain(|job| !job.terminating);
        world.migration_pods.clear();
        let smoke_jobs = world.smoke_jobs.iter_mut().map(|job| &mut job.job);
        for job in world.jobs.iter_mut().chain(smoke_jobs).filter(|job| job.state == JobState::Running) {
            job.state = JobState::Succeeded;
            job.started = true;
            job.waiting = None;
        }
        world
            .workers
            .retain(|_, seen| seen.deployment.as_ref().is_some_and(|deployment| !deployment.terminating));
        for seen in world.workers.values_mut() {
            let asked = seen.asked();
            *seen = WorkerObs {
                deployment: seen.deployment.take().map(|deployment| DeploymentObs {
                    observed: true,
                    pods: asked,
                    available: asked,
                    ..deployment
                }),
                total: asked,
                ..WorkerObs::default()
            };
        }
        let mut pods: BTreeMap<Rev, PodsObs> = BTreeMap::new();
        let mut endpoints: BTreeMap<Rev, u32> = BTreeMap::new();
        let mut published: BTreeMap<Rev, u32> = BTreeMap::new();
        for (revision, deployment) in &mut world.deployments {
            deployment.observed = true;
            deployment.pods = deployment.replicas;
            deployment.available = deployment.replicas;
            deployment.outdated = 0;
            pods.insert(revision.clone(), PodsObs { total: deployment.replicas, ..PodsObs::default() });
            let selected = match world.service.as_ref().map(|service| &service.selector) {
                Some(Selector::Wide) => true,
                Some(Selector::Only(only)) => only == revision,
                None => false,
            };
            let previewed = world.preview.as_ref().and_then(|preview| preview.revision.as_ref());
            if previewed == Some(revision) {
                published.insert(revision.clone(), deployment.replicas);
            }
            // Some address: nobody asks it.
            let address = (deployment.replicas > 0).then(|| "0.0.0.0".to_owned());
            world.addresses.insert(revision.clone(), address.into_iter().collect());
            endpoints.insert(revision.clone(), if selected { deployment.replicas } else { 0 });
        }
        world.pods = pods;
        world.endpoints = endpoints;
        world.published = published;
        *world != before
    }
}
