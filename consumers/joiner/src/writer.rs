//! The join of one partition together with its state: what a batch needs is read, what it changes
//! is written. Still without topics, so that tests can stop it between any two steps.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::batch::{Batch, Step};
use crate::config::JoinerConfig;
use crate::join::{Join, Writer};
use crate::state::{Change, Claim, Position, Shard, StateError, StateStore, Table};
use crate::values::BrokenValue;
use millrace_retry::while_unavailable;

/// Lists of ids that one write forgets; each is of one batch.
const MAX_FORGOTTEN_CHUNKS: usize = 8;

/// The state cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriterError {
    /// The store refuses or does not answer.
    #[error(transparent)]
    State(#[from] StateError),
    /// A value is not what this version writes.
    #[error("the state cannot be read; remove it, and it is rebuilt from the topics")]
    Broken(#[from] BrokenValue),
}

/// The one writer of a shard.
pub(crate) struct ShardWriter {
    state: Arc<dyn StateStore>,
    shard: Shard,
    claim: Claim,
    join: Join,
    backlog: bool,
}

impl ShardWriter {
    /// Claims the shard, and reads what is kept in memory. `topic` is the full name of
    /// `behavior.by-item`. Waits while the store does not answer.
    pub async fn claim(
        state: Arc<dyn StateStore>,
        shard: Shard,
        topic: &str,
        config: &JoinerConfig,
        now: Instant,
    ) -> Result<Self, WriterError> {
        let claim = || state.claim(shard);
        let claim =
            while_unavailable("claiming the state", StateError::is_retryable, claim).await?;
        let progress = get(&*state, shard, vec![(Table::Progress, Vec::new())]).await?;
        let progress = progress.into_iter().next().flatten();
        let waiting = scan(&*state, shard, Table::Waiting, usize::MAX).await?;
        let writer = Writer {
            generation: shard.generation,
            epoch: claim.epoch,
            partition: shard.partition,
            topic: topic.to_owned(),
        };
        let join = Join::open(config, writer, progress.as_deref(), &waiting, now)?;
        tracing::info!(
            partition = shard.partition,
            epoch = claim.epoch,
            behavior = claim.position.behavior,
            signals = claim.position.signals,
            waiting = waiting.len(),
            "claimed"
        );
        Ok(Self {
            state,
            shard,
            claim,
            join,
            backlog: false,
        })
    }

    /// Where the state stands.
    pub fn position(&self) -> Position {
        self.claim.position
    }

    /// The join, as of the last batch.
    pub fn join(&mut self) -> &mut Join {
        &mut self.join
    }

    /// Whether more waits to be given up or forgotten than the last batch took.
    pub fn has_backlog(&self) -> bool {
        self.backlog
    }

    /// Joins a batch. What comes out is to be published and then given to [`ShardWriter::commit`];
    /// where that fails, this writer is to be thrown away.
    pub async fn step(
        &mut self,
        batch: Batch,
        totals: bool,
        now: Instant,
    ) -> Result<Step, WriterError> {
        let next = batch.next;
        let keys = self.join.wanted(&batch);
        self.load(keys).await?;
        self.join.apply(batch, now);
        let keys = self.join.wanted_to_expire();
        self.load(keys).await?;
        self.backlog = self.join.expire();
        if let Some(hour) = self.join.hour_to_forget() {
            self.forget(hour).await?;
        }
        Ok(self.join.finish(next, totals))
    }

    /// Writes changes and position in one step. Waits while the store does not answer.
    pub async fn commit(&mut self, next: Position, changes: Vec<Change>) -> Result<(), StateError> {
        let (state, shard, claim) = (&self.state, self.shard, self.claim);
        // Where an answer is lost, the second attempt finds the first one's position and is refused:
        // the claim begins again from there.
        let commit = || state.commit(shard, claim, next, changes.clone());
        while_unavailable("writing the state", StateError::is_retryable, commit).await?;
        self.claim.position = next;
        Ok(())
    }

    async fn load(&mut self, keys: Vec<(Table, Vec<u8>)>) -> Result<(), WriterError> {
        if !keys.is_empty() {
            let values = get(&*self.state, self.shard, keys.clone()).await?;
            self.join.load(&keys, values)?;
        }
        Ok(())
    }

    async fn forget(&mut self, hour: i64) -> Result<(), WriterError> {
        let table = Table::Forgetting(hour);
        let mut chunks = scan(&*self.state, self.shard, table, MAX_FORGOTTEN_CHUNKS + 1).await?;
        let all = chunks.len() <= MAX_FORGOTTEN_CHUNKS;
        chunks.truncate(MAX_FORGOTTEN_CHUNKS);
        let ids = chunks
            .iter()
            .flat_map(|(_, chunk)| Join::ids_to_forget(chunk));
        let ids: Vec<_> = ids.filter(|key| !self.join.knows(key)).collect();
        self.load(ids).await?;
        self.join.forget(hour, &chunks, all);
        self.backlog = true;
        Ok(())
    }
}

async fn get(
    state: &dyn StateStore,
    shard: Shard,
    keys: Vec<(Table, Vec<u8>)>,
) -> Result<Vec<Option<Bytes>>, StateError> {
    let get = || state.get(shard, keys.clone());
    while_unavailable("reading the state", StateError::is_retryable, get).await
}

async fn scan(
    state: &dyn StateStore,
    shard: Shard,
    table: Table,
    enough: usize,
) -> Result<Vec<(Vec<u8>, Bytes)>, StateError> {
    let scan = || state.scan(shard, table, enough);
    while_unavailable("reading the state", StateError::is_retryable, scan).await
}
