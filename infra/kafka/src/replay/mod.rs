//! Reading a topic's records once more: which there are, how far it is, and writing them elsewhere.
//!
//! [`capture`] says which offsets are meant before anything is read, so that a replay ends however much
//! is published meanwhile. [`ReplayGroup`] keeps how far it is in the name of a group of its own, with
//! what it was asked for; it is committed only after what lies before it was written for good. So a
//! replay that is killed goes on, and repeats at most what was not committed.

mod copy;
mod group;
mod ranges;

pub use self::copy::{Copied, Copier};
pub use self::group::{ReplayGroup, ReplayGroupError, ReplayNote, is_replay_name};
pub use self::ranges::{Captured, RangeError, ReplayStart, Span, Wanted, capture};
