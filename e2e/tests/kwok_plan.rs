//! What `kubectl phx plan` says of an edit is what then happens, over random edits of one app: the same revision, the
//! same objects made and deleted, the same moves of the requests, the same end. Sizes, strategies, migrations with what
//! runs around them, workers, hosts, gateways and Ingresses are edited, together and one after the other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::audit::{Audit, Request, effects};
use e2e::fixtures::{self, PATIENCE, migrating, plain, with};
use e2e::gateway;
use e2e::harness::{Lab, Seen, Space};
use e2e::stand_in::{Answer, StandIn, routes, weights};
use phoenix_operator::api::{PhoenixAppStatus, labels};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

/// Edits of one app, one after the other; `PHOENIX_E2E_EDITS` for more.
const EDITS: u64 = 9;
/// Without a write for this long, what an edit brought about has ended.
const SETTLED: Duration = Duration::from_millis(1500);

#[tokio::test(flavor = "multi_thread")]
async fn plans_of_random_edits_come_true() -> Result<()> {
    let lab = Lab::fake().await?;
    gateway::define(&lab).await?;
    let cases = e2e::cases![edits_of_one_seed, edits_of_another_seed];
    fixtures::run(&lab, 2, cases).await?;
    Ok(())
}

async fn edits_of_one_seed(space: Arc<Space>) -> Result<()> {
    edits(&space, number("PHOENIX_E2E_SEED", 1)?).await
}

async fn edits_of_another_seed(space: Arc<Space>) -> Result<()> {
    edits(&space, number("PHOENIX_E2E_SEED", 1)?.wrapping_add(1)).await
}

fn number(name: &str, default: u64) -> Result<u64> {
    std::env::var(name).map_or(Ok(default), |text| text.parse().with_context(|| format!("{name}={text}")))
}

/// A spec that comes to rest in seconds: nothing is baked or kept, and waits are for a second or a person.
fn spec() -> impl Strategy<Value = Value> {
    let kind = prop::sample::select(vec!["Rolling", "Rolling", "Recreate", "BlueGreen", "Canary", "Canary"]);
    let pause = prop::sample::select(vec![None, Some(json!({})), Some(json!({"duration": "1s"}))]);
    let steps = prop::collection::vec((1..=100_i32, pause), 1..4);
    let sizes = (0..6_i32, 0..3_i32, prop::option::of(1..4_i32));
    let strategy = (kind, steps, sizes, any::<bool>());
    (1..4_u8, strategy, phases(), workers(), traffic(), any::<bool>()).prop_map(
        |(tag, (kind, steps, (replicas, surge, preview), by_hand), phases, workers, traffic, marked)| {
            let tag = format!("v{tag}");
            let spec = match phases {
                Some(phases) => with(migrating(&tag), &json!({"migrations": phases})),
                None => plain(&tag),
            };
            let steps: Vec<Value> = steps
                .into_iter()
                .flat_map(|(weight, pause)| {
                    [Some(json!({"setWeight": weight})), pause.map(|pause| json!({"pause": pause}))]
                })
                .flatten()
                .collect();
            let sizes = json!({"maxSurge": surge, "maxUnavailable": i32::from(surge == 0)});
            let mut canary = with(sizes.clone(), &json!({"steps": steps, "bake": "0s"}));
            canary["maxUnavailable"] = json!(1);
            let mut blue_green = json!({"autoPromote": !by_hand, "bake": "0s", "keepOld": "0s"});
            if let Some(size) = preview {
                blue_green["previewReplicas"] = json!(size);
            }
            let env = if marked { json!([{"name": "MARK", "value": "yes"}]) } else { json!([]) };
            let spec = with(
                spec,
                &json!({"replicas": replicas, "env": env, "workers": workers, "shutdown": {"endpointLag": "1s"},
                    "strategy": {"type": kind, "rolling": sizes, "canary": canary, "blueGreen": blue_green}}),
            );
            with(spec, &traffic)
        },
    )
}

/// What runs around a migration; none: there is no migration.
fn phases() -> impl Strategy<Value = Option<Value>> {
    let phases = (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(before, contract, back)| {
        let mut phases = json!({});
        if before {
            phases["before"] = json!([{"name": "backup", "command": ["pg_dump"]}]);
        }
        if contract {
            phases["contract"] = json!({"command": ["/app/bin/contract"]});
        }
        if back {
            phases["rollback"] = json!({"command": ["/app/bin/rollback"]});
        }
        phases
    });
    prop::option::of(phases)
}

/// Up to two workers, one of each strategy.
fn workers() -> impl Strategy<Value = Vec<Value>> {
    let sizes = (prop::option::of(0..3_i32), prop::option::of(1..3_i32));
    sizes.prop_map(|(jobs, clock)| {
        let jobs = jobs.map(|replicas| json!({"name": "jobs", "replicas": replicas}));
        let clock =
            clock.map(|replicas| json!({"name": "clock", "replicas": replicas, "strategy": "Recreate"}));
        jobs.into_iter().chain(clock).collect()
    })
}

/// Hosts, and the ways that lead from them to the app.
fn traffic() -> impl Strategy<Value = Value> {
    let hosts = prop::sample::select(vec![
        json!([]),
        json!(["shop.example.com"]),
        json!(["shop.example.com", "www.example.com"]),
        json!(["shop.example.org"]),
    ]);
    let parents = prop::sample::select(vec![
        None,
        Some(json!([{"name": "public"}])),
        Some(json!([{"name": "public", "sectionName": "https"}])),
        Some(json!([{"name": "public"}, {"name": "internal", "namespace": "default"}])),
    ]);
    (hosts, parents, any::<bool>()).prop_map(|(hosts, parents, ingress)| {
        let mut traffic = json!({});
        if hosts != json!([]) {
            if let Some(parents) = parents {
                traffic["gateway"] = json!({"parentRefs": parents});
            }
            if ingress {
                traffic["ingress"] = json!({"className": "nginx"});
            }
        }
        json!({"hosts": hosts, "traffic": traffic})
    })
}

async fn edits(space: &Arc<Space>, seed: u64) -> Result<()> {
    let _operator = space.operator().await?;
    let _gateway = StandIn::start(space, Answer::Accepts);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    // The first is rolled out as it is: there is nothing to compare an edit with.
    space.roll_out("shop", &with(plain("v1"), &json!({"replicas": 2}))).await?;
    let count = usize::try_from(number("PHOENIX_E2E_EDITS", EDITS)?)?;
    let drawn = |_| Ok(spec().new_tree(&mut runner).map_err(|reason| anyhow::anyhow!("{reason}"))?.current());
    let specs: Vec<Value> = (0..count).map(drawn).collect::<Result<_>>()?;
    for (number, spec) in specs.into_iter().enumerate() {
        let edit = Edit { space, seed, number, spec: &spec };
        edit.goes_as_planned().await.with_context(|| format!("seed {seed}, edit {number}: {spec}"))?;
    }
    Ok(())
}

struct Edit<'a> {
    space: &'a Arc<Space>,
    seed: u64,
    number: usize,
    spec: &'a Value,
}

impl Edit<'_> {
    async fn goes_as_planned(&self) -> Result<()> {
        let space = self.space;
        let plan = self.plan().await?;
        let audit = Audit::new(space.lab().cluster().audit_log());
        let (start, before) = (audit.end()?, space.record().look(|seen| seen.events.len()));
        let generation = space.apply("shop", self.spec).await?;
        let status = self.ended(generation, &plan).await?;

        let revision = plan["revision"].as_str().unwrap_or_default();
        let now = status.candidate.as_ref().map(|one| &one.revision).or(status.stable.as_ref());
        ensure!(now.is_some_and(|now| now == revision), "revision {revision} was planned\n{status:#?}");

        let Touched { made, applied, deleted } = touched(&plan);
        // What follows the end (facts, pruning) is written a moment later.
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let requests = audit.of_operator(start).await?;
            let effects = effects(&requests, space.name());
            let of = |count: fn(&(usize, usize)) -> usize| -> BTreeSet<String> {
                let told = effects.iter().filter(|(_, counts)| count(counts) > 0);
                told.map(|(name, _)| name.clone()).collect()
            };
            let (seen_made, seen_deleted) = (of(|counts| counts.0), of(|counts| counts.1));
            let all_made = seen_made.is_superset(&made);
            if all_made
                && seen_made.difference(&made).all(|one| applied.contains(one))
                && seen_deleted == deleted
            {
                break;
            }
            ensure!(
                tokio::time::Instant::now() < deadline,
                "planned to be made: {made:?}\nmade: {seen_made:?}\nplanned to be deleted: {deleted:?}\n\
                 deleted: {seen_deleted:?}\n{plan:#}"
            );
        }
        let planned = moves(&plan, "shop sends requests to ");
        let seen = space.record().look(|seen| selected(seen, before));
        ensure!(
            as_planned(&planned, &seen),
            "requests were planned to go {planned:?}, and went {seen:?}\n{plan:#}"
        );
        self.routed(&plan).await?;
        let phase = plan["end"]["phase"].as_str().unwrap_or_default();
        println!(
            "seed {}, edit {}: as planned: {} made, {} deleted, requests {planned:?}, {phase}; {}",
            self.seed,
            self.number,
            made.len(),
            deleted.len(),
            self.features()
        );
        if phase == "Paused" {
            space.phx(&["promote", "--full"]).await?.coded(0)?;
            space.roll_out("shop", self.spec).await?;
        }
        // Nothing of the operator's is on its way when the next edit is planned.
        let writes = |one: &Request| one.namespace == space.name() && one.mutates();
        audit.until_rest(SETTLED, PATIENCE, writes).await
    }

    /// The route is there as the spec wants it, with the weight that the plan's last step about it says.
    async fn routed(&self, plan: &Value) -> Result<()> {
        let gateway = &self.spec["traffic"]["gateway"];
        let steps = plan["steps"].as_array().into_iter().flatten();
        let said =
            |step: &Value| step["what"].as_str()?.strip_prefix("HTTPRoute shop sends ").map(str::to_owned);
        let weight = steps.filter_map(said).next_back();
        let weight = weight.and_then(|said| said.split_once(" % of the requests")?.0.parse::<i64>().ok());
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let route = routes(self.space).get_opt("shop").await?;
            let present = weights(self.space).await?;
            let preview = present.iter().find(|(name, _)| name == "shop-preview").map(|(_, weight)| *weight);
            let right = match &route {
                None => gateway.is_null(),
                Some(route) => {
                    let wanted = gateway["parentRefs"].as_array().map_or(0, Vec::len);
                    let parents = route.data["spec"]["parentRefs"].as_array().map_or(0, Vec::len);
                    route.data["spec"]["hostnames"] == self.spec["hosts"]
                        && (parents, wanted > 0) == (wanted, true)
                        && preview.unwrap_or_default() == weight.unwrap_or_default()
                }
            };
            if right {
                return Ok(());
            }
            ensure!(
                tokio::time::Instant::now() < deadline,
                "the route is {route:#?}, its weights {present:?}, where {weight:?} was planned\n{plan:#}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What of the spec is more than sizes and a strategy.
    fn features(&self) -> String {
        let list = |value: &Value, field: &str| {
            let names = value.as_array().into_iter().flatten().filter_map(|one| one[field].as_str());
            names.collect::<Vec<_>>().join("+")
        };
        let phases = self.spec["migrations"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
        format!(
            "{}, phases [{}], workers [{}], gateways [{}], ingress {}",
            self.spec["strategy"]["type"].as_str().unwrap_or_default(),
            phases.collect::<Vec<_>>().join("+"),
            list(&self.spec["workers"], "name"),
            list(&self.spec["traffic"]["gateway"]["parentRefs"], "name"),
            !self.spec["traffic"]["ingress"].is_null(),
        )
    }

    async fn plan(&self) -> Result<Value> {
        let space = self.space;
        let file = space.lab().directory(&format!("plan-{}-{}.json", space.name(), self.number));
        let manifest = json!({
            "apiVersion": "phoenix-operator.dev/v1alpha1", "kind": "PhoenixApp",
            "metadata": {"name": "shop"}, "spec": self.spec,
        });
        std::fs::write(&file, manifest.to_string())?;
        let file = file.to_string_lossy();
        // The harness applies server-side, as this manager.
        let arguments = ["plan", "--server-side", "--field-manager", "e2e", "-o", "json", "-f", &file];
        space.phx(&arguments).await?.coded(0)?.json()
    }

    /// The status in which the plan says that all this ends.
    async fn ended(&self, generation: i64, plan: &Value) -> Result<PhoenixAppStatus> {
        let wanted = &plan["end"]["phase"];
        let message = &plan["end"]["message"];
        let stable = &plan["end"]["stable"];
        let ended = |status: &PhoenixAppStatus| {
            json!(status.phase) == *wanted
                && json!(status.stable) == *stable
                && json!(status.message) == *message
        };
        self.space.wait_for("shop", generation, &format!("{wanted}: {message}"), PATIENCE, ended).await
    }
}

/// What a plan says of objects, as the audit log names them.
#[derive(Default)]
struct Touched {
    made: BTreeSet<String>,
    /// Made, if they are missing, or repaired.
    applied: BTreeSet<String>,
    deleted: BTreeSet<String>,
}

fn touched(plan: &Value) -> Touched {
    let mut touched = Touched::default();
    let Touched { made, applied, deleted } = &mut touched;
    for change in plan["objects"].as_array().into_iter().flatten() {
        let text = |field: &str| change[field].as_str().unwrap_or_default().to_owned();
        let kind = text("kind").to_lowercase();
        let plural = if kind.ends_with('s') { "es" } else { "s" };
        let name = format!("{kind}{plural}/{}", text("name"));
        match text("action").as_str() {
            "create" => _ = made.insert(name),
            "apply" => _ = applied.insert(name),
            "delete" => _ = deleted.insert(name),
            "run" => {
                made.insert(name.clone());
                deleted.insert(name);
            }
            _ => {}
        }
    }
    touched
}

/// Where a plan's steps send the requests.
fn moves(plan: &Value, prefix: &str) -> Vec<String> {
    let steps = plan["steps"].as_array().into_iter().flatten();
    let prefix = format!("Service {prefix}");
    let mut moves: Vec<String> =
        steps.filter_map(|step| step["what"].as_str()?.strip_prefix(&prefix).map(str::to_owned)).collect();
    moves.dedup();
    moves
}

/// The same moves in the same order. That requests go to every revision for a moment may be left out: where the last old
/// pod goes before the first new one comes, it depends on what the operator hears of first.
fn as_planned(planned: &[String], seen: &[String]) -> bool {
    let alone = |moves: &[String]| -> Vec<String> {
        moves.iter().filter(|to| *to != "every revision").cloned().collect()
    };
    let mut rest = planned.iter();
    alone(planned) == alone(seen) && seen.iter().all(|to| rest.any(|planned| planned == to))
}

/// What the active Service selected from one after the other, after these events.
fn selected(seen: &Seen, before: usize) -> Vec<String> {
    let last = |events: &[e2e::harness::Event]| events.iter().rev().find_map(says);
    let mut known = last(&seen.events[..before]);
    let mut moves = Vec::new();
    for now in seen.events[before..].iter().filter_map(says) {
        if known.as_ref() != Some(&now) {
            moves.push(now.clone());
        }
        known = Some(now);
    }
    moves
}

fn says(event: &e2e::harness::Event) -> Option<String> {
    let active = event.kind == "Service" && event.name == "shop";
    let revision = event.object.pointer("/spec/selector")?.get(labels::REVISION).and_then(Value::as_str);
    active.then(|| revision.map_or("every revision".to_owned(), |name| format!("revision {name} alone")))
}
