//! Judgements.

mod check;
mod properties;
mod smoke;

use jiff::{SignedDuration, Timestamp};

/// So many seconds after the beginning of time.
fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_000_000 + seconds)
}
