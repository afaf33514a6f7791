//! Properties of single plans over arbitrary worlds, sound or not.

use proptest::prelude::*;

use super::scene::{Scene, at};
use crate::api::{CanaryStep, Outcome, Pause, Phase, StrategyKind};
use crate::plan::{JobState, MigrationPod, Plan, Selector, Write, events, plan};

const KINDS: [StrategyKind; 4] =
    [StrategyKind::Rolling, StrategyKind::Recreate, StrategyKind::BlueGreen, StrategyKind::Canary];

fn steps(strategy: StrategyKind) -> Vec<CanaryStep> {
    let weight = CanaryStep { set_weight: Some(33), ..CanaryStep::default() };
    let wait = CanaryStep { pause: Some(Pause { duration: None }), ..CanaryStep::default() };
    match strategy {
        StrategyKind::Rolling | StrategyKind::Recreate => Vec::new(),
        StrategyKind::BlueGreen => vec![wait],
        StrategyKind::Canary => vec![weight, wait],
    }
}

const NAMES: [&str; 3] = ["v1", "v2", "v3"];

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(NAMES.to_vec()).prop_map(str::to_owned)
}

prop_compose! {
    fn deployment()(asked in 0..5_u32, ready in 0..5_u32, pods in 0..6_u32, observed: bool, drifted: bool)
        -> (u32, u32, u32, bool, bool) {
        (asked, ready, pods, observed, drifted)
    }
}

prop_compose! {
    fn scene()(
        replicas in 0..5_u32,
        surge in 0..3_u32,
        unavailable in 0..3_u32,
        kind in prop::sample::select(KINDS.to_vec()),
        step in 0..3_i32,
        begun: bool,
        bake in prop::option::of(prop::sample::select(KINDS.to_vec())),
        kept in prop::option::of(any::<bool>()),
        paused in prop::bool::weighted(0.1),
        held in prop::bool::weighted(0.2),
        previous in prop::option::of(name()),
        suspend in prop::bool::weighted(0.1),
        desired in name(),
        stable in prop::option::of(name()),
        candidate in prop::option::of((name(), prop::option::of((any::<bool>(), any::<bool>())))),
        stored in prop::collection::vec(prop::option::of((any::<bool>(), any::<bool>())), 3),
        deployments in prop::collection::vec(prop::option::of(deployment()), 3),
        deleted in prop::bool::weighted(0.1),
        selector in prop::option::of(prop::option::of(name())),
        job in prop::option::of((name(), 0..3_u8, any::<bool>())),
        migration_pod: bool,
        seconds in 0..2000_i64,
    ) -> Scene {
        let mut scene = Scene::new();
        scene.goal.replicas = replicas;
        scene.goal.surge = surge;
        scene.goal.unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
        scene.goal.suspend = suspend;
        scene.goal.desired = desired;
        let strategy = kind;
        scene.goal.strategy = strategy;
        scene.goal.steps = steps(strategy);
        scene.goal.blue_green_bake = std::time::Duration::from_mins(10);
        scene.goal.keep_old = std::time::Duration::from_mins(20);
        scene.goal.keep_old_replicas = 1;
        scene.status.paused = paused;
        scene.status.previous = previous;
        let since = || k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0));
        scene.status.bake = bake.map(|strategy| crate::api::Bake { since: since(), strategy, gateway: false });
        scene.status.kept = kept.map(|drained| crate::api::Kept { since: since(), drained });
        scene.status.attempt = 4;
        scene.status.stable = stable;
        if let Some((revision, verdict)) = candidate {
            scene.status.candidate = Some(crate::api::Candidate {
                revision: revision.clone(),
                attempt: 4,
                asked: String::new(),
                strategy,
                gateway: false,
                steps: steps(strategy),
                step: step.min(i32::try_from(steps(strategy).len()).unwrap()),
                step_since: begun.then(since),
                weight: None,
                started_at: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0)),
                verdict: verdict.map(|(aborted, returned)| crate::api::Verdict {
                    outcome: if aborted { Outcome::Aborted } else { Outcome::Failed },
                    reason: "ProgressDeadlineExceeded".to_owned(),
                    message: "late".to_owned(),
                    returned,
                    held,
                }),
                progress: None,
            });
            scene.status.secrets_for = Some(revision);
        }
        for (index, stored) in stored.into_iter().enumerate() {
            if let Some((needs, migrated)) = stored {
                scene.store(NAMES[index], |revision| {
                    revision.needs_migration = needs;
                    revision.migrated = migrated;
                });
            }
        }
        for (index, deployment) in deployments.into_iter().enumerate() {
            if let Some((asked, ready, pods, observed, drifted)) = deployment {
                scene.run(NAMES[index], asked, ready);
                let deployment = scene.world.deployments.get_mut(NAMES[index]).unwrap();
                deployment.pods = pods;
                deployment.observed = observed;
                deployment.drifted = drifted;
                if !deleted && !scene.world.revisions.contains_key(NAMES[index]) {
                    scene.store(NAMES[index], |_| {});
                }
            }
        }
        if let Some(selector) = selector {
            scene.points_to(selector.map_or(Selector::Wide, Selector::Only));
        }
        if let Some((revision, state, terminating)) = job {
            let state = match state {
                0 => JobState::Running,
                1 => JobState::Succeeded,
                _ => super::scene::failed(),
            };
            scene.job(&revision, state);
            scene.world.jobs[0].terminating = terminating;
        }
        if migration_pod {
            scene.world.migration_pods.push(MigrationPod { name: "pod".to_owned(), node: None });
        }
        scene.later(seconds);
        scene
    }
}

fn takes_away(scene: &Scene, write: &Write) -> bool {
    match write {
        Write::ApplyDeployment { revision, .. } => write.takes_away(scene.world.asked(revision)),
        other => other.takes_away(0),
    }
}

fn ask(scene: &Scene) -> Plan {
    plan(&scene.goal, &scene.status, &scene.world, scene.now)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Rule 2, and what makes a kill between two writes harmless.
    #[test]
    fn at_most_one_write_takes_away_and_it_is_the_last_of_its_kind(scene in scene()) {
        let plan = ask(&scene);
        let taking = plan.writes.iter().filter(|write| takes_away(&scene, write)).count();
        prop_assert!(taking <= 2, "{:?}", plan.writes);
        let sizes: Vec<bool> = plan.writes.iter()
            .filter(|write| matches!(write, Write::ApplyDeployment { .. } | Write::CreateDeployment { .. }))
            .map(|write| takes_away(&scene, write)).collect();
        prop_assert!(sizes.iter().filter(|lowers| **lowers).count() <= 1, "{:?}", plan.writes);
        prop_assert!(sizes.iter().position(|lowers| *lowers).is_none_or(|at| at + 1 == sizes.len()));
    }

    /// Invariant 8, on the side of the status: asked again about the same world, the planner has nothing new to say.
    #[test]
    fn the_status_comes_to_rest(scene in scene()) {
        let mut scene = scene;
        for _ in 0..6 {
            scene.pass();
        }
        let before = scene.status.clone();
        let again = scene.pass();
        prop_assert_eq!(&before, &again.status);
        prop_assert!(events(&before, &again.status).is_empty());
    }

    /// Invariant 10.
    #[test]
    fn the_status_tells_the_truth(scene in scene()) {
        let mut scene = scene;
        let before = scene.status.clone();
        let plan = scene.pass();
        let status = &scene.status;
        if plan.writes.iter().any(|write| matches!(write, Write::RebuildRevision { .. })) {
            // What somebody deleted comes back first, and until then nothing else is told.
            prop_assert_eq!(status, &before);
            return Ok(());
        }
        prop_assert_eq!(status.observed_generation, scene.goal.generation);
        let ready = scene.condition("Ready") == Some("True");
        if ready {
            let stable = status.stable.clone().unwrap();
            prop_assert!(scene.world.serving(&stable) >= scene.goal.replicas);
            prop_assert_eq!(&stable, &scene.goal.desired);
        }
        let (reconciling, stalled) = (scene.condition("Reconciling"), scene.condition("Stalled"));
        prop_assert!(reconciling.is_none() || stalled.is_none());
        prop_assert!(!(ready && (reconciling.is_some() || stalled.is_some())));
        prop_assert_eq!(stalled.is_some(), matches!(status.phase, Some(Phase::Failed | Phase::Aborted | Phase::Blocked)));
        prop_assert!(!status.message.is_empty());
    }

    /// Transition times change only on transitions.
    #[test]
    fn transition_times_change_only_on_transitions(first in scene(), second in scene()) {
        let mut scene = first;
        scene.pass();
        let before = scene.status.conditions.clone();
        scene.world = second.world;
        scene.later(60);
        scene.pass();
        for condition in &scene.status.conditions {
            if let Some(known) = before.iter().find(|known| known.type_ == condition.type_) {
                let moved = known.last_transition_time != condition.last_transition_time;
                prop_assert_eq!(moved, known.status != condition.status, "{}", condition.type_);
            }
        }
    }

    /// The floor and the ceiling of a roll, whatever is observed.
    #[test]
    fn a_roll_keeps_floor_and_ceiling(scene in scene()) {
        let mut scene = scene;
        scene.goal.suspend = false;
        scene.goal.strategy = StrategyKind::Rolling;
        scene.status.bake = None;
        scene.status.kept = None;
        if let Some(candidate) = scene.status.candidate.as_mut() {
            candidate.strategy = StrategyKind::Rolling;
            candidate.steps.clear();
            candidate.step = 0;
        }
        let plan = ask(&scene);
        let (world, goal) = (&scene.world, &scene.goal);
        let before: u32 = world.deployments.keys().map(|revision| world.serving(revision)).sum();
        let total: u32 = world.deployments.keys().map(|revision| world.asked(revision)).sum();
        let mut raised = total;
        for write in &plan.writes {
            match write {
                Write::ApplyDeployment { revision, replicas, .. } if *replicas < world.asked(revision) => {
                    let lost = world.serving(revision).saturating_sub(*replicas);
                    let floor = goal.replicas.saturating_sub(goal.unavailable);
                    prop_assert!(before - lost >= before.min(floor), "{:?}", plan.writes);
                }
                Write::ApplyDeployment { revision, replicas, .. } | Write::CreateDeployment { revision, replicas } => {
                    raised += replicas - world.asked(revision);
                }
                _ => {}
            }
        }
        prop_assert!(raised <= total.max(goal.replicas + goal.surge), "{:?}", plan.writes);
    }

    /// No plan asks for more connections than the database has, unless that many are held already.
    #[test]
    fn a_plan_keeps_to_the_database_budget(scene in scene(), pods in 0..8_u32) {
        let mut scene = scene;
        scene.goal.suspend = false;
        scene.goal.budget = Some(crate::plan::Budget { max: pods * 10, per_pod: 10 });
        let plan = ask(&scene);
        let world = &scene.world;
        let jobs = u32::try_from(world.migration_pods.len()).unwrap();
        let mut asked: std::collections::BTreeMap<&str, u32> = NAMES.map(|name| (name, world.asked(name))).into();
        let total = |asked: &std::collections::BTreeMap<&str, u32>| -> u32 {
            asked.iter().map(|(name, n)| (*n).max(world.pod_objects(name))).sum::<u32>()
        };
        let before = total(&asked) + jobs;
        for write in &plan.writes {
            match write {
                Write::ApplyDeployment { revision, replicas, .. } | Write::CreateDeployment { revision, replicas } => {
                    asked.insert(revision, (*replicas).max(asked[revision.as_str()]));
                }
                Write::CreateJob { .. } => prop_assert!(before < pods, "{:?}", plan.writes),
                _ => {}
            }
        }
        prop_assert!(total(&asked) + jobs <= pods.max(before), "{:?}", plan.writes);
    }

    /// Invariant 2, for a single plan.
    #[test]
    fn no_pods_before_the_migration_is_recorded(scene in scene()) {
        let plan = ask(&scene);
        for write in &plan.writes {
            if let Write::CreateDeployment { revision, .. } = write {
                let stored = &scene.world.revisions[revision];
                let stable = plan.status.stable.as_ref() == Some(revision);
                prop_assert!(stable || stored.migrated || !stored.needs_migration);
            }
            if let Write::CreateJob { revision, .. } = write {
                prop_assert!(!scene.world.revisions[revision].migrated);
                prop_assert!(scene.world.jobs.is_empty() && scene.world.migration_pods.is_empty());
            }
        }
    }
}
