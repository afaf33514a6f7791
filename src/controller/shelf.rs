//! A cache as a watch fills it: with the texts of objects, whatever their kind.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    cache::{AppKey, Cache, Concerned, Listed},
    guarded::{Invalid, Read, Sent},
    kind::Kind,
};

/// Annotation in which `kubectl apply` keeps all that it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What comes of an object, unless it cannot be read. An error when not even its metadata can be.
pub type Taken<T> = serde_json::Result<Result<T, Box<Invalid>>>;

/// Where a watch puts what it is told.
pub trait Shelf: Send + Sync {
    /// Of which kind it is.
    fn kind(&self) -> Kind;

    /// Begins a list, which takes the place of everything once it is done.
    fn list(&self) -> Box<dyn Listing>;

    /// An object was added or changed: its version, and whom it concerns.
    fn apply(&self, object: &Sent) -> Taken<(Option<String>, Concerned)>;

    /// One was deleted, is not watched any more, or cannot be read. Whom that concerns.
    fn delete(&self, meta: &ObjectMeta) -> BTreeSet<AppKey>;

    /// Nothing has changed up to this version.
    fn bookmark(&self, version: u64);
}

/// A list that is being read.
pub trait Listing: Send {
    /// An object is on it, or has changed since.
    fn add(&mut self, object: &Sent) -> Taken<()>;

    /// One that was on it is not there any more, or cannot be read.
    fn strike(&mut self, meta: &ObjectMeta);

    /// All that there is in this version is on it. Whom that concerns.
    fn done(self: Box<Self>, version: u64) -> BTreeSet<AppKey>;
}

/// A cache, and how its objects are read.
pub struct Reader<K> {
    /// Where they are kept.
    pub cache: Arc<Cache<K>>,
    /// Reads what is needed of them.
    pub read: Read<K>,
}

/// A list of its objects that is being read.
struct Begun<K> {
    reader: Reader<K>,
    list: Listed<K>,
}

// Derived, it would ask for objects that can be cloned.
impl<K> Clone for Reader<K> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), read: self.read }
    }
}

impl<K: Resource<DynamicType = ()>> Reader<K> {
    /// The object, without what is read nowhere.
    fn object(&self, sent: &Sent) -> Taken<K> {
        let mut object = sent.read(self.read)?;
        if let Ok(object) = &mut object {
            let meta = object.meta_mut();
            meta.managed_fields = None;
            if let Some(annotations) = meta.annotations.as_mut() {
                annotations.remove(LAST_APPLIED);
            }
        }
        Ok(object)
    }
}

impl<K> Shelf for Reader<K>
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn kind(&self) -> Kind {
        Kind::of::<K>()
    }

    fn list(&self) -> Box<dyn Listing> {
        Box::new(Begun { reader: self.clone(), list: Listed::default() })
    }

    fn apply(&self, object: &Sent) -> Taken<(Option<String>, Concerned)> {
        Ok(self.object(object)?.map(|object| {
            let version = object.meta().resource_version.clone();
            (version, self.cache.apply(object))
        }))
    }

    fn delete(&self, meta: &ObjectMeta) -> BTreeSet<AppKey> {
        self.cache.delete(meta)
    }

    fn bookmark(&self, version: u64) {
        self.cache.bookmark(version);
    }
}

impl<K> Listing for Begun<K>
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn add(&mut self, object: &Sent) -> Taken<()> {
        let Self { reader, list } = self;
        Ok(reader.object(object)?.map(|object| reader.cache.add(list, object)))
    }

    fn strike(&mut self, meta: &ObjectMeta) {
        self.reader.cache.strike(&mut self.list, meta);
    }

    fn done(self: Box<Self>, version: u64) -> BTreeSet<AppKey> {
        let Self { reader, list } = *self;
        reader.cache.replace(list, version)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;
    use crate::controller::{cache::child, lean::whole};

    fn sent(text: &str) -> Sent {
        serde_json::from_str(text).unwrap()
    }

    fn object(name: &str, version: u64, rest: &str) -> Sent {
        sent(&format!(
            r#"{{"metadata": {{"name": "{name}", "namespace": "prod", "uid": "{name}", "resourceVersion": "{version}",
                "labels": {{"phoenix-operator.dev/app": "shop-{name}"}}}}{rest}}}"#
        ))
    }

    fn key(name: &str) -> AppKey {
        AppKey { namespace: "prod".to_owned(), name: format!("shop-{name}") }
    }

    fn reader() -> Reader<ConfigMap> {
        Reader { cache: Arc::new(Cache::new(child, Arc::default())), read: whole }
    }

    #[test]
    fn of_an_object_is_kept_what_is_read_somewhere() {
        let shelf = reader();
        let text = r#"{"metadata": {"name": "a", "namespace": "prod", "resourceVersion": "5",
            "labels": {"phoenix-operator.dev/app": "shop-a"}, "managedFields": [{"manager": "kubectl"}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "by": "hand"}}}"#;
        let (version, concerned) = shelf.apply(&sent(text)).unwrap().unwrap();
        assert_eq!((version.as_deref(), concerned.changed), (Some("5"), [key("a")].into()));
        let meta = &shelf.cache.get(&key("a"), "a").unwrap().metadata;
        assert_eq!(meta.managed_fields, None);
        assert_eq!(meta.annotations, Some([("by".to_owned(), "hand".to_owned())].into()));
    }

    #[test]
    fn one_that_cannot_be_read_leaves_what_is_kept() {
        let shelf = reader();
        shelf.apply(&object("a", 5, "")).unwrap().unwrap();
        let invalid = shelf.apply(&object("a", 6, r#", "data": {"k": 1}"#)).unwrap().unwrap_err();
        assert_eq!(invalid.metadata.resource_version.as_deref(), Some("6"));
        assert_eq!((shelf.cache.apps(), shelf.cache.version()), ([key("a")].into(), 5));
        assert!(shelf.apply(&sent(r#"{"metadata": 5}"#)).is_err());
        assert!(shelf.list().add(&sent(r#"{"metadata": 5}"#)).is_err());
    }

    #[test]
    fn a_list_counts_once_it_is_done() {
        let shelf = reader();
        shelf.apply(&object("a", 5, "")).unwrap().unwrap();
        let mut list = shelf.list();
        list.add(&object("b", 7, "")).unwrap().unwrap();
        drop(list);
        assert_eq!((shelf.cache.apps(), shelf.cache.version()), ([key("a")].into(), 5));
        let mut list = shelf.list();
        list.add(&object("a", 5, "")).unwrap().unwrap();
        list.add(&object("b", 7, "")).unwrap().unwrap();
        let invalid = list.add(&object("a", 8, r#", "data": {"k": 1}"#)).unwrap().unwrap_err();
        list.strike(&invalid.metadata);
        assert_eq!(list.done(9), [key("a"), key("b")].into());
        assert_eq!((shelf.cache.apps(), shelf.cache.version()), ([key("b")].into(), 9));
    }
}
