//! What a request brings to its features beside user and items.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_schemas::ItemCounters;

use crate::rates::{BetaPrior, HalfLife, PositionRates};

/// Impressions that the prior of a click-through rate weighs as much as.
pub const PRIOR_IMPRESSIONS: f64 = 10.0;

/// The moment, what all items did until then, and what the upstream system says of the user. One for
/// all candidates of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Context {
    /// The time that features are computed for, ms since 1970.
    pub now_ms: i64,
    /// Click-through rate of all items, by half-life.
    pub priors: Priors,
    /// Click-through rate of each position.
    pub position_rates: PositionRates,
    /// The user's own fields, as the topic `users` has them; empty where it has none.
    pub user_fields: Arc<BTreeMap<String, String>>,
}

/// What is believed of an item before anything is known of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Priors {
    /// With a half-life of an hour.
    pub hour: BetaPrior,
    /// Of a day.
    pub day: BetaPrior,
    /// Of a week.
    pub week: BetaPrior,
}

impl Context {
    /// From the totals of all partitions: [`millrace_schemas::ItemStats::totals_id`]'s counters.
    #[must_use]
    pub fn of_totals<'a, T>(totals: T, now_ms: i64) -> Self
    where
        T: IntoIterator<Item = &'a ItemCounters> + Clone,
    {
        let prior =
            |half_life| BetaPrior::of_totals(totals.clone(), half_life, now_ms, PRIOR_IMPRESSIONS);
        Self {
            now_ms,
            priors: Priors {
                hour: prior(HalfLife::Hour),
                day: prior(HalfLife::Day),
                week: prior(HalfLife::Week),
            },
            position_rates: PositionRates::of_totals(totals, now_ms),
            user_fields: Arc::default(),
        }
    }
}

impl Priors {
    /// The prior for counts with this half-life.
    #[must_use]
    pub fn of(&self, half_life: HalfLife) -> BetaPrior {
        match half_life {
            HalfLife::Hour => self.hour,
            HalfLife::Day => self.day,
            HalfLife::Week => self.week,
        }
    }
}

/// What recall scored a candidate for this request; `None` where no source with such a score
/// brought it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scores {
    /// BM25.
    pub text: Option<f32>,
    /// Similarity of vectors.
    pub vector: Option<f32>,
    /// Both, weighted.
    pub hybrid: Option<f32>,
    /// Of its rank in the merged list.
    pub rank: Option<f32>,
}
