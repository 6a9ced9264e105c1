//! What upstream systems use to tell Millrace of documents, and of what users did with them.
//!
//! Four ways in, one way on: notices over HTTP ([`http`], understood by [`notices`]), a watched
//! folder ([`folder`]), a one-shot listing of a folder or bucket ([`listing`]) and corpora with one
//! document a line ([`corpus`]) all become [`millrace_schemas::DocumentNotice`]s, which a
//! [`Publisher`] writes to the topic `documents` under the object's URI.
//!
//! Behavior comes over HTTP or from files ([`behavior`]) and goes to the topic `behavior` under its
//! user. Files that tell of both are [`recording`]s. AIRec's tables ([`airec`]) bring items, which are
//! documents, users, and behavior.
//!
//! Promises:
//! - A notice counts as taken only when the brokers have acknowledged it: HTTP answers 200 then,
//!   and [`Publisher`] returns its position.
//! - Nothing is lost in silence: what cannot become a notice or an event goes to `documents.dlq`,
//!   `behavior.dlq` or `users.dlq` with its own bytes and the reason.
//! - Memory is bounded, however large a corpus, a line, a body or a folder's backlog is.
//! - Notices of one object from one source keep their order.
//!
//! It leaves to others: reading objects (a notice is a hint; the vectorizer fetches what is there
//! then), versions and duplicates (an object may be noticed more than once), and serving HTTP (the
//! binary binds the router).

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod airec;
pub mod behavior;
mod body;
pub mod corpus;
pub mod folder;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod http;
pub mod listing;
pub mod notices;
mod publish;
pub mod recording;
mod rejection;
mod rows;

pub use publish::{Noticed, Published, Publisher};
pub use rejection::Rejection;
pub use rows::{CsvError, ReadProgress};

/// The clock of observations, in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
