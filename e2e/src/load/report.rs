//! What is counted, and how it is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::connection::Fault;

/// Failures that are described one by one; the others are only counted.
const DESCRIBED: usize = 20;
/// Openings and ends of streams that are noted one by one.
const NOTED: usize = 5_000;

/// Everything counted; times in milliseconds unless they say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Requests that ended, well or not. One sent again counts once.
    pub requests: u64,
    /// Requests that did not end with an answer below 300, by kind.
    pub failed: BTreeMap<String, u64>,
    /// Requests sent again as RFC 9112 9.3.1 allows.
    pub allowed_retries: Retries,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Answers by the version that their body names.
    pub versions: BTreeMap<String, u64>,
    /// How long requests took that were answered.
    pub latency: Latency,
    /// Streams.
    pub streams: Streams,
    /// The first failures.
    pub failures: Vec<Failure>,
    /// It stopped because its time was over.
    pub out_of_time: bool,
}

/// Requests on a reused connection that was closed before any byte of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retries {
    /// The server closed the connection in order.
    pub closed: u64,
    /// The server's machine reset it: the request arrived after the close.
    pub reset: u64,
}

/// How long requests took, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half took no longer.
    pub p50: f64,
    /// 99 of 100 took no longer.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// Streams of server-sent events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams {
    /// Streams that said hello.
    pub opened: u64,
    /// Streams that ended with `event: drain` and the last chunk.
    pub drained: u64,
    /// Streams that ended otherwise, or could not be opened.
    pub cut: u64,
    /// Streams open at this moment, by the version that serves them.
    pub open: BTreeMap<String, u64>,
    /// The first openings and ends, in their order.
    pub log: Vec<StreamEvent>,
}

/// A stream was opened, or was drained or cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEvent {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// Who serves it.
    pub server: Server,
    /// It was opened; else it ended.
    pub opened: bool,
}

/// Who serves a stream, by its own word.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Server {
    /// The version.
    #[serde(default)]
    pub version: String,
    /// The Erlang node.
    #[serde(default)]
    pub node: String,
}

/// One failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// What was asked for, and how.
    pub what: String,
    /// Why it failed.
    pub why: String,
    /// This side's address.
    pub local: Option<SocketAddr>,
}

impl Report {
    /// Failed requests of all kinds.
    pub fn failed(&self) -> u64 {
        self.failed.values().sum()
    }
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    report: Report,
    /// Microseconds.
    durations: Vec<u32>,
}

impl Tally {
    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn report(&self) -> Report {
        let counted = self.lock();
        let mut report = counted.report.clone();
        let mut durations = counted.durations.clone();
        drop(counted);
        durations.sort_unstable();
        let at = |percent: usize| {
            let index = (durations.len() * percent).div_ceil(100).saturating_sub(1);
            durations.get(index).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
        };
        report.latency = Latency { p50: at(50), p99: at(99), max: at(100) };
        report
    }

    /// An answer came, whatever it says.
    pub(super) fn answered(&self, path: &str, status: u16, body: &[u8], took: Duration) {
        let mut counted = self.lock();
        counted.durations.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        let report = &mut counted.report;
        report.requests += 1;
        *report.statuses.entry(status).or_default() += 1;
        if let Some(version) = version(body) {
            *report.versions.entry(version).or_default() += 1;
        }
        if status >= 300 {
            *report.failed.entry(format!("status {status}")).or_default() += 1;
            let why = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
            describe(report, format!("GET {path}"), format!("status {status}: {why}"), None);
        }
    }

    /// No whole answer came.
    pub(super) fn failed(&self, what: String, fault: &Fault, local: Option<SocketAddr>) {
        let kind = match fault {
            Fault::Connect(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => "refused",
            Fault::Connect(_) => "not connected",
            Fault::Unanswered(_) => "unanswered",
            Fault::Cut(_) => "cut within the answer",
            Fault::Malformed(_) => "malformed",
        };
        self.failed_by(kind, what, fault.to_string(), local);
    }

    /// No answer came in time.
    pub(super) fn timed_out(&self, what: String, local: Option<SocketAddr>) {
        self.failed_by("timeout", what, "no whole answer in time".to_owned(), local);
    }

    fn failed_by(&self, kind: &str, what: String, why: String, local: Option<SocketAddr>) {
        let report = &mut self.lock().report;
        report.requests += 1;
        *report.failed.entry(kind.to_owned()).or_default() += 1;
        describe(report, what, why, local);
    }

    pub(super) fn retried(&self, reset: bool) {
        let retries = &mut self.lock().report.allowed_retries;
        *(if reset { &mut retries.reset } else { &mut retries.closed }) += 1;
    }

    pub(super) fn stream_opened(&self, server: &Server) {
        let streams = &mut self.lock().report.streams;
        streams.opened += 1;
        *streams.open.entry(server.version.clone()).or_default() += 1;
        note(streams, server, true);
    }

    /// A stream ended; `server` when it had been opened.
    pub(super) fn stream_ended(&self, server: Option<&Server>, end: StreamEnd, local: Option<SocketAddr>) {
        let report = &mut self.lock().report;
        if let Some(server) = server {
            note(&mut report.streams, server, false);
        }
        let version = server.map(|server| server.version.as_str());
        if let Some(version) = version
            && let Some(open) = report.streams.open.get_mut(version)
        {
            *open = open.saturating_sub(1);
            if *open == 0 {
                report.streams.open.remove(version);
            }
        }
        match end {
            StreamEnd::Drained => report.streams.drained += 1,
            StreamEnd::Cut(why) => {
                report.streams.cut += 1;
                describe(report, format!("stream of {version:?}"), why, local);
            }
        }
    }

    pub(super) fn out_of_time(&self) {
        self.lock().report.out_of_time = true;
    }
}

/// How a stream ended.
#[derive(Debug)]
pub(super) enum StreamEnd {
    Drained,
    Cut(String),
}

fn describe(report: &mut Report, what: String, why: String, local: Option<SocketAddr>) {
    if report.failures.len() < DESCRIBED {
        report.failures.push(Failure { at: now(), what, why, local });
    }
}

fn note(streams: &mut Streams, server: &Server, opened: bool) {
    if streams.log.len() < NOTED {
        streams.log.push(StreamEvent { at: now(), server: server.clone(), opened });
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The member `version` of a JSON object.
pub(super) fn version(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    value.get("version")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_durations() {
        let tally = Tally::default();
        assert_eq!(tally.report().latency, Latency::default());
        for millis in (1..=200).rev() {
            tally.answered("/", 200, br#"{"version":"v1"}"#, Duration::from_millis(millis));
        }
        let report = tally.report();
        assert_eq!(report.latency, Latency { p50: 100.0, p99: 198.0, max: 200.0 });
        assert_eq!(report.versions, BTreeMap::from([("v1".to_owned(), 200)]));
        assert_eq!(report.failed(), 0);
    }

    #[test]
    fn redirects_and_errors_are_failures() {
        let tally = Tally::default();
        for status in [200, 301, 404, 503] {
            tally.answered("/", status, b"", Duration::ZERO);
        }
        assert_eq!(tally.report().failed(), 3);
        assert_eq!(tally.report().requests, 4);
    }
}
