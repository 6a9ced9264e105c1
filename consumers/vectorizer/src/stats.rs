//! What the vectorizer has done, for metrics and progress.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use millrace_schemas::OutcomeKind;
use serde::Serialize;

use crate::failure::Stage;

/// Counts since the start, and what is in flight now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VectorizerStats {
    /// Notices whose document was written to the index.
    pub indexed: u64,
    /// Notices that led to tombstones.
    pub removed: u64,
    /// Notices older than what the index holds.
    pub stale: u64,
    /// Notices that a later one made moot before anything was read.
    pub superseded: u64,
    /// Notices in the dead-letter topic.
    pub dead_lettered: u64,
    /// Dead letters by the stage that failed.
    pub dead_letters_by_stage: BTreeMap<&'static str, u64>,
    /// Chunks written.
    pub chunks: u64,
    /// Tokens embedded.
    pub tokens: u64,
    /// Signals published, tombstones included.
    pub signals: u64,
    /// Documents between receipt and acknowledgement.
    pub in_flight_documents: i64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    indexed: AtomicU64,
    removed: AtomicU64,
    stale: AtomicU64,
    superseded: AtomicU64,
    dead_letters: [AtomicU64; Stage::ALL.len()],
    pub chunks: AtomicU64,
    pub tokens: AtomicU64,
    pub signals: AtomicU64,
    pub in_flight: AtomicI64,
}

impl Counters {
    pub fn finished(&self, outcome: OutcomeKind) {
        match outcome {
            OutcomeKind::Indexed => self.indexed.fetch_add(1, Relaxed),
            OutcomeKind::Removed => self.removed.fetch_add(1, Relaxed),
            OutcomeKind::Stale => self.stale.fetch_add(1, Relaxed),
            OutcomeKind::Superseded => self.superseded.fetch_add(1, Relaxed),
            // Counted by stage where the letter is written; the last is never produced here.
            OutcomeKind::DeadLettered | OutcomeKind::Unknown => 0,
        };
    }

    pub fn dead_lettered(&self, stage: Stage) {
        self.dead_letters[stage as usize].fetch_add(1, Relaxed);
    }

    pub fn snapshot(&self) -> VectorizerStats {
        let by_stage: BTreeMap<&'static str, u64> = Stage::ALL
            .into_iter()
            .map(|stage| {
                (
                    stage.as_str(),
                    self.dead_letters[stage as usize].load(Relaxed),
                )
            })
            .collect();
        VectorizerStats {
            indexed: self.indexed.load(Relaxed),
            removed: self.removed.load(Relaxed),
            stale: self.stale.load(Relaxed),
            superseded: self.superseded.load(Relaxed),
            dead_lettered: by_stage.values().sum(),
            dead_letters_by_stage: by_stage,
            chunks: self.chunks.load(Relaxed),
            tokens: self.tokens.load(Relaxed),
            signals: self.signals.load(Relaxed),
            in_flight_documents: self.in_flight.load(Relaxed),
        }
    }
}
