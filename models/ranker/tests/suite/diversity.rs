//! Maximal marginal relevance against its definition.

use millrace_ranker::diversity::{DiversityError, mmr};
use proptest::prelude::*;

const DIMENSION: usize = 19;

fn normalised(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length == 0.0 {
        return Vec::new();
    }
    vector.iter().map(|value| value / length).collect()
}

/// Scores and vectors, some of them missing.
fn candidates() -> impl Strategy<Value = (Vec<f64>, Vec<Vec<f32>>)> {
    let vector = prop_oneof![
        8 => prop::collection::vec(-1f32..1.0, DIMENSION).prop_map(|vector| normalised(&vector)),
        1 => Just(Vec::new()),
    ];
    // Few distinct scores, so that there are ties.
    let candidate = ((0..6i32).prop_map(f64::from), vector);
    prop::collection::vec(candidate, 0..25).prop_map(|candidates| candidates.into_iter().unzip())
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .sum()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn a_list_is_a_prefix_of_a_permutation((scores, vectors) in candidates(), lambda in 0.0..=1.0, count in 0..30usize) {
        let vectors: Vec<&[f32]> = vectors.iter().map(Vec::as_slice).collect();
        let chosen = mmr(&scores, &vectors, lambda, count).unwrap();
        prop_assert_eq!(chosen.len(), count.min(scores.len()));
        let mut seen = chosen.clone();
        seen.sort_unstable();
        seen.dedup();
        prop_assert_eq!(seen.len(), chosen.len());
        // A shorter list is the beginning of a longer one.
        let all = mmr(&scores, &vectors, lambda, scores.len()).unwrap();
        prop_assert_eq!(&all[..chosen.len()], &chosen[..]);
    }

    #[test]
    fn with_lambda_one_the_order_is_by_score((scores, vectors) in candidates()) {
        let vectors: Vec<&[f32]> = vectors.iter().map(Vec::as_slice).collect();
        let mut expected: Vec<usize> = (0..scores.len()).collect();
        expected.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        prop_assert_eq!(mmr(&scores, &vectors, 1.0, scores.len()).unwrap(), expected);
    }

    #[test]
    fn every_choice_has_the_greatest_marginal_relevance((scores, vectors) in candidates(), lambda in 0.0..=1.0) {
        let slices: Vec<&[f32]> = vectors.iter().map(Vec::as_slice).collect();
        let chosen = mmr(&scores, &slices, lambda, scores.len()).unwrap();
        let least = scores.iter().copied().fold(f64::INFINITY, f64::min);
        let range = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max) - least;
        for (place, next) in chosen.iter().enumerate() {
            let value = |candidate: usize| {
                let relevance = if range > 0.0 { (scores[candidate] - least) / range } else { 0.0 };
                let redundancy = chosen[..place]
                    .iter()
                    .map(|before| cosine(&vectors[candidate], &vectors[*before]))
                    .reduce(f64::max)
                    .unwrap_or(0.0);
                lambda * relevance - (1.0 - lambda) * redundancy
            };
            for other in &chosen[place + 1..] {
                prop_assert!(value(*next) >= value(*other) - 1e-5);
            }
        }
    }
}

#[test]
fn a_twin_of_the_best_comes_last() {
    let (a, b) = ([1.0, 0.0], [0.0, 1.0]);
    let vectors: [&[f32]; 3] = [&a, &a, &b];
    let scores = [1.0, 0.9, 0.0];
    assert_eq!(mmr(&scores, &vectors, 0.5, 3), Ok(vec![0, 2, 1]));
    assert_eq!(mmr(&scores, &vectors, 0.9, 3), Ok(vec![0, 1, 2]));
}

#[test]
fn what_does_not_fit_is_refused() {
    let (two, three): (&[f32], &[f32]) = (&[1.0, 0.0], &[1.0, 0.0, 0.0]);
    for lambda in [f64::NAN, -0.1, 1.1] {
        let refused = mmr(&[], &[], lambda, 1);
        assert!(matches!(refused, Err(DiversityError::Lambda(_))));
    }
    let refused = mmr(&[1.0, f64::NAN], &[two, two], 0.5, 1);
    assert!(matches!(
        refused,
        Err(DiversityError::Score { index: 1, .. })
    ));
    let refused = mmr(&[1.0], &[], 0.5, 1);
    assert!(matches!(refused, Err(DiversityError::Lengths { .. })));
    let refused = mmr(&[1.0, 2.0, 3.0], &[&[], two, three], 0.5, 1);
    assert!(matches!(
        refused,
        Err(DiversityError::Dimension {
            index: 2,
            found: 3,
            expected: 2
        })
    ));
}
