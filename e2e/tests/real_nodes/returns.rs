//! Whatever ends a rollout, all requests are back on the stable revision, none was lost, and the status says so as
//! docs/status.md has it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use e2e::fixtures::condition;
use e2e::harness::{Seen, Space, Traffic};
use phoenix_operator::api::{CommandAnswer, Outcome, Phase, PhoenixAppStatus, labels};
use serde_json::{Value, json};

use crate::shop::{self, PATIENCE};

/// Pods of each app: several apps share the nodes.
const PODS: usize = 2;
/// Several apps start at once on two processors.
const LONG: Duration = Duration::from_mins(4);

/// A small app of the database that all share; there is nothing to migrate.
fn spec(image: &str, strategy: &Value) -> Value {
    let fields = json!({
        "replicas": PODS,
        "migrations": {"mode": "Disabled"},
        // A VM that is told to stop before it has booted may miss it, and lasts as long as its grace.
        "shutdown": {"endpointLag": "6s", "grace": "20s"},
        "strategy": shop::with(json!({"progressDeadline": "45s"}), strategy),
    });
    shop::with(shop::spec(image), &fields)
}

/// How a rollout fails.
struct Failure {
    app: &'static str,
    strategy: Value,
    image: &'static str,
    /// What else differs.
    more: Value,
    /// The gate that says no, and with which reason.
    gate: (&'static str, &'static str),
    /// What the message names.
    named: &'static str,
}

fn failures() -> [Failure; 4] {
    let test = json!([{"name": "home", "http": {"path": "/status/500", "retries": 0}}]);
    let steps = json!([{"setWeight": 33}, {"pause": {"duration": "1s"}}]);
    [
        Failure {
            app: "smoke",
            strategy: json!({"type": "BlueGreen", "smokeTests": test}),
            image: "v2",
            more: json!({}),
            gate: ("SmokeTested", "SmokeTestFailed"),
            named: "home",
        },
        Failure {
            app: "crash",
            // Ready before it crashes, and never for so long. The deadline falls into the kubelet's third pause, from some
            // 44 s to 84 s: what is ready right then is not said to crash.
            strategy: json!({"type": "BlueGreen", "minReady": "5s", "progressDeadline": "65s"}),
            image: "crash",
            more: json!({}),
            gate: ("PodsReady", "ProgressDeadlineExceeded"),
            named: "exit code 1",
        },
        Failure {
            app: "image",
            strategy: json!({"type": "Canary", "canary": {"steps": steps}}),
            image: "v2",
            // refused at once, where a registry that does not answer takes longer than the deadline
            more: json!({"image": "127.0.0.1:1/roost:v2"}),
            gate: ("PodsReady", "ProgressDeadlineExceeded"),
            named: "cannot pull image 127.0.0.1:1/roost:v2",
        },
        Failure {
            app: "deadline",
            strategy: json!({"type": "Canary", "canary": {"steps": steps}}),
            image: "v2",
            more: json!({"health": {"readiness": {"path": "/status/503", "period": "1s"}}}),
            gate: ("PodsReady", "ProgressDeadlineExceeded"),
            named: "became available within 45 s",
        },
    ]
}

/// The stable release of every app, all at once.
async fn begin(space: &Space, apps: &[(&str, Value)]) -> Vec<(String, Traffic)> {
    space.database().await.unwrap();
    let mut generations = Vec::new();
    for (app, strategy) in apps {
        generations.push(space.apply(app, &spec("v1", strategy)).await.unwrap());
    }
    let mut all = Vec::new();
    for ((app, _), generation) in apps.iter().zip(generations) {
        let status = space.wait_phase(app, generation, Phase::Healthy, LONG).await.unwrap();
        let mut load = shop::load(16, 4, 60, 0);
        load.paths = ["/version", "/ready", "/slow?ms=250"].map(str::to_owned).to_vec();
        let mut traffic = shop::traffic_to(space, app, &load);
        traffic.reaches(50).await.unwrap();
        all.push((status.stable.unwrap(), traffic));
    }
    all
}

/// All requests on v1, nothing else left, and everything that readers look at says how it ended.
async fn returned(space: &Space, app: &str, v1: &str, phase: Phase, generation: i64) -> PhoenixAppStatus {
    let back = |status: &PhoenixAppStatus| {
        let verdict = status.candidate.as_ref().and_then(|candidate| candidate.verdict.as_ref());
        status.phase == Some(phase) && verdict.is_some_and(|verdict| verdict.returned)
    };
    let what = format!("{app} to be {phase:?} and back");
    let status = space.wait_for(app, generation, &what, LONG, back).await.unwrap();
    let candidate = status.candidate.clone().unwrap();
    let alone = |seen: &Seen| {
        let led = seen.get("Service", app)?["spec"]["selector"].get(labels::REVISION)?.as_str()? == v1;
        let only = seen.web_pods(app).len() == PODS && seen.ready_pods(app, v1).len() == PODS;
        (led && only && seen.all_gone(app, &candidate.revision)).then_some(())
    };
    // The Service is narrowed to the stable revision once that serves alone.
    space.wait(&format!("{app} to be on v1 alone"), LONG, alone).await.unwrap();
    assert_eq!(status.stable.as_deref(), Some(v1), "{status:#?}");
    let outcome = if phase == Phase::Aborted { Outcome::Aborted } else { Outcome::Failed };
    assert_eq!(candidate.verdict.unwrap().outcome, outcome);
    let reason = |kind| condition(&status, kind);
    assert_eq!(reason("Ready").map(|(state, _)| state), Some("False"), "{status:#?}");
    assert_eq!(reason("Stalled").map(|(state, _)| state), Some("True"), "{status:#?}");
    assert_eq!(reason("Reconciling"), None, "{status:#?}");
    assert_eq!(reason("Available").map(|(state, _)| state), Some("True"), "{status:#?}");
    status
}

async fn only_v1(app: &str, traffic: Traffic) {
    let report = traffic.stop().await.unwrap();
    shop::nothing_lost(app, &report);
    assert_eq!(report.versions.keys().collect::<Vec<_>>(), ["v1"], "{app}: nothing else ever answered");
}

pub async fn after_failures(space: Arc<Space>) {
    let _operator = space.operator().await.unwrap();
    let failures = failures();
    let apps: Vec<_> = failures.iter().map(|failure| (failure.app, failure.strategy.clone())).collect();
    let begun = begin(&space, &apps).await;
    let start = Instant::now();
    let mut generations = Vec::new();
    for failure in &failures {
        let spec = shop::with(spec(failure.image, &failure.strategy), &failure.more);
        generations.push(space.apply(failure.app, &spec).await.unwrap());
    }
    for ((failure, (v1, traffic)), generation) in failures.iter().zip(begun).zip(generations) {
        let status = returned(&space, failure.app, &v1, Phase::Failed, generation).await;
        println!("{}: {:?} after it was applied: {}", failure.app, start.elapsed(), status.message);
        assert_eq!(condition(&status, failure.gate.0), Some(("False", failure.gate.1)), "{status:#?}");
        assert!(status.message.contains(failure.named), "no {:?} in {:?}", failure.named, status.message);
        only_v1(failure.app, traffic).await;
    }
}

async fn accepted(space: &Space, app: &str, text: &str) {
    space.command(app, text).await.unwrap();
    let answered =
        |status: &PhoenixAppStatus| status.last_command.as_ref().is_some_and(|last| last.text == text);
    let status = space.wait_for(app, 0, "an answer", PATIENCE, answered).await.unwrap();
    let last = status.last_command.unwrap();
    assert_eq!(last.answer, CommandAnswer::Accepted, "{last:?}");
}

/// What a command names: the candidate, else the stable revision.
fn target(status: &PhoenixAppStatus) -> String {
    match &status.candidate {
        Some(candidate) => format!("{}/{}", candidate.revision, candidate.attempt),
        None => format!("{}/{}", status.stable.as_deref().unwrap(), status.attempt),
    }
}

/// Where a rollout is aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// As pods begin to come for this step.
    Step(i32),
    /// While this step waits for a person.
    Paused(i32),
    /// After the promotion.
    Bake,
}

/// Whether a rollout is there.
fn is_at(moment: Moment, status: &PhoenixAppStatus) -> bool {
    let candidate = status.candidate.as_ref().filter(|candidate| candidate.verdict.is_none());
    let is = |phase| status.phase == Some(phase);
    match (moment, candidate) {
        (Moment::Bake, None) => status.bake.is_some() && is(Phase::Healthy),
        (Moment::Step(step), Some(candidate)) => candidate.step == step && is(Phase::RollingOut),
        (Moment::Paused(step), Some(candidate)) => candidate.step == step && is(Phase::Paused),
        _ => false,
    }
}

/// Goes on to a moment: promotes at each pause before it.
async fn reach(space: &Space, app: &str, generation: i64, moment: Moment) -> PhoenixAppStatus {
    let mut promoted = -1;
    loop {
        let waits = |status: &PhoenixAppStatus| {
            let candidate = status.candidate.as_ref().filter(|candidate| candidate.verdict.is_none());
            let step = candidate.map(|candidate| candidate.step).filter(|step| *step > promoted);
            is_at(moment, status) || (status.phase == Some(Phase::Paused) && step.is_some())
        };
        let what = format!("{app} at {moment:?}, or at a pause after step {promoted}");
        let status = space.wait_for(app, generation, &what, LONG, waits).await.unwrap();
        if is_at(moment, &status) {
            return status;
        }
        promoted = status.candidate.as_ref().unwrap().step;
        accepted(space, app, &format!("promote {}/{promoted}", target(&status))).await;
    }
}

/// Aborts at each moment in turn; `retry` begins anew each time.
async fn aborted_everywhere(space: &Space, app: &str, strategy: &Value, moments: &[Moment]) -> String {
    let v1 = space.record().look(|seen| seen.status(app).unwrap().stable.unwrap());
    let generation = space.apply(app, &spec("v2", strategy)).await.unwrap();
    for moment in moments {
        let status = reach(space, app, generation, *moment).await;
        let start = Instant::now();
        accepted(space, app, &format!("abort {}", target(&status))).await;
        let back = returned(space, app, &v1, Phase::Aborted, generation).await;
        println!("{app} aborted at {moment:?} ({:?}): back {:?} later", status.phase, start.elapsed());
        if Some(moment) != moments.last() {
            accepted(space, app, &format!("retry {}", target(&back))).await;
        }
    }
    v1
}

pub async fn after_aborts(space: Arc<Space>) {
    let _operator = space.operator().await.unwrap();
    let canary = json!({"type": "Canary", "canary": {"bake": "1h", "steps": [
        {"setWeight": 33}, {"pause": {}}, {"setWeight": 67}, {"pause": {}},
    ]}});
    let blue_green = json!({"type": "BlueGreen", "blueGreen": {"bake": "1h", "autoPromote": false}});
    let apps = [("canary", canary.clone()), ("bluegreen", blue_green.clone())];
    let mut begun = begin(&space, &apps).await.into_iter();
    // What comes after the last step is the move of all requests.
    let in_canary = [
        Moment::Step(0),
        Moment::Paused(1),
        Moment::Step(2),
        Moment::Paused(3),
        Moment::Step(4),
        Moment::Bake,
    ];
    let in_blue_green = [Moment::Step(0), Moment::Paused(0), Moment::Step(1), Moment::Bake];
    tokio::join!(
        aborted_everywhere(&space, "canary", &canary, &in_canary),
        aborted_everywhere(&space, "bluegreen", &blue_green, &in_blue_green),
    );
    for (app, _) in apps {
        let (_, traffic) = begun.next().unwrap();
        let report = traffic.stop().await.unwrap();
        shop::nothing_lost(&format!("{app}, aborted everywhere"), &report);
        assert_eq!(report.streams.open.keys().collect::<Vec<_>>(), ["v1"], "streams are back, too");
    }
}
