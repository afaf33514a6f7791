//! Until when one may write.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Asked before every write. It ends by itself: a leader that was stopped in the middle of anything, as by SIGSTOP or a
/// machine that stalls, finds it over before it can write again.
#[derive(Clone, Debug)]
pub struct Tenure {
    /// None: without end, as without election.
    until: Option<Arc<Mutex<Instant>>>,
}

impl Tenure {
    /// Without end.
    pub const fn endless() -> Self {
        Self { until: None }
    }

    /// Over; it may be extended.
    pub fn over() -> Self {
        Self { until: Some(Arc::new(Mutex::new(Instant::now()))) }
    }

    /// It lasts until then.
    pub fn extend(&self, until: Instant) {
        self.set(until);
    }

    /// It is over now.
    pub fn end(&self) {
        self.set(Instant::now());
    }

    /// How much is left.
    pub fn left(&self) -> Duration {
        self.until.as_ref().map_or(Duration::MAX, |until| {
            let until = *until.lock().unwrap_or_else(PoisonError::into_inner);
            until.saturating_duration_since(Instant::now())
        })
    }

    fn set(&self, at: Instant) {
        if let Some(until) = &self.until {
            *until.lock().unwrap_or_else(PoisonError::into_inner) = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_by_itself_and_by_decision() {
        assert_eq!(Tenure::endless().left(), Duration::MAX);
        let tenure = Tenure::over();
        let gate = tenure.clone();
        assert!(gate.left().is_zero());
        tenure.extend(Instant::now() + Duration::from_mins(1));
        assert!(gate.left() > Duration::from_secs(50));
        tenure.end();
        assert!(gate.left().is_zero());
        let endless = Tenure::endless();
        endless.end();
        assert_eq!(endless.left(), Duration::MAX, "who was not elected cannot be deposed");
    }
}
