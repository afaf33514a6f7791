//! Checks.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::at;
use crate::{
    api::{CheckPhase, CheckStatus, During, Preset, StrategyKind, testing::app},
    plan::analysis::{
        Answer, Assessment, CheckGoal, Judgement, MeasureKey, Measured, Probe, Proofs, Span, Which,
        acknowledge, assess,
    },
};

/// Checks of an app, as YAML.
fn checks(list: &str) -> Vec<CheckGoal> {
    Proofs::of(&app(&format!("{{image: x, strategy: {{analysis: {list}}}}}"))).checks
}

pub(super) const ERRORS: &str =
    "[{name: errors, query: q, max: '0.05', warnMax: '0.02', interval: 10s, count: 3}]";

/// A rollout that is being measured: what the controller does around [`assess`].
pub(super) struct Lab {
    checks: Vec<CheckGoal>,
    span: Span,
    pub status: Vec<CheckStatus>,
    pub now: Timestamp,
}

impl Lab {
    pub fn new(list: &str) -> Self {
        let span = Span {
            name: "step-1".to_owned(),
            attempt: 4,
            revision: "2222222222".to_owned(),
            stable: "1111111111".to_owned(),
            which: Which::Named(Vec::new()),
            at_least: Duration::ZERO,
        };
        Self { checks: checks(list), span, status: Vec::new(), now: at(0) }
    }

    pub fn look(&mut self, measured: &BTreeMap<MeasureKey, Measured>) -> Assessment {
        let spans = std::slice::from_ref(&self.span);
        assess(&self.checks, spans, &mut self.status, measured, self.now).remove(0)
    }

    /// Lets time pass until something is due, and answers all that is asked with the same.
    pub fn answer(&mut self, answer: &Answer) -> Judgement {
        let mut found = self.look(&BTreeMap::new());
        for _ in 0..10 {
            if !found.measure.is_empty() {
                break;
            }
            self.now = found.wake.expect("something to wait for").max(self.now);
            found = self.look(&BTreeMap::new());
        }
        assert!(!found.measure.is_empty(), "never due");
        let measured = found
            .measure
            .iter()
            .map(|one| (one.key.clone(), Measured { at: self.now, answer: answer.clone() }));
        self.look(&measured.collect()).judgement
    }

    fn value(&mut self, value: &str) -> Judgement {
        self.answer(&Answer::Value(value.to_owned()))
    }

    fn nothing(&mut self) -> Judgement {
        self.answer(&Answer::Nothing("prometheus does not answer".to_owned()))
    }
}

#[test]
fn it_takes_all_its_successes_to_pass() {
    let mut lab = Lab::new(ERRORS);
    assert!(matches!(lab.value("0.01"), Judgement::Passing(_)));
    assert!(matches!(lab.value("0"), Judgement::Passing(_)));
    assert_eq!(lab.value("0.02"), Judgement::Passed);
    assert_eq!(lab.status[0].phase, CheckPhase::Passed);
    assert_eq!(lab.now, at(20), "at once, then every ten seconds");
}

#[test]
fn without_a_measurement_nothing_passes() {
    let mut lab = Lab::new(ERRORS);
    for seconds in [0, 10, 100_000] {
        lab.now = at(seconds);
        assert!(matches!(lab.look(&BTreeMap::new()).judgement, Judgement::Waiting(_)), "{seconds}");
    }
}

#[test]
fn a_failure_fails_at_once_unless_some_are_borne() {
    assert!(
        matches!(Lab::new(ERRORS).value("0.1"), Judgement::Failed(why) if why.contains("0.1 is above max 0.05"))
    );
    let mut lab = Lab::new("[{name: a, query: q, max: '1', failureLimit: 1, count: 2}]");
    assert!(matches!(lab.value("2"), Judgement::Waiting(_)));
    assert!(matches!(lab.value("0"), Judgement::Passing(_)));
    assert!(matches!(lab.value("2"), Judgement::Failed(_)), "not only those in a row");
}

#[test]
fn a_failed_check_is_not_measured_any_more() {
    let mut lab = Lab::new(ERRORS);
    lab.value("1");
    lab.now = at(100);
    let found = lab.look(&BTreeMap::new());
    assert!(found.measure.is_empty() && found.wake.is_none());
}

#[test]
fn limits_themselves_are_within() {
    let mut lab = Lab::new("[{name: a, query: q, min: '1', max: '2', count: 1}]");
    assert_eq!(lab.value("1"), Judgement::Passed);
    assert_eq!(lab.value("2"), Judgement::Passed);
    assert!(matches!(Lab::new("[{name: a, query: q, min: '1'}]").value("0.999"), Judgement::Failed(_)));
}

#[test]
fn what_is_no_number_is_never_a_success() {
    for answer in [
        Answer::Value("NaN".to_owned()),
        Answer::Value("+Inf".to_owned()),
        Answer::Value("-Inf".to_owned()),
        Answer::Value(String::new()),
        Answer::Value("many".to_owned()),
        Answer::Nothing("no data".to_owned()),
        Answer::Nothing("timed out".to_owned()),
        Answer::Passed,
    ] {
        let mut lab = Lab::new(ERRORS);
        assert!(matches!(lab.answer(&answer), Judgement::Waiting(_)), "{answer:?}");
        assert!(matches!(lab.answer(&answer), Judgement::Waiting(_)), "{answer:?}");
        assert!(matches!(lab.answer(&answer), Judgement::Inconclusive(_)), "{answer:?}");
        assert_eq!(lab.status[0].successes, 0);
    }
}

#[test]
fn beyond_a_warning_pauses_and_beyond_a_limit_fails() {
    let mut lab = Lab::new("[{name: a, query: q, max: '0.05', warnMax: '0.02', inconclusiveLimit: 0}]");
    assert!(
        matches!(lab.value("0.03"), Judgement::Inconclusive(why) if why.contains("0.03 is above warnMax 0.02"))
    );
    assert!(matches!(lab.value("0.01"), Judgement::Inconclusive(_)), "only a person lifts it");
    assert!(matches!(lab.value("0.06"), Judgement::Failed(_)), "but it may still fail");
}

#[test]
fn a_person_lets_an_inconclusive_check_go_on() {
    let mut lab = Lab::new("[{name: a, query: q, max: '1', inconclusiveLimit: 0, count: 2}]");
    lab.value("0");
    assert!(matches!(lab.nothing(), Judgement::Inconclusive(_)));
    acknowledge(&mut lab.status);
    assert!(matches!(lab.look(&BTreeMap::new()).judgement, Judgement::Waiting(_)));
    assert_eq!(lab.value("0"), Judgement::Passed, "successes before it count");
    assert!(matches!(lab.nothing(), Judgement::Inconclusive(_)), "and it may come again");
}

#[test]
fn a_number_between_makes_a_row_begin_anew() {
    let mut lab = Lab::new("[{name: a, query: q, max: '1', count: 3}]");
    for _ in 0..2 {
        lab.nothing();
        lab.nothing();
        assert!(matches!(lab.value("0"), Judgement::Passing(_)));
    }
    lab.nothing();
    assert_eq!(lab.value("0"), Judgement::Passed);
    assert!(matches!(lab.nothing(), Judgement::Waiting(_)), "the last one must be a success");
}

#[test]
fn a_step_lasts_as_long_as_it_is_to() {
    let mut lab = Lab::new(ERRORS);
    lab.span.at_least = Duration::from_secs(35);
    for _ in 0..3 {
        assert!(matches!(lab.value("0"), Judgement::Passing(_)));
    }
    lab.now = at(35);
    assert_eq!(lab.look(&BTreeMap::new()).judgement, Judgement::Passed);
    assert!(matches!(lab.value("1"), Judgement::Failed(_)), "and is measured to its end");
}

#[test]
fn the_end_of_a_step_wakes() {
    let mut lab = Lab::new("[{name: a, query: q, max: '1', interval: 1h, count: 1}]");
    lab.span.at_least = Duration::from_mins(1);
    lab.value("0");
    assert_eq!(lab.look(&BTreeMap::new()).wake, Some(at(60)));
}

#[test]
fn the_first_measurement_may_be_delayed() {
    let mut lab = Lab::new("[{name: a, query: q, max: '1', initialDelay: 30s, interval: 10s}]");
    let found = lab.look(&BTreeMap::new());
    assert!(found.measure.is_empty());
    assert_eq!(found.wake, Some(at(30)));
    lab.value("0");
    assert_eq!(lab.now, at(30));
    assert_eq!(lab.look(&BTreeMap::new()).wake, Some(at(40)));
}

#[test]
fn what_is_due_is_asked_for_until_it_is_answered_and_counted_once() {
    let mut lab = Lab::new(ERRORS);
    let asked = lab.look(&BTreeMap::new()).measure;
    assert_eq!(lab.look(&BTreeMap::new()).measure, asked);
    let answer = Measured { at: lab.now, answer: Answer::Value("0".to_owned()) };
    let measured: BTreeMap<_, _> = [(asked[0].key.clone(), answer)].into();
    for _ in 0..3 {
        assert!(lab.look(&measured).measure.is_empty());
        assert_eq!(lab.status[0].measured, 1);
    }
}

#[test]
fn answers_of_another_attempt_span_or_number_do_not_count() {
    let mut lab = Lab::new(ERRORS);
    let key = lab.look(&BTreeMap::new()).measure.remove(0).key;
    let answer = Measured { at: lab.now, answer: Answer::Value("0".to_owned()) };
    for wrong in [
        MeasureKey { attempt: key.attempt - 1, ..key.clone() },
        MeasureKey { span: "step-0".to_owned(), ..key.clone() },
        MeasureKey { n: key.n + 1, ..key.clone() },
        MeasureKey { name: "other".to_owned(), ..key.clone() },
        MeasureKey { kind: crate::plan::analysis::MeasureKind::SmokeTest, ..key },
    ] {
        lab.look(&[(wrong, answer.clone())].into());
        assert_eq!(lab.status[0].measured, 0);
    }
}

#[test]
fn a_new_attempt_begins_anew() {
    let mut lab = Lab::new(ERRORS);
    lab.value("1");
    lab.span.attempt += 1;
    assert!(matches!(lab.look(&BTreeMap::new()).judgement, Judgement::Waiting(_)));
    assert_eq!(lab.status.len(), 1);
    assert_eq!(lab.status[0].attempt, 5);
}

#[test]
fn spans_count_apart() {
    let checks = checks(ERRORS);
    let mut lab = Lab::new(ERRORS);
    let background = Span {
        name: "rollout".to_owned(),
        which: Which::Background(During::Rollout, StrategyKind::Canary),
        ..lab.span.clone()
    };
    let spans = [background, lab.span.clone()];
    let found = assess(&checks, &spans, &mut lab.status, &BTreeMap::new(), lab.now);
    let answer = Measured { at: lab.now, answer: Answer::Value("1".to_owned()) };
    let measured = [(found[1].measure[0].key.clone(), answer)].into();
    let found = assess(&checks, &spans, &mut lab.status, &measured, lab.now);
    assert!(matches!(found[0].judgement, Judgement::Waiting(_)));
    assert!(matches!(found[1].judgement, Judgement::Failed(_)));
}

#[test]
fn the_worst_check_decides() {
    let mut lab =
        Lab::new("[{name: a, query: a, max: '1', count: 1}, {name: b, query: b, max: '2', count: 1}]");
    assert!(matches!(lab.value("1.5"), Judgement::Failed(why) if why.starts_with("check a ")));
    assert_eq!(lab.status[1].phase, CheckPhase::Passed);
}

#[test]
fn a_step_that_names_what_is_not_there_is_no_success() {
    let mut lab = Lab::new(ERRORS);
    lab.span.which = Which::Named(vec!["errors".to_owned(), "gone".to_owned()]);
    for _ in 0..4 {
        assert!(matches!(lab.value("0"), Judgement::Inconclusive(why) if why.contains("no check gone")));
    }
    lab.checks.clear();
    lab.span.which = Which::Named(Vec::new());
    assert!(matches!(lab.look(&BTreeMap::new()).judgement, Judgement::Inconclusive(_)));
}

#[test]
fn in_the_background_nothing_to_measure_is_not_required() {
    let mut lab = Lab::new(ERRORS);
    lab.span.which = Which::Background(During::Rollout, StrategyKind::BlueGreen);
    assert_eq!(lab.look(&BTreeMap::new()).judgement, Judgement::NotRequired);
    lab.span.which = Which::Background(During::Bake, StrategyKind::BlueGreen);
    assert!(matches!(lab.look(&BTreeMap::new()).judgement, Judgement::Waiting(_)));
}

#[test]
fn when_checks_are_measured_may_be_chosen() {
    let chosen = checks(
        "[{name: a, query: q, max: '1', during: [Rollout]}, {name: b, query: q, max: '1', during: []}]",
    );
    let times = |check: &CheckGoal| {
        [During::Rollout, During::Bake].map(|during| check.is_measured(during, StrategyKind::BlueGreen))
    };
    assert_eq!(times(&chosen[0]), [true, false]);
    assert_eq!(times(&chosen[1]), [false, false]);
    let usual = checks(ERRORS);
    assert_eq!(times(&usual[0]), [false, true]);
    for strategy in [StrategyKind::Canary, StrategyKind::Rolling] {
        assert!(
            usual[0].is_measured(During::Rollout, strategy) && usual[0].is_measured(During::Bake, strategy)
        );
    }
}

#[test]
fn a_clock_that_jumps_back_does_not_stop_the_measuring() {
    let mut lab = Lab::new(ERRORS);
    lab.now = at(100_000);
    lab.value("0");
    lab.now = at(0);
    assert_eq!(lab.look(&BTreeMap::new()).measure.len(), 1);
    assert_eq!(lab.value("0"), Judgement::Passing("check errors (step-1) has 2 of 3 successes".to_owned()));
    assert_eq!(lab.now, at(0));
    assert_eq!(lab.look(&BTreeMap::new()).wake, Some(at(10)));
}

#[test]
fn a_beginning_in_the_future_is_now() {
    let mut lab = Lab::new("[{name: a, query: q, max: '1', initialDelay: 30s}]");
    lab.now = at(100_000);
    lab.look(&BTreeMap::new());
    lab.now = at(0);
    assert_eq!(lab.look(&BTreeMap::new()).wake, Some(at(30)));
    lab.now = at(30);
    assert_eq!(lab.look(&BTreeMap::new()).measure.len(), 1);
}

#[test]
fn placeholders_are_filled_in() {
    let all = "'{{app}} {{namespace}} {{release}} {{revision}} {{stable}} {{window}}'";
    let mut lab = Lab::new(&format!("[{{name: a, query: {all}, max: '1', window: 2m}}]"));
    let Probe::Query { provider, query } = lab.look(&BTreeMap::new()).measure.remove(0).probe else {
        panic!()
    };
    assert_eq!(query, "shop prod shop 2222222222 1111111111 2m");
    assert_eq!(provider, "prometheus");
}

#[test]
fn presets_are_whole_queries_with_the_usual_limits() {
    for preset in Preset::ALL {
        let found = checks(&format!("[{{name: a, preset: {preset:?}}}]"));
        let query = found[0].query.replace("{{revision}}", "2222222222");
        assert!(!query.contains("{{"), "{query}");
        for (open, close) in [('(', ')'), ('{', '}'), ('[', ']')] {
            assert_eq!(query.matches(open).count(), query.matches(close).count(), "{query}");
        }
        for label in [
            r#"namespace="prod""#,
            r#"phoenix_operator_dev_app="shop""#,
            r#"phoenix_operator_dev_revision="2222222222""#,
        ] {
            assert!(query.contains(label), "{query}");
        }
    }
    let limits = |preset: &str, extra: &str| {
        let limits = checks(&format!("[{{name: a, preset: {preset}{extra}}}]"))[0].limits;
        [limits.min, limits.max, limits.warn_min, limits.warn_max]
            .map(|limit| limit.map_or_else(String::new, |limit| limit.to_string()))
            .join(" ")
    };
    assert_eq!(limits("PromExErrorRate", ""), " 0.05  0.02");
    assert_eq!(limits("PromExP99", ""), " 2  ");
    assert_eq!(limits("PromExP95", ""), "   1");
    assert_eq!(limits("TelemetryErrorRate", ", max: '0.2'"), " 0.2  0.02");
    let errors = &checks("[{name: a, preset: PromExErrorRate, window: 90s}]")[0].query;
    assert_eq!(
        errors,
        "(sum(rate(shop_prom_ex_phoenix_http_requests_total{namespace=\"prod\",phoenix_operator_dev_app=\"shop\",\
         phoenix_operator_dev_revision=\"{{revision}}\",status=~\"5..\"}[90s])) or vector(0)) / \
         sum(rate(shop_prom_ex_phoenix_http_requests_total{namespace=\"prod\",phoenix_operator_dev_app=\"shop\",\
         phoenix_operator_dev_revision=\"{{revision}}\"}[90s]))"
    );
}

#[test]
fn the_status_stays_small() {
    let mut lab = Lab::new("[{name: a, query: q, max: '1', inconclusiveLimit: 1000}]");
    for _ in 0..20 {
        lab.value(&"9".repeat(400));
        lab.status[0].failures = 0;
        lab.answer(&Answer::Nothing("é".repeat(1000)));
    }
    let run = &lab.status[0];
    assert_eq!(run.samples.len(), 5);
    assert!(run.samples.iter().all(|sample| sample.value.as_ref().is_none_or(|value| value.len() <= 32)));
    assert!(run.message.len() <= 300);
    assert_eq!(run.measured, 40);
}

#[test]
fn spans_that_are_over_leave_the_status() {
    let mut lab = Lab::new(ERRORS);
    lab.value("0");
    lab.span.name = "step-3".to_owned();
    lab.look(&BTreeMap::new());
    assert_eq!(lab.status.len(), 1);
    assert_eq!(lab.status[0].span, "step-3");
}

#[test]
fn what_passed_stays_where_nothing_else_is_measured() {
    let mut lab = Lab::new("[{name: errors, query: q, max: '1', count: 2, during: []}]");
    lab.value("0");
    assert_eq!(lab.value("0"), Judgement::Passed);
    lab.span.name = "rollout".to_owned();
    lab.span.which = Which::Background(During::Rollout, StrategyKind::Canary);
    assert_eq!(lab.look(&BTreeMap::new()).judgement, Judgement::NotRequired);
    let seen: Vec<_> = lab.status.iter().map(|run| (run.span.as_str(), run.phase)).collect();
    assert_eq!(seen, [("step-1", CheckPhase::Passed)]);
    lab.span.attempt += 1;
    lab.look(&BTreeMap::new());
    assert!(lab.status.is_empty(), "what an earlier attempt measured says nothing of this one");
}
