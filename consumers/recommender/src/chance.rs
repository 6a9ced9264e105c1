//! What is drawn by chance, from an id alone: who asks again gets the same, and who reads the log can
//! draw it again.

use sha2::{Digest, Sha256};

use crate::answer::{Bucket, DrawnWeights};
use crate::config::{ExperimentConfig, ExplorationConfig, HybridRanking};

/// A number from 0 to below 1 that depends on these words alone, each byte of them.
fn uniform(words: &[&str]) -> f64 {
    let mut hasher = Sha256::new();
    for word in words {
        hasher.update((word.len() as u64).to_le_bytes());
        hasher.update(word.as_bytes());
    }
    let digest: [u8; 32] = hasher.finalize().into();
    let (first, _) = digest.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
    // The 53 bits that a double holds exactly.
    (u64::from_be_bytes(*first) >> 11) as f64 / (1_u64 << 53) as f64
}

/// The weights of text and vectors for a request. A share of the requests draws that of BM25 from a
/// grid, each value as likely; all others have the instance's. The probability is that of the weights
/// themselves, whichever way they came about.
pub(crate) fn hybrid_weights(
    request_id: &str,
    instance: HybridRanking,
    exploration: &ExplorationConfig,
) -> DrawnWeights {
    let configured = instance.bm25_weight as f32;
    let grid = &exploration.bm25_weights;
    let share = if grid.is_empty() {
        0.0
    } else {
        exploration.weight_share
    };
    let luck = uniform(&["hybrid-weights", request_id]);
    let bm25_weight = if luck < share {
        // What is left of the luck is uniform again.
        let place = (luck / share * grid.len() as f64) as usize;
        grid[place.min(grid.len() - 1)]
    } else {
        configured
    };
    let same = |weight: &&f32| weight.to_bits() == bm25_weight.to_bits();
    let drawn = grid.iter().filter(same).count() as f64 / grid.len().max(1) as f64;
    let unchanged = if bm25_weight.to_bits() == configured.to_bits() {
        1.0 - share
    } else {
        0.0
    };
    DrawnWeights {
        bm25_weight,
        vector_weight: 1.0 - bm25_weight,
        probability: unchanged + share * drawn,
    }
}

/// The bucket of a user, and the pipeline it gets.
pub(crate) fn bucket<'a>(
    name: &str,
    experiment: &'a ExperimentConfig,
    user_id: &str,
) -> Option<(Bucket, &'a str)> {
    let luck = uniform(&["experiment", name, user_id]);
    let mut below = 0.0;
    let chosen = experiment.buckets.iter().find(|bucket| {
        below += bucket.share;
        luck < below
    });
    // Shares that sum to 1 but for rounding leave the last of the users to the last bucket.
    let chosen = chosen.or_else(|| experiment.buckets.iter().rfind(|bucket| bucket.share > 0.0))?;
    let bucket = Bucket {
        experiment: name.to_owned(),
        bucket: chosen.name.clone(),
    };
    Some((bucket, &chosen.pipeline))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BucketConfig;

    #[test]
    fn weights_are_drawn_as_often_as_is_logged_and_by_the_id_alone() {
        let exploration = ExplorationConfig {
            weight_share: 0.05,
            bm25_weights: vec![0.0, 0.3, 0.5, 1.0],
            ..ExplorationConfig::default()
        };
        let draw = |n: usize| {
            let id = format!("request-{n}");
            hybrid_weights(&id, HybridRanking::default(), &exploration)
        };
        const REQUESTS: usize = 40_000;
        for (weight, probability) in [
            (0.0, 0.0125),
            (0.3, 0.95 + 0.0125),
            (0.5, 0.0125),
            (1.0, 0.0125),
        ] {
            let drawn: Vec<DrawnWeights> = (0..REQUESTS)
                .map(draw)
                .filter(|drawn| (drawn.bm25_weight - weight).abs() < 1e-6)
                .collect();
            let share = drawn.len() as f64 / REQUESTS as f64;
            // Five standard errors.
            let error = 5.0 * (probability * (1.0 - probability) / REQUESTS as f64).sqrt();
            assert!((share - probability).abs() < error, "{weight}: {share}");
            assert!((drawn[0].probability - probability).abs() < 1e-12);
            assert!((drawn[0].vector_weight + drawn[0].bm25_weight - 1.0).abs() < 1e-6);
        }
        assert_eq!(draw(7), draw(7));
        let never = ExplorationConfig {
            weight_share: 0.0,
            ..exploration
        };
        let weights = hybrid_weights("r", HybridRanking::default(), &never);
        assert!((weights.probability - 1.0).abs() < 1e-12);
    }

    #[test]
    fn users_are_spread_by_share_and_stay_where_they_are() {
        let part = |name: &str, share| BucketConfig {
            name: name.to_owned(),
            pipeline: format!("pipeline-{name}"),
            share,
        };
        let experiment = ExperimentConfig {
            buckets: vec![part("a", 0.7), part("b", 0.0), part("c", 0.3)],
        };
        let of = |user: &str| {
            let (bucket, pipeline) = bucket("e", &experiment, user).unwrap();
            assert_eq!(pipeline, format!("pipeline-{}", bucket.bucket));
            bucket.bucket
        };
        let count = |name: &str| {
            let users = (0..10_000).filter(|n| of(&format!("user-{n}")) == name);
            users.count()
        };
        assert!((6_700..7_300).contains(&count("a")));
        assert_eq!(count("b"), 0);
        assert_eq!(of("u"), of("u"));
        // Two experiments split users independently of each other.
        let other = |user: &str| bucket("f", &experiment, user).unwrap().0.bucket;
        let both = (0..10_000)
            .map(|n| format!("user-{n}"))
            .filter(|user| of(user) == "c" && other(user) == "c");
        assert!((700..1_100).contains(&both.count()));
    }
}
