//! The election walked exhaustively: candidates that stall at any moment, claims that arrive late or whose answer is
//! lost, kills, signals to stop, a Lease that is deleted. Never may two write at once.

use std::time::Duration;

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::election::{Clock, Election, Loss, Record, Step, Terms};

const TERMS: Terms =
    Terms { lease: Duration::from_secs(3), renew: Duration::from_secs(2), retry: Duration::from_secs(1) };

/// A rule broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    None,
    /// A renewal counts from its answer.
    FromTheAnswer,
    /// A leader trusts its Lease for longer than others do.
    TooLong,
    /// The API server does not compare versions.
    Unversioned,
}

/// Bounds of a walk.
struct Walk {
    candidates: usize,
    /// Seconds.
    horizon: u64,
    /// Kills, signals to stop, and calls without an answer, in all.
    troubles: u8,
    /// Somebody deletes the Lease once, after all have seen whose it is.
    deleted: bool,
    mutant: Mutant,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Asked {
    Claim(Option<String>),
    /// Give it back.
    Release(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Answer {
    Won(Record),
    Refused,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Call {
    asked: Asked,
    sent: Clock,
    /// None: still on its way.
    answer: Option<Answer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Candidate {
    election: Election,
    call: Option<Call>,
    alive: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    now: u64,
    /// Of the Lease; versions are never used twice.
    version: u64,
    lease: Option<Record>,
    candidates: Vec<Candidate>,
    /// Calls nobody waits for any more, with who sent them.
    late: Vec<(usize, Asked)>,
    troubles: u8,
    deletions: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Act {
    Tick,
    /// A candidate does what its machine says; not doing it is being slow, or stopped.
    Begin(usize),
    /// The API server carries a call out.
    Serve(usize),
    /// Its answer is taken in.
    Hear(usize),
    /// No answer is waited for any longer.
    GiveUp(usize),
    /// The API server carries out a call nobody waits for.
    Land(usize),
    Kill(usize),
    Resign(usize),
    Delete,
}

fn name(candidate: usize) -> String {
    format!("candidate-{candidate}")
}

impl Walk {
    fn serve(&self, state: &mut State, who: usize, asked: &Asked) -> Answer {
        let (expected, holder) = match asked {
            Asked::Claim(version) => (version.as_ref(), Some(name(who))),
            Asked::Release(version) => (Some(version), None),
        };
        let there = state.lease.as_ref().map(|record| &record.version);
        if there != expected && self.mutant != Mutant::Unversioned {
            return Answer::Refused;
        }
        state.version += 1;
        let record = Record { holder, lasts: TERMS.lease, version: state.version.to_string() };
        state.lease = Some(record.clone());
        Answer::Won(record)
    }

    fn hear(&self, candidate: &mut Candidate, now: Clock) {
        let Some(Call { sent, answer: Some(answer), .. }) = candidate.call.take() else { return };
        match answer {
            Answer::Won(record) if self.mutant == Mutant::FromTheAnswer => {
                candidate.election.won(record, now);
            }
            Answer::Won(record) => candidate.election.won(record, sent),
            Answer::Refused => candidate.election.refused(now),
        }
    }
}

/// Those that may write now. The gate in front of every write asks the same.
fn writers(state: &State) -> usize {
    let now = Duration::from_secs(state.now);
    let may = |candidate: &&Candidate| {
        candidate.alive && candidate.election.until().is_some_and(|until| now < until)
    };
    state.candidates.iter().filter(may).count()
}

impl Model for Walk {
    type State = State;
    type Action = Act;

    fn init_states(&self) -> Vec<State> {
        let renew = if self.mutant == Mutant::TooLong { TERMS.lease + TERMS.retry } else { TERMS.renew };
        let candidate = |number| Candidate {
            election: Election::new(name(number), Terms { renew, ..TERMS }),
            call: None,
            alive: true,
        };
        let mut state = State {
            now: 0,
            version: 0,
            lease: None,
            candidates: (0..self.candidates).map(candidate).collect(),
            late: Vec::new(),
            troubles: self.troubles,
            deletions: 0,
        };
        if self.deleted {
            let record = Record { holder: Some(name(0)), lasts: TERMS.lease, version: "0".to_owned() };
            state.lease = Some(record.clone());
            state.deletions = 1;
            state.candidates[0].election.won(record.clone(), Clock::ZERO);
            for other in &mut state.candidates[1..] {
                other.election.saw(Some(record.clone()), Clock::ZERO);
            }
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Act>) {
        let now = Duration::from_secs(state.now);
        if state.now < self.horizon {
            actions.push(Act::Tick);
        }
        for (number, candidate) in state.candidates.iter().enumerate().filter(|(_, c)| c.alive) {
            match &candidate.call {
                None => match candidate.election.step(now) {
                    Step::Look | Step::Claim(_) | Step::Lost(Loss::Overdue | Loss::Taken(_)) => {
                        actions.push(Act::Begin(number));
                    }
                    Step::Wait(_) | Step::Lost(Loss::Resigned) => {}
                },
                Some(Call { answer: None, .. }) => actions.push(Act::Serve(number)),
                Some(_) => actions.push(Act::Hear(number)),
            }
            if state.troubles > 0 {
                actions.push(Act::Kill(number));
                if candidate.call.is_some() {
                    actions.push(Act::GiveUp(number));
                }
                if candidate.election.until().is_some() {
                    actions.push(Act::Resign(number));
                }
            }
        }
        actions.extend((0..state.late.len()).map(Act::Land));
        if state.deletions > 0 {
            actions.push(Act::Delete);
        }
    }

    fn next_state(&self, before: &State, act: Act) -> Option<State> {
        let mut state = before.clone();
        let now = Duration::from_secs(state.now);
        match act {
            Act::Tick => state.now += 1,
            Act::Begin(number) => {
                let candidate = &mut state.candidates[number];
                match candidate.election.step(now) {
                    // In one step: a look that comes late is one that begins late.
                    Step::Look => candidate.election.saw(state.lease.clone(), now),
                    Step::Claim(version) => {
                        candidate.call = Some(Call { asked: Asked::Claim(version), sent: now, answer: None });
                    }
                    Step::Lost(_) => candidate.alive = false,
                    Step::Wait(_) => return None,
                }
            }
            Act::Serve(number) => {
                let asked = state.candidates[number].call.as_ref()?.asked.clone();
                let answer = self.serve(&mut state, number, &asked);
                state.candidates[number].call.as_mut()?.answer = Some(answer);
            }
            Act::Hear(number) => self.hear(&mut state.candidates[number], now),
            Act::GiveUp(number) => {
                state.troubles -= 1;
                let candidate = &mut state.candidates[number];
                let call = candidate.call.take()?;
                candidate.election.failed(now);
                forget(&mut state.late, number, call);
            }
            Act::Land(index) => {
                let (who, asked) = state.late.remove(index);
                self.serve(&mut state, who, &asked);
            }
            Act::Kill(number) => {
                state.troubles -= 1;
                let candidate = &mut state.candidates[number];
                candidate.alive = false;
                if let Some(call) = candidate.call.take() {
                    forget(&mut state.late, number, call);
                }
            }
            Act::Resign(number) => {
                state.troubles -= 1;
                let candidate = &mut state.candidates[number];
                if let Some(call) = candidate.call.take() {
                    forget(&mut state.late, number, call);
                }
                if let Some(version) = candidate.election.resign() {
                    state.late.push((number, Asked::Release(version)));
                }
                candidate.alive = false;
            }
            Act::Delete => {
                state.deletions -= 1;
                state.lease = None;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always("never two may write", |_, state| writers(state) <= 1),
            Property::<Self>::sometimes("the second leads after the first", |_, state| {
                let leads = |n: usize| state.candidates[n].election.until().is_some();
                state.version > 1 && state.candidates[1].alive && leads(1) && !state.candidates[0].alive
            }),
            Property::<Self>::sometimes("one leads past its first term", |_, state| {
                state.now > TERMS.renew.as_secs() && writers(state) == 1 && state.version > 1
            }),
        ]
    }
}

/// A call that nobody waits for may still arrive, if it has not yet.
fn forget(late: &mut Vec<(usize, Asked)>, who: usize, call: Call) {
    if call.answer.is_none() {
        late.push((who, call.asked));
    }
}

fn walk(walk: Walk) {
    let checker = walk.checker().spawn_bfs().join();
    println!("{} states, {} of them different", checker.state_count(), checker.unique_state_count());
    checker.assert_properties();
}

fn caught(mutant: Mutant) {
    let walk = Walk { candidates: 2, horizon: 4, troubles: 1, deleted: false, mutant };
    let checker = walk.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let path = checker.discovery("never two may write");
    assert!(path.is_some(), "{mutant:?} was not caught");
}

#[test]
fn two_candidates_never_lead_at_once() {
    walk(Walk { candidates: 2, horizon: 4, troubles: 1, deleted: false, mutant: Mutant::None });
}

#[test]
fn nor_when_somebody_deletes_the_lease() {
    walk(Walk { candidates: 2, horizon: 4, troubles: 1, deleted: true, mutant: Mutant::None });
}

#[cfg(feature = "full-walk")]
mod full {
    use super::*;

    #[test]
    fn full_two_candidates() {
        walk(Walk { candidates: 2, horizon: 5, troubles: 2, deleted: false, mutant: Mutant::None });
    }

    #[test]
    fn full_three_candidates() {
        walk(Walk { candidates: 3, horizon: 3, troubles: 1, deleted: false, mutant: Mutant::None });
    }

    #[test]
    fn full_deleted() {
        walk(Walk { candidates: 2, horizon: 5, troubles: 1, deleted: true, mutant: Mutant::None });
    }
}

#[test]
fn a_renewal_that_counts_from_its_answer_is_caught() {
    caught(Mutant::FromTheAnswer);
}

#[test]
fn a_leader_that_trusts_its_lease_too_long_is_caught() {
    caught(Mutant::TooLong);
}

#[test]
fn an_api_server_that_does_not_compare_versions_is_caught() {
    caught(Mutant::Unversioned);
}
