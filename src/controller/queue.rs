//! Which app is to be reconciled next: each at most once at a time, in order of when it is due.
//!
//! Pure: the driver hands in the instants.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    time::Instant,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    /// When it is due; none while nothing is asked for.
    due: Option<Instant>,
    running: bool,
}

/// Apps and when they are due.
#[derive(Debug)]
pub struct Queue<K> {
    entries: HashMap<K, Entry>,
    /// What was due when [`Queue::pop`] last looked, in the order in which it is taken.
    ready: BTreeSet<(Instant, K)>,
    later: BTreeSet<(Instant, K)>,
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    /// An empty queue.
    pub fn new() -> Self {
        Self { entries: HashMap::new(), ready: BTreeSet::new(), later: BTreeSet::new() }
    }

    /// Asks for `key` at `at`, or earlier if that was asked for already. While it runs, it is taken again afterwards.
    pub fn add(&mut self, key: K, at: Instant) {
        let new = Entry { due: None, running: false };
        let entry = self.entries.entry(key.clone()).or_insert(new);
        if let Some(due) = entry.due {
            if due <= at {
                return;
            }
            if !self.ready.remove(&(due, key.clone())) {
                self.later.remove(&(due, key.clone()));
            }
        }
        entry.due = Some(at);
        if !entry.running {
            self.later.insert((at, key));
        }
    }

    /// Takes the next that is due.
    pub fn pop(&mut self, now: Instant) -> Option<K> {
        while let Some(due) = self.later.first()
            && due.0 <= now
        {
            self.ready.extend(self.later.pop_first());
        }
        let (_, key) = self.ready.pop_first()?;
        self.entries.insert(key.clone(), Entry { due: None, running: true });
        Some(key)
    }

    /// It has been reconciled.
    pub fn done(&mut self, key: &K) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.running = false;
        match entry.due {
            Some(at) => {
                self.later.insert((at, key.clone()));
            }
            None => {
                self.entries.remove(key);
            }
        }
    }

    /// When the next is due of those that were not when [`Queue::pop`] last looked.
    pub fn next_due(&self) -> Option<Instant> {
        self.later.first().map(|(at, _)| *at)
    }

    /// How many were due and not running when [`Queue::pop`] last looked.
    pub fn depth(&self) -> usize {
        self.ready.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn asked_for_twice_is_taken_once() {
        let now = Instant::now();
        let mut queue = Queue::new();
        queue.add("a", now);
        queue.add("a", now);
        queue.add("b", now);
        assert_eq!(queue.pop(now), Some("a"));
        assert_eq!(queue.depth(), 1);
        assert_eq!(queue.pop(now), Some("b"));
        assert_eq!(queue.pop(now), None);
    }

    #[test]
    fn what_runs_is_not_taken_again_until_it_is_done() {
        let now = Instant::now();
        let mut queue = Queue::new();
        queue.add("a", now);
        assert_eq!(queue.pop(now), Some("a"));
        queue.add("a", now);
        assert_eq!(queue.pop(now), None);
        queue.done(&"a");
        assert_eq!(queue.pop(now), Some("a"));
        queue.done(&"a");
        assert_eq!(queue.pop(now), None);
        assert!(queue.entries.is_empty());
    }

    #[test]
    fn the_earlier_time_wins() {
        let now = Instant::now();
        let later = now + Duration::from_secs(10);
        let mut queue = Queue::new();
        queue.add("a", later);
        assert_eq!(queue.pop(now), None);
        assert_eq!(queue.next_due(), Some(later));
        queue.add("a", now);
        queue.add("a", later);
        assert_eq!(queue.pop(now), Some("a"));
        queue.done(&"a");
        assert_eq!(queue.next_due(), None, "the later time was replaced");
    }

    #[test]
    fn what_is_ready_may_be_asked_for_earlier() {
        let before = Instant::now();
        let now = before + Duration::from_secs(1);
        let mut queue = Queue::new();
        queue.add("a", now);
        queue.add("b", now);
        assert_eq!(queue.pop(now), Some("a"));
        assert_eq!((queue.next_due(), queue.depth()), (None, 1));
        queue.add("b", before);
        assert_eq!(queue.pop(now), Some("b"));
        assert_eq!(queue.pop(now), None, "it was asked for once");
    }
}
