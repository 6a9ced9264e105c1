//! What the state holds of a partition's join, and how.

use std::collections::BTreeSet;

use millrace_schemas::ItemCounters;
use millrace_stateful::{BrokenValue, read};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::tables::{COUNTERS, PROGRESS};

/// Ids of events are kept as the first half of their SHA-256: they may be long, and are many.
pub(crate) type SeenKey = [u8; 16];

/// What is known of an event id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub outcome: SeenOutcome,
    pub forget_hour: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SeenOutcome {
    Waiting,
    Joined,
    Unmatched,
}

/// What is written with every batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub watermark_ms: Option<i64>,
    /// Hours of event time in which ids are to be forgotten.
    pub forget_hours: BTreeSet<i64>,
    /// Of all items of the partition.
    pub totals: ItemCounters,
}

/// The counters of an item, as the state holds them.
pub(crate) fn read_counters(value: &[u8]) -> Result<ItemCounters, BrokenValue> {
    read(COUNTERS, value)
}

/// The counters of all items of a partition, as its progress holds them.
pub(crate) fn read_totals(value: &[u8]) -> Result<ItemCounters, BrokenValue> {
    read::<Progress>(PROGRESS, value).map(|progress| progress.totals)
}

pub(crate) fn seen_key(event_id: &str) -> SeenKey {
    let digest = Sha256::digest(event_id.as_bytes());
    let mut key = SeenKey::default();
    key.copy_from_slice(&digest[..16]);
    key
}
