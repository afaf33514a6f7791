//! `kubectl phx explain`: the chain of causes, in one paragraph.

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::{
    advice::advice, exit::Exit, gather::gather, output::Format, place::Cluster, render::phase, tree::age,
    view::View,
};
use crate::api::FollowUpState;

/// Say in one paragraph how the app stands, why, and what to do.
#[derive(Debug, Args)]
pub struct Explain {
    /// The app; absent: the only one of the namespace.
    app: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    app: String,
    phase: String,
    because: String,
    advice: Vec<String>,
}

impl Explain {
    /// Explains.
    ///
    /// # Errors
    /// When the app or its children cannot be read.
    pub async fn run(self, cluster: &Cluster, format: Format) -> Result<Exit> {
        let app = cluster.app(self.app.as_deref()).await?;
        let view = gather(cluster, app).await?.view();
        let explanation = Explanation {
            app: view.name.clone(),
            phase: phase(&view),
            because: causes(&view),
            advice: advice(&view),
        };
        format.print(&explanation, || paragraph(&view))?;
        Ok(Exit::Done)
    }
}

/// The whole paragraph.
pub fn paragraph(view: &View) -> String {
    let advice = advice(view);
    let advice = match advice.as_slice() {
        [] => "There is nothing to do.".to_owned(),
        lines => format!("What to do: {}.", lines.join("; ")),
    };
    format!("{} {advice}", causes(view))
}

/// How it stands and why.
pub fn causes(view: &View) -> String {
    let since = view.since_seconds.map(|since| format!(" for {}", age(since))).unwrap_or_default();
    let mut sentences = vec![if view.phase.is_some() {
        format!(
            "PhoenixApp {}/{} is {}{since}: {}.",
            view.namespace,
            view.name,
            phase(view),
            ended(&view.message)
        )
    } else {
        format!("PhoenixApp {}/{} was not seen by any operator yet.", view.namespace, view.name)
    }];
    if view.phase.is_some() && !view.observed {
        sentences
            .push("The operator has not seen the present spec yet; this is about the one before.".to_owned());
    }
    if view.paused {
        sentences.push("A person holds the rollout with the command pause.".to_owned());
    }
    if view.contracted {
        sentences.push("A contract has run, so a return to an older revision takes --force.".to_owned());
    }
    if let Some(attempt) = &view.attempt {
        let step = attempt.steps.iter().enumerate().find(|(_, step)| step.since_seconds.is_some());
        if let Some((index, step)) = step {
            let since = step.since_seconds.map(|since| format!(", for {}", age(since))).unwrap_or_default();
            sentences.push(format!(
                "Attempt {} is at step {} of {} ({}{since}).",
                attempt.number,
                index + 1,
                attempt.steps.len(),
                step.what
            ));
        }
        if let Some(verdict) = &attempt.ended
            && !view.message.contains(verdict.split_once(": ").map_or(verdict.as_str(), |(_, why)| why))
        {
            sentences.push(format!(
                "Attempt {} of revision {} ended {}.",
                attempt.number,
                attempt.revision,
                ended(verdict)
            ));
        }
    }
    if let Some(migration) = view.migration.as_ref().filter(|migration| migration.state != "succeeded") {
        let code = migration.exit_code.map(|code| format!(" with exit code {code}")).unwrap_or_default();
        let said = said(&migration.log_tail);
        sentences.push(format!("The {}: {}{code}{said}.", migration.what, migration.state));
    }
    if let Some(follow_up) = view.follow_up.as_ref().filter(|known| known.state != FollowUpState::Succeeded) {
        let message = ended(&follow_up.message);
        let why = if message.is_empty() { String::new() } else { format!(": {message}") };
        let again = follow_up.retry_seconds.map(|left| format!(" in {}", age(left))).unwrap_or_default();
        let said = said(&follow_up.log_tail);
        sentences.push(format!("The {}: {}{again}{why}{said}.", follow_up.what(), follow_up.stands()));
    }
    if let Some(worst) = view.worst()
        && !view.message.contains(worst)
    {
        sentences.push(format!("The worst is that {}.", ended(worst)));
    }
    // Only what the sentences above do not say already.
    for gate in &view.gates {
        let told = gate.name == "Contracted" && view.follow_up.is_some();
        let known = told || ["Ready", "Available", "Reconciling", "Stalled"].contains(&gate.name.as_str());
        let first = gate.message.lines().next().unwrap_or_default();
        if !known && gate.status == "False" && !first.is_empty() && !view.message.contains(first) {
            sentences.push(format!(
                "{} is not passed for {}: {}.",
                gate.name,
                age(gate.since_seconds),
                ended(first)
            ));
        }
    }
    if !view.unread.is_empty() {
        let kinds = view.unread.join(", ");
        sentences.push(format!("This is without what you may not list: {kinds}."));
    }
    sentences.join(" ")
}

/// The end of a log, in a sentence.
fn said(log: &str) -> String {
    let lines: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.as_slice() {
        [] => String::new(),
        lines => format!(": its log ends \"{}\"", lines[lines.len().saturating_sub(3)..].join(" / ")),
    }
}

/// A sentence's end is written once.
fn ended(sentence: &str) -> &str {
    sentence.trim_end().trim_end_matches('.')
}
