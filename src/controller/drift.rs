//! Which children differ from what they should be, and which differences our own apply did not remove.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use k8s_openapi::api::{core::v1::Service, networking::v1::Ingress};
use kube::Resource;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{kind::Kind, snapshot::Snapshot};
use crate::{api::HttpRoute, build::drift::drift};

/// Annotation of a Service: hash of what was last applied. A field that is not wanted any more is no difference to
/// what is wanted; this is, and the apply that follows removes it.
const APPLIED: &str = "phoenix-operator.dev/applied";

/// An object, by kind and name.
pub type Which = (Kind, String);

/// A difference that our own apply did not remove: hash of what was wanted, and where they differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persisting {
    /// Hash of what was wanted.
    pub wanted: String,
    /// The fields.
    pub fields: Vec<String>,
}

/// Compares, and keeps in mind what persists.
#[derive(Clone, Debug, Default)]
pub struct Drifts {
    /// What persisted when last applied.
    pub persisting: BTreeMap<Which, Persisting>,
    /// Of these, what was found to differ still, in this pass.
    pub still: Vec<Which>,
    /// What differs and is worth an apply.
    pub fresh: bool,
}

impl Drifts {
    /// With what is known from earlier passes.
    pub fn new(persisting: BTreeMap<Which, Persisting>) -> Self {
        Self { persisting, still: Vec::new(), fresh: false }
    }

    /// Whether it differs in a way that an apply may cure.
    pub fn differs<K: Resource<DynamicType = ()> + Serialize>(&mut self, desired: &K, observed: &K) -> bool {
        let fields = between(desired, observed);
        if fields.is_empty() {
            return false;
        }
        let which = which(desired);
        if self.persisting.get(&which).is_some_and(|known| known.wanted == hash(desired)) {
            self.still.push(which);
            return false;
        }
        tracing::info!(kind = %which.0, name = which.1, fields = fields.join(", "), "a child differs");
        self.fresh = true;
        true
    }

    /// Whether it is missing, or differs in a way that an apply may cure. One that is leaving is waited for.
    pub fn wanting<K: Resource<DynamicType = ()> + Serialize>(
        &mut self,
        snapshot: &Snapshot,
        observed: &[Arc<K>],
        desired: &K,
    ) -> bool {
        let name = desired.meta().name.as_deref().unwrap_or_default();
        match snapshot.find(observed, name) {
            None => true,
            Some(seen) if snapshot.leaving(seen.meta()) => false,
            Some(seen) => self.differs(desired, seen),
        }
    }
}

/// Which object it is.
pub fn which<K: Resource<DynamicType = ()>>(object: &K) -> Which {
    (Kind::of::<K>(), object.meta().name.clone().unwrap_or_default())
}

/// Fields in which an object differs from what is wanted.
pub fn between<K: Serialize>(desired: &K, observed: &K) -> Vec<String> {
    drift(&value(desired), &value(observed))
}

/// Hash of an object.
pub fn hash<K: Serialize>(object: &K) -> String {
    let digest = Sha256::digest(value(object).to_string());
    digest.iter().take(8).fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// With a mark of what is wanted, the selector aside: that moves with every rollout and is compared by itself.
pub fn marked(service: Service) -> Service {
    with_mark(service, |bare| {
        if let Some(spec) = bare.spec.as_mut() {
            spec.selector = None;
        }
    })
}

/// With a mark of what is wanted.
pub fn marked_ingress(ingress: Ingress) -> Ingress {
    with_mark(ingress, |_| {})
}

/// With a mark of what is wanted, the backends aside: their weights move with every rollout.
pub fn marked_route(route: HttpRoute) -> HttpRoute {
    with_mark(route, |bare| bare.spec.rules.clear())
}

/// With a mark of what is wanted, but for what `moves` takes away.
fn with_mark<K>(mut object: K, moves: impl FnOnce(&mut K)) -> K
where
    K: Resource<DynamicType = ()> + Clone + Serialize,
{
    let mut bare = object.clone();
    moves(&mut bare);
    let mark = hash(&bare);
    object.meta_mut().annotations.get_or_insert_default().insert(APPLIED.to_owned(), mark);
    object
}

fn value<K: Serialize>(object: &K) -> Value {
    // Types of Kubernetes: serialising them cannot fail.
    serde_json::to_value(object).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::testing::app,
        build::{ServiceSelector, active_service},
    };

    #[test]
    fn a_field_that_is_not_wanted_any_more_is_a_difference() {
        let before = app("{image: shop:1, extraPorts: [{name: metrics, port: 9568, expose: Service}]}");
        let after = app("{image: shop:1}");
        let wide = ServiceSelector::Wide;
        let seen = marked(active_service(&before, &wide));
        let desired = marked(active_service(&after, &wide));
        assert_eq!(between(&desired, &seen), [format!("metadata.annotations.{APPLIED}")]);
        assert!(between(&seen, &seen).is_empty());
    }

    #[test]
    fn the_mark_does_not_move_with_the_selector() {
        let app = app("{image: shop:1}");
        let only = ServiceSelector::Only("0123456789".parse().unwrap());
        let one = marked(active_service(&app, &ServiceSelector::Wide));
        let other = marked(active_service(&app, &only));
        assert_eq!(one.metadata.annotations, other.metadata.annotations);
    }

    #[test]
    fn what_persists_is_not_tried_again_until_the_wish_changes() {
        let one = app("{image: shop:1}");
        let wanted = marked(active_service(&one, &ServiceSelector::Wide));
        let mut seen = wanted.clone();
        seen.spec.as_mut().unwrap().type_ = Some("NodePort".to_owned());
        let mut drifts = Drifts::default();
        assert!(drifts.differs(&wanted, &seen));
        let persisting = Persisting { wanted: hash(&wanted), fields: between(&wanted, &seen) };
        let mut drifts = Drifts::new([(which(&wanted), persisting)].into());
        assert!(!drifts.differs(&wanted, &seen));
        assert_eq!(drifts.still.len(), 1);
        let changed = app("{image: shop:1, traffic: {service: {port: 81}}}");
        assert!(drifts.differs(&marked(active_service(&changed, &ServiceSelector::Wide)), &seen));
    }
}
