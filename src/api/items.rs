//! What is known of an item's behavior.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use millrace_features::rates::{
    BetaPrior, HalfLife, PositionRates, coec, decayed, smoothed_ctr, velocity,
};
use millrace_schemas::{Bucket, ItemCounters};
use serde::{Deserialize, Serialize};

use super::{ApiError, BehaviorState};

/// Impressions that the prior of a click-through rate weighs as much as.
const PRIOR_IMPRESSIONS: f64 = 10.0;

/// Counts of one item and what they mean now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ItemStatsAnswer {
    /// The document's id.
    pub item_id: String,
    /// Whether anything was counted of it.
    pub known: bool,
    /// Times shown, as far back as days are kept.
    pub impressions: i64,
    /// Times clicked.
    pub clicks: i64,
    /// Other kinds of behavior by name.
    pub others: BTreeMap<String, i64>,
    /// With half-lives of 1 hour, 24 hours and 7 days.
    pub decayed: BTreeMap<String, DecayedStats>,
    /// Clicks over those expected at its positions, 1 is average; none where no position is known.
    pub coec: Option<f64>,
    /// Rate of clicks in the last hour over that of the last day; none without a click.
    pub velocity: Option<f64>,
}

/// Counts that weigh less with age.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecayedStats {
    /// Times shown.
    pub impressions: f64,
    /// Times clicked.
    pub clicks: f64,
    /// Click-through rate, drawn towards that of all items while there is little evidence.
    pub ctr: f64,
}

/// `GET /v1/items/{id}/stats`.
pub async fn stats(
    State(state): State<BehaviorState>,
    Path(item_id): Path<String>,
) -> Result<Json<ItemStatsAnswer>, ApiError> {
    let Some(joiner) = &state.joiner else {
        return Err(ApiError::not_served_here(
            "this process joins no behavior; ask `millrace up` or `millrace run joiner`, which need \
             state.valkey.url in the cluster profile",
        ));
    };
    let counters = joiner.counters(&item_id).await;
    let counters = counters.map_err(|error| ApiError::unavailable(&error))?;
    let totals = joiner.totals().await;
    let totals = totals.map_err(|error| ApiError::unavailable(&error))?;
    Ok(Json(answer(
        item_id,
        counters,
        &totals,
        jiff::Timestamp::now().as_millisecond(),
    )))
}

fn answer(
    item_id: String,
    counters: Option<ItemCounters>,
    totals: &[ItemCounters],
    now_ms: i64,
) -> ItemStatsAnswer {
    let known = counters.is_some();
    let counters = counters.unwrap_or_default();
    let sum = |of: fn(&Bucket) -> i64| counters.days.iter().map(of).sum();
    let mut others = BTreeMap::new();
    for (kind, count) in counters.days.iter().flat_map(|day| &day.others) {
        *others.entry(kind.clone()).or_insert(0) += count;
    }
    let half_lives = [
        ("1h", HalfLife::Hour),
        ("24h", HalfLife::Day),
        ("7d", HalfLife::Week),
    ];
    let decayed = half_lives.map(|(name, half_life)| {
        let prior = BetaPrior::of_totals(totals, half_life, now_ms, PRIOR_IMPRESSIONS);
        let stats = DecayedStats {
            impressions: decayed(&counters, half_life, now_ms, |bucket| bucket.impressions),
            clicks: decayed(&counters, half_life, now_ms, |bucket| bucket.clicks),
            ctr: smoothed_ctr(&counters, half_life, now_ms, prior),
        };
        (name.to_owned(), stats)
    });
    ItemStatsAnswer {
        known,
        impressions: sum(|day| day.impressions),
        clicks: sum(|day| day.clicks),
        others,
        decayed: decayed.into(),
        coec: coec(&counters, &PositionRates::of_totals(totals, now_ms), now_ms),
        velocity: velocity(&counters, now_ms, |bucket| bucket.clicks),
        item_id,
    }
}
