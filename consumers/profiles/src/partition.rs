//! One partition of `feedback`: what its records say, and what becomes of them.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use millrace_features::FeedbackPosition;
use millrace_kafka::{Record, topics};
use millrace_schemas::SchemaRegistry;
use millrace_state::{Change, Position, ShardWriter, StateError};
use millrace_stateful::{Batch, PartitionWork, Refusals, Step, Work, WorkError};

use crate::apply::{Applies, Done, Input};
use crate::decode;
use crate::space::Space;
use crate::stats::Counters;
use crate::values;
use crate::writer::ProfileWriter;

/// The profiles of all partitions.
pub(crate) struct Keeps {
    pub shared: Arc<Shared>,
    pub space: Space,
    pub applying: Applies,
}

/// What its partitions share.
pub(crate) struct Shared {
    pub registry: Option<Arc<dyn SchemaRegistry>>,
    pub refusals: Refusals,
    pub counters: Counters,
}

#[async_trait]
impl Work for Keeps {
    type Partition = Partition;

    const NAME: &'static str = "profiles";
    const TOPIC: &'static str = topics::FEEDBACK;

    async fn open(
        &self,
        shard: ShardWriter,
        _: &str,
        _: Option<u32>,
    ) -> Result<Partition, WorkError> {
        let (space, applies) = (self.space.clone(), self.applying.clone());
        Ok(Partition {
            shared: Arc::clone(&self.shared),
            writer: ProfileWriter::open(shard, space, applies).await?,
            done: Done::default(),
        })
    }
}

pub(crate) struct Partition {
    shared: Arc<Shared>,
    writer: ProfileWriter,
    /// What the last batch did.
    done: Done,
}

#[async_trait]
impl PartitionWork for Partition {
    type Output = std::convert::Infallible;
    type View = ();

    fn position(&self) -> Position {
        values::position(self.writer.offset())
    }

    async fn apply(&mut self, batch: Batch<'_>) -> Result<Option<Step<Self::Output>>, WorkError> {
        if batch.next == self.position() {
            return Ok(None);
        }
        let inputs = self.read(batch.records).await?;
        let step = self.writer.step(inputs).await?;
        self.done = step.done;
        Ok(Some(Step {
            outputs: Vec::new(),
            changes: step.changes,
        }))
    }

    async fn commit(&mut self, next: Position, changes: Vec<Change>) -> Result<(), StateError> {
        self.writer.commit(values::offset(&next), changes).await
    }

    fn committed(&mut self) {
        self.shared.counters.add(std::mem::take(&mut self.done));
    }

    fn view(&self) {}
}

impl Partition {
    /// What the records say. What cannot be read goes to the dead-letter topic.
    async fn read(&self, records: Vec<&Record>) -> Result<Vec<Input>, WorkError> {
        let registry = self.shared.registry.as_deref();
        let now_ms = now_ms();
        let mut batch = Vec::with_capacity(records.len());
        for record in records {
            match decode::feedback(record, registry).await {
                Ok(feedback) => batch.push(Input {
                    // A joiner's clock that is ahead must not make this one forget.
                    written_ms: record.timestamp_ms.map_or(now_ms, |ms| ms.min(now_ms)),
                    position: FeedbackPosition {
                        partition: record.partition,
                        offset: record.offset + 1,
                    },
                    feedback,
                }),
                Err(reason) => self.shared.refusals.refuse(record, &reason).await?,
            }
        }
        Ok(batch)
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
