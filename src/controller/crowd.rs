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
/// Where none has begun for so long one does, however many are under way: those may never come to an end. Were all let in
/// that have waited for long, thousands would be.
const TRICKLE: Duration = Duration::from_secs(1);

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
    /// When the last was let in.
    last: Option<Instant>,
}

impl<K: Clone + Eq + Hash + Ord> Crowd<K> {
    /// Nobody.
    pub fn new() -> Self {
        Self { under_way: Line::new(), held: Line::new(), let_in: HashSet::new(), last: None }
    }

    /// Whether a rollout may begin now, while the API server is slow. It is held back otherwise, until it is named by
    /// [`Crowd::next`] or [`Crowd::any`]; news of one that is held back lets it begin, as something else may be wrong with
    /// the app.
    pub fn admits(&mut self, key: &K, now: Instant) -> bool {
        let named = self.held.take(key) || self.let_in.remove(key);
        if self.goes_on(key) {
            self.under_way.put(key, now);
        } else if named || self.has_room(now) {
            self.enter(key, now);
        } else {
            self.held.put(key, now);
            return false;
        }
        true
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
        if self.held.at.is_empty() || !self.has_room(now) { None } else { self.any(now) }
    }

    /// The one that has been held back for longest, counted as under way from now on.
    pub fn any(&mut self, now: Instant) -> Option<K> {
        let (_, key) = self.held.order.first()?.clone();
        self.held.take(&key);
        self.let_in.insert(key.clone());
        self.enter(&key, now);
        Some(key)
    }

    /// When time alone lets the next begin.
    pub fn next_due(&self) -> Option<Instant> {
        let (since, _) = self.held.order.first()?;
        let above = self.under_way.order.len().saturating_sub(ROOM);
        let room = self.under_way.order.iter().nth(above).map(|(at, _)| *at + STILL);
        let trickle = self.last.map_or(*since, |last| last + TRICKLE);
        Some(room.map_or(trickle, |room| room.min(trickle)))
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
        self.under_way.at.len() < ROOM || self.last.is_none_or(|last| now >= last + TRICKLE)
    }

    fn enter(&mut self, key: &K, now: Instant) {
        self.under_way.put(key, now);
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A full house, in which none has begun for a moment.
    fn full(now: Instant) -> Crowd<usize> {
        let mut crowd = Crowd::new();
        assert!((0..ROOM).all(|key| crowd.admits(&key, now)));
        crowd
    }

    #[test]
    fn whoever_comes_late_waits_until_another_is_through() {
        let now = Instant::now();
        let mut crowd = full(now);
        assert!(!crowd.admits(&100, now) && !crowd.admits(&101, now + TRICKLE / 2));
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
        for key in 1..ROOM {
            crowd.passed(&key, true, now + STILL / 2);
        }
        let (before, late) = (now + STILL.mul_f64(0.99), now + STILL);
        crowd.last = Some(before);
        assert!(!crowd.admits(&100, before));
        assert_eq!(crowd.next_due(), Some(late));
        assert_eq!(crowd.next(late), Some(100));
        // one of them goes on
        crowd.passed(&0, true, late);
        assert!(!crowd.admits(&101, late));
        crowd.last = Some(late + STILL);
        assert_eq!(crowd.next_due(), Some(now + STILL / 2 + STILL), "there is one too many");
    }

    #[test]
    fn one_by_one_is_let_in_where_none_comes_to_an_end() {
        let now = Instant::now();
        let mut crowd = full(now);
        assert!((100..1100).all(|key| !crowd.admits(&key, now)));
        let mut at = now;
        for key in 100..200 {
            assert_eq!((crowd.next(at), crowd.next_due()), (None, Some(at + TRICKLE)), "{key}");
            at += TRICKLE;
            assert_eq!(crowd.next(at), Some(key));
            for busy in (0..ROOM).chain(100..=key) {
                crowd.passed(&busy, true, at);
            }
        }
        crowd.passed(&3, false, at);
        assert_eq!((crowd.next(at), crowd.held()), (None, 900), "there are too many still");
    }

    #[test]
    fn one_of_which_there_is_news_waits_no_longer() {
        let now = Instant::now();
        let mut crowd = full(now);
        assert!(!crowd.admits(&100, now) && !crowd.admits(&101, now) && !crowd.admits(&102, now));
        assert!(crowd.admits(&101, now), "there is news of it");
        assert_eq!(crowd.next(now + TRICKLE), Some(100));
        crowd.forget(&102);
        let late = now + STILL * 2;
        assert_eq!((crowd.next(late), crowd.next_due(), crowd.held()), (None, None, 0));
        for key in 200..300 {
            crowd.passed(&key, true, late);
        }
        assert!(crowd.admits(&100, late), "it was named, however long ago");
    }
}
