//! What the labeler has done, for metrics and readiness.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

/// Counts since the start, and how its partitions stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LabelerStats {
    /// First records of answers.
    pub examples: u64,
    /// Records of answers that had one, with clicks that came late.
    pub corrections: u64,
    /// Answers whose request id had one before.
    pub repeated_answers: u64,
    /// What became of clicks.
    pub clicks: ClickStats,
    /// Records in a dead-letter topic.
    pub dead_lettered: u64,
    /// Writes that the state refused: another writer, or a store that went back.
    pub refused_writes: u64,
    /// Partitions of this process.
    pub partitions: BTreeMap<i32, PartitionStats>,
}

/// What became of clicks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClickStats {
    /// Counted on their answer.
    pub counted: u64,
    /// Counted before.
    pub duplicates: u64,
    /// After their answer's window.
    pub outside: u64,
    /// On an item that their answer does not have.
    pub not_shown: u64,
    /// Kept, since no answer of that name has come yet; each is counted once more when one comes or it is
    /// given up.
    pub waiting: u64,
    /// Given up: no answer of that name came, or none any more, or too many waited for it.
    pub unanswered: u64,
}

/// How a partition stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PartitionStats {
    /// ms since 1970; absent before the first answer.
    pub watermark_ms: Option<i64>,
    /// The next offset of `behavior.by-request`.
    pub clicks_offset: Option<i64>,
    /// The next offset of `impressions`.
    pub impressions_offset: Option<i64>,
    /// Whether all answers that were there at the start have been read.
    pub started: bool,
}

/// What one batch did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    pub examples: u64,
    pub corrections: u64,
    pub repeated_answers: u64,
    pub clicks: ClickStats,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    examples: AtomicU64,
    corrections: AtomicU64,
    repeated_answers: AtomicU64,
    counted: AtomicU64,
    duplicates: AtomicU64,
    outside: AtomicU64,
    not_shown: AtomicU64,
    waiting: AtomicU64,
    unanswered: AtomicU64,
}

impl Counters {
    pub fn add(&self, done: Done) {
        self.examples.fetch_add(done.examples, Relaxed);
        self.corrections.fetch_add(done.corrections, Relaxed);
        self.repeated_answers
            .fetch_add(done.repeated_answers, Relaxed);
        self.counted.fetch_add(done.clicks.counted, Relaxed);
        self.duplicates.fetch_add(done.clicks.duplicates, Relaxed);
        self.outside.fetch_add(done.clicks.outside, Relaxed);
        self.not_shown.fetch_add(done.clicks.not_shown, Relaxed);
        self.waiting.fetch_add(done.clicks.waiting, Relaxed);
        self.unanswered.fetch_add(done.clicks.unanswered, Relaxed);
    }

    /// What was counted, without what others know.
    pub fn get(&self) -> LabelerStats {
        LabelerStats {
            examples: self.examples.load(Relaxed),
            corrections: self.corrections.load(Relaxed),
            repeated_answers: self.repeated_answers.load(Relaxed),
            clicks: ClickStats {
                counted: self.counted.load(Relaxed),
                duplicates: self.duplicates.load(Relaxed),
                outside: self.outside.load(Relaxed),
                not_shown: self.not_shown.load(Relaxed),
                waiting: self.waiting.load(Relaxed),
                unanswered: self.unanswered.load(Relaxed),
            },
            ..LabelerStats::default()
        }
    }
}
