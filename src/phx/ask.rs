//! Commands to the operator: one annotation, and its answer in the status.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use futures::StreamExt as _;
use kube::api::{Patch, PatchParams};
use serde::Serialize;
use serde_json::json;

use super::{exit::Exit, output::Format, place::Cluster, wait::changes};
use crate::api::{CommandAnswer, LastCommand, PhoenixApp, PhoenixAppStatus, RevisionName, labels};

/// How often the annotation is written anew when the app changed meanwhile, as it does all the time in a rollout.
const CONFLICTS: usize = 10;

/// What every command has.
#[derive(Debug, Args)]
pub struct Answer {
    /// Do not wait for the operator's answer.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for the operator's answer, as 30s.
    #[arg(long, default_value = "30s")]
    timeout: crate::api::Duration,
}

/// A command to an app.
#[derive(Debug, Args)]
pub struct Ask {
    /// The app; absent: the only one of the namespace.
    app: Option<String>,
    #[command(flatten)]
    answer: Answer,
}

/// End the pause under way, and go on.
#[derive(Debug, Args)]
pub struct Promote {
    #[command(flatten)]
    ask: Ask,
    /// Skip all remaining steps.
    #[arg(long)]
    full: bool,
    /// Only if this step is the one under way; steps count from 1, as `status` shows them.
    #[arg(long, value_name = "N", conflicts_with = "full", value_parser = clap::value_parser!(i32).range(1..=32))]
    step: Option<i32>,
}

/// Return to an earlier revision.
#[derive(Debug, Args)]
pub struct Rollback {
    /// The app (absent: the only one of the namespace), and the revision (absent: the one that was stable before).
    /// One word of ten hexadecimal digits alone is a revision.
    #[arg(value_name = "APP] [REVISION", num_args = 0..=2)]
    words: Vec<String>,
    /// Also to a revision that needs what a contract may have removed from the database.
    #[arg(long)]
    force: bool,
    /// Roll the migrations of the revision that is left back, too, once its pods are gone.
    #[arg(long)]
    with_migrations: bool,
    #[command(flatten)]
    answer: Answer,
}

/// What a person wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// End the pause under way; of this step only, counted from 1.
    Promote(Option<i32>),
    /// Skip all remaining steps.
    PromoteFull,
    /// End the rollout.
    Abort,
    /// Try again.
    Retry,
    /// Hold the rollout.
    Pause,
    /// Let it go on.
    Resume,
    /// Return to an earlier revision.
    Rollback {
        /// Absent: the one that was stable before.
        to: Option<String>,
        /// Also behind a contract.
        force: bool,
        /// With the migrations of the revision that is left.
        with_migrations: bool,
    },
    /// Replace every pod.
    Restart,
}

/// What a command is about: fixed when it is first read, so that it never hits another than the person saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    revision: String,
    attempt: i64,
    step: Option<i32>,
}

/// PURE. What a wish is about now.
///
/// # Errors
/// When there is nothing yet to command.
pub fn target(status: &PhoenixAppStatus) -> Result<Target, String> {
    if let Some(candidate) = &status.candidate {
        let steps = i32::try_from(candidate.steps.len()).unwrap_or(i32::MAX);
        return Ok(Target {
            revision: candidate.revision.clone(),
            attempt: candidate.attempt,
            step: (candidate.step < steps).then_some(candidate.step),
        });
    }
    match &status.stable {
        Some(stable) => Ok(Target { revision: stable.clone(), attempt: status.attempt, step: None }),
        None => Err("the operator has not begun to roll the app out, so there is nothing to command; \
                     see `kubectl phx explain`"
            .to_owned()),
    }
}

impl Wish {
    /// PURE. The annotation's value: never the same as that of a command that was answered already, for such a one
    /// is not answered again.
    pub fn text(&self, target: &Target, last: Option<&LastCommand>) -> String {
        let Target { revision, attempt, step } = target;
        let to = format!("{revision}/{attempt}");
        let n = last.map_or(0, |last| last.n) + 1;
        let text = match self {
            Self::Promote(asked) => match asked.map(|asked| asked - 1).or(*step) {
                Some(step) => format!("promote {to}/{step}"),
                None => format!("promote {to}"),
            },
            Self::PromoteFull => format!("promote-full {to}"),
            Self::Abort => format!("abort {to}"),
            Self::Retry => format!("retry {to}"),
            Self::Pause => format!("pause {to}/{n}"),
            Self::Resume => format!("resume {to}/{n}"),
            Self::Restart => format!("restart {to}/{n}"),
            Self::Rollback { to: earlier, force, with_migrations } => {
                let words = [
                    Some(format!("rollback {to}")),
                    earlier.clone(),
                    force.then(|| "force".to_owned()),
                    with_migrations.then(|| "with-migrations".to_owned()),
                ];
                words.into_iter().flatten().collect::<Vec<_>>().join(" ")
            }
        };
        LastCommand::unanswered(last, &text)
    }
}

impl Ask {
    /// Asks the operator.
    ///
    /// # Errors
    /// When the app cannot be read or written.
    pub async fn run(self, wish: Wish, cluster: &Cluster, format: Format) -> Result<Exit> {
        self.answer.ask(self.app.as_deref(), &wish, cluster, format).await
    }
}

impl Promote {
    /// Asks the operator.
    ///
    /// # Errors
    /// When the app cannot be read or written.
    pub async fn run(self, cluster: &Cluster, format: Format) -> Result<Exit> {
        let wish = if self.full { Wish::PromoteFull } else { Wish::Promote(self.step) };
        self.ask.run(wish, cluster, format).await
    }
}

impl Rollback {
    /// Asks the operator.
    ///
    /// # Errors
    /// When the app cannot be read or written, or a word is no revision.
    pub async fn run(self, cluster: &Cluster, format: Format) -> Result<Exit> {
        let (app, revision) = words(&self.words)?;
        let (force, with_migrations) = (self.force, self.with_migrations);
        let wish = Wish::Rollback { to: revision.map(str::to_owned), force, with_migrations };
        self.answer.ask(app, &wish, cluster, format).await
    }
}

/// PURE. The app and the revision that the words of `rollback` name.
fn words(words: &[String]) -> Result<(Option<&str>, Option<&str>)> {
    let is_revision = |word: &str| word.parse::<RevisionName>().is_ok();
    match words {
        [] => Ok((None, None)),
        [one] if is_revision(one) => Ok((None, Some(one))),
        [app] => Ok((Some(app), None)),
        [app, revision, ..] if is_revision(revision) => Ok((Some(app), Some(revision))),
        [_, other, ..] => bail!(
            "{other:?} is no revision: one is ten hexadecimal digits, as `kubectl phx history` lists them"
        ),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answered<'a> {
    app: &'a str,
    command: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<CommandAnswer>,
    message: &'a str,
}

impl Answer {
    async fn ask(&self, app: Option<&str>, wish: &Wish, cluster: &Cluster, format: Format) -> Result<Exit> {
        let app = cluster.app(app).await?;
        let name = app.metadata.name.clone().unwrap_or_default();
        let text = write(cluster, app, wish).await?;
        let print = |answer: Option<CommandAnswer>, message: &str| {
            let answered = Answered { app: &name, command: &text, answer, message };
            format.print(&answered, || match answer {
                Some(answer) => format!("{name}: {answer:?}: {message}"),
                None => format!("{name}: {message}"),
            })
        };
        if self.no_wait {
            print(None, &format!("asked: {text}"))?;
            return Ok(Exit::Done);
        }
        let timeout = Duration::from(self.timeout);
        if let Ok(last) = tokio::time::timeout(timeout, answered(cluster, &name, &text)).await {
            let last = last?;
            print(Some(last.answer), &last.message)?;
            return Ok(match last.answer {
                CommandAnswer::Accepted => Exit::Done,
                CommandAnswer::Ignored | CommandAnswer::Refused => Exit::Declined,
            });
        }
        let message = format!(
            "asked {text:?}, but no operator answered within {}: see whether it runs and looks after \
                     namespace {}",
            self.timeout, cluster.namespace
        );
        print(None, &message)?;
        Ok(Exit::TimedOut)
    }
}

/// Writes the command, on the very version of the app that it was made from.
async fn write(cluster: &Cluster, mut app: PhoenixApp, wish: &Wish) -> Result<String> {
    let name = app.metadata.name.clone().unwrap_or_default();
    let what = || format!("commanding PhoenixApp {}/{name}", cluster.namespace);
    let target = target(&app.status.clone().unwrap_or_default()).map_err(|why| anyhow!("{why}"))?;
    for _ in 0..CONFLICTS {
        let status = app.status.clone().unwrap_or_default();
        let text = wish.text(&target, status.last_command.as_ref());
        let patch = json!({"metadata": {
            "resourceVersion": app.metadata.resource_version,
            "annotations": {labels::COMMAND: text},
        }});
        let written = cluster.apps().patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        match written {
            Ok(_) => return Ok(text),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                app = cluster.apps().get(&name).await.with_context(what)?;
            }
            Err(kube::Error::Api(status)) if status.code == 403 => {
                bail!("{}: {}; the right to `patch` phoenixapps is needed", what(), status.message)
            }
            Err(error) => return Err(error).with_context(what),
        }
    }
    bail!("{}: it changed {CONFLICTS} times meanwhile; try again", what())
}

async fn answered(cluster: &Cluster, name: &str, text: &str) -> Result<LastCommand> {
    let mut changes = changes(cluster, name);
    while let Some(change) = changes.next().await {
        let Some(app) = change else {
            bail!("PhoenixApp {}/{name} was deleted meanwhile", cluster.namespace);
        };
        let last = app.status.and_then(|status| status.last_command);
        if let Some(last) = last.filter(|last| last.text == text) {
            return Ok(last);
        }
    }
    bail!("the watch of PhoenixApp {}/{name} ended", cluster.namespace)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(value: serde_json::Value) -> PhoenixAppStatus {
        serde_json::from_value(value).unwrap()
    }

    fn canary(step: i32) -> PhoenixAppStatus {
        status(json!({"stable": "0000000001", "attempt": 4, "candidate": {
            "revision": "0000000002", "attempt": 4, "strategy": "Canary", "startedAt": "2026-01-01T00:00:00Z",
            "steps": [{"setWeight": 10}, {"pause": {}}], "step": step,
        }}))
    }

    #[test]
    fn a_wish_names_what_was_seen() {
        let rest = status(json!({"stable": "0000000001", "attempt": 3}));
        let back = |to: Option<&str>, force, with_migrations| Wish::Rollback {
            to: to.map(str::to_owned),
            force,
            with_migrations,
        };
        for (seen, wish, text) in [
            (&canary(1), Wish::Promote(None), "promote 0000000002/4/1"),
            (&canary(1), Wish::Promote(Some(1)), "promote 0000000002/4/0"),
            (&canary(2), Wish::Promote(None), "promote 0000000002/4"),
            (&canary(1), Wish::PromoteFull, "promote-full 0000000002/4"),
            (&canary(1), Wish::Abort, "abort 0000000002/4"),
            (&canary(1), Wish::Retry, "retry 0000000002/4"),
            (&canary(1), Wish::Pause, "pause 0000000002/4/1"),
            (&rest, Wish::Restart, "restart 0000000001/3/1"),
            (&rest, back(None, false, false), "rollback 0000000001/3"),
            (&rest, back(Some("0000000009"), false, false), "rollback 0000000001/3 0000000009"),
            (&rest, back(None, true, true), "rollback 0000000001/3 force with-migrations"),
            (
                &rest,
                back(Some("0000000009"), false, true),
                "rollback 0000000001/3 0000000009 with-migrations",
            ),
        ] {
            assert_eq!(wish.text(&target(seen).unwrap(), seen.last_command.as_ref()), text);
        }
        assert!(target(&PhoenixAppStatus::default()).unwrap_err().contains("nothing to command"));
    }

    #[test]
    fn an_answered_command_is_asked_in_other_words() {
        let mut seen = canary(1);
        let target = target(&seen).unwrap();
        let mut texts: Vec<String> = Vec::new();
        for _ in 0..3 {
            let text = Wish::Promote(None).text(&target, seen.last_command.as_ref());
            let earlier = texts.clone();
            texts.push(text.clone());
            let (answer, message) = (CommandAnswer::Refused, String::new());
            seen.last_command = Some(LastCommand { text, answer, message, n: 6, earlier });
        }
        let to = "promote 0000000002/4/1";
        assert_eq!(texts, [to.to_owned(), format!("{to} again-2"), format!("{to} again-3")]);
        assert_eq!(Wish::Pause.text(&target, seen.last_command.as_ref()), "pause 0000000002/4/7");
    }

    #[test]
    fn a_word_alone_may_be_an_app_or_a_revision() {
        let split = |all: &[&str]| {
            let all: Vec<String> = all.iter().map(|word| (*word).to_owned()).collect();
            words(&all).map(|(app, revision)| (app.map(str::to_owned), revision.map(str::to_owned)))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(split(&[]).unwrap(), (None, None));
        assert_eq!(split(&["shop"]).unwrap(), (some("shop"), None));
        assert_eq!(split(&["7f3a9c1d2e"]).unwrap(), (None, some("7f3a9c1d2e")));
        assert_eq!(split(&["shop", "7f3a9c1d2e"]).unwrap(), (some("shop"), some("7f3a9c1d2e")));
        assert!(split(&["shop", "v1"]).unwrap_err().to_string().contains("kubectl phx history"));
    }
}
