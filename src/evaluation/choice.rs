//! Choosing the best of several rankings, and what the choice is worth on queries that it was not made
//! on.
//!
//! The greatest of several means is great by luck too: on other queries the ranking that has it is worth
//! less. So half of the queries chooses and the other half measures, both ways, in many random halves
//! (cross-fitting: Chernozhukov et al., *Double/debiased machine learning*, 2018, section 3).

use sha2::{Digest, Sha256};

/// Random halves that are averaged over: another hundred moves the mean by less than a thousandth.
const SPLITS: u32 = 100;

/// The place of the greatest value; of equal ones `preferred`, or else the first.
pub fn best(values: &[f64], preferred: usize) -> usize {
    let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // Sums of the same values in another order differ in their last bits.
    let is_best = |value: f64| value >= greatest - 1e-12 * greatest.abs();
    if values.get(preferred).is_some_and(|value| is_best(*value)) {
        return preferred;
    }
    values
        .iter()
        .position(|value| is_best(*value))
        .unwrap_or(preferred)
}

/// What each query has under the ranking that the others would choose for all, a mean over random halves.
/// `values` are a row a ranking, of all queries in one order; equal rankings yield to `preferred`. None
/// where there are fewer than two queries: one half must choose.
pub fn cross_fitted(values: &[Vec<f64>], preferred: usize) -> Option<Vec<f64>> {
    cross_fitted_by(values, |choosing| {
        let chosen = best_of(values, choosing, preferred);
        move |_| chosen
    })
}

/// The same of a choice that may differ from query to query: `choose` learns it from some of the queries
/// and is then asked for each of the others.
pub fn cross_fitted_by<C: Fn(usize) -> usize>(
    values: &[Vec<f64>],
    choose: impl Fn(&[usize]) -> C,
) -> Option<Vec<f64>> {
    let queries = values.first()?.len();
    if queries < 2 {
        return None;
    }
    let mut measured = vec![0.0; queries];
    for split in 0..SPLITS {
        let mut order: Vec<usize> = (0..queries).collect();
        order.sort_by_cached_key(|query| draw(split, *query));
        let (one, other) = order.split_at(queries / 2);
        for (choosing, measuring) in [(one, other), (other, one)] {
            let chosen = choose(choosing);
            for &query in measuring {
                measured[query] += values[chosen(query)][query] / f64::from(SPLITS);
            }
        }
    }
    Some(measured)
}

/// The place of the ranking that is best on these queries; of equal ones `preferred`, or else the first.
pub fn best_of(values: &[Vec<f64>], queries: &[usize], preferred: usize) -> usize {
    let sum = |row: &Vec<f64>| queries.iter().map(|query| row[*query]).sum();
    let sums: Vec<f64> = values.iter().map(sum).collect();
    best(&sums, preferred)
}

/// A place in a random order, the same each time.
fn draw(split: u32, query: usize) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(split.to_le_bytes());
    hasher.update((query as u64).to_le_bytes());
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Evenly spread over 0 to 1, without order.
    fn noise(arm: u32, query: usize) -> f64 {
        let [first, second, ..] = draw(1_000 + arm, query);
        f64::from(u16::from_be_bytes([first, second])) / f64::from(u16::MAX)
    }

    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / values.len() as f64
    }

    #[test]
    fn of_rankings_that_are_all_alike_the_best_is_not_worth_its_mean() {
        // Twenty times the same, but for noise: any choice is worth a half.
        let values: Vec<Vec<f64>> = (0..20)
            .map(|arm| (0..200).map(|query| noise(arm, query)).collect())
            .collect();
        let means: Vec<f64> = values.iter().map(|row| mean(row)).collect();
        let optimistic = means[best(&means, 0)];
        let honest = mean(&cross_fitted(&values, 0).unwrap());
        assert!(optimistic > 0.52, "{optimistic}");
        assert!((honest - 0.5).abs() < 0.025, "{honest}");
    }

    #[test]
    fn a_ranking_that_is_better_is_chosen_by_either_half() {
        let row = |more: f64| (0..50).map(|n| f64::from(n) / 100.0 + more).collect();
        let values: Vec<Vec<f64>> = vec![row(0.0), row(0.1), row(0.05)];
        let honest = cross_fitted(&values, 0).unwrap();
        assert!((mean(&honest) - mean(&values[1])).abs() < 1e-9);
        assert_eq!(cross_fitted(&[vec![1.0]], 0), None);
        assert_eq!(cross_fitted(&[], 0), None);
    }

    #[test]
    fn of_equals_what_is_in_force_stays() {
        assert_eq!(best(&[0.5, 0.7, 0.7], 2), 2);
        assert_eq!(best(&[0.5, 0.7, 0.7], 0), 1);
        assert_eq!(best(&[0.1 + 0.2, 0.3], 1), 1);
    }
}
