//! `kubectl phx history`: the last rollouts.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    exit::Exit,
    gather::gather,
    output::Format,
    place::Cluster,
    tree::{age, table},
    view::{images, seconds},
};
use crate::api::{Outcome, PhoenixAppStatus};

/// List the last rollouts, newest first.
#[derive(Debug, Args)]
pub struct History {
    /// The app; absent: the only one of the namespace.
    app: Option<String>,
}

/// One rollout.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// The attempt.
    pub attempt: i64,
    /// The revision.
    pub revision: String,
    /// Its image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What asked for it: a generation of the spec, or a command.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub asked: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; absent while it is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// How it ended; absent while it is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// `stable`, `previous`, `previous, by force` (a contract stands between) or nothing.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub now: &'static str,
}

/// PURE. The rollouts of an app, newest first.
pub fn rows(status: &PhoenixAppStatus, images: &BTreeMap<String, String>) -> Vec<Row> {
    let now = |revision: &str| match revision {
        _ if status.stable.as_deref() == Some(revision) => "stable",
        _ if status.previous.as_deref() == Some(revision) && status.rollback_safe == Some(false) => {
            "previous, by force"
        }
        _ if status.previous.as_deref() == Some(revision) => "previous",
        _ => "",
    };
    let under_way = status.under_way().into_iter();
    let under_way = under_way.map(|candidate| Row {
        attempt: candidate.attempt,
        revision: candidate.revision.clone(),
        image: images.get(&candidate.revision).cloned(),
        asked: candidate.asked.clone(),
        started_at: candidate.started_at.0,
        ended_at: None,
        outcome: None,
        reason: String::new(),
        now: "candidate",
    });
    let ended = status.history.iter().map(|entry| Row {
        attempt: entry.attempt,
        revision: entry.revision.clone(),
        image: Some(entry.image.clone())
            .filter(|image| !image.is_empty())
            .or_else(|| images.get(&entry.revision).cloned()),
        asked: entry.asked.clone(),
        started_at: entry.started_at.0,
        ended_at: Some(entry.ended_at.0),
        outcome: Some(entry.outcome),
        reason: entry.reason.clone(),
        now: now(&entry.revision),
    });
    under_way.chain(ended).collect()
}

/// PURE. The rollouts as a table.
pub fn text(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no rollout has ended yet".to_owned();
    }
    let head = ["ATTEMPT", "REVISION", "NOW", "STARTED", "TOOK", "OUTCOME", "ASKED BY", "IMAGE"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(|row| {
        let outcome = row.outcome.map_or_else(|| "under way".to_owned(), |outcome| format!("{outcome:?}"));
        vec![
            row.attempt.to_string(),
            row.revision.clone(),
            row.now.to_owned(),
            row.started_at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            row.ended_at.map(|ended| age(seconds(row.started_at, ended))).unwrap_or_default(),
            if row.reason.is_empty() { outcome } else { format!("{outcome}: {}", row.reason) },
            row.asked.clone(),
            row.image.clone().unwrap_or_default(),
        ]
    }));
    table(&lines)
}

impl History {
    /// Lists.
    ///
    /// # Errors
    /// When the app or its revisions cannot be read.
    pub async fn run(self, cluster: &Cluster, format: Format) -> Result<Exit> {
        let app = cluster.app(self.app.as_deref()).await?;
        let status = app.status.clone().unwrap_or_default();
        let rows = rows(&status, &images(&gather(cluster, app).await?.snapshot));
        format.print(&rows, || text(&rows))?;
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn newest_first_and_what_is_under_way_on_top() {
        let status: PhoenixAppStatus = serde_json::from_value(json!({
            "stable": "0000000002", "previous": "0000000001", "attempt": 4,
            "candidate": {"revision": "0000000003", "attempt": 4, "strategy": "Rolling",
                "startedAt": "2026-01-01T10:00:00Z"},
            "history": [
                {"revision": "0000000003", "attempt": 3, "startedAt": "2026-01-01T09:00:00Z",
                    "endedAt": "2026-01-01T09:10:03Z", "outcome": "Failed", "reason": "ProgressDeadlineExceeded"},
                {"revision": "0000000002", "attempt": 2, "startedAt": "2026-01-01T08:00:00Z",
                    "endedAt": "2026-01-01T08:01:10Z", "outcome": "Promoted"},
                {"revision": "0000000001", "attempt": 1, "startedAt": "2026-01-01T07:00:00Z",
                    "endedAt": "2026-01-01T07:00:40Z", "outcome": "Promoted"},
            ],
        }))
        .unwrap();
        let images = [("0000000002".to_owned(), "registry.example.com/shop:2".to_owned())].into();
        insta::assert_snapshot!(text(&rows(&status, &images)));
        assert_eq!(text(&[]), "no rollout has ended yet");
    }
}
