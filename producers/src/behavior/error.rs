//! Why a row makes no event.

use millrace_objects::UriError;

use super::{MAX_RANKING_ITEMS, MAX_ROW_BYTES};
use crate::rows::CsvError;

/// Why a row makes no event. A message names the field and what was expected of it, and at most the
/// beginning of what stood there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// Not UTF-8.
    #[error("the row is not UTF-8")]
    NotUtf8,
    /// Not JSON; NaN and infinite numbers are none either.
    #[error("the row is not JSON")]
    Json(#[source] serde_json::Error),
    /// JSON, but another thing than an object.
    #[error("the row is not a JSON object; one row is one object")]
    NotAnObject,
    /// A record of CSV that does not go with the header.
    #[error("the row is not a record of the file's columns")]
    Csv(#[source] CsvError),
    /// Longer than [`MAX_ROW_BYTES`].
    #[error("the row has {bytes} bytes; the limit is {MAX_ROW_BYTES}")]
    TooLong {
        /// Its length.
        bytes: u64,
    },
    /// Fields of no known dialect.
    #[error(
        "the row is of no known dialect: expected `kind` (own), `bhv_type` (AIRec), `event` \
         (Metarank) or `action_name` (UBI)"
    )]
    Dialect,
    /// A field that must be there.
    #[error("`{field}` is missing")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// An id without a character.
    #[error("`{field}` is empty")]
    EmptyId {
        /// The field.
        field: &'static str,
    },
    /// A field of another type.
    #[error("`{field}` is not {expected}")]
    Type {
        /// The field.
        field: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A field that is too long.
    #[error("`{field}` has {bytes} bytes; the limit is {limit_bytes}")]
    FieldTooLong {
        /// The field.
        field: String,
        /// Its length.
        bytes: usize,
        /// What is allowed.
        limit_bytes: usize,
    },
    /// All fields together are too long.
    #[error("the event has {bytes} bytes; the limit is {limit_bytes}")]
    EventTooLarge {
        /// Their length.
        bytes: usize,
        /// What is allowed.
        limit_bytes: usize,
    },
    /// More items than one answer shows.
    #[error("the ranking has {items} items; the limit is {MAX_RANKING_ITEMS}")]
    TooManyItems {
        /// How many.
        items: usize,
    },
    /// A line break, NUL or the like in an id.
    #[error("`{field}` holds the control character {}", .character.escape_unicode())]
    ControlCharacter {
        /// The field.
        field: String,
        /// Which.
        character: char,
    },
    /// Not a kind of behavior, and not mapped to one.
    #[error(
        "{name:?} is no kind of behavior: expected expose, click, like, unlike, comment, collect, \
         stay, share, download, tip, subscribe, cart, buy or evaluate, or map it in behavior.kinds"
    )]
    Kind {
        /// The beginning of what stood there.
        name: String,
    },
    /// An AIRec command that behavior does not have.
    #[error("{command:?} is no command of behavior, which is only added: expected \"add\"")]
    Command {
        /// The beginning of what stood there.
        command: String,
    },
    /// NaN or infinite.
    #[error("`{field}` is not a finite number")]
    NotFinite {
        /// The field.
        field: &'static str,
    },
    /// Not a time.
    #[error("`{field}` is no time: expected {expected}")]
    Time {
        /// The field.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// More than five minutes ahead of this clock.
    #[error(
        "the event time {event_time_ms} is {ahead_ms} ms ahead of this clock, more than 5 minutes; is its unit right?"
    )]
    InFuture {
        /// The event's time, ms since 1970.
        event_time_ms: i64,
        /// How far ahead it is.
        ahead_ms: i64,
    },
    /// Older than `behavior.max_age_days`.
    #[error(
        "the event time {event_time_ms} is more than {max_age_days} days ago (behavior.max_age_days); is its unit right?"
    )]
    TooOld {
        /// The event's time, ms since 1970.
        event_time_ms: i64,
        /// What is allowed.
        max_age_days: u32,
    },
    /// Not a place in an answer.
    #[error("the position {position} is not between 1 and 2147483647: positions count from 1")]
    Position {
        /// What stood there.
        position: i64,
    },
    /// An id of the upstream system, and no way from it to a document.
    #[error(
        "the item {item:?} is neither a document id nor a URI: set behavior.item_uri to a template \
         such as \"file:///data/films.jsonl.gz#{{item}}\""
    )]
    NoItemUri {
        /// The beginning of what stood there.
        item: String,
    },
    /// The item's URI names no object.
    #[error("the item names no object")]
    ItemUri(#[source] UriError),
}

impl RowError {
    /// All stable names.
    pub const ERROR_TYPES: [&'static str; 20] = [
        "not_utf8",
        "malformed_json",
        "malformed_row",
        "row_too_long",
        "unknown_dialect",
        "missing_field",
        "empty_id",
        "invalid_field",
        "field_too_long",
        "event_too_large",
        "too_many_items",
        "control_character",
        "unknown_kind",
        "unknown_command",
        "not_finite",
        "invalid_event_time",
        "event_time_in_future",
        "event_time_too_old",
        "invalid_position",
        "unresolved_item",
    ];

    /// A stable name for metrics, answers and dead letters.
    #[must_use]
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::Json(_) => "malformed_json",
            Self::NotAnObject | Self::Csv(_) => "malformed_row",
            Self::TooLong { .. } => "row_too_long",
            Self::Dialect => "unknown_dialect",
            Self::Missing { .. } => "missing_field",
            Self::EmptyId { .. } => "empty_id",
            Self::Type { .. } => "invalid_field",
            Self::FieldTooLong { .. } => "field_too_long",
            Self::EventTooLarge { .. } => "event_too_large",
            Self::TooManyItems { .. } => "too_many_items",
            Self::ControlCharacter { .. } => "control_character",
            Self::Kind { .. } => "unknown_kind",
            Self::Command { .. } => "unknown_command",
            Self::NotFinite { .. } => "not_finite",
            Self::Time { .. } => "invalid_event_time",
            Self::InFuture { .. } => "event_time_in_future",
            Self::TooOld { .. } => "event_time_too_old",
            Self::Position { .. } => "invalid_position",
            Self::NoItemUri { .. } | Self::ItemUri(_) => "unresolved_item",
        }
    }
}

/// The beginning of a text, for a message.
pub(crate) fn beginning(text: &str) -> String {
    const LENGTH: usize = 60;
    let mut beginning: String = text.chars().take(LENGTH).collect();
    if beginning.len() < text.len() {
        beginning.push('…');
    }
    beginning
}
