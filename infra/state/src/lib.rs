//! What a stateful consumer knows, kept beside the offsets up to which it knows it: one port, two
//! adapters.
//!
//! A consumer that applies records to a state writes both in one step ([`StateStore::commit`]), and
//! after any crash goes on from the offset that it finds there. Kafka's committed offset then only
//! shows the lag. [`ShardWriter`] is the port as such a consumer uses it; the rooms behind it:
//! `store` (the port), `table` (what a user names its values by), `position` (how far each source was
//! read), `cache` (values kept in memory between writes), `embedded` (a folder, by fjall), `valkey` (a
//! server, with one Lua script).
//!
//! A *shard* is one partition's state in one generation. It has one writer at a time:
//!
//! - [`StateStore::claim`] makes the caller the shard's writer, in a new *epoch*, and says where the
//!   shard stands: the offsets from which its sources are to be read.
//! - [`StateStore::commit`] writes changes and new offsets in one atomic step, and only where the
//!   shard still is in the caller's epoch, at the offsets that the caller expects. A writer that was
//!   thought dead, one that reads a store which failed over to an older copy, and one whose write
//!   was done though its answer was lost are all refused: they claim the shard again and continue
//!   from what is there.
//!
//! A *generation* is a whole state. A replay never goes into the live one: it builds the next, and
//! [`StateStore::switch`] makes that live. Writers of an older generation than the live one are
//! refused.
//!
//! Each consumer has a state of its own: a namespace on a server, a folder on a disk. Not one
//! database for all: removing a state is how it is rebuilt from the topics, so each must be
//! removable by itself, and what one version can't read any more must not stop the others.
//!
//! Left to others: which partition is whose (`millrace-kafka`), what values mean (their writers).

mod cache;
mod embedded;
mod position;
mod store;
mod table;
mod valkey;
mod writer;

pub use cache::Cache;
pub use embedded::EmbeddedState;
pub use position::Position;
pub use store::{Change, Claim, FIRST_GENERATION, LIVE_FOR, Shard, StateError, StateStore};
pub use table::Table;
pub use valkey::{ValkeyConfig, ValkeyState};
pub use writer::ShardWriter;
