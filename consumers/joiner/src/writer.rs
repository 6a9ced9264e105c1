//! The join of one partition together with its state: what a batch needs is read, what it changes
//! is written. Still without topics, so that tests can stop it between any two steps.

use std::sync::Arc;
use std::time::Instant;

use millrace_state::{Change, Shard, ShardWriter, StateError, StateStore, Table};

use crate::batch::{Batch, Step};
use crate::config::JoinerConfig;
use crate::join::{Join, Writer};
use crate::tables::{FORGETTING, Offsets, PROGRESS, WAITING};
use crate::values::BrokenValue;

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

/// The one join that writes a shard.
pub(crate) struct JoinWriter {
    shard: ShardWriter,
    join: Join,
    backlog: bool,
}

impl JoinWriter {
    /// Claims the shard, and reads what is kept in memory. `topic` is the full name of
    /// `behavior.by-item`. Waits while the store does not answer.
    pub async fn claim(
        state: Arc<dyn StateStore>,
        shard: Shard,
        topic: &str,
        config: &JoinerConfig,
        now: Instant,
    ) -> Result<Self, WriterError> {
        let shard = ShardWriter::claim(state, shard).await?;
        let progress = shard.get(vec![(PROGRESS, Vec::new())]).await?;
        let progress = progress.into_iter().next().flatten();
        let waiting = shard.scan(WAITING, usize::MAX).await?;
        let writer = Writer {
            generation: shard.shard().generation,
            epoch: shard.epoch(),
            partition: shard.shard().partition,
            topic: topic.to_owned(),
        };
        let join = Join::open(config, writer, progress.as_deref(), &waiting, now)?;
        tracing::info!(
            partition = shard.shard().partition,
            epoch = shard.epoch(),
            position = %shard.position(),
            waiting = waiting.len(),
            "claimed"
        );
        Ok(Self {
            shard,
            join,
            backlog: false,
        })
    }

    /// Where the state stands.
    pub fn position(&self) -> Offsets {
        self.shard.position().into()
    }

    /// The join, as of the last batch.
    pub fn join(&mut self) -> &mut Join {
        &mut self.join
    }

    /// Whether more waits to be given up or forgotten than the last batch took.
    pub fn has_backlog(&self) -> bool {
        self.backlog
    }

    /// Joins a batch. What comes out is to be published and then given to [`JoinWriter::commit`];
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

    /// Writes changes and position in one step.
    pub async fn commit(&mut self, next: Offsets, changes: Vec<Change>) -> Result<(), StateError> {
        self.shard.commit(next.into(), changes).await
    }

    async fn load(&mut self, keys: Vec<(Table, Vec<u8>)>) -> Result<(), WriterError> {
        let values = self.shard.get(keys.clone()).await?;
        self.join.load(&keys, values)?;
        Ok(())
    }

    async fn forget(&mut self, hour: i64) -> Result<(), WriterError> {
        let table = FORGETTING.part(hour);
        let mut chunks = self.shard.scan(table, MAX_FORGOTTEN_CHUNKS + 1).await?;
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
