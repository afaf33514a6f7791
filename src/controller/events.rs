//! Events of `events.k8s.io/v1`, through one recorder that counts repetitions instead of repeating them.
//!
//! `kube::runtime::events::Recorder` takes two events with one reason for the same, and so would lose the note of the
//! second (its key leaves the note out); and it writes past our [`Writer`].

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event as ApiEvent, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use serde_json::json;

use super::writer::{MANAGER, Writer};
use crate::plan::{Event, EventKind};

/// After this long without repetition an event is a new one, as in client-go's event series.
const SERIES: SignedDuration = SignedDuration::from_mins(6);
/// Longest note the API server takes, in bytes.
const LONGEST_NOTE: usize = 1024;

/// An event that was published, by a hash of what it says about what.
type Key = u64;

#[derive(Debug)]
struct Seen {
    name: Box<str>,
    count: i32,
    at: Timestamp,
}

impl Seen {
    fn lasts(&self, now: Timestamp) -> bool {
        self.at.duration_until(now) < SERIES
    }
}

/// Publishes events.
pub struct Recorder {
    writer: Arc<Writer>,
    instance: String,
    number: AtomicU64,
    hash: RandomState,
    seen: Mutex<HashMap<Key, Seen>>,
}

impl Recorder {
    /// A recorder; `instance` names this process.
    pub fn new(writer: Arc<Writer>, instance: String) -> Self {
        let (number, hash, seen) = (AtomicU64::new(0), RandomState::new(), Mutex::default());
        Self { writer, instance, number, hash, seen }
    }

    /// Publishes an event about an object. That it cannot be published is logged and no failure of anything.
    pub async fn publish(&self, about: &ObjectReference, event: &Event) {
        let now = Timestamp::now();
        let namespace = about.namespace.as_deref().unwrap_or_default();
        let note = cut(&event.note, LONGEST_NOTE);
        let key = self.hash.hash_one((&about.uid, event.reason, note));
        let result = if let Some((name, count)) = self.again(key, now) {
            let patch = json!({"series": {"count": count, "lastObservedTime": MicroTime(now)}});
            self.writer.republish::<ApiEvent>(namespace, &name, &patch).await
        } else {
            let object = self.object(about, event, note, now);
            let result = self.writer.publish(namespace, &object).await;
            if result.is_ok() {
                let name = object.metadata.name.unwrap_or_default().into_boxed_str();
                self.seen().insert(key, Seen { name, count: 1, at: now });
            }
            result
        };
        if let Err(error) = result {
            tracing::warn!(reason = event.reason, %error, "an event was not published");
        }
    }

    /// The name of an event that is published again, and how often it was.
    fn again(&self, key: Key, now: Timestamp) -> Option<(Box<str>, i32)> {
        let mut seen = self.seen();
        let known = seen.get_mut(&key).filter(|known| known.lasts(now))?;
        known.count += 1;
        known.at = now;
        Some((known.name.clone(), known.count))
    }

    /// Forgets what was published long ago.
    pub fn rest(&self) {
        let now = Timestamp::now();
        let mut seen = self.seen();
        seen.retain(|_, seen| seen.lasts(now));
        if seen.capacity() > 4 * seen.len() {
            seen.shrink_to_fit();
        }
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<Key, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, about: &ObjectReference, event: &Event, note: &str, now: Timestamp) -> ApiEvent {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let name = about.name.as_deref().unwrap_or_default();
        ApiEvent {
            metadata: ObjectMeta {
                namespace: about.namespace.clone(),
                name: Some(format!("{name}.{:x}.{number:x}", now.as_nanosecond())),
                ..ObjectMeta::default()
            },
            action: Some("Reconcile".to_owned()),
            event_time: Some(MicroTime(now)),
            note: Some(note.to_owned()),
            reason: Some(event.reason.to_owned()),
            regarding: Some(about.clone()),
            reporting_controller: Some(MANAGER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            series: None::<EventSeries>,
            type_: Some(
                match event.kind {
                    EventKind::Normal => "Normal",
                    EventKind::Warning => "Warning",
                }
                .to_owned(),
            ),
            ..ApiEvent::default()
        }
    }
}

/// At most so many bytes of a text, cut between characters.
pub fn cut(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let end = (0..=bytes).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

/// The last so many bytes of a text, cut between characters.
pub fn tail(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let start = (text.len() - bytes..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("aéb", 2), "a");
        assert_eq!(tail("aéb", 2), "b");
        assert_eq!(tail("aéb", 3), "éb");
        assert_eq!(tail("aéb", 4), "aéb");
    }
}
