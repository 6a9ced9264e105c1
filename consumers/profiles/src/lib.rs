//! What is known of each user: the consumer that applies feedback to profiles, and their reader.
//!
//! The dataflow, room by room: `consumer` (what it is started with) → `partition` (one of `feedback`, as
//! `millrace-stateful` gives them) → `decode` → `apply` (feedback to profiles, without any input or
//! output; `values` is what the state holds, `writer` puts the state under it) → the state (profiles,
//! origins and offset) → [`ProfileReader`]. `space` takes a profile from one model's vectors to another's.
//!
//! Promises:
//! - An origin is applied once: after any crash, rebalance, doubled record or failed-over store a
//!   profile is that of each event once, in the topic's order, bit for bit.
//! - What was written is what the next [`ProfileReader::get`] finds. A batch is what came while the
//!   one before was written, so a single click is written at once.
//! - Feedback that cannot be read is in `feedback.dlq` before the state moves past it.
//!
//! Left to others: what an event does to a profile (`millrace-features`), partitions whose state
//! and offsets are one write (`millrace-stateful`).

mod apply;
mod config;
mod consumer;
mod decode;
mod partition;
mod reader;
mod space;
mod stats;
#[cfg(test)]
mod tests;
mod values;
mod writer;

pub use config::{InvalidConfig, ProfilesConfig};
pub use consumer::{Profiles, ProfilesDeps, ProfilesHandle, profiles_group};
pub use millrace_stateful::{RunState, StartError};
pub use reader::{ProfileReader, ReadError};
pub use space::ItemVectors;
pub use stats::{PartitionStats, ProfilesStats};
