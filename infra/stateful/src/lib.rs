//! What every stateful consumer does, so that each has only its own to say.
//!
//! A stateful consumer reads a topic partition by partition and keeps what it knows in a state. The
//! rooms: `consumer` (the whole) → `member` (the group, a task for each partition) → `partition` (claim,
//! read, publish, write, in this order) → the consumer's own [`Work`] (what a batch does to the state, and
//! what comes out of it) → `publish` → the state. `decode` and `refusals` are how records become values or
//! dead letters, `values` how the state holds them, `watermark` how far event time has come, `rebuild` how
//! a state is made anew from the topics beside the one that serves, `deps` what all stands on. `testing`
//! has brokers and a store for their tests.
//!
//! Promises:
//! - *State and offset are one write*, of one writer. On assignment a partition is read from the offset
//!   in its state; a write that expects another epoch or offset is refused, and the state claimed again.
//! - Outputs and dead letters are acknowledged before the state moves past their input. After a crash
//!   they may come again, from the same records: each names its origin.
//! - A rebuild that is cut off leaves the state that served serving; one that was switched to goes on.
//! - The committed offset only shows the lag: moving it changes nothing.
//! - A topic read *beside* the consumer's own has the same partitions, read by the same member, and the
//!   consumer's own begins once all that was there of it has been read.
//!
//! Left to others: offsets and groups (`millrace-kafka`), where the state is kept and who may write it
//! (`millrace-state`), what values look like (`millrace-schemas`).

mod consumer;
mod decode;
mod deps;
mod member;
mod partition;
mod publish;
mod rebuild;
mod refusals;
#[cfg(feature = "testing")]
pub mod testing;
mod values;
mod watermark;
mod work;

pub use consumer::{RunState, StatefulConsumer};
pub use decode::{refusal, traceparent, value};
pub use deps::{Deps, StartError, group, group_prefix};
pub use partition::Standing;
pub use publish::{Output, publish};
pub use rebuild::{Rebuild, RebuildError, RebuildProgress, Rebuilt};
pub use refusals::Refusals;
pub use values::{BrokenValue, read, write};
pub use watermark::Watermark;
pub use work::{Batch, PartitionWork, Step, Work, WorkError};
