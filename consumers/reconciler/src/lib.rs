//! Compares what the store has, what the index holds and what was signalled, and repairs by notices.
//!
//! The dataflow: `listing` (objects, and lines of corpora), `headers` (what the index holds) and
//! `topics` (last signals, notices on their way, dead letters) each fill a `runs` (sorted by URI,
//! on disk where it is much); `merge` brings them side by side; `class` says what is different;
//! `walk` asks index and store once more about that; `repair` makes the notices.
//! [`Reconciler::compare`] is all but the last. [`schedule`] does all of it
//! now and then, and [`sweep`] removes tombstones that nothing can ask for any more.
//!
//! Promises:
//! - **Nothing is called an orphan that may be there.** Only a listing that is whole is believed,
//!   then the store is asked for each orphan by name; what it cannot tell is left alone, and a
//!   repair that would remove too much is withheld.
//! - **Repair is notices.** They race with live traffic as any notice does: the greatest version
//!   wins, and the vectorizer looks at the object before it believes anybody. Done twice it
//!   publishes nothing the second time.
//! - **Bounded memory.** 250,000 documents or a million: some 90 MiB. The rest is on disk, about
//!   300 bytes a document and source, in files without a name, gone with the process however it
//!   ends.
//! - What is on its way (a notice not processed yet) or known to fail (a dead letter of the same
//!   version) is counted and not published again.
//!
//! Left to others: reading documents and writing the index (the vectorizer), how notices are
//! published (`millrace-producers`), waiting for what becomes of them (the command).

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod class;
mod compare;
mod config;
mod headers;
mod listing;
mod merge;
mod repair;
mod report;
mod runs;
pub mod schedule;
pub mod sweep;
mod topics;
mod walk;

pub use class::{Class, Difference, HeaderSeen, ObjectSeen, SignalSeen};
pub use compare::{Compared, Differences, ReconcileError, Reconciler, ReconcilerOptions, Step};
pub use config::{DEFAULT_EVERY, ReconcilerConfig, SweepConfig};
pub use headers::{Header, Headers, IndexHeaders};
pub use listing::{Item, Place};
pub use repair::{RemovalLimit, Repairs, Withheld};
pub use report::Report;
pub use runs::SpillError;

/// The clock of observations, in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
