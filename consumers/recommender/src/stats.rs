//! What the recommender has done, for metrics and readiness.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::answer::{Answer, Source};
use crate::catalog::CatalogStats;
use crate::impressions::ImpressionStats;

/// Counts since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RecommenderStats {
    /// Answers to requests for recommendations.
    pub recommended: u64,
    /// Answers to requests for a better order.
    pub reranked: u64,
    /// Requests that had no answer, because something was wrong with them.
    pub refused: u64,
    /// Answers by the reason why they are not what the scene wants.
    pub fallbacks: BTreeMap<String, u64>,
    /// Failures and time-outs by source.
    pub failed_sources: BTreeMap<String, u64>,
    /// Items that were explored.
    pub explored: u64,
    /// The items in memory.
    pub catalog: CatalogStats,
    /// The topic `impressions`.
    pub impressions: ImpressionStats,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub recommended: AtomicU64,
    pub reranked: AtomicU64,
    pub refused: AtomicU64,
    explored: AtomicU64,
    fallbacks: Mutex<BTreeMap<&'static str, u64>>,
    failed_sources: Mutex<BTreeMap<Source, u64>>,
}

impl Counters {
    /// Counts what an answer says of itself.
    pub fn answered(&self, answer: &Answer) {
        let explored = answer.items.iter().filter(|item| item.exploration).count();
        self.explored.fetch_add(explored as u64, Relaxed);
        if let Some(fallback) = &answer.fallback {
            let mut fallbacks = self
                .fallbacks
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *fallbacks.entry(fallback.reason.as_str()).or_default() += 1;
        }
        if !answer.failed_sources.is_empty() {
            let failed = self.failed_sources.lock();
            let mut failed = failed.unwrap_or_else(PoisonError::into_inner);
            for source in &answer.failed_sources {
                *failed.entry(source.source).or_default() += 1;
            }
        }
    }

    pub fn snapshot(
        &self,
        catalog: CatalogStats,
        impressions: ImpressionStats,
    ) -> RecommenderStats {
        let fallbacks = self
            .fallbacks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let failed = self.failed_sources.lock();
        let failed = failed.unwrap_or_else(PoisonError::into_inner);
        let named = fallbacks
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count));
        let sources = failed
            .iter()
            .map(|(source, count)| (source.as_str().to_owned(), *count));
        RecommenderStats {
            recommended: self.recommended.load(Relaxed),
            reranked: self.reranked.load(Relaxed),
            refused: self.refused.load(Relaxed),
            explored: self.explored.load(Relaxed),
            fallbacks: named.collect(),
            failed_sources: sources.collect(),
            catalog,
            impressions,
        }
    }
}
