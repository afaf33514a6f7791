//! PURE. From the picture of an app to the lines of `status`.

use super::{
    advice::advice,
    tree::{Node, Paint, age},
    view::{
        AttemptView, FollowUpView, GateView, MigrationView, PodView, RevisionView, StepState, View,
        WorkerView,
    },
};
use crate::api::{FollowUpState, Phase};

/// Lines of a log tail that the tree shows.
const TAIL: usize = 6;

/// The lines of `status`.
pub fn render(view: &View, colours: bool) -> Vec<String> {
    let mut root = Node::new(Paint::Bold, format!("{}/{}", view.namespace, view.name))
        .and(paint(view.phase), phase(view))
        .and(Paint::Dim, view.since_seconds.map(|since| format!("for {}", age(since))).unwrap_or_default());
    if !view.message.is_empty() {
        root.push(Node::new(paint(view.phase), view.message.clone()));
    }
    if !view.observed {
        root.push(Node::new(Paint::Busy, "the operator has not seen the present spec yet"));
    }
    root.push(
        Node::new(Paint::Dim, "spec:").and(Paint::Plain, view.image.clone()).and(
            Paint::Dim,
            format!("by {}, {} of {} pods serve", view.strategy, view.serving, view.replicas),
        ),
    );
    if !view.revisions.is_empty() {
        root.push(Node::new(Paint::Bold, "revisions").with(view.revisions.iter().map(revision)));
    }
    if !view.workers.is_empty() {
        root.push(Node::new(Paint::Bold, "workers").with(view.workers.iter().map(worker)));
    }
    if let Some(attempt) = &view.attempt {
        root.push(steps(attempt));
    }
    if let Some(bake) = view.bake_seconds {
        let text = format!("bakes since {}: a failure returns to the previous revision", age(bake));
        root.push(Node::new(Paint::Busy, text));
    }
    if let Some(migration) = &view.migration {
        root.push(self::migration(migration));
    }
    if let Some(follow_up) = &view.follow_up {
        root.push(self::follow_up(follow_up));
    }
    if !view.gates.is_empty() {
        let gates = view.gates.iter().map(|one| gate(one, &view.message));
        root.push(Node::new(Paint::Bold, "gates").with(gates));
    }
    if let Some(last) = &view.last_command {
        root.push(Node::new(Paint::Dim, "last command:").and(Paint::Plain, last.clone()));
    }
    if !view.unread.is_empty() {
        let kinds = view.unread.join(", ");
        root.push(Node::new(Paint::Busy, format!("not shown, for you may not list them: {kinds}")));
    }
    let advice = advice(view);
    if !advice.is_empty() {
        let lines = advice.into_iter().map(|line| Node::new(Paint::Plain, line));
        root.push(Node::new(Paint::Bold, "what to do").with(lines));
    }
    root.lines(colours)
}

/// The phase, as one word.
pub fn phase(view: &View) -> String {
    view.phase.map_or_else(|| "not seen by the operator".to_owned(), |phase| format!("{phase:?}"))
}

const fn paint(phase: Option<Phase>) -> Paint {
    match phase {
        Some(Phase::Healthy) => Paint::Good,
        Some(Phase::Degraded | Phase::Failed | Phase::Aborted | Phase::RolledBack | Phase::Blocked) => {
            Paint::Bad
        }
        _ => Paint::Busy,
    }
}

fn revision(revision: &RevisionView) -> Node {
    let shares = match (revision.share, revision.weight) {
        (Some(share), Some(weight)) => format!("{share} % of serving pods (weight {weight} %)"),
        (Some(share), None) if revision.serving.is_some_and(|serving| serving > 0) => {
            format!("{share} % of serving pods")
        }
        (_, Some(weight)) => format!("weight {weight} %"),
        _ => String::new(),
    };
    let count = match (revision.serving, revision.asked) {
        (Some(serving), Some(asked)) => format!("{serving}/{asked} serve"),
        (Some(serving), None) => format!("{serving} serve"),
        (None, Some(asked)) => format!("{asked} asked for"),
        (None, None) => String::new(),
    };
    let full = revision.serving >= revision.asked || revision.serving.is_none();
    Node::new(Paint::Bold, revision.name.clone())
        .and(Paint::Good, revision.parts.join(", "))
        .and(if full { Paint::Plain } else { Paint::Busy }, count)
        .and(Paint::Plain, shares)
        .and(Paint::Dim, revision.image.clone().unwrap_or_default())
        .with(revision.pods.iter().map(pod))
}

fn worker(worker: &WorkerView) -> Node {
    let full = worker.ready >= worker.asked;
    Node::new(Paint::Bold, worker.name.clone())
        .and(Paint::Plain, format!("of {}", worker.revision))
        .and(
            if full { Paint::Plain } else { Paint::Busy },
            format!("{}/{} ready", worker.ready, worker.asked),
        )
        .with(worker.pods.iter().map(pod))
}

fn pod(pod: &PodView) -> Node {
    let paint = match (pod.ready, pod.state) {
        (true, _) | (_, "succeeded") => Paint::Good,
        (_, "failed") => Paint::Bad,
        _ if pod.trouble.is_some() => Paint::Bad,
        _ => Paint::Busy,
    };
    let restarts = if pod.restarts > 0 { format!("{} restarts", pod.restarts) } else { String::new() };
    let node = Node::new(Paint::Plain, pod.name.clone())
        .and(paint, pod.state)
        .and(Paint::Dim, pod.node.as_ref().map(|node| format!("on {node}")).unwrap_or_default())
        .and(Paint::Dim, age(pod.age_seconds))
        .and(Paint::Bad, restarts);
    match &pod.trouble {
        // The tree says already which pod it is.
        Some(trouble) => {
            let prefix = format!("pod {} ", pod.name);
            let text = trouble.strip_prefix(&prefix).unwrap_or(trouble).to_owned();
            node.with([Node::new(Paint::Bad, text)])
        }
        None => node,
    }
}

fn steps(attempt: &AttemptView) -> Node {
    let head = Node::new(Paint::Bold, format!("attempt {}", attempt.number))
        .and(Paint::Plain, format!("of {} by {}", attempt.revision, attempt.strategy));
    let head = match &attempt.ended {
        Some(ended) => head.and(Paint::Bad, format!("ended: {ended}")),
        None => head,
    };
    head.with(attempt.steps.iter().enumerate().map(|(index, step)| {
        let number = index + 1;
        match step.state {
            StepState::Done => {
                Node::new(Paint::Good, "✓").and(Paint::Dim, format!("{number}. {}", step.what))
            }
            StepState::Now => {
                Node::new(Paint::Busy, "▶").and(Paint::Busy, format!("{number}. {}", step.what)).and(
                    Paint::Dim,
                    step.since_seconds.map(|since| format!("for {}", age(since))).unwrap_or_default(),
                )
            }
            StepState::Later => {
                Node::new(Paint::Dim, "·").and(Paint::Plain, format!("{number}. {}", step.what))
            }
        }
    }))
}

fn migration(migration: &MigrationView) -> Node {
    let paint = match migration.state {
        "succeeded" => Paint::Good,
        "running" => Paint::Busy,
        _ => Paint::Bad,
    };
    let code = migration.exit_code.map(|code| format!("exit code {code}")).unwrap_or_default();
    let mut node = Node::new(Paint::Bold, migration.what.clone())
        .and(Paint::Plain, migration.job.as_ref().map(|job| format!("Job {job}")).unwrap_or_default())
        .and(paint, migration.state)
        .and(Paint::Bad, code);
    if !migration.message.is_empty() {
        node.push(Node::new(Paint::Bad, migration.message.clone()));
    }
    node.with(tail(&migration.log_tail)).with(migration.pods.iter().map(pod))
}

/// The end of a log.
fn tail(log: &str) -> impl Iterator<Item = Node> {
    let lines: Vec<&str> = log.lines().collect();
    let from = lines.len().saturating_sub(TAIL);
    lines.into_iter().skip(from).map(|line| Node::new(Paint::Dim, format!("| {line}")))
}

fn follow_up(follow_up: &FollowUpView) -> Node {
    let paint = match follow_up.state {
        FollowUpState::Succeeded => Paint::Good,
        FollowUpState::Pending | FollowUpState::Running => Paint::Busy,
        FollowUpState::Ending | FollowUpState::WaitingToRetry | FollowUpState::Failed => Paint::Bad,
    };
    let mut node = Node::new(Paint::Bold, follow_up.what())
        .and(Paint::Plain, follow_up.job.as_ref().map(|job| format!("Job {job}")).unwrap_or_default())
        .and(paint, follow_up.stands())
        .and(Paint::Dim, follow_up.retry_seconds.map(|left| format!("in {}", age(left))).unwrap_or_default());
    if !follow_up.message.is_empty() {
        node.push(Node::new(
            if follow_up.failed() { Paint::Bad } else { Paint::Plain },
            follow_up.message.clone(),
        ));
    }
    node.with(tail(&follow_up.log_tail)).with(follow_up.pods.iter().map(pod))
}

fn gate(gate: &GateView, said: &str) -> Node {
    // These are abnormal when true; the others when false.
    const ABNORMAL: [&str; 7] = [
        "Stalled",
        "Reconciling",
        "NameConflict",
        "SecretRegenerated",
        "DriftPersists",
        "WeightsUnattainable",
        "EdgeRefused",
    ];
    let abnormal = ABNORMAL.contains(&gate.name.as_str());
    let (mark, paint) = match (gate.status.as_str(), abnormal, gate.name.as_str()) {
        ("True", true, "Reconciling") => ("…", Paint::Busy),
        ("True", false, _) | ("False", true, _) => ("✓", Paint::Good),
        ("Unknown", ..) => ("?", Paint::Busy),
        ("False", false, _) if gate.reason == "Waiting" => ("…", Paint::Busy),
        _ => ("✗", Paint::Bad),
    };
    // The first line of the tree says most of it already.
    let first = gate.message.lines().next().unwrap_or_default();
    let message = if said.contains(first) { String::new() } else { first.to_owned() };
    let reason =
        if ["Passed", "Waiting"].contains(&gate.reason.as_str()) { "" } else { gate.reason.as_str() };
    Node::new(paint, mark)
        .and(Paint::Plain, gate.name.clone())
        .and(paint, reason)
        .and(Paint::Dim, format!("for {}", age(gate.since_seconds)))
        .and(Paint::Plain, message)
}
