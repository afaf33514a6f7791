//! `kubectl phx explain`: the chain of causes, in one paragraph.

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::{
    advice::advice,
    exit::Exit,
    gather::gather,
    output::Format,
    place::Cluster,
    render::phase,
    tree::age,
    view::{View, view},
};

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
        let view = view(&gather(cluster, app).await?);
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
        let tail: Vec<&str> =
            migration.log_tail.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let said = match tail.as_slice() {
            [] => String::new(),
            lines => format!(": its log ends \"{}\"", lines[lines.len().saturating_sub(3)..].join(" / ")),
        };
        sentences.push(format!("The migration: {}{code}{said}.", migration.state));
    }
    if let Some(worst) = view.worst()
        && !view.message.contains(worst)
    {
        sentences.push(format!("The worst is that {}.", ended(worst)));
    }
    // Only what the sentences above do not say already.
    for gate in &view.gates {
        let known = ["Ready", "Available", "Reconciling", "Stalled"].contains(&gate.name.as_str());
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
    sentences.join(" ")
}

/// A sentence's end is written once.
fn ended(sentence: &str) -> &str {
    sentence.trim_end().trim_end_matches('.')
}
