//! Workers in random runs: passes of the operator that are killed between any two writes, controllers and pods in any
//! order, newer specs, rollbacks and deletions by hand. What must always hold is looked at after each step, and from
//! wherever a run has come, one without faults ends as it was asked for. Planners broken on purpose are caught.

use std::collections::BTreeSet;

use super::scene::Scene;
use crate::api::{CommandAnswer, Phase};
use crate::plan::{DeploymentObs, Plan, Selector, WorkerGoal, WorkerObs, Write, plan};

const JOBS: &str = "jobs";
const NAMES: [&str; 3] = ["v1", "v2", "v3"];
const RUNS: u64 = 500;
const STEPS: usize = 120;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mutant {
    None,
    /// Starts the workers of a candidate.
    Eager,
    /// Takes Recreate for Rolling.
    ForgetsRecreate,
    /// Takes pods that are asked for as available.
    CountsAskedPods,
}

/// Knuth's MMIX generator; its high bits are good.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

struct Run {
    scene: Scene,
    mutant: Mutant,
    recreate: bool,
    /// Revisions that have been stable.
    promoted: BTreeSet<String>,
    log: Vec<String>,
}

fn key(revision: &str) -> (String, String) {
    (JOBS.to_owned(), revision.to_owned())
}

impl Run {
    fn new(recreate: bool, mutant: Mutant) -> Self {
        let mut scene = Scene::new();
        scene.goal.replicas = 1;
        scene.goal.workers.insert(JOBS.to_owned(), WorkerGoal { replicas: 2, recreate });
        // The last one has no worker.
        for name in NAMES {
            scene.store(name, |stored| {
                if name != "v3" {
                    stored.workers.insert(JOBS.to_owned(), WorkerGoal { replicas: 2, recreate });
                }
            });
        }
        Self { scene, mutant, recreate, promoted: BTreeSet::new(), log: Vec::new() }
    }

    fn ask(&self) -> Plan {
        let Scene { mut goal, status, mut world, now } = self.scene.clone();
        match self.mutant {
            Mutant::ForgetsRecreate => goal.workers.values_mut().for_each(|worker| worker.recreate = false),
            Mutant::CountsAskedPods => {
                for deployment in world.workers.values_mut().filter_map(|seen| seen.deployment.as_mut()) {
                    deployment.available = deployment.replicas;
                }
            }
            Mutant::None | Mutant::Eager => {}
        }
        let mut plan = plan(&goal, &status, &world, now);
        if let (Mutant::Eager, Some(candidate)) = (self.mutant, &plan.status.candidate)
            && !world.workers.contains_key(&key(&candidate.revision))
        {
            let (worker, revision) = (JOBS.to_owned(), candidate.revision.clone());
            plan.writes.push(Write::CreateWorker { worker, revision, replicas: 2 });
        }
        plan
    }

    /// A pass of the operator, killed after so many writes; the status is the first of them.
    fn pass(&mut self, survives: usize) -> Result<bool, String> {
        let plan = self.ask();
        let idle = plan.writes.is_empty() && plan.status == self.scene.status;
        if survives == 0 || idle {
            return Ok(idle);
        }
        self.scene.status = plan.status.clone();
        self.promoted.extend(self.scene.status.stable.clone());
        let secret = plan.writes.iter().any(|write| matches!(write, Write::PostSecret { .. }));
        for write in plan.writes.iter().take(survives - 1) {
            self.judge(write)?;
            self.log.push(format!("{write:?}"));
            self.carry_out(write);
            if secret {
                break;
            }
        }
        Ok(false)
    }

    fn judge(&self, write: &Write) -> Result<(), String> {
        let Write::ApplyWorker { revision, replicas: 0, .. } = write else { return Ok(()) };
        let stable = self.scene.status.stable.clone().unwrap_or_default();
        if *revision == stable {
            return Err("workers of the stable revision are lowered".to_owned());
        }
        let available =
            |revision: &str| self.scene.world.workers.get(&key(revision)).map_or(0, WorkerObs::available);
        let has_worker = stable != "v3";
        if !self.recreate && has_worker && available(revision) > 0 && available(&stable) < 2 {
            return Err("old workers go before the new ones are there".to_owned());
        }
        Ok(())
    }

    fn carry_out(&mut self, write: &Write) {
        let scene = &mut self.scene;
        match write {
            Write::PostSecret { revision } => {
                let revision = revision.clone();
                scene.world.secret_posted = Some(crate::plan::SecretPosted { revision, created: false });
            }
            Write::Annotate { revision, facts, .. } => {
                let facts = facts.clone();
                scene.store(revision, |stored| {
                    stored.attempt = facts.attempt.unwrap_or(stored.attempt);
                    stored.outcome = facts.outcome.or(stored.outcome);
                    stored.promotion = facts.promotion.unwrap_or(stored.promotion);
                });
            }
            Write::CreateService { selector } | Write::ApplyService { selector, .. } => {
                scene.points_to(selector.clone());
            }
            Write::CreateDeployment { revision, replicas } => {
                let made = DeploymentObs { replicas: *replicas, ..DeploymentObs::default() };
                scene.world.deployments.insert(revision.clone(), made);
            }
            Write::ApplyDeployment { revision, replicas, .. } => {
                let deployment = scene.world.deployments.get_mut(revision).unwrap();
                deployment.replicas = *replicas;
                deployment.observed = false;
            }
            Write::CreateWorker { revision, replicas, .. } => {
                let made = DeploymentObs { replicas: *replicas, ..DeploymentObs::default() };
                scene.world.workers.entry(key(revision)).or_default().deployment = Some(made);
            }
            Write::ApplyWorker { revision, replicas, .. } => {
                let seen = scene.world.workers.get_mut(&key(revision)).unwrap();
                let deployment = seen.deployment.as_mut().unwrap();
                deployment.replicas = *replicas;
                deployment.observed = false;
            }
            Write::DeleteWorker { revision, .. } => delete(scene, revision),
            _ => {}
        }
    }

    /// Web pods come and go at once: they are not what this is about.
    fn web(&mut self) -> bool {
        let world = &mut self.scene.world;
        let before = world.clone();
        for (revision, deployment) in &mut world.deployments {
            let asked = deployment.replicas;
            deployment.observed = true;
            (deployment.pods, deployment.available) = (asked, asked);
            let selected = match world.service.as_ref().map(|service| &service.selector) {
                Some(Selector::Wide) => true,
                Some(Selector::Only(only)) => only == revision,
                None => false,
            };
            world.endpoints.insert(revision.clone(), if selected { asked } else { 0 });
        }
        *world != before
    }

    /// One step of the Deployment controller, or of a kubelet, for a worker.
    fn evolve(&mut self, revision: &str, step: usize) -> bool {
        let Some(seen) = self.scene.world.workers.get_mut(&key(revision)) else { return false };
        let before = seen.clone();
        let held = seen.deployment.as_ref().map_or(0, |deployment| deployment.pods);
        match (step, &mut seen.deployment) {
            (0, Some(deployment)) => {
                deployment.observed = true;
                if deployment.pods < deployment.replicas {
                    deployment.pods += 1;
                    seen.total += 1;
                } else if deployment.pods > deployment.replicas {
                    deployment.pods -= 1;
                    deployment.available = deployment.available.min(deployment.pods);
                }
            }
            (1, Some(deployment)) if deployment.available < deployment.pods => deployment.available += 1,
            (2, _) if seen.total > held => seen.total -= 1,
            _ => {}
        }
        let changed = *seen != before;
        if seen.deployment.is_none() && seen.total == 0 {
            self.scene.world.workers.remove(&key(revision));
            return true;
        }
        changed
    }

    fn holds(&self) -> Result<(), String> {
        let workers = &self.scene.world.workers;
        for ((_, revision), seen) in workers {
            if seen.total.max(seen.asked()) > 0 && !self.promoted.contains(revision) {
                return Err(format!("{revision} was never promoted and has workers"));
            }
        }
        let with_pods = workers.values().filter(|seen| seen.total > 0).count();
        if self.recreate && with_pods > 1 {
            return Err("two revisions of a Recreate worker at once".to_owned());
        }
        if self.recreate && workers.values().any(|seen| seen.total > 2) {
            return Err("more pods of a Recreate worker than wanted".to_owned());
        }
        Ok(())
    }

    fn step(&mut self, random: &mut Random) -> Result<(), String> {
        match random.below(16) {
            0..=4 => drop(self.pass(random.below(5))?),
            5 => drop(self.web()),
            6 => {
                let next = NAMES[random.below(NAMES.len())];
                self.log.push(format!("asks for {next}"));
                self.scene.ask(next);
            }
            7 if random.below(2) == 0 => {
                let (stable, attempt) = (self.scene.status.stable.clone(), self.scene.status.attempt);
                self.scene.goal.command = stable.map(|stable| format!("rollback {stable}/{attempt}"));
            }
            8 if random.below(3) == 0 && !self.recreate => {
                let revision = NAMES[random.below(NAMES.len())];
                self.log.push(format!("somebody deletes the worker of {revision}"));
                delete(&mut self.scene, revision);
            }
            9 => self.scene.later(1),
            _ => drop(self.evolve(NAMES[random.below(NAMES.len())], random.below(3))),
        }
        self.holds()
    }

    /// Without faults to the end.
    fn ends_well(&mut self) -> Result<(), String> {
        for _ in 0..500 {
            let idle = self.pass(usize::MAX)?;
            let mut moved = self.web();
            for revision in NAMES {
                for step in 0..3 {
                    moved |= self.evolve(revision, step);
                }
            }
            self.holds()?;
            if idle && !moved {
                return self.is_as_asked();
            }
        }
        Err("no fixed point".to_owned())
    }

    fn is_as_asked(&self) -> Result<(), String> {
        let stable = self.scene.status.stable.clone().ok_or("nothing is stable")?;
        let found: Vec<(&str, u32, u32)> = self
            .scene
            .world
            .workers
            .iter()
            .map(|((_, revision), seen)| (revision.as_str(), seen.asked(), seen.total))
            .collect();
        let wanted = if stable == "v3" { Vec::new() } else { vec![(stable.as_str(), 2, 2)] };
        let returned = self.scene.status.candidate.is_some();
        if found != wanted || !(returned || self.scene.status.phase == Some(Phase::Healthy)) {
            return Err(format!("{stable} is stable and has {found:?}: {}", self.scene.status.message));
        }
        Ok(())
    }
}

/// By hand, or by the operator: what pods are left end by themselves.
fn delete(scene: &mut Scene, revision: &str) {
    if let Some(seen) = scene.world.workers.get_mut(&key(revision)) {
        seen.deployment = None;
    }
}

fn run(seed: u64, recreate: bool, mutant: Mutant) -> Result<bool, String> {
    let mut run = Run::new(recreate, mutant);
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) + 1);
    let mut result = run.ends_well();
    for _ in 0..STEPS {
        result = result.and_then(|()| run.step(&mut random));
    }
    result = result.and_then(|()| run.ends_well());
    let back =
        run.scene.status.last_command.as_ref().is_some_and(|last| last.answer == CommandAnswer::Accepted);
    result.map(|()| back).map_err(|why| {
        let from = run.log.len().saturating_sub(30);
        format!("seed {seed}: {why}; {:?}\n{}", run.scene.world.workers, run.log[from..].join("\n"))
    })
}

#[test]
fn workers_follow_the_stable_revision_in_every_run() {
    for recreate in [false, true] {
        let backs: Vec<bool> = (0..RUNS)
            .map(|seed| run(seed, recreate, Mutant::None).unwrap_or_else(|why| panic!("{why}")))
            .collect();
        assert!(backs.iter().filter(|back| **back).count() > 30, "rollbacks take place");
    }
}

#[test]
fn planners_broken_on_purpose_are_caught() {
    for (mutant, recreate, caught) in [
        (Mutant::Eager, false, "was never promoted"),
        (Mutant::ForgetsRecreate, true, "two revisions of a Recreate worker"),
        (Mutant::CountsAskedPods, false, "old workers go before"),
    ] {
        let found = (0..RUNS).find_map(|seed| run(seed, recreate, mutant).err());
        assert!(found.as_ref().is_some_and(|why| why.contains(caught)), "{found:?}");
    }
}
