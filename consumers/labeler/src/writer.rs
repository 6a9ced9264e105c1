//! The labels of one partition together with their state: what a batch needs is read, what it changes is
//! written. Still without topics, so that tests can stop it between any two steps.

use std::time::Instant;

use millrace_state::{Change, ShardWriter, StateError, Table};
use millrace_stateful::WorkError;

use crate::config::LabelerConfig;
use crate::labels::{Inputs, Labelled, Labels};
use crate::values::{CLOSING, FORGETTING, Offsets, PROGRESS, REQUESTS};

/// Requests that one write closes or forgets: a bound on what one batch makes of the past.
const MAX_ENDED: usize = 1_000;

/// The one writer of a partition's labels.
pub(crate) struct LabelWriter {
    shard: ShardWriter,
    labels: Labels,
    backlog: bool,
}

impl LabelWriter {
    /// Reads how far it has come. Waits while the store does not answer.
    pub async fn open(
        shard: ShardWriter,
        config: &LabelerConfig,
        now: Instant,
    ) -> Result<Self, WorkError> {
        let progress = shard.get(vec![(PROGRESS, Vec::new())]).await?;
        let progress = progress.into_iter().next().flatten();
        Ok(Self {
            shard,
            labels: Labels::open(config, progress.as_deref(), now)?,
            backlog: false,
        })
    }

    /// Where the state stands.
    pub fn position(&self) -> Offsets {
        self.shard.position().into()
    }

    /// The labels, as of the last batch.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// As [`LabelWriter::labels`], to tell them of the clock and of the end.
    pub fn labels_mut(&mut self) -> &mut Labels {
        &mut self.labels
    }

    /// Whether more windows have ended than the last batch took.
    pub fn has_backlog(&self) -> bool {
        self.backlog
    }

    /// Applies a batch. What comes out is to be published and then given to
    /// [`LabelWriter::commit`]; where that fails, this writer is to be thrown away.
    pub async fn step(&mut self, inputs: Inputs, now: Instant) -> Result<Labelled, WorkError> {
        self.load(Labels::wanted(&inputs)).await?;
        self.labels.apply(inputs, now);
        if let Some(minute) = self.labels.minute_to_close() {
            let (ended, all) = self.ended(CLOSING.part(minute)).await?;
            self.labels.close(minute, ended, all);
        }
        if let Some(hour) = self.labels.hour_to_forget() {
            let (ended, all) = self.ended(FORGETTING.part(hour)).await?;
            self.labels.forget(hour, ended, all);
        }
        self.backlog =
            self.labels.minute_to_close().is_some() || self.labels.hour_to_forget().is_some();
        Ok(self.labels.finish())
    }

    /// Writes changes and position in one step.
    pub async fn commit(&mut self, next: Offsets, changes: Vec<Change>) -> Result<(), StateError> {
        self.shard.commit(next.into(), changes).await
    }

    async fn load(&mut self, request_ids: Vec<String>) -> Result<(), WorkError> {
        let unknown = request_ids.into_iter();
        let unknown: Vec<_> = unknown.filter(|id| !self.labels.knows(id)).collect();
        let key = |id: &String| (REQUESTS, id.clone().into_bytes());
        let values = self.shard.get(unknown.iter().map(key).collect()).await?;
        self.labels.load(unknown, values)?;
        Ok(())
    }

    /// Requests that a table lists, those of this batch too, loaded; and whether they are all of them.
    async fn ended(&mut self, table: Table) -> Result<(Vec<String>, bool), WorkError> {
        let now = self.labels.put_now(&table);
        let entries = self.shard.scan(table, MAX_ENDED + 1).await?;
        let all = entries.len() <= MAX_ENDED;
        let ids = entries.into_iter().take(MAX_ENDED);
        let ids = ids.map(|(key, _)| String::from_utf8_lossy(&key).into_owned());
        let mut ids: Vec<String> = ids.collect();
        self.load(ids.clone()).await?;
        ids.extend(now);
        Ok((ids, all))
    }
}
