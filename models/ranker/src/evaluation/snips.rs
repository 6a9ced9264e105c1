//! What each arm of a randomised choice is worth, from the log of what was drawn.

use super::bootstrap::{Bootstrap, BootstrapError, Interval, Weighted};

/// Below this effective sample size an estimate is no ground for a decision.
pub const MIN_EFFECTIVE_SAMPLE_SIZE: f64 = 200.0;

/// How far the coverage of an arm may be from 1, besides what chance allows.
const COVERAGE_SLACK: f64 = 0.05;
/// Standard errors that count as chance.
const CHANCE: f64 = 4.0;

/// One draw of an arm and what came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoggedPlay<'a> {
    /// Whose request it was.
    pub user_id: &'a str,
    /// Which arm was drawn, from 0.
    pub arm: usize,
    /// Probability with which it was, above 0 and at most 1.
    pub probability: f64,
    /// What it brought.
    pub reward: f64,
}

/// What an arm is worth if it always were played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ArmEstimate {
    /// How often it was played.
    pub plays: usize,
    /// `(Σ w)² / Σ w²` with `w = 1 / probability` (Kish, *Survey Sampling*, 1965): as many plays of
    /// one weight would know as much. 0 where it was never played.
    pub effective_sample_size: f64,
    /// `Σ w / n` of the `n` draws of any arm: about 1 where it could be drawn each time. Less where it was
    /// no choice for a part of them, so that its plays are of other requests than those of the others.
    pub coverage: f64,
    /// Standard error of the coverage.
    pub coverage_error: f64,
    /// Mean reward, and its interval by resampling users; none where it was never played.
    pub value: Option<Interval>,
    /// The same less that of the reference; none where one of both was never played.
    pub difference: Option<Interval>,
}

impl ArmEstimate {
    /// Whether there is enough of it for a decision.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        self.effective_sample_size >= MIN_EFFECTIVE_SAMPLE_SIZE
    }

    /// Whether it was a choice for all draws: arms of which one was added or taken away between are not to be
    /// compared.
    #[must_use]
    pub fn is_covered(&self) -> bool {
        (self.coverage - 1.0).abs() <= COVERAGE_SLACK + CHANCE * self.coverage_error
    }
}

/// The self-normalised inverse propensity estimate of each of `arms` arms, `Σ w r / Σ w` over its
/// plays (Swaminathan and Joachims, *The Self-Normalized Estimator for Counterfactual Learning*,
/// NIPS 2015), beside the arm `reference`.
///
/// Plays must be of requests whose arm was left to chance: what was decided otherwise has a
/// probability that says nothing of the others. Plays of an arm beyond `arms` count as draws only.
///
/// # Errors
/// A probability or a reward is none, or the options of the bootstrap make no interval.
pub fn snips(
    bootstrap: &Bootstrap,
    plays: &[LoggedPlay<'_>],
    arms: usize,
    reference: usize,
) -> Result<Vec<ArmEstimate>, BootstrapError> {
    let mut by_arm: Vec<Vec<(&str, Weighted)>> = vec![Vec::new(); arms];
    for play in plays {
        if let Some(of_arm) = by_arm.get_mut(play.arm) {
            let weighted = Weighted {
                value: play.reward,
                weight: 1.0 / play.probability,
            };
            of_arm.push((play.user_id, weighted));
        }
    }
    let draws = plays.len() as f64;
    let reference_plays = by_arm.get(reference).cloned().unwrap_or_default();
    by_arm
        .into_iter()
        .enumerate()
        .map(|(arm, plays)| {
            let is_compared = arm != reference && !reference_plays.is_empty();
            let difference = (is_compared && !plays.is_empty()).then(|| {
                let (plays, others) = (plays.iter().copied(), reference_plays.iter().copied());
                bootstrap.difference_by_user(plays, others)
            });
            Ok(ArmEstimate {
                plays: plays.len(),
                effective_sample_size: effective_sample_size(&plays),
                coverage: plays.iter().map(|(_, play)| play.weight).sum::<f64>() / draws,
                coverage_error: coverage_variance(&plays).sqrt() / draws,
                difference: difference.transpose()?,
                value: (!plays.is_empty())
                    .then(|| bootstrap.weighted_mean_by_user(plays))
                    .transpose()?,
            })
        })
        .collect()
}

/// Of `Σ w`: a draw adds `w` with probability `1 / w`, so its variance is `w − 1`, and each play stands for
/// `w` draws.
fn coverage_variance(plays: &[(&str, Weighted)]) -> f64 {
    let of = |(_, Weighted { weight, .. }): &(&str, Weighted)| weight * (weight - 1.0);
    plays.iter().map(of).sum()
}

fn effective_sample_size(plays: &[(&str, Weighted)]) -> f64 {
    let (sum, squares) = plays.iter().fold(
        (0.0, 0.0),
        |(sum, squares), (_, Weighted { weight, .. })| (sum + weight, squares + weight * weight),
    );
    if squares > 0.0 {
        sum * sum / squares
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{RngCore, SeedableRng};

    use super::*;

    /// Of each arm what a play of it brings on average.
    const TRUTH: [f64; 3] = [0.2, 0.3, 0.5];

    struct Log {
        rng: ChaCha8Rng,
        users: Vec<String>,
    }

    impl Log {
        fn new(seed: u64) -> Self {
            Self {
                rng: ChaCha8Rng::seed_from_u64(seed),
                users: (0..500).map(|user| format!("u{user}")).collect(),
            }
        }

        fn uniform(&mut self) -> f64 {
            (self.rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
        }

        /// The policy changes in the middle, and with it who asks: later requests are worth half. A
        /// mean over an arm's plays would be wrong by that, since arms are played at other times.
        fn plays(&mut self, requests: usize) -> Vec<(usize, usize, f64, f64)> {
            let mut plays = Vec::new();
            for n in 0..requests {
                let later = n >= requests / 2;
                let shares = if later {
                    [0.1, 0.1, 0.8]
                } else {
                    [0.8, 0.1, 0.1]
                };
                let luck = self.uniform();
                let arm =
                    usize::from(luck >= shares[0]) + usize::from(luck >= shares[0] + shares[1]);
                let worth = TRUTH[arm] * if later { 0.5 } else { 1.0 };
                let reward = f64::from(u8::from(self.uniform() < worth));
                let user = (self.rng.next_u64() % 500) as usize;
                plays.push((user, arm, shares[arm], reward));
            }
            plays
        }
    }

    fn logged<'a>(log: &'a Log, plays: &[(usize, usize, f64, f64)]) -> Vec<LoggedPlay<'a>> {
        let play = |&(user, arm, probability, reward): &(usize, usize, f64, f64)| LoggedPlay {
            user_id: &log.users[user],
            arm,
            probability,
            reward,
        };
        plays.iter().map(play).collect()
    }

    #[test]
    fn the_truth_is_in_nineteen_of_twenty_intervals_and_the_mean_is_unbiased() {
        const RUNS: u64 = 60;
        let bootstrap = Bootstrap {
            samples: 300,
            ..Bootstrap::default()
        };
        let (mut held, mut sums) = (0, [0.0; 3]);
        for seed in 0..RUNS {
            let mut log = Log::new(seed);
            let plays = log.plays(4_000);
            let estimates = snips(&bootstrap, &logged(&log, &plays), 3, 0).unwrap();
            for (arm, estimate) in estimates.iter().enumerate() {
                let value = estimate.value.unwrap();
                // Half of the requests are worth half.
                let truth = TRUTH[arm] * 0.75;
                held += usize::from((value.low..=value.high).contains(&truth));
                sums[arm] += value.mean / RUNS as f64;
            }
        }
        let share = f64::from(u32::try_from(held).unwrap()) / (3.0 * RUNS as f64);
        assert!((0.88..=1.0).contains(&share), "{share}");
        for (sum, truth) in sums.iter().zip(TRUTH) {
            // Four standard errors of the mean over the runs, at the most uneven arm.
            assert!((sum - truth * 0.75).abs() < 0.015, "{sums:?}");
        }
        // What a mean without weights would say of the last arm, which is played when it is worth less.
        let mut log = Log::new(0);
        let plays = log.plays(4_000);
        let last: Vec<f64> = plays.iter().filter(|it| it.1 == 2).map(|it| it.3).collect();
        let naive = last.iter().sum::<f64>() / last.len() as f64;
        assert!((naive - TRUTH[2] * 0.75).abs() > 0.05, "{naive}");
    }

    #[test]
    fn an_arm_that_was_not_played_has_no_estimate_and_few_plays_are_not_enough() {
        let play = |arm, probability, reward| LoggedPlay {
            user_id: "u",
            arm,
            probability,
            reward,
        };
        let mut plays = vec![play(0, 0.5, 1.0); 250];
        plays.extend([play(1, 0.5, 0.0), play(7, 0.5, 1.0)]);
        let estimates = snips(&Bootstrap::default(), &plays, 3, 1).unwrap();
        assert_eq!(estimates.len(), 3);
        assert!(estimates[0].is_enough() && estimates[0].plays == 250);
        assert!((estimates[0].effective_sample_size - 250.0).abs() < 1e-9);
        assert!((estimates[0].difference.unwrap().mean - 1.0).abs() < 1e-12);
        assert!(!estimates[1].is_enough() && estimates[1].difference.is_none());
        assert_eq!((estimates[2].plays, estimates[2].value), (0, None));
        assert!(!estimates[2].is_enough() && estimates[2].difference.is_none());
    }

    #[test]
    fn an_arm_that_was_no_choice_for_a_while_is_told() {
        let mut log = Log::new(3);
        let mut plays = log.plays(2_000);
        let all = |estimates: &[ArmEstimate]| estimates.iter().all(ArmEstimate::is_covered);
        let estimates = snips(&Bootstrap::default(), &logged(&log, &plays), 3, 0).unwrap();
        assert!(all(&estimates), "{estimates:?}");
        // The last arm is added when half of the answers have been given.
        for play in &mut plays[..1_000] {
            if play.1 == 2 {
                *play = (play.0, 0, 0.9, play.3);
            } else if play.1 == 0 {
                play.2 = 0.9;
            }
        }
        let estimates = snips(&Bootstrap::default(), &logged(&log, &plays), 3, 0).unwrap();
        assert!(
            estimates[0].is_covered() && estimates[1].is_covered(),
            "{estimates:?}"
        );
        assert!(!estimates[2].is_covered(), "{:?}", estimates[2]);
        assert!(
            (estimates[2].coverage - 0.5).abs() < 0.1,
            "{:?}",
            estimates[2]
        );
    }

    #[test]
    fn one_play_of_small_probability_outweighs_many_and_is_told_so() {
        let play = |probability| LoggedPlay {
            user_id: "u",
            arm: 0,
            probability,
            reward: 0.0,
        };
        let mut plays = vec![play(1.0); 299];
        plays.push(play(0.001));
        let estimates = snips(&Bootstrap::default(), &plays, 1, 0).unwrap();
        let size = estimates[0].effective_sample_size;
        assert!(size < 2.0 && estimates[0].plays == 300, "{size}");
        assert!(!estimates[0].is_enough());
        let broken = snips(&Bootstrap::default(), &[play(0.0)], 1, 0);
        assert!(matches!(broken, Err(BootstrapError::Weight { .. })));
    }
}
