//! Gives items that nobody has seen yet a place in the list, and says how likely that was.
//!
//! One place in ten is for a cold item, chosen by Thompson sampling (Thompson, 1933; Chapelle and Li,
//! *An Empirical Evaluation of Thompson Sampling*, NIPS 2011): each item's click-through rate is drawn
//! from its posterior, `Beta(prior clicks + clicks, prior skips + impressions − clicks)`, and the
//! greatest draw is shown. The probability of that outcome has no closed form; it is the share of
//! further draws that end the same, at least the floor, so that a weight 1/propensity stays bounded
//! (Bottou et al., *Counterfactual Reasoning and Learning Systems*, JMLR 2013, section 4.4: the price
//! of the bound is a bias towards what is rarely shown).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Beta, Distribution, StandardUniform};
use sha2::{Digest, Sha256};

/// Of so many places one is for exploration.
const PLACES_EACH: usize = 10;

/// How cold items are drawn.
///
/// Everything that is drawn depends on the request id alone: the same id, items and settings give the
/// same answer, so a logged propensity can be recomputed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exploration {
    /// Clicks that each item is credited with before its first impression; 1, which with 10 prior
    /// impressions expects a click-through rate of a tenth.
    pub prior_clicks: f64,
    /// Impressions that each item is credited with, at least the prior clicks; 10.
    pub prior_impressions: f64,
    /// Draws that estimate propensities; 200. One draw of one item takes about 0.1 µs.
    pub draws: u32,
    /// Least propensity that is reported; 0.01.
    pub floor: f64,
}

/// What is known of a cold item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColdItem {
    /// How often it was shown.
    pub impressions: u64,
    /// How often it was then clicked.
    pub clicks: u64,
}

/// A cold item that gets a place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Explored {
    /// Position among the cold items.
    pub item: usize,
    /// Place in the list, from 0.
    pub place: usize,
    /// How likely this item was to get this place, at least the floor.
    pub propensity: f64,
}

/// Settings or items that can't be drawn from.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
pub enum ExplorationError {
    /// A setting has no sense.
    #[error("exploration setting `{setting}` is {value}; it must be {rule}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: f64,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// An item was clicked more often than it was shown.
    #[error("cold item {item} has {clicks} clicks of {impressions} impressions")]
    Clicks {
        /// Position among the cold items.
        item: usize,
        /// Its clicks.
        clicks: u64,
        /// Its impressions.
        impressions: u64,
    },
}

impl Default for Exploration {
    fn default() -> Self {
        Self {
            prior_clicks: 1.0,
            prior_impressions: 10.0,
            draws: 200,
            floor: 0.01,
        }
    }
}

impl Exploration {
    /// Which cold items take which places of a list of `count`.
    ///
    /// The last of every ten places is explored. Of a remainder of `r` places the last is explored
    /// with probability `r`/10, which is part of its propensity: so a tenth of all places are
    /// explored, whatever the length of lists. No item gets two places.
    ///
    /// Every item is drawn for every estimate: `items` are the few dozen that recall found for this
    /// user, not all that are cold.
    ///
    /// # Errors
    /// [`ExplorationError`], naming the setting or item.
    pub fn choose(
        &self,
        request_id: &str,
        items: &[ColdItem],
        count: usize,
    ) -> Result<Vec<Explored>, ExplorationError> {
        let posteriors = self.posteriors(items)?;
        let mut rng = ChaCha8Rng::from_seed(Sha256::digest(request_id).into());
        // Always drawn, so that the items' draws do not depend on the length of the list.
        let luck: f64 = StandardUniform.sample(&mut rng);
        let places = places(count, luck);
        if posteriors.is_empty() || places.is_empty() {
            return Ok(Vec::new());
        }
        let chosen = best_draws(&posteriors, places.len(), &mut rng);
        // How often each chosen item came out at the same rank.
        let mut same = vec![0u32; chosen.len()];
        for _ in 0..self.draws {
            let again = best_draws(&posteriors, places.len(), &mut rng);
            for (same, (item, chosen)) in same.iter_mut().zip(again.iter().zip(&chosen)) {
                *same += u32::from(item == chosen);
            }
        }
        let explored = chosen.iter().zip(&places).zip(same);
        Ok(explored
            .map(|((&item, &(place, likely)), same)| Explored {
                item,
                place,
                propensity: (likely * f64::from(same) / f64::from(self.draws)).max(self.floor),
            })
            .collect())
    }

    fn posteriors(&self, items: &[ColdItem]) -> Result<Vec<Beta<f64>>, ExplorationError> {
        let positive = "a finite number above 0";
        let (clicks, impressions) = (self.prior_clicks, self.prior_impressions);
        for (setting, value, fits, rule) in [
            (
                "prior_clicks",
                clicks,
                clicks > 0.0 && clicks.is_finite(),
                positive,
            ),
            (
                "prior_impressions",
                impressions,
                impressions > clicks && impressions.is_finite(),
                "a finite number above the prior clicks",
            ),
            ("draws", f64::from(self.draws), self.draws > 0, "1 or more"),
            (
                "floor",
                self.floor,
                self.floor > 0.0 && self.floor <= 1.0,
                "above 0 and at most 1",
            ),
        ] {
            if !fits {
                return Err(ExplorationError::Setting {
                    setting,
                    value,
                    rule,
                });
            }
        }
        let posterior = |(item, cold): (usize, &ColdItem)| {
            let ColdItem {
                impressions,
                clicks,
            } = *cold;
            let skips = impressions.checked_sub(clicks);
            let beta = skips.and_then(|skips| {
                let prior_skips = self.prior_impressions - self.prior_clicks;
                Beta::new(
                    self.prior_clicks + clicks as f64,
                    prior_skips + skips as f64,
                )
                .ok()
            });
            beta.ok_or(ExplorationError::Clicks {
                item,
                clicks,
                impressions,
            })
        };
        items.iter().enumerate().map(posterior).collect()
    }
}

/// The explored places of a list, each with the probability that it is explored.
fn places(count: usize, luck: f64) -> Vec<(usize, f64)> {
    let mut places: Vec<(usize, f64)> = (1..=count / PLACES_EACH)
        .map(|ten| (ten * PLACES_EACH - 1, 1.0))
        .collect();
    let likely = (count % PLACES_EACH) as f64 / PLACES_EACH as f64;
    if luck < likely {
        places.push((count - 1, likely));
    }
    places
}

/// The items with the `count` greatest draws, greatest first.
fn best_draws(posteriors: &[Beta<f64>], count: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut draws: Vec<(f64, usize)> = posteriors
        .iter()
        .enumerate()
        .map(|(item, posterior)| (posterior.sample(rng), item))
        .collect();
    let by_draw = |a: &(f64, usize), b: &(f64, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if count < draws.len() {
        draws.select_nth_unstable_by(count, by_draw);
        draws.truncate(count);
    }
    draws.sort_unstable_by(by_draw);
    draws.into_iter().map(|(_, item)| item).collect()
}
