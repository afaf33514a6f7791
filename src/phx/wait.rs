//! `kubectl phx wait`: for pipelines.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::{SignedDuration, Timestamp};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde::Serialize;

use super::{exit::Exit, output::Format, place::Cluster};
use crate::api::{Phase, PhoenixApp};

/// Wait until the rollout of the present spec has ended.
///
/// Exits with 0 when what is waited for is so, with 2 when it will not come (the rollout failed, was aborted or taken
/// back, the app is suspended, or blocked for longer than --blocked), with 4 after --timeout.
#[derive(Debug, Args)]
pub struct Wait {
    /// The app; absent: the only one of the namespace.
    app: Option<String>,
    /// What is waited for.
    #[arg(long = "for", value_enum, default_value_t)]
    goal: Goal,
    /// How long, as 90s, 10m or 1h.
    #[arg(long, default_value = "15m")]
    timeout: crate::api::Duration,
    /// How long the app may be Blocked before that counts as failed: what blocks it may heal by itself.
    #[arg(long, default_value = "30s")]
    blocked: crate::api::Duration,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Goal {
    /// The present spec is rolled out and all wanted pods serve.
    #[default]
    Healthy,
    /// The present spec is rolled out.
    Promoted,
    /// The rollout waits for a person.
    Paused,
    /// It is rolled out, and the time in which a failure still returns has passed.
    Baked,
}

/// What is to be said of an app now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It has come to an end.
    Ended(Exit, String),
    /// It is worth waiting; until then at the longest, when time alone changes the judgement.
    Waiting(Option<Timestamp>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Waited {
    app: String,
    exit_code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<Phase>,
    message: String,
}

/// PURE. Judges an app.
pub fn judge(app: &PhoenixApp, goal: Goal, blocked: Duration, now: Timestamp) -> Judgement {
    let Some(status) = &app.status else { return Judgement::Waiting(None) };
    let generation = app.metadata.generation.unwrap_or_default();
    let (Some(phase), true) = (status.phase, status.observed_generation >= generation) else {
        return Judgement::Waiting(None);
    };
    let ended = |exit| Judgement::Ended(exit, format!("{phase:?}: {}", status.message));
    let done = || ended(Exit::Done);
    match phase {
        Phase::Failed | Phase::Aborted | Phase::RolledBack | Phase::Suspended => return ended(Exit::Failed),
        Phase::Blocked => {
            let stalled = status.conditions.iter().find(|condition| condition.type_ == "Stalled");
            let since = stalled.map_or(now, |stalled| stalled.last_transition_time.0);
            let patience = SignedDuration::try_from(blocked).unwrap_or(SignedDuration::MAX);
            let until = since.saturating_add(patience).unwrap_or(Timestamp::MAX);
            return if now >= until { ended(Exit::Failed) } else { Judgement::Waiting(Some(until)) };
        }
        _ => {}
    }
    let verdict = status.candidate.as_ref().and_then(|candidate| candidate.verdict.as_ref());
    if verdict.is_some_and(|verdict| verdict.held) {
        return ended(Exit::Failed);
    }
    // Nothing is promoted any more once the way back has begun; it is waited for all the same, so that what comes
    // next in the pipeline finds the app at rest.
    let promoted = status.candidate.is_none() && status.stable.is_some() && phase != Phase::RollingBack;
    match goal {
        Goal::Healthy if promoted && phase == Phase::Healthy => done(),
        Goal::Promoted if promoted => done(),
        Goal::Baked if promoted && phase == Phase::Healthy && status.bake.is_none() => done(),
        Goal::Paused if phase == Phase::Paused && verdict.is_none() => done(),
        Goal::Paused if promoted => {
            Judgement::Ended(Exit::Failed, format!("the rollout ended without a pause: {}", status.message))
        }
        _ => Judgement::Waiting(None),
    }
}

impl Wait {
    /// Waits.
    ///
    /// # Errors
    /// When the app cannot be watched, or is deleted meanwhile.
    pub async fn run(self, cluster: &Cluster, format: Format) -> Result<Exit> {
        let app = cluster.app(self.app.as_deref()).await?;
        let name = app.metadata.name.clone().unwrap_or_default();
        let mut last = app.clone();
        let waiting = self.until(cluster, &name, &mut last);
        let ended = tokio::time::timeout(self.timeout.into(), waiting).await.ok().transpose()?;
        let (exit, message) = ended.unwrap_or_else(|| {
            let said = last.status.as_ref().map_or("", |status| status.message.as_str());
            (Exit::TimedOut, format!("not decided within {}; last: {said}", self.timeout))
        });
        let phase = last.status.as_ref().and_then(|status| status.phase);
        let result = Waited { app: name.clone(), exit_code: exit.code(), phase, message };
        format.print(&result, || format!("{name}: {}", result.message))?;
        Ok(exit)
    }

    async fn until(&self, cluster: &Cluster, name: &str, last: &mut PhoenixApp) -> Result<(Exit, String)> {
        let mut changes = changes(cluster, name);
        let mut uid = last.metadata.uid.clone();
        loop {
            let judgement = judge(last, self.goal, self.blocked.into(), Timestamp::now());
            let wake = match judgement {
                Judgement::Ended(exit, message) => return Ok((exit, message)),
                Judgement::Waiting(wake) => wake,
            };
            let change = tokio::select! {
                change = changes.next() => change,
                () = sleep_until(wake) => continue,
            };
            match change.context("the watch ended")? {
                Some(app) if uid.is_none() || app.metadata.uid == uid => {
                    uid.clone_from(&app.metadata.uid);
                    *last = app;
                }
                _ => bail!("PhoenixApp {}/{name} was deleted meanwhile", cluster.namespace),
            }
        }
    }
}

/// Every state of an app from now on; none in place of one that is gone. Trouble of the connection is waited out.
pub fn changes(cluster: &Cluster, name: &str) -> futures::stream::BoxStream<'static, Option<PhoenixApp>> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    watcher::watcher(cluster.apps(), config)
        .default_backoff()
        .inspect_err(|error| tracing::debug!(%error, "watching"))
        // After a gap a list takes the place of what was missed: an app that is not in it is gone.
        .scan(false, |listed, event| {
            let change = match event {
                Ok(watcher::Event::Init) => {
                    *listed = false;
                    None
                }
                Ok(watcher::Event::InitApply(app)) => {
                    *listed = true;
                    Some(Some(app))
                }
                Ok(watcher::Event::InitDone) if !*listed => Some(None),
                Ok(watcher::Event::Apply(app)) => Some(Some(app)),
                Ok(watcher::Event::Delete(_)) => Some(None),
                Ok(watcher::Event::InitDone) | Err(_) => None,
            };
            std::future::ready(Some(change))
        })
        .filter_map(std::future::ready)
        .boxed()
}

async fn sleep_until(wake: Option<Timestamp>) {
    match wake {
        Some(wake) => {
            let left = Duration::try_from(Timestamp::now().duration_until(wake)).unwrap_or_default();
            tokio::time::sleep(left + Duration::from_millis(10)).await;
        }
        None => std::future::pending().await,
    }
}
