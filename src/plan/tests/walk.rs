//! The exhaustive walk: every interleaving of caches, controllers, edits, one kill of the operator and one pod
//! failure, within small bounds. Invariants 1, 2, 3, 6, 9 and 11 hold in every state, and from every state a run
//! without faults reaches a fixed point that is what was asked for.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Mutex;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::model::{Action, Config, Ended, JobPhase, Mutant, Points, State, Steps, Verb};
use crate::api::{Outcome, StrategyKind};

/// Longest run without faults from any state to its fixed point, in actions.
const MOST_STEPS: usize = 400;

struct Walk {
    config: Config,
    from_rest: bool,
    /// States from which a run without faults is known to end well.
    settled: Mutex<HashSet<u64>>,
}

impl Model for Walk {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![if self.from_rest { State::at_rest(&self.config) } else { State::start(&self.config) }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend(state.actions(&self.config));
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        Some(state.after(action, &self.config))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no invariant is violated", |_, state: &State| state.violation.is_none()),
            Property::always("a run without faults ends well", |model: &Self, state: &State| {
                model.ends_well(state).is_ok()
            }),
        ]
    }
}

impl Walk {
    /// Runs without faults; deadlines pass when nothing else happens.
    fn ends_well(&self, from: &State) -> Result<(), String> {
        let mut state = *from;
        let mut path = Vec::new();
        for _ in 0..MOST_STEPS {
            if state.violation.is_some() {
                return Err(format!("violation {:?}", state.violation));
            }
            if self.settled.lock().unwrap().contains(&fingerprint(&state)) {
                break;
            }
            path.push(fingerprint(&state));
            let action = match state.benign(&self.config).first() {
                Some(action) => *action,
                None if state.clock_runs() => {
                    may_time_out(&state)?;
                    Action::DeadlinePasses
                }
                None if !state.time_passes().is_empty() => {
                    is_as_asked(&state, &self.config)?;
                    state.time_passes()[0]
                }
                None => {
                    is_as_asked(&state, &self.config)?;
                    self.has_contracted(&state)?;
                    break;
                }
            };
            state = state.after(action, &self.config);
        }
        if path.len() == MOST_STEPS {
            return Err(format!("no fixed point within {MOST_STEPS} steps"));
        }
        self.settled.lock().unwrap().extend(path);
        Ok(())
    }

    /// In the end the stable revision's contract is done, unless a person gave it up or a rollout has ended badly.
    fn has_contracted(&self, state: &State) -> Result<(), String> {
        let status = state.status;
        let given_up = status.follow_up.is_some_and(|follows| follows.aborted);
        let waits = status.candidate.is_some() || state.truth.app.replicas == 0 || status.paused;
        match status.stable {
            Some(stable) if self.config.phases && !waits && !given_up && !state.broken[stable] => {
                let done = state.stored[stable].contracted;
                done.then_some(()).ok_or_else(|| "contract: it never came".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The beginning of a run without faults that does not end well.
    fn trace(&self, from: &State) -> String {
        let mut state = *from;
        let mut lines = Vec::new();
        for _ in 0..MOST_STEPS {
            let Some(action) = state.benign(&self.config).first().copied() else { break };
            state = state.after(action, &self.config);
            lines.push(format!("then {action:?}: {}", state.summary()));
            if state.violation.is_some() {
                break;
            }
        }
        // how it begins, and how it ends
        let end = lines.len().saturating_sub(6);
        lines.drain(end.min(6)..end);
        lines.join("\n")
    }
}

/// Only what is broken runs into its deadline.
fn may_time_out(state: &State) -> Result<(), String> {
    let Some(candidate) = state.status.candidate else { return Ok(()) };
    let focus = if candidate.verdict.is_some() { state.status.stable } else { Some(candidate.revision) };
    match focus {
        Some(revision) if state.broken[revision] => Ok(()),
        _ => Err("11: a sound release runs into its deadline".to_owned()),
    }
}

/// The fixed point is what was asked for.
fn is_as_asked(state: &State, config: &Config) -> Result<(), String> {
    let app = state.truth.app;
    let status = state.status;
    let kept = |revision: usize| {
        (status.bake.is_some() || status.kept.is_some()) && status.previous == Some(revision)
    };
    let serves = |revision: usize| {
        let only = state
            .truth
            .deployments
            .iter()
            .enumerate()
            .all(|(other, deployment)| other == revision || deployment.pods == 0 || kept(other));
        let deployment = state.truth.deployments[revision];
        only && deployment.ready == app.replicas
            && deployment.asked == app.replicas
            && state.truth.endpoints[revision] == app.replicas
            && (app.replicas == 0 || state.service == Points::Only(revision))
    };
    if state.truth.jobs.pods > 0 || state.truth.jobs.job.is_some_and(|job| job.phase != JobPhase::Succeeded) {
        return Err("a migration Job is left behind".to_owned());
    }
    match status.candidate {
        None => {
            let stable = status.stable.ok_or("nothing is stable and nothing is tried")?;
            if stable != app.desired {
                return Err("the stable revision is not the one asked for".to_owned());
            }
            if serves(stable) {
                return state.is_routed(config, false);
            }
            if state.broken[stable] {
                return Ok(());
            }
            Err("11 or 6: the stable revision does not serve alone and in full".to_owned())
        }
        Some(candidate) => match (candidate.verdict, status.stable) {
            _ if candidate.revision != app.desired => Err("9: the newest spec is not tried".to_owned()),
            (Some(Ended { held: true, .. }), Some(_))
            | (Some(Ended { outcome: Outcome::Aborted, .. }), None) => Ok(()),
            (Some(Ended { returned: true, .. }), Some(stable)) if serves(stable) => {
                state.is_routed(config, false)
            }
            (Some(Ended { returned: true, .. }), Some(stable)) if state.broken[stable] => Ok(()),
            (Some(Ended { returned: false, .. }), Some(stable)) if state.broken[stable] => Ok(()),
            (Some(_), Some(_)) => Err("6: not all traffic is on the stable revision".to_owned()),
            (Some(_), None) => Err("failed for good without a stable revision".to_owned()),
            (None, _) if app.replicas == 0 || status.paused => Ok(()),
            (None, _) if candidate.begun && waits_for_a_person(state) => {
                serves_meanwhile(state).and_then(|()| state.is_routed(config, true))
            }
            (None, None) if state.broken[candidate.revision] => Ok(()),
            (None, _) => Err("11: the candidate is stuck".to_owned()),
        },
    }
}

/// The step under way is a wait without an end.
fn waits_for_a_person(state: &State) -> bool {
    state.status.candidate.is_some_and(|tried| match tried.steps {
        Steps::Person => tried.step == 0,
        Steps::ThirdThenPerson => tried.step == 1,
        Steps::None | Steps::UpAndDown => false,
    })
}

/// At a step, too, the wanted pods serve.
fn serves_meanwhile(state: &State) -> Result<(), String> {
    let serving: u8 = state.truth.endpoints.iter().sum();
    let broken = state.broken.iter().any(|broken| *broken);
    if serving >= state.truth.app.replicas || broken {
        return Ok(());
    }
    Err("1: fewer pods than wanted serve while a step waits".to_owned())
}

fn fingerprint(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

fn walk(name: &str, config: Config, from_rest: bool) -> Result<(usize, usize), String> {
    let started = Instant::now();
    let model = Walk { config, from_rest, settled: Mutex::default() };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let checker = model.checker().threads(threads).finish_when(HasDiscoveries::Any).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{name}: {states} states, depth {depth}, {:.1} s", started.elapsed().as_secs_f64());
    if let Some((property, path)) = checker.discoveries().into_iter().next() {
        let last = *path.last_state();
        let why = checker.model().ends_well(&last).err().unwrap_or_default();
        let actions: Vec<String> = path.into_actions().iter().map(|action| format!("{action:?}")).collect();
        return Err(format!(
            "{name}: {property}: {:?} {why}\n{}\n{}\n{}",
            last.violation,
            actions.join("\n"),
            last.summary(),
            checker.model().trace(&last)
        ));
    }
    Ok((states, depth))
}

const SMALL: Config = Config {
    strategy: StrategyKind::Rolling,
    steps: Steps::None,
    preview: None,
    bake: false,
    batches: false,
    on_failure_pause: false,
    verbs: &[],
    commands: 0,
    gateway: false,
    gateway_edits: false,
    other_strategy: None,
    losses: 0,
    meddling: 0,
    replicas: 2,
    most_replicas: 2,
    surge: 1,
    unavailable: 0,
    revisions: 2,
    migrations: true,
    phases: false,
    stop_first: false,
    never_ready: None,
    bad_migration: None,
    edits: 1,
    kills: 1,
    pod_failures: 1,
    deadlines: 0,
    breaks: 0,
    mutant: Mutant::None,
};

#[test]
fn first_rollout() {
    walk("first rollout", Config { edits: 0, ..SMALL }, false).unwrap();
}

#[test]
fn rolling_to_the_next_revision() {
    walk("rolling", SMALL, true).unwrap();
}

#[test]
fn rolling_back_from_pods_that_never_become_ready() {
    let config = Config { never_ready: Some(1), deadlines: 1, pod_failures: 0, ..SMALL };
    walk("never ready", config, true).unwrap();
}

#[test]
fn failing_migration() {
    walk("failing migration", Config { bad_migration: Some(1), ..SMALL }, true).unwrap();
}

#[test]
fn abort_at_any_moment() {
    walk("abort", Config { verbs: &[Verb::Abort], commands: 1, pod_failures: 0, ..SMALL }, true).unwrap();
}

/// Whichever it is, at any moment.
#[test]
fn a_child_is_deleted_or_scaled_by_hand() {
    let recreate = Config { strategy: StrategyKind::Recreate, surge: 0, unavailable: 1, ..SMALL };
    let walks = [
        ("rolling", SMALL),
        ("recreate", recreate),
        ("blue-green", BLUE_GREEN),
        ("canary", CANARY),
        ("gateway canary", GATEWAY),
    ];
    let wrong = walks.into_iter().filter_map(|(name, config)| {
        let config = Config { meddling: 1, kills: 0, pod_failures: 0, ..config };
        walk(&format!("{name}, by hand"), config, true).err()
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn broken_stable() {
    walk("broken stable", Config { breaks: 1, pod_failures: 0, ..SMALL }, true).unwrap();
}

#[test]
fn recreate() {
    let config = Config { strategy: StrategyKind::Recreate, surge: 0, unavailable: 1, ..SMALL };
    walk("recreate", config, true).unwrap();
    let config = Config { stop_first: true, bad_migration: Some(1), ..config };
    walk("recreate, stop first, failing migration", config, true).unwrap();
}

#[test]
fn unavailable_instead_of_surge() {
    walk("unavailable 1, surge 0", Config { surge: 0, unavailable: 1, ..SMALL }, true).unwrap();
}

const BLUE_GREEN: Config = Config { strategy: StrategyKind::BlueGreen, migrations: false, ..SMALL };

const CANARY: Config = Config {
    strategy: StrategyKind::Canary,
    steps: Steps::ThirdThenPerson,
    migrations: false,
    verbs: &[Verb::Promote, Verb::Abort],
    commands: 1,
    ..SMALL
};

#[test]
fn blue_green() {
    walk("blue-green", BLUE_GREEN, true).unwrap();
    let config = Config {
        steps: Steps::Person,
        preview: Some(1),
        verbs: &[Verb::Promote, Verb::Abort],
        commands: 1,
        ..BLUE_GREEN
    };
    walk("blue-green, a person", config, true).unwrap();
}

#[test]
fn blue_green_with_bake() {
    let config = Config {
        bake: true,
        kills: 0,
        pod_failures: 0,
        verbs: &[Verb::Abort, Verb::Rollback],
        commands: 1,
        ..BLUE_GREEN
    };
    walk("blue-green, bake", config, true).unwrap();
    walk("blue-green, bake, batches", Config { batches: true, ..config }, true).unwrap();
}

#[test]
fn blue_green_with_a_broken_revision() {
    let config = Config { never_ready: Some(1), deadlines: 1, pod_failures: 0, ..BLUE_GREEN };
    walk("blue-green, never ready", config, true).unwrap();
    let config = Config { breaks: 1, pod_failures: 0, ..BLUE_GREEN };
    walk("blue-green, broken stable", config, true).unwrap();
}

#[test]
fn canary() {
    walk("canary", CANARY, true).unwrap();
    let config = Config { steps: Steps::UpAndDown, verbs: &[Verb::Abort], ..CANARY };
    walk("canary, up and down", config, true).unwrap();
}

#[test]
fn canary_with_unavailable() {
    walk("canary, unavailable 1, surge 0", Config { surge: 0, unavailable: 1, ..CANARY }, true).unwrap();
}

#[test]
fn canary_with_a_broken_revision() {
    let config = Config { never_ready: Some(1), deadlines: 1, pod_failures: 0, ..CANARY };
    walk("canary, never ready", config, true).unwrap();
    walk(
        "canary, never ready, then a person",
        Config { on_failure_pause: true, verbs: &[Verb::Abort, Verb::Retry], ..config },
        true,
    )
    .unwrap();
    let config = Config { breaks: 1, pod_failures: 0, verbs: &[Verb::PromoteFull], ..CANARY };
    walk("canary, broken stable", config, true).unwrap();
}

const GATEWAY: Config = Config { gateway: true, ..CANARY };

#[test]
fn gateway_canary() {
    walk("gateway canary", GATEWAY, true).unwrap();
    let config = Config { steps: Steps::UpAndDown, verbs: &[Verb::Abort], ..GATEWAY };
    walk("gateway canary, up and down", config, true).unwrap();
}

#[test]
fn gateway_canary_superseded() {
    let config = Config { revisions: 3, edits: 2, kills: 0, commands: 0, pod_failures: 0, ..GATEWAY };
    walk("gateway canary, a third revision", Config { steps: Steps::UpAndDown, ..config }, true).unwrap();
}

#[test]
fn gateway_canary_with_bake() {
    let config = Config {
        bake: true,
        kills: 0,
        pod_failures: 0,
        steps: Steps::None,
        verbs: &[Verb::Abort, Verb::Rollback],
        ..GATEWAY
    };
    walk("gateway canary, bake", config, true).unwrap();
}

#[test]
fn gateway_canary_with_a_broken_revision() {
    let config = Config { never_ready: Some(1), deadlines: 1, pod_failures: 0, ..GATEWAY };
    walk("gateway canary, never ready", config, true).unwrap();
    let config = Config { breaks: 1, pod_failures: 0, verbs: &[Verb::PromoteFull], ..GATEWAY };
    walk("gateway canary, broken stable", config, true).unwrap();
}

#[test]
fn gateway_canary_that_changes_in_mid_flight() {
    let config = Config { kills: 0, pod_failures: 0, edits: 3, revisions: 3, ..GATEWAY };
    for other in [StrategyKind::Rolling, StrategyKind::BlueGreen] {
        let config = Config { other_strategy: Some(other), edits: 2, ..config };
        walk(&format!("gateway canary, then {other:?}"), config, true).unwrap();
    }
    let config = Config { gateway_edits: true, commands: 0, revisions: 2, steps: Steps::UpAndDown, ..config };
    walk("gateway canary, the route goes and comes", config, true).unwrap();
}

#[test]
fn pause_and_resume() {
    let config =
        Config { verbs: &[Verb::Pause, Verb::Resume], commands: 2, kills: 0, pod_failures: 0, ..SMALL };
    walk("rolling, paused", config, true).unwrap();
    walk("blue-green, paused", Config { strategy: StrategyKind::BlueGreen, ..config }, true).unwrap();
}

#[test]
fn another_strategy_in_mid_flight() {
    let kinds = [StrategyKind::Rolling, StrategyKind::BlueGreen, StrategyKind::Canary];
    for strategy in kinds {
        for other in kinds.into_iter().filter(|other| *other != strategy) {
            let config = Config {
                strategy,
                other_strategy: Some(other),
                edits: 3,
                kills: 0,
                pod_failures: 0,
                revisions: 3,
                migrations: false,
                ..SMALL
            };
            walk(&format!("{strategy:?}, then {other:?}"), config, true).unwrap();
        }
    }
}

#[test]
fn lost_status() {
    for strategy in [StrategyKind::Rolling, StrategyKind::BlueGreen] {
        let config = Config { strategy, losses: 1, pod_failures: 0, kills: 0, ..SMALL };
        walk("lost status", config, true).unwrap();
    }
}

/// Three replicas, three revisions, two edits, one kill of the operator before or after any write, one pod failure.
/// An abort is one of the two edits; a stable revision that breaks for good, and pods that never become ready, are
/// the pod failure.
#[cfg(feature = "full-walk")]
mod full {
    use super::*;

    const FULL: Config = Config { replicas: 3, most_replicas: 3, revisions: 3, edits: 2, ..SMALL };

    #[test]
    fn full_rolling() {
        walk("full: rolling", FULL, true).unwrap();
    }

    /// Without a stable revision nothing holds a superseded one back, and the pods of three grow side by side:
    /// two edits and a pod failure at once are more than a machine of ours holds.
    #[test]
    fn full_first_rollout() {
        walk("full: first rollout, two edits", Config { pod_failures: 0, ..FULL }, false).unwrap();
        walk("full: first rollout, pod failure", Config { edits: 1, ..FULL }, false).unwrap();
    }

    #[test]
    fn full_never_ready() {
        let config = Config { never_ready: Some(1), deadlines: 1, pod_failures: 0, ..FULL };
        walk("full: never ready", config, true).unwrap();
    }

    #[test]
    fn full_failing_migration() {
        walk("full: failing migration", Config { bad_migration: Some(1), ..FULL }, true).unwrap();
    }

    #[test]
    fn full_abort() {
        walk("full: abort", Config { verbs: &[Verb::Abort], commands: 1, edits: 1, ..FULL }, true).unwrap();
    }

    #[test]
    fn full_phases() {
        let config = Config { phases: true, pod_failures: 0, ..FULL };
        walk("full: phases", config, true).unwrap();
        let verbs = &[Verb::RollbackWithMigrations, Verb::Abort, Verb::Retry];
        let config = Config { verbs, commands: 2, edits: 1, kills: 1, ..config };
        walk("full: phases and back", config, true).unwrap();
    }

    #[test]
    fn full_broken_stable() {
        walk("full: broken stable", Config { breaks: 1, pod_failures: 0, ..FULL }, true).unwrap();
    }

    #[test]
    fn full_unavailable() {
        let config = Config { surge: 0, unavailable: 1, ..FULL };
        walk("full: unavailable 1, surge 0", config, true).unwrap();
        let config = Config { surge: 2, unavailable: 1, edits: 1, ..FULL };
        walk("full: unavailable 1, surge 2", config, true).unwrap();
    }

    #[test]
    fn full_blue_green() {
        let config = Config { strategy: StrategyKind::BlueGreen, ..FULL };
        walk("full: blue-green", config, true).unwrap();
    }

    #[test]
    fn full_blue_green_commands() {
        let config = Config {
            strategy: StrategyKind::BlueGreen,
            steps: Steps::Person,
            preview: Some(1),
            verbs: &[Verb::Promote, Verb::Abort, Verb::Retry, Verb::PromoteFull],
            commands: 2,
            edits: 1,
            ..FULL
        };
        walk("full: blue-green, commands", config, true).unwrap();
    }

    #[test]
    fn full_blue_green_bake() {
        let config = Config {
            strategy: StrategyKind::BlueGreen,
            bake: true,
            batches: true,
            verbs: &[Verb::Abort, Verb::Rollback],
            commands: 1,
            migrations: false,
            edits: 2,
            kills: 0,
            ..FULL
        };
        walk("full: blue-green, bake", config, true).unwrap();
        walk("full: blue-green, bake, kill", Config { edits: 1, kills: 1, ..config }, true).unwrap();
    }

    #[test]
    fn full_blue_green_broken() {
        let config = Config { strategy: StrategyKind::BlueGreen, breaks: 1, pod_failures: 0, ..FULL };
        walk("full: blue-green, broken stable", config, true).unwrap();
    }

    #[test]
    fn full_canary() {
        let config = Config { strategy: StrategyKind::Canary, steps: Steps::UpAndDown, ..FULL };
        walk("full: canary", config, true).unwrap();
    }

    #[test]
    fn full_canary_commands() {
        let config = Config {
            strategy: StrategyKind::Canary,
            steps: Steps::ThirdThenPerson,
            verbs: &[Verb::Promote, Verb::Abort, Verb::Retry, Verb::PromoteFull],
            commands: 2,
            edits: 1,
            ..FULL
        };
        walk("full: canary, commands", config, true).unwrap();
    }

    #[test]
    fn full_canary_broken() {
        let config = Config {
            strategy: StrategyKind::Canary,
            steps: Steps::UpAndDown,
            breaks: 1,
            pod_failures: 0,
            ..FULL
        };
        walk("full: canary, broken stable", config, true).unwrap();
    }

    #[test]
    fn full_another_strategy() {
        for (strategy, other) in [
            (StrategyKind::Rolling, StrategyKind::BlueGreen),
            (StrategyKind::BlueGreen, StrategyKind::Canary),
        ] {
            let config = Config {
                strategy,
                other_strategy: Some(other),
                kills: 0,
                edits: 3,
                migrations: false,
                ..FULL
            };
            walk(&format!("full: {strategy:?}, then {other:?}"), config, true).unwrap();
            let config = Config { kills: 1, edits: 2, pod_failures: 0, ..config };
            walk(&format!("full: {strategy:?}, then {other:?}, kill"), config, true).unwrap();
        }
    }

    const FULL_GATEWAY: Config = Config {
        strategy: StrategyKind::Canary,
        gateway: true,
        steps: Steps::UpAndDown,
        migrations: false,
        ..FULL
    };

    #[test]
    fn full_gateway() {
        walk("full: gateway canary", FULL_GATEWAY, true).unwrap();
    }

    #[test]
    fn full_gateway_commands() {
        let config = Config {
            steps: Steps::ThirdThenPerson,
            verbs: &[Verb::Promote, Verb::Abort, Verb::Retry, Verb::PromoteFull],
            commands: 2,
            edits: 1,
            ..FULL_GATEWAY
        };
        walk("full: gateway canary, commands", config, true).unwrap();
    }

    #[test]
    fn full_gateway_bake() {
        let config = Config {
            bake: true,
            steps: Steps::None,
            verbs: &[Verb::Abort, Verb::Rollback],
            commands: 1,
            edits: 1,
            ..FULL_GATEWAY
        };
        walk("full: gateway canary, bake", config, true).unwrap();
    }

    #[test]
    fn full_gateway_broken() {
        let config = Config { breaks: 1, pod_failures: 0, ..FULL_GATEWAY };
        walk("full: gateway canary, broken stable", config, true).unwrap();
        let config = Config { never_ready: Some(1), deadlines: 1, pod_failures: 0, ..FULL_GATEWAY };
        walk("full: gateway canary, never ready", config, true).unwrap();
    }

    #[test]
    fn full_gateway_that_changes() {
        let config = Config { gateway_edits: true, pod_failures: 0, edits: 2, ..FULL_GATEWAY };
        walk("full: gateway canary, the route goes and comes", config, true).unwrap();
        for other in [StrategyKind::Rolling, StrategyKind::BlueGreen] {
            let config = Config { other_strategy: Some(other), gateway_edits: false, ..config };
            walk(&format!("full: gateway canary, then {other:?}"), config, true).unwrap();
        }
    }

    #[test]
    fn full_lost_status() {
        for strategy in [StrategyKind::Rolling, StrategyKind::BlueGreen] {
            let config = Config { strategy, losses: 1, pod_failures: 0, ..FULL };
            walk("full: lost status", config, true).unwrap();
        }
    }

    #[test]
    fn full_by_hand() {
        for strategy in [StrategyKind::Rolling, StrategyKind::BlueGreen] {
            let config = Config { strategy, meddling: 1, edits: 1, pod_failures: 0, ..FULL };
            walk("full: by hand", config, true).unwrap();
        }
    }

    #[test]
    fn full_recreate() {
        let config = Config { strategy: StrategyKind::Recreate, surge: 0, unavailable: 1, ..FULL };
        walk("full: recreate", config, true).unwrap();
        let config = Config { stop_first: true, bad_migration: Some(1), ..config };
        walk("full: recreate, stop first, failing migration", config, true).unwrap();
    }
}

/// A Job before each migration, a contract after it, and a way back.
const PHASES: Config = Config { phases: true, replicas: 1, most_replicas: 1, ..SMALL };

const BACK: Config = Config {
    verbs: &[Verb::RollbackWithMigrations, Verb::Abort, Verb::Retry],
    commands: 1,
    edits: 1,
    kills: 0,
    ..PHASES
};

#[test]
fn migrations_in_phases() {
    walk("phases", PHASES, true).unwrap();
    walk("phases, status lost", Config { losses: 1, kills: 0, pod_failures: 0, ..PHASES }, true).unwrap();
}

#[test]
fn migrations_and_the_way_back() {
    walk("phases and back", BACK, true).unwrap();
}

#[test]
fn an_eager_contract_is_caught() {
    caught(PHASES, Mutant::EagerContract, "contract: a pod of another revision");
}

#[test]
fn a_migration_without_what_comes_before_it_is_caught() {
    caught(PHASES, Mutant::SkipsBefore, "before: a migration without");
}

#[test]
fn a_record_of_what_is_rolled_back_is_caught() {
    caught(BACK, Mutant::KeepsRecord, "rollback: what goes is still recorded");
}

fn caught(config: Config, mutant: Mutant, invariant: &str) {
    let name = format!("mutant {mutant:?}");
    let report = walk(&name, Config { mutant, ..config }, true).expect_err("the mutant was not caught");
    assert!(report.contains(invariant), "caught for another reason: {report}");
}

#[test]
fn a_broken_invariant_1_is_caught() {
    caught(SMALL, Mutant::CountsAskedPods, "1: a write lowered");
}

#[test]
fn a_broken_invariant_2_is_caught() {
    caught(SMALL, Mutant::SkipsMigration, "2: a pod exists before");
}

#[test]
fn a_broken_invariant_3_is_caught() {
    caught(SMALL, Mutant::EagerSelector, "3: traffic moved");
}

#[test]
fn a_broken_invariant_6_is_caught() {
    let config =
        Config { verbs: &[Verb::Abort], commands: 1, never_ready: Some(1), pod_failures: 0, ..SMALL };
    caught(config, Mutant::ForgetsAbort, "6: ");
}

#[test]
fn a_broken_invariant_9_is_caught() {
    caught(Config { revisions: 3, edits: 2, ..SMALL }, Mutant::PromotesSuperseded, "9: the stable revision");
}

#[test]
fn a_broken_invariant_11_is_caught() {
    caught(Config { breaks: 1, pod_failures: 0, ..SMALL }, Mutant::KeepsBrokenStable, "11");
}

#[test]
fn a_skipped_pause_is_caught() {
    let config = Config { steps: Steps::Person, verbs: &[Verb::Promote], commands: 1, ..BLUE_GREEN };
    caught(config, Mutant::SkipsPauses, "gate: promoted without");
}

#[test]
fn an_ignored_lag_is_caught() {
    caught(Config { verbs: &[Verb::Abort], ..GATEWAY }, Mutant::IgnoresLag, "went from under a weight");
}

#[test]
fn a_blind_weight_is_caught() {
    caught(GATEWAY, Mutant::WeighsBlindly, "3: a weight on a revision");
}

#[test]
fn an_ignored_weight_is_caught() {
    caught(CANARY, Mutant::IgnoresWeights, "weight: a canary has all pods");
}
