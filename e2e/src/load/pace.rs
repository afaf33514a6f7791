//! Spreads requests evenly in time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What may be caught up after everything stood still; more would be a burst that no user makes.
const CATCH_UP: Duration = Duration::from_millis(200);

/// A schedule that all connections share.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    /// At most so many turns per second; 0 counts as 1.
    pub(super) fn new(rate: u32) -> Self {
        Self { interval: Duration::from_secs(1) / rate.max(1), next: Mutex::new(Instant::now()) }
    }

    /// Waits for the caller's turn.
    pub(super) async fn turn(&self) {
        tokio::time::sleep_until(self.take(Instant::now())).await;
    }

    /// Takes the next turn; it may lie in the past, but not far.
    fn take(&self, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(CATCH_UP).unwrap_or(*next);
        let at = (*next).max(earliest);
        *next = at + self.interval;
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_evenly_spread_and_little_is_caught_up() {
        let pace = Pace::new(10);
        let start = pace.take(Instant::now());
        for turn in 1..=10 {
            assert_eq!(pace.take(start), start + Duration::from_millis(100) * turn);
        }
        let later = start + Duration::from_mins(1);
        let missed = (0..100).take_while(|_| pace.take(later) < later).count();
        assert_eq!(missed, 2, "two turns were caught up, no more");
    }
}
