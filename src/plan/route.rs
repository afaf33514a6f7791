//! The HTTPRoute: which share of the requests gateways send to the candidate, and when they have taken it.
//!
//! At rest it leads to the active Service alone. While a canary stands beside the stable revision, it leads to the
//! preview Service as well, by weight. What a gateway does is known by its answer to the route's `generation`; the lag
//! of endpoints later it is in force everywhere, and only then are pods touched that it was sending requests to.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::replicas::Moves;
use super::world::{Rev, RouteAnswer, RouteObs};
use super::{Draft, Write, clock};
use crate::api::{Candidate, RouteStatus};

/// The condition that the gateways have taken the route.
pub(super) const ROUTE_ACCEPTED: &str = "RouteAccepted";
/// The reason of a verdict when they have not, for too long.
pub(super) const NOT_ACCEPTED: &str = "RouteNotAccepted";
/// The reason of a verdict when nothing is left behind a weight.
const NO_ENDPOINTS: &str = "BackendWithoutEndpoints";

/// What the route is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Share {
    /// All requests go through the active Service.
    #[default]
    Active,
    /// So many percent of them go to the candidate.
    Candidate(u32),
    /// It stays as it is.
    Keep,
}

/// Notes when the gateways have answered to the route as it is.
pub(super) fn look(d: &mut Draft) {
    let Some(route) = &d.world.route else {
        d.status.route = None;
        return;
    };
    // One that none answers to any more may be in force for as long as the lag: gateways that had it let go of it.
    let answered = match route.answer {
        RouteAnswer::Accepted | RouteAnswer::Refused { .. } => true,
        RouteAnswer::Unseen => d.status.route.is_some(),
        RouteAnswer::Pending(_) => false,
    };
    let refused = matches!(route.answer, RouteAnswer::Refused { .. });
    let known = d.status.route.as_ref().is_some_and(|known| {
        // What is taken after all comes into force from then on.
        let taken = known.refused && route.answer == RouteAnswer::Accepted;
        known.generation == route.generation && !taken
    });
    if answered && !known {
        let weight = i32::try_from(weight(route)).unwrap_or(i32::MAX);
        let since = Time(clock::whole_second(d.now));
        d.status.route = Some(RouteStatus { generation: route.generation, weight, since, refused });
    }
    if let Some(due) = in_force_at(d).filter(|due| *due > d.now) {
        d.wake_at(due);
    }
}

/// Percent of the requests that the route as it is sends to the candidate.
fn weight(route: &RouteObs) -> u32 {
    route.preview.unwrap_or_default()
}

/// When the route as it is has been in force everywhere; none while a gateway has yet to answer.
fn in_force_at(d: &Draft) -> Option<Timestamp> {
    let route = d.world.route.as_ref()?;
    let known = d.status.route.as_ref().filter(|known| known.generation == route.generation)?;
    let lag = i64::try_from(d.goal.endpoint_lag.as_secs()).unwrap_or(i64::MAX);
    Some(clock::after(known.since.0, lag))
}

/// No gateway does anything else than what the route says.
fn settled(d: &Draft) -> bool {
    d.world.route.as_ref().is_none_or(|route| {
        let never = route.answer == RouteAnswer::Unseen && d.status.route.is_none();
        never || in_force_at(d).is_some_and(|due| due <= d.now)
    })
}

/// The gateways have answered, and only the lag is waited for.
pub(super) fn only_lags(d: &Draft) -> bool {
    let accepted = d.world.route.as_ref().is_some_and(|route| route.answer == RouteAnswer::Accepted);
    accepted && in_force_at(d).is_some_and(|due| due > d.now)
}

/// No gateway sends anything to the candidate.
pub(super) fn rests(d: &Draft) -> bool {
    settled(d) && !weighs(d)
}

/// The route, as it is, sends requests to the candidate.
pub(super) fn weighs(d: &Draft) -> bool {
    d.world.route.as_ref().is_some_and(|route| weight(route) > 0)
}

/// The gateways have taken this weight, everywhere.
pub(super) fn carries(d: &Draft, percent: u32) -> bool {
    d.world
        .route
        .as_ref()
        .is_some_and(|route| route.answer == RouteAnswer::Accepted && weight(route) == percent && settled(d))
}

/// Pods that so many percent of the requests need, at least one.
pub(super) fn pods_for(replicas: u32, percent: u32) -> u32 {
    let pods = (u64::from(replicas) * u64::from(percent.min(100))).div_ceil(100);
    u32::try_from(pods).unwrap_or(u32::MAX).max(1).min(replicas)
}

/// Whom the preview Service leads to.
fn previewed<'a>(d: &'a Draft) -> Option<&'a Rev> {
    d.world.preview.as_ref().and_then(|preview| preview.revision.as_ref())
}

/// Pods behind the preview Service.
fn published(d: &Draft) -> u32 {
    previewed(d).and_then(|rev| d.world.published.get(rev)).copied().unwrap_or_default()
}

/// What the route is to do for a candidate under way.
pub(super) fn share(
    d: &Draft,
    candidate: &Candidate,
    there: bool,
    weight: Option<u32>,
    gated: bool,
) -> Share {
    if !candidate.gateway || d.goal.replicas == 0 {
        return Share::Active;
    }
    match weight {
        Some(0) => Share::Active,
        Some(weight) => Share::Candidate(weight),
        None if there && (!weighs(d) || d.world.serving(&candidate.revision) >= d.goal.replicas) => {
            Share::Active
        }
        None if gated => Share::Keep,
        None => Share::Candidate(100),
    }
}

/// Makes the route, moves its weight, or removes it.
pub(super) fn steer(d: &mut Draft) {
    match &d.world.route {
        None if d.goal.gateway && d.world.gateway_api => d.write(Write::CreateRoute),
        None => {}
        Some(route) if !d.goal.gateway => {
            let (uid, version) = (route.uid.clone(), route.version.clone());
            d.write(Write::DeleteRoute { uid, version });
        }
        Some(route) => {
            let share = next(d, route);
            if share != route.preview || route.drifted {
                let version = route.version.clone();
                d.write(Write::ApplyRoute { share, version });
            }
        }
    }
}

/// The share of the preview Service from now on; none: it is not named.
fn next(d: &Draft, route: &RouteObs) -> Option<u32> {
    let candidate = d.status.under_way();
    let ours = candidate.is_some_and(|candidate| previewed(d) == Some(&candidate.revision));
    let behind = published(d);
    match d.share {
        Share::Keep if behind > 0 => route.preview,
        Share::Candidate(percent) if ours => toward(d, route, percent, behind),
        // A backend without endpoints gets nothing at once, nor does what a newer candidate waits for. Else the other
        // backend must have some: what returns to nobody is lost.
        _ if behind == 0
            || candidate.is_some_and(|_| !ours)
            || d.world.endpoints.values().sum::<u32>() > 0 =>
        {
            None
        }
        _ => route.preview,
    }
}

/// Named first, at weight 0; more only once the gateways know it and there are pods for it.
fn toward(d: &Draft, route: &RouteObs, percent: u32, behind: u32) -> Option<u32> {
    let known = d.status.route.as_ref().is_some_and(|known| known.generation == route.generation);
    let taken = known && route.answer == RouteAnswer::Accepted;
    let enough = behind >= pods_for(d.goal.replicas, percent);
    match route.preview {
        None => Some(0),
        Some(present) if percent <= present => Some(percent),
        Some(_) if taken && enough => Some(percent),
        present => present,
    }
}

/// Pods that a gateway may still send requests to stay.
pub(super) fn guard(d: &Draft, moves: &mut Moves) {
    let Some(route) = &d.world.route else { return };
    let Some((rev, size)) = &moves.lower else { return };
    if previewed(d) != Some(rev) {
        return;
    }
    let needed = if weight(route) == 0 { 0 } else { pods_for(d.goal.replicas, weight(route)) };
    if !settled(d) || *size < needed {
        moves.lower = None;
    }
}

/// Nothing is behind a weight any more: the step fails.
pub(super) fn fail(d: &mut Draft, candidate: &Candidate) -> bool {
    let ours = previewed(d) == Some(&candidate.revision);
    let gone = d.world.preview.is_none() || (ours && published(d) == 0);
    if !candidate.gateway || d.goal.replicas == 0 || !weighs(d) || !gone {
        return false;
    }
    let message = format!(
        "no pod of revision {} is left behind its weight in the HTTPRoute{}",
        candidate.revision,
        super::decide::worst(d, &candidate.revision)
    );
    super::decide::end(d, crate::api::Outcome::Failed, NO_ENDPOINTS, &message);
    d.writes.clear();
    true
}

/// What the route waits for, in words; nothing when the gateways do what it says.
pub(super) fn waits(d: &Draft) -> Option<String> {
    let route = d.world.route.as_ref()?;
    let percent = weight(route);
    match &route.answer {
        _ if settled(d) => None,
        RouteAnswer::Accepted => Some(format!(
            "the gateways have taken a weight of {percent} %; it counts once endpointLag has passed"
        )),
        _ => Some(format!("the gateways have yet to take a weight of {percent} %: {}", problem(d))),
    }
}

/// Why a weight is not in force.
pub(super) fn problem(d: &Draft) -> String {
    match &d.world.route {
        None if !d.world.gateway_api => {
            "the cluster does not know HTTPRoutes; install the Gateway API (v1)".to_owned()
        }
        None => "the HTTPRoute is being made".to_owned(),
        Some(RouteObs { answer, .. }) => match answer {
            RouteAnswer::Unseen => {
                "no gateway has answered; see whether traffic.gateway.parentRefs name a Gateway, \
                                    and whether its controller runs"
                    .to_owned()
            }
            RouteAnswer::Pending(who) => format!("{who} has not answered to the last change"),
            RouteAnswer::Refused { reason, message } => format!("{reason}: {message}"),
            RouteAnswer::Accepted => "the pods for it are not behind the preview Service yet".to_owned(),
        },
    }
}

/// How the condition stands.
pub(super) enum Stance {
    /// It is left out.
    Absent,
    /// It stays as it is.
    AsBefore,
    /// Its status, reason and message.
    Is(&'static str, String, String),
}

/// What the gateways make of the route.
pub(super) fn condition(d: &Draft) -> Stance {
    if !d.goal.gateway {
        return Stance::Absent;
    }
    let said = |status, reason: &str| Stance::Is(status, reason.to_owned(), problem(d));
    match d.world.route.as_ref().map(|route| &route.answer) {
        None if !d.world.gateway_api => said("False", "GatewayApiAbsent"),
        None => said("Unknown", "Pending"),
        Some(RouteAnswer::Unseen) => said("Unknown", "NoAnswer"),
        // Every weight is answered anew; that is no change of mind.
        Some(RouteAnswer::Pending(_)) => {
            let known = d.status.conditions.iter().any(|condition| condition.type_ == ROUTE_ACCEPTED);
            if known { Stance::AsBefore } else { said("Unknown", "Pending") }
        }
        Some(RouteAnswer::Refused { reason, .. }) => said("False", reason),
        Some(RouteAnswer::Accepted) => Stance::Is("True", "Accepted".to_owned(), String::new()),
    }
}
