//! The port: what every store must do. The conformance suite holds both adapters to it.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Position, Table};

/// The first generation of every store.
pub const FIRST_GENERATION: u32 = 1;
/// How long a reader may take a generation for the live one without asking again.
pub const LIVE_FOR: Duration = Duration::from_secs(1);

/// One partition's state in one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shard {
    /// The generation.
    pub generation: u32,
    /// The partition of its sources.
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

/// The right to write a shard, and where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Greater than that of every writer before; 0 where there was none.
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
        "the state of {shard} is in epoch {epoch} at {position}, which is not what the writer expects"
    )]
    Refused {
        /// The shard.
        shard: Shard,
        /// Its epoch.
        epoch: u64,
        /// Where it stands.
        position: Position,
    },
    /// The generation is not the live one any more.
    #[error("generation {generation} of the state is used no more: generation {live} is live")]
    Superseded {
        /// The generation that was meant.
        generation: u32,
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

/// The state of one consumer.
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

    /// Where a shard stands, without becoming its writer; the beginning where it has none.
    async fn position(&self, shard: Shard) -> Result<Position, StateError>;

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
        claim: &Claim,
        next: &Position,
        changes: Vec<Change>,
    ) -> Result<(), StateError>;

    /// Removes a generation that is not live.
    ///
    /// # Errors
    /// It is live, or the store does not answer.
    async fn drop_generation(&self, generation: u32) -> Result<(), StateError>;
}
