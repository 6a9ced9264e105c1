//! The Kafka client of every part of Millrace, on librdkafka.
//!
//! - [`Consumer`]: at-least-once. A record's offset is stored only once everything received below
//!   it is finished (the tracker's invariants INV-1 to INV-5 are property tests); memory stays
//!   bounded however slow the handler is, and a slow handler never costs the group membership.
//! - [`PartitionedConsumer`]: the same for work that keeps its offsets in its own state: each
//!   partition is handed out by itself, and starts where its owner says. [`AssignedConsumer`] reads
//!   chosen partitions of a second topic beside it, without a group.
//! - [`Producer`]: a send returns after the brokers acknowledged it, idempotent, partitioned as
//!   Java producers do.
//! - [`DeadLetters`]: a record that cannot be processed goes, byte for byte, to `<topic>.dlq`
//!   before its offset moves. [`LetterScan`] reads them with what was done about each, [`Resolver`]
//!   replays and discards them.
//! - [`topics`], [`Admin`]: which topics there are, declared in `topics.toml`; what the brokers
//!   have; how far a group is behind.
//! - [`TopicReader`]: bounded or following reads outside any group.
//! - [`replay`]: a topic's records once more, byte for byte, to another one; how far
//!   that is, kept by the brokers.
//! - [`HttpSchemaRegistry`]: the Confluent-compatible registry.
//!
//! Left to others: what values mean (`millrace-schemas`) and exactly-once *effects*, which the
//! index reaches with versions and stateful consumers with one write of state and offset.

mod admin;
mod assigned;
mod clock;
mod config;
mod consumer;
mod dead_letters;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod groups;
mod lag;
mod partitioner;
mod pause_note;
mod position;
mod producer;
mod reader;
mod record;
pub mod replay;
mod schema_registry;
pub mod topics;

pub use admin::{
    Admin, AdminError, CreateReport, Created, PartitionDescription, PartitionEnds, TopicDescription,
};
pub use assigned::{AssignedConsumer, AssignedRecord, AssignedRecords};
pub use config::{ConfigError, KafkaConfig};
pub use consumer::{
    AssignedPartition, Consumer, ConsumerConfig, ConsumerError, ConsumerHandle, ConsumerMetrics,
    ConsumerState, Counters, Delivery, Drained, PartitionMetrics, PartitionedConsumer,
};
pub use dead_letters::{
    DeadLetter, DeadLetterPosition, DeadLetterReason, DeadLetterSummary, DeadLetters, LetterId,
    LetterScan, ReplayHistory, Replayed, ResolveError, Resolved, ResolvedError, ResolvedLetters,
    Resolver, ScannedLetter, Unreplayable, WorkedOff, read_dead_letters, summarize_dead_letters,
};
pub use groups::{DescribedGroup, GroupMember, TopicPartition};
pub use lag::{Assessment, GroupLags, LagHistory, LagMember, LagStatus, PartitionLag};
pub use partitioner::{java_murmur2, java_partition};
pub use position::NotedOffset;
pub use producer::{Enqueued, ProduceError, Producer, RawRecord, RecordPosition};
pub use reader::{ReadFrom, ReadUntil, ReaderError, TopicReader};
pub use record::Record;
pub use schema_registry::HttpSchemaRegistry;
