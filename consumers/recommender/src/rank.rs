//! Candidates to a list: features, scores, variety, exploration.
//!
//! Features are computed by the one function of `millrace-features`, from items and counters that
//! were taken from the catalog in one moment; the same rows are logged with the impression.

use millrace_features::{Context, FeatureSet, Item, Profile, Scores, compute};
use millrace_ranker::diversity::mmr;
use millrace_ranker::exploration::ColdItem;
use millrace_ranker::{Exploration, Ranker};

use crate::config::{ExplorationConfig, PipelineConfig};
use crate::merge::Candidate;

/// Candidates among which variety is looked for, for each place, and at least.
const VARIED_PER_PLACE: usize = 3;
const VARIED_AT_LEAST: usize = 60;

/// What recall scored a candidate.
pub(crate) type ScoresOf<'a> = dyn Fn(&Candidate) -> Scores + Sync + 'a;

/// A candidate with its row and score.
#[derive(Clone, Debug)]
pub(crate) struct Scored {
    pub candidate: Candidate,
    pub features: Vec<f32>,
    /// What the ranker gave it; its merged score where ranking failed.
    pub score: f64,
    /// By score alone, from 1.
    pub ranker_position: u32,
}

/// An item of the list.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub scored: Scored,
    pub explored: bool,
    pub propensity: f64,
}

/// Feature rows of candidates, one after the other.
pub(crate) fn rows(
    features: &FeatureSet,
    profile: &Profile,
    candidates: &[Candidate],
    scores: &ScoresOf<'_>,
    context: &Context,
) -> Vec<f32> {
    let mut rows = Vec::with_capacity(candidates.len() * features.len());
    for candidate in candidates {
        let item = Item::of_signal(&candidate.item.signal, &candidate.item.counters);
        compute(
            features,
            profile,
            &item,
            &scores(candidate),
            context,
            &mut rows,
        );
    }
    rows
}

/// Candidates by what the ranker gives them, ties as they came; and why they are not, where it can't.
pub(crate) fn score(
    ranker: &Ranker,
    candidates: Vec<Candidate>,
    rows: &[f32],
    width: usize,
) -> (Vec<Scored>, Option<String>) {
    let (scores, problem) = match ranker.score(rows) {
        Ok(scores) if scores.iter().all(|score| score.is_finite()) => (scores, None),
        Ok(_) => (Vec::new(), Some("a score is no finite number".to_owned())),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let row = |n: usize| rows.get(n * width..(n + 1) * width).unwrap_or_default();
    let mut scored: Vec<Scored> = candidates
        .into_iter()
        .enumerate()
        .map(|(n, candidate)| Scored {
            score: scores.get(n).copied().unwrap_or(candidate.merge_score),
            features: row(n).to_vec(),
            ranker_position: 0,
            candidate,
        })
        .collect();
    scored.sort_by(|a, b| b.score.total_cmp(&a.score));
    for (position, scored) in (1..).zip(&mut scored) {
        scored.ranker_position = position;
    }
    (scored, problem)
}

/// The `count` best that are not too much alike, and in a tenth of the places a cold item.
pub(crate) fn arrange(
    request_id: &str,
    scored: Vec<Scored>,
    count: usize,
    pipeline: &PipelineConfig,
    exploration: &ExplorationConfig,
) -> Vec<Placed> {
    let explored = if pipeline.explore {
        explore(request_id, &scored, count, exploration)
    } else {
        Vec::new()
    };
    // Explored items take places; enough others are chosen for all that are left, and for a place
    // that a short list does not have.
    let order = vary(&scored, pipeline.diversity_lambda, count + explored.len());
    let mut places: Vec<Option<Placed>> = Vec::new();
    let mut items: Vec<Option<Scored>> = scored.into_iter().map(Some).collect();
    let mut take = |n: usize, explored: bool, propensity: f64| {
        let scored = items.get_mut(n).and_then(Option::take)?;
        Some(Placed {
            scored,
            explored,
            propensity,
        })
    };
    let listed = order.len().min(count);
    places.resize_with(listed, || None);
    for &(n, place, propensity) in &explored {
        if let Some(place) = places.get_mut(place) {
            *place = take(n, true, propensity);
        }
    }
    let mut rest = order.into_iter();
    for place in &mut places {
        while place.is_none() {
            let Some(next) = rest.next() else {
                break;
            };
            *place = take(next, false, 1.0);
        }
    }
    places.into_iter().flatten().collect()
}

/// Positions of candidates by relevance and variety, `count` of them.
fn vary(scored: &[Scored], lambda: f64, count: usize) -> Vec<usize> {
    let considered = scored
        .len()
        .min((VARIED_PER_PLACE * count).max(VARIED_AT_LEAST));
    let scores: Vec<f64> = scored[..considered].iter().map(|s| s.score).collect();
    let vectors: Vec<&[f32]> = scored[..considered]
        .iter()
        .map(|s| s.candidate.item.signal.vector.as_slice())
        .collect();
    mmr(&scores, &vectors, lambda, count).unwrap_or_else(|error| {
        // The order by score is a list too.
        tracing::warn!(%error, "a list can't be varied");
        (0..considered.min(count)).collect()
    })
}

/// Cold items with their places and propensities.
fn explore(
    request_id: &str,
    scored: &[Scored],
    count: usize,
    config: &ExplorationConfig,
) -> Vec<(usize, usize, f64)> {
    let is_cold = |s: &Scored| s.candidate.item.shown < config.cold_impressions;
    let mut cold: Vec<usize> = (0..scored.len()).filter(|&n| is_cold(&scored[n])).collect();
    // The best of them by recall: their scores say little of items that nobody has seen.
    let merged = |n: &usize| scored[*n].candidate.merge_score;
    cold.sort_by(|a, b| {
        let id = |n: &usize| &scored[*n].candidate.item.signal.item_id;
        merged(b)
            .total_cmp(&merged(a))
            .then_with(|| id(a).cmp(id(b)))
    });
    cold.truncate(config.cold_items);
    let items: Vec<ColdItem> = cold
        .iter()
        .map(|&n| {
            let item = &scored[n].candidate.item;
            ColdItem {
                impressions: item.shown,
                // A click without an impression was shown somewhere.
                clicks: item.clicked.min(item.shown),
            }
        })
        .collect();
    let exploration = Exploration {
        prior_clicks: config.prior_clicks,
        prior_impressions: config.prior_impressions,
        draws: config.draws,
        floor: config.floor,
    };
    let places = count.min(scored.len());
    match exploration.choose(request_id, &items, places) {
        Ok(chosen) => chosen
            .into_iter()
            .map(|explored| (cold[explored.item], explored.place, explored.propensity))
            .collect(),
        Err(error) => {
            tracing::warn!(%error, "nothing can be explored");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::catalog::KnownItem;
    use crate::samples::{random_unit, signal};

    fn scored(n: usize, shown: u64) -> Scored {
        let mut signal = signal(&format!("i{n:03}"), 1);
        signal.vector = random_unit(n as u64, 16);
        Scored {
            candidate: Candidate {
                item: KnownItem {
                    signal: Arc::new(signal),
                    traceparent: None,
                    counters: Arc::default(),
                    shown,
                    clicked: 0,
                },
                sources: Vec::new(),
                merge_score: 1.0 / (n + 1) as f64,
            },
            features: Vec::new(),
            score: -(n as f64),
            ranker_position: 0,
        }
    }

    fn ids(placed: &[Placed]) -> Vec<&str> {
        placed
            .iter()
            .map(|p| p.scored.candidate.item.signal.item_id.as_str())
            .collect()
    }

    #[test]
    fn a_tenth_of_the_places_is_for_cold_items_and_the_rest_keeps_its_order() {
        let pipeline = PipelineConfig {
            diversity_lambda: 1.0,
            ..PipelineConfig::default()
        };
        let config = ExplorationConfig::default();
        // Those after the fortieth were never shown.
        let candidates: Vec<Scored> = (0..60)
            .map(|n| scored(n, if n < 40 { 100 } else { 0 }))
            .collect();
        let list = arrange("request", candidates.clone(), 20, &pipeline, &config);
        assert_eq!(list.len(), 20);
        for (place, placed) in list.iter().enumerate() {
            assert_eq!(placed.explored, place == 9 || place == 19);
            let cold = placed.scored.candidate.item.shown == 0;
            assert_eq!(cold, placed.explored);
            let likely = placed.propensity;
            assert!(if cold { likely < 0.5 } else { likely >= 1.0 });
        }
        let known: Vec<&str> = ids(&list).into_iter().filter(|id| *id < "i040").collect();
        assert!(known.is_sorted() && known.len() == 18);
        let again = arrange("request", candidates.clone(), 20, &pipeline, &config);
        assert_eq!(ids(&again), ids(&list));
        let off = PipelineConfig {
            explore: false,
            ..pipeline
        };
        let list = arrange("request", candidates, 20, &off, &config);
        assert!(list.iter().all(|placed| !placed.explored));
    }

    proptest! {
        #[test]
        fn a_list_holds_each_item_once_in_places_without_gaps(
            candidates in 0..60_usize, count in 1..70_usize, cold in 0..60_usize, lambda in 0.0..=1.0_f64, id in "[a-z]{4}"
        ) {
            let pipeline = PipelineConfig { diversity_lambda: lambda, ..PipelineConfig::default() };
            let all: Vec<Scored> = (0..candidates)
                .map(|n| scored(n, if n % 60 < cold { 0 } else { 1000 }))
                .collect();
            let list = arrange(&id, all, count, &pipeline, &ExplorationConfig::default());
            prop_assert_eq!(list.len(), count.min(candidates));
            let distinct: BTreeSet<&str> = ids(&list).into_iter().collect();
            prop_assert_eq!(distinct.len(), list.len());
            for placed in &list {
                prop_assert!(placed.propensity >= 0.01 && placed.propensity <= 1.0);
                prop_assert!(placed.explored || placed.propensity.to_bits() == 1.0_f64.to_bits());
            }
        }
    }
}
