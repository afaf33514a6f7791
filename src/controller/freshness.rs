//! Never act on a cache older than what was last written.
//!
//! A write answers with the `resourceVersion` it made. Until the cache of that kind is current up to it, the app is
//! not reconciled (as in KEP-5647). Deleted objects count as terminating until they are seen gone.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{cache::AppKey, kind::Kind};

/// What was written and may not have come back yet, per app.
#[derive(Debug, Default)]
pub struct Freshness {
    written: HashMap<AppKey, BTreeMap<Kind, u64>>,
    deleted: HashMap<AppKey, BTreeSet<String>>,
}

impl Freshness {
    /// A write made this version.
    pub fn wrote(&mut self, app: &AppKey, kind: Kind, version: u64) {
        let newest = self.written.entry(app.clone()).or_default().entry(kind).or_default();
        *newest = version.max(*newest);
    }

    /// An object with this UID was deleted.
    pub fn deleted(&mut self, app: &AppKey, uid: &str) {
        self.deleted.entry(app.clone()).or_default().insert(uid.to_owned());
    }

    /// The kind whose cache has yet to catch up with a write for this app. `current` tells up to which version the
    /// cache of a kind is current.
    pub fn behind(&mut self, app: &AppKey, current: impl Fn(Kind) -> u64) -> Option<Kind> {
        let written = self.written.get_mut(app)?;
        written.retain(|kind, version| current(*kind) < *version);
        let behind = written.keys().next().copied();
        if behind.is_none() {
            self.written.remove(app);
        }
        behind
    }

    /// The UIDs of deleted objects that are still seen; the others are forgotten.
    pub fn going(&mut self, app: &AppKey, seen: &BTreeSet<String>) -> BTreeSet<String> {
        let Some(deleted) = self.deleted.get_mut(app) else { return BTreeSet::new() };
        deleted.retain(|uid| seen.contains(uid));
        let going = deleted.clone();
        if going.is_empty() {
            self.deleted.remove(app);
        }
        going
    }

    /// The app is gone.
    pub fn forget(&mut self, app: &AppKey) {
        self.written.remove(app);
        self.deleted.remove(app);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> AppKey {
        AppKey { namespace: "prod".to_owned(), name: "shop".to_owned() }
    }

    #[test]
    fn a_cache_is_behind_until_it_has_seen_the_newest_write() {
        let mut freshness = Freshness::default();
        assert_eq!(freshness.behind(&key(), |_| 0), None);
        freshness.wrote(&key(), Kind::Deployment, 7);
        freshness.wrote(&key(), Kind::Deployment, 9);
        freshness.wrote(&key(), Kind::Deployment, 8);
        assert_eq!(freshness.behind(&key(), |_| 8), Some(Kind::Deployment));
        assert_eq!(freshness.behind(&key(), |_| 10), None);
        assert_eq!(freshness.behind(&key(), |_| 0), None, "what was caught up with is forgotten");
    }

    #[test]
    fn versions_are_compared_within_a_kind() {
        let mut freshness = Freshness::default();
        freshness.wrote(&key(), Kind::Job, 100);
        let current = |kind| if kind == Kind::Job { 99 } else { 1000 };
        assert_eq!(freshness.behind(&key(), current), Some(Kind::Job));
    }

    #[test]
    fn a_deleted_object_is_going_until_seen_gone() {
        let mut freshness = Freshness::default();
        freshness.deleted(&key(), "u1");
        let seen: BTreeSet<String> = ["u1".to_owned(), "u2".to_owned()].into();
        assert_eq!(freshness.going(&key(), &seen), ["u1".to_owned()].into());
        assert_eq!(freshness.going(&key(), &["u2".to_owned()].into()), BTreeSet::new());
        assert_eq!(freshness.going(&key(), &seen), BTreeSet::new(), "a UID is never used again");
    }
}
