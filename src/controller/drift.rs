//! Which children differ from what they should be, and which differences our own apply did not remove.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    hash::{DefaultHasher, Hash, Hasher as _},
    sync::Arc,
};

use k8s_openapi::{
    api::{core::v1::Service, networking::v1::Ingress},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{cache::but_status, kind::Kind, snapshot::Snapshot};
use crate::{
    api::{HttpRoute, ValidatedApp},
    build::drift::drift,
};

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
    /// Names what everything wanted is made of.
    made_of: u64,
    /// What was compared in the last pass, and did not differ.
    known: BTreeSet<u64>,
    /// The same of this one.
    pub same: BTreeSet<u64>,
}

impl Drifts {
    /// With what is known from earlier passes: what persisted, and what did not differ. What is wanted is made of the app
    /// and of the stored revisions, named by their UIDs as their data never change, and of what each comparison names.
    pub fn new(
        persisting: BTreeMap<Which, Persisting>,
        known: BTreeSet<u64>,
        app: &ValidatedApp,
        stored: &[String],
    ) -> Self {
        let mut made_of = DefaultHasher::new();
        (app.uid.as_str(), app.generation, stored).hash(&mut made_of);
        Self { persisting, made_of: made_of.finish(), known, ..Self::default() }
    }

    /// Whether it differs in a way that an apply may cure from what is wanted, which is made `of` that. What did not
    /// differ in the last pass does not now, if neither has changed.
    pub fn differs<K: Resource<DynamicType = ()> + Serialize>(
        &mut self,
        observed: &K,
        of: impl Hash,
        desired: impl FnOnce() -> K,
    ) -> bool {
        let pair = self.pair(observed.meta(), of);
        if let Some(pair) = pair.filter(|pair| self.known.contains(pair)) {
            self.same.insert(pair);
            return false;
        }
        let desired = &desired();
        let fields = between(desired, observed);
        if fields.is_empty() {
            self.same.extend(pair);
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
        (observed, name): (&[Arc<K>], &str),
        of: impl Hash,
        desired: impl FnOnce() -> K,
    ) -> bool {
        match snapshot.find(observed, name) {
            None => true,
            Some(seen) if snapshot.leaving(seen.meta()) => false,
            Some(seen) => self.differs(&**seen, of, desired),
        }
    }

    /// Names what is wanted and what is there; none when that cannot be told from what it was before. A generation stays
    /// while only its status changes, which nothing is wanted of.
    fn pair(&self, there: &ObjectMeta, of: impl Hash) -> Option<u64> {
        let mut pair = DefaultHasher::new();
        (self.made_of, there.uid.as_ref()?).hash(&mut pair);
        match there.generation {
            Some(_) => but_status(there).hash(&mut pair),
            None => there.resource_version.as_ref()?.hash(&mut pair),
        }
        of.hash(&mut pair);
        Some(pair.finish())
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

/// The mark of what was wanted when an object was last written.
pub fn mark(meta: &ObjectMeta) -> Option<&String> {
    meta.annotations.as_ref()?.get(APPLIED)
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
        assert!(drifts.differs(&seen, (), || wanted.clone()));
        let persisting = Persisting { wanted: hash(&wanted), fields: between(&wanted, &seen) };
        let mut drifts = Drifts::new([(which(&wanted), persisting)].into(), BTreeSet::new(), &one, &[]);
        assert!(!drifts.differs(&seen, (), || wanted));
        assert_eq!(drifts.still.len(), 1);
        let changed = app("{image: shop:1, traffic: {service: {port: 81}}}");
        let changed = || marked(active_service(&changed, &ServiceSelector::Wide));
        assert!(drifts.differs(&seen, (), changed));
    }

    #[test]
    fn what_did_not_differ_is_compared_again_only_when_something_has_changed() {
        let app = app("{image: shop:1}");
        let wanted = || marked(active_service(&app, &ServiceSelector::Wide));
        let mut seen = wanted();
        seen.metadata.uid = Some("u".to_owned());
        seen.metadata.resource_version = Some("7".to_owned());
        let asked = |known: BTreeSet<u64>, app: &ValidatedApp, stored: &str, seen: &Service, of: &str| {
            let mut drifts = Drifts::new(BTreeMap::new(), known, app, &[stored.to_owned()]);
            let mut compared = false;
            assert!(!drifts.differs(seen, of, || {
                compared = true;
                wanted()
            }));
            (compared, drifts.same)
        };
        let (compared, known) = asked(BTreeSet::new(), &app, "r5", &seen, "wide");
        assert!(compared);
        assert_eq!(asked(known.clone(), &app, "r5", &seen, "wide"), (false, known.clone()));
        assert!(asked(known.clone(), &app, "r6", &seen, "wide").0, "there is another revision");
        assert!(asked(known.clone(), &app, "r5", &seen, "only").0, "it is made of something else");
        let changed = ValidatedApp { generation: app.generation + 1, ..app.clone() };
        assert!(asked(known.clone(), &changed, "r5", &seen, "wide").0, "the spec changed");
        seen.metadata.resource_version = Some("8".to_owned());
        assert!(asked(known, &app, "r5", &seen, "wide").0, "the child changed");
        seen.metadata.generation = Some(1);
        let (_, known) = asked(BTreeSet::new(), &app, "r5", &seen, "wide");
        seen.metadata.resource_version = Some("9".to_owned());
        assert!(!asked(known.clone(), &app, "r5", &seen, "wide").0, "its status changed");
        seen.metadata.annotations.get_or_insert_default().insert("by".to_owned(), "hand".to_owned());
        assert!(asked(known, &app, "r5", &seen, "wide").0, "its metadata changed");
    }
}
