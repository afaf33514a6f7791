//! How many whole pods come nearest to a weight.

/// Pods of each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Split {
    pub candidate: u32,
    pub stable: u32,
}

/// The split of `replicas` pods that comes nearest to `weight` percent: the least `|c / t - weight / 100|` over totals
/// `t` of `replicas`, and of one more where `surge` allows it, with at least one pod on either side. Of equally near
/// ones the smaller total, then the larger candidate. None when one pod cannot be split.
///
/// At 100 percent and above the candidate has all pods. Integers only: a floating-point tie has dropped canaries to
/// zero elsewhere.
pub(super) fn split(replicas: u32, weight: u32, surge: u32) -> Option<Split> {
    if replicas == 0 || weight >= 100 {
        return Some(Split { candidate: replicas, stable: 0 });
    }
    if weight == 0 {
        return Some(Split { candidate: 0, stable: replicas });
    }
    let totals = [Some(replicas), (surge > 0).then_some(replicas + 1)];
    let nearest = |total: u32| {
        let below = u64::from(weight) * u64::from(total) / 100;
        let below = u32::try_from(below).unwrap_or(u32::MAX);
        // The larger first: it wins a tie.
        let most = total.saturating_sub(1);
        [below.saturating_add(1).min(most), below.min(most)]
            .into_iter()
            .filter(|candidate| *candidate >= 1)
            .map(move |candidate| Split { candidate, stable: total - candidate })
    };
    let mut best: Option<Split> = None;
    for split in totals.into_iter().flatten().flat_map(nearest) {
        if best.is_none_or(|best| nearer(split, best, weight)) {
            best = Some(split);
        }
    }
    best
}

/// Whether one split is strictly nearer to the weight than another.
fn nearer(one: Split, other: Split, weight: u32) -> bool {
    let total = |split: Split| u64::from(split.candidate) + u64::from(split.stable);
    // |c / t - w / 100| = |100 c - w t| / (100 t); compared without dividing.
    let distance =
        |split: Split| (100 * u64::from(split.candidate)).abs_diff(u64::from(weight) * total(split));
    distance(one) * total(other) < distance(other) * total(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every split there is, judged in another way: fractions over a common denominator.
    fn brute_force(replicas: u32, weight: u32, surge: u32) -> Option<(u128, u32)> {
        let totals = if surge > 0 { replicas..=replicas + 1 } else { replicas..=replicas };
        let denominator = 100 * u128::from(replicas) * u128::from(replicas + 1);
        totals
            .flat_map(|total| (1..total).map(move |candidate| (candidate, total)))
            .map(|(candidate, total)| {
                let share = denominator * u128::from(candidate) / u128::from(total);
                (share.abs_diff(denominator * u128::from(weight) / 100), total)
            })
            .min()
    }

    #[test]
    fn the_split_is_the_nearest_there_is() {
        for replicas in 1..=50 {
            for weight in 1..100 {
                for surge in [0, 1, 5] {
                    let found = split(replicas, weight, surge);
                    let Some((distance, _)) = brute_force(replicas, weight, surge) else {
                        assert_eq!(found, None, "{replicas} {weight} {surge}");
                        continue;
                    };
                    let Split { candidate, stable } = found.unwrap();
                    let total = candidate + stable;
                    assert!(candidate >= 1 && stable >= 1, "{replicas} {weight} {surge}: {found:?}");
                    assert!(total == replicas || (surge > 0 && total == replicas + 1));
                    let denominator = 100 * u128::from(replicas) * u128::from(replicas + 1);
                    let share = denominator * u128::from(candidate) / u128::from(total);
                    let mine = share.abs_diff(denominator * u128::from(weight) / 100);
                    assert_eq!(mine, distance, "{replicas} {weight} {surge}: {found:?}");
                }
            }
        }
    }

    /// The five vectors at which a well-known rollout controller drops its canary to no pods at all.
    #[test]
    fn a_canary_that_grows_never_drops_to_zero() {
        for (replicas, weight) in [(2, 75), (5, 90), (10, 95), (25, 98), (50, 99)] {
            let split = split(replicas, weight, 0).unwrap();
            assert_eq!((split.candidate, split.stable), (replicas - 1, 1), "{replicas} at {weight} %");
        }
    }

    #[test]
    fn known_vectors() {
        let vectors = [
            (1, 50, 1, (1, 1)),
            (2, 25, 1, (1, 2)),
            (2, 50, 1, (1, 1)),
            (2, 66, 1, (2, 1)),
            (3, 10, 0, (1, 2)),
            (3, 10, 1, (1, 3)),
            (3, 33, 1, (1, 2)),
            (3, 50, 1, (2, 2)),
            (10, 10, 1, (1, 9)),
            (10, 25, 1, (3, 8)),
            (10, 95, 1, (10, 1)),
            (10, 100, 1, (10, 0)),
        ];
        for (replicas, weight, surge, (candidate, stable)) in vectors {
            assert_eq!(
                split(replicas, weight, surge),
                Some(Split { candidate, stable }),
                "{replicas} {weight}"
            );
        }
    }

    #[test]
    fn one_pod_without_surge_cannot_be_split() {
        assert_eq!(split(1, 50, 0), None);
    }
}
