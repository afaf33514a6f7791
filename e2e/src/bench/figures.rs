//! What was measured, as it is written to the JSON file.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Everything of one run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Where it was measured.
    pub machine: Machine,
    /// How many apps there were.
    pub apps: usize,
    /// How often each latency was taken.
    pub singles: usize,
    /// A raw client, in the order of the runs.
    pub floors: Vec<Floor>,
    /// phoenix-operator, without migrations.
    pub operator: Option<Contest>,
    /// phoenix-operator, with a migration Job in every rollout.
    pub migrating: Option<Contest>,
    /// Argo Rollouts as its manifests install it.
    pub peer: Option<Contest>,
    /// Argo Rollouts that may ask as often as the other controllers.
    pub unthrottled_peer: Option<Contest>,
    /// A run of its own, with more apps.
    pub many: Option<Box<Figures>>,
}

/// A machine, by its size.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    /// Processors.
    pub processors: usize,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// The kernel's version.
    pub kernel: String,
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} processors and {} GiB", self.processors, (self.memory_mib + 512) / 1024)
    }
}

/// A raw client that writes what the operator would write.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Floor {
    /// The machine's load of the last minute, before.
    pub load: f64,
    /// Seconds until all Deployments were available; the objects alone that the operator makes.
    pub objects: f64,
    /// Seconds until all those Deployments had rolled over to another image, by one patch each.
    pub updated: f64,
    /// As `objects`, with the app itself and two writes of its status: one before its objects, one when it is available.
    pub with_status: f64,
    /// CPU seconds of the client, with the status writes.
    pub cpu: f64,
    /// Its requests that write, with the status writes.
    pub writes: usize,
}

/// What one contender came to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Contest {
    /// The machine's load of the last minute, before.
    pub load: f64,
    /// Resting memory with nothing to look after, in KiB.
    pub empty_rss: u64,
    /// An app on a resting cluster: from its creation until its children exist.
    pub created: Option<Quantiles>,
    /// The same until it is healthy.
    pub healthy: Option<Quantiles>,
    /// All created: until all are healthy.
    pub first: Option<Passage>,
    /// A minute of rest after that.
    pub rest: Option<Rest>,
    /// From a pod that is seen to be unready until the status says so.
    pub noticed: Option<Quantiles>,
    /// All updated, by Rolling: until all are healthy.
    pub rolling: Option<Passage>,
    /// All updated, by Canary (50 %, 5 s): until all are healthy.
    pub canary: Option<Passage>,
    /// A start over all of them.
    pub cold: Option<Cold>,
    /// Bytes between it and the API server.
    pub bytes: Option<Bytes>,
    /// What apps that come, change and go leave behind.
    pub churn: Option<Churn>,
    /// Who holds most of its memory at rest, after a start over all apps.
    pub holders: Vec<Holder>,
}

impl Contest {
    /// With what single apps took: until their children existed, and until they were healthy.
    #[must_use]
    pub fn with(self, (created, healthy): (Quantiles, Quantiles)) -> Self {
        Self { created: Some(created), healthy: Some(healthy), ..self }
    }
}

/// From a change of all apps until all are healthy, and then until no request is made any more.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Passage {
    /// Seconds from the first request of the user until the last app was healthy.
    pub seconds: f64,
    /// Seconds of that until the user's last request was answered.
    pub asked: f64,
    /// From an app's own change until it was healthy.
    pub each: Quantiles,
    /// CPU seconds, until no request was made any more.
    pub cpu: f64,
    /// The most memory, in KiB.
    pub peak_rss: u64,
    /// Memory at the end, in KiB.
    pub rss: u64,
    /// Requests that write, by verb and resource.
    pub writes: BTreeMap<String, usize>,
    /// Those of them that were refused because the object had changed, or was there already.
    pub conflicts: usize,
    /// Requests that read, by verb and resource.
    pub reads: BTreeMap<String, usize>,
}

impl Passage {
    /// Requests that write, events aside.
    pub fn written(&self) -> usize {
        self.writes.iter().filter(|(what, _)| !what.ends_with(" events")).map(|(_, count)| count).sum()
    }

    /// Requests that write to a resource or its status.
    pub fn written_to(&self, resource: &str) -> usize {
        let status = format!("{resource}/status");
        let counts = self
            .writes
            .iter()
            .filter(|(what, _)| what.split_once(' ').is_some_and(|(_, on)| on == resource || on == status));
        counts.map(|(_, count)| count).sum()
    }
}

/// A time in which nothing changes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Rest {
    /// Its length in seconds.
    pub seconds: f64,
    /// CPU seconds in it.
    pub cpu: f64,
    /// Memory at its end, in KiB.
    pub rss: u64,
    /// All requests in it, by verb and resource; a watch that is opened again is one.
    pub requests: BTreeMap<String, usize>,
}

impl Rest {
    /// CPU seconds in a minute of it.
    pub fn cpu_a_minute(&self) -> f64 {
        self.cpu * 60.0 / self.seconds
    }
}

/// A start over apps that are as they should be.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cold {
    /// Seconds until every app has been judged.
    pub seconds: f64,
    /// CPU seconds until no request was made any more.
    pub cpu: f64,
    /// The most memory, in KiB.
    pub peak_rss: u64,
    /// Memory at rest, in KiB.
    pub rss: u64,
    /// Requests that write, by verb and resource.
    pub writes: BTreeMap<String, usize>,
    /// Requests that read, by verb and resource.
    pub reads: BTreeMap<String, usize>,
}

/// Bytes that came from the API server, encrypted as they are on the wire.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Bytes {
    /// During a start over all apps: lists.
    pub cold: u64,
    /// During an update of some apps: watches, and answers to writes.
    pub update: u64,
    /// How many apps that were.
    pub updated: usize,
}

/// A time in which apps come, change and go, beside those that stay.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Churn {
    /// Its length in seconds.
    pub seconds: f64,
    /// How many came, changed or went.
    pub changes: usize,
    /// Memory at rest before, in KiB.
    pub before: u64,
    /// The most memory meanwhile, in KiB.
    pub peak: u64,
    /// Memory at rest when all that came have gone, in KiB.
    pub after: u64,
    /// CPU seconds.
    pub cpu: f64,
}

/// Memory that was asked for in one place.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Holder {
    /// How much.
    pub bytes: u64,
    /// The function that asked for it.
    pub by: String,
    /// The innermost of the operator's own functions that led there.
    pub within: String,
}

/// A distribution, in seconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Quantiles {
    /// How many were taken.
    pub count: usize,
    /// The median.
    pub p50: f64,
    /// Ninety-nine of a hundred are not above it.
    pub p99: f64,
    /// The greatest.
    pub max: f64,
}

impl Quantiles {
    /// By the nearest rank; zeros when there are none.
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100).max(1);
            times.get(rank - 1).map_or(0.0, Duration::as_secs_f64)
        };
        Self { count: times.len(), p50: at(50), p99: at(99), max: at(100) }
    }
}

/// A count as a figure.
#[expect(clippy::cast_precision_loss, reason = "counts of requests and apps are small")]
pub const fn number(count: usize) -> f64 {
    count as f64
}

/// A size in KiB as a figure.
#[expect(clippy::cast_precision_loss, reason = "sizes of memory in KiB are small")]
pub const fn kib(size: u64) -> f64 {
    size as f64
}

/// The median of a few figures; none: 0.
pub fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_unstable_by(f64::total_cmp);
    let (low, high) = (figures.len().saturating_sub(1) / 2, figures.len() / 2);
    match (figures.get(low), figures.get(high)) {
        (Some(low), Some(high)) => f64::midpoint(*low, *high),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "whole numbers of seconds")]
    fn quantiles_are_by_nearest_rank() {
        let of = |count: u64| Quantiles::of((1..=count).rev().map(Duration::from_secs).collect());
        let hundred = of(100);
        assert_eq!((hundred.p50, hundred.p99, hundred.max), (50.0, 99.0, 100.0));
        let two = of(2);
        assert_eq!((two.p50, two.p99, two.max), (1.0, 2.0, 2.0));
        assert_eq!(of(0).max, 0.0);
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([3.0, 1.0]), 2.0);
        assert_eq!(median([]), 0.0);
    }

    #[test]
    fn writes_are_told_apart_by_resource() {
        let writes = [("create events", 9), ("update phoenixapps/status", 5), ("patch services", 2)];
        let writes = writes.map(|(what, count)| (what.to_owned(), count)).into();
        let passage = Passage { writes, ..Passage::default() };
        assert_eq!(passage.written(), 7);
        assert_eq!(passage.written_to("phoenixapps"), 5);
    }
}
