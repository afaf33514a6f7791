//! How long to wait after a failure: exponential with jitter, reset by a success.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST: Duration = Duration::from_mins(5);

/// Counts failures in a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure. `jitter` is between 0 and 1 and takes away up to a quarter, so that apps that
    /// failed together are not tried together.
    pub fn next(&mut self, jitter: f64) -> Duration {
        let factor = 1_u32 << self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        let wait = FIRST.saturating_mul(factor).min(LONGEST);
        wait.mul_f64(1.0 - 0.25 * jitter.clamp(0.0, 1.0))
    }

    /// Failures in a row.
    pub const fn failures(self) -> u32 {
        self.failures
    }
}

/// A number between 0 and 1 that differs from call to call.
pub fn jitter() -> f64 {
    getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..11).map(|_| backoff.next(0.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn jitter_takes_at_most_a_quarter() {
        assert_eq!(Backoff::default().next(1.0), Duration::from_millis(750));
        assert!((0.0..=1.0).contains(&jitter()));
    }

    #[test]
    fn many_failures_do_not_overflow() {
        let mut backoff = Backoff { failures: u32::MAX };
        assert_eq!(backoff.next(0.0), LONGEST);
        assert_eq!(backoff.failures(), u32::MAX);
    }
}
