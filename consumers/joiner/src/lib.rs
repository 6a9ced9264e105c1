//! Behavior meets meaning: the consumer that joins what users did with what the items are.
//!
//! The dataflow, room by room: `rekey` (`behavior` to `behavior.by-item`) → `partition` (one
//! partition of `behavior.by-item` and the same one of `signals`, as `millrace-stateful` gives them) →
//! `decode` → `join` (with `signals` as a table, `waiting` for those that are not there, `watermark`,
//! ids that were `seen`, counters, all in memory; `batch` is what goes in and comes out, `tables` and
//! `values` are what the state holds of it; `writer` puts the state under it) → `publish` (`feedback`,
//! `item-stats`, `behavior.unmatched`) → the state. [`OfflineJoin`] drives the same join over a
//! recording.
//!
//! Promises:
//! - After any crash, rebalance, doubled record or failed-over store the counters are those of each
//!   event id once, bit for bit. Outputs may come again then, with the same origins: whoever applies
//!   an origin once has the same effect.
//! - An event is counted exactly when its feedback is published; one whose item stays unknown ends
//!   in `behavior.unmatched`, one that cannot be read in a dead-letter topic. None vanishes.
//! - A replay goes into a fresh generation of the state, never into the live one: the group's
//!   committed offset only shows the lag, and moving it changes nothing.
//!
//! Left to others: partitions whose state and offsets are one write (`millrace-stateful`), what values look like (`millrace-schemas`), how counts are bucketed and what
//! they mean (`millrace-features`), profiles and recall, which read what this publishes.

mod batch;
mod config;
mod decode;
mod items;
mod join;
mod joiner;
mod offline;
mod partition;
mod publish;
mod rekey;
mod replay;
mod signals;
mod stats;
mod tables;
#[cfg(test)]
mod tests;
mod values;
mod waiting;
mod writer;

pub use config::{InvalidConfig, JoinerConfig};
pub use items::ItemReader;
pub use joiner::{Joiner, JoinerDeps, JoinerHandle, ReadError, join_group, rekey_group};
pub use millrace_stateful::{RunState, StartError};
pub use offline::{Joined, OfflineJoin};
pub use stats::{JoinerStats, PartitionStats};
