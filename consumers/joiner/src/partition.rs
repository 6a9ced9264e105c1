//! One partition from its assignment to its end: claim, catch up with signals, join, write.
//!
//! A batch is what has come while the one before was being written, so a single click is written at
//! once and a flood in large steps. The order within a batch is what the promise rests on:
//!
//! 1. dead letters and outputs are acknowledged by the brokers;
//! 2. the state is written, changes and offsets in one step;
//! 3. the records are acknowledged, which moves the committed offset that shows the lag.
//!
//! A crash after 1 repeats outputs, with the origins they had; one after 2 repeats nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use millrace_kafka::{
    Admin, AdminError, AssignedConsumer, AssignedPartition, AssignedRecord, AssignedRecords,
    DeadLetterReason, DeadLetters, Delivery, ProduceError, Producer, Record,
};
use millrace_retry::while_unavailable;
use millrace_schemas::SchemaRegistry;
use millrace_state::{Shard, StateError, StateStore};
use tokio::sync::{mpsc, oneshot};

use crate::batch::{Batch, BehaviorInput};
use crate::config::JoinerConfig;
use crate::decode;
use crate::publish::publish;
use crate::stats::{Counters, PartitionStats};
use crate::tables::Offsets;
use crate::writer::{JoinWriter, WriterError};

/// How often the watermark of an idle partition goes on, and totals are published.
const TICK: Duration = Duration::from_secs(1);

/// What all partitions share.
pub(crate) struct Context {
    pub producer: Producer,
    pub dead_letters: DeadLetters,
    pub registry: Option<Arc<dyn SchemaRegistry>>,
    pub state: Arc<dyn StateStore>,
    pub signals: AssignedConsumer,
    pub admin: Admin,
    /// Full name of `signals`.
    pub signals_topic: String,
    pub generation: u32,
    pub config: JoinerConfig,
    pub counters: Arc<Counters>,
}

/// Asks a partition to take its input as ended.
pub(crate) struct EndOfInput {
    /// The topics' ends at that moment.
    pub behavior: i64,
    pub signals: i64,
    pub done: oneshot::Sender<()>,
}

/// Why a partition cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PartitionError {
    #[error(transparent)]
    State(#[from] WriterError),
    #[error(transparent)]
    Produce(#[from] ProduceError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(
        "{topic}/{partition} ends at offset {end}, but the state has read up to {position}: the topic was \
         made anew; remove the joiner's state, and it is rebuilt from the topics"
    )]
    TopicWentBack {
        topic: String,
        partition: i32,
        end: i64,
        position: i64,
    },
}

/// Works on `assigned` until it is revoked.
pub(crate) async fn run(
    context: Arc<Context>,
    assigned: AssignedPartition,
    requests: mpsc::Receiver<EndOfInput>,
) -> Result<(), PartitionError> {
    let number = assigned.partition();
    let Some(mut partition) = Partition::open(Arc::clone(&context), assigned).await? else {
        return Ok(());
    };
    let ended = partition.work(requests).await;
    context.counters.partition(number, None);
    match ended {
        Err(PartitionError::State(WriterError::State(StateError::Refused { .. }))) => {
            context.counters.refused_writes.fetch_add(1, Relaxed);
            tracing::warn!(
                partition = number,
                "the state stands elsewhere than this writer thought; claiming it again"
            );
            partition.assigned.begin_again();
            Ok(())
        }
        ended => ended,
    }
}

struct Partition {
    context: Arc<Context>,
    assigned: AssignedPartition,
    writer: JoinWriter,
    signals: AssignedRecords,
    started: bool,
    totals_due: bool,
    totals_published: Option<Instant>,
    ending: Vec<EndOfInput>,
}

impl Partition {
    /// Claims the state. `None` where the partition was lost meanwhile.
    async fn open(
        context: Arc<Context>,
        assigned: AssignedPartition,
    ) -> Result<Option<Self>, PartitionError> {
        let number = assigned.partition();
        let shard = Shard {
            generation: context.generation,
            partition: number,
        };
        let writer = JoinWriter::claim(
            Arc::clone(&context.state),
            shard,
            assigned.topic(),
            &context.config,
            Instant::now(),
        )
        .await?;
        let position = writer.position();
        context.check_offsets(&assigned, position).await?;
        if !assigned.is_current() {
            return Ok(None);
        }
        let signals = context.signals.assign(number, position.signals);
        let mut partition = Self {
            context,
            assigned,
            writer,
            signals,
            started: false,
            // Those of the epoch before may not have been published.
            totals_due: position.behavior.is_some(),
            totals_published: None,
            ending: Vec::new(),
        };
        partition.tell();
        Ok(Some(partition))
    }

    async fn work(
        &mut self,
        mut requests: mpsc::Receiver<EndOfInput>,
    ) -> Result<(), PartitionError> {
        let (max_records, max_bytes) = {
            let config = &self.context.config;
            (config.batch_records, config.batch_bytes)
        };
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut signals = Vec::new();
        loop {
            let mut deliveries = Vec::new();
            let backlog = self.writer.has_backlog();
            tokio::select! {
                read = self.signals.recv_many(&mut signals, max_records) => {
                    if read == 0 {
                        // Another assignment of the same partition reads them now.
                        return Ok(());
                    }
                }
                batch = self.assigned.recv_batch(max_records, max_bytes) => match batch {
                    Some(batch) => deliveries = batch,
                    None => return Ok(()),
                },
                Some(request) = requests.recv() => self.ending.push(request),
                _ = ticks.tick() => self.writer.join().tick(Instant::now()),
                () = std::future::ready(()), if backlog => {}
            }
            let caught_up = signals.contains(&AssignedRecord::End);
            self.write(&mut signals, deliveries).await?;
            if caught_up && !self.started {
                self.started = true;
                // Only now: a backlog of behavior would else outrun the grace of signals that are
                // there already.
                self.assigned.start_at(self.writer.position().behavior);
                self.tell();
            }
            self.end_input(caught_up).await?;
        }
    }

    /// Takes one batch from the topics to the state.
    async fn write(
        &mut self,
        signals: &mut Vec<AssignedRecord>,
        deliveries: Vec<Delivery>,
    ) -> Result<(), PartitionError> {
        let now = Instant::now();
        let batch = self.read(signals, &deliveries).await?;
        let next = batch.next;
        let totals = self.totals_due
            && self
                .totals_published
                .is_none_or(|published| now.duration_since(published) >= TICK);
        let step = self.writer.step(batch, totals, now).await?;
        if totals {
            self.totals_published = Some(now);
        }
        self.totals_due = !totals && (self.totals_due || step.done.joined > 0);
        publish(&self.context.producer, &step.outputs).await?;
        // A batch that moved nothing has nothing to say but the clock's watermark, which is as true
        // at the next one.
        let moved = next != self.writer.position() || step.changes.len() > 1;
        if moved || !step.outputs.is_empty() {
            self.writer
                .commit(next, step.changes)
                .await
                .map_err(WriterError::from)?;
        }
        self.context.counters.add(step.done);
        deliveries.into_iter().for_each(Delivery::ack);
        self.tell();
        Ok(())
    }

    /// What the records say. What cannot be read goes to its dead-letter topic.
    async fn read(
        &self,
        signals: &mut Vec<AssignedRecord>,
        deliveries: &[Delivery],
    ) -> Result<Batch, PartitionError> {
        let registry = self.context.registry.as_deref();
        let mut batch = Batch {
            next: self.writer.position(),
            ..Batch::default()
        };
        for signal in signals.drain(..) {
            let AssignedRecord::Record(record) = signal else {
                continue;
            };
            batch.next.signals = Some(record.offset + 1);
            match decode::signal(&record, registry).await {
                Ok(signal) => batch.signals.push(signal),
                Err(reason) => self.context.unreadable_signal(&record, &reason),
            }
        }
        for delivery in deliveries {
            // Applied before the last write; librdkafka gives it again only after an error.
            if batch
                .next
                .behavior
                .is_some_and(|next| delivery.offset < next)
            {
                continue;
            }
            batch.next.behavior = Some(delivery.offset + 1);
            let skew = self.context.config.max_skew_ms;
            match decode::behavior(delivery, registry, skew).await {
                Ok(record) => batch.behavior.push(BehaviorInput {
                    offset: delivery.offset,
                    record,
                    traceparent: traceparent(delivery),
                }),
                Err(reason) => self.context.refuse(delivery, &reason).await?,
            }
        }
        Ok(batch)
    }

    /// Answers those whose end was reached.
    async fn end_input(&mut self, caught_up: bool) -> Result<(), PartitionError> {
        let position = self.writer.position();
        let reached = |request: &EndOfInput| {
            position.behavior.unwrap_or(0) >= request.behavior
                && (caught_up || position.signals.unwrap_or(0) >= request.signals)
        };
        let (ended, open) = std::mem::take(&mut self.ending)
            .into_iter()
            .partition::<Vec<_>, _>(reached);
        self.ending = open;
        if ended.is_empty() {
            return Ok(());
        }
        self.writer.join().end_of_input();
        self.totals_published = None;
        loop {
            self.write(&mut Vec::new(), Vec::new()).await?;
            if !self.writer.has_backlog() {
                break;
            }
        }
        for request in ended {
            // Whoever asked may have left.
            let _ = request.done.send(());
        }
        Ok(())
    }

    fn tell(&mut self) {
        let position = self.writer.position();
        let join = self.writer.join();
        let stats = PartitionStats {
            waiting: join.waiting() as u64,
            watermark_ms: join.watermark_ms(),
            behavior_offset: position.behavior,
            signals_offset: position.signals,
            started: self.started,
        };
        let partition = self.assigned.partition();
        self.context.counters.partition(partition, Some(stats));
    }
}

fn traceparent(record: &Record) -> Option<String> {
    let value = std::str::from_utf8(record.header("traceparent")?).ok()?;
    Some(value.to_owned())
}

impl Context {
    /// Refuses a state that has read further than a topic goes; tells of records that were deleted
    /// before they were read.
    async fn check_offsets(
        &self,
        assigned: &AssignedPartition,
        position: Offsets,
    ) -> Result<(), PartitionError> {
        let partition = assigned.partition();
        for (topic, position) in [
            (assigned.topic(), position.behavior),
            (&self.signals_topic, position.signals),
        ] {
            let Some(position) = position else {
                continue;
            };
            let is_retryable = |error: &AdminError| matches!(error, AdminError::Kafka { .. });
            let ask = || self.admin.watermarks(topic, partition);
            let (start, end) = while_unavailable("asking for offsets", is_retryable, ask).await?;
            if position > end {
                return Err(PartitionError::TopicWentBack {
                    topic: topic.to_owned(),
                    partition,
                    end,
                    position,
                });
            }
            // A compacted topic starts where it does; what is gone from it was replaced.
            if position < start && topic == assigned.topic() {
                tracing::error!(
                    topic,
                    partition,
                    lost = start - position,
                    "records were deleted by retention before they were joined"
                );
            }
        }
        Ok(())
    }

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

    async fn refuse(&self, record: &Record, reason: &DeadLetterReason) -> Result<(), ProduceError> {
        tracing::warn!(
            origin = %record.origin(),
            error_type = reason.error_type,
            message = reason.message,
            "dead letter"
        );
        self.dead_letters.publish(record, "join", reason).await?;
        self.counters.dead_lettered.fetch_add(1, Relaxed);
        Ok(())
    }
}
