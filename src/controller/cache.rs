//! What the API server has told us of one kind, kept by app.
//!
//! Unlike a plain store it knows up to which `resourceVersion` it is current (from lists, events and bookmarks), and
//! which apps a change concerns, objects that vanished during an interrupted watch included.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Serialize, de::DeserializeOwned};

use super::packed::{Packed, Packer};
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

/// An object as it is kept.
enum Held<K> {
    /// It, or another one of its app, has changed not long ago.
    Live(Arc<K>),
    /// At rest.
    Packed(Packed),
}

struct Entry<K> {
    version: u64,
    held: Held<K>,
}

type ByName<K> = BTreeMap<String, Entry<K>>;

struct State<K> {
    by_app: HashMap<AppKey, ByName<K>>,
    /// Under which app an object is kept.
    kept: HashMap<AppKey, AppKey>,
    /// Apps of which objects are not packed, and when one was last added.
    lively: HashMap<AppKey, Instant>,
    version: u64,
}

impl<K> State<K> {
    fn new(version: u64) -> Self {
        Self { by_app: HashMap::new(), kept: HashMap::new(), lively: HashMap::new(), version }
    }
}

/// The objects of one kind.
pub struct Cache<K> {
    belongs: Belongs,
    packer: Packer,
    state: RwLock<State<K>>,
}

/// What a list has shown so far.
pub struct Listed<K>(State<K>);

impl<K> Default for Listed<K> {
    fn default() -> Self {
        Self(State::new(0))
    }
}

impl<K> Cache<K>
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
{
    /// An empty cache.
    pub fn new(belongs: Belongs) -> Self {
        Self { belongs, packer: Packer::default(), state: RwLock::new(State::new(0)) }
    }

    /// The objects of one app, by name.
    pub fn of(&self, app: &AppKey) -> Vec<Arc<K>> {
        let state = self.read();
        let objects = state.by_app.get(app).into_iter().flat_map(BTreeMap::values);
        objects.filter_map(|entry| self.unpacked(entry)).collect()
    }

    /// The object of an app with this name.
    pub fn get(&self, app: &AppKey, name: &str) -> Option<Arc<K>> {
        self.unpacked(self.read().by_app.get(app)?.get(name)?)
    }

    /// Whether there are objects of an app.
    pub fn has(&self, app: &AppKey) -> bool {
        self.read().by_app.contains_key(app)
    }

    /// Every app with an object here.
    pub fn apps(&self) -> BTreeSet<AppKey> {
        self.read().by_app.keys().cloned().collect()
    }

    /// Up to which version the cache is current.
    pub fn version(&self) -> u64 {
        self.read().version
    }

    /// An object on a list.
    pub fn add(&self, list: &mut Listed<K>, object: K) {
        let version = version_of(object.meta());
        let meta = (itself(object.meta()), (self.belongs)(object.meta()));
        let held = self.packed(object);
        insert(&mut list.0, meta, Entry { version, held });
    }

    /// A list takes the place of everything. Returns the apps for which something changed.
    pub fn replace(&self, Listed(mut fresh): Listed<K>, version: u64) -> BTreeSet<AppKey> {
        fresh.version = version;
        let mut state = self.write();
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
        let known = before.as_ref().is_some_and(|(_, old)| *old == version);
        let app = (self.belongs)(object.meta());
        if let Some(app) = &app {
            state.lively.insert(app.clone(), Instant::now());
        }
        insert(&mut state, (Some(key), app.clone()), Entry { version, held: Held::Live(Arc::new(object)) });
        if known {
            return BTreeSet::new();
        }
        before.map(|(app, _)| app).into_iter().chain(app).collect()
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

    /// Packs what has been at rest for so long.
    pub fn rest(&self, quiet: Duration) {
        let now = Instant::now();
        let at_rest = |since: &Instant| now.duration_since(*since) >= quiet;
        let due: Vec<AppKey> = {
            let state = self.read();
            state.lively.iter().filter(|(_, since)| at_rest(since)).map(|(app, _)| app.clone()).collect()
        };
        for app in due {
            let mut state = self.write();
            if !state.lively.get(&app).is_some_and(at_rest) {
                continue;
            }
            state.lively.remove(&app);
            for entry in state.by_app.get_mut(&app).into_iter().flat_map(BTreeMap::values_mut) {
                if let Held::Live(object) = &entry.held
                    && let Some(packed) = self.packer.pack(&**object)
                {
                    entry.held = Held::Packed(packed);
                }
            }
        }
    }

    fn packed(&self, object: K) -> Held<K> {
        self.packer.pack(&object).map_or_else(|| Held::Live(Arc::new(object)), Held::Packed)
    }

    fn unpacked(&self, entry: &Entry<K>) -> Option<Arc<K>> {
        match &entry.held {
            Held::Live(object) => Some(object.clone()),
            Held::Packed(packed) => self.packer.unpack(packed).map(Arc::new),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State<K>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<K>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps an object, given its own place and that of its app; one without either is not kept.
fn insert<K>(state: &mut State<K>, place: (Option<AppKey>, Option<AppKey>), entry: Entry<K>) {
    let (Some(key), Some(app)) = place else { return };
    state.by_app.entry(app.clone()).or_default().insert(key.name.clone(), entry);
    state.kept.insert(key, app);
}

/// Returns the app of what was kept, and its version.
fn remove<K>(state: &mut State<K>, key: &AppKey) -> Option<(AppKey, u64)> {
    let app = state.kept.remove(key)?;
    let objects = state.by_app.get_mut(&app)?;
    let version = objects.remove(&key.name)?.version;
    if objects.is_empty() {
        state.by_app.remove(&app);
        state.lively.remove(&app);
    }
    Some((app, version))
}

fn versions<'a, K>(state: &'a State<K>, app: &AppKey) -> Vec<(&'a str, u64)> {
    let objects = state.by_app.get(app).into_iter().flatten();
    objects.map(|(name, entry)| (name.as_str(), entry.version)).collect()
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
        let listed = |objects: Vec<ConfigMap>| {
            let mut list = Listed::default();
            for object in objects {
                cache.add(&mut list, object);
            }
            list
        };
        cache.replace(
            listed(vec![object("a", "shop", 5), object("b", "blog", 6), object("c", "wiki", 7)]),
            10,
        );
        let changed = cache.replace(listed(vec![object("a", "shop", 5), object("c", "wiki", 12)]), 15);
        assert_eq!(changed, [key("blog"), key("wiki")].into());
        assert_eq!(cache.version(), 15);
        assert!(cache.of(&key("blog")).is_empty());
    }

    #[test]
    fn what_is_at_rest_is_packed_and_reads_the_same() {
        let cache = Cache::new(child);
        cache.apply(object("a", "shop", 5));
        cache.apply(object("b", "shop", 6));
        let live = |cache: &Cache<ConfigMap>| {
            let state = cache.read();
            state.by_app[&key("shop")].values().filter(|entry| matches!(entry.held, Held::Live(_))).count()
        };
        cache.rest(Duration::from_hours(1));
        assert_eq!(live(&cache), 2, "not yet");
        cache.rest(Duration::ZERO);
        assert_eq!(live(&cache), 0);
        assert!(cache.read().lively.is_empty());
        assert_eq!(*cache.get(&key("shop"), "a").unwrap(), object("a", "shop", 5));
        assert_eq!(cache.apply(object("a", "shop", 5)), BTreeSet::new(), "its version is still known");
        assert_eq!(cache.apply(object("a", "shop", 7)), [key("shop")].into());
        assert_eq!((live(&cache), cache.of(&key("shop")).len()), (1, 2));
    }

    #[test]
    fn bookmarks_move_the_version_on_and_never_back() {
        let cache = Cache::<ConfigMap>::new(child);
        cache.bookmark(20);
        cache.bookmark(10);
        assert_eq!(cache.version(), 20);
    }
}
