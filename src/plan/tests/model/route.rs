//! The HTTPRoute and the gateways behind it.
//!
//! A gateway may do what a changed route says at any moment from the change until, at the latest, the lag after its
//! answer. So what it may be doing is a set of weights: all that were written since the lag last passed.

use super::{Config, Lagging, Points, Preview, State, index};
use crate::api::StrategyKind;
use crate::plan::{RouteAnswer, RouteObs};

/// Weights in play, in percent.
const WEIGHTS: [u8; 4] = [0, 33, 67, 100];

/// The HTTPRoute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// Percent for the preview Service; none: it is not named.
    pub share: Option<u8>,
    /// The gateway has answered to it as it is.
    pub answered: bool,
    /// Which of [`WEIGHTS`] the gateway may be using, as bits.
    pub maybe: u8,
}

/// What the status tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Weighed {
    pub weight: u8,
    /// It is about the route as it is.
    pub current: bool,
    /// The lag has passed since.
    pub over: bool,
}

fn bit(weight: u8) -> u8 {
    let at = WEIGHTS.iter().position(|known| *known == weight).expect("a weight in play");
    1 << at
}

impl Route {
    pub const AT_REST: Self = Self { share: None, answered: true, maybe: 1 };
    const NEW: Self = Self { share: None, answered: false, maybe: 1 };

    /// The largest weight that the gateway may be using.
    fn most(self) -> u8 {
        let weights = WEIGHTS.into_iter().rev();
        weights.into_iter().find(|weight| self.maybe & bit(*weight) != 0).unwrap_or_default()
    }

    /// The gateway certainly does exactly this.
    pub fn does(self, weight: u8) -> bool {
        self.answered && self.maybe == bit(weight)
    }

    pub fn observation(self) -> RouteObs {
        RouteObs {
            version: String::new(),
            uid: String::new(),
            generation: 2,
            preview: self.share.map(u32::from),
            answer: if self.answered {
                RouteAnswer::Accepted
            } else {
                RouteAnswer::Pending("the gateway".to_owned())
            },
            drifted: false,
        }
    }
}

impl State {
    pub(super) fn create_route(&mut self) {
        self.route = Some(Route::NEW);
        self.status.route = None;
    }

    pub(super) fn delete_route(&mut self) {
        self.route = None;
        self.status.route = None;
    }

    pub(super) fn gateway_answers(&mut self) {
        if let Some(route) = self.route.as_mut() {
            route.answered = true;
        }
    }

    /// The answer has been known for long enough.
    pub(super) fn lag_runs(&self) -> bool {
        let collapsed = self.route.is_none_or(|route| route.maybe == bit(route.share.unwrap_or_default()));
        // a planner that ignores the lag takes it for over at once
        self.status.route.is_some_and(|known| known.current && (!known.over || !collapsed))
    }

    pub(super) fn lag_passes(&mut self) {
        if let (Some(route), Some(known)) = (self.route.as_mut(), self.status.route.as_mut()) {
            route.maybe = bit(route.share.unwrap_or_default());
            known.over = true;
        }
    }

    /// A write of the route. More goes only to pods that are there, and nothing returns to nobody.
    pub(super) fn weigh_route(&mut self, share: Option<u32>, planned_from: &Lagging) {
        let Some(mut route) = self.route else { return };
        let share = share.map(|share| u8::try_from(share).unwrap_or(u8::MAX));
        let (before, after) = (route.share.unwrap_or_default(), share.unwrap_or_default());
        let behind = match self.preview {
            Preview::At(revision) => planned_from.deployments[revision].ready,
            _ => 0,
        };
        if after > before && u32::from(behind) < pods_for(planned_from.app.replicas, after) {
            self.violation = Some("3: a weight on a revision whose pods are not available");
        }
        let superseded = self
            .status
            .candidate
            .is_some_and(|tried| tried.verdict.is_none() && self.preview != Preview::At(tried.revision));
        let nobody = planned_from.endpoints.iter().all(|ready| *ready == 0);
        if before > 0 && after == 0 && nobody && behind > 0 && !superseded && planned_from.app.replicas > 0 {
            self.violation = Some("1: requests return to nobody");
        }
        route.share = share;
        route.answered = false;
        route.maybe |= bit(after);
        self.route = Some(route);
        if let Some(known) = self.status.route.as_mut() {
            known.current = false;
        }
    }

    /// The gateway may send requests to the candidate.
    pub(super) fn weighs(&self) -> bool {
        self.route.is_some_and(|route| route.most() > 0)
    }

    /// The preview Service leads elsewhere.
    pub(super) fn preview_moves(&mut self, to: Preview) {
        if matches!(self.preview, Preview::At(_)) && to != self.preview && self.weighs() {
            self.violation = Some("3: the preview Service went from under a weight");
        }
        self.preview = to;
    }

    /// Fewer pods are asked for of a revision.
    pub(super) fn lower_behind(&mut self, planned_from: &Lagging, revision: usize, asked: u8) {
        let Some(route) = self.route.filter(|_| self.preview == Preview::At(revision)) else { return };
        let lowered = asked < self.truth.deployments[revision].asked;
        if lowered && route.most() > 0 && u32::from(asked) < pods_for(planned_from.app.replicas, route.most())
        {
            self.violation = Some("1: pods went from under a weight");
        }
    }

    /// At a fixed point the gateway does what the step under way says, or leads to the stable revision alone.
    pub fn is_routed(&self, config: &Config, waits: bool) -> Result<(), String> {
        let Some(route) = self.route else {
            let wanted = config.gateway && self.truth.app.gateway;
            return if wanted { Err("there is no route".to_owned()) } else { Ok(()) };
        };
        let weighed = self.status.candidate.filter(|tried| waits && tried.gateway && tried.verdict.is_none());
        let ready = weighed.is_some_and(|tried| self.service != Points::Only(tried.revision));
        let third = ready && weighed.is_some_and(|tried| tried.strategy == StrategyKind::Canary);
        let (share, weight) = if third { (Some(33), 33) } else { (None, 0) };
        if route.share == share && route.does(weight) {
            return Ok(());
        }
        Err(format!("the gateway does not do what it should: {route:?}"))
    }
}

fn pods_for(replicas: u8, percent: u8) -> u32 {
    (u32::from(replicas) * u32::from(percent)).div_ceil(100).max(1).min(u32::from(replicas))
}

/// The preview Service as its name says.
pub(super) fn preview_at(revision: Option<&String>) -> Preview {
    revision.map_or(Preview::Nowhere, |name| Preview::At(index(name)))
}
