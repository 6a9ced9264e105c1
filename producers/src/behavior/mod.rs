//! Behavior: what users did with items, in the dialects in which upstream systems tell it.
//!
//! A row is one JSON object or one record of CSV. Its dialect is recognised by its fields, row by
//! row ([`Dialect`]); a [`RowReader`] makes [`BehaviorEvent`]s of it. Rows come over HTTP
//! ([`collector`]) and from files ([`mod@file`]).
//!
//! Promises:
//! - Each row is judged alone. A row becomes all of its events, or is passed over by design and
//!   counted, or is rejected with a reason and goes to `behavior.dlq` as it came.
//! - An event without an id gets one from its content ([`event_id`]), so that a file that is
//!   published again, or a request that is repeated, makes the same events again and not new ones.
//! - No input makes reading panic.
//!
//! | limit | |
//! |---|---|
//! | a row | [`MAX_ROW_BYTES`] |
//! | an id | [`MAX_ID_BYTES`], no control characters |
//! | any other field | [`MAX_FIELD_BYTES`], as AIRec's |
//! | an event | [`MAX_EVENT_BYTES`], as AIRec's document |
//! | a ranking | [`MAX_RANKING_ITEMS`] |
//! | the future | five minutes |
//! | the past | [`BehaviorConfig::max_age_days`] |
//!
//! The item's id is resolved to the document's id here ([`item`]): that is what signals are keyed by.

mod airec;
pub mod collector;
pub mod config;
pub(crate) mod error;
pub mod event_id;
pub(crate) mod fields;
pub mod file;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod item;
mod metarank;
mod own;
mod publish;
mod reader;
#[cfg(test)]
mod tests;
mod ubi;

use std::fmt;

use millrace_schemas::BehaviorEvent;
use serde::Deserialize;

pub use self::config::{BehaviorConfig, BehaviorConfigError};
pub use self::error::RowError;
pub use self::publish::{BehaviorRow, PublishedRow};
pub use self::reader::RowReader;

/// The longest row that is read: a Metarank ranking holds many items.
pub const MAX_ROW_BYTES: usize = 1 << 20;
/// The longest user, item, event, request or scene id.
pub const MAX_ID_BYTES: usize = 512;
/// The longest other field: "5 KB a field" of AIRec's bulk interface.
pub const MAX_FIELD_BYTES: usize = 5 * 1024;
/// The most that the fields of one event may have together: AIRec's "10 KB a document".
pub const MAX_EVENT_BYTES: usize = 10 * 1024;
/// The most items of one ranking.
pub const MAX_RANKING_ITEMS: usize = 1000;
/// How far ahead of this clock an event may be.
pub const MAX_AHEAD_MS: i64 = 5 * 60 * 1000;

/// A dialect of behavior rows.
///
/// | dialect | recognised by | source |
/// |---|---|---|
/// | own | `kind`, `event_time_ms` or `event_time` | [`BehaviorEvent`] |
/// | AIRec | `cmd` with `fields`, or `bhv_type` | AIRec 2020-11-26, behavior table |
/// | Metarank | `event` of `item`, `user`, `ranking`, `interaction` | docs.metarank.ai, "Supported events" |
/// | UBI | `action_name`, or `query_id` with `user_query` | OpenSearch User Behavior Insights 1.3.0 |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// The fields of [`BehaviorEvent`].
    Own,
    /// Rows of AIRec's behavior table.
    Airec,
    /// Metarank's events.
    Metarank,
    /// OpenSearch User Behavior Insights.
    Ubi,
}

impl Dialect {
    /// The name, as events carry it in `source`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Airec => "airec",
            Self::Metarank => "metarank",
            Self::Ubi => "ubi",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a row says.
#[derive(Debug, PartialEq)]
pub enum Told {
    /// One event, or one for each item that was shown.
    Events(Vec<BehaviorEvent>),
    /// Understood, and of no concern here; a stable name of what it is.
    PassedOver(&'static str),
}
