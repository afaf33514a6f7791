//! What a user asks of the API server, counted from its audit log.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::audit::{Audit, Request};

/// Without a request for this long, what a change brought about has ended.
const REST: Duration = Duration::from_secs(3);
/// It is waited no longer than this for a rest.
const PATIENCE: Duration = Duration::from_mins(2);

/// One user's requests, read as the log grows.
#[derive(Clone, Debug)]
pub struct Requests {
    audit: Audit,
    user: String,
    position: u64,
    unread: Vec<Request>,
}

impl Requests {
    /// From now on.
    pub fn of(user: &str, audit: &Audit) -> Result<Self> {
        let position = audit.end()?;
        Ok(Self { audit: audit.clone(), user: user.to_owned(), position, unread: Vec::new() })
    }

    fn read(&mut self) -> Result<usize> {
        let new = self.audit.tail(&mut self.position)?;
        let before = self.unread.len();
        self.unread.extend(new.into_iter().filter(|request| request.user == self.user));
        Ok(self.unread[before..].iter().filter(|request| counts(request)).count())
    }

    /// Waits until none is made any more, watches and leases aside. One who never rests is waited for two minutes, which
    /// is said.
    pub async fn rest(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // How long nothing is asked can only be told by the clock.
            tokio::time::sleep(REST).await;
            if self.read()? == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                eprintln!("bench: {} has not rested for {PATIENCE:?}", self.user);
                return Ok(());
            }
        }
    }

    /// Those since the last time. A watch counts when it is opened.
    pub fn take(&mut self) -> Result<Vec<Request>> {
        self.read()?;
        let mut requests = std::mem::take(&mut self.unread);
        requests.retain(|request| (request.verb == "watch") == (request.stage == "ResponseStarted"));
        Ok(requests)
    }
}

/// Neither a watch nor the renewal of a lease.
fn counts(request: &Request) -> bool {
    request.verb != "watch" && request.resource != "leases"
}

/// How many there are of each verb and resource, of those that are picked.
pub fn by_kind(requests: &[Request], picked: impl Fn(&Request) -> bool) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for request in requests.iter().filter(|request| picked(request)) {
        *kinds.entry(format!("{} {}", request.verb, request.resource)).or_default() += 1;
    }
    kinds
}
