//! Checks, whatever is answered and whenever.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    at,
    check::{ERRORS, Lab},
};
use crate::{
    api::SampleVerdict,
    plan::analysis::{Answer, Judgement},
};

/// What may be answered: within, beyond the warning, beyond the limit, no number, nothing.
fn answers() -> impl Strategy<Value = Vec<(Answer, SampleVerdict)>> {
    use SampleVerdict::{Failure, Inconclusive, Success};
    let one = prop_oneof![
        (0_u32..=20).prop_map(|n| (Answer::Value(format!("0.0{n:02}")), Success)),
        (21_u32..=50).prop_map(|n| (Answer::Value(format!("0.0{n:02}")), Inconclusive)),
        (51_u32..=999).prop_map(|n| (Answer::Value(format!("0.{n:03}1")), Failure)),
        "(NaN|\\+Inf|-Inf|)".prop_map(|text| (Answer::Value(text), Inconclusive)),
        "[a-z ]{0,20}".prop_map(|text| (Answer::Nothing(text), Inconclusive)),
    ];
    proptest::collection::vec(one, 0..24)
}

proptest! {
    /// Against a naive count over the whole sequence, which the status does not keep.
    #[test]
    fn judged_as_a_naive_count_would(
        answers in answers(), count in 1_i32..5, failure_limit in 0_i32..3, inconclusive_limit in 0_i32..3
    ) {
        let mut lab = Lab::new(&format!(
            "[{{name: a, query: q, max: '0.05', warnMax: '0.02', count: {count}, failureLimit: {failure_limit}, \
             inconclusiveLimit: {inconclusive_limit}}}]"
        ));
        let (mut successes, mut failures, mut row, mut paused) = (0, 0, 0, false);
        for (answer, verdict) in answers {
            let judged = lab.answer(&answer);
            successes += i32::from(verdict == SampleVerdict::Success);
            failures += i32::from(verdict == SampleVerdict::Failure);
            row = if verdict == SampleVerdict::Inconclusive { row + 1 } else { 0 };
            paused |= row > inconclusive_limit;
            match judged {
                Judgement::Failed(_) => {
                    prop_assert!(failures > failure_limit);
                    return Ok(());
                }
                _ if failures > failure_limit => prop_assert!(false, "not failed"),
                Judgement::Inconclusive(_) => prop_assert!(paused),
                _ if paused => prop_assert!(false, "not inconclusive"),
                Judgement::Passed => prop_assert!(successes >= count && verdict == SampleVerdict::Success),
                Judgement::Passing(_) => prop_assert!(successes < count && verdict == SampleVerdict::Success),
                Judgement::Waiting(_) => prop_assert!(verdict != SampleVerdict::Success),
                Judgement::NotRequired => prop_assert!(false, "a check is asked for"),
            }
        }
    }

    /// A restart between any two looks changes nothing: all that counts is in the status.
    #[test]
    fn a_status_survives_its_round_trip(answers in answers()) {
        let mut lab = Lab::new(ERRORS);
        for (answer, _) in answers {
            if matches!(lab.answer(&answer), Judgement::Failed(_)) {
                break;
            }
            let text = serde_json::to_string(&lab.status).unwrap();
            let before = lab.status.clone();
            lab.status = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&lab.status, &before);
        }
    }

    /// There is always something to measure or to wait for, unless it has failed.
    #[test]
    fn never_stuck(answers in answers(), jumps in proptest::collection::vec(-100_000_i64..100_000, 24)) {
        let mut lab = Lab::new(ERRORS);
        for ((answer, _), jump) in answers.into_iter().zip(jumps) {
            if matches!(lab.answer(&answer), Judgement::Failed(_)) {
                break;
            }
            lab.now = at(jump);
            let found = lab.look(&BTreeMap::new());
            let soon = found.wake.is_some_and(|wake| wake > lab.now && wake <= lab.now + jiff::SignedDuration::from_secs(10));
            prop_assert!(!found.measure.is_empty() || soon, "{found:?}");
        }
    }
}
