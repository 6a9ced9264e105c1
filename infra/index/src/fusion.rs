//! Joining two ranked lists as OpenSearch's normalization processor does.
//!
//! Min-max: a list's scores become `(s - min) / (max - min)` over the *retrieved window*, 1 where
//! all are equal, and 0.001 where that gives 0 (so that a hit differs from an absence); then the
//! weighted arithmetic mean, in which a missing hit counts 0 with its weight still in the
//! denominator. RRF: the sum of `1 / (rank_constant + rank)`, rank from 1. After
//! `MinMaxScoreNormalizationTechnique`, `ArithmeticMeanScoreCombinationTechnique` and
//! `RRFNormalizationTechnique` of the neural-search plugin.

use std::collections::HashMap;

use crate::Fusion;

/// What a normalised score of zero becomes.
const LEAST_SCORE: f32 = 0.001;

/// Joins ids ranked by BM25 and by vector, best first in each; gives them best first, ties by id.
#[must_use]
pub fn fuse<'a>(
    text: &[(f32, &'a str)],
    vector: &[(f32, &'a str)],
    fusion: Fusion,
) -> Vec<(f32, &'a str)> {
    let mut scores: HashMap<&str, f32> = HashMap::with_capacity(text.len() + vector.len());
    match fusion {
        Fusion::MinMax {
            bm25_weight,
            vector_weight,
        } => {
            let total = bm25_weight + vector_weight;
            for (list, weight) in [(text, bm25_weight), (vector, vector_weight)] {
                let min = list.iter().fold(f32::INFINITY, |m, (s, _)| m.min(*s));
                let max = list.iter().fold(f32::NEG_INFINITY, |m, (s, _)| m.max(*s));
                for (score, id) in list {
                    *scores.entry(id).or_default() += weight * min_max(*score, min, max) / total;
                }
            }
        }
        Fusion::Rrf { rank_constant } => {
            for list in [text, vector] {
                for (rank, (_, id)) in (1_u16..).zip(list) {
                    *scores.entry(id).or_default() +=
                        1.0 / (rank_constant as f32 + f32::from(rank));
                }
            }
        }
    }
    let mut fused: Vec<(f32, &str)> = scores.into_iter().map(|(id, score)| (score, id)).collect();
    fused.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    fused
}

fn min_max(score: f32, min: f32, max: f32) -> f32 {
    if max == min {
        return 1.0;
    }
    let normalised = (score - min) / (max - min);
    if normalised == 0.0 {
        LEAST_SCORE
    } else {
        normalised
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEIGHTS: Fusion = Fusion::MinMax {
        bm25_weight: 0.3,
        vector_weight: 0.7,
    };

    fn score_of(fused: &[(f32, &str)], id: &str) -> f32 {
        fused
            .iter()
            .find(|(_, other)| *other == id)
            .expect("fused")
            .0
    }

    #[test]
    fn min_max_then_the_weighted_mean() {
        let text = [(10.0, "a"), (6.0, "b"), (2.0, "c")];
        let vector = [(0.9, "b"), (0.8, "d"), (0.5, "a")];
        let fused = fuse(&text, &vector, WEIGHTS);
        assert_eq!(fused[0].1, "b");
        let close = |id, want: f32| assert!((score_of(&fused, id) - want).abs() < 1e-6);
        close("b", 0.3 * 0.5 + 0.7);
        close("a", 0.3 + 0.7 * 0.001);
        close("c", 0.3 * 0.001);
        close("d", 0.7 * 0.75);
    }

    #[test]
    fn equal_scores_are_all_one_and_absence_keeps_its_weight() {
        let fused = fuse(&[(3.3, "a"), (3.3, "b")], &[], WEIGHTS);
        assert_eq!(fused.iter().map(|f| f.1).collect::<Vec<_>>(), ["a", "b"]);
        assert!(fused.iter().all(|(score, _)| (score - 0.3).abs() < 1e-6));
    }

    #[test]
    fn reciprocal_ranks_add_up() {
        let rrf = Fusion::Rrf { rank_constant: 60 };
        let fused = fuse(&[(9.0, "a"), (8.0, "b")], &[(1.0, "b")], rrf);
        assert_eq!(fused[0].1, "b");
        assert!((fused[0].0 - (1.0 / 62.0 + 1.0 / 61.0)).abs() < 1e-7);
        assert!((fused[1].0 - 1.0 / 61.0).abs() < 1e-7);
    }
}
