//! Confidence intervals by resampling users.

use std::collections::HashMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Percentile bootstrap over users (Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993,
/// chapter 13).
///
/// Rankings of one user are alike, so whole users are drawn, with replacement: resampling rankings
/// would take them for independent and make the interval too narrow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bootstrap {
    /// Samples that are drawn; 10,000.
    pub samples: u32,
    /// Share of the samples' means that the interval holds; 0.95.
    pub confidence: f64,
    /// Of the draws; the same seed and values give the same interval.
    pub seed: u64,
}

/// A mean over rankings and its confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Mean of all values.
    pub mean: f64,
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
    /// Users that were resampled.
    pub users: usize,
}

/// Why there is no interval.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq)]
pub enum BootstrapError {
    /// There are no values.
    #[error("there are no rankings to resample")]
    Empty,
    /// A value is NaN or infinite.
    #[error("ranking {index} has the value {value}")]
    Value {
        /// Position among the values.
        index: usize,
        /// The value.
        value: f64,
    },
    /// The options make no interval.
    #[error("a bootstrap needs at least one sample and a confidence between 0 and 1")]
    Options,
}

/// A user's values, summed.
#[derive(Clone, Copy, Default)]
struct Sums {
    sum: f64,
    count: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self {
            samples: 10_000,
            confidence: 0.95,
            seed: 0,
        }
    }
}

impl Bootstrap {
    /// Mean over rankings, each with its user. For a paired comparison of two rankers a ranking's
    /// value is the difference of their measures on it: whoever is hard to rank for is so for both.
    ///
    /// # Errors
    /// [`BootstrapError`]: no values, one that is not finite, or options without sense.
    pub fn mean_by_user<'a>(
        &self,
        rankings: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> Result<Interval, BootstrapError> {
        if self.samples == 0 || !(self.confidence > 0.0 && self.confidence < 1.0) {
            return Err(BootstrapError::Options);
        }
        let users = by_user(rankings)?;
        let mean = mean(users.iter()).ok_or(BootstrapError::Empty)?;
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut means: Vec<f64> = (0..self.samples)
            .filter_map(|_| mean_of_draws(&users, &mut rng))
            .collect();
        means.sort_unstable_by(f64::total_cmp);
        let tail = (1.0 - self.confidence) / 2.0;
        Ok(Interval {
            mean,
            low: quantile(&means, tail),
            high: quantile(&means, 1.0 - tail),
            users: users.len(),
        })
    }
}

/// Users in order of appearance, so that a seed always draws the same ones.
fn by_user<'a>(
    rankings: impl IntoIterator<Item = (&'a str, f64)>,
) -> Result<Vec<Sums>, BootstrapError> {
    let mut positions: HashMap<&str, usize> = HashMap::new();
    let mut users: Vec<Sums> = Vec::new();
    for (index, (user, value)) in rankings.into_iter().enumerate() {
        if !value.is_finite() {
            return Err(BootstrapError::Value { index, value });
        }
        let position = *positions.entry(user).or_insert(users.len());
        if position == users.len() {
            users.push(Sums::default());
        }
        users[position].sum += value;
        users[position].count += 1;
    }
    Ok(users)
}

fn mean<'a>(users: impl Iterator<Item = &'a Sums>) -> Option<f64> {
    let total = users.fold(Sums::default(), |total, user| Sums {
        sum: total.sum + user.sum,
        count: total.count + user.count,
    });
    (total.count > 0).then(|| total.sum / total.count as f64)
}

fn mean_of_draws(users: &[Sums], rng: &mut ChaCha8Rng) -> Option<f64> {
    mean((0..users.len()).map(|_| {
        // Multiply and shift instead of a remainder; its bias is below users / 2^64.
        let drawn = (u128::from(rng.next_u64()) * users.len() as u128) >> 64;
        &users[drawn as usize]
    }))
}

/// Linear between the two nearest order statistics, as numpy's default. There is at least one value.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * position.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_users_have_the_interval_of_their_four_samples() {
        // Means 0, 1/2, 1/2, 1 with a quarter each.
        let interval = Bootstrap::default()
            .mean_by_user([("a", 0.0), ("b", 1.0)])
            .unwrap();
        assert_eq!(
            interval,
            Interval {
                mean: 0.5,
                low: 0.0,
                high: 1.0,
                users: 2
            }
        );
        let half = Bootstrap {
            confidence: 0.4,
            ..Bootstrap::default()
        };
        let interval = half.mean_by_user([("a", 0.0), ("b", 1.0)]).unwrap();
        assert_eq!((interval.low, interval.high), (0.5, 0.5));
    }

    #[test]
    fn many_users_have_the_interval_of_the_normal_distribution() {
        let names: Vec<String> = (0..2000).map(|user| user.to_string()).collect();
        let values = (0..2000).map(|i| f64::from(i % 7));
        let rankings = names.iter().map(String::as_str).zip(values.clone());
        let interval = Bootstrap::default().mean_by_user(rankings).unwrap();
        let mean = values.clone().sum::<f64>() / 2000.0;
        let variance = values.map(|value| (value - mean).powi(2)).sum::<f64>() / 2000.0;
        let margin = 1.959_964 * (variance / 2000.0).sqrt();
        // The standard error of a 2.5 % point of 10,000 samples is a fiftieth of the margin.
        for (found, expected) in [
            (interval.low, mean - margin),
            (interval.high, mean + margin),
        ] {
            assert!(
                (found - expected).abs() < margin / 10.0,
                "{found}, {expected}"
            );
        }
    }

    #[test]
    fn repeating_a_user_s_rankings_makes_nobody_surer() {
        let once = Bootstrap::default()
            .mean_by_user([("a", 0.0), ("b", 1.0), ("c", 0.5)])
            .unwrap();
        let often = (0..100).flat_map(|_| [("a", 0.0), ("b", 1.0), ("c", 0.5)]);
        assert_eq!(once, Bootstrap::default().mean_by_user(often).unwrap());
    }

    #[test]
    fn the_seed_alone_decides_and_bad_input_is_refused() {
        let values = [("a", 0.1), ("b", 0.7), ("c", 0.4), ("d", 0.9), ("e", 0.3)];
        let seeded = |seed| {
            let bootstrap = Bootstrap {
                samples: 100,
                seed,
                ..Bootstrap::default()
            };
            bootstrap.mean_by_user(values).unwrap()
        };
        assert_eq!(seeded(1), seeded(1));
        assert_ne!(seeded(1), seeded(2));
        let default = Bootstrap::default();
        assert_eq!(default.mean_by_user([]), Err(BootstrapError::Empty));
        let nan = default.mean_by_user([("a", 0.0), ("a", f64::NAN)]);
        assert!(matches!(nan, Err(BootstrapError::Value { index: 1, .. })));
        let none = Bootstrap {
            samples: 0,
            ..default
        };
        assert_eq!(none.mean_by_user(values), Err(BootstrapError::Options));
    }
}
