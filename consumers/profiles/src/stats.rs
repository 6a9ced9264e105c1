//! What the consumer has done, for metrics and readiness.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

use crate::apply::Done;

/// Counts since the start, and how its partitions stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProfilesStats {
    /// Events applied to their user's profile.
    pub applied: u64,
    /// Feedback whose origin had been applied before.
    pub duplicates: u64,
    /// Records in the dead-letter topic.
    pub dead_lettered: u64,
    /// Writes that the state refused: another writer, or a store that went back.
    pub refused_writes: u64,
    /// Partitions of this process.
    pub partitions: BTreeMap<i32, PartitionStats>,
}

/// How a partition stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PartitionStats {
    /// The next offset of `feedback`; absent before the first record.
    pub offset: Option<i64>,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    applied: AtomicU64,
    duplicates: AtomicU64,
}

impl Counters {
    pub fn add(&self, done: Done) {
        self.applied.fetch_add(done.applied, Relaxed);
        self.duplicates.fetch_add(done.duplicates, Relaxed);
    }

    /// Applied, duplicates.
    pub fn get(&self) -> (u64, u64) {
        (self.applied.load(Relaxed), self.duplicates.load(Relaxed))
    }
}
