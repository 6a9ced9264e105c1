//! What counters mean at a moment: decayed counts, click-through rates, velocity.
//!
//! Everything is computed on reading, from integers, oldest bucket first: the same counters give
//! the same bits wherever and whenever they are read at the same `now_ms`.

use std::sync::LazyLock;

use millrace_schemas::{Bucket, ItemCounters};

use crate::counters::{DAYS, HOURS, MAX_POSITION, MINUTES, Resolution};

/// After how long a count weighs half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfLife {
    /// 1 hour, from minutes.
    Hour,
    /// 24 hours, from hours.
    Day,
    /// 7 days, from days.
    Week,
}

impl HalfLife {
    fn buckets(self, counters: &ItemCounters) -> (&[Bucket], Resolution, &'static Weights) {
        match self {
            Self::Hour => (&counters.minutes, MINUTES, &MINUTE_WEIGHTS),
            Self::Day => (&counters.hours, HOURS, &HOUR_WEIGHTS),
            Self::Week => (&counters.days, DAYS, &DAY_WEIGHTS),
        }
    }
}

/// What a bucket weighs by its age: computed once for the ages that are kept, since features of a
/// thousand candidates read some hundred buckets each.
struct Weights {
    half_life_buckets: f64,
    kept: Vec<f64>,
}

static MINUTE_WEIGHTS: LazyLock<Weights> = LazyLock::new(|| Weights::new(60.0, MINUTES));
static HOUR_WEIGHTS: LazyLock<Weights> = LazyLock::new(|| Weights::new(24.0, HOURS));
static DAY_WEIGHTS: LazyLock<Weights> = LazyLock::new(|| Weights::new(7.0, DAYS));

impl Weights {
    fn new(half_life_buckets: f64, resolution: Resolution) -> Self {
        let weight = |age| weight(age, half_life_buckets);
        Self {
            half_life_buckets,
            kept: (0..=resolution.kept).map(weight).collect(),
        }
    }

    fn of(&self, age_buckets: i64) -> f64 {
        let kept = usize::try_from(age_buckets.max(0)).ok();
        match kept.and_then(|age| self.kept.get(age)) {
            Some(weight) => *weight,
            None => weight(age_buckets, self.half_life_buckets),
        }
    }
}

/// The sum of `counted` over all buckets, each halved once for every half-life that lies between
/// its bucket and that of `now_ms`. Buckets after `now_ms` (clocks differ) count in full.
#[must_use]
pub fn decayed(
    counters: &ItemCounters,
    half_life: HalfLife,
    now_ms: i64,
    counted: impl Fn(&Bucket) -> i64,
) -> f64 {
    let (buckets, resolution, weights) = half_life.buckets(counters);
    let now = resolution.bucket(now_ms);
    buckets.iter().fold(0.0, |sum, bucket| {
        sum + weights.of(now.saturating_sub(bucket.number)) * to_f64(counted(bucket))
    })
}

/// Impressions and clicks of an item, decayed: [`decayed`] of both in one walk.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shown {
    /// Times shown.
    pub impressions: f64,
    /// Times clicked.
    pub clicks: f64,
}

impl Shown {
    /// Of an item, or of all.
    #[must_use]
    pub fn of(counters: &ItemCounters, half_life: HalfLife, now_ms: i64) -> Self {
        let (buckets, resolution, weights) = half_life.buckets(counters);
        let now = resolution.bucket(now_ms);
        buckets.iter().fold(Self::default(), |sum, bucket| {
            let weight = weights.of(now.saturating_sub(bucket.number));
            Self {
                impressions: sum.impressions + weight * to_f64(bucket.impressions),
                clicks: sum.clicks + weight * to_f64(bucket.clicks),
            }
        })
    }

    /// The click-through rate: see [`smoothed_ctr`].
    #[must_use]
    pub fn smoothed_ctr(self, prior: BetaPrior) -> f64 {
        let shown = self.impressions.max(self.clicks);
        (self.clicks + prior.clicks) / (shown + prior.impressions)
    }
}

fn weight(age_buckets: i64, half_life_buckets: f64) -> f64 {
    (-to_f64(age_buckets.max(0)) / half_life_buckets).exp2()
}

/// What is believed of an item before anything is known of it: `clicks` of `impressions`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BetaPrior {
    /// Clicks, above 0.
    pub clicks: f64,
    /// Impressions, above `clicks`.
    pub impressions: f64,
}

impl BetaPrior {
    /// The rate that is believed.
    #[must_use]
    pub fn mean(self) -> f64 {
        self.clicks / self.impressions
    }

    /// As many impressions as `strength`, with the click-through rate of all items.
    #[must_use]
    pub fn of_totals<'a>(
        totals: impl IntoIterator<Item = &'a ItemCounters>,
        half_life: HalfLife,
        now_ms: i64,
        strength: f64,
    ) -> Self {
        let (mut clicks, mut impressions) = (0.0, 0.0);
        for totals in totals {
            let shown = Shown::of(totals, half_life, now_ms);
            clicks += shown.clicks;
            impressions += shown.impressions;
        }
        // One click of twenty before anything was shown at all.
        let rate = (clicks + 1.0) / (impressions.max(clicks) + 20.0);
        Self {
            clicks: rate * strength,
            impressions: strength,
        }
    }
}

/// The click-through rate's posterior mean under a Beta prior:
/// `(clicks + prior.clicks) / (impressions + prior.impressions)`. Clicks without an impression
/// (an upstream system that does not tell of all) count as one each.
#[must_use]
pub fn smoothed_ctr(
    counters: &ItemCounters,
    half_life: HalfLife,
    now_ms: i64,
    prior: BetaPrior,
) -> f64 {
    Shown::of(counters, half_life, now_ms).smoothed_ctr(prior)
}

/// The click-through rate of each position over all items: what an average item gets there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PositionRates(
    /// By position; `None` where nothing was shown.
    Vec<Option<f64>>,
);

impl PositionRates {
    /// From the totals of all partitions, with a half-life of 7 days.
    #[must_use]
    pub fn of_totals<'a>(totals: impl IntoIterator<Item = &'a ItemCounters>, now_ms: i64) -> Self {
        let mut sums = Vec::<(f64, f64)>::new();
        for counters in totals {
            for_positions(counters, now_ms, |position, impressions, clicks| {
                if position >= sums.len() {
                    sums.resize(position + 1, (0.0, 0.0));
                }
                sums[position].0 += impressions;
                sums[position].1 += clicks;
            });
        }
        let rate = |(impressions, clicks)| (impressions > 0.0).then(|| clicks / impressions);
        Self(sums.into_iter().map(rate).collect())
    }

    fn of(&self, position: usize) -> Option<f64> {
        self.0.get(position).copied().flatten()
    }
}

/// Clicks over expected clicks, corrected for position: how many clicks the item got for each that
/// an average item would have got at the positions where it was shown. 1 is average; `None` where
/// it was never shown at a position with a known rate.
///
/// `COEC = Σ clicks / Σ_p impressions(p) · ctr(p)`: Zhang and Jones, "Comparing Click Logs and
/// Editorial Labels for Training Query Rewriting" (WWW 2007 workshop); used as a feature by Chen
/// and Yan, "Position-Normalized Click Prediction in Search Advertising" (KDD 2012). Clicks count
/// where they tell their position, as impressions do.
#[must_use]
pub fn coec(counters: &ItemCounters, rates: &PositionRates, now_ms: i64) -> Option<f64> {
    let (mut observed, mut expected) = (0.0, 0.0);
    for_positions(counters, now_ms, |position, impressions, clicks| {
        if let Some(rate) = rates.of(position) {
            observed += clicks;
            expected += impressions * rate;
        }
    });
    (expected > 0.0).then(|| observed / expected)
}

/// Calls `each` with a position and what was shown and clicked there, decayed, day by day.
fn for_positions(counters: &ItemCounters, now_ms: i64, mut each: impl FnMut(usize, f64, f64)) {
    let (buckets, resolution, weights) = HalfLife::Week.buckets(counters);
    let now = resolution.bucket(now_ms);
    for bucket in buckets {
        let weight = weights.of(now.saturating_sub(bucket.number));
        for counts in &bucket.positions {
            // Nobody counts any other position; what was counted elsewhere is not believed.
            let position = match usize::try_from(counts.position) {
                Ok(position) if counts.position <= MAX_POSITION => position,
                _ => continue,
            };
            each(
                position,
                weight * to_f64(counts.impressions),
                weight * to_f64(counts.clicks),
            );
        }
    }
}

/// The rate of the last hour over that of the last day: above 1 the item is gaining. `None` where
/// nothing was counted in the last day.
#[must_use]
pub fn velocity(
    counters: &ItemCounters,
    now_ms: i64,
    counted: impl Fn(&Bucket) -> i64,
) -> Option<f64> {
    let last = |buckets: &[Bucket], resolution: Resolution, count: i64| -> i64 {
        let now = resolution.bucket(now_ms);
        let within =
            |bucket: &&Bucket| bucket.number > now.saturating_sub(count) && bucket.number <= now;
        buckets.iter().filter(within).map(&counted).sum()
    };
    let hour = last(&counters.minutes, MINUTES, 60);
    let day = last(&counters.hours, HOURS, 24);
    (day > 0).then(|| to_f64(hour) / (to_f64(day) / 24.0))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts and ages stay far below 2^53"
)]
fn to_f64(count: i64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use millrace_schemas::PositionCounts;

    use super::*;

    fn bucket(number: i64, impressions: i64, clicks: i64) -> Bucket {
        Bucket {
            number,
            impressions,
            clicks,
            ..Bucket::default()
        }
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn a_count_halves_with_every_half_life() {
        let counters = ItemCounters {
            minutes: vec![bucket(0, 0, 8), bucket(60, 0, 4), bucket(500, 0, 1)],
            hours: vec![bucket(0, 3, 0)],
            days: vec![bucket(0, 5, 0)],
        };
        let clicks = |half_life, now_ms| decayed(&counters, half_life, now_ms, |b| b.clicks);
        // At minute 120: 8/4 + 4/2, and the one from the future in full.
        assert!(near(clicks(HalfLife::Hour, 120 * 60_000 + 5), 5.0));
        let shown = |half_life, now_ms| decayed(&counters, half_life, now_ms, |b| b.impressions);
        assert!(near(shown(HalfLife::Day, 48 * HOURS.bucket_ms), 0.75));
        assert!(near(shown(HalfLife::Week, 7 * DAYS.bucket_ms), 2.5));
    }

    #[test]
    fn an_unknown_item_has_the_priors_rate_and_evidence_moves_it() {
        let prior = BetaPrior {
            clicks: 1.0,
            impressions: 10.0,
        };
        let ctr = |impressions, clicks| {
            let hours = vec![bucket(0, impressions, clicks)];
            let counters = ItemCounters {
                hours,
                ..ItemCounters::default()
            };
            smoothed_ctr(&counters, HalfLife::Day, 0, prior)
        };
        assert!(near(ctr(0, 0), 0.1));
        assert!(near(ctr(90, 19), 0.2));
        assert!(near(ctr(0, 90), 0.91), "clicks without impressions");
        let none = BetaPrior::of_totals([], HalfLife::Day, 0, 10.0);
        assert!(near(none.clicks, 0.5));
    }

    #[test]
    fn position_is_corrected_for() {
        let at = |position, impressions, clicks| PositionCounts {
            position,
            impressions,
            clicks,
        };
        let day = |positions| ItemCounters {
            days: vec![Bucket {
                positions,
                ..Bucket::default()
            }],
            ..ItemCounters::default()
        };
        // Top answers are clicked at 50 %, tenth ones at 10 %.
        let totals = [
            day(vec![at(1, 60, 30)]),
            day(vec![at(1, 40, 20), at(10, 100, 10)]),
        ];
        let rates = PositionRates::of_totals(&totals, 0);
        let top = coec(&day(vec![at(1, 10, 5)]), &rates, 0);
        let tenth = coec(&day(vec![at(10, 10, 2), at(99, 1, 1)]), &rates, 0);
        assert!(top.is_some_and(|coec| near(coec, 1.0)), "{top:?}");
        assert!(tenth.is_some_and(|coec| near(coec, 2.0)), "{tenth:?}");
        assert_eq!(coec(&day(vec![]), &rates, 0), None);
    }

    #[test]
    fn velocity_is_the_last_hour_over_the_last_day() {
        let now_ms = 48 * HOURS.bucket_ms;
        let counters = ItemCounters {
            minutes: vec![
                bucket(47 * 60, 0, 9),
                bucket(47 * 60 + 1, 0, 2),
                bucket(48 * 60, 0, 1),
            ],
            hours: vec![bucket(24, 0, 9), bucket(30, 0, 21), bucket(48, 0, 3)],
            ..ItemCounters::default()
        };
        let velocity = velocity(&counters, now_ms, |b| b.clicks);
        assert!(
            velocity.is_some_and(|velocity| near(velocity, 3.0)),
            "{velocity:?}"
        );
        assert_eq!(super::velocity(&counters, now_ms, |b| b.impressions), None);
    }
}
