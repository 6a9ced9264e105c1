//! What the joiner has done, for metrics and readiness.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

use crate::batch::Done;

/// Counts since the start, and how its partitions stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct JoinerStats {
    /// Behavior records written by item.
    pub rekeyed: u64,
    /// Events joined and counted.
    pub joined: u64,
    /// Events whose item had no signal in time.
    pub unmatched: u64,
    /// Events that had been seen before.
    pub duplicates: u64,
    /// Signals read.
    pub signals: u64,
    /// Signals that could not be read.
    pub unreadable_signals: u64,
    /// Records in a dead-letter topic.
    pub dead_lettered: u64,
    /// Writes that the state refused: another writer, or a store that went back.
    pub refused_writes: u64,
    /// Partitions of this process.
    pub partitions: BTreeMap<i32, PartitionStats>,
}

/// How a partition stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PartitionStats {
    /// Events that wait for their signal.
    pub waiting: u64,
    /// ms since 1970; absent before the first event.
    pub watermark_ms: Option<i64>,
    /// The next offset of `behavior.by-item`.
    pub behavior_offset: Option<i64>,
    /// The next offset of `signals`.
    pub signals_offset: Option<i64>,
    /// Whether all signals that were there at the start have been read.
    pub started: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub rekeyed: AtomicU64,
    pub joined: AtomicU64,
    pub unmatched: AtomicU64,
    pub duplicates: AtomicU64,
    pub signals: AtomicU64,
    pub unreadable_signals: AtomicU64,
}

impl Counters {
    pub fn add(&self, done: Done) {
        self.joined.fetch_add(done.joined, Relaxed);
        self.unmatched.fetch_add(done.unmatched, Relaxed);
        self.duplicates.fetch_add(done.duplicates, Relaxed);
        self.signals.fetch_add(done.signals, Relaxed);
    }
}
