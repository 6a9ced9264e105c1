//! Normalised discounted cumulative gain of one list.

/// nDCG of the first `cutoff` rows by falling score; `None` where nothing is relevant.
///
/// Gain is 2^grade − 1 and the discount 1/log2(rank + 1) (Burges et al., *Learning to Rank using
/// Gradient Descent*, 2005), as LightGBM trains for; with grades 0 and 1 it equals `trec_eval`'s.
/// Rows of equal score count with the mean over their orders (McSherry and Najork, *Computing
/// Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores*, 2008):
/// a scorer that can't tell rows apart gains nothing from the order they came in. NaN ranks last.
///
/// # Panics
/// When there are not as many grades as scores.
#[must_use]
pub fn ndcg(scores: &[f64], grades: &[u8], cutoff: usize) -> Option<f64> {
    assert_eq!(scores.len(), grades.len(), "one grade a score");
    let mut ideal: Vec<f64> = grades.iter().map(|grade| gain(*grade)).collect();
    ideal.sort_unstable_by(|a, b| b.total_cmp(a));
    let best: f64 = ideal
        .iter()
        .zip(1..=cutoff)
        .map(|(gain, rank)| gain * discount(rank))
        .sum();
    if best == 0.0 {
        return None;
    }
    let sortable = |score: f64| {
        if score.is_nan() {
            f64::NEG_INFINITY
        } else {
            score
        }
    };
    let mut ranked: Vec<(f64, f64)> = scores
        .iter()
        .zip(grades)
        // −0 and 0 are equal scores, but not to `total_cmp`.
        .map(|(score, grade)| (sortable(*score) + 0.0, gain(*grade)))
        .collect();
    ranked.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let mut sum = 0.0;
    let mut above = 0;
    for tied in ranked.chunk_by(|a, b| a.0 == b.0) {
        if above >= cutoff {
            break;
        }
        let ranks = above + 1..=(above + tied.len()).min(cutoff);
        let mean = tied.iter().map(|(_, gain)| gain).sum::<f64>() / tied.len() as f64;
        sum += mean * ranks.map(discount).sum::<f64>();
        above += tied.len();
    }
    Some(sum / best)
}

fn gain(grade: u8) -> f64 {
    f64::from(grade).exp2() - 1.0
}

fn discount(rank: usize) -> f64 {
    1.0 / ((rank + 1) as f64).log2()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: Option<f64>, expected: f64) {
        assert!(
            found.is_some_and(|found| (found - expected).abs() < 1e-12),
            "{found:?}"
        );
    }

    #[test]
    fn a_list_written_out() {
        // Grades 3, 2, 3, 0, 1, 2 in this order, written out; gains are 7, 3, 7, 0, 1, 3.
        let scores = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0];
        let dcg = 7.0 + 3.0 / 3f64.log2() + 7.0 / 2.0 + 1.0 / 6f64.log2() + 3.0 / 7f64.log2();
        let ideal = 7.0 + 7.0 / 3f64.log2() + 3.0 / 2.0 + 3.0 / 5f64.log2() + 1.0 / 6f64.log2();
        near(ndcg(&scores, &[3, 2, 3, 0, 1, 2], 10), dcg / ideal);
        near(ndcg(&[1.0, 2.0], &[0, 1], 10), 1.0);
        near(ndcg(&[2.0, 1.0], &[0, 1], 1), 0.0);
    }

    #[test]
    fn ties_count_as_the_mean_over_their_orders() {
        let one_of_four = (0..4).map(|rank| discount(rank + 1)).sum::<f64>() / 4.0;
        near(ndcg(&[0.0, -0.0, 0.0, 0.0], &[1, 0, 0, 0], 10), one_of_four);
        near(ndcg(&[0.0, 0.0, 0.0, 0.0], &[0, 0, 0, 1], 10), one_of_four);
        // Two of the tied ranks are within the cutoff.
        let within = (discount(1) + discount(2)) / 4.0;
        near(ndcg(&[0.0; 4], &[0, 0, 0, 1], 2), within);
    }

    #[test]
    fn nothing_relevant_has_no_value_and_nan_ranks_last() {
        assert_eq!(ndcg(&[1.0, 2.0], &[0, 0], 10), None);
        assert_eq!(ndcg(&[], &[], 10), None);
        near(ndcg(&[f64::NAN, -5.0], &[1, 0], 10), discount(2));
    }
}
