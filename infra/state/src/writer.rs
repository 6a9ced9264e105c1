//! The port as a consumer uses it: the one writer of a shard, which waits for its store.

use std::sync::Arc;

use bytes::Bytes;
use millrace_retry::while_unavailable;

use crate::{Change, Claim, Position, Shard, StateError, StateStore, Table};

/// The one writer of a shard. Waits while the store does not answer, however long; whoever must
/// stop drops the future. After a refused write it is to be thrown away, and the shard claimed again.
pub struct ShardWriter {
    store: Arc<dyn StateStore>,
    shard: Shard,
    claim: Claim,
}

impl ShardWriter {
    /// Claims the shard.
    ///
    /// # Errors
    /// What waiting does not mend, [`StateError::Superseded`] among it.
    pub async fn claim(store: Arc<dyn StateStore>, shard: Shard) -> Result<Self, StateError> {
        let claim = || store.claim(shard);
        let claim =
            while_unavailable("claiming the state", StateError::is_retryable, claim).await?;
        Ok(Self {
            store,
            shard,
            claim,
        })
    }

    /// Where it writes.
    #[must_use]
    pub fn store(&self) -> Arc<dyn StateStore> {
        Arc::clone(&self.store)
    }

    /// What it writes.
    #[must_use]
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// Greater than that of every writer before.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.claim.epoch
    }

    /// Where the state stands.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.claim.position
    }

    /// As [`StateStore::get`].
    ///
    /// # Errors
    /// What waiting does not mend.
    pub async fn get(&self, keys: Vec<(Table, Vec<u8>)>) -> Result<Vec<Option<Bytes>>, StateError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let get = || self.store.get(self.shard, keys.clone());
        while_unavailable("reading the state", StateError::is_retryable, get).await
    }

    /// As [`StateStore::scan`].
    ///
    /// # Errors
    /// What waiting does not mend.
    pub async fn scan(
        &self,
        table: Table,
        enough: usize,
    ) -> Result<Vec<(Vec<u8>, Bytes)>, StateError> {
        let scan = || self.store.scan(self.shard, table, enough);
        while_unavailable("reading the state", StateError::is_retryable, scan).await
    }

    /// Writes changes and position in one step.
    ///
    /// # Errors
    /// As [`StateStore::commit`]. Where an answer is lost, the second attempt finds the first one's
    /// position and is refused: the next claim begins from there.
    pub async fn commit(&mut self, next: Position, changes: Vec<Change>) -> Result<(), StateError> {
        let (store, claim) = (&self.store, &self.claim);
        let commit = || store.commit(self.shard, claim, &next, changes.clone());
        while_unavailable("writing the state", StateError::is_retryable, commit).await?;
        self.claim.position = next;
        Ok(())
    }
}
