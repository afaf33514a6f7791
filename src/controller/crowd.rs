//! How many rollouts are begun at once.
//!
//! Where many apps change at the same time, all of them share one API server, one scheduler and the controllers of
//! Kubernetes. Once these are busy, one more rollout under way only makes every other take longer, and each costs more:
//! what it waits for is seen bit by bit, and told bit by bit. So the first are let through while the others wait.
//!
//! Pure: the driver hands in the instants, and knows whether the API server is slow.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    hash::Hash,
    time::{Duration, Instant},
};

/// So many rollouts may always be under way.
const ROOM: usize = 32;
/// One of which nothing has been heard for so long waits for its pods, or for a person, and takes no room.
const STILL: Duration = Duration::from_secs(10);
/// No rollout is held back for longer.
const PATIENCE: Duration = Duration::from_mins(5);

/// Keys by the instant that each was last given.
#[derive(Debug)]
struct Line<K> {
    at: HashMap<K, Instant>,
    order: BTreeSet<(Instant, K)>,
}

impl<K: Clone + Eq + Hash + Ord> Line<K> {
    fn new() -> Self {
        Self { at: HashMap::new(), order: BTreeSet::new() }
    }

    fn put(&mut self, key: &K, at: Instant) {
        self.take(key);
        self.at.insert(key.clone(), at);
        self.order.insert((at, key.clone()));
    }

    /// False: it was not there.
    fn take(&mut self, key: &K) -> bool {
        let Some((key, at)) = self.at.remove_entry(key) else { return false };
        self.order.remove(&(at, key));
        if self.at.is_empty() {
            self.at.shrink_to_fit();
        }
        true
    }
}

/// The rollouts under way, and those that are held back.
#[derive(Debug)]
pub struct Crowd<K> {
    /// When something of each was last done.
    under_way: Line<K>,
    /// Since when each is held back.
    held: Line<K>,
    /// Those that may begin, and have not yet.
    let_in: HashSet<K>,
}

impl<K: Clone + Eq + Hash + Ord> Crowd<K> {
    /// Nobody.
    pub fn new() -> Self {
        Self { under_way: Line::new(), held: Line::new(), let_in: HashSet::new() }
    }

    /// Whether a rollout may begin now, while the API server is slow. It is held back otherwise, until it is named by
    /// [`Crowd::next`] or [`Crowd::any`]; news of one that is held back lets it begin, as something else may be wrong with
    /// the app.
    pub fn admits(&mut self, key: &K, now: Instant) -> bool {
        let named = self.held.take(key) || self.let_in.remove(key);
        if named || self.goes_on(key) || self.has_room(now) {
            self.under_way.put(key, now);
            return true;
        }
        self.held.put(key, now);
        false
    }

    /// Whether it is under way.
    pub fn goes_on(&self, key: &K) -> bool {
        self.under_way.at.contains_key(key)
    }

    /// Whether it is held back.
    pub fn holds(&self, key: &K) -> bool {
        self.held.at.contains_key(key)
    }

    /// Something is done for it: there is nothing to hold back.
    pub fn begun(&mut self, key: &K) {
        self.held.take(key);
        self.let_in.remove(key);
    }

    /// Something was done for an app whose rollout goes on, or does not any more.
    pub fn passed(&mut self, key: &K, moving: bool, now: Instant) {
        if moving {
            self.under_way.put(key, now);
        } else {
            self.under_way.take(key);
        }
    }

    /// The app is gone.
    pub fn forget(&mut self, key: &K) {
        self.under_way.take(key);
        self.begun(key);
    }

    /// The next that may begin while the API server is slow.
    pub fn next(&mut self, now: Instant) -> Option<K> {
        let (since, _) = self.held.order.first()?;
        let patient = now < *since + PATIENCE;
        if patient && !self.has_room(now) { None } else { self.any(now) }
    }

    /// The one that has been held back for longest, counted as under way from now on.
    pub fn any(&mut self, now: Instant) -> Option<K> {
        let (_, key) = self.held.order.first()?.clone();
        self.held.take(&key);
        self.let_in.insert(key.clone());
        self.under_way.put(&key, now);
        Some(key)
    }

    /// When time alone lets the next begin.
    pub fn next_due(&self) -> Option<Instant> {
        let (since, _) = self.held.order.first()?;
        let above = self.under_way.order.len().saturating_sub(ROOM);
        let room = self.under_way.order.iter().nth(above).map(|(at, _)| *at + STILL);
        Some(room.map_or(*since, |room| room.min(*since + PATIENCE)))
    }

    /// How many are held back.
    pub fn held(&self) -> usize {
        self.held.at.len()
    }

    fn has_room(&mut self, now: Instant) -> bool {
        let is_still = |(at, _): &&(Instant, K)| now.saturating_duration_since(*at) >= STILL;
        while let Some((_, key)) = self.under_way.order.first().filter(is_still).cloned() {
            self.under_way.take(&key);
        }
        self.under_way.at.len() < ROOM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A full house.
    fn full(now: Instant) -> Crowd<usize> {
        let mut crowd = Crowd::new();
        assert!((0..ROOM).all(|key| crowd.admits(&key, now)));
        crowd
    }

    #[test]
    fn whoever_comes_late_waits_until_another_is_through() {
        let now = Instant::now();
        let mut crowd = full(now);
        assert!(!crowd.admits(&100, now) && !crowd.admits(&101, now + STILL / 10));
        assert!(crowd.admits(&3, now), "what is under way goes on");
        assert_eq!((crowd.next(now), crowd.held()), (None, 2));
        crowd.passed(&7, false, now);
        assert_eq!(crowd.next(now), Some(100), "first come, first served");
        assert!(crowd.admits(&100, now), "it was let in");
        assert_eq!(crowd.next(now), None);
        assert_eq!(crowd.any(now), Some(101), "the API server has recovered");
    }

    #[test]
    fn what_stands_still_takes_no_room() {
        let now = Instant::now();
        let mut crowd = full(now);
        assert!(!crowd.admits(&100, now));
        for key in 1..ROOM {
            crowd.passed(&key, true, now + STILL / 2);
        }
        assert_eq!(crowd.next_due(), Some(now + STILL));
        assert_eq!(crowd.next(now + STILL), Some(100));
        // one of them goes on
        crowd.passed(&0, true, now + STILL);
        assert!(!crowd.admits(&101, now + STILL));
        assert_eq!(crowd.next_due(), Some(now + STILL / 2 + STILL), "there is one too many");
    }

    #[test]
    fn nobody_waits_for_ever_nor_when_there_is_news() {
        let now = Instant::now();
        let mut crowd = full(now);
        assert!(!crowd.admits(&100, now) && !crowd.admits(&101, now) && !crowd.admits(&102, now));
        assert!(crowd.admits(&101, now), "there is news of it");
        let (soon, late) = (now + PATIENCE / 2, now + PATIENCE);
        for key in 0..2 * ROOM {
            crowd.passed(&key, true, late);
        }
        assert_eq!(crowd.next_due(), Some(late));
        assert_eq!(crowd.next(soon), None);
        assert_eq!(crowd.next(late), Some(100));
        crowd.passed(&200, true, late + STILL);
        assert!(crowd.admits(&100, late + STILL), "it was named, however long ago");
        crowd.forget(&102);
        assert_eq!((crowd.next(late), crowd.next_due(), crowd.held()), (None, None, 0));
    }
}
