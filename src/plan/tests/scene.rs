//! Small scenes for table tests of the planner.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::api::{OnFailure, Phase, PhoenixAppStatus, Stage, StrategyKind};
use crate::plan::analysis::Proofs;
use crate::plan::{
    DeploymentObs, Goal, JobFailure, JobObs, JobState, Plan, PodsObs, RevisionObs, SecretPosted, Selector,
    ServiceObs, World, Write, plan,
};

/// Longest time without progress in a scene.
pub const DEADLINE: i64 = 600;

/// An app with three replicas, something stored, something running.
#[derive(Clone, Debug)]
pub struct Scene {
    pub goal: Goal,
    pub status: PhoenixAppStatus,
    pub world: World,
    pub now: Timestamp,
}

impl Scene {
    /// Nothing exists; `v1` is asked for.
    pub fn new() -> Self {
        let goal = Goal {
            app: "shop".to_owned(),
            generation: 1,
            deleting: false,
            suspend: false,
            replicas: 3,
            strategy: StrategyKind::Rolling,
            steps: Vec::new(),
            preview_replicas: None,
            blue_green_bake: Duration::ZERO,
            canary_bake: Duration::ZERO,
            keep_old: Duration::ZERO,
            keep_old_replicas: 0,
            on_failure: OnFailure::Rollback,
            drain_batch: None,
            drain_interval: Duration::from_secs(30),
            surge: 1,
            unavailable: 0,
            progress_deadline: Duration::from_secs(DEADLINE.unsigned_abs()),
            rollback_window: 3,
            history_limit: 5,
            stop_before_migration: false,
            budget: None,
            gateway: false,
            endpoint_lag: Duration::from_secs(10),
            desired: "v1".to_owned(),
            command: None,
            proofs: Proofs::default(),
            workers: BTreeMap::new(),
            verify: None,
        };
        Self { goal, status: PhoenixAppStatus::default(), world: World::default(), now: at(0) }
    }

    /// `v1` serves with three pods and has been promoted.
    pub fn stable() -> Self {
        let mut scene = Self::new();
        scene.store("v1", |revision| {
            revision.attempt = 1;
            revision.promotion = 1;
            revision.outcome = Some(crate::api::Outcome::Promoted);
        });
        scene.run("v1", 3, 3);
        scene.points_to(Selector::Only("v1".to_owned()));
        scene.status.stable = Some("v1".to_owned());
        scene.status.promotion = 1;
        scene.status.attempt = 1;
        scene.status.secrets_for = Some("v1".to_owned());
        scene.pass();
        assert_eq!(scene.status.phase, Some(Phase::Healthy), "{}", scene.status.message);
        scene
    }

    /// `v2` is asked for on top of a stable `v1`, its Secret and its stored revision exist.
    pub fn rolling() -> Self {
        let mut scene = Self::stable();
        scene.ask("v2");
        scene.store("v2", |_| {});
        scene.settle();
        scene
    }

    pub fn ask(&mut self, revision: &str) {
        self.goal.desired = revision.to_owned();
        self.goal.generation += 1;
    }

    pub fn store(&mut self, revision: &str, change: impl FnOnce(&mut RevisionObs)) {
        let stored = self.world.revisions.entry(revision.to_owned()).or_insert_with(|| RevisionObs {
            version: "1".to_owned(),
            uid: format!("uid-{revision}"),
            port: 4000,
            ..RevisionObs::default()
        });
        change(stored);
    }

    /// A Deployment that asks for `asked` pods of which `ready` are ready and serve.
    pub fn run(&mut self, revision: &str, asked: u32, ready: u32) {
        let deployment = DeploymentObs {
            version: "7".to_owned(),
            uid: format!("uid-{revision}"),
            replicas: asked,
            observed: true,
            pods: asked,
            available: ready,
            ..DeploymentObs::default()
        };
        self.world.deployments.insert(revision.to_owned(), deployment);
        self.world.endpoints.insert(revision.to_owned(), ready);
        self.world.pods.insert(revision.to_owned(), PodsObs { total: asked, ..PodsObs::default() });
    }

    pub fn points_to(&mut self, selector: Selector) {
        self.world.service = Some(ServiceObs { version: "3".to_owned(), selector, drifted: false });
    }

    pub fn job(&mut self, revision: &str, state: JobState) {
        self.world.jobs = vec![JobObs {
            name: format!("shop-migrate-{revision}"),
            uid: "job".to_owned(),
            version: "5".to_owned(),
            revision: revision.to_owned(),
            stage: Stage::Migrate,
            attempt: self.status.attempt,
            state,
            terminating: false,
            created: self.now,
            waiting: None,
            started: true,
        }];
    }

    pub fn later(&mut self, seconds: i64) {
        self.now = self.now.saturating_add(SignedDuration::from_secs(seconds)).unwrap();
    }

    /// One pass: the status is stored, the writes are returned.
    pub fn pass(&mut self) -> Plan {
        let plan = plan(&self.goal, &self.status, &self.world, self.now);
        self.status = plan.status.clone();
        plan
    }

    /// Passes until the Secret is posted and the facts about the candidate are recorded.
    pub fn settle(&mut self) -> Plan {
        for _ in 0..8 {
            let plan = self.pass();
            let mut changed = false;
            for write in &plan.writes {
                match write {
                    Write::PostSecret { revision } => {
                        let posted = SecretPosted { revision: revision.clone(), created: false };
                        self.world.secret_posted = Some(posted);
                        changed = true;
                    }
                    Write::Annotate { revision, facts, .. } => {
                        let facts = facts.clone();
                        self.store(revision, |stored| {
                            stored.attempt = facts.attempt.unwrap_or(stored.attempt);
                            stored.outcome = facts.outcome.or(stored.outcome);
                            stored.promotion = facts.promotion.unwrap_or(stored.promotion);
                            stored.migrated = facts.migrated.unwrap_or(stored.migrated);
                            stored.before_done = facts.before.unwrap_or(stored.before_done);
                            stored.contracted = facts.contracted.unwrap_or(stored.contracted);
                        });
                        changed = true;
                    }
                    _ => {}
                }
            }
            if !changed {
                return plan;
            }
        }
        panic!("the scene does not settle: {}", self.status.message);
    }

    pub fn condition(&self, kind: &str) -> Option<&str> {
        let condition = self.status.conditions.iter().find(|condition| condition.type_ == kind);
        condition.map(|condition| condition.status.as_str())
    }

    pub fn command(&mut self, verb: &str) {
        let candidate = self.status.candidate.as_ref().unwrap();
        self.goal.command = Some(format!("{verb} {}/{}", candidate.revision, candidate.attempt));
    }
}

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

pub fn failed() -> JobState {
    JobState::Failed(JobFailure {
        reason: "BackoffLimitExceeded".to_owned(),
        exit_code: Some(1),
        log_tail: "** (Postgrex.Error) column exists".to_owned(),
    })
}

/// What the writes do to a revision's size.
pub fn sizes(plan: &Plan) -> Vec<(String, u32)> {
    plan.writes
        .iter()
        .filter_map(|write| match write {
            Write::CreateDeployment { revision, replicas }
            | Write::ApplyDeployment { revision, replicas, .. } => Some((revision.clone(), *replicas)),
            _ => None,
        })
        .collect()
}
