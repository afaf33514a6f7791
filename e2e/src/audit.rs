//! The API server's audit log: who asked for what, and what came of it.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Whom the operator is to the API server.
pub const OPERATOR: &str = "system:serviceaccount:phoenix-system:phoenix-operator";

/// A request that was answered; for a watch, also one that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who asked.
    pub user: String,
    /// As in roles: `create`, `patch`, `watch`.
    pub verb: String,
    /// The resource, with its subresource after a `/`.
    pub resource: String,
    /// The object's namespace; empty: none, or all.
    pub namespace: String,
    /// The object's name; empty: none.
    pub name: String,
    /// The answer's code.
    pub code: u64,
    /// When it was answered, as RFC 3339 in UTC.
    pub at: String,
    /// `ResponseStarted` or `ResponseComplete`.
    pub stage: String,
}

impl Request {
    fn read(line: &str) -> Option<Self> {
        let entry: Value = serde_json::from_str(line).ok()?;
        let text = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let resource = match text("/objectRef/subresource") {
            "" => text("/objectRef/resource").to_owned(),
            subresource => format!("{}/{subresource}", text("/objectRef/resource")),
        };
        Some(Self {
            user: text("/user/username").to_owned(),
            verb: text("/verb").to_owned(),
            resource,
            namespace: text("/objectRef/namespace").to_owned(),
            name: text("/objectRef/name").to_owned(),
            code: entry.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or_default(),
            at: text("/stageTimestamp").to_owned(),
            stage: text("/stage").to_owned(),
        })
    }

    /// Whether it made an object.
    pub fn created(&self) -> bool {
        self.code == 201 && matches!(self.verb.as_str(), "create" | "patch")
    }

    /// Whether it asked for a change of something.
    pub fn mutates(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete")
    }

    /// Whether it deleted an object.
    pub fn deleted(&self) -> bool {
        self.verb == "delete" && (200..300).contains(&self.code)
    }
}

/// The audit log of a cluster.
#[derive(Clone, Debug)]
pub struct Audit(PathBuf);

/// How long the log has to stand still to be complete.
const MOMENT: Duration = Duration::from_millis(200);

impl Audit {
    /// The log in that file.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Where it ends now, in bytes.
    pub fn end(&self) -> Result<u64> {
        let file = std::fs::metadata(&self.0).with_context(|| format!("reading {}", self.0.display()))?;
        Ok(file.len())
    }

    /// What was written between a former [`end`](Self::end) and now, in whole lines.
    pub fn since(&self, start: u64) -> Result<Vec<Request>> {
        self.tail(&mut start.clone())
    }

    /// What was written since `from`, in whole lines; moves `from` behind them.
    pub fn tail(&self, from: &mut u64) -> Result<Vec<Request>> {
        let mut text = String::new();
        let mut file =
            std::fs::File::open(&self.0).with_context(|| format!("reading {}", self.0.display()))?;
        file.seek(SeekFrom::Start(*from)).context("seeking in the audit log")?;
        file.read_to_string(&mut text).context("reading the audit log")?;
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        *from += whole.len() as u64;
        Ok(whole.lines().filter_map(Request::read).collect())
    }

    /// Of those, the operator's. A request is logged once it was answered, which the event it causes may precede: the
    /// log is read until nothing more of the operator's is added for [a moment](MOMENT).
    pub async fn of_operator(&self, start: u64) -> Result<Vec<Request>> {
        let mut known = None;
        loop {
            let mut requests = self.since(start)?;
            requests.retain(|request| request.user == OPERATOR);
            if known == Some(requests.len()) {
                return Ok(requests);
            }
            known = Some(requests.len());
            tokio::time::sleep(MOMENT).await;
        }
    }
}

impl Audit {
    /// Waits until the operator has asked for nothing that `counts` for as long as `pause`. Errors with what it still
    /// asks for when it does not rest `within` that time.
    pub async fn until_rest(
        &self,
        pause: Duration,
        within: Duration,
        counts: impl Fn(&Request) -> bool,
    ) -> Result<()> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            let from = self.end()?;
            // How long nothing is asked can only be told by the clock.
            tokio::time::sleep(pause).await;
            let mut requests = self.of_operator(from).await?;
            requests.retain(&counts);
            if requests.is_empty() {
                return Ok(());
            }
            ensure!(tokio::time::Instant::now() < deadline, "never quiet: {:?}", by_verb(&requests));
        }
    }
}

/// A request that is no watch, of which a resting operator sends none.
pub fn is_asked(request: &Request) -> bool {
    request.verb != "watch"
}

/// How many requests there were of each verb and resource, by stage.
pub fn by_verb(requests: &[Request]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in requests {
        *counts.entry(format!("{} {} {}", request.verb, request.resource, request.stage)).or_default() += 1;
    }
    counts
}

/// Successful creates and deletes of each object in a namespace, events aside: `kind/name` to both counts.
pub fn effects(requests: &[Request], namespace: &str) -> BTreeMap<String, (usize, usize)> {
    let mut effects: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for request in requests.iter().filter(|r| r.namespace == namespace && r.resource != "events") {
        if !request.created() && !request.deleted() {
            continue;
        }
        let counts = effects.entry(format!("{}/{}", request.resource, request.name)).or_default();
        counts.0 += usize::from(request.created());
        counts.1 += usize::from(request.deleted());
    }
    effects
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creates_and_deletes_are_counted_by_object() {
        let line = |verb: &str, resource: &str, code: u16| {
            format!(
                r#"{{"stage":"ResponseComplete","verb":"{verb}","user":{{"username":"u"}},"responseStatus":{{"code":{code}}},"objectRef":{{"resource":"{resource}","namespace":"n","name":"a"}}}}"#
            )
        };
        let lines = [
            line("create", "jobs", 201),
            line("create", "jobs", 409),
            line("patch", "jobs", 200),
            line("delete", "jobs", 200),
            line("create", "events", 201),
            "half a li".to_owned(),
        ];
        let requests: Vec<_> = lines.iter().filter_map(|line| Request::read(line)).collect();
        assert_eq!(requests.len(), 5);
        assert_eq!(effects(&requests, "n"), [("jobs/a".to_owned(), (1, 1))].into());
        assert!(effects(&requests, "other").is_empty());
        assert_eq!(by_verb(&requests)["create jobs ResponseComplete"], 2);
    }
}
