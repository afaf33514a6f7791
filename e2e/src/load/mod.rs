//! Load on an HTTP server: what a browser, a proxy and a live view are to a Phoenix app.
//!
//! Half of the connections are kept alive, half are made for one request each; streams of server-sent
//! events stay open beside them and come back when they are drained. Nothing is retried, but for what
//! RFC 9112 9.3.1 allows: a request on a reused connection that was closed before any byte of an answer
//! is sent once more on a new one, and that is counted apart.
//!
//! The client is written on a plain socket, because a library may retry without saying so.

mod connection;
mod pace;
mod report;
mod requests;
mod streams;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use report::{Failure, Latency, Report, Retries, Server, StreamEvent, Streams};

use connection::{Connection, Fault};
use pace::Pace;
use report::Tally;

/// How long one request may take, from its first byte sent (connecting included) to its last received.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// One GET on a connection of its own: status and body. Errors say what went wrong, as in a [`Report`].
pub async fn get(target: SocketAddr, host: &str, path: &str) -> anyhow::Result<(u16, Vec<u8>)> {
    let exchange = async {
        let mut connection = Connection::open(target).await?;
        connection.send(path, host, false).await?;
        let head = connection.head().await?;
        Ok((head.status, connection.body(head).await?))
    };
    match tokio::time::timeout(REQUEST_TIMEOUT, exchange).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err::<_, Fault>(fault)) => anyhow::bail!("GET {path} from {target}: {fault}"),
        Err(_) => anyhow::bail!("GET {path} from {target}: no answer within {REQUEST_TIMEOUT:?}"),
    }
}

/// What load to make.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the server is.
    pub target: SocketAddr,
    /// What the header `Host` says.
    pub host: String,
    /// Paths, asked for in turn by every connection.
    pub paths: Vec<String>,
    /// Connections with requests; half of them, rounded up, are kept alive.
    pub connections: usize,
    /// Streams kept open beside them.
    pub streams: usize,
    /// Path of the streams.
    pub stream_path: String,
    /// Most requests per second, of all connections together.
    pub rate: u32,
    /// Requests that are made even when it is told to stop earlier.
    pub at_least: u64,
    /// Requests after which it stops by itself.
    pub at_most: u64,
    /// Time after which it stops by itself.
    pub no_longer_than: Duration,
}

/// Load that is being made. Dropped, it ends at once.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    until: Instant,
}

/// What all clients share.
#[derive(Debug)]
struct Shared {
    options: Options,
    pace: Pace,
    tally: Tally,
    /// Requests that were begun; bounds them.
    begun: AtomicU64,
    /// It was told to stop.
    told: AtomicBool,
    /// Its time is over.
    late: AtomicBool,
    /// Streams end with it.
    over: watch::Sender<bool>,
    /// A request has been counted.
    counted: Notify,
}

impl Shared {
    /// Whether one more request is to be made.
    fn goes_on(&self) -> bool {
        let begun = self.begun.fetch_add(1, Ordering::Relaxed);
        let enough = self.told.load(Ordering::Relaxed) && begun >= self.options.at_least;
        !enough && begun < self.options.at_most && !self.late.load(Ordering::Relaxed)
    }
}

impl Load {
    /// Starts all clients.
    pub fn start(options: Options) -> Self {
        let until = Instant::now() + options.no_longer_than;
        let (connections, streams) = (options.connections, options.streams);
        let shared = Arc::new(Shared {
            pace: Pace::new(options.rate),
            tally: Tally::default(),
            begun: AtomicU64::new(0),
            told: AtomicBool::new(false),
            late: AtomicBool::new(false),
            over: watch::Sender::new(false),
            counted: Notify::new(),
            options,
        });
        let mut tasks = JoinSet::new();
        for index in 0..connections {
            let shared = Arc::clone(&shared);
            if index % 2 == 0 {
                tasks.spawn(async move { requests::kept_alive(&shared, index).await });
            } else {
                tasks.spawn(async move { requests::one_each(&shared, index).await });
            }
        }
        for _ in 0..streams {
            let shared = Arc::clone(&shared);
            tasks.spawn(async move { streams::keep_open(&shared).await });
        }
        Self { shared, tasks, until }
    }

    /// What has been counted by now.
    pub fn report(&self) -> Report {
        self.shared.tally.report()
    }

    /// Waits until so many requests have been counted, or no more will be.
    pub async fn reaches(&self, requests: u64) -> Report {
        loop {
            let counted = self.shared.counted.notified();
            let report = self.report();
            let done = report.requests >= requests || report.requests >= self.shared.options.at_most;
            if done || tokio::time::timeout_at(self.until, counted).await.is_err() {
                return report;
            }
        }
    }

    /// Tells it to stop; returns when the last client has, with everything counted.
    pub async fn stop(mut self) -> Report {
        self.shared.told.store(true, Ordering::Relaxed);
        self.end().await
    }

    /// Waits until it stops by itself, after its number of requests or its time. May be cancelled.
    pub async fn end(&mut self) -> Report {
        // Streams never end by themselves, so what ends first are the connections.
        while self.tasks.len() > self.shared.options.streams {
            if tokio::time::timeout_at(self.until, self.tasks.join_next()).await.is_err() {
                self.shared.tally.out_of_time();
                self.shared.late.store(true, Ordering::Relaxed);
                break;
            }
        }
        self.shared.over.send_replace(true);
        let patience = Instant::now() + REQUEST_TIMEOUT;
        while let Ok(Some(_)) = tokio::time::timeout_at(patience, self.tasks.join_next()).await {}
        self.report()
    }
}
