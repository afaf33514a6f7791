//! What the API server has told us of one kind, kept by app.
//!
//! Unlike a plain store it knows up to which `resourceVersion` it is current (from lists, events and bookmarks), and
//! which apps a change concerns, objects that vanished during an interrupted watch included.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
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

/// Names an object but for its status, of kinds whose specs are counted by a generation.
pub fn but_status(meta: &ObjectMeta) -> u64 {
    let ObjectMeta { generation, labels, annotations, .. } = meta;
    let mut hash = DefaultHasher::new();
    (whose(meta), generation, labels, annotations).hash(&mut hash);
    hash.finish()
}

/// Names which object it is and whose, and whether it is leaving.
pub fn whose(meta: &ObjectMeta) -> u64 {
    let ObjectMeta { uid, owner_references, deletion_timestamp, .. } = meta;
    let mut hash = DefaultHasher::new();
    (uid, deletion_timestamp.is_some()).hash(&mut hash);
    for owner in owner_references.iter().flatten() {
        (&owner.uid, &owner.name, owner.controller, owner.block_owner_deletion).hash(&mut hash);
    }
    hash.finish()
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

/// Apps that something has happened to not long ago: what is known of them is kept ready to be read. That takes up to a
/// megabyte for an app of ten revisions and less for one that has just come, so there are so many apps as have
/// [`MOST_LIVELY`] objects; the others are read anew in each pass.
#[derive(Debug, Default)]
pub struct Lively(Mutex<Stirred>);

#[derive(Debug, Default)]
struct Stirred {
    /// When something happened to each, and how many objects it has of the kind of which it has most.
    apps: HashMap<AppKey, (Instant, usize)>,
    /// All those numbers together.
    objects: usize,
    /// How many apps, in whichever caches, lie elsewhere since all was last moved together: they have come to rest, or a
    /// list has taken the place of what was there.
    scattered: usize,
}

/// The objects of the apps that are kept ready to be read, of the kind of which each has most.
const MOST_LIVELY: usize = 1500;

impl Lively {
    /// Something has happened just now to one of so many objects of an app. False: it is not kept ready, as too many
    /// others are.
    fn stir(&self, app: &AppKey, objects: usize) -> bool {
        let mut stirred = self.lock();
        let Stirred { apps, objects: all, .. } = &mut *stirred;
        match apps.get_mut(app) {
            Some((at, most)) => {
                *at = Instant::now();
                *all += objects.saturating_sub(*most);
                *most = objects.max(*most);
            }
            None if *all + objects <= MOST_LIVELY => {
                *all += objects;
                apps.insert(app.clone(), (Instant::now(), objects));
            }
            None => return false,
        }
        true
    }

    /// Whether it is one of them.
    pub fn has(&self, app: &AppKey) -> bool {
        self.lock().apps.contains_key(app)
    }

    /// Takes out those that nothing has happened to for so long.
    pub fn calm(&self, quiet: Duration) -> Vec<AppKey> {
        let now = Instant::now();
        let mut stirred = self.lock();
        let Stirred { apps, objects, scattered } = &mut *stirred;
        let calm = apps.extract_if(|_, (since, _)| now.duration_since(*since) >= quiet);
        let calm = calm.map(|(app, (_, most))| {
            *objects -= most;
            app
        });
        let calm: Vec<_> = calm.collect();
        *scattered += calm.len();
        if apps.is_empty() {
            apps.shrink_to_fit();
        }
        calm
    }

    /// A list of so many apps has taken the place of a cache.
    fn listed(&self, apps: usize) {
        self.lock().scattered += apps;
    }

    /// Whether what is known of so many apps is to be moved together now, which is work that grows with all of them: for
    /// as much that has changed, and when none is lively.
    pub fn gather(&self, apps: usize) -> bool {
        let mut stirred = self.lock();
        let due = stirred.apps.is_empty() && apps > 0 && stirred.scattered > apps / 4;
        if due {
            stirred.scattered = 0;
        }
        due
    }

    fn lock(&self) -> MutexGuard<'_, Stirred> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An object as it is kept.
enum Held<K> {
    /// Its app is lively.
    Live(Arc<K>),
    /// At rest.
    Packed(Packed),
}

struct Entry<K> {
    version: u64,
    /// Names what a pass looks at of it.
    matter: u64,
    held: Held<K>,
}

// Derived, it would ask for objects that can be cloned.
impl<K> Clone for Entry<K> {
    fn clone(&self) -> Self {
        let held = match &self.held {
            Held::Live(object) => Held::Live(object.clone()),
            Held::Packed(packed) => Held::Packed(packed.clone()),
        };
        Self { version: self.version, matter: self.matter, held }
    }
}

impl<K: Resource<DynamicType = ()>> Entry<K> {
    fn name(&self) -> &str {
        match &self.held {
            Held::Live(object) => object.meta().name.as_deref().unwrap_or_default(),
            Held::Packed(packed) => packed.name(),
        }
    }
}

impl<K: DeserializeOwned> Entry<K> {
    fn object(&self) -> Option<Arc<K>> {
        match &self.held {
            Held::Live(object) => Some(object.clone()),
            Held::Packed(packed) => packed.unpack().map(Arc::new),
        }
    }
}

/// Where an object's app is looked up: a hash of the object's namespace and name.
type Place = u64;

struct State<K> {
    /// The objects of each app, by name. There are few.
    by_app: HashMap<Arc<AppKey>, Box<[Entry<K>]>>,
    /// Under which app an object is kept. Nothing is lost if two of them should have one hash: only that one of them has
    /// moved to another app would not be seen.
    kept: HashMap<Place, Arc<AppKey>>,
    version: u64,
}

impl<K> State<K> {
    fn new(version: u64) -> Self {
        Self { by_app: HashMap::new(), kept: HashMap::new(), version }
    }

    fn count(&self, app: &AppKey) -> usize {
        self.by_app.get(app).map_or(0, |objects| objects.len())
    }
}

impl<K: Resource<DynamicType = ()>> State<K> {
    /// Keeps an object of an app; returns what mattered of the one of its name that was there.
    fn insert(&mut self, place: Place, app: &AppKey, entry: Entry<K>) -> Option<u64> {
        let known = self.by_app.get_key_value(app).map(|(app, _)| app.clone());
        let app = known.unwrap_or_else(|| Arc::new(app.clone()));
        self.kept.insert(place, app.clone());
        let objects = self.by_app.entry(app).or_default();
        match at(objects, entry.name()) {
            Ok(at) => Some(std::mem::replace(&mut objects[at], entry).matter),
            Err(at) => {
                let mut more = std::mem::take(objects).into_vec();
                more.reserve_exact(1);
                more.insert(at, entry);
                *objects = more.into_boxed_slice();
                None
            }
        }
    }

    /// Lets go of an object of an app; returns its version.
    fn remove(&mut self, app: &AppKey, name: &str) -> Option<u64> {
        let objects = self.by_app.get_mut(app)?;
        let at = at(objects, name).ok()?;
        let mut fewer = std::mem::take(objects).into_vec();
        let Entry { version, .. } = fewer.remove(at);
        *objects = fewer.into_boxed_slice();
        if objects.is_empty() {
            self.by_app.remove(app);
        }
        Some(version)
    }
}

/// The objects of one kind.
pub struct Cache<K> {
    belongs: Belongs,
    matter: fn(&K) -> u64,
    packer: Packer,
    lively: Arc<Lively>,
    hash: RandomState,
    state: RwLock<State<K>>,
}

/// Whom an event concerns.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Concerned {
    /// Apps of which something has changed that matters.
    pub changed: BTreeSet<AppKey>,
    /// An app of which the cache is more current now, and nothing else has changed.
    pub seen: Option<AppKey>,
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
    /// An empty cache, of whose objects everything matters.
    pub fn new(belongs: Belongs, lively: Arc<Lively>) -> Self {
        Self {
            belongs,
            matter: |object| version_of(object.meta()),
            packer: Packer::default(),
            lively,
            hash: RandomState::new(),
            state: RwLock::new(State::new(0)),
        }
    }

    /// Of whose objects only this matters: whatever else changes concerns no app.
    #[must_use]
    pub fn minding(self, matter: fn(&K) -> u64) -> Self {
        Self { matter, ..self }
    }

    /// The objects of one app, by name.
    pub fn of(&self, app: &AppKey) -> Vec<Arc<K>> {
        self.wake(app);
        let state = self.read();
        let objects = state.by_app.get(app).into_iter().flatten();
        objects.filter_map(Entry::object).collect()
    }

    /// The object of an app with this name.
    pub fn get(&self, app: &AppKey, name: &str) -> Option<Arc<K>> {
        self.wake(app);
        let state = self.read();
        let objects = state.by_app.get(app)?;
        objects[at(objects, name).ok()?].object()
    }

    /// The object of an app with this name: the one that was read before, if that is how it is known still.
    pub fn again(&self, app: &AppKey, name: &str, read: Arc<K>) -> Option<Arc<K>> {
        let state = self.read();
        let objects = state.by_app.get(app)?;
        let entry = &objects[at(objects, name).ok()?];
        if entry.version == version_of(read.meta()) { Some(read) } else { entry.object() }
    }

    /// Whether there are objects of an app.
    pub fn has(&self, app: &AppKey) -> bool {
        self.read().by_app.contains_key(app)
    }

    /// How many apps have an object here.
    pub fn count(&self) -> usize {
        self.read().by_app.len()
    }

    /// Every app with an object here.
    pub fn apps(&self) -> BTreeSet<AppKey> {
        self.read().by_app.keys().map(|app| (**app).clone()).collect()
    }

    /// Up to which version the cache is current.
    pub fn version(&self) -> u64 {
        self.read().version
    }

    /// An object on a list, or as it is since.
    pub fn add(&self, list: &mut Listed<K>, object: K) {
        self.keep(&mut list.0, object, |_, _| false);
    }

    /// An object that was on a list is not there any more.
    pub fn strike(&self, list: &mut Listed<K>, meta: &ObjectMeta) {
        self.let_go(&mut list.0, meta);
    }

    /// A list takes the place of everything. Returns the apps for which something changed.
    pub fn replace(&self, Listed(mut fresh): Listed<K>, version: u64) -> BTreeSet<AppKey> {
        fresh.version = version;
        fresh.by_app.shrink_to_fit();
        fresh.kept.shrink_to_fit();
        self.lively.listed(fresh.by_app.len());
        let mut state = self.write();
        let mut changed = BTreeSet::new();
        for app in state.by_app.keys().chain(fresh.by_app.keys()) {
            if versions(&state, app) != versions(&fresh, app) {
                changed.insert((**app).clone());
            }
        }
        *state = fresh;
        changed
    }

    /// An object was added or changed. Returns the apps concerned.
    pub fn apply(&self, object: K) -> Concerned {
        self.keep(&mut self.write(), object, |app, objects| self.lively.stir(app, objects))
    }

    /// An object was deleted, or does not match the selector any more. Returns the apps concerned.
    pub fn delete(&self, meta: &ObjectMeta) -> BTreeSet<AppKey> {
        self.let_go(&mut self.write(), meta)
    }

    /// Keeps an object; ready to be read if its app, with so many of them, is to be.
    fn keep(&self, state: &mut State<K>, object: K, ready: impl Fn(&AppKey, usize) -> bool) -> Concerned {
        let version = version_of(object.meta());
        state.version = state.version.max(version);
        let mut concerned = Concerned::default();
        let Some((place, name, app)) = self.place(object.meta()) else { return concerned };
        let before = state.kept.get(&place).filter(|before| app.as_ref() != Some(before)).cloned();
        if let Some(before) = before {
            state.kept.remove(&place);
            if state.remove(&before, &name).is_some() {
                concerned.changed.insert((*before).clone());
            }
        }
        if let Some(app) = app {
            let ready = ready(&app, state.count(&app).max(1));
            let matter = (self.matter)(&object);
            let packed = if ready { None } else { self.packed(&object) };
            let held = packed.map_or_else(|| Held::Live(Arc::new(object)), Held::Packed);
            let entry = Entry { version, matter, held };
            if state.insert(place, &app, entry) == Some(matter) {
                concerned.seen = Some(app);
            } else {
                concerned.changed.insert(app);
            }
        }
        concerned
    }

    fn let_go(&self, state: &mut State<K>, meta: &ObjectMeta) -> BTreeSet<AppKey> {
        state.version = state.version.max(version_of(meta));
        let Some((place, name, app)) = self.place(meta) else { return BTreeSet::new() };
        let kept = state.kept.remove(&place).map(|app| (*app).clone());
        let places: BTreeSet<AppKey> = kept.into_iter().chain(app).collect();
        places.into_iter().filter(|app| state.remove(app, &name).is_some()).collect()
    }

    /// Nothing has changed up to this version.
    pub fn bookmark(&self, version: u64) {
        let mut state = self.write();
        state.version = state.version.max(version);
    }

    /// Makes what is known of an app small.
    pub fn pack(&self, app: &AppKey) {
        let mut state = self.write();
        for entry in state.by_app.get_mut(app).into_iter().flatten() {
            if let Held::Live(object) = &entry.held
                && let Some(packed) = self.packed(object)
            {
                entry.held = Held::Packed(packed);
            }
        }
    }

    /// Moves all that is known together. While much happens it comes to lie between what is soon gone, whose pages it would
    /// hold. Apps are named by `names`, which all caches may share.
    pub fn compact(&self, names: &mut HashSet<Arc<AppKey>>) {
        let mut state = self.write();
        let mut fresh = State::new(state.version);
        for (app, entries) in &state.by_app {
            let app = names.get(app).cloned().unwrap_or_else(|| Arc::new((**app).clone()));
            names.insert(app.clone());
            fresh.by_app.insert(app, entries.clone());
        }
        for (place, app) in &state.kept {
            if let Some((app, _)) = fresh.by_app.get_key_value(app) {
                fresh.kept.insert(*place, app.clone());
            }
        }
        fresh.by_app.shrink_to_fit();
        fresh.kept.shrink_to_fit();
        *state = fresh;
    }

    /// Makes what is known of a lively app ready to be read, for more than once.
    fn wake(&self, app: &AppKey) {
        if !self.lively.has(app) {
            return;
        }
        let asleep = |entry: &Entry<K>| matches!(entry.held, Held::Packed(_));
        if !self.read().by_app.get(app).is_some_and(|objects| objects.iter().any(asleep)) {
            return;
        }
        let mut state = self.write();
        for entry in state.by_app.get_mut(app).into_iter().flatten() {
            if let Some(object) = entry.object() {
                entry.held = Held::Live(object);
            }
        }
    }

    fn packed(&self, object: &K) -> Option<Packed> {
        self.packer.pack(object.meta().name.as_deref()?, object)
    }

    /// Where an object is looked up, its name, and its app.
    fn place(&self, meta: &ObjectMeta) -> Option<(Place, String, Option<AppKey>)> {
        let AppKey { namespace, name } = itself(meta)?;
        let place = self.hash.hash_one((namespace, &name));
        Some((place, name, (self.belongs)(meta)))
    }

    fn read(&self) -> RwLockReadGuard<'_, State<K>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<K>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where an object of an app is, or belongs.
fn at<K: Resource<DynamicType = ()>>(objects: &[Entry<K>], name: &str) -> Result<usize, usize> {
    objects.binary_search_by(|entry| entry.name().cmp(name))
}

fn versions<'a, K: Resource<DynamicType = ()>>(state: &'a State<K>, app: &AppKey) -> Vec<(&'a str, u64)> {
    let objects = state.by_app.get(app).into_iter().flatten();
    objects.map(|entry| (entry.name(), entry.version)).collect()
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
        let cache = Cache::new(child, Arc::default());
        assert_eq!(cache.apply(object("a", "shop", 5)).changed, [key("shop")].into());
        assert_eq!(cache.apply(object("a", "shop", 5)).changed, BTreeSet::new(), "seen before");
        assert_eq!(cache.of(&key("shop")).len(), 1);
        assert_eq!(cache.version(), 5);
        assert_eq!(cache.delete(&object("a", "shop", 9).metadata), [key("shop")].into());
        assert_eq!(cache.version(), 9);
        assert!(cache.apps().is_empty());
    }

    #[test]
    fn an_object_that_changes_apps_concerns_both() {
        let cache = Cache::new(child, Arc::default());
        cache.apply(object("a", "shop", 5));
        assert_eq!(cache.apply(object("a", "blog", 6)).changed, [key("blog"), key("shop")].into());
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
        let cache = Cache::new(child, Arc::default());
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
    fn what_changes_while_a_list_is_read_is_on_it_as_it_is_last() {
        let cache = Cache::new(child, Arc::default());
        let mut list = Listed::default();
        cache.add(&mut list, object("a", "shop", 5));
        cache.add(&mut list, object("b", "shop", 6));
        cache.add(&mut list, object("c", "wiki", 7));
        cache.add(&mut list, object("a", "blog", 8));
        cache.strike(&mut list, &object("b", "shop", 9).metadata);
        cache.add(&mut list, object("c", "wiki", 10));
        assert!(cache.apps().is_empty(), "nothing counts before all is read");
        cache.replace(list, 11);
        assert_eq!(cache.apps(), [key("blog"), key("wiki")].into());
        assert_eq!(*cache.get(&key("wiki"), "c").unwrap(), object("c", "wiki", 10));
    }

    #[test]
    fn what_was_read_before_is_read_again_only_when_it_has_changed() {
        let cache = Cache::new(child, Arc::default());
        let read = |version| Arc::new(object("a", "shop", version));
        let shop = key("shop");
        assert!(cache.again(&shop, "a", read(5)).is_none(), "it is gone");
        cache.apply(object("a", "shop", 6));
        assert_eq!(*cache.again(&shop, "a", read(5)).unwrap(), object("a", "shop", 6));
        let known = read(6);
        assert!(Arc::ptr_eq(&cache.again(&shop, "a", known.clone()).unwrap(), &known));
    }

    #[test]
    fn what_is_at_rest_is_packed_and_reads_the_same() {
        let lively = Arc::<Lively>::default();
        let cache = Cache::new(child, lively.clone());
        let other = Cache::new(child, lively.clone());
        cache.apply(object("a", "shop", 5));
        cache.apply(object("b", "shop", 6));
        let live = |cache: &Cache<ConfigMap>| {
            let state = cache.read();
            state.by_app[&key("shop")].iter().filter(|entry| matches!(entry.held, Held::Live(_))).count()
        };
        assert_eq!(lively.calm(Duration::from_hours(1)), [], "not yet");
        assert_eq!(lively.calm(Duration::ZERO), [key("shop")]);
        assert_eq!(lively.calm(Duration::ZERO), []);
        cache.pack(&key("shop"));
        assert_eq!(live(&cache), 0);
        let mut names = HashSet::new();
        cache.compact(&mut names);
        other.compact(&mut names);
        assert_eq!(names.len(), 1);
        assert_eq!(*cache.get(&key("shop"), "a").unwrap(), object("a", "shop", 5));
        assert_eq!((cache.of(&key("shop")).len(), live(&cache)), (2, 0), "read once, it stays packed");
        // something happens to another child of the app
        other.apply(object("c", "shop", 9));
        assert_eq!((cache.of(&key("shop")).len(), live(&cache)), (2, 2));
        cache.pack(&key("shop"));
        assert_eq!(
            cache.apply(object("a", "shop", 5)).changed,
            BTreeSet::new(),
            "its version is still known"
        );
        assert_eq!(cache.apply(object("a", "shop", 7)).changed, [key("shop")].into());
        assert_eq!((live(&cache), cache.of(&key("shop")).len()), (1, 2));
    }

    #[test]
    fn all_is_moved_together_when_a_quarter_lies_elsewhere_and_none_is_lively() {
        let lively = Arc::<Lively>::default();
        let cache = Cache::new(child, lively.clone());
        let apps = ["one", "two", "three", "four", "five"];
        let mut list = Listed::default();
        for app in apps {
            cache.add(&mut list, object("a", app, 5));
        }
        cache.replace(list, 5);
        assert!(!lively.gather(0), "of nothing");
        cache.apply(object("a", "one", 6));
        assert!(!lively.gather(apps.len()), "one is lively");
        lively.calm(Duration::ZERO);
        assert!(lively.gather(apps.len()), "all have been listed");
        assert!(!lively.gather(apps.len()), "once");
        for (app, version) in [("one", 7), ("two", 8)] {
            assert!(!lively.gather(apps.len()), "one of five is not enough");
            cache.apply(object("a", app, version));
            lively.calm(Duration::ZERO);
        }
        assert!(lively.gather(apps.len()), "two of five have come to rest");
    }

    #[test]
    fn so_many_apps_are_kept_ready_and_no_more() {
        let cache = Cache::new(child, Arc::default());
        let app = |number: usize| format!("shop-{number}");
        for number in 0..=MOST_LIVELY {
            cache.apply(object(&format!("a-{number}"), &app(number), 5));
        }
        for number in 0..=MOST_LIVELY {
            cache.apply(object(&format!("b-{number}"), &app(number), 6));
        }
        let live = |number: usize| {
            let state = cache.read();
            let objects = &state.by_app[&key(&app(number))];
            objects.iter().filter(|entry| matches!(entry.held, Held::Live(_))).count()
        };
        assert_eq!((live(0), live(1), live(MOST_LIVELY)), (2, 2, 0));
        assert_eq!(cache.of(&key(&app(MOST_LIVELY))).len(), 2);
        assert_eq!(live(MOST_LIVELY), 0);
    }

    #[test]
    fn what_does_not_matter_is_kept_and_concerns_nobody() {
        let cache =
            Cache::new(child, Arc::default()).minding(|object: &ConfigMap| but_status(&object.metadata));
        assert_eq!(cache.apply(object("a", "shop", 5)).changed, [key("shop")].into());
        let seen = Concerned { changed: BTreeSet::new(), seen: Some(key("shop")) };
        assert_eq!(cache.apply(object("a", "shop", 6)), seen);
        assert_eq!(cache.get(&key("shop"), "a").unwrap().metadata.resource_version.as_deref(), Some("6"));
        assert_eq!(cache.version(), 6);
        let mut changed = object("a", "shop", 7);
        changed.metadata.annotations = Some([("by".to_owned(), "hand".to_owned())].into());
        assert_eq!(cache.apply(changed).changed, [key("shop")].into());
        assert_eq!(cache.delete(&object("a", "shop", 9).metadata), [key("shop")].into());
    }

    #[test]
    fn bookmarks_move_the_version_on_and_never_back() {
        let cache = Cache::<ConfigMap>::new(child, Arc::default());
        cache.bookmark(20);
        cache.bookmark(10);
        assert_eq!(cache.version(), 20);
    }
}
