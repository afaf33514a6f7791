//! Routes, their weights and Ingresses on a real API server. No gateway runs there: what one would write into the status
//! of a route, a stand-in writes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::fixtures::{self, PATIENCE, condition, plain, with};
use e2e::gateway;
use e2e::harness::{Lab, Seen, Space};
use e2e::stand_in::{Answer, StandIn, routes, weights};
use phoenix_operator::api::{Outcome, Phase, PhoenixAppStatus};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn gateways() -> Result<()> {
    let lab = Lab::fake().await?;
    // The others need what this one finds absent.
    fixtures::run(&lab, 1, e2e::cases![without_the_gateway_api]).await?;
    gateway::define(&lab).await?;
    let cases = e2e::cases![
        a_canary_moves_weights,
        aborted_at_a_weight,
        a_refusing_gateway_harms_nothing,
        a_weight_that_is_not_taken_fails,
        a_route_deleted_by_hand_comes_back,
        the_route_goes_with_its_field,
        an_ingress_comes_and_goes,
        a_foreign_ingress_stops_nothing_else,
    ];
    fixtures::run(&lab, 3, cases).await?;
    Ok(())
}

async fn until_weights(space: &Space, wanted: &[(&str, i64)]) -> Result<()> {
    let wanted: Vec<(String, i64)> =
        wanted.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect();
    let began = Instant::now();
    loop {
        let present = weights(space).await?;
        if present == wanted {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "the weights stay {present:?} and do not become {wanted:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

const ALL: &[(&str, i64)] = &[("shop", 100)];

fn routed(tag: &str, more: &Value) -> Value {
    let spec = with(
        plain(tag),
        &json!({
            "replicas": 4,
            "hosts": ["shop.example.com"],
            "shutdown": {"endpointLag": "1s"},
            "traffic": {"gateway": {"parentRefs": [{"name": "public", "namespace": "default"}]}},
        }),
    );
    with(spec, more)
}

fn canary(tag: &str) -> Value {
    let steps = json!([{"setWeight": 10}, {"pause": {}}, {"setWeight": 50}, {"pause": {"duration": "1s"}}]);
    routed(tag, &json!({"strategy": {"type": "Canary", "canary": {"steps": steps, "bake": "0s"}}}))
}

fn ready(seen: &Seen, revision: &str) -> usize {
    seen.ready_pods("shop", revision).len()
}

fn accepted(wanted: &'static str) -> impl Fn(&PhoenixAppStatus) -> bool {
    move |status| condition(status, "RouteAccepted").is_some_and(|(status, _)| status == wanted)
}

async fn without_the_gateway_api(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let first = space.roll_out("shop", &canary("v1")).await?;
    let absent = Some(("False", "GatewayApiAbsent"));
    ensure!(condition(&first, "RouteAccepted") == absent, "{first:#?}");
    // by pods, at its first step
    let generation = space.apply("shop", &canary("v2")).await?;
    let paused = space.wait_phase("shop", generation, Phase::Paused, PATIENCE).await?;
    let candidate = paused.candidate.clone().context("no candidate")?;
    ensure!(!candidate.gateway, "{paused:#?}");
    let target = format!("{}/{}", candidate.revision, candidate.attempt);
    space.command("shop", &format!("promote-full {target}")).await?;
    let healthy = space.wait_phase("shop", generation, Phase::Healthy, PATIENCE).await?;
    ensure!(healthy.stable == Some(candidate.revision), "{healthy:#?}");
    // It is installed while the operator runs.
    gateway::define(space.lab()).await?;
    until_weights(&space, ALL).await?;
    space.wait_for("shop", generation, "a route without an answer", PATIENCE, accepted("Unknown")).await?;
    let _gateway = StandIn::start(&space, Answer::Accepts);
    let taken = space.wait_for("shop", generation, "the answer", PATIENCE, accepted("True")).await?;
    ensure!(taken.phase == Some(Phase::Healthy), "{taken:#?}");
    Ok(())
}

async fn at_ten_percent(space: &Space) -> Result<(PhoenixAppStatus, PhoenixAppStatus, String)> {
    let first = space.roll_out("shop", &canary("v1")).await?;
    let generation = space.apply("shop", &canary("v2")).await?;
    let paused = space.wait_phase("shop", generation, Phase::Paused, PATIENCE).await?;
    let candidate = paused.candidate.clone().context("no candidate")?;
    ensure!(candidate.gateway && candidate.weight == Some(10), "{paused:#?}");
    ensure!(paused.route.as_ref().is_some_and(|route| route.weight == 10), "{paused:#?}");
    let target = format!("{}/{}", candidate.revision, candidate.attempt);
    Ok((first, paused, target))
}

async fn a_canary_moves_weights(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let _gateway = StandIn::start(&space, Answer::Accepts);
    let (first, paused, target) = at_ten_percent(&space).await?;
    let v1 = first.stable.context("nothing is stable")?;
    let v2 = paused.candidate.clone().context("no candidate")?.revision;
    until_weights(&space, &[("shop", 90), ("shop-preview", 10)]).await?;
    let pods = space.record().look(|seen| (ready(seen, &v1), ready(seen, &v2)));
    ensure!(pods == (4, 1), "pods of the old and the new revision: {pods:?}");
    space.command("shop", &format!("promote {target}/1")).await?;
    let generation = paused.observed_generation;
    let half = |status: &PhoenixAppStatus| status.route.as_ref().is_some_and(|route| route.weight == 50);
    space.wait_for("shop", generation, "half of the requests", PATIENCE, half).await?;
    let healthy = space.wait_phase("shop", generation, Phase::Healthy, PATIENCE).await?;
    ensure!(healthy.stable.as_ref() == Some(&v2), "{healthy:#?}");
    ensure!(weights(&space).await? == [("shop".to_owned(), 100)], "the route leads around the Service");
    let alone = |seen: &Seen| (seen.web_pods("shop").len() == 4 && ready(seen, &v2) == 4).then_some(());
    space.wait("the old pods to be gone", PATIENCE, alone).await
}

async fn aborted_at_a_weight(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let _gateway = StandIn::start(&space, Answer::Accepts);
    let (first, paused, target) = at_ten_percent(&space).await?;
    let v2 = paused.candidate.clone().context("no candidate")?.revision;
    space.command("shop", &format!("abort {target}")).await?;
    until_weights(&space, ALL).await?;
    ensure!(
        space.record().look(|seen| ready(seen, &v2)) == 1,
        "its pods went before the gateway had answered"
    );
    let returned = |status: &PhoenixAppStatus| {
        let verdict = status.candidate.as_ref().and_then(|candidate| candidate.verdict.as_ref());
        verdict.is_some_and(|verdict| verdict.outcome == Outcome::Aborted && verdict.returned)
    };
    let aborted =
        space.wait_for("shop", paused.observed_generation, "the return", PATIENCE, returned).await?;
    ensure!(aborted.stable == first.stable, "{aborted:#?}");
    let alone = |seen: &Seen| (seen.web_pods("shop").len() == 4 && ready(seen, &v2) == 0).then_some(());
    space.wait("the new pods to be gone", PATIENCE, alone).await
}

/// As when another app has the same host: the gateway says so, and everything else goes on.
async fn a_refusing_gateway_harms_nothing(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let _gateway = StandIn::start(&space, Answer::Refuses);
    let first = space.roll_out("shop", &routed("v1", &json!({}))).await?;
    let refused = accepted("False");
    let status = space.wait_for("shop", first.observed_generation, "the refusal", PATIENCE, refused).await?;
    let said = status.conditions.iter().find(|condition| condition.type_ == "RouteAccepted");
    let said = said.context("no condition")?;
    ensure!(
        said.reason == "NotAllowedByListeners"
            && said.message.contains("Gateway default/public")
            && said.message.contains("another route has this host"),
        "{said:?}"
    );
    let second = space.roll_out("shop", &routed("v2", &json!({}))).await?;
    ensure!(second.stable != first.stable && second.phase == Some(Phase::Healthy), "{second:#?}");
    Ok(())
}

async fn a_weight_that_is_not_taken_fails(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let impatient = |tag: &str| {
        let mut spec = canary(tag);
        spec["health"] = json!({"startup": {"period": "1s", "failureThreshold": 1}});
        spec["strategy"]["progressDeadline"] = json!("6s");
        spec
    };
    let first = space.roll_out("shop", &impatient("v1")).await?;
    let generation = space.apply("shop", &impatient("v2")).await?;
    let failed = space.wait_phase("shop", generation, Phase::Failed, PATIENCE).await?;
    let verdict = failed.candidate.as_ref().and_then(|candidate| candidate.verdict.clone());
    ensure!(verdict.is_some_and(|verdict| verdict.reason == "RouteNotAccepted"), "{failed:#?}");
    ensure!(failed.stable == first.stable, "{failed:#?}");
    until_weights(&space, ALL).await
}

async fn a_route_deleted_by_hand_comes_back(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let _gateway = StandIn::start(&space, Answer::Accepts);
    at_ten_percent(&space).await?;
    space.kubectl(&["delete", "httproute", "shop"], None).await?;
    until_weights(&space, &[("shop", 90), ("shop-preview", 10)]).await?;
    // What others change is put right as well.
    let patch = r#"{"spec":{"hostnames":["other.example.com"]}}"#;
    space.kubectl(&["patch", "httproute", "shop", "--type=merge", "-p", patch], None).await?;
    let began = Instant::now();
    while routes(&space).get("shop").await?.data["spec"]["hostnames"] != json!(["shop.example.com"]) {
        ensure!(began.elapsed() < PATIENCE, "the host stays another");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn the_route_goes_with_its_field(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let _gateway = StandIn::start(&space, Answer::Accepts);
    space.roll_out("shop", &canary("v1")).await?;
    until_weights(&space, ALL).await?;
    let mut spec = canary("v1");
    spec["traffic"] = json!({});
    let generation = space.apply("shop", &spec).await?;
    until_weights(&space, &[]).await?;
    let silent = |status: &PhoenixAppStatus| condition(status, "RouteAccepted").is_none();
    space.wait_for("shop", generation, "the condition to go", PATIENCE, silent).await?;
    Ok(())
}

/// Somebody has an Ingress of that name: it stays theirs, and releases go on.
async fn a_foreign_ingress_stops_nothing_else(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    space.roll_out("shop", &plain("v1")).await?;
    let foreign = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "shop"},
        "spec": {"defaultBackend": {"service": {"name": "other", "port": {"number": 80}}}},
    });
    space.kubectl(&["create", "-f", "-"], Some(&foreign.to_string())).await?;
    let routed = |tag: &str| {
        with(
            plain(tag),
            &json!({"hosts": ["shop.example.com"], "traffic": {"ingress": {"className": "nginx"}}}),
        )
    };
    let status = space.roll_out("shop", &routed("v2")).await?;
    let generation = status.observed_generation;
    fixtures::edge_refused(&space, generation, "NameConflict").await?;
    let backend = space.field("ingress/shop", "{.spec.defaultBackend.service.name}").await?;
    ensure!(backend == "other", "{backend}");
    // Gone, it is made, within the pauses between tries.
    space.kubectl(&["delete", "ingress", "shop"], None).await?;
    fixtures::edge_accepted(&space, generation, "nginx").await
}

async fn an_ingress_comes_and_goes(space: Arc<Space>) -> Result<()> {
    let _operator = space.operator().await?;
    let with_ingress = |ingress: &Value| {
        with(plain("v1"), &json!({"hosts": ["shop.example.com"], "traffic": {"ingress": ingress}}))
    };
    let tls = json!({"className": "nginx", "tls": {"secretName": "shop-tls"}, "annotations": {"example.com/a": "b"}});
    space.roll_out("shop", &with_ingress(&tls)).await?;
    let read = async || -> Result<Value> {
        let text =
            space.kubectl(&["get", "ingress", "shop", "-o", "json", "--ignore-not-found"], None).await?;
        Ok(if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? })
    };
    let until = async |what: &str, holds: fn(&Value) -> bool| -> Result<()> {
        let began = Instant::now();
        loop {
            let present = read().await?;
            if holds(&present) {
                return Ok(());
            }
            ensure!(began.elapsed() < PATIENCE, "{what}: {present:#}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    until("an Ingress with TLS", |ingress| {
        ingress["spec"]["tls"][0]["secretName"] == "shop-tls"
            && ingress["spec"]["ingressClassName"] == "nginx"
            && ingress["metadata"]["annotations"]["example.com/a"] == "b"
    })
    .await?;
    space.apply("shop", &with_ingress(&json!({"className": "nginx"}))).await?;
    until("what is not asked for any more to go", |ingress| {
        ingress["spec"].get("tls").is_none()
            && ingress["metadata"]["annotations"].get("example.com/a").is_none()
    })
    .await?;
    space.apply("shop", &plain("v1")).await?;
    until("the Ingress to go", Value::is_null).await
}
