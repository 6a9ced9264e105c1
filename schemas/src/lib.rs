//! What travels on the topics: schemas, their Rust types, framing, headers, identity and version.
//!
//! - Schemas are the files `avro/<topic>/v<n>.avsc`. A committed version never changes; a change is
//!   a new version, fully and transitively compatible with all before it. Tests hold both.
//! - [`encode`] and [`decode`] turn a [`Message`] into a record's value and back. The value's first
//!   bytes say how it is framed: `C3 01` Avro single-object, `00` Confluent, `{` JSON. No input
//!   makes them panic; what cannot be read is a typed [`SchemaError`].
//! - [`DocId`] and [`DocumentVersion`] say which document a record is about and which of two writers
//!   is the newer.
//! - [`EventHeaders`] are CloudEvents in binary mode with a W3C [`TraceParent`].
//!
//! Left to others: reading and writing topics, and the HTTP client of a schema registry, which
//! implements [`SchemaRegistry`].

mod audit;
mod behavior;
mod codec;
mod documents;
mod error;
mod feedback;
mod framing;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod headers;
mod identity;
mod impressions;
mod inline_bytes;
mod inspect;
mod item_stats;
mod origin;
mod outcomes;
mod registry;
mod resolutions;
mod rollouts;
mod signals;
mod traceparent;
mod training;
mod users;
mod vector_bytes;

pub use audit::{AuditEvent, AuditPhase};
pub use behavior::{
    BehaviorByItem, BehaviorByRequest, BehaviorEvent, BehaviorKind, UnknownBehaviorKind,
};
pub use codec::{Message, SchemaVersion, TopicSchemas, catalogue};
pub use documents::{DocumentEvent, DocumentNotice, Layout, MAX_INLINE_CONTENT_BYTES};
pub use error::SchemaError;
pub use feedback::{Feedback, FeedbackItem, UnmatchedBehavior};
pub use framing::{Framing, decode, decode_with, encode};
pub use headers::{EventHeaders, HeaderError};
pub use identity::{DocId, DocumentVersion, VersionError};
pub use impressions::{Impression, ImpressionItem, ProfileRead, ReadUpTo};
pub use inspect::to_json;
pub use item_stats::{Bucket, ItemCounters, ItemStats, PositionCounts};
pub use origin::Origin;
pub use outcomes::{DocumentOutcome, OutcomeKind};
pub use registry::{SchemaRegistry, WriterSchema};
pub use resolutions::{DeadLetterResolution, Resolution};
pub use rollouts::{GateVerdict, Rollout, RolloutGate, RolloutGeneration, RolloutPhase};
pub use signals::Signal;
pub use traceparent::{InvalidTraceParent, TraceParent};
pub use training::{TrainingExample, TrainingItem};
pub use users::User;
