//! What is remembered of an app between passes. Nothing of it is needed: a restart forgets it, and it is found again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;

use super::{
    cache::AppKey,
    drift::{Persisting, Which},
};
use crate::plan::{Fault, Write};

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
    /// UIDs of killed pods that were told of.
    pub killed: BTreeSet<String>,
    /// When the status was last written.
    pub reported: Option<Timestamp>,
}

impl Remembered {
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

/// What is remembered of all apps.
#[derive(Debug, Default)]
pub struct Memory(Mutex<HashMap<AppKey, Remembered>>);

impl Memory {
    /// Of one app. A fault met at another generation does not count: the spec may have cured it.
    pub fn of(&self, app: &AppKey, generation: i64) -> Remembered {
        let mut known = self.with(|memory| memory.get(app).cloned()).unwrap_or_default();
        if known.generation != generation {
            known.fault = None;
            known.edge.clear();
        }
        Remembered { generation, ..known }
    }

    /// Remembers.
    pub fn keep(&self, app: &AppKey, remembered: Remembered) {
        self.with(|memory| memory.insert(app.clone(), remembered));
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
