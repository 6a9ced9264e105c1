//! What the joiner has done, for metrics and readiness.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

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
    joined: AtomicU64,
    unmatched: AtomicU64,
    duplicates: AtomicU64,
    signals: AtomicU64,
    pub unreadable_signals: AtomicU64,
    pub dead_lettered: AtomicU64,
    pub refused_writes: AtomicU64,
    partitions: Mutex<BTreeMap<i32, PartitionStats>>,
}

impl Counters {
    pub fn add(&self, done: Done) {
        self.joined.fetch_add(done.joined, Relaxed);
        self.unmatched.fetch_add(done.unmatched, Relaxed);
        self.duplicates.fetch_add(done.duplicates, Relaxed);
        self.signals.fetch_add(done.signals, Relaxed);
    }

    /// `None` where the partition is no longer ours.
    pub fn partition(&self, partition: i32, stats: Option<PartitionStats>) {
        let mut partitions = self
            .partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match stats {
            Some(stats) => partitions.insert(partition, stats),
            None => partitions.remove(&partition),
        };
    }

    pub fn snapshot(&self) -> JoinerStats {
        let partitions = self
            .partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        JoinerStats {
            rekeyed: self.rekeyed.load(Relaxed),
            joined: self.joined.load(Relaxed),
            unmatched: self.unmatched.load(Relaxed),
            duplicates: self.duplicates.load(Relaxed),
            signals: self.signals.load(Relaxed),
            unreadable_signals: self.unreadable_signals.load(Relaxed),
            dead_lettered: self.dead_lettered.load(Relaxed),
            refused_writes: self.refused_writes.load(Relaxed),
            partitions: partitions.clone(),
        }
    }
}
