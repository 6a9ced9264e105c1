//! Where the joiner keeps what it knows: one port, two adapters.
//!
//! A *shard* is one partition's state in one generation. It has one writer at a time:
//!
//! - [`StateStore::claim`] makes the caller the shard's writer, in a new *epoch*, and says where the
//!   shard stands: the offsets from which both topics are to be read.
//! - [`StateStore::commit`] writes changes and new offsets in one atomic step, and only where the
//!   shard still is in the caller's epoch, at the offsets that the caller expects. A writer that was
//!   thought dead, one that reads a store which failed over to an older copy, and one whose write
//!   was done though its answer was lost are all refused: they claim the shard again and continue
//!   from what is there.
//!
//! A *generation* is a whole state. A replay never goes into the live one: it builds the next, and
//! [`StateStore::switch`] makes that live. Writers of an older generation than the live one are
//! refused.

mod embedded;
mod valkey;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use embedded::EmbeddedState;
pub use valkey::{ValkeyConfig, ValkeyState};

/// The first generation of every store.
pub const FIRST_GENERATION: u32 = 1;

/// What kind of value a key names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// One value: watermark and the like.
    Progress,
    /// Signals by item.
    Signals,
    /// Counters by item.
    Counters,
    /// Behavior that waits for its signal, by offset.
    Waiting,
    /// Events that were seen, by id.
    Seen,
    /// The ids that are forgotten in this hour of event time.
    Forgetting(i64),
}

impl Table {
    /// Names the table within a shard.
    fn name(self) -> String {
        match self {
            Self::Progress => "progress".to_owned(),
            Self::Signals => "signals".to_owned(),
            Self::Counters => "counters".to_owned(),
            Self::Waiting => "waiting".to_owned(),
            Self::Seen => "seen".to_owned(),
            Self::Forgetting(hour) => format!("forgetting:{hour}"),
        }
    }
}

/// One partition's state in one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shard {
    /// The generation.
    pub generation: u32,
    /// The partition of both topics.
    pub partition: i32,
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "generation {} partition {}",
            self.generation, self.partition
        )
    }
}

/// The next offset of each topic; `None` where nothing was read yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Of `behavior.by-item`.
    pub behavior: Option<i64>,
    /// Of `signals`.
    pub signals: Option<i64>,
}

/// The right to write a shard, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Greater than that of every writer before.
    pub epoch: u64,
    /// Where to read on.
    pub position: Position,
}

/// A value to write, or to remove where it is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its table.
    pub table: Table,
    /// Its key.
    pub key: Vec<u8>,
    /// Its new value.
    pub value: Option<Vec<u8>>,
}

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another writer has claimed the shard, or it stands elsewhere than expected. Nothing was
    /// written; whoever still owns the partition claims it again.
    #[error(
        "the state of {shard} is in epoch {epoch} at {position:?}, which is not what the writer expects"
    )]
    Refused {
        /// The shard.
        shard: Shard,
        /// Its epoch.
        epoch: u64,
        /// Where it stands.
        position: Position,
    },
    /// The generation is older than the live one.
    #[error("{shard} is written no more: generation {live} is live")]
    Superseded {
        /// The shard.
        shard: Shard,
        /// The live generation.
        live: u32,
    },
    /// The store does not answer. The same may succeed later; whether a commit was done is unknown.
    #[error("the state store does not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store's content or settings cannot be used.
    #[error("the state at {location} cannot be used: {reason}")]
    Unusable {
        /// Folder or address.
        location: String,
        /// What is wrong, and what to do.
        reason: String,
        /// What the store said.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl StateError {
    /// Whether waiting helps.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// The joiner's state.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// The generation that is read and written by default.
    async fn live_generation(&self) -> Result<u32, StateError>;

    /// Makes `next` live, where `live` still is.
    ///
    /// # Errors
    /// [`StateError::Superseded`] where another generation is live.
    async fn switch(&self, live: u32, next: u32) -> Result<(), StateError>;

    /// Makes the caller the writer of a shard.
    ///
    /// # Errors
    /// [`StateError::Superseded`] where its generation is older than the live one.
    async fn claim(&self, shard: Shard) -> Result<Claim, StateError>;

    /// The values of these keys, in their order.
    async fn get(
        &self,
        shard: Shard,
        keys: Vec<(Table, Vec<u8>)>,
    ) -> Result<Vec<Option<Bytes>>, StateError>;

    /// Entries of a table in no order: all of them, or at least `enough` where there are more.
    async fn scan(
        &self,
        shard: Shard,
        table: Table,
        enough: usize,
    ) -> Result<Vec<(Vec<u8>, Bytes)>, StateError>;

    /// Writes all of `changes` and the position `next`, or nothing.
    ///
    /// # Errors
    /// [`StateError::Refused`] where the shard is not in `claim`'s epoch and position;
    /// [`StateError::Superseded`] where its generation is older than the live one.
    async fn commit(
        &self,
        shard: Shard,
        claim: Claim,
        next: Position,
        changes: Vec<Change>,
    ) -> Result<(), StateError>;

    /// Removes a generation that is not live.
    ///
    /// # Errors
    /// It is live, or the store does not answer.
    async fn drop_generation(&self, generation: u32) -> Result<(), StateError>;
}
