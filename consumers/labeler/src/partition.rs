//! One partition of clicks and answers: what their records say, and what becomes of them.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use millrace_kafka::topics;
use millrace_schemas::SchemaRegistry;
use millrace_state::{Change, Position, ShardWriter, StateError};
use millrace_stateful::{Batch, PartitionWork, Refusals, Step, Work, WorkError};

use crate::config::LabelerConfig;
use crate::decode;
use crate::labels::Inputs;
use crate::publish::Example;
use crate::stats::{Counters, Done};
use crate::writer::LabelWriter;

/// The labels of all partitions.
pub(crate) struct LabelsAll {
    pub shared: Arc<Shared>,
    pub config: LabelerConfig,
}

/// What its partitions share.
pub(crate) struct Shared {
    pub registry: Option<Arc<dyn SchemaRegistry>>,
    pub refusals: Refusals,
    pub counters: Counters,
    pub max_skew_ms: i64,
}

#[async_trait]
impl Work for LabelsAll {
    type Partition = Partition;

    const NAME: &'static str = "labeler";
    const TOPIC: &'static str = topics::BEHAVIOR_BY_REQUEST;
    const BESIDE: Option<&'static str> = Some(topics::IMPRESSIONS);

    async fn open(
        &self,
        shard: ShardWriter,
        _: &str,
        _: Option<u32>,
    ) -> Result<Partition, WorkError> {
        Ok(Partition {
            shared: Arc::clone(&self.shared),
            writer: LabelWriter::open(shard, &self.config, Instant::now()).await?,
            done: Done::default(),
        })
    }
}

pub(crate) struct Partition {
    shared: Arc<Shared>,
    writer: LabelWriter,
    /// What the last batch did.
    done: Done,
}

#[async_trait]
impl PartitionWork for Partition {
    type Output = Example;
    /// The watermark, ms since 1970.
    type View = Option<i64>;

    fn position(&self) -> Position {
        self.writer.position().into()
    }

    async fn apply(&mut self, batch: Batch<'_>) -> Result<Option<Step<Example>>, WorkError> {
        let moved = batch.next != self.position();
        let now = batch.now;
        let inputs = self.read(batch).await?;
        let labelled = self.writer.step(inputs, now).await?;
        self.done = labelled.done;
        // Without records it is the clock's watermark alone that has changed, unless a window ended.
        let ended = labelled.changes.len() > 1;
        Ok((moved || ended).then(|| Step {
            outputs: labelled.examples.into_iter().map(Example).collect(),
            changes: labelled.changes,
        }))
    }

    async fn commit(&mut self, next: Position, changes: Vec<Change>) -> Result<(), StateError> {
        self.writer.commit((&next).into(), changes).await
    }

    fn committed(&mut self) {
        self.shared.counters.add(std::mem::take(&mut self.done));
    }

    fn view(&self) -> Option<i64> {
        self.writer.labels().watermark_ms()
    }

    fn has_backlog(&self) -> bool {
        self.writer.has_backlog()
    }

    fn tick(&mut self, now: Instant) {
        self.writer.labels_mut().tick(now);
    }

    fn end_of_input(&mut self) {
        self.writer.labels_mut().end_of_input();
    }
}

impl Partition {
    /// What the records say. What cannot be read goes to its topic's dead letters.
    async fn read(&self, batch: Batch<'_>) -> Result<Inputs, WorkError> {
        let shared = &*self.shared;
        let (registry, skew) = (shared.registry.as_deref(), shared.max_skew_ms);
        let mut inputs = Inputs::default();
        for record in &batch.beside {
            match decode::answer(record, registry, skew).await {
                Ok(answer) => inputs.answers.push(answer),
                Err(reason) => shared.refusals.refuse(record, &reason).await?,
            }
        }
        for record in batch.records {
            match decode::click(record, registry, skew).await {
                Ok(click) => inputs.clicks.push(click),
                Err(reason) => shared.refusals.refuse(record, &reason).await?,
            }
        }
        Ok(inputs)
    }
}
