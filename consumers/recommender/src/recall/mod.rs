//! Candidates for a user, from each source of a pipeline.
//!
//! | source | asks |
//! |---|---|
//! | `semantic_recall` | items nearest to the user's vector: the session's and the long-term one's middle |
//! | `text` | BM25 on what the user is interested in, in words |
//! | `hybrid` | both lists, fused as a hybrid search fuses them, with the request's weights |
//! | `item_to_item` | items nearest to one of those that the user acted on last, or that the request gives |
//! | `trending` | items by what was done with them, halved every day |
//! | `fresh` | items by when they came |
//!
//! Up to `catalog.scan_items` items, vectors are compared in memory: the items are there anyway, one
//! walk serves all three sources, and an item can be found before the index shows it. Beyond, the
//! index is asked. Hybrid recall fuses the two lists that text and vectors found, instead of asking
//! the index a third time: its formula is the same, and each request may have its own weights.
//!
//! A source that fails or takes too long gives nothing, and is named; the others stand.

mod vectors;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_features::Profile;
use millrace_index::{Fusion, SearchIndex, fuse};

use crate::admission::Admission;
use crate::answer::{DrawnWeights, FailedSource, Source};
use crate::catalog::Catalog;
use crate::config::SourceConfig;
pub(crate) use vectors::{Liked, own_vector};
use words::TextSearch;

/// Items that a list by time or by actions looks through for each that it wants.
const LOOKED_AT_PER_ITEM: usize = 20;

/// What is looked for.
pub(crate) struct Wanted<'a> {
    pub sources: &'a BTreeMap<Source, SourceConfig>,
    /// Absent for a user of whom nothing is known.
    pub profile: Option<&'a Profile>,
    /// What the request gives to find the likes of, where it does; then `item_to_item` has these for
    /// what the user acted on last.
    pub like: &'a [Liked],
    pub admission: &'a Admission<'a>,
    pub weights: DrawnWeights,
    /// The encoder whose vectors are compared.
    pub embedding_version: &'a str,
    /// Up to so many items vectors are compared in memory.
    pub scan_items: usize,
}

impl Wanted<'_> {
    fn limit(&self, sources: &[Source]) -> Option<SourceConfig> {
        let wanted = sources.iter().filter_map(|source| self.sources.get(source));
        wanted.copied().reduce(|one, other| SourceConfig {
            limit: one.limit.max(other.limit),
            timeout_ms: one.timeout_ms.max(other.timeout_ms),
        })
    }
}

/// An item's id and the source's score.
pub(crate) type Listed = (String, f32);

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Each source's items, the best first.
    pub lists: BTreeMap<Source, Vec<(String, f64)>>,
    /// BM25 by item.
    pub text: BTreeMap<String, f32>,
    /// Fused score by item.
    pub hybrid: BTreeMap<String, f32>,
    /// Sources that gave nothing, and why.
    pub failed: Vec<FailedSource>,
    /// Whether the index was the reason of one.
    pub index_failed: bool,
}

/// Why a source gave nothing.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub reason: String,
    pub index: bool,
}

/// Asks all sources that are wanted.
pub(crate) async fn recall(
    catalog: &Catalog,
    index: &Arc<dyn SearchIndex>,
    wanted: &Wanted<'_>,
) -> Found {
    let started = Instant::now();
    let mut found = Found::default();
    // Words first: the index works on them while vectors are compared here.
    let text = wanted
        .limit(&[Source::Text, Source::Hybrid])
        .zip(wanted.profile)
        .and_then(|(config, profile)| TextSearch::start(index, profile, wanted, config));
    let vectors = vectors::search(catalog, index, wanted, started).await;
    by_time_and_actions(catalog, wanted, &mut found);
    let text = match text {
        None => Ok(Vec::new()),
        Some(text) => text.finished().await,
    };

    let hybrid = hybrid(wanted, &text, &vectors.semantic);
    let texts = text.as_ref().map(Vec::as_slice).unwrap_or_default();
    found.text = texts.iter().cloned().collect();
    for (source, list) in [
        (Source::Text, text),
        (Source::SemanticRecall, vectors.semantic),
        (Source::ItemToItem, vectors.item_to_item),
        (Source::Hybrid, hybrid),
    ] {
        let Some(config) = wanted.sources.get(&source) else {
            continue;
        };
        match list {
            Ok(mut list) => {
                if source == Source::Hybrid {
                    found.hybrid = list.iter().cloned().collect();
                }
                list.truncate(config.limit);
                let list = list.into_iter().map(|(id, score)| (id, f64::from(score)));
                found.lists.insert(source, list.collect());
            }
            Err(failure) => {
                found.index_failed |= failure.index;
                found.failed.push(FailedSource {
                    source,
                    reason: failure.reason,
                });
            }
        }
    }
    found
}

/// The lists that need no profile.
fn by_time_and_actions(catalog: &Catalog, wanted: &Wanted<'_>, found: &mut Found) {
    let inner = catalog.read();
    let now_ms = wanted.admission.now_ms;
    for source in [Source::Trending, Source::Fresh] {
        let Some(config) = wanted.sources.get(&source) else {
            continue;
        };
        let admits = |id: &str| {
            let item = inner.table.get(id);
            item.is_some_and(|item| wanted.admission.admits(&item.signal))
        };
        let listed = |items: &mut dyn Iterator<Item = (&str, f64)>| {
            items
                .take(LOOKED_AT_PER_ITEM * config.limit)
                .filter(|(id, _)| admits(id))
                .take(config.limit)
                .map(|(id, score)| (id.to_owned(), score))
                .collect::<Vec<_>>()
        };
        let list = match source {
            Source::Trending => listed(&mut inner.table.trending(now_ms)),
            _ => listed(&mut inner.table.fresh()),
        };
        found.lists.insert(source, list);
    }
}

/// Both lists with the request's weights; where one failed, the other alone is no hybrid.
fn hybrid(
    wanted: &Wanted<'_>,
    text: &Result<Vec<Listed>, Failure>,
    vector: &Result<Vec<Listed>, Failure>,
) -> Result<Vec<Listed>, Failure> {
    if !wanted.sources.contains_key(&Source::Hybrid) {
        return Ok(Vec::new());
    }
    let text = text.as_ref().map_err(Clone::clone)?;
    let vector = vector.as_ref().map_err(Clone::clone)?;
    let text: Vec<(f32, &str)> = text.iter().map(|(id, score)| (*score, &**id)).collect();
    let vector: Vec<(f32, &str)> = vector.iter().map(|(id, score)| (*score, &**id)).collect();
    let fusion = Fusion::MinMax {
        bm25_weight: wanted.weights.bm25_weight,
        vector_weight: wanted.weights.vector_weight,
    };
    let fused = fuse(&text, &vector, fusion);
    Ok(fused
        .into_iter()
        .map(|(score, id)| (id.to_owned(), score))
        .collect())
}

/// What is left of a source's time.
fn left(started: Instant, config: SourceConfig) -> Duration {
    Duration::from_millis(config.timeout_ms).saturating_sub(started.elapsed())
}

fn out_of_time(config: SourceConfig) -> String {
    format!("took longer than {} ms", config.timeout_ms)
}
