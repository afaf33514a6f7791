//! Carries out what was planned, one write after the other but for those that do not depend on each other; the first
//! that fails ends the pass, unless nothing waits for it.

mod children;
mod upkeep;

use std::collections::BTreeMap;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, Deployment},
        batch::v1::Job,
        core::v1::{ConfigMap, Service},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use serde_json::{Map, Value, json};

use super::{
    cache::AppKey,
    drift::{Persisting, Which, marked, marked_ingress, marked_route},
    errors::{CallError, Verdict},
    observe::{active_service, is_migration, restart, service_selector},
    snapshot::Snapshot,
    writer::{Child, Writer},
};
use crate::{
    api::{HttpRoute, Outcome, RevisionName, Stage, ValidatedApp, labels, names},
    build::{self, Revision, Settings},
    plan::{Event, EventKind, Facts, Fault, SecretPosted, Selector, Upkeep, Write},
};

/// Why a pass ended early.
#[derive(Debug)]
pub enum Halt {
    /// A call failed.
    Call(Box<CallError>),
    /// Something stands in the way.
    Fault(Fault),
    /// Something has to be waited for that no watch may tell of.
    Wait(String),
}

impl From<CallError> for Halt {
    fn from(error: CallError) -> Self {
        match error.verdict() {
            Verdict::Fault(fault) => Self::Fault(fault),
            _ => Self::Call(Box::new(error)),
        }
    }
}

impl Halt {
    /// What stops the edge and nothing else.
    fn of_the_edge(self) -> Result<Fault, Self> {
        match self {
            Self::Fault(fault) => Ok(fault),
            Self::Call(error) => error.unanswered().ok_or(Self::Call(error)),
            Self::Wait(_) => Err(self),
        }
    }
}

/// What came of the writes.
#[derive(Debug, Default)]
pub struct Applied {
    /// The generated Secret was posted: the planner wants to know before anything else is written.
    pub secret: Option<SecretPosted>,
    /// Differences that our own apply left, or, without one, that it removed.
    pub drifts: BTreeMap<Which, Option<Persisting>>,
    /// What people should know.
    pub events: Vec<Event>,
    /// Writes to the Ingress and the HTTPRoute that are refused.
    pub edge: Vec<(Write, Fault)>,
    /// Something was written.
    pub wrote: bool,
}

impl Applied {
    /// What came of one more write, which is no post of the Secret: that comes alone.
    fn add(&mut self, other: Self) {
        let Self { secret: _, drifts, events, edge, wrote } = other;
        self.wrote |= wrote;
        self.drifts.extend(drifts);
        self.events.extend(events);
        self.edge.extend(edge);
    }
}

/// It waits for no write before it, and none of its kind after it waits for it: one round trip does for several.
const fn stands_alone(write: &Write) -> bool {
    matches!(write, Write::Upkeep(_) | Write::CreateRevision { .. } | Write::CreateService { .. })
}

/// What leads requests into the cluster: whoever refuses it stops nothing else.
const fn at_the_edge(write: &Write) -> bool {
    matches!(
        write,
        Write::Upkeep(Upkeep::Ingress | Upkeep::NoIngress)
            | Write::CreateRoute
            | Write::ApplyRoute { .. }
            | Write::DeleteRoute { .. }
    )
}

/// No pod needs it to start or to serve: should it be refused, an abort, say, takes place nevertheless.
const fn can_wait(write: &Write) -> bool {
    matches!(
        write,
        Write::Upkeep(
            Upkeep::PodDisruptionBudget(_)
                | Upkeep::NoPodDisruptionBudget
                | Upkeep::NoHeadlessService
                | Upkeep::NoPeersBinding(_)
        )
    )
}

/// The same request, whatever version it was planned from.
fn same(one: &Write, other: &Write) -> bool {
    match (one, other) {
        (Write::ApplyRoute { share, .. }, Write::ApplyRoute { share: other, .. }) => share == other,
        (Write::DeleteRoute { .. }, Write::DeleteRoute { .. }) => true,
        _ => one == other,
    }
}

/// Carries out writes for one app.
pub struct Applier<'a> {
    /// Sends them.
    pub writer: &'a Writer,
    /// The app.
    pub key: &'a AppKey,
    /// The app, valid.
    pub app: &'a ValidatedApp,
    /// What the writes were planned from.
    pub snapshot: &'a Snapshot,
    /// Stored revisions.
    pub stored: &'a BTreeMap<RevisionName, Revision>,
    /// When restarts were asked for, by revision, as the status has it.
    pub restarts: &'a BTreeMap<String, Time>,
    /// Facts about the cluster.
    pub settings: &'a Settings,
    /// Writes at the edge that were refused, and are not tried again now.
    pub refused: &'a [(Write, Fault)],
}

impl Applier<'_> {
    /// Carries the writes out in order, neighbours that do not depend on each other at once. A post of the Secret comes
    /// first and alone, since its answer is part of what the planner looks at.
    pub async fn carry_out(&self, writes: &[Write], applied: &mut Applied) -> Result<(), Halt> {
        for write in writes {
            if let Write::PostSecret { revision } = write {
                let created = self.post_secret().await?;
                applied.secret = Some(SecretPosted { revision: revision.clone(), created });
                return Ok(());
            }
        }
        let mut postponed = None;
        let once = writes.iter().enumerate().filter(|(index, write)| !writes[..*index].contains(write));
        let once: Vec<&Write> = once.map(|(_, write)| write).collect();
        let mut left = &*once;
        while !left.is_empty() {
            let together = left.iter().take_while(|write| stands_alone(write)).count().max(1);
            let (now, later) = left.split_at(together);
            left = later;
            let mut failed = None;
            for (write, done, result) in join_all(now.iter().map(|write| self.attempt(write))).await {
                applied.add(done);
                match (write, result) {
                    (_, Ok(())) => {}
                    // Others write to these children too, as the status of a disruption budget; nothing waits for them.
                    (Write::Upkeep(_), Err(Halt::Call(error))) if error.verdict() == Verdict::Outdated => {
                        postponed = postponed.or(Some(Halt::Call(error)));
                    }
                    (write, Err(halt)) if at_the_edge(write) => match halt.of_the_edge() {
                        Ok(fault) => applied.edge.push((write.clone(), fault)),
                        Err(halt) => postponed = postponed.or(Some(halt)),
                    },
                    (write, Err(halt)) if can_wait(write) => postponed = Some(halt),
                    (_, Err(halt)) => failed = failed.or(Some(halt)),
                }
            }
            if let Some(halt) = failed {
                return Err(halt);
            }
        }
        postponed.map_or(Ok(()), Err)
    }

    /// One write, unless it was refused a moment ago, and what came of it.
    async fn attempt<'w>(&self, write: &'w Write) -> (&'w Write, Applied, Result<(), Halt>) {
        let mut applied = Applied::default();
        if let Some(known) = self.refused.iter().find(|(refused, _)| same(refused, write)) {
            applied.edge.push(known.clone());
            return (write, applied, Ok(()));
        }
        tracing::debug!(?write, "writing");
        let result = Box::pin(self.one(write, &mut applied)).await;
        applied.wrote = result.is_ok();
        (write, applied, result)
    }

    async fn one(&self, write: &Write, applied: &mut Applied) -> Result<(), Halt> {
        match write {
            Write::PostSecret { .. } => Ok(()),
            Write::Upkeep(child) => self.upkeep(child, applied).await,
            Write::CreateRevision { revision, attempt } => {
                self.create_revision(revision, *attempt, applied).await
            }
            Write::RebuildRevision { revision, contracted } => {
                Box::pin(self.rebuild_revision(revision, *contracted)).await
            }
            Write::Annotate { revision, facts, version } => self.annotate(revision, facts, version).await,
            Write::CreateService { selector } => self.create(&self.active_service(selector, None)).await,
            Write::ApplyService { selector, version } => {
                let seen = self.snapshot.active_service();
                let service = self.active_service(selector, seen.map(|seen| &**seen));
                self.apply(&service, version, applied).await
            }
            Write::CreatePreview { revision } => {
                let revision = preview(revision.as_deref())?;
                self.create(&marked(build::preview_service(self.app, revision.as_ref()))).await
            }
            Write::ApplyPreview { revision, version } => {
                let revision = preview(revision.as_deref())?;
                let service = marked(build::preview_service(self.app, revision.as_ref()));
                self.apply(&service, version, applied).await
            }
            Write::DeletePreview { uid, version } => {
                let name = names::preview_service(&self.app.name);
                self.settle(self.writer.delete::<Service>(self.key, &name, uid, version).await)
            }
            Write::CreateRoute => match build::http_route(self.app, None) {
                Some(route) => self.create(&marked_route(route)).await,
                None => Ok(()),
            },
            Write::ApplyRoute { share, version } => match build::http_route(self.app, *share) {
                Some(route) => self.apply(&marked_route(route), version, applied).await,
                None => Ok(()),
            },
            Write::DeleteRoute { uid, version } => {
                let name = names::http_route(&self.app.name);
                self.settle(self.writer.delete::<HttpRoute>(self.key, &name, uid, version).await)
            }
            Write::CreateDeployment { revision, replicas } => {
                let restarted = restart(self.asked(revision), None);
                let revision = self.revision(revision)?;
                self.create(&build::deployment(self.app, revision, *replicas, restarted.as_deref())).await
            }
            Write::ApplyDeployment { revision, replicas, version } => {
                let asked = self.asked(revision);
                let revision = self.revision(revision)?;
                let name = names::deployment(&self.app.name, &revision.name);
                let seen = self.snapshot.find(&self.snapshot.deployments, &name);
                let restarted = restart(asked, seen.map(|seen| &**seen));
                let desired = build::deployment(self.app, revision, *replicas, restarted.as_deref());
                self.apply(&desired, version, applied).await
            }
            Write::CreateJob { revision, stage, attempt } => {
                self.create_job(revision, *stage, *attempt).await
            }
            Write::CreateWorker { worker, revision, replicas } => {
                let restarted = restart(self.asked(revision), None);
                let desired = self.worker(worker, revision, *replicas, restarted.as_deref())?;
                self.create(&desired).await
            }
            Write::ApplyWorker { worker, revision, replicas, version } => {
                let name = names::worker_deployment(&self.app.name, worker, &parse(revision)?);
                let seen = self.snapshot.find(&self.snapshot.deployments, &name);
                let restarted = restart(self.asked(revision), seen.map(|seen| &**seen));
                let desired = self.worker(worker, revision, *replicas, restarted.as_deref())?;
                self.apply(&desired, version, applied).await
            }
            Write::DeleteWorker { worker, revision, uid, version } => {
                let name = names::worker_deployment(&self.app.name, worker, &parse(revision)?);
                self.settle(self.writer.delete::<Deployment>(self.key, &name, uid, version).await)
            }
            Write::CreateSmokeJob { revision, attempt, span, test } => {
                let Some(job) = self.smoke_job(revision, *attempt, span, test)? else { return Ok(()) };
                self.create(&job).await
            }
            Write::DeleteJob { name, uid, version } => {
                self.settle(self.writer.delete::<Job>(self.key, name, uid, version).await)
            }
            Write::DeleteDeployment { revision, uid, version } => {
                let name = names::deployment(&self.app.name, &parse(revision)?);
                self.settle(self.writer.delete::<Deployment>(self.key, &name, uid, version).await)
            }
            Write::DeleteRevision { revision, uid, version } => {
                self.delete_revision(revision, uid, version).await
            }
        }
    }

    fn active_service(&self, selector: &Selector, there: Option<&Service>) -> Service {
        active_service(self.app, &service_selector(selector), self.settings, there)
    }

    async fn post_secret(&self) -> Result<bool, Halt> {
        let mut failed = None;
        let secret = build::generated_secret(self.app, &mut |bytes| {
            if let Err(error) = getrandom::fill(bytes) {
                failed = Some(error);
            }
        });
        if let Some(error) = failed {
            return Err(Halt::Wait(format!("cannot draw random bytes for the generated Secret: {error}")));
        }
        match self.writer.create(self.key, &secret).await {
            Ok(_) => Ok(true),
            // It cannot be read, and need not be: it is ours by its name, and never changes.
            Err(error) if error.verdict() == Verdict::Exists => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn create_revision(
        &self,
        name: &str,
        attempt: Option<i64>,
        applied: &mut Applied,
    ) -> Result<(), Halt> {
        let revision = self.render(&parse(name)?);
        let mut object = build::controller_revision(self.app, &revision, self.snapshot.next_number());
        let annotations = object.metadata.annotations.get_or_insert_default();
        annotations.extend(attempt.map(|attempt| (labels::ATTEMPT.to_owned(), attempt.to_string())));
        self.create(&object).await?;
        let overridden = build::overridden_env(self.app);
        if !overridden.is_empty() {
            let note =
                format!("revision {name}: spec.env replaces what is injected: {}", overridden.join(", "));
            applied.events.push(Event { kind: EventKind::Normal, reason: "EnvOverridden", note });
        }
        Ok(())
    }

    fn render(&self, name: &RevisionName) -> Revision {
        let revision = build::render(self.app, name, self.settings);
        // As a later version's builders might render it: to test that an upgrade restarts no pod.
        #[cfg(feature = "changed-builder")]
        let revision = {
            let mut revision = revision;
            let changed = k8s_openapi::api::core::v1::EnvVar {
                name: "CHANGED_BUILDER".to_owned(),
                value: Some("true".to_owned()),
                ..Default::default()
            };
            let workers = revision.workers.values_mut().map(|worker| &mut worker.template);
            let templates = std::iter::once(&mut revision.pod_template).chain(workers);
            let specs = templates.flat_map(|template| template.spec.iter_mut());
            for container in specs.flat_map(|spec| &mut spec.containers) {
                container.env.get_or_insert_default().push(changed.clone());
            }
            revision
        };
        revision
    }

    /// From what it left: never from the present builders, which might render it otherwise and restart its pods.
    async fn rebuild_revision(&self, name: &str, contracted: bool) -> Result<(), Halt> {
        let name = parse(name)?;
        let seen = self.snapshot.find(&self.snapshot.deployments, &names::deployment(&self.app.name, &name));
        let defaults = self
            .snapshot
            .find(&self.snapshot.config_maps, &names::defaults_config_map(&self.app.name, &name));
        let defaults: Option<&ConfigMap> = defaults.map(|map| &**map);
        let rebuilt = seen.and_then(|seen| Some((seen, Revision::from_deployment(seen, defaults)?)));
        let Some((seen, mut revision)) = rebuilt else {
            return Err(Halt::Fault(Fault {
                reason: "RevisionLost".to_owned(),
                message: format!(
                    "the ControllerRevision of revision {name} is gone, and its Deployment does not hold what it \
                     takes to make it anew; restore the one from a backup, or delete the other"
                ),
            }));
        };
        // What runs stays as it is; what does not is made as the present spec has it.
        if revision.canonical == self.app.canonical {
            let Revision { job_template, before, contract_template, rollback_template, workers, .. } =
                self.render(&name);
            revision =
                Revision { job_template, before, contract_template, rollback_template, workers, ..revision };
        }
        let live = self.snapshot.deployments.iter().map(|seen| &**seen);
        let revision =
            revision.with_workers_of(live.filter(|seen| self.snapshot.worker_of(&seen.metadata).is_some()));
        let mut object = build::controller_revision(self.app, &revision, self.snapshot.number_of(seen));
        // A revision that has a Deployment has migrated.
        let done = [labels::MIGRATED].into_iter().chain(contracted.then_some(labels::CONTRACTED));
        let now = Timestamp::now().to_string();
        let annotations = object.metadata.annotations.get_or_insert_default();
        annotations.extend(done.map(|fact| (fact.to_owned(), now.clone())));
        self.create(&object).await
    }

    async fn annotate(&self, name: &str, facts: &Facts, version: &str) -> Result<(), Halt> {
        let Facts { migrated, before, contracted, attempt, outcome, promotion } = facts;
        let mut annotations = Map::new();
        // A merge patch takes away what is null.
        let at = |done: bool| if done { Value::String(Timestamp::now().to_string()) } else { Value::Null };
        annotations.extend(migrated.map(|done| (labels::MIGRATED.to_owned(), at(done))));
        annotations.extend(contracted.map(|done| (labels::CONTRACTED.to_owned(), at(done))));
        let mut set = |key: &str, value: String| annotations.insert(key.to_owned(), Value::String(value));
        if let Some((attempt, count)) = before {
            set(labels::BEFORE, format!("{attempt}/{count}"));
        }
        if let Some(attempt) = attempt {
            set(labels::ATTEMPT, attempt.to_string());
        }
        if let Some(outcome) = outcome {
            set(labels::OUTCOME, word(*outcome));
        }
        if let Some(promotion) = promotion {
            set(labels::PROMOTION, promotion.to_string());
        }
        let name = names::controller_revision(&self.app.name, &parse(name)?);
        let patch = json!({"metadata": {"resourceVersion": version, "annotations": annotations}});
        self.writer.merge::<ControllerRevision>(self.key, &name, &patch).await?;
        Ok(())
    }

    async fn create_job(&self, name: &str, stage: Stage, attempt: i64) -> Result<(), Halt> {
        let job = build::migration_job(self.app, self.revision(name)?, stage, attempt);
        let Some(job) = job else { return Ok(()) };
        // Live, not cached: at most one migration at a time, whatever made it.
        let pods = self.writer.migration_pods(self.key).await?;
        if let Some(pod) = pods.iter().find(|pod| is_migration(pod, self.app.name.as_str())) {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            return Err(Halt::Wait(format!("the migration pod {name} has not ended yet")));
        }
        self.create(&job).await
    }

    /// None when the spec does not hold the test any more: the next plan says so.
    fn smoke_job(&self, revision: &str, attempt: i64, span: &str, test: &str) -> Result<Option<Job>, Halt> {
        let revision = self.revision(revision)?;
        let tests = &self.app.spec.strategy.smoke_tests;
        let job = tests.iter().find(|one| one.name == test).and_then(|test| test.job.as_ref());
        Ok(job.map(|job| build::smoke_job(self.app, revision, attempt, span, test, job)))
    }

    /// What was made for it alone goes first: while the revision is there, it is known that all of it is to go.
    async fn delete_revision(&self, name: &str, uid: &str, version: &str) -> Result<(), Halt> {
        let name = parse(name)?;
        let defaults = names::defaults_config_map(&self.app.name, &name);
        if let Some(map) = self.snapshot.find(&self.snapshot.config_maps, &defaults)
            && !self.snapshot.leaving(&map.metadata)
        {
            self.delete::<ConfigMap>(&map.metadata).await?;
        }
        let nodes = names::headless_service(&self.app.name, Some(&name));
        if let Some(service) = self.snapshot.find(&self.snapshot.services, &nodes)
            && !self.snapshot.leaving(&service.metadata)
        {
            self.delete::<Service>(&service.metadata).await?;
        }
        let name = names::controller_revision(&self.app.name, &name);
        self.settle(self.writer.delete::<ControllerRevision>(self.key, &name, uid, version).await)
    }

    async fn delete<K: Child>(&self, meta: &ObjectMeta) -> Result<(), Halt> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (name, uid, version) = (text(&meta.name), text(&meta.uid), text(&meta.resource_version));
        self.settle(self.writer.delete::<K>(self.key, &name, &uid, &version).await)
    }

    /// A deletion whose object is gone, or another by now, is for the caches to tell.
    fn settle(&self, result: Result<(), CallError>) -> Result<(), Halt> {
        if let Err(error) = &result {
            tracing::debug!(app = %self.key, %error, "a deletion did not take place");
        }
        Ok(result?)
    }

    fn worker(
        &self,
        worker: &str,
        revision: &str,
        replicas: u32,
        restarted: Option<&str>,
    ) -> Result<Deployment, Halt> {
        let stored = self.revision(revision)?;
        build::worker_deployment(self.app, stored, worker, replicas, restarted)
            .ok_or_else(|| Halt::Wait(format!("revision {revision} holds no worker {worker}")))
    }

    /// When a restart of a revision's pods was last asked for.
    fn asked(&self, revision: &str) -> Option<Timestamp> {
        self.restarts.get(revision).map(|time| time.0)
    }

    fn revision(&self, name: &str) -> Result<&Revision, Halt> {
        let name = parse(name)?;
        self.stored.get(&name).ok_or_else(|| Halt::Wait(format!("revision {name} is not stored yet")))
    }
}

fn word(outcome: Outcome) -> String {
    format!("{outcome:?}")
}

fn preview(revision: Option<&str>) -> Result<Option<RevisionName>, Halt> {
    revision.map(parse).transpose()
}

fn parse(revision: &str) -> Result<RevisionName, Halt> {
    revision.parse().map_err(|error| Halt::Wait(format!("a revision cannot be named: {error}")))
}
