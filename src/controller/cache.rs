//! What the API server has told us of one kind, kept by app.
//!
//! Unlike a plain store it knows up to which `resourceVersion` it is current (from lists, events and bookmarks), and
//! which apps a change concerns, objects that vanished during an interrupted watch included.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;

use crate::api::labels;

/// Which app: its namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppKey {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl fmt::Display for AppKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Finds the app an object belongs to.
pub type Belongs = fn(&ObjectMeta) -> Option<AppKey>;

/// The object is the app.
pub fn itself(meta: &ObjectMeta) -> Option<AppKey> {
    Some(AppKey { namespace: meta.namespace.clone()?, name: meta.name.clone()? })
}

/// The app that owns the object, else the app that its labels name.
pub fn child(meta: &ObjectMeta) -> Option<AppKey> {
    let owner = meta.owner_references.iter().flatten().find(|owner| {
        owner.controller == Some(true)
            && owner.kind == "PhoenixApp"
            && owner.api_version.starts_with("phoenix-operator.dev/")
    });
    let label = |key: &str| meta.labels.as_ref().and_then(|labels| labels.get(key)).cloned();
    let name = owner
        .map(|owner| owner.name.clone())
        .or_else(|| label(labels::APP))
        .or_else(|| label(labels::MIGRATION))
        .or_else(|| label(labels::SMOKE))?;
    Some(AppKey { namespace: meta.namespace.clone()?, name })
}

/// The number in a `resourceVersion`; 0 when it is none.
pub fn version_of(meta: &ObjectMeta) -> u64 {
    number(meta.resource_version.as_deref().unwrap_or_default())
}

/// The number in the text of a `resourceVersion`; 0 when it is none. Kubernetes promises since 1.35 that they are
/// numbers that rise within a resource type (KEP-5504).
pub fn number(version: &str) -> u64 {
    version.parse().unwrap_or(0)
}

type ByName<K> = BTreeMap<String, Arc<K>>;

struct State<K> {
    by_app: HashMap<AppKey, ByName<K>>,
    /// Under which app an object is kept.
    kept: HashMap<AppKey, AppKey>,
    version: u64,
}

/// The objects of one kind.
pub struct Cache<K> {
    belongs: Belongs,
    state: RwLock<State<K>>,
}

impl<K: Resource<DynamicType = ()>> Cache<K> {
    /// An empty cache.
    pub fn new(belongs: Belongs) -> Self {
        Self {
            belongs,
            state: RwLock::new(State { by_app: HashMap::new(), kept: HashMap::new(), version: 0 }),
        }
    }

    /// The objects of one app, by name.
    pub fn of(&self, app: &AppKey) -> Vec<Arc<K>> {
        self.read().by_app.get(app).map(|objects| objects.values().cloned().collect()).unwrap_or_default()
    }

    /// The object of an app with this name.
    pub fn get(&self, app: &AppKey, name: &str) -> Option<Arc<K>> {
        self.read().by_app.get(app)?.get(name).cloned()
    }

    /// Whether one is like this.
    pub fn any(&self, is: impl Fn(&K) -> bool) -> bool {
        self.read().by_app.values().flat_map(BTreeMap::values).any(|object| is(object))
    }

    /// Every app with an object here.
    pub fn apps(&self) -> BTreeSet<AppKey> {
        self.read().by_app.keys().cloned().collect()
    }

    /// Up to which version the cache is current.
    pub fn version(&self) -> u64 {
        self.read().version
    }

    /// Takes the place of everything, after a list. Returns the apps for which something changed.
    pub fn replace(&self, objects: Vec<K>, version: u64) -> BTreeSet<AppKey> {
        let mut state = self.write();
        let mut fresh = State { by_app: HashMap::new(), kept: HashMap::new(), version };
        for object in objects {
            insert(&mut fresh, self.belongs, object);
        }
        let mut changed = BTreeSet::new();
        for app in state.by_app.keys().chain(fresh.by_app.keys()) {
            if versions(&state, app) != versions(&fresh, app) {
                changed.insert(app.clone());
            }
        }
        *state = fresh;
        changed
    }

    /// An object was added or changed. Returns the apps concerned; none when it was known already.
    pub fn apply(&self, object: K) -> BTreeSet<AppKey> {
        let mut state = self.write();
        let version = version_of(object.meta());
        state.version = state.version.max(version);
        let Some(key) = itself(object.meta()) else { return BTreeSet::new() };
        let before = remove(&mut state, &key);
        let known = before.as_ref().is_some_and(|(_, old)| version_of(old.meta()) == version);
        let after = insert(&mut state, self.belongs, object);
        if known {
            return BTreeSet::new();
        }
        before.map(|(app, _)| app).into_iter().chain(after).collect()
    }

    /// An object was deleted, or does not match the selector any more. Returns the apps concerned.
    pub fn delete(&self, meta: &ObjectMeta) -> BTreeSet<AppKey> {
        let mut state = self.write();
        state.version = state.version.max(version_of(meta));
        let Some(key) = itself(meta) else { return BTreeSet::new() };
        remove(&mut state, &key).map(|(app, _)| app).into_iter().collect()
    }

    /// Nothing has changed up to this version.
    pub fn bookmark(&self, version: u64) {
        let mut state = self.write();
        state.version = state.version.max(version);
    }

    fn read(&self) -> RwLockReadGuard<'_, State<K>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<K>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn insert<K: Resource>(state: &mut State<K>, belongs: Belongs, object: K) -> Option<AppKey> {
    let app = belongs(object.meta())?;
    let key = itself(object.meta())?;
    state.by_app.entry(app.clone()).or_default().insert(key.name.clone(), Arc::new(object));
    state.kept.insert(key, app.clone());
    Some(app)
}

fn remove<K>(state: &mut State<K>, key: &AppKey) -> Option<(AppKey, Arc<K>)> {
    let app = state.kept.remove(key)?;
    let objects = state.by_app.get_mut(&app)?;
    let object = objects.remove(&key.name)?;
    if objects.is_empty() {
        state.by_app.remove(&app);
    }
    Some((app, object))
}

fn versions<'a, K: Resource>(state: &'a State<K>, app: &AppKey) -> Vec<(&'a str, Option<&'a str>)> {
    let objects = state.by_app.get(app).into_iter().flatten();
    objects.map(|(name, object)| (name.as_str(), object.meta().resource_version.as_deref())).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

    use super::*;

    fn object(name: &str, app: &str, version: u64) -> ConfigMap {
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("prod".to_owned()),
            resource_version: Some(version.to_string()),
            labels: Some([(labels::APP.to_owned(), app.to_owned())].into()),
            ..ObjectMeta::default()
        };
        ConfigMap { metadata, ..ConfigMap::default() }
    }

    fn key(name: &str) -> AppKey {
        AppKey { namespace: "prod".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn an_object_is_kept_with_its_app() {
        let cache = Cache::new(child);
        assert_eq!(cache.apply(object("a", "shop", 5)), [key("shop")].into());
        assert_eq!(cache.apply(object("a", "shop", 5)), BTreeSet::new(), "seen before");
        assert_eq!(cache.of(&key("shop")).len(), 1);
        assert_eq!(cache.version(), 5);
        assert_eq!(cache.delete(&object("a", "shop", 9).metadata), [key("shop")].into());
        assert_eq!(cache.version(), 9);
        assert!(cache.apps().is_empty());
    }

    #[test]
    fn an_object_that_changes_apps_concerns_both() {
        let cache = Cache::new(child);
        cache.apply(object("a", "shop", 5));
        assert_eq!(cache.apply(object("a", "blog", 6)), [key("blog"), key("shop")].into());
        assert!(cache.of(&key("shop")).is_empty());
    }

    #[test]
    fn the_owner_beats_the_label() {
        let mut meta = object("a", "blog", 1).metadata;
        meta.owner_references = Some(vec![OwnerReference {
            api_version: "phoenix-operator.dev/v1alpha1".to_owned(),
            kind: "PhoenixApp".to_owned(),
            name: "shop".to_owned(),
            uid: "u".to_owned(),
            controller: Some(true),
            block_owner_deletion: None,
        }]);
        assert_eq!(child(&meta), Some(key("shop")));
    }

    #[test]
    fn a_list_tells_what_vanished_and_what_changed() {
        let cache = Cache::new(child);
        cache.replace(vec![object("a", "shop", 5), object("b", "blog", 6), object("c", "wiki", 7)], 10);
        let changed = cache.replace(vec![object("a", "shop", 5), object("c", "wiki", 12)], 15);
        assert_eq!(changed, [key("blog"), key("wiki")].into());
        assert_eq!(cache.version(), 15);
        assert!(cache.of(&key("blog")).is_empty());
    }

    #[test]
    fn bookmarks_move_the_version_on_and_never_back() {
        let cache = Cache::<ConfigMap>::new(child);
        cache.bookmark(20);
        cache.bookmark(10);
        assert_eq!(cache.version(), 20);
    }
}
