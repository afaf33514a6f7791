//! Whether the watches are open, as one truth for `/readyz` and for the planner.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;

use super::{kind::Kind, snapshot::Needs};
use crate::{plan::Fault, telemetry::Readiness};

/// A watch that is not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// Why.
    pub why: String,
    /// Set when only a person can open it.
    pub fault: Option<Fault>,
}

#[derive(Clone, Debug, Default)]
struct State {
    synced: bool,
    down: Option<Down>,
    up: bool,
    absent: bool,
}

#[derive(Debug, Default)]
struct Watches {
    states: BTreeMap<(Option<String>, Kind), State>,
    /// Since when all that is needed of a namespace are open; no namespace: all namespaces, in one watch of each kind.
    since: BTreeMap<(Option<String>, Needs), Timestamp>,
    /// Why the Lease is not reached; none: it is, or none is stood for.
    lease: Option<String>,
    stopping: bool,
}

/// An app goes on although the watch of this kind is shut for want of a right.
fn forgoes(needs: Needs, kind: Kind) -> bool {
    needs == Needs::NoRoutes && kind == Kind::HttpRoute
}

impl Watches {
    /// True if that opened or shut anything.
    fn settle(&mut self, namespace: Option<&String>) -> bool {
        let mut news = false;
        for needs in Needs::ALL {
            let mut states = self.states.iter().filter(|((of, _), _)| of.as_ref() == namespace);
            let whole = states.all(|((_, kind), state)| {
                let shut = state.down.as_ref().is_some_and(|down| down.fault.is_some());
                (state.synced && state.up) || (shut && forgoes(needs, *kind))
            });
            let place = (namespace.cloned(), needs);
            let before = self.since.contains_key(&place);
            if !whole {
                self.since.remove(&place);
            } else if !before {
                self.since.insert(place, Timestamp::now());
            }
            news |= before != whole;
        }
        news
    }
}

/// Whether a watch of one namespace, or of all, shows this one.
fn covers(of: Option<&String>, namespace: &str) -> bool {
    of.is_none_or(|of| of == namespace)
}

/// How all watches stand.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<Watches>>);

/// How one watch stands.
#[derive(Clone, Debug)]
pub struct Gauge {
    health: Health,
    namespace: Option<String>,
    kind: Kind,
}

impl Health {
    /// Expects one more watch.
    pub fn gauge(&self, namespace: Option<String>, kind: Kind) -> Gauge {
        self.with(|watches| watches.states.insert((namespace.clone(), kind), State::default()));
        Gauge { health: self.clone(), namespace, kind }
    }

    /// Since when all that is needed of a namespace is seen without a gap; none while a watch of it is not open.
    pub fn since(&self, namespace: &str, needs: Needs) -> Option<Timestamp> {
        self.with(|watches| {
            let mut places = watches.since.iter();
            places
                .find(|((of, least), _)| *least == needs && covers(of.as_ref(), namespace))
                .map(|(_, since)| *since)
        })
    }

    /// The first thing only a person can cure, among watches of a namespace that are needed and not open.
    pub fn fault(&self, namespace: &str, needs: Needs) -> Option<Fault> {
        self.with(|watches| {
            let mut states = watches.states.iter().filter(|((of, _), _)| covers(of.as_ref(), namespace));
            states.find_map(|((_, kind), state)| {
                let fault = state.down.as_ref()?.fault.clone();
                fault.filter(|_| !forgoes(needs, *kind))
            })
        })
    }

    /// A watch of a namespace is not open that is needed, and nobody is to be told of it. There will be news of all apps when
    /// it is.
    pub fn is_blind(&self, namespace: &str, needs: Needs) -> bool {
        self.since(namespace, needs).is_none() && self.fault(namespace, needs).is_none()
    }

    /// The cluster knows a kind, as far as the watch of it in this namespace has found.
    pub fn knows(&self, namespace: &str, kind: Kind) -> bool {
        self.with(|watches| {
            let mut states = watches.states.iter();
            states.any(|((of, one), state)| *one == kind && covers(of.as_ref(), namespace) && !state.absent)
        })
    }

    /// Why the Lease is not reached; none: it is.
    pub fn lease(&self, fault: Option<String>) {
        self.with(|watches| watches.lease = fault);
    }

    /// From now on it is not ready.
    pub fn stop(&self) {
        self.with(|watches| watches.stopping = true);
    }

    fn with<T>(&self, act: impl FnOnce(&mut Watches) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Gauge {
    /// The namespace watched; none: all.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The cache has been filled from a list.
    pub fn synced(&self) {
        self.set(|state| state.synced = true);
    }

    /// The watch is open. True if that makes the whole complete, or the kind was not known before.
    pub fn up(&self) -> bool {
        let mut before = false;
        let whole = self.set(|state| {
            before = state.absent;
            *state = State { synced: state.synced, down: None, up: true, absent: false };
        });
        whole || before
    }

    /// The cluster does not know the kind. True when that is news.
    pub fn absent(&self) -> bool {
        let mut before = false;
        self.set(|state| {
            before = state.absent;
            *state = State { synced: true, down: None, up: true, absent: true };
        });
        !before
    }

    /// The watch is not open. True if the whole was complete before, or if it is news what only a person can cure.
    pub fn down(&self, down: Down) -> bool {
        let mut before = None;
        let fault = down.fault.clone();
        self.set(|state| {
            before = state.down.as_ref().and_then(|down| down.fault.clone());
            state.up = false;
            state.down = Some(down);
        }) || (fault.is_some() && fault != before)
    }

    fn set(&self, act: impl FnOnce(&mut State)) -> bool {
        self.health.with(|watches| {
            act(watches.states.entry((self.namespace.clone(), self.kind)).or_default());
            watches.settle(self.namespace.as_ref())
        })
    }
}

impl Readiness for Health {
    fn faults(&self) -> Vec<String> {
        self.with(|watches| {
            let stopping = watches.stopping.then(|| "stopping".to_owned());
            let closed = watches.states.iter().filter_map(|((namespace, kind), state)| {
                let place = namespace.as_deref().unwrap_or("all namespaces");
                match &state.down {
                    Some(down) => Some(format!("{kind} in {place}: {}", down.why)),
                    None if !state.synced => Some(format!("{kind} in {place}: not listed yet")),
                    None if !state.up => Some(format!("{kind} in {place}: not watched yet")),
                    None => None,
                }
            });
            stopping.into_iter().chain(watches.lease.clone()).chain(closed).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_when_every_watch_is_open_and_not_before() {
        let health = Health::default();
        let pods = health.gauge(None, Kind::Pod);
        let jobs = health.gauge(None, Kind::Job);
        assert_eq!(health.faults().len(), 2);
        pods.synced();
        assert!(!pods.up() && health.is_blind("any", Needs::Everything));
        jobs.synced();
        assert_eq!(health.since("any", Needs::Everything), None);
        assert!(jobs.up(), "now it is whole");
        assert!(health.since("any", Needs::Everything).is_some() && health.faults().is_empty());
        assert!(!jobs.up(), "it was before");
        assert!(jobs.down(Down { why: "no route".to_owned(), fault: None }));
        assert_eq!(health.faults(), ["Job in all namespaces: no route"]);
        assert!(health.since("any", Needs::Everything).is_none());
        assert!(jobs.up());
        assert!(!health.is_blind("any", Needs::Everything));
        health.stop();
        assert_eq!(health.faults(), ["stopping"]);
    }

    #[test]
    fn who_waits_to_lead_is_ready_once_it_has_seen_the_lease() {
        let health = Health::default();
        health.lease(Some("Lease ops/operator: not asked for yet".to_owned()));
        assert_eq!(health.faults().len(), 1);
        health.lease(None);
        assert!(health.faults().is_empty());
    }

    #[test]
    fn a_kind_that_the_cluster_does_not_know_is_not_waited_for() {
        let health = Health::default();
        let pods = health.gauge(None, Kind::Pod);
        let routes = health.gauge(None, Kind::HttpRoute);
        pods.synced();
        pods.up();
        assert!(health.since("any", Needs::Everything).is_none());
        assert!(routes.absent() && !routes.absent(), "news once");
        assert!(health.since("any", Needs::Everything).is_some() && !health.knows("any", Kind::HttpRoute));
        routes.synced();
        assert!(routes.up() && !routes.up(), "news once");
        assert!(health.knows("any", Kind::HttpRoute));
        assert!(routes.absent(), "it was taken away");
    }

    #[test]
    fn what_only_a_person_can_cure_is_told_once() {
        let health = Health::default();
        let pods = health.gauge(Some("prod".to_owned()), Kind::Pod);
        let others = health.gauge(Some("other".to_owned()), Kind::Pod);
        others.synced();
        assert!(others.up());
        let fault = Fault { reason: "Forbidden".to_owned(), message: "no".to_owned() };
        let down = Down { why: "no".to_owned(), fault: Some(fault.clone()) };
        assert!(pods.down(down.clone()) && !pods.down(down));
        assert_eq!(health.fault("prod", Needs::Everything), Some(fault));
        assert!(
            health.fault("other", Needs::Everything).is_none()
                && health.since("other", Needs::Everything).is_some(),
            "another namespace goes on"
        );
    }

    #[test]
    fn routes_that_may_not_be_read_stop_only_what_needs_them() {
        let health = Health::default();
        let pods = health.gauge(None, Kind::Pod);
        let routes = health.gauge(None, Kind::HttpRoute);
        pods.synced();
        pods.up();
        assert_eq!(health.since("any", Needs::NoRoutes), None, "they may come");
        let fault = Fault { reason: "Forbidden".to_owned(), message: "no".to_owned() };
        assert!(routes.down(Down { why: "no".to_owned(), fault: Some(fault.clone()) }));
        assert!(health.since("any", Needs::NoRoutes).is_some());
        assert_eq!(health.fault("any", Needs::NoRoutes), None);
        assert_eq!(health.since("any", Needs::Everything), None);
        assert_eq!(health.fault("any", Needs::Everything), Some(fault));
        assert_eq!(health.faults(), ["HTTPRoute in all namespaces: no"], "it is still told");
        pods.down(Down { why: "no route".to_owned(), fault: None });
        assert_eq!(health.since("any", Needs::NoRoutes), None, "nothing else is forgone");
    }
}
