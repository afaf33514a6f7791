//! Smoke tests.

use jiff::Timestamp;

use super::at;
use crate::{
    api::{SmokeTestPhase, SmokeTestStatus, testing::app},
    plan::{
        JobFailure, JobObs, JobState, SmokeJobObs, World, Write,
        analysis::{
            Answer, Measured, Probe, Proofs, SmokeAssessment, SmokeJudgement, SmokeSpan, smoke, sweep,
        },
    },
};

const REV: &str = "2222222222";
const HTTP: &str = "[{name: home, http: {path: /, retries: 1}}]";
const JOB: &str = "[{name: whole, job: {command: [x]}}]";

struct Lab {
    proofs: Proofs,
    span: SmokeSpan,
    status: Vec<SmokeTestStatus>,
    world: World,
    now: Timestamp,
}

impl Lab {
    fn new(tests: &str) -> Self {
        let proofs =
            Proofs::of(&app(&format!("{{image: x, port: 4001, strategy: {{smokeTests: {tests}}}}}")));
        let span = SmokeSpan {
            name: "step-2".to_owned(),
            attempt: 4,
            revision: REV.to_owned(),
            names: Some(Vec::new()),
        };
        let addresses = [(REV.to_owned(), ["10.0.0.1".to_owned(), "10.0.0.2".to_owned()].into())].into();
        let world = World { addresses, ..World::default() };
        Self { proofs, span, status: Vec::new(), world, now: at(0) }
    }

    fn look(&mut self) -> SmokeAssessment {
        smoke(&self.proofs, &self.span, &mut self.status, &self.world, self.now)
    }

    fn answer(&mut self, answer: Answer) -> SmokeJudgement {
        let key = self.look().measure.remove(0).key;
        self.world.measured = [(key, Measured { at: self.now, answer })].into();
        self.look().judgement
    }

    fn job(&mut self, state: JobState, change: impl FnOnce(&mut SmokeJobObs)) {
        let job = JobObs {
            stage: Default::default(),
            name: "j".to_owned(),
            uid: "u".to_owned(),
            version: "7".to_owned(),
            revision: REV.to_owned(),
            attempt: 4,
            state,
            terminating: false,
            created: at(0),
            waiting: None,
            started: true,
        };
        let mut job = SmokeJobObs { test: "whole".to_owned(), span: "step-2".to_owned(), job };
        change(&mut job);
        self.world.smoke_jobs = vec![job];
    }
}

#[test]
fn each_pod_is_asked_at_its_own_address() {
    let mut lab = Lab::new(HTTP);
    let found = lab.look();
    let Probe::Http { addresses, port, .. } = &found.measure[0].probe else { panic!() };
    assert_eq!((addresses.len(), *port), (2, 4001));
    assert!(matches!(found.judgement, SmokeJudgement::Waiting(_)));
    assert_eq!(lab.answer(Answer::Passed), SmokeJudgement::Passed);
    assert!(lab.look().measure.is_empty(), "once");
}

#[test]
fn pods_of_other_revisions_are_not_asked() {
    let mut lab = Lab::new(HTTP);
    lab.world.addresses = [("1111111111".to_owned(), ["10.0.0.9".to_owned()].into())].into();
    let found = lab.look();
    assert!(found.measure.is_empty());
    assert!(matches!(found.judgement, SmokeJudgement::Waiting(why) if why.contains("waits for a ready pod")));
}

#[test]
fn not_more_pods_than_sixteen_are_asked() {
    let mut lab = Lab::new(HTTP);
    lab.world.addresses = [(REV.to_owned(), (0..500).map(|n| format!("10.0.0.{n}")).collect())].into();
    let Probe::Http { addresses, .. } = lab.look().measure.remove(0).probe else { panic!() };
    assert_eq!(addresses.len(), 16);
}

#[test]
fn a_request_is_made_again_and_then_fails() {
    let mut lab = Lab::new(HTTP);
    let no = || Answer::Failed("10.0.0.1 answered 302".to_owned());
    assert!(matches!(lab.answer(no()), SmokeJudgement::Waiting(why) if why.contains("answered 302")));
    let found = lab.look();
    assert!(found.measure.is_empty());
    assert_eq!(found.wake, Some(at(5)));
    lab.now = at(5);
    assert!(matches!(lab.answer(no()), SmokeJudgement::Failed(why) if why.contains("answered 302")));
    assert_eq!(lab.status[0].tries, 2);
    lab.now = at(100);
    assert!(lab.look().measure.is_empty(), "it has failed for good");
}

#[test]
fn a_job_is_made_and_its_success_counts() {
    let mut lab = Lab::new(JOB);
    let create = Write::CreateSmokeJob {
        revision: REV.to_owned(),
        attempt: 4,
        span: "step-2".to_owned(),
        test: "whole".to_owned(),
    };
    assert_eq!(lab.look().writes, [create]);
    lab.job(JobState::Running, |_| {});
    let found = lab.look();
    assert!(found.writes.is_empty() && matches!(found.judgement, SmokeJudgement::Waiting(_)));
    lab.job(JobState::Succeeded, |_| {});
    assert_eq!(lab.look().judgement, SmokeJudgement::Passed);
    assert!(matches!(sweep(&lab.world, &lab.status, Some(&lab.span)), Some(Write::DeleteJob { .. })));
    lab.world.smoke_jobs.clear();
    let found = lab.look();
    assert_eq!(found.judgement, SmokeJudgement::Passed, "recorded");
    assert!(found.writes.is_empty());
}

#[test]
fn a_deleted_job_is_no_success() {
    let mut lab = Lab::new(JOB);
    lab.look();
    for state in [JobState::Running, JobState::Succeeded] {
        lab.job(state, |job| job.job.terminating = true);
        let found = lab.look();
        assert!(matches!(found.judgement, SmokeJudgement::Waiting(_)), "{found:?}");
        assert!(found.writes.is_empty());
    }
    lab.world.smoke_jobs.clear();
    let found = lab.look();
    assert!(matches!(found.judgement, SmokeJudgement::Waiting(_)));
    assert_eq!(found.writes.len(), 1, "made anew");
}

#[test]
fn a_failed_job_says_why() {
    let mut lab = Lab::new(JOB);
    let failure = JobFailure {
        reason: "BackoffLimitExceeded".to_owned(),
        exit_code: Some(1),
        log_tail: "starting\n** (RuntimeError) no\n    lib/a.ex:1\n".to_owned(),
    };
    lab.job(JobState::Failed(failure), |_| {});
    let SmokeJudgement::Failed(why) = lab.look().judgement else { panic!() };
    assert_eq!(
        why,
        "smoke test whole (step-2): the Job j failed (BackoffLimitExceeded) with exit code 1; its log says: ** \
         (RuntimeError) no"
    );
}

#[test]
fn a_job_of_another_attempt_or_step_does_not_count_and_is_removed() {
    let mut lab = Lab::new(JOB);
    for change in
        [|job: &mut SmokeJobObs| job.job.attempt = 3, |job: &mut SmokeJobObs| job.span = "step-1".to_owned()]
    {
        lab.job(JobState::Succeeded, change);
        assert!(matches!(lab.look().judgement, SmokeJudgement::Waiting(_)));
        assert!(sweep(&lab.world, &lab.status, Some(&lab.span)).is_some());
    }
    lab.job(JobState::Running, |_| {});
    assert_eq!(sweep(&lab.world, &lab.status, Some(&lab.span)), None, "it runs");
    assert!(sweep(&lab.world, &lab.status, None).is_some(), "nothing is under way");
}

#[test]
fn a_step_chooses_its_tests_and_what_it_asks_for_must_be_there() {
    let both = "[{name: home, http: {path: /}}, {name: whole, job: {command: [x]}}]";
    let mut lab = Lab::new(both);
    lab.span.names = Some(vec!["home".to_owned()]);
    assert!(lab.look().writes.is_empty());
    assert_eq!(lab.answer(Answer::Passed), SmokeJudgement::Passed);
    lab.span.names = Some(vec!["home".to_owned(), "gone".to_owned()]);
    assert!(
        matches!(lab.look().judgement, SmokeJudgement::Inconclusive(why) if why.contains("no test gone"))
    );
}

#[test]
fn nothing_to_test_is_not_required_unless_a_step_asks_for_it() {
    let mut lab = Lab::new("[]");
    assert!(matches!(lab.look().judgement, SmokeJudgement::Inconclusive(_)));
    lab.span.names = None;
    assert_eq!(lab.look().judgement, SmokeJudgement::NotRequired);
}

#[test]
fn a_test_in_two_steps_is_made_twice() {
    let mut lab = Lab::new(HTTP);
    lab.answer(Answer::Passed);
    assert_eq!(lab.status[0].phase, SmokeTestPhase::Passed);
    lab.span.name = "step-5".to_owned();
    assert_eq!(lab.look().measure.len(), 1);
    assert_eq!(lab.status[0].phase, SmokeTestPhase::Running);
}

#[test]
fn an_answer_is_counted_once() {
    let mut lab = Lab::new("[{name: home, http: {path: /, retries: 9}}]");
    lab.answer(Answer::Failed("no".to_owned()));
    for _ in 0..3 {
        lab.look();
    }
    assert_eq!(lab.status[0].tries, 1);
}
