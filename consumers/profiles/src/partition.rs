//! One partition from its assignment to its end: claim, read, apply, write.
//!
//! A batch is what has come while the one before was being written, so a single click is written at
//! once and a flood in large steps. The order within a batch is what the promise rests on:
//!
//! 1. dead letters are acknowledged by the brokers;
//! 2. the state is written, profiles and offset in one step;
//! 3. the records are acknowledged, which moves the committed offset that shows the lag.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

use millrace_features::FeedbackPosition;
use millrace_kafka::{
    Admin, AdminError, AssignedPartition, DeadLetterReason, DeadLetters, Delivery, ProduceError,
    Record,
};
use millrace_retry::while_unavailable;
use millrace_schemas::SchemaRegistry;
use millrace_state::{Shard, StateError, StateStore};

use crate::apply::{Applies, Input};
use crate::decode;
use crate::space::Space;
use crate::stats::{Counters, PartitionStats};
use crate::writer::{ProfileWriter, WriterError};

/// What all partitions share.
pub(crate) struct Context {
    pub dead_letters: DeadLetters,
    pub registry: Option<Arc<dyn SchemaRegistry>>,
    pub state: Arc<dyn StateStore>,
    pub admin: Admin,
    pub generation: u32,
    pub space: Space,
    pub applying: Applies,
    pub batch_records: usize,
    pub batch_bytes: usize,
    pub counters: Arc<Counters>,
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
         made anew; remove the state of the profiles, and it is rebuilt from the topic"
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
) -> Result<(), PartitionError> {
    let number = assigned.partition();
    let Some(mut partition) = Partition::open(Arc::clone(&context), assigned).await? else {
        return Ok(());
    };
    let ended = partition.work().await;
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
    writer: ProfileWriter,
}

impl Partition {
    /// Claims the state and starts reading. `None` where the partition was lost meanwhile.
    async fn open(
        context: Arc<Context>,
        assigned: AssignedPartition,
    ) -> Result<Option<Self>, PartitionError> {
        let shard = Shard {
            generation: context.generation,
            partition: assigned.partition(),
        };
        let state = Arc::clone(&context.state);
        let (space, applies) = (context.space.clone(), context.applying.clone());
        let writer = ProfileWriter::claim(state, shard, space, applies).await?;
        if let Some(offset) = writer.offset() {
            context.check_offset(&assigned, offset).await?;
        }
        if !assigned.is_current() {
            return Ok(None);
        }
        assigned.start_at(writer.offset());
        let partition = Self {
            context,
            assigned,
            writer,
        };
        partition.tell();
        Ok(Some(partition))
    }

    async fn work(&mut self) -> Result<(), PartitionError> {
        let (records, bytes) = (self.context.batch_records, self.context.batch_bytes);
        while let Some(deliveries) = self.assigned.recv_batch(records, bytes).await {
            self.write(deliveries).await?;
        }
        Ok(())
    }

    /// Takes one batch from the topic to the state.
    async fn write(&mut self, deliveries: Vec<Delivery>) -> Result<(), PartitionError> {
        let (batch, next) = self.read(&deliveries).await?;
        if next != self.writer.offset() {
            let step = self.writer.step(batch).await?;
            self.writer
                .commit(next, step.changes)
                .await
                .map_err(WriterError::from)?;
            self.context.counters.add(step.done);
        }
        deliveries.into_iter().for_each(Delivery::ack);
        self.tell();
        Ok(())
    }

    /// What the records say, and the offset after them. What cannot be read goes to the dead-letter
    /// topic.
    async fn read(
        &self,
        deliveries: &[Delivery],
    ) -> Result<(Vec<Input>, Option<i64>), PartitionError> {
        let registry = self.context.registry.as_deref();
        let now_ms = now_ms();
        let mut batch = Vec::with_capacity(deliveries.len());
        let mut next = self.writer.offset();
        for delivery in deliveries {
            // Applied before the last write; librdkafka gives it again only after an error.
            if next.is_some_and(|next| delivery.offset < next) {
                continue;
            }
            next = Some(delivery.offset + 1);
            match decode::feedback(delivery, registry).await {
                Ok(feedback) => batch.push(Input {
                    // A joiner's clock that is ahead must not make this one forget.
                    written_ms: delivery.timestamp_ms.map_or(now_ms, |ms| ms.min(now_ms)),
                    position: FeedbackPosition {
                        partition: delivery.partition,
                        offset: delivery.offset + 1,
                    },
                    feedback,
                }),
                Err(reason) => self.context.refuse(delivery, &reason).await?,
            }
        }
        Ok((batch, next))
    }

    fn tell(&self) {
        let stats = PartitionStats {
            offset: self.writer.offset(),
        };
        let partition = self.assigned.partition();
        self.context.counters.partition(partition, Some(stats));
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

impl Context {
    /// Refuses a state that has read further than the topic goes; tells of records that were
    /// deleted before they were read.
    async fn check_offset(
        &self,
        assigned: &AssignedPartition,
        position: i64,
    ) -> Result<(), PartitionError> {
        let (topic, partition) = (assigned.topic(), assigned.partition());
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
        if position < start {
            tracing::error!(
                topic,
                partition,
                lost = start - position,
                "records were deleted by retention before they were applied"
            );
        }
        Ok(())
    }

    async fn refuse(&self, record: &Record, reason: &DeadLetterReason) -> Result<(), ProduceError> {
        tracing::warn!(
            origin = %record.origin(),
            error_type = reason.error_type,
            message = reason.message,
            "dead letter"
        );
        self.dead_letters.publish(record, "profile", reason).await?;
        self.counters.dead_lettered.fetch_add(1, Relaxed);
        Ok(())
    }
}
