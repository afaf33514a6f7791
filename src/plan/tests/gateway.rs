//! Canaries by the weights of an HTTPRoute, situation by situation.

use super::scene::{Scene, sizes};
use crate::api::{CanaryStep, Outcome, Pause, Phase, StrategyKind};
use crate::plan::{Plan, PreviewObs, RouteAnswer, RouteObs, Selector, Write};

fn weight(percent: i32) -> CanaryStep {
    CanaryStep { set_weight: Some(percent), ..CanaryStep::default() }
}

fn wait() -> CanaryStep {
    CanaryStep { pause: Some(Pause { duration: None }), ..CanaryStep::default() }
}

/// `v2` is asked for on top of a stable `v1` of three pods, with these steps and an accepted route.
fn canary(steps: Vec<CanaryStep>) -> Scene {
    let mut scene = Scene::stable();
    scene.goal.strategy = StrategyKind::Canary;
    scene.goal.steps = steps;
    scene.goal.gateway = true;
    scene.world.gateway_api = true;
    route(&mut scene, None);
    preview(&mut scene, None);
    scene.settle();
    scene.later(60);
    scene.ask("v2");
    scene.store("v2", |_| {});
    scene.settle();
    scene
}

fn preview(scene: &mut Scene, revision: Option<&str>) {
    let (version, uid) = ("2".to_owned(), "preview".to_owned());
    scene.world.preview =
        Some(PreviewObs { version, uid, revision: revision.map(str::to_owned), drifted: false });
}

/// The route was changed, and the gateway has taken it.
fn route(scene: &mut Scene, share: Option<u32>) {
    let generation = scene.world.route.as_ref().map_or(0, |route| route.generation) + 1;
    scene.world.route = Some(RouteObs {
        version: generation.to_string(),
        uid: "route".to_owned(),
        generation,
        preview: share,
        answer: RouteAnswer::Accepted,
        drifted: false,
    });
}

fn answers(scene: &mut Scene, answer: RouteAnswer) {
    scene.world.route.as_mut().unwrap().answer = answer;
}

/// `v2` has so many pods, and the preview leads to them.
fn stands(scene: &mut Scene, pods: u32) {
    scene.run("v2", pods, pods);
    scene.world.endpoints.remove("v2");
    scene.world.published.insert("v2".to_owned(), pods);
    preview(scene, Some("v2"));
}

/// What the route is told.
fn shares(plan: &Plan) -> Vec<Option<u32>> {
    let share = |write: &Write| match write {
        Write::ApplyRoute { share, .. } => Some(*share),
        _ => None,
    };
    plan.writes.iter().filter_map(share).collect()
}

const UNTOLD: [Option<u32>; 0] = [];

fn moves(plan: &Plan) -> bool {
    plan.writes.iter().any(|write| matches!(write, Write::ApplyService { .. }))
}

fn step(scene: &Scene) -> i32 {
    scene.status.candidate.as_ref().unwrap().step
}

/// At the wait behind a weight of a third.
fn at_a_third() -> Scene {
    let mut scene = canary(vec![weight(33), wait()]);
    stands(&mut scene, 1);
    route(&mut scene, Some(0));
    assert_eq!(shares(&scene.settle()), [Some(33)]);
    route(&mut scene, Some(33));
    scene.settle();
    scene.later(10);
    scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::Paused), "{}", scene.status.message);
    scene
}

#[test]
fn at_rest_a_route_leads_to_the_service_alone() {
    let mut scene = Scene::stable();
    scene.goal.gateway = true;
    scene.world.gateway_api = true;
    let plan = scene.settle();
    assert!(plan.writes.contains(&Write::CreateRoute), "{:?}", plan.writes);
    assert_eq!(scene.condition("RouteAccepted"), Some("Unknown"));
    route(&mut scene, None);
    assert!(scene.settle().writes.is_empty());
    assert_eq!(scene.condition("RouteAccepted"), Some("True"));
    scene.goal.gateway = false;
    let plan = scene.settle();
    assert!(matches!(plan.writes.as_slice(), [Write::DeleteRoute { .. }]), "{:?}", plan.writes);
    assert_eq!(scene.condition("RouteAccepted"), None);
}

#[test]
fn the_weight_moves_once_pods_are_published_and_counts_once_it_is_in_force() {
    let mut scene = canary(vec![weight(33), wait()]);
    let plan = scene.settle();
    assert_eq!(sizes(&plan), [("v2".to_owned(), 1)], "beside all pods of v1");
    assert!(!moves(&plan));
    stands(&mut scene, 1);
    scene.world.published.clear();
    route(&mut scene, Some(0));
    assert_eq!(shares(&scene.settle()), UNTOLD, "the preview does not show it yet");
    stands(&mut scene, 1);
    assert_eq!(shares(&scene.settle()), [Some(33)]);
    route(&mut scene, Some(33));
    answers(&mut scene, RouteAnswer::Pending("Gateway default/public".to_owned()));
    scene.later(60);
    scene.settle();
    assert_eq!(step(&scene), 0, "the gateway has not answered");
    assert!(
        scene.status.message.contains("Gateway default/public has not answered"),
        "{}",
        scene.status.message
    );
    answers(&mut scene, RouteAnswer::Accepted);
    let plan = scene.settle();
    assert_eq!(step(&scene), 0, "the lag has not passed");
    assert_eq!(plan.wake, scene.now.checked_add(jiff::SignedDuration::from_secs(10)).ok());
    scene.later(10);
    scene.settle();
    assert_eq!((step(&scene), scene.status.phase), (1, Some(Phase::Paused)), "{}", scene.status.message);
}

#[test]
fn the_last_stretch_leads_around_the_service_while_it_moves() {
    let mut scene = at_a_third();
    scene.command("promote");
    assert_eq!(sizes(&scene.settle()), [("v2".to_owned(), 3)]);
    stands(&mut scene, 3);
    let plan = scene.settle();
    assert_eq!((shares(&plan), moves(&plan)), (vec![Some(100)], false));
    route(&mut scene, Some(100));
    assert!(!moves(&scene.settle()), "it is not in force yet");
    scene.later(10);
    assert!(moves(&scene.settle()));
    scene.points_to(Selector::Only("v2".to_owned()));
    scene.world.endpoints = [("v1".to_owned(), 3)].into();
    assert_eq!(shares(&scene.settle()), UNTOLD, "the Service does not show the new pods yet");
    scene.world.endpoints = [("v2".to_owned(), 3)].into();
    assert_eq!(shares(&scene.settle()), [None]);
    route(&mut scene, None);
    let plan = scene.settle();
    assert!(scene.status.candidate.is_some() && sizes(&plan).is_empty(), "{:?}", plan.writes);
    scene.later(10);
    scene.settle();
    assert_eq!(scene.status.stable.as_deref(), Some("v2"));
    preview(&mut scene, None);
    assert_eq!(sizes(&scene.settle()), [("v1".to_owned(), 0)]);
}

#[test]
fn an_abort_moves_the_weight_before_anything_else() {
    let mut scene = at_a_third();
    scene.command("abort");
    let plan = scene.settle();
    assert_eq!(shares(&plan), [None]);
    assert!(sizes(&plan).is_empty(), "{:?}", plan.writes);
    let previews = |plan: &Plan| plan.writes.iter().any(|write| matches!(write, Write::ApplyPreview { .. }));
    assert!(!previews(&plan), "{:?}", plan.writes);
    route(&mut scene, None);
    assert!(scene.settle().writes.is_empty(), "the lag has not passed");
    scene.later(10);
    let plan = scene.settle();
    assert_eq!(sizes(&plan), [("v2".to_owned(), 0)]);
    assert!(previews(&plan), "{:?}", plan.writes);
}

/// Rule 8.
#[test]
fn a_weight_without_pods_is_taken_back_at_once_and_fails() {
    let mut scene = at_a_third();
    scene.world.published.clear();
    scene.world.deployments.get_mut("v2").unwrap().available = 0;
    scene.pass();
    let verdict = scene.status.candidate.as_ref().unwrap().verdict.clone().unwrap();
    assert_eq!((verdict.outcome, verdict.reason.as_str()), (Outcome::Failed, "BackendWithoutEndpoints"));
    assert_eq!(shares(&scene.settle()), [None]);
}

#[test]
fn nothing_returns_to_a_service_without_pods() {
    let mut scene = at_a_third();
    scene.world.endpoints.clear();
    scene.world.deployments.get_mut("v1").unwrap().available = 0;
    scene.command("abort");
    assert_eq!(shares(&scene.settle()), UNTOLD);
    scene.world.endpoints.insert("v1".to_owned(), 1);
    assert_eq!(shares(&scene.settle()), [None]);
}

#[test]
fn without_the_gateway_api_a_canary_goes_by_pods() {
    let mut scene = Scene::stable();
    scene.goal.strategy = StrategyKind::Canary;
    scene.goal.steps = vec![weight(33), wait()];
    scene.goal.gateway = true;
    scene.ask("v2");
    scene.store("v2", |_| {});
    let plan = scene.settle();
    assert!(!scene.status.candidate.as_ref().unwrap().gateway);
    assert!(!plan.writes.contains(&Write::CreateRoute), "{:?}", plan.writes);
    assert_eq!(scene.condition("RouteAccepted"), Some("False"));
    assert_eq!(sizes(&plan), [("v2".to_owned(), 1)]);
}

#[test]
fn a_gateway_that_refuses_stops_only_weights() {
    let mut scene = canary(vec![weight(33)]);
    stands(&mut scene, 1);
    route(&mut scene, Some(0));
    let message = "Gateway default/public says Accepted is false: taken".to_owned();
    answers(&mut scene, RouteAnswer::Refused { reason: "NotAllowedByListeners".to_owned(), message });
    assert_eq!(shares(&scene.settle()), UNTOLD);
    assert_eq!(scene.condition("RouteAccepted"), Some("False"));
    scene.later(601);
    scene.pass();
    let verdict = scene.status.candidate.as_ref().unwrap().verdict.clone().unwrap();
    assert_eq!(verdict.reason, "RouteNotAccepted");
    assert!(verdict.message.contains("says Accepted is false: taken"), "{}", verdict.message);
}

#[test]
fn a_gateway_canary_needs_connections_for_both_in_full() {
    let mut scene = Scene::stable();
    scene.goal.strategy = StrategyKind::Canary;
    scene.goal.steps = vec![weight(33), wait()];
    scene.goal.gateway = true;
    scene.goal.budget = Some(crate::plan::Budget { max: 50, per_pod: 10 });
    scene.world.gateway_api = true;
    route(&mut scene, None);
    preview(&mut scene, None);
    scene.settle();
    scene.ask("v2");
    scene.store("v2", |_| {});
    assert!(sizes(&scene.settle()).is_empty());
    assert_eq!(scene.status.phase, Some(Phase::Blocked), "{}", scene.status.message);
    assert!(scene.status.message.contains("3 serving + 3 new pods x 10 = 60"), "{}", scene.status.message);
}

#[test]
fn a_weight_stays_while_a_budget_or_nodes_hold_the_rollout_up() {
    let mut scene = at_a_third();
    scene.goal.replicas = 6;
    scene.goal.budget = Some(crate::plan::Budget { max: 60, per_pod: 10 });
    let plan = scene.settle();
    assert_eq!(scene.status.phase, Some(Phase::Blocked), "{}", scene.status.message);
    assert_eq!(shares(&plan), UNTOLD);

    let mut scene = at_a_third();
    scene.goal.verify =
        Some(crate::plan::Verify { path: "/peers".to_owned(), json_path: "nodes".to_owned() });
    scene.store("v2", |stored| stored.cluster = Some("v2".to_owned()));
    scene.world.addresses.insert("v2".to_owned(), ["10.0.0.1".to_owned(), "10.0.0.2".to_owned()].into());
    let plan = scene.settle();
    assert!(!plan.measure.is_empty());
    assert_eq!(shares(&plan), UNTOLD);
}

#[test]
fn a_route_that_nobody_answers_to_any_more_settles_with_the_lag() {
    let mut scene = at_a_third();
    scene.ask("v3");
    scene.store("v3", |_| {});
    assert_eq!(shares(&scene.settle()), [None]);
    route(&mut scene, None);
    answers(&mut scene, RouteAnswer::Unseen);
    let untouched = |plan: &Plan| {
        sizes(plan).iter().all(|(revision, _)| revision != "v2")
            && !plan.writes.iter().any(|write| matches!(write, Write::ApplyPreview { .. }))
    };
    assert!(untouched(&scene.settle()), "the gateway before may still send requests to it");
    scene.later(10);
    assert!(!untouched(&scene.settle()));
}

#[test]
fn a_route_that_is_taken_after_all_counts_from_then_on() {
    let mut scene = canary(vec![weight(33), wait()]);
    stands(&mut scene, 1);
    route(&mut scene, Some(33));
    let refused = RouteAnswer::Refused { reason: "No".to_owned(), message: "no".to_owned() };
    answers(&mut scene, refused);
    scene.settle();
    scene.later(60);
    scene.settle();
    answers(&mut scene, RouteAnswer::Accepted);
    scene.settle();
    assert_eq!(step(&scene), 0, "the gateways have only just begun: {}", scene.status.message);
    scene.later(10);
    scene.settle();
    assert_eq!(step(&scene), 1, "{}", scene.status.message);
}
