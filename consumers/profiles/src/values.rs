//! What the state holds of a partition of `feedback`, and how.

use std::collections::BTreeSet;

use millrace_features::Profile;
use millrace_schemas::Origin;
use millrace_state::{Position, Table};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One value: how far time has come.
pub(crate) const PROGRESS: Table = Table::new("progress");
/// Profiles by user.
pub(crate) const PROFILES: Table = Table::new("profiles");
/// Origins that were applied.
pub(crate) const SEEN: Table = Table::new("seen");
/// The origins that are forgotten; each hour is a part.
pub(crate) const FORGETTING: Table = Table::new("forgetting");

const SOURCE: &str = "feedback";
const HOUR_MS: i64 = 3_600_000;

/// An origin as a key: 4 bytes of its topic's SHA-256, partition, offset.
pub(crate) type OriginKey = [u8; 16];

/// What is written with every batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// The newest record's timestamp, ms since 1970.
    pub newest_ms: Option<i64>,
    /// Hours in which origins are to be forgotten.
    pub forget_hours: BTreeSet<i64>,
}

/// A value of the state that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("a value of the table {table} cannot be read")]
pub(crate) struct BrokenValue {
    table: Table,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

pub(crate) fn read<T: DeserializeOwned>(table: Table, value: &[u8]) -> Result<T, BrokenValue> {
    postcard::from_bytes(value).map_err(|source| BrokenValue {
        table,
        source: source.into(),
    })
}

pub(crate) fn read_profile(value: &[u8]) -> Result<Profile, BrokenValue> {
    Profile::from_bytes(value).map_err(|source| BrokenValue {
        table: PROFILES,
        source: source.into(),
    })
}

pub(crate) fn write<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value)
        .unwrap_or_else(|_| unreachable!("these types are encodable, and memory grows as needed"))
}

/// The next offset of `feedback`; `None` where nothing was read yet.
pub(crate) fn offset(position: &Position) -> Option<i64> {
    position.get(SOURCE)
}

pub(crate) fn position(offset: Option<i64>) -> Position {
    Position::default().with(SOURCE, offset)
}

pub(crate) fn hour(time_ms: i64) -> i64 {
    time_ms.div_euclid(HOUR_MS)
}

pub(crate) fn origin_key(origin: &Origin) -> OriginKey {
    let mut key = OriginKey::default();
    key[..4].copy_from_slice(&Sha256::digest(origin.topic.as_bytes())[..4]);
    key[4..8].copy_from_slice(&origin.partition.to_be_bytes());
    key[8..].copy_from_slice(&origin.offset.to_be_bytes());
    key
}
