//! The join of one partition together with its state: what a batch needs is read, what it changes
//! is written. Still without topics, so that tests can stop it between any two steps.

use std::time::Instant;

use millrace_state::{Change, ShardWriter, StateError, Table};
use millrace_stateful::WorkError;

use crate::batch::{Batch, Step};
use crate::config::JoinerConfig;
use crate::join::{Join, Writer};
use crate::tables::{FORGETTING, Offsets, PROGRESS, WAITING};

/// Lists of ids that one write forgets; each is of one batch.
const MAX_FORGOTTEN_CHUNKS: usize = 8;

/// The one join that writes a shard.
pub(crate) struct JoinWriter {
    shard: ShardWriter,
    join: Join,
    backlog: bool,
}

impl JoinWriter {
    /// Reads what is kept in memory. `topic` is the full name of `behavior.by-item`. Waits while the
    /// store does not answer.
    pub async fn open(
        shard: ShardWriter,
        topic: &str,
        config: &JoinerConfig,
        now: Instant,
    ) -> Result<Self, WorkError> {
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
    pub fn join(&self) -> &Join {
        &self.join
    }

    /// As [`JoinWriter::join`], to tell it of the clock and of the end.
    pub fn join_mut(&mut self) -> &mut Join {
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
    ) -> Result<Step, WorkError> {
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

    async fn load(&mut self, keys: Vec<(Table, Vec<u8>)>) -> Result<(), WorkError> {
        let values = self.shard.get(keys.clone()).await?;
        self.join.load(&keys, values)?;
        Ok(())
    }

    async fn forget(&mut self, hour: i64) -> Result<(), WorkError> {
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
