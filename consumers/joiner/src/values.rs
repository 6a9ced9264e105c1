//! What the state holds of a partition's join, and how.

use std::collections::BTreeSet;

use millrace_schemas::ItemCounters;
use millrace_state::Table;
use serde::de::DeserializeOwned;
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

/// A value of the state that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("a value of the table {table} cannot be read")]
pub(crate) struct BrokenValue {
    table: Table,
    #[source]
    source: postcard::Error,
}

pub(crate) fn read<T: DeserializeOwned>(table: Table, value: &[u8]) -> Result<T, BrokenValue> {
    postcard::from_bytes(value).map_err(|source| BrokenValue { table, source })
}

pub(crate) fn write<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value)
        .unwrap_or_else(|_| unreachable!("these types are encodable, and memory grows as needed"))
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
