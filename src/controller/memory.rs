//! What is remembered of an app between passes. Nothing of it is needed: a restart forgets it, and it is found again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use jiff::Timestamp;

use super::{
    cache::AppKey,
    drift::{Persisting, Which},
    snapshot::Snapshot,
};
use crate::{
    api::{Invalid, PhoenixApp, RevisionName, ValidatedApp},
    build::Revision,
    plan::{Fault, Write},
};

/// What is remembered of one app.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    /// The generation it was learnt at.
    generation: i64,
    /// What stood in the way last time.
    pub fault: Option<Fault>,
    /// Writes to the Ingress and the HTTPRoute that were refused.
    pub edge: Vec<(Write, Fault)>,
    /// Differences that our own apply left.
    pub drifts: BTreeMap<Which, Persisting>,
    /// What was compared with what is wanted, and did not differ.
    pub same: BTreeSet<u64>,
    /// UIDs of killed pods that were told of.
    pub killed: BTreeSet<String>,
    /// What was made of the app and of its stored revisions.
    pub memo: Memo,
    /// When the last pass began.
    pub begun: Option<Instant>,
    /// A rollout was under way at its end.
    pub moving: bool,
    /// When the status was last written.
    pub reported: Option<Timestamp>,
}

impl Remembered {
    /// Lets what was refused be tried again now.
    pub fn forgive(&mut self) {
        self.fault = None;
        self.edge.clear();
    }

    /// Learns which differences an apply left, and which it removed.
    pub fn take_drifts(&mut self, applied: BTreeMap<Which, Option<Persisting>>) {
        for (which, persisting) in applied {
            match persisting {
                Some(persisting) => self.drifts.insert(which, persisting),
                None => self.drifts.remove(&which),
            };
        }
    }
}

/// What was made of objects that have not changed since. It is large, and so kept only as long as something happens to
/// the app.
#[derive(Clone, Debug, Default)]
pub struct Memo {
    valid: Option<(Spec, Arc<ValidatedApp>)>,
    stored: Option<Arc<Stored>>,
}

/// All of an app that its validated form is made of, but for the version it was read in.
type Spec = (Option<String>, Option<i64>, bool, Option<String>);

/// The stored revisions of an app.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The UIDs of all their objects, whose data never change.
    pub uids: Vec<String>,
    /// Those that can be read.
    pub revisions: BTreeMap<RevisionName, Revision>,
    /// A sentence for each that cannot.
    pub unreadable: Vec<String>,
}

impl Memo {
    /// The app, validated.
    pub fn valid(&mut self, app: &PhoenixApp) -> Result<Arc<ValidatedApp>, Vec<Invalid>> {
        let meta = &app.metadata;
        let leaving = meta.deletion_timestamp.is_some();
        let spec: Spec = (meta.uid.clone(), meta.generation, leaving, app.command().cloned());
        if let Some((known, valid)) = &self.valid
            && *known == spec
        {
            return Ok(valid.clone());
        }
        let valid = Arc::new(ValidatedApp::try_from(app)?);
        self.valid = Some((spec, valid.clone()));
        Ok(valid)
    }

    /// The stored revisions.
    pub fn stored(&mut self, snapshot: &Snapshot) -> Arc<Stored> {
        let owned = snapshot.revisions.iter().filter(|object| snapshot.owns(&object.metadata));
        let uids = owned.map(|object| object.metadata.uid.as_deref().unwrap_or_default());
        if let Some(stored) = self.stored.as_ref().filter(|stored| uids.clone().eq(&stored.uids)) {
            return stored.clone();
        }
        let uids = uids.map(str::to_owned).collect();
        let (revisions, unreadable) = snapshot.stored();
        let stored = Arc::new(Stored { uids, revisions, unreadable });
        self.stored = Some(stored.clone());
        stored
    }
}

/// What is remembered of all apps.
#[derive(Debug, Default)]
pub struct Memory(Mutex<HashMap<AppKey, Remembered>>);

impl Memory {
    /// Of one app. A fault met at another generation does not count: the spec may have cured it.
    pub fn of(&self, app: &AppKey, generation: i64) -> Remembered {
        let mut known = self.with(|memory| memory.get(app).cloned()).unwrap_or_default();
        if known.generation != generation {
            known.forgive();
        }
        Remembered { generation, ..known }
    }

    /// When the last pass over an app began.
    pub fn begun(&self, app: &AppKey) -> Option<Instant> {
        self.with(|memory| memory.get(app)?.begun)
    }

    /// Whether a rollout was under way at the end of the last pass.
    pub fn moving(&self, app: &AppKey) -> bool {
        self.with(|memory| memory.get(app).is_some_and(|known| known.moving))
    }

    /// Remembers.
    pub fn keep(&self, app: &AppKey, remembered: Remembered) {
        self.with(|memory| memory.insert(app.clone(), remembered));
    }

    /// Nothing has happened to it for a while.
    pub fn rest(&self, app: &AppKey) {
        self.with(|memory| memory.get_mut(app).map(|known| known.memo = Memo::default()));
    }

    /// The app is gone.
    pub fn forget(&self, app: &AppKey) {
        self.with(|memory| memory.remove(app));
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<AppKey, Remembered>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_lasts_until_the_spec_changes() {
        let memory = Memory::default();
        let app = AppKey { namespace: "prod".to_owned(), name: "shop".to_owned() };
        let fault = Some(Fault { reason: "Invalid".to_owned(), message: "no".to_owned() });
        memory.keep(&app, Remembered { fault: fault.clone(), ..memory.of(&app, 1) });
        assert_eq!(memory.of(&app, 1).fault, fault);
        assert_eq!(memory.of(&app, 2).fault, None);
        memory.forget(&app);
        assert_eq!(memory.of(&app, 1).fault, None);
    }
}
