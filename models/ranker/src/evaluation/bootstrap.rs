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
    /// A weight is negative, NaN or infinite.
    #[error("ranking {index} has the weight {value}")]
    Weight {
        /// Position among the values.
        index: usize,
        /// The weight.
        value: f64,
    },
    /// The options make no interval.
    #[error("a bootstrap needs at least one sample and a confidence between 0 and 1")]
    Options,
}

/// A value that counts for more or less than others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weighted {
    /// The value.
    pub value: f64,
    /// What it counts for; not below 0.
    pub weight: f64,
}

/// A user's values, summed.
#[derive(Clone, Copy, Default)]
struct Sums {
    sum: f64,
    weight: f64,
}

impl Sums {
    fn add(&mut self, other: Self) {
        self.sum += other.sum;
        self.weight += other.weight;
    }

    fn mean(self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
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
        let values = rankings.into_iter().map(|(user, value)| {
            let weighted = Weighted { value, weight: 1.0 };
            (user, 0, weighted)
        });
        self.interval(&by_user::<1>(values)?, |[of]| of.mean())
    }

    /// The same of values that count for more or less: the mean is the sum of the weighted values by
    /// that of the weights, in each sample anew. Samples without any weight have none and are left out.
    ///
    /// # Errors
    /// As [`mean_by_user`](Self::mean_by_user); a weight below 0 is none.
    pub fn weighted_mean_by_user<'a>(
        &self,
        rankings: impl IntoIterator<Item = (&'a str, Weighted)>,
    ) -> Result<Interval, BootstrapError> {
        let values = rankings.into_iter().map(|(user, value)| (user, 0, value));
        self.interval(&by_user::<1>(values)?, |[of]| of.mean())
    }

    /// The weighted mean of some rankings less that of others, over the same draws of users: a user
    /// may have rankings of both, which are then drawn together.
    ///
    /// # Errors
    /// As [`mean_by_user`](Self::mean_by_user), also where only one of both has values.
    pub fn difference_by_user<'a>(
        &self,
        of: impl IntoIterator<Item = (&'a str, Weighted)>,
        less: impl IntoIterator<Item = (&'a str, Weighted)>,
    ) -> Result<Interval, BootstrapError> {
        let of = of.into_iter().map(|(user, value)| (user, 0, value));
        let less = less.into_iter().map(|(user, value)| (user, 1, value));
        self.interval(&by_user::<2>(of.chain(less))?, |[of, less]| {
            Some(of.mean()? - less.mean()?)
        })
    }

    fn interval<const N: usize>(
        &self,
        users: &[[Sums; N]],
        statistic: impl Fn([Sums; N]) -> Option<f64>,
    ) -> Result<Interval, BootstrapError> {
        if self.samples == 0 || !(self.confidence > 0.0 && self.confidence < 1.0) {
            return Err(BootstrapError::Options);
        }
        let mean = statistic(total(users.iter())).ok_or(BootstrapError::Empty)?;
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut means: Vec<f64> = (0..self.samples)
            .filter_map(|_| statistic(total(draws(users, &mut rng))))
            .collect();
        if means.is_empty() {
            return Err(BootstrapError::Empty);
        }
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

/// Users in order of appearance, so that a seed always draws the same ones; each with the sums of the
/// groups that its values belong to.
fn by_user<'a, const N: usize>(
    rankings: impl IntoIterator<Item = (&'a str, usize, Weighted)>,
) -> Result<Vec<[Sums; N]>, BootstrapError> {
    let mut positions: HashMap<&str, usize> = HashMap::new();
    let mut users: Vec<[Sums; N]> = Vec::new();
    for (index, (user, group, Weighted { value, weight })) in rankings.into_iter().enumerate() {
        if !value.is_finite() {
            return Err(BootstrapError::Value { index, value });
        }
        if !(weight.is_finite() && weight >= 0.0) {
            let value = weight;
            return Err(BootstrapError::Weight { index, value });
        }
        let position = *positions.entry(user).or_insert(users.len());
        if position == users.len() {
            users.push([Sums::default(); N]);
        }
        users[position][group].add(Sums {
            sum: value * weight,
            weight,
        });
    }
    Ok(users)
}

fn total<'a, const N: usize>(users: impl Iterator<Item = &'a [Sums; N]>) -> [Sums; N] {
    users.fold([Sums::default(); N], |mut total, user| {
        for (total, of_user) in total.iter_mut().zip(user) {
            total.add(*of_user);
        }
        total
    })
}

/// As many users as there are, drawn with replacement.
fn draws<'a, S>(users: &'a [S], rng: &'a mut ChaCha8Rng) -> impl Iterator<Item = &'a S> {
    (0..users.len()).map(|_| {
        // Multiply and shift instead of a remainder; its bias is below users / 2^64.
        let drawn = (u128::from(rng.next_u64()) * users.len() as u128) >> 64;
        &users[drawn as usize]
    })
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

    fn weighted(value: f64, weight: f64) -> Weighted {
        Weighted { value, weight }
    }

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

    #[test]
    fn equal_weights_are_no_weights() {
        let values = [("a", 0.1), ("b", 0.7), ("a", 0.4), ("c", 0.9)];
        let plain = Bootstrap::default().mean_by_user(values).unwrap();
        let twice = values.map(|(user, value)| (user, weighted(value, 2.0)));
        let by_weight = Bootstrap::default().weighted_mean_by_user(twice).unwrap();
        for (found, expected) in [
            (by_weight.mean, plain.mean),
            (by_weight.low, plain.low),
            (by_weight.high, plain.high),
        ] {
            assert!((found - expected).abs() < 1e-12, "{found}, {expected}");
        }
        let uneven = [("a", weighted(1.0, 3.0)), ("b", weighted(0.0, 1.0))];
        let uneven = Bootstrap::default().weighted_mean_by_user(uneven).unwrap();
        assert!((uneven.mean - 0.75).abs() < 1e-12);
        let negative = Bootstrap::default().weighted_mean_by_user([("a", weighted(1.0, -1.0))]);
        assert!(matches!(negative, Err(BootstrapError::Weight { .. })));
    }

    #[test]
    fn a_user_s_values_of_both_groups_are_drawn_together() {
        // Users differ by up to 1, and each one's values by a tenth exactly.
        let names: Vec<String> = (0..40).map(|user| user.to_string()).collect();
        let of = |more: f64| {
            let values = names.iter().enumerate();
            values.map(move |(n, user)| (user.as_str(), weighted(n as f64 / 40.0 + more, 1.0)))
        };
        let bootstrap = Bootstrap::default();
        let paired = bootstrap.difference_by_user(of(0.1), of(0.0)).unwrap();
        for found in [paired.mean, paired.low, paired.high] {
            assert!((found - 0.1).abs() < 1e-9, "{paired:?}");
        }
        let alone = bootstrap.weighted_mean_by_user(of(0.1)).unwrap();
        assert!(alone.high - alone.low > 0.1, "{alone:?}");
        let nothing = bootstrap.difference_by_user(of(0.1), []);
        assert_eq!(nothing, Err(BootstrapError::Empty));
    }
}
