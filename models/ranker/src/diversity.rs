//! Keeps a list from repeating itself.

/// Why a list can't be diversified.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq)]
pub enum DiversityError {
    /// λ is outside 0 to 1.
    #[error("diversity lambda is {0}; it must be 0 (all diversity) to 1 (all relevance)")]
    Lambda(f64),
    /// There is not one vector for each score.
    #[error("{scores} scores, but {vectors} item vectors")]
    Lengths {
        /// Number of scores.
        scores: usize,
        /// Number of vectors.
        vectors: usize,
    },
    /// A score is not a number.
    #[error("candidate {index} has the score {score}")]
    Score {
        /// The candidate's position.
        index: usize,
        /// Its score.
        score: f64,
    },
    /// A vector has another length than the others.
    #[error("the vector of candidate {index} has {found} dimensions instead of {expected}")]
    Dimension {
        /// The candidate's position.
        index: usize,
        /// Its vector's length.
        found: usize,
        /// The length of the first vector.
        expected: usize,
    },
}

/// Chooses `count` candidates by maximal marginal relevance (Carbonell and Goldstein, *The Use of
/// MMR, Diversity-Based Reranking*, SIGIR 1998): each next one is
/// `argmax λ·relevance(i) − (1−λ)·max cosine(i, j)` over the chosen `j`. Returns their positions, in
/// order; all of them where there are fewer.
///
/// Relevance is the score scaled to 0…1 over the candidates, so that λ weighs the same whatever the
/// ranker's unit. Vectors are L2-normalised, so that their product is the cosine; a candidate without
/// one (empty) resembles nobody. Ties go to the earlier candidate. With λ = 1 the order is by score.
/// Costs `count · candidates` products.
///
/// # Errors
/// [`DiversityError`]: λ outside 0…1, a score that is not finite, or vectors that do not fit.
pub fn mmr(
    scores: &[f64],
    vectors: &[&[f32]],
    lambda: f64,
    count: usize,
) -> Result<Vec<usize>, DiversityError> {
    check(scores, vectors, lambda)?;
    let relevance = scaled(scores);
    // The greatest cosine with a chosen candidate; nothing resembles an empty list.
    let mut redundancy: Vec<Option<f64>> = vec![None; scores.len()];
    let mut left: Vec<usize> = (0..scores.len()).collect();
    let mut chosen = Vec::with_capacity(count.min(scores.len()));
    while chosen.len() < count && !left.is_empty() {
        let value = |candidate: usize| {
            let redundancy = redundancy[candidate].unwrap_or(0.0);
            lambda * relevance[candidate] - (1.0 - lambda) * redundancy
        };
        let mut best = 0;
        for place in 1..left.len() {
            if value(left[place]) > value(left[best]) {
                best = place;
            }
        }
        // Not `swap_remove`: ties go to the earlier candidate.
        let next = left.remove(best);
        chosen.push(next);
        for &candidate in &left {
            let cosine = product(vectors[candidate], vectors[next]);
            let greatest = redundancy[candidate].map_or(cosine, |before| before.max(cosine));
            redundancy[candidate] = Some(greatest);
        }
    }
    Ok(chosen)
}

fn check(scores: &[f64], vectors: &[&[f32]], lambda: f64) -> Result<(), DiversityError> {
    if !(0.0..=1.0).contains(&lambda) {
        return Err(DiversityError::Lambda(lambda));
    }
    if scores.len() != vectors.len() {
        return Err(DiversityError::Lengths {
            scores: scores.len(),
            vectors: vectors.len(),
        });
    }
    if let Some(index) = scores.iter().position(|score| !score.is_finite()) {
        let score = scores[index];
        return Err(DiversityError::Score { index, score });
    }
    let mut with_vector = vectors
        .iter()
        .enumerate()
        .filter(|(_, vector)| !vector.is_empty());
    let expected = with_vector
        .clone()
        .next()
        .map_or(0, |(_, vector)| vector.len());
    match with_vector.find(|(_, vector)| vector.len() != expected) {
        None => Ok(()),
        Some((index, vector)) => Err(DiversityError::Dimension {
            index,
            found: vector.len(),
            expected,
        }),
    }
}

fn scaled(scores: &[f64]) -> Vec<f64> {
    let least = scores.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // Halved, because the range of two finite numbers may be infinite.
    let half = greatest / 2.0 - least / 2.0;
    let scale = |score: &f64| {
        if half > 0.0 {
            (score / 2.0 - least / 2.0) / half
        } else {
            0.0
        }
    };
    scores.iter().map(scale).collect()
}

/// 0 where one is empty.
fn product(a: &[f32], b: &[f32]) -> f64 {
    // Eight sums that do not wait for each other, so that the loop vectorises.
    let mut sums = [0f32; 8];
    let (a_eights, a_rest) = a.as_chunks::<8>();
    let (b_eights, b_rest) = b.as_chunks::<8>();
    for (a, b) in a_eights.iter().zip(b_eights) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    f64::from(sums.iter().sum::<f32>() + rest)
}
