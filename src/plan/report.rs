//! What the status says: phase, one sentence, and conditions. Everything here follows from the durable facts and
//! what was observed; transition times change only on transitions.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::Draft;
use super::workers::{self, Standing};
use super::world::{Rev, Selector};
use super::{budget, clock, cluster, follow_up, migration, proof, route, strategy};
use crate::api::{
    Candidate, During, FollowUp, FollowUpKind, FollowUpState, LastCommand, MigrationsMode, Outcome, Phase,
    Verdict,
};

/// How a gate stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Gate {
    /// Not judged in this pass: its condition stays as it is.
    #[default]
    Unjudged,
    /// Open.
    Passed,
    /// Open, since there is nothing to do.
    NotRequired,
    /// Closed; why.
    Waiting(String),
    /// Closed after a failure that is tried again.
    Failing { reason: String, message: String },
    /// Closed for good.
    Failed { reason: String, message: String },
}

impl Gate {
    pub(super) const fn is_open(&self) -> bool {
        matches!(self, Self::Passed | Self::NotRequired)
    }
}

/// What the decision found, for the report.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a finding of its own, and none depends on another")]
pub(super) struct Found {
    pub secrets: Gate,
    pub migrated: Gate,
    pub pods: Gate,
    pub traffic: Gate,
    /// The progress deadline has passed.
    pub overdue: bool,
    /// Revisions other than the stable one still have pods.
    pub surplus: bool,
    /// The stable revision serves at its wanted size.
    pub settled: bool,
    /// Whether the nodes of the candidate, or of the stable revision, see each other.
    pub cluster: Gate,
    /// How the workers stand.
    pub workers: Standing,
    /// What no rollback needs any more may go.
    pub prunable: bool,
    /// What else is waited for.
    pub waits: Option<String>,
    /// The database has too few connections for the next step, whatever it is.
    pub blocked: Option<String>,
    /// The rollout waits for a person's `promote`.
    pub person: bool,
    /// A person holds the rollout.
    pub paused: bool,
    /// Checks of the rollout.
    pub analysis: Gate,
    /// Smoke tests of the step under way.
    pub smoke: Gate,
    /// A check is neither good nor bad, and a person has to decide.
    pub inconclusive: Option<String>,
    /// Until when a step waits.
    pub until: Option<Timestamp>,
    /// One pod, and no room for a second: the canary's weights cannot be had.
    pub unsplittable: bool,
    /// What is wrong with the worst pod, ready to be appended.
    pub worst: String,
}

/// The condition that a generated Secret was lost and made anew.
pub const SECRET_REGENERATED: &str = "SecretRegenerated";

/// The condition that a canary has too few pods for any of its weights.
const WEIGHTS_UNATTAINABLE: &str = "WeightsUnattainable";

/// The condition that the Ingress or the HTTPRoute is refused.
pub(super) const EDGE_REFUSED: &str = "EdgeRefused";

/// The condition that the contract of the stable revision is done.
const CONTRACTED: &str = "Contracted";

/// Conditions that tell of one attempt only.
pub(super) const PROOFS: [&str; 2] = ["SmokeTested", "AnalysisPassed"];

/// How many pods a message names.
const NAMED: usize = 5;

/// Phase, sentence, and the three conditions that every reader looks at.
struct Verdicts {
    phase: Phase,
    message: String,
    ready: &'static str,
    reason: String,
    reconciling: bool,
    stalled: bool,
}

/// Fills in everything of the status that readers see.
pub(super) fn report(d: &mut Draft, found: &Found) {
    count(d);
    let verdicts = judge(d, found);
    let mut conditions = Conditions { d, found, verdicts: &verdicts };
    conditions.fill();
    d.status.phase = Some(verdicts.phase);
    d.status.message = verdicts.message;
    d.status.rollback_safe = follow_up::is_final(d).then_some(false);
}

fn count(d: &mut Draft) {
    // What the selector in the status selects, or an autoscaler would take a second colour for load of the first.
    let selected = |rev: &Rev| match d.world.service.as_ref().map(|service| &service.selector) {
        Some(Selector::Only(one)) => one == rev,
        Some(Selector::Wide) | None => true,
    };
    let deployments = d.world.deployments.iter().filter(|(rev, _)| selected(rev));
    let pods: u32 = deployments.map(|(_, deployment)| deployment.pods).sum();
    let serving: u32 = d.world.endpoints.values().sum();
    d.status.replicas = i32::try_from(pods).unwrap_or(i32::MAX);
    d.status.ready_replicas = i32::try_from(serving).unwrap_or(i32::MAX);
}

fn judge(d: &Draft, found: &Found) -> Verdicts {
    if let Some(fault) = &d.world.fault {
        return stalled(Phase::Blocked, &fault.reason, fault.message.clone());
    }
    if d.goal.suspend {
        let message = "suspended: nothing is written but this status; set spec.suspend to false to go on";
        return Verdicts {
            phase: Phase::Suspended,
            message: message.to_owned(),
            ready: "Unknown",
            reason: "Suspended".to_owned(),
            reconciling: false,
            stalled: false,
        };
    }
    let desired = &d.goal.desired;
    let tried = d.status.candidate.as_ref().is_some_and(|candidate| candidate.revision == *desired);
    if follow_up::in_flight(d) && !tried && d.status.stable.as_ref() != Some(desired) {
        let what = "the Job that follows the last rollout has ended; `abort` ends it";
        return progressing(Phase::RollingOut, "Waiting", format!("revision {desired} waits until {what}"));
    }
    match d.status.candidate.as_ref() {
        Some(candidate) => match &candidate.verdict {
            None => under_way(d, found, candidate),
            Some(verdict) => ended(d, found, candidate, verdict),
        },
        None => at_rest(d, found),
    }
}

fn under_way(d: &Draft, found: &Found, candidate: &Candidate) -> Verdicts {
    let head = format!("attempt {} of revision {}", candidate.attempt, candidate.revision);
    let moved_on = if candidate.revision == d.goal.desired {
        String::new()
    } else {
        format!("; revision {} waits until this migration has ended", d.goal.desired)
    };
    if d.goal.replicas == 0 && d.world.jobs.is_empty() {
        return progressing(
            Phase::RollingOut,
            "ScaledToZero",
            format!("{head} waits until replicas is above 0"),
        );
    }
    if let Some(why) = &found.blocked {
        return stalled(Phase::Blocked, budget::REASON, format!("{head}: {why}"));
    }
    if found.paused
        && let Some(verdicts) = waits_for_a_person(d, found, candidate, &head)
    {
        return verdicts;
    }
    for gate in [&found.secrets, &found.migrated] {
        match gate {
            Gate::Waiting(why) if found.overdue => {
                let reason = d.status.migration.as_ref().map_or("", |migration| migration.reason.as_str());
                return stalled(Phase::Blocked, reason, format!("{head}: {why}{moved_on}"));
            }
            Gate::Waiting(why) => {
                let message = format!("{head}: {why}{moved_on}");
                return if migrates(d, candidate) {
                    progressing(Phase::Migrating, "Migrating", message)
                } else {
                    progressing(Phase::RollingOut, "RollingOut", message)
                };
            }
            Gate::Failing { reason, message } => {
                let again = d.status.migration.as_ref().and_then(|m| m.retry_at.as_ref());
                let again = again.map_or_else(String::new, |at| format!("; tried again at {}", at.0));
                let message = format!("{head}: {message}{again}{moved_on}");
                return if found.overdue {
                    stalled(Phase::Blocked, reason, message)
                } else {
                    progressing(Phase::Migrating, reason, message)
                };
            }
            Gate::Failed { message, .. } => {
                return progressing(Phase::RollingBack, "RollingBack", format!("{head}: {message}"));
            }
            Gate::Unjudged | Gate::Passed | Gate::NotRequired => {}
        }
    }
    let worst = d.world.pods.get(&candidate.revision).and_then(|pods| pods.worst.as_ref());
    let worst = worst.map_or_else(String::new, |why| format!("; {why}"));
    if let Some(verdicts) = waits_for_a_person(d, found, candidate, &head) {
        return verdicts;
    }
    let mut message = head;
    if let (Some(until), Gate::Passed) = (found.until, &found.pods) {
        message = format!("{message}: waits until {until}{}", at_weight(candidate));
    } else if let Some(why) = &found.waits {
        message = format!("{message}: {why}");
    } else if let Gate::Failed { message: why, .. } | Gate::Waiting(why) = &found.pods {
        message = format!("{message}: {why}");
    } else if let Gate::Waiting(why) = &found.cluster {
        message = format!("{message}: {why}");
    } else if let (Gate::Waiting(why), _) | (_, Gate::Waiting(why)) = (&found.smoke, &found.analysis) {
        message = format!("{message}: {why}");
    } else if let Gate::Waiting(why) = &found.traffic {
        message = format!("{message}: {why}");
    }
    if found.overdue && d.status.stable.is_none() {
        return stalled(Phase::Blocked, "ProgressDeadlineExceeded", message);
    }
    if !matches!(found.pods, Gate::Failed { .. }) {
        message.push_str(&worst);
    }
    progressing(Phase::RollingOut, "RollingOut", message)
}

/// Whether a Job comes before the candidate's pods. Until the candidate is stored, its spec says so.
fn migrates(d: &Draft, candidate: &Candidate) -> bool {
    let asked = || {
        d.status
            .effective
            .as_ref()
            .is_none_or(|effective| effective.migrations_mode == MigrationsMode::Job.as_str())
    };
    d.world.revisions.get(&candidate.revision).map_or_else(asked, |stored| stored.needs_migration)
}

/// How to give a command by hand.
fn annotate(d: &Draft, command: &str) -> String {
    format!("annotate phoenix-operator.dev/command=\"{}\"", asking(d, command))
}

/// A command in words that will be answered.
fn asking(d: &Draft, command: &str) -> String {
    LastCommand::unanswered(d.status.last_command.as_ref(), command)
}

/// At a pause without an end, or held by a person.
fn waits_for_a_person(d: &Draft, found: &Found, candidate: &Candidate, head: &str) -> Option<Verdicts> {
    let target = format!("{}/{}", candidate.revision, candidate.attempt);
    let message = if found.paused {
        let n = d.status.last_command.as_ref().map_or(0, |last| last.n) + 1;
        let resume = annotate(d, &format!("resume {target}/{n}"));
        format!("{head}: paused by a person; {resume}")
    } else if let Some(why) = &found.inconclusive {
        let promote = annotate(d, &format!("promote {target}"));
        format!("{head}: {why}; a person decides: {promote}, or abort")
    } else if found.person {
        let weight = at_weight(candidate);
        let promote = annotate(d, &format!("promote {target}/{}", candidate.step));
        format!("{head}: waits for a person{weight}; {promote}, or abort")
    } else {
        return None;
    };
    let worst = found.pods.is_open().then(String::new);
    let worst = worst.unwrap_or_else(|| super::decide::worst(d, &candidate.revision));
    Some(progressing(Phase::Paused, "Paused", format!("{message}{worst}")))
}

fn at_weight(candidate: &Candidate) -> String {
    candidate.weight.map_or_else(String::new, |weight| format!(" at {weight} % of the requests"))
}

fn ended(d: &Draft, found: &Found, candidate: &Candidate, verdict: &Verdict) -> Verdicts {
    let phase = match verdict.outcome {
        Outcome::Aborted => Phase::Aborted,
        Outcome::RolledBack => Phase::RolledBack,
        Outcome::Failed | Outcome::Promoted | Outcome::Superseded => Phase::Failed,
    };
    let target = format!("{}/{}", candidate.revision, candidate.attempt);
    let retry = annotate(d, &format!("retry {target}"));
    // It says itself what helps, and another attempt does not.
    let cure = if follow_up::is_forbidden(verdict) {
        String::new()
    } else {
        format!("; change the spec, or {retry}")
    };
    let Some(stable) = &d.status.stable else {
        let message =
            format!("revision {}: {}; what serves stays{cure}", candidate.revision, verdict.message);
        return stalled(phase, &verdict.reason, message);
    };
    if verdict.held {
        let message = format!(
            "revision {}: {}; everything stays as it is{}; {retry} or \"{}\", or change the spec",
            candidate.revision,
            verdict.message,
            found.worst,
            asking(d, &format!("abort {target}"))
        );
        return stalled(phase, &verdict.reason, message);
    }
    if verdict.returned {
        let message = format!(
            "revision {} was not promoted: {}; {} of {} pods of revision {stable} serve{}{}{cure}",
            candidate.revision,
            verdict.message,
            d.world.serving(stable).min(d.goal.replicas),
            d.goal.replicas,
            found.worst,
            following(d)
        );
        return stalled(phase, &verdict.reason, message);
    }
    let waits = found.waits.as_ref().or(d.squeezed.as_ref());
    let waits = waits.map_or_else(String::new, |why| format!("; {why}"));
    let message = format!(
        "returning to revision {stable}: {}; {} of {} of its pods serve{}{waits}",
        verdict.message,
        d.world.serving(stable),
        d.goal.replicas,
        found.worst
    );
    if found.overdue {
        stalled(phase, &verdict.reason, format!("{message}; what serves stays{cure}"))
    } else {
        progressing(Phase::RollingBack, "RollingBack", message)
    }
}

fn at_rest(d: &Draft, found: &Found) -> Verdicts {
    let Some(stable) = &d.status.stable else {
        return progressing(Phase::RollingOut, "Starting", "the first rollout begins".to_owned());
    };
    let (serving, wanted) = (d.world.serving(stable), d.goal.replicas);
    if found.surplus {
        let message =
            format!("returning to revision {stable}: {serving} of {wanted} of its pods serve{}", found.worst);
        return progressing(Phase::RollingBack, "RollingBack", message);
    }
    // A restart or a repair under way takes nothing away from what serves.
    if found.settled || (wanted > 0 && serving >= wanted && d.world.asked(stable) == wanted) {
        match &found.workers {
            Standing::Up => {}
            Standing::Starting(why) => {
                return progressing(Phase::RollingOut, "WorkersStarting", why.clone());
            }
            Standing::NotReady(why) => {
                return progressing(Phase::Degraded, workers::NOT_READY, why.clone());
            }
        }
        let (reason, message) = if wanted == 0 {
            ("ScaledToZero", format!("revision {stable} is scaled to zero"))
        } else {
            (
                "Serving",
                format!(
                    "{serving} of {wanted} pods of revision {stable} serve{}{}{}",
                    replacing(d, stable, found),
                    after_promotion(d),
                    following(d)
                ),
            )
        };
        return Verdicts {
            phase: Phase::Healthy,
            message,
            ready: "True",
            reason: reason.to_owned(),
            reconciling: false,
            stalled: false,
        };
    }
    if serving >= wanted {
        let message = format!("revision {stable} goes from {serving} to {wanted} pods");
        return progressing(Phase::RollingOut, "Resizing", message);
    }
    if let Some(why) = &d.squeezed {
        let message = format!("{serving} of {wanted} pods of revision {stable} serve{}: {why}", found.worst);
        return stalled(Phase::Blocked, budget::REASON, message);
    }
    let waits = found.waits.as_ref().map_or_else(String::new, |why| format!("; {why}"));
    let message = format!("{serving} of {wanted} pods of revision {stable} serve{}{waits}", found.worst);
    progressing(Phase::Degraded, "BelowSize", message)
}

/// How far a restart is, and what keeps it.
fn replacing(d: &Draft, stable: &Rev, found: &Found) -> String {
    let outdated = d.world.deployments.get(stable).map_or(0, |deployment| deployment.outdated);
    if outdated == 0 {
        return String::new();
    }
    format!("; {outdated} pods have yet to be replaced{}", found.worst)
}

/// How the Job stands that follows the last rollout, if there is something to say.
fn following(d: &Draft) -> String {
    let Some(follow_up) = &d.status.follow_up else { return String::new() };
    let (what, revision) = (what(follow_up.kind), &follow_up.revision);
    let why = &follow_up.message;
    match follow_up.state {
        FollowUpState::Pending if follow_up.kind == FollowUpKind::Contract => String::new(),
        FollowUpState::Pending => format!("; {what} of revision {revision} {why}"),
        FollowUpState::Running if why.is_empty() => format!("; {what} of revision {revision} starts"),
        FollowUpState::WaitingToRetry => {
            let at = follow_up
                .retry_at
                .as_ref()
                .map_or_else(String::new, |at| format!("; tried again at {}", at.0));
            format!("; {why}{at}")
        }
        FollowUpState::Running | FollowUpState::Ending | FollowUpState::Failed => format!("; {why}"),
        FollowUpState::Succeeded => match follow_up.kind {
            FollowUpKind::Contract => String::new(),
            FollowUpKind::Rollback => format!("; the migrations of revision {revision} are rolled back"),
        },
    }
}

const fn what(kind: FollowUpKind) -> &'static str {
    match kind {
        FollowUpKind::Contract => "the contract",
        FollowUpKind::Rollback => "the way back of the migrations",
    }
}

/// What still follows from the last promotion.
fn after_promotion(d: &Draft) -> String {
    if d.status.paused {
        return "; a person said pause: the next rollout waits for resume".to_owned();
    }
    if let (Some(bake), Some(previous)) = (&d.status.bake, &d.status.previous) {
        let lasts = i64::try_from(strategy::bake(d, bake.strategy).as_secs()).unwrap_or(i64::MAX);
        let until = clock::after(bake.since.0, lasts);
        let checked = d.goal.proofs.checks.iter().any(|check| check.is_measured(During::Bake, bake.strategy));
        let or = if checked { " or a failed check" } else { "" };
        return format!("; until {until} an abort{or} returns to revision {previous}");
    }
    String::new()
}

fn progressing(phase: Phase, reason: &str, message: String) -> Verdicts {
    Verdicts { phase, message, ready: "False", reason: reason.to_owned(), reconciling: true, stalled: false }
}

fn stalled(phase: Phase, reason: &str, message: String) -> Verdicts {
    Verdicts { phase, message, ready: "False", reason: reason.to_owned(), reconciling: false, stalled: true }
}

struct Conditions<'a, 'b> {
    d: &'a mut Draft<'b>,
    found: &'a Found,
    verdicts: &'a Verdicts,
}

impl Conditions<'_, '_> {
    fn fill(&mut self) {
        let verdicts = self.verdicts;
        self.set("Ready", verdicts.ready, &verdicts.reason, &verdicts.message);
        self.set_or_remove("Reconciling", verdicts.reconciling);
        self.set_or_remove("Stalled", verdicts.stalled);
        self.available();
        let conflict = self.d.world.fault.as_ref().is_some_and(|fault| fault.reason == "NameConflict");
        self.set_or_remove("NameConflict", conflict);
        self.gate("SecretsReady", &self.found.secrets);
        self.gate("Migrated", &self.migrated());
        self.gate("PodsReady", &self.pods());
        self.cluster_formed();
        self.gate("SmokeTested", &self.proven(&self.found.smoke, proof::SMOKE_TEST_FAILED));
        self.gate("AnalysisPassed", &self.proven(&self.found.analysis, proof::ANALYSIS_FAILED));
        self.gate("TrafficShifted", &self.traffic());
        self.set_or_remove_with(
            WEIGHTS_UNATTAINABLE,
            // not any more once it is promoted
            self.found.unsplittable && self.d.status.candidate.is_some(),
            "OnePodWithoutSurge",
            "one pod cannot be split: the steps are skipped and the pod is replaced as type Rolling would; raise \
             replicas or strategy.canary.maxSurge",
        );
        let edge = self.d.world.edge.clone();
        let (reason, message) = edge.as_ref().map_or(("", ""), |fault| (&fault.reason, &fault.message));
        self.set_or_remove_with(EDGE_REFUSED, edge.is_some(), reason, message);
        self.contracted();
        match route::condition(self.d) {
            route::Stance::AsBefore => {}
            route::Stance::Absent => {
                self.d.status.conditions.retain(|one| one.type_ != route::ROUTE_ACCEPTED);
            }
            route::Stance::Is(status, reason, message) => {
                self.set(route::ROUTE_ACCEPTED, status, &reason, &message);
            }
        }
        self.secret_regenerated();
    }

    /// How the contract of the stable revision stands, if it has one.
    fn contracted(&mut self) {
        let world = self.d.world;
        let stored = self.d.status.stable.as_ref().and_then(|stable| world.revisions.get(stable));
        let Some(stored) = stored.filter(|stored| stored.has_contract) else {
            self.d.status.conditions.retain(|condition| condition.type_ != CONTRACTED);
            return;
        };
        let contracts = |known: &&FollowUp| known.kind == FollowUpKind::Contract;
        let gate = match self.d.status.follow_up.as_ref().filter(contracts) {
            _ if stored.contracted => Gate::Passed,
            Some(FollowUp { state: FollowUpState::Pending | FollowUpState::Running, message, .. }) => {
                Gate::Waiting(message.clone())
            }
            Some(known) => {
                let reason = if known.reason.is_empty() { "Failed" } else { known.reason.as_str() };
                let tail = &known.log_tail;
                let end = if tail.is_empty() { String::new() } else { format!("\n{tail}") };
                Gate::Failing { reason: reason.to_owned(), message: format!("{}{end}", known.message) }
            }
            None => Gate::Waiting("waits until no rollout is under way".to_owned()),
        };
        self.gate(CONTRACTED, &gate);
    }

    fn cluster_formed(&mut self) {
        if self.d.goal.verify.is_some() {
            self.gate("ClusterFormed", &self.found.cluster);
        } else {
            self.set("ClusterFormed", "Unknown", "NotVerified", "spec.clustering.verify is not set");
        }
    }

    /// Stays until no pod holds values of the Secret that was there before.
    fn secret_regenerated(&mut self) {
        let world = self.d.world;
        let anew = world.secret_posted.as_ref().is_some_and(|posted| posted.created)
            && (world.secret_missing || self.d.status.stable.is_some());
        let known = |condition: &Condition| condition.type_ == SECRET_REGENERATED;
        if anew {
            // Another time, another transition.
            self.d.status.conditions.retain(|condition| !known(condition));
        }
        let holders = &world.secret_holders;
        if anew || (self.d.status.conditions.iter().any(known) && !holders.is_empty()) {
            let (named, others) = holders.split_at(holders.len().min(NAMED));
            let others =
                if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
            let restart = if holders.is_empty() {
                String::new()
            } else {
                format!("; restart the pods that hold the old ones: {}{others}", named.join(", "))
            };
            let message =
                format!("the generated Secret was missing and was made anew with new values{restart}");
            self.set(SECRET_REGENERATED, "True", "SecretWasMissing", &message);
        } else {
            self.d.status.conditions.retain(|condition| !known(condition));
        }
    }

    fn available(&mut self) {
        let serving: u32 = self.d.world.endpoints.values().sum();
        let (status, reason, message) = match (serving, self.d.goal.replicas) {
            (0, 0) => ("False", "ScaledToZero", "no pods are asked for".to_owned()),
            (0, _) => ("False", "NothingServes", "no pod receives requests".to_owned()),
            (n, _) => ("True", "Serving", format!("{n} pods receive requests")),
        };
        self.set("Available", status, reason, &message);
    }

    fn verdict(&self) -> Option<&Verdict> {
        self.d.status.candidate.as_ref().and_then(|candidate| candidate.verdict.as_ref())
    }

    /// A proof that failed stays so until another attempt.
    fn proven(&self, gate: &Gate, reason: &str) -> Gate {
        match self.verdict() {
            Some(verdict) if verdict.reason == reason => {
                Gate::Failed { reason: verdict.reason.clone(), message: verdict.message.clone() }
            }
            _ => gate.clone(),
        }
    }

    fn migrated(&self) -> Gate {
        match self.verdict() {
            Some(verdict) if verdict.reason == migration::FAILED => self.failed_migration(verdict),
            _ => self.found.migrated.clone(),
        }
    }

    /// The log tail is part of the condition, so that `kubectl describe` shows it.
    fn failed_migration(&self, verdict: &Verdict) -> Gate {
        let tail = self.d.status.migration.as_ref().map_or("", |migration| migration.log_tail.as_str());
        let message =
            if tail.is_empty() { verdict.message.clone() } else { format!("{}\n{tail}", verdict.message) };
        Gate::Failed { reason: verdict.reason.clone(), message }
    }

    fn pods(&self) -> Gate {
        let at_rest = self.d.status.candidate.is_none() && self.d.status.stable.is_some();
        match self.verdict() {
            Some(verdict) if !about_something_else(verdict) => {
                Gate::Failed { reason: verdict.reason.clone(), message: verdict.message.clone() }
            }
            _ if at_rest && self.verdicts.phase == Phase::Healthy => Gate::Passed,
            _ if at_rest && self.verdicts.phase == Phase::Degraded => {
                Gate::Waiting(self.verdicts.message.clone())
            }
            _ => self.found.pods.clone(),
        }
    }

    fn traffic(&self) -> Gate {
        let at_rest = self.d.status.candidate.is_none() && self.d.status.stable.is_some();
        match self.verdict() {
            Some(verdict) => {
                Gate::Failed { reason: verdict.reason.clone(), message: verdict.message.clone() }
            }
            None if at_rest && self.found.settled && !self.found.surplus => Gate::Passed,
            None => self.found.traffic.clone(),
        }
    }

    fn gate(&mut self, kind: &str, gate: &Gate) {
        match gate {
            Gate::Unjudged => {}
            Gate::Passed => self.set(kind, "True", "Passed", ""),
            Gate::NotRequired => self.set(kind, "True", "NotRequired", "there is nothing to do"),
            Gate::Waiting(message) => self.set(kind, "False", "Waiting", message),
            Gate::Failing { reason, message } | Gate::Failed { reason, message } => {
                self.set(kind, "False", reason, message);
            }
        }
    }

    /// Abnormal conditions are present only while they are true.
    fn set_or_remove(&mut self, kind: &str, present: bool) {
        let verdicts = self.verdicts;
        self.set_or_remove_with(kind, present, &verdicts.reason, &verdicts.message);
    }

    fn set_or_remove_with(&mut self, kind: &str, present: bool, reason: &str, message: &str) {
        if present {
            self.set(kind, "True", reason, message);
        } else {
            self.d.status.conditions.retain(|condition| condition.type_ != kind);
        }
    }

    fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let generation = Some(self.d.goal.generation);
        let now = self.d.now;
        let reason = word(reason);
        let conditions = &mut self.d.status.conditions;
        if let Some(known) = conditions.iter_mut().find(|condition| condition.type_ == kind) {
            if known.status != status {
                known.last_transition_time = Time(now);
            }
            status.clone_into(&mut known.status);
            known.reason = reason;
            message.clone_into(&mut known.message);
            known.observed_generation = generation;
        } else {
            conditions.push(Condition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason,
                message: message.to_owned(),
                last_transition_time: Time(now),
                observed_generation: generation,
            });
        }
    }
}

/// It ended for another reason than its pods.
fn about_something_else(verdict: &Verdict) -> bool {
    [
        migration::FAILED,
        follow_up::BEHIND_CONTRACT,
        proof::ANALYSIS_FAILED,
        proof::SMOKE_TEST_FAILED,
        route::NOT_ACCEPTED,
        cluster::NOT_FORMED,
        workers::NOT_READY,
    ]
    .contains(&verdict.reason.as_str())
}

/// A condition's reason is one CamelCase word; the API convention refuses an empty one.
fn word(reason: &str) -> String {
    let word: String = reason.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    if word.is_empty() { "Unknown".to_owned() } else { word }
}
