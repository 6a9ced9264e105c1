//! Which weights should be in force, by what was measured.

use serde::Serialize;

use super::weight::Weight;
use crate::evaluation::choice::best;
use crate::evaluation::comparison::Difference;

/// A weight and how good it was found to be.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// The weight.
    pub weight: Weight,
    /// Its mean.
    pub mean: f64,
    /// That less the mean of the weight in force; none of itself.
    pub difference: Option<Difference>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recommendation {
    /// The weight of BM25 that should be in force.
    pub bm25_weight: f64,
    /// Whether that is another than the one that is.
    pub change: bool,
    /// Why.
    pub reason: String,
}

/// The weight with the greatest mean, where it is better than the one in force for sure; else the one in
/// force. `measure` is what the mean is of.
pub fn recommend(candidates: &[Candidate], in_force: Weight, measure: &str) -> Recommendation {
    // From the nearest to the one in force: of equals it is taken, then what changes least.
    let mut nearest_first: Vec<&Candidate> = candidates.iter().collect();
    nearest_first.sort_by_key(|candidate| candidate.weight.distance(in_force));
    let means: Vec<f64> = nearest_first
        .iter()
        .map(|candidate| candidate.mean)
        .collect();
    let best = nearest_first.get(best(&means, 0)).copied();
    let keep = |reason| Recommendation {
        bm25_weight: in_force.value(),
        change: false,
        reason,
    };
    let other = best.and_then(|best| Some((best.weight, best.difference?)));
    match other {
        None => keep(format!(
            "no weight that was tried has a greater {measure} than {in_force}"
        )),
        Some((weight, difference)) if difference.is_gain() => Recommendation {
            bm25_weight: weight.value(),
            change: true,
            reason: format!(
                "{weight} has {difference} {measure} against {in_force}, and the interval is above 0"
            ),
        },
        Some((weight, difference)) => keep(format!(
            "{weight} has the greatest {measure}, but {difference} against {in_force} can't be told from no \
             difference"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(weight: f64, mean: f64, ci95: Option<[f64; 2]>) -> Candidate {
        Candidate {
            weight: Weight::nearest(weight).unwrap(),
            mean,
            difference: ci95.map(|ci95| Difference {
                diff: mean - 0.5,
                ci95,
                units: 100,
            }),
        }
    }

    fn recommended(others: &[Candidate]) -> Recommendation {
        let mut candidates = others.to_vec();
        candidates.insert(others.len() / 2, candidate(0.3, 0.5, None));
        recommend(&candidates, Weight::nearest(0.3).unwrap(), "nDCG@10")
    }

    #[test]
    fn a_handful_of_queries_recommends_nothing() {
        let mut few = candidate(0.5, 0.6, Some([0.1, 0.1]));
        if let Some(difference) = &mut few.difference {
            difference.units = 1;
        }
        assert!(!recommended(&[few]).change);
    }

    #[test]
    fn only_what_is_better_for_sure_is_recommended() {
        let sure = recommended(&[
            candidate(0.5, 0.6, Some([0.05, 0.15])),
            candidate(0.7, 0.55, Some([0.01, 0.1])),
        ]);
        assert!(sure.change && (sure.bm25_weight - 0.5).abs() < 1e-9);
        assert_eq!(
            sure.reason,
            "0.5 has +0.1000 [+0.0500, +0.1500] nDCG@10 against 0.3, and the interval is above 0"
        );
        let unsure = recommended(&[
            candidate(0.5, 0.6, Some([-0.01, 0.2])),
            candidate(0.0, 0.4, Some([-0.2, -0.1])),
        ]);
        assert!(!unsure.change && (unsure.bm25_weight - 0.3).abs() < 1e-9);
        assert!(
            unsure.reason.contains("can't be told from no difference"),
            "{unsure:?}"
        );
        let worse = recommended(&[candidate(0.5, 0.4, Some([-0.2, -0.1]))]);
        assert!(
            !worse.change && worse.reason.starts_with("no weight that was tried"),
            "{worse:?}"
        );
    }

    #[test]
    fn of_equals_the_one_in_force_stays_and_else_what_changes_least() {
        let equal = recommended(&[candidate(0.1, 0.5, Some([0.0, 0.0]))]);
        assert!(
            !equal.change && equal.reason.starts_with("no weight"),
            "{equal:?}"
        );
        let both = recommended(&[
            candidate(1.0, 0.6, Some([0.05, 0.15])),
            candidate(0.4, 0.6, Some([0.05, 0.15])),
        ]);
        assert!((both.bm25_weight - 0.4).abs() < 1e-9, "{both:?}");
    }
}
