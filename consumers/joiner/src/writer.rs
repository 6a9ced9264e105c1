//! The join of one partition together with its state: what a batch needs is read, what it changes
//! is written. Still without topics, so that tests can stop it between any two steps.

use std::time::Instant;

use millrace_state::{Change, ShardWriter, StateError, Table};
use millrace_stateful::WorkError;

use crate::batch::{Batch, Step};
use crate::config::JoinerConfig;
use crate::join::{Join, Writer};
use crate::replay::Replay;
use crate::tables::{COUNTERS, FORGETTING, Offsets, PROGRESS, WAITING};
use crate::values::seen_key;

/// Lists of ids that one write forgets; each is of one batch.
const MAX_FORGOTTEN_CHUNKS: usize = 8;

/// The one join that writes a shard.
pub(crate) struct JoinWriter {
    shard: ShardWriter,
    join: Join,
    backlog: bool,
    replay: Option<Replay>,
}

impl JoinWriter {
    /// Reads what is kept in memory. `topic` is the full name of `behavior.by-item`; `replays` is the
    /// generation that this one is to replace. Waits while the store does not answer.
    pub async fn open(
        shard: ShardWriter,
        topic: &str,
        config: &JoinerConfig,
        replays: Option<u32>,
        now: Instant,
    ) -> Result<Self, WorkError> {
        let replay = Replay::open(&shard, replays).await?;
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
            replay,
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

    /// Whether it takes over what the generation before has decided.
    pub fn is_replaying(&self) -> bool {
        self.replay.is_some()
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
        let mark = match self.replay.take() {
            Some(replay) => self.replay(replay, batch, now).await?,
            None => {
                self.join.apply(batch, now);
                None
            }
        };
        let keys = self.join.wanted_to_expire();
        self.load(keys).await?;
        self.backlog = self.join.expire();
        if let Some(hour) = self.join.hour_to_forget() {
            self.forget(hour).await?;
        }
        let mut step = self.join.finish(next, totals && self.replay.is_none());
        step.changes.extend(mark);
        Ok(step)
    }

    /// Writes changes and position in one step.
    pub async fn commit(&mut self, next: Offsets, changes: Vec<Change>) -> Result<(), StateError> {
        self.shard.commit(next.into(), changes).await
    }

    /// Applies a batch of a generation that is built: what the one before has decided as it did, what
    /// it will not decide any more as any other. What to write of how far that has come.
    async fn replay(
        &mut self,
        replay: Replay,
        mut batch: Batch,
        now: Instant,
    ) -> Result<Option<Change>, WorkError> {
        let next = batch.next;
        let (decided, is_final) = replay.decided(next.behavior).await?;
        let is_past = |offset: i64| decided.is_some_and(|decided| offset < decided);
        let first = batch
            .behavior
            .partition_point(|input| is_past(input.offset));
        let present = batch.behavior.split_off(first);
        let ids = batch.behavior.iter();
        let ids = ids.map(|input| seen_key(&input.record.event.event_id));
        self.join.replay(replay.outcomes(ids.collect()).await?);
        self.join.apply(batch, now);
        if !is_final || next.behavior < decided {
            let moved = next != self.position();
            let mark = moved.then(|| replay.mark());
            self.replay = Some(replay);
            return Ok(mark);
        }
        let keys = self.join.wanted_to_settle();
        self.load(keys).await?;
        let outcomes = replay.outcomes(self.join.waiting_ids()).await?;
        self.join.settle(&outcomes);
        let counters = self.shard.scan(COUNTERS, usize::MAX).await?;
        self.join.publish_counters(counters, next)?;
        self.join.apply(
            Batch {
                behavior: present,
                next,
                ..Batch::default()
            },
            now,
        );
        Ok(Some(Replay::unmark()))
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
