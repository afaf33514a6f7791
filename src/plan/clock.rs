//! The progress clock. It starts anew with each step, and when more candidate pods are available than ever before in the
//! step, so that flapping readiness does not reset it; it stands still while nothing can progress and while the
//! operator was not there to see.

use std::time::Duration;

use jiff::{RoundMode, SignedDuration, Timestamp, TimestampRound, Unit};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Draft;
use crate::api::Progress;

/// Lets the clock run and tells whether the deadline has passed; asks to be woken when it will.
pub(super) fn run(d: &mut Draft, available: u32) -> bool {
    let (now, deadline, observing) = (d.now, d.goal.progress_deadline, d.world.observing_since);
    let available = i32::try_from(available).unwrap_or(i32::MAX);
    let Some(candidate) = d.status.candidate.as_mut() else { return false };
    let fresh = Progress { available, elapsed_seconds: 0, since: Some(Time(now)) };
    let progress = candidate.progress.get_or_insert_with(|| fresh.clone());
    if available > progress.available {
        *progress = fresh;
    }
    let since = progress.since.get_or_insert(Time(now)).0;
    let counted_from = observing.map_or(since, |from| from.max(since));
    let elapsed = seconds_between(counted_from, now) + progress.elapsed_seconds;
    let left = i64::try_from(deadline.as_secs()).unwrap_or(i64::MAX) - elapsed;
    if left > 0 {
        d.wake_at(after(now, left));
    }
    left <= 0
}

/// Stops the clock.
pub(super) fn stop(d: &mut Draft) {
    let (now, observing) = (d.now, d.world.observing_since);
    let Some(progress) = d.status.candidate.as_mut().and_then(|c| c.progress.as_mut()) else { return };
    if let Some(since) = progress.since.take() {
        let counted_from = observing.map_or(since.0, |from| from.max(since.0));
        progress.elapsed_seconds += seconds_between(counted_from, now);
    }
}

/// Whether `limit` has passed since `start`, as far as this process has seen it; asks to be woken when it will.
pub(super) fn passed(d: &mut Draft, start: Timestamp, limit: Duration) -> bool {
    let from = d.world.observing_since.map_or(start, |observing| observing.max(start));
    let left = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX) - seconds_between(from, d.now);
    if left > 0 {
        d.wake_at(after(d.now, left));
    }
    left <= 0
}

/// The first whole second that is not before `at`. A status holds no fractions: cut off, a wait that is counted from
/// there would end early.
pub(super) fn whole_second(at: Timestamp) -> Timestamp {
    at.round(TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Ceil)).unwrap_or(at)
}

/// Whether so long has passed since `start` by the clock on the wall: a promise to people, which holds while nobody
/// watches, too. Asks to be woken when it will have.
pub(super) fn lasted(d: &mut Draft, start: Timestamp, limit: Duration) -> bool {
    let until = after(start, i64::try_from(limit.as_secs()).unwrap_or(i64::MAX));
    if until > d.now {
        d.wake_at(until);
    }
    until <= d.now
}

/// `seconds` after `at`.
pub(super) fn after(at: Timestamp, seconds: i64) -> Timestamp {
    at.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

fn seconds_between(from: Timestamp, to: Timestamp) -> i64 {
    to.duration_since(from).as_secs().max(0)
}
