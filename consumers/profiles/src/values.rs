//! What the state holds of a partition of `feedback`, and how.

use std::collections::BTreeSet;

use millrace_features::Profile;
use millrace_kafka::topics;
use millrace_schemas::Origin;
use millrace_state::{Position, Table};
use millrace_stateful::BrokenValue;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One value: how far time has come.
pub(crate) const PROGRESS: Table = Table::new("progress");
/// Profiles by user.
pub(crate) const PROFILES: Table = Table::new("profiles");
/// Origins that were applied, [`CHUNK`] offsets of a partition in one value.
pub(crate) const SEEN: Table = Table::new("seen");
/// The chunks that may be forgotten; each hour is a part.
pub(crate) const FORGETTING: Table = Table::new("forgetting");

/// Offsets of a chunk. A partition of `feedback` has a share of each partition that behavior is
/// joined in, so a chunk of it is neither empty nor full, and a byte holds about one origin.
const CHUNK: i64 = 4_096;
const HOUR_MS: i64 = 3_600_000;

/// A chunk's key: 4 bytes of the topic's SHA-256, the partition, the chunk's number.
pub(crate) type ChunkKey = [u8; 16];

/// Which origins of a chunk were applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SeenChunk {
    /// The hour in which it is forgotten: a window after its last origin came.
    pub forget_hour: i64,
    /// A bit an offset, as far as the greatest one.
    bits: Vec<u8>,
}

impl SeenChunk {
    /// Remembers an origin of this chunk. `false` where it was known.
    pub fn insert(&mut self, origin: &Origin) -> bool {
        let at = usize::try_from(origin.offset.rem_euclid(CHUNK)).unwrap_or_default();
        let (byte, bit) = (at / 8, 1 << (at % 8));
        if self.bits.len() <= byte {
            self.bits.resize(byte + 1, 0);
        }
        let is_new = self.bits[byte] & bit == 0;
        self.bits[byte] |= bit;
        is_new
    }
}

/// What is written with every batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// The newest record's timestamp, ms since 1970.
    pub newest_ms: Option<i64>,
    /// Hours in which origins are to be forgotten.
    pub forget_hours: BTreeSet<i64>,
}

pub(crate) fn read_profile(value: &[u8]) -> Result<Profile, BrokenValue> {
    Profile::from_bytes(value).map_err(|source| BrokenValue {
        table: PROFILES,
        source: source.into(),
    })
}

/// The next offset of `feedback`; `None` where nothing was read yet.
pub(crate) fn offset(position: &Position) -> Option<i64> {
    position.get(topics::FEEDBACK)
}

pub(crate) fn position(offset: Option<i64>) -> Position {
    Position::default().with(topics::FEEDBACK, offset)
}

pub(crate) fn hour(time_ms: i64) -> i64 {
    time_ms.div_euclid(HOUR_MS)
}

/// The chunk of an origin.
pub(crate) fn chunk_key(origin: &Origin) -> ChunkKey {
    let mut key = ChunkKey::default();
    key[..4].copy_from_slice(&Sha256::digest(origin.topic.as_bytes())[..4]);
    key[4..8].copy_from_slice(&origin.partition.to_be_bytes());
    key[8..].copy_from_slice(&origin.offset.div_euclid(CHUNK).to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use millrace_stateful::{read, write};
    use proptest::prelude::*;

    use super::*;

    fn origin(partition: i32, offset: i64) -> Origin {
        Origin {
            topic: "behavior.by-item".to_owned(),
            partition,
            offset,
        }
    }

    proptest! {
        #[test]
        fn chunks_know_the_origins_that_were_put_in_and_no_others(
            origins in prop::collection::vec((0..2_i32, 0..3 * CHUNK), 0..200),
        ) {
            let (mut chunks, mut model) = (BTreeMap::new(), BTreeSet::new());
            for (partition, offset) in origins {
                let origin = origin(partition, offset);
                let chunk: &mut SeenChunk = chunks.entry(chunk_key(&origin)).or_default();
                prop_assert_eq!(chunk.insert(&origin), model.insert((partition, offset)));
                let stored: SeenChunk = read(SEEN, &write(&*chunk)).unwrap();
                prop_assert_eq!(&stored, &*chunk);
            }
        }
    }

    #[test]
    fn neighbours_share_a_chunk_and_topics_do_not() {
        let chunk = |offset| chunk_key(&origin(0, offset));
        assert_eq!(chunk(0), chunk(CHUNK - 1));
        assert_ne!(chunk(0), chunk(CHUNK));
        assert_ne!(chunk(0), chunk_key(&origin(1, 0)));
        let mut elsewhere = origin(0, 0);
        elsewhere.topic.push('2');
        assert_ne!(chunk(0), chunk_key(&elsewhere));
    }
}
