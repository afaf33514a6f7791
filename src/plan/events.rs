//! Events: one for each transition between two statuses, none without one.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::report::{EDGE_REFUSED, SECRET_REGENERATED};
use crate::api::{
    Candidate, FollowUp, FollowUpKind, FollowUpState, MigrationState, Outcome, PhoenixAppStatus,
};

/// Whether an event tells of something that went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// All is as it should be.
    Normal,
    /// Somebody should look.
    Warning,
}

/// Something that happened to the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Normal or Warning.
    pub kind: EventKind,
    /// A word for machines.
    pub reason: &'static str,
    /// A sentence for people.
    pub note: String,
}

/// What happened between two statuses.
pub fn events(old: &PhoenixAppStatus, new: &PhoenixAppStatus) -> Vec<Event> {
    let mut events = Vec::new();
    attempts(old, new, &mut events);
    migration(old, new, &mut events);
    events.extend(follow_up(old, new));
    if new.stable != old.stable
        && let Some(stable) = &new.stable
    {
        let left = new.history.first().is_some_and(|last| last.outcome == Outcome::RolledBack);
        let tried = old.candidate.as_ref().filter(|_| !left);
        let rolled_out = tried.is_some_and(|candidate| candidate.revision == *stable);
        events.push(match &old.stable {
            _ if rolled_out => normal("Promoted", format!("revision {stable} is stable")),
            Some(left) => normal("Reverted", format!("revision {stable} is stable again, instead of {left}")),
            None => normal("Recovered", format!("the stored revisions tell that {stable} is stable")),
        });
    }
    if new.last_command != old.last_command
        && let Some(command) = &new.last_command
    {
        events
            .push(normal("Command", format!("{:?} {:?}: {}", command.text, command.answer, command.message)));
    }
    if new.phase == Some(crate::api::Phase::Paused) && old.phase != new.phase {
        events.push(normal("Paused", new.message.clone()));
    }
    for kind in ["Stalled", SECRET_REGENERATED, EDGE_REFUSED] {
        if let (before, Some(now)) = (condition(old, kind), condition(new, kind))
            && before.is_none_or(|before| before.last_transition_time != now.last_transition_time)
        {
            events.push(warning(kind, now.message.clone()));
        }
    }
    let wanted = new.conditions.iter().any(|c| c.type_ == "Available" && c.reason == "ScaledToZero");
    if available(old) && !available(new) && !wanted && new.phase != Some(crate::api::Phase::Suspended) {
        events.push(warning("Unavailable", new.message.clone()));
    }
    events
}

fn attempts(old: &PhoenixAppStatus, new: &PhoenixAppStatus, events: &mut Vec<Event>) {
    let Some(candidate) = &new.candidate else { return };
    let known = old.candidate.as_ref().filter(|before| before.attempt == candidate.attempt);
    let name = format!("revision {}, attempt {}", candidate.revision, candidate.attempt);
    if known.is_none() {
        events.push(normal("RolloutStarted", name.clone()));
    }
    let verdict = |candidate: &Candidate| candidate.verdict.clone();
    let before = known.and_then(verdict);
    if let Some(verdict) = verdict(candidate) {
        if before.is_none() {
            events.push(warning("RolloutEnded", format!("{name}: {}", verdict.message)));
        }
        if verdict.returned && !before.is_some_and(|before| before.returned) && new.stable.is_some() {
            events.push(normal("Returned", format!("{name}: all traffic is on the stable revision")));
        }
    }
}

fn migration(old: &PhoenixAppStatus, new: &PhoenixAppStatus, events: &mut Vec<Event>) {
    let failing = |status: &PhoenixAppStatus| {
        status.migration.as_ref().filter(|m| m.state == MigrationState::Ending).map(|m| m.message.clone())
    };
    if let (None, Some(message)) = (failing(old), failing(new)) {
        events.push(warning("MigrationFailed", message));
    }
}

fn follow_up(old: &PhoenixAppStatus, new: &PhoenixAppStatus) -> Option<Event> {
    let now = new.follow_up.as_ref()?;
    let same = |known: &&FollowUp| (known.kind, known.attempt) == (now.kind, now.attempt);
    let before = old.follow_up.as_ref().filter(same).map(|known| known.state);
    if before == Some(now.state) {
        return None;
    }
    let revision = &now.revision;
    match (now.kind, now.state) {
        (FollowUpKind::Contract, FollowUpState::Succeeded) => {
            Some(normal("Contracted", format!("the contract of revision {revision} is done")))
        }
        (FollowUpKind::Rollback, FollowUpState::Succeeded) => Some(normal(
            "MigrationsRolledBack",
            format!("the migrations of revision {revision} are rolled back"),
        )),
        (FollowUpKind::Contract, FollowUpState::Ending) => {
            Some(warning("ContractFailed", now.message.clone()))
        }
        (FollowUpKind::Rollback, FollowUpState::Ending) => {
            Some(warning("MigrationsNotRolledBack", now.message.clone()))
        }
        (_, FollowUpState::Failed) if before != Some(FollowUpState::Ending) => {
            Some(warning("FollowUpGivenUp", now.message.clone()))
        }
        _ => None,
    }
}

fn condition<'a>(status: &'a PhoenixAppStatus, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == kind && condition.status == "True")
}

fn available(status: &PhoenixAppStatus) -> bool {
    condition(status, "Available").is_some()
}

const fn normal(reason: &'static str, note: String) -> Event {
    Event { kind: EventKind::Normal, reason, note }
}

const fn warning(reason: &'static str, note: String) -> Event {
    Event { kind: EventKind::Warning, reason, note }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stable(revision: &str) -> PhoenixAppStatus {
        PhoenixAppStatus { stable: Some(revision.to_owned()), ..PhoenixAppStatus::default() }
    }

    #[test]
    fn only_a_rollout_promotes() {
        let reasons = |old: &PhoenixAppStatus, new: &PhoenixAppStatus| -> Vec<&str> {
            events(old, new).iter().map(|event| event.reason).collect()
        };
        let candidate = serde_json::json!({
            "revision": "b", "attempt": 2, "strategy": "Rolling", "startedAt": "2026-01-01T00:00:00Z",
        });
        let candidate = serde_json::from_value(candidate).unwrap();
        let under_way = PhoenixAppStatus { candidate: Some(candidate), attempt: 2, ..stable("a") };
        assert_eq!(reasons(&under_way, &stable("b")), ["Promoted"]);
        assert_eq!(reasons(&stable("b"), &stable("a")), ["Reverted"]);
        assert_eq!(reasons(&PhoenixAppStatus::default(), &stable("a")), ["Recovered"]);
        assert!(reasons(&stable("a"), &stable("a")).is_empty());
    }
}
