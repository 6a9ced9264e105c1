//! One partition of the join: what its records say, and what the join makes of them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use millrace_kafka::{DeadLetterReason, Record, topics};
use millrace_schemas::SchemaRegistry;
use millrace_state::{Change, Position, Shard, ShardWriter, StateError, StateStore};
use millrace_stateful::{Batch, PartitionWork, Refusals, Step, Work, WorkError, traceparent};

use crate::batch::{self, BehaviorInput, Done, Output};
use crate::config::JoinerConfig;
use crate::decode;
use crate::replay::Replay;
use crate::stats::Counters;
use crate::writer::JoinWriter;

/// How often totals are published.
const TOTALS_EVERY: Duration = Duration::from_secs(1);

/// The join of all partitions.
pub(crate) struct Joins {
    pub shared: Arc<Shared>,
    pub config: JoinerConfig,
}

/// What its partitions share.
pub(crate) struct Shared {
    pub registry: Option<Arc<dyn SchemaRegistry>>,
    pub refusals: Refusals,
    pub counters: Arc<Counters>,
    pub max_skew_ms: i64,
}

/// How a partition's join stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub waiting: u64,
    pub watermark_ms: Option<i64>,
}

#[async_trait]
impl Work for Joins {
    type Partition = Partition;

    const NAME: &'static str = "joiner";
    const TOPIC: &'static str = topics::BEHAVIOR_BY_ITEM;
    const BESIDE: Option<&'static str> = Some(topics::SIGNALS);

    async fn open(
        &self,
        shard: ShardWriter,
        topic: &str,
        replays: Option<u32>,
    ) -> Result<Partition, WorkError> {
        let now = Instant::now();
        let writer = JoinWriter::open(shard, topic, &self.config, replays, now).await?;
        Ok(Partition {
            shared: Arc::clone(&self.shared),
            // Those of the epoch before may not have been published.
            totals_due: writer.position().behavior.is_some(),
            writer,
            totals_published: None,
            done: Done::default(),
        })
    }

    async fn is_replaying(&self, store: &dyn StateStore, shard: Shard) -> Result<bool, StateError> {
        Replay::is_marked(store, shard).await
    }
}

pub(crate) struct Partition {
    shared: Arc<Shared>,
    writer: JoinWriter,
    totals_due: bool,
    totals_published: Option<Instant>,
    /// What the last batch did.
    done: Done,
}

#[async_trait]
impl PartitionWork for Partition {
    type Output = Output;
    type View = View;

    fn position(&self) -> Position {
        self.writer.position().into()
    }

    async fn apply(&mut self, batch: Batch<'_>) -> Result<Option<Step<Output>>, WorkError> {
        let now = batch.now;
        let batch = self.read(batch).await?;
        let next = batch.next;
        let totals = self.totals_due
            && self
                .totals_published
                .is_none_or(|published| now.duration_since(published) >= TOTALS_EVERY);
        let replayed = self.writer.is_replaying();
        let step = self.writer.step(batch, totals, now).await?;
        if totals {
            self.totals_published = Some(now);
        }
        let due = !totals && (self.totals_due || step.done.joined > 0);
        // While a past is replayed nothing is published of it.
        self.totals_due = due || replayed;
        self.done = step.done;
        // A batch that moved nothing has nothing to say but the clock's watermark, which is as true
        // at the next one.
        let moved = next != self.writer.position() || step.changes.len() > 1;
        Ok((moved || !step.outputs.is_empty()).then_some(Step {
            outputs: step.outputs,
            changes: step.changes,
        }))
    }

    async fn commit(&mut self, next: Position, changes: Vec<Change>) -> Result<(), StateError> {
        self.writer.commit((&next).into(), changes).await
    }

    fn committed(&mut self) {
        self.shared.counters.add(std::mem::take(&mut self.done));
    }

    fn view(&self) -> View {
        let join = self.writer.join();
        View {
            waiting: join.waiting() as u64,
            watermark_ms: join.watermark_ms(),
        }
    }

    fn has_backlog(&self) -> bool {
        self.writer.has_backlog()
    }

    fn tick(&mut self, now: Instant) {
        self.writer.join_mut().tick(now);
    }

    fn end_of_input(&mut self) {
        self.writer.join_mut().end_of_input();
        self.totals_published = None;
    }
}

impl Partition {
    /// What the records say. What cannot be read goes to its dead-letter topic.
    async fn read(&self, records: Batch<'_>) -> Result<batch::Batch, WorkError> {
        let registry = self.shared.registry.as_deref();
        let mut batch = batch::Batch {
            next: (&records.next).into(),
            ..batch::Batch::default()
        };
        for record in &records.beside {
            match decode::signal(record, registry).await {
                Ok(signal) => batch.signals.push(signal),
                Err(reason) => self.shared.unreadable_signal(record, &reason),
            }
        }
        for record in records.records {
            match decode::behavior(record, registry, self.shared.max_skew_ms).await {
                Ok(by_item) => batch.behavior.push(BehaviorInput {
                    offset: record.offset,
                    record: by_item,
                    traceparent: traceparent(record),
                }),
                Err(reason) => self.shared.refusals.refuse(record, &reason).await?,
            }
        }
        Ok(batch)
    }
}

impl Shared {
    /// A signal that cannot be read has no dead-letter topic: the pipeline itself wrote it, and the
    /// item's next signal replaces it.
    fn unreadable_signal(&self, record: &Record, reason: &DeadLetterReason) {
        self.counters.unreadable_signals.fetch_add(1, Relaxed);
        tracing::error!(
            origin = %record.origin(),
            error_type = reason.error_type,
            message = reason.message,
            "a signal cannot be read and is left out"
        );
    }
}
