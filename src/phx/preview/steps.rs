//! PURE. What happens, in words.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use super::{End, Preview};
use crate::{
    api::{Phase, PhoenixAppStatus, Stage, names},
    phx::view,
    plan::{Rev, Selector, Upkeep, WorkerObs, World, Write},
};

/// Sizes of a Deployment that one line names.
const SIZES: usize = 8;

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Seconds from now, when nothing but time is waited for: starts of pods and migrations take none here.
    pub after_seconds: i64,
    /// What.
    pub what: String,
}

/// An object that is touched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// `create`, `apply` (made or repaired), `change`, `delete`, `run` for a Job that is made and deleted again, or
    /// `unknown` for what may not be read.
    pub action: &'static str,
    /// Its kind.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
}

/// Sizes of one revision, one after the other.
type Sizes = (String, Vec<u32>);

pub(super) struct Recorder {
    app: String,
    start: Timestamp,
    steps: Vec<Step>,
    /// Sizes since the last step, which are told together.
    sizes: Vec<Sizes>,
    sized_at: i64,
    objects: BTreeMap<(&'static str, String), &'static str>,
    /// Headless Services that single revisions have.
    headless: BTreeSet<String>,
}

impl Recorder {
    /// `headless`: Services that go with a revision each.
    pub fn new(app: &str, start: Timestamp, headless: &BTreeSet<String>) -> Self {
        Self {
            app: app.to_owned(),
            start,
            steps: Vec::new(),
            sizes: Vec::new(),
            sized_at: 0,
            objects: BTreeMap::new(),
            headless: headless.clone(),
        }
    }

    fn say(&mut self, now: Timestamp, what: String) {
        self.flush();
        self.steps.push(Step { after_seconds: view::seconds(self.start, now), what });
    }

    /// Tells the sizes that have come together.
    fn flush(&mut self) {
        let parts: Vec<String> = std::mem::take(&mut self.sizes)
            .into_iter()
            .map(|(revision, sizes)| format!("revision {revision} goes {} pods", chain(&sizes)))
            .collect();
        if !parts.is_empty() {
            self.steps.push(Step { after_seconds: self.sized_at, what: parts.join(", ") });
        }
    }

    fn size(&mut self, now: Timestamp, revision: &str, from: u32, to: u32) {
        if from == to {
            return;
        }
        let at = view::seconds(self.start, now);
        if at != self.sized_at {
            self.flush();
        }
        self.sized_at = at;
        match self.sizes.iter_mut().find(|(known, _)| known == revision) {
            Some((_, sizes)) => sizes.push(to),
            None => self.sizes.push((revision.to_owned(), vec![from, to])),
        }
    }

    fn touch(&mut self, action: &'static str, kind: &'static str, name: String) {
        let known = self.objects.entry((kind, name)).or_insert(action);
        *known = match (*known, action) {
            ("create" | "run", "delete") if kind == "Job" => "run",
            ("create", "change") => "create",
            (_, latest) => latest,
        };
    }

    /// What a status says that the one before did not.
    pub fn status(&mut self, old: &PhoenixAppStatus, new: &PhoenixAppStatus, now: Timestamp) {
        let before = old.candidate.as_ref();
        if let Some(candidate) = &new.candidate {
            let known = before.filter(|before| before.attempt == candidate.attempt);
            if known.is_none() {
                let by = candidate.strategy.as_str();
                self.say(
                    now,
                    format!(
                        "attempt {} of revision {} begins, by {by}",
                        candidate.attempt, candidate.revision
                    ),
                );
            }
            let from = known.map_or(-1, |known| known.step);
            let all = candidate.steps.len();
            for index in from + 1..=candidate.step {
                let Some(step) = usize::try_from(index).ok().and_then(|index| candidate.steps.get(index))
                else {
                    continue;
                };
                self.say(now, format!("step {} of {all}: {}", index + 1, view::step(step)));
            }
            if let (Some(verdict), None) =
                (&candidate.verdict, known.and_then(|known| known.verdict.as_ref()))
            {
                self.say(
                    now,
                    format!("attempt {} ends: {:?}, {}", candidate.attempt, verdict.outcome, verdict.message),
                );
            }
        }
        if new.promotion > old.promotion
            && let Some(stable) = &new.stable
        {
            self.say(now, format!("revision {stable} is promoted: it is the stable one"));
        } else if let (Some(candidate), None) = (before, &new.candidate) {
            self.say(
                now,
                format!("attempt {} of revision {} is withdrawn", candidate.attempt, candidate.revision),
            );
        }
        match (&old.bake, &new.bake) {
            (None, Some(_)) => {
                self.say(now, "bake begins: a failure would return to the revision before".to_owned());
            }
            (Some(_), None) => self.say(now, "bake is over".to_owned()),
            _ => {}
        }
        match (&old.kept, &new.kept) {
            (None, Some(_)) => self.say(now, "the revision before is kept for a return".to_owned()),
            (Some(_), None) => self.say(now, "the revision before is no longer kept".to_owned()),
            _ => {}
        }
    }

    /// What is written. `world` is as it was before; `secret`: the generated Secret exists.
    pub fn writes(&mut self, writes: &[Write], world: &World, secret: bool, now: Timestamp) {
        for write in writes {
            self.write(write, world, secret, now);
        }
    }

    fn write(&mut self, write: &Write, world: &World, secret: bool, now: Timestamp) {
        let app = self.app.clone();
        let child = |revision: &str| format!("{app}-{revision}");
        match write {
            Write::PostSecret { .. } => {
                if !secret {
                    self.touch("create", "Secret", format!("{app}-generated"));
                }
            }
            Write::Upkeep(upkeep) => {
                let (action, kind, name) = self.upkeep(upkeep);
                if let Upkeep::NewHeadlessService(_) = upkeep {
                    self.headless.insert(name.clone());
                }
                self.touch(action, kind, name);
            }
            Write::CreateRevision { revision, .. } | Write::RebuildRevision { revision, .. } => {
                self.touch("create", "ControllerRevision", child(revision));
            }
            Write::Annotate { revision, .. } => self.touch("change", "ControllerRevision", child(revision)),
            Write::CreateService { selector } => {
                self.touch("create", "Service", app.clone());
                self.say(now, format!("Service {app} sends requests to {}", selected(selector)));
            }
            Write::ApplyService { selector, .. } => {
                self.touch("change", "Service", app.clone());
                let moved = world.service.as_ref().is_none_or(|service| &service.selector != selector);
                let what = if moved {
                    format!("Service {app} sends requests to {}", selected(selector))
                } else {
                    format!("Service {app} is changed")
                };
                self.say(now, what);
            }
            Write::CreatePreview { revision } => {
                self.touch("create", "Service", format!("{app}-preview"));
                self.preview(revision.as_deref(), now);
            }
            Write::ApplyPreview { revision, .. } => {
                self.touch("change", "Service", format!("{app}-preview"));
                self.preview(revision.as_deref(), now);
            }
            Write::DeletePreview { .. } => {
                self.touch("delete", "Service", format!("{app}-preview"));
                self.say(now, format!("Service {app}-preview goes"));
            }
            Write::CreateRoute => self.touch("create", "HTTPRoute", app),
            Write::ApplyRoute { share, .. } => {
                self.touch("change", "HTTPRoute", app);
                self.weigh(*share, world, now);
            }
            Write::DeleteRoute { .. } => {
                self.touch("delete", "HTTPRoute", app.clone());
                self.say(now, format!("HTTPRoute {app} goes"));
            }
            Write::CreateDeployment { revision, replicas } => {
                self.touch("create", "Deployment", child(revision));
                self.size(now, revision, 0, *replicas);
            }
            Write::ApplyDeployment { revision, replicas, .. } => {
                self.touch("change", "Deployment", child(revision));
                let asked = world.asked(revision);
                if asked == *replicas {
                    self.say(now, format!("Deployment {} is changed, {asked} pods", child(revision)));
                }
                self.size(now, revision, asked, *replicas);
            }
            Write::CreateWorker { worker, revision, replicas } => {
                self.touch("create", "Deployment", self.worker(worker, revision));
                self.worker_goes(now, worker, revision, 0, *replicas);
            }
            Write::ApplyWorker { worker, revision, replicas, .. } => {
                self.touch("change", "Deployment", self.worker(worker, revision));
                let seen = world.workers.get(&(worker.clone(), revision.clone()));
                self.worker_goes(now, worker, revision, seen.map_or(0, WorkerObs::asked), *replicas);
            }
            Write::DeleteWorker { worker, revision, .. } => {
                self.touch("delete", "Deployment", self.worker(worker, revision));
            }
            Write::CreateJob { revision, stage, attempt } => {
                self.touch("create", "Job", job(&app, revision, *stage, *attempt));
                self.say(now, runs(revision, *stage, world));
            }
            Write::CreateSmokeJob { test, .. } => {
                self.say(now, format!("smoke test {test} runs as a Job with the new image"));
            }
            Write::DeleteJob { name, .. } => {
                // A Job made here bears no name: there is only one at a time.
                let made =
                    self.objects.keys().rev().find(|(kind, _)| *kind == "Job").map(|(_, name)| name.clone());
                let name = if name.is_empty() { made.unwrap_or_default() } else { name.clone() };
                self.touch("delete", "Job", name);
            }
            Write::DeleteDeployment { revision, .. } => {
                self.touch("delete", "Deployment", child(revision));
                self.say(now, format!("revision {revision} is no longer deployed"));
            }
            Write::DeleteRevision { revision, .. } => {
                self.forget(revision, now);
            }
        }
    }

    fn weigh(&mut self, share: Option<u32>, world: &World, now: Timestamp) {
        let app = self.app.clone();
        let before = world.route.as_ref().and_then(|route| route.preview);
        let led = world.preview.as_ref().and_then(|preview| preview.revision.clone());
        match (share.filter(|share| *share > 0), led) {
            (Some(share), Some(led)) => {
                self.say(now, format!("HTTPRoute {app} sends {share} % of the requests to revision {led}"));
            }
            _ if before.is_some_and(|before| before > 0) => {
                self.say(now, format!("HTTPRoute {app} sends all requests to Service {app}"));
            }
            _ => {}
        }
    }

    fn forget(&mut self, revision: &Rev, now: Timestamp) {
        let app = self.app.clone();
        self.touch("delete", "ControllerRevision", format!("{app}-{revision}"));
        self.touch("delete", "ConfigMap", format!("{app}-{revision}-env"));
        let nodes = self.headless(Some(revision));
        if self.headless.remove(&nodes) {
            self.touch("delete", "Service", nodes);
        }
        self.say(now, format!("revision {revision} is forgotten"));
    }

    fn worker_goes(&mut self, now: Timestamp, worker: &str, revision: &str, from: u32, to: u32) {
        let what = if from == to {
            format!("worker {worker} of revision {revision} is changed, {to} pods")
        } else {
            format!("worker {worker} of revision {revision} goes {} pods", chain(&[from, to]))
        };
        self.say(now, what);
    }

    /// As the operator names it.
    fn worker(&self, worker: &str, revision: &str) -> String {
        match (self.app.parse(), revision.parse()) {
            (Ok(app), Ok(revision)) => names::worker_deployment(&app, worker, &revision),
            _ => format!("{}-{worker}-{revision}", self.app),
        }
    }

    fn preview(&mut self, revision: Option<&str>, now: Timestamp) {
        let to = revision.map_or_else(|| "no pod".to_owned(), |revision| format!("revision {revision}"));
        self.say(now, format!("Service {}-preview leads to {to}", self.app));
    }

    fn upkeep(&self, upkeep: &Upkeep) -> (&'static str, &'static str, String) {
        let app = &self.app;
        let headless = |revision: Option<&String>| self.headless(revision);
        let binding = || app.parse().map_or_else(|_| app.clone(), |app| names::peers_binding(&app));
        match upkeep {
            Upkeep::ServiceAccount => ("apply", "ServiceAccount", app.clone()),
            Upkeep::HeadlessService(revision) => ("apply", "Service", headless(revision.as_ref())),
            Upkeep::NewHeadlessService(revision) => ("create", "Service", headless(Some(revision))),
            Upkeep::NoHeadlessService => ("delete", "Service", headless(None)),
            Upkeep::PeersBinding(_) => ("apply", "RoleBinding", binding()),
            Upkeep::NoPeersBinding(_) => ("delete", "RoleBinding", binding()),
            Upkeep::PodDisruptionBudget(_) => ("apply", "PodDisruptionBudget", app.clone()),
            Upkeep::NoPodDisruptionBudget => ("delete", "PodDisruptionBudget", app.clone()),
            Upkeep::Ingress => ("apply", "Ingress", app.clone()),
            Upkeep::NoIngress => ("delete", "Ingress", app.clone()),
            // It cannot be changed: if anything, it is missing.
            Upkeep::Defaults(revision) => ("create", "ConfigMap", format!("{app}-{revision}-env")),
        }
    }

    fn headless(&self, revision: Option<&String>) -> String {
        match (self.app.parse(), revision.map(|name| name.parse())) {
            (Ok(app), None) => names::headless_service(&app, None),
            (Ok(app), Some(Ok(revision))) => names::headless_service(&app, Some(&revision)),
            _ => format!("{}-headless", self.app),
        }
    }

    pub fn end(mut self, status: &PhoenixAppStatus, now: Timestamp) -> Preview {
        self.flush();
        let mut objects: Vec<Change> =
            self.objects.into_iter().map(|((kind, name), action)| Change { action, kind, name }).collect();
        objects.sort_by_key(|change| {
            ["create", "apply", "run", "change", "delete"].iter().position(|one| *one == change.action)
        });
        Preview {
            objects,
            steps: self.steps,
            end: End {
                phase: status.phase,
                message: status.message.clone(),
                after_seconds: view::seconds(self.start, now),
                stable: status.stable.clone(),
                waits_for_person: status.phase == Some(Phase::Paused),
            },
        }
    }
}

/// As the operator names it.
fn job(app: &str, revision: &str, stage: Stage, attempt: i64) -> String {
    match (app.parse(), revision.parse()) {
        (Ok(app), Ok(revision)) => names::stage_job(&app, &revision, stage, attempt),
        _ => format!("{app}-migrate-{revision}-{attempt}"),
    }
}

/// What a Job of migrations does.
fn runs(revision: &Rev, stage: Stage, world: &World) -> String {
    match stage {
        Stage::Before(index) => {
            let name = world.revisions.get(revision).and_then(|stored| stored.before.get(index));
            let name = name.map_or("", String::as_str);
            format!("{name} runs before the migration, for revision {revision}")
        }
        Stage::Migrate => format!("the database is migrated, for revision {revision}"),
        Stage::Contract => {
            format!("the contract of revision {revision} runs: no older one has pods any more")
        }
        Stage::Rollback => format!("the migrations of revision {revision} are rolled back"),
    }
}

fn selected(selector: &Selector) -> String {
    match selector {
        Selector::Wide => "every revision".to_owned(),
        Selector::Only(revision) => format!("revision {revision} alone"),
    }
}

/// Sizes in a row; of many only the first and the last.
fn chain(sizes: &[u32]) -> String {
    let words: Vec<String> = sizes.iter().map(u32::to_string).collect();
    if words.len() <= SIZES {
        return words.join(" → ");
    }
    let (first, last) = (&words[..SIZES - 2], &words[words.len() - 1..]);
    format!("{} → … → {}", first.join(" → "), last.join(" → "))
}
