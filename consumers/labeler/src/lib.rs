//! Answers meet the clicks on them: the consumer that makes training examples.
//!
//! The dataflow, room by room: `partition` (one partition of `behavior.by-request`, where re-keying puts
//! the clicks that name an answer, and the same one of `impressions`, as `millrace-stateful` gives them)
//! → `decode` → `labels` (answers, the clicks counted on them, those that came before their answer;
//! without any input or output; `watermarks` is how far event time has come, `values` what the state
//! holds, `writer` puts the state under it) → `publish` (`training`) → the state.
//!
//! Promises:
//! - Each answer has a record once its window has ended, and another for each batch of clicks that
//!   comes later, as long as the answer is remembered.
//! - A click counts once, by its event id, on the first record of its answer. The record of a revision
//!   is the same whoever writes it, in whichever order things came: it is that of the first clicks on its
//!   answer in the topic's order. So the last record of an answer is that of all clicks on it.
//! - What cannot be read is in a dead-letter topic before the state moves past it.
//!
//! Left to others: partitions whose state and offsets are one write (`millrace-stateful`), putting
//! clicks beside their answers (`millrace-joiner`), what is learnt from the examples
//! (`millrace-trainer`).

mod config;
mod decode;
mod labeler;
mod labels;
mod partition;
mod publish;
mod stats;
#[cfg(test)]
mod tests;
mod values;
mod watermarks;
mod writer;

pub use config::{InvalidConfig, LabelerConfig};
pub use labeler::{Labeler, LabelerDeps, LabelerHandle, labeler_group};
pub use millrace_stateful::{RunState, StartError};
pub use stats::{LabelerStats, PartitionStats};
