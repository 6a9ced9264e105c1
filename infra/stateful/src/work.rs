//! What a stateful consumer says of itself.

use std::time::Instant;

use async_trait::async_trait;
use millrace_kafka::{AdminError, ProduceError, Record};
use millrace_state::{Change, Position, Shard, ShardWriter, StateError, StateStore};

use crate::publish::Output;
use crate::values::BrokenValue;

/// A stateful consumer, but for what all of them do. Positions in its state are named after its
/// topics.
#[async_trait]
pub trait Work: Send + Sync + 'static {
    /// What it does in one partition.
    type Partition: PartitionWork;

    /// Its name: in its group, its state and its logs.
    const NAME: &'static str;
    /// The declared topic whose partitions its group shares out.
    const TOPIC: &'static str;
    /// A declared topic with as many partitions, of which the same ones are read beside.
    const BESIDE: Option<&'static str> = None;

    /// Takes a claimed partition, and reads what is kept of it in memory. `topic` is the full name
    /// of [`Work::TOPIC`]; `replays` the generation that the shard's is to replace, where it is being
    /// built. What that one has published must not be published as new.
    ///
    /// # Errors
    /// What waiting does not mend.
    async fn open(
        &self,
        shard: ShardWriter,
        topic: &str,
        replays: Option<u32>,
    ) -> Result<Self::Partition, WorkError>;

    /// Whether this shard still needs the generation that its own has replaced.
    ///
    /// # Errors
    /// The store does not answer.
    async fn is_replaying(&self, _: &dyn StateStore, _: Shard) -> Result<bool, StateError> {
        Ok(false)
    }
}

/// One partition's work. Thrown away where a write fails.
#[async_trait]
pub trait PartitionWork: Send + 'static {
    /// What it publishes; [`std::convert::Infallible`] where that is nothing.
    type Output: Output;
    /// How it stands, for those who watch.
    type View: Clone + Send + Sync + 'static;

    /// Where the state stands.
    fn position(&self) -> Position;

    /// Applies a batch. What comes out is published, then written. `None` where there is nothing
    /// worth a write: the position has not moved, and what changed is as true at the next one.
    ///
    /// # Errors
    /// What waiting does not mend; a record that cannot be read is a dead letter instead.
    async fn apply(&mut self, batch: Batch<'_>) -> Result<Option<Step<Self::Output>>, WorkError>;

    /// Writes changes and position in one step.
    ///
    /// # Errors
    /// As [`ShardWriter::commit`].
    async fn commit(&mut self, next: Position, changes: Vec<Change>) -> Result<(), StateError>;

    /// What the last [`PartitionWork::apply`] did is written, and counts.
    fn committed(&mut self);

    /// How it stands.
    fn view(&self) -> Self::View;

    /// Whether more is to be done without a further record.
    fn has_backlog(&self) -> bool {
        false
    }

    /// The clock goes on, once a second or so.
    fn tick(&mut self, _now: Instant) {}

    /// No record will come any more.
    fn end_of_input(&mut self) {}
}

/// What both topics gave, each in its order, without what the state has already.
#[derive(Debug)]
pub struct Batch<'a> {
    /// Of the consumer's own topic.
    pub records: Vec<&'a Record>,
    /// Of the topic beside.
    pub beside: Vec<Record>,
    /// How far both were read with it.
    pub next: Position,
    /// When it is applied.
    pub now: Instant,
}

/// What a batch comes to.
#[derive(Debug)]
pub struct Step<O> {
    /// To be acknowledged by the brokers first.
    pub outputs: Vec<O>,
    /// To be written then.
    pub changes: Vec<Change>,
}

/// Why a partition cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The store refuses, or cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A value is not what this version writes.
    #[error("the state cannot be read; remove it, and it is rebuilt from the topics")]
    Broken(#[from] BrokenValue),
    /// The producer has failed for good, or a record can never be written.
    #[error(transparent)]
    Produce(#[from] ProduceError),
    /// The brokers cannot be asked.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The topic is another one than the state was made from.
    #[error(
        "{topic}/{partition} ends at offset {end}, but the state has read up to {position}: the topic was \
         made anew; remove the state of the {consumer}, and it is rebuilt from the topics"
    )]
    TopicWentBack {
        /// Whose state.
        consumer: &'static str,
        /// Full name of the topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The topic's end.
        end: i64,
        /// The state's position.
        position: i64,
    },
}
