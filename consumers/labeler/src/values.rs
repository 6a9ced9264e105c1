//! What the state holds of a partition, and how.

use std::collections::BTreeSet;

use millrace_kafka::topics;
use millrace_schemas::TrainingExample;
use millrace_state::{Position, Table};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::watermarks::Reached;

/// One value: how far time has come.
pub(crate) const PROGRESS: Table = Table::new("progress");
/// Answers and the clicks on them, by request id.
pub(crate) const REQUESTS: Table = Table::new("requests");
/// The requests whose windows end; each minute of event time is a part.
pub(crate) const CLOSING: Table = Table::new("closing");
/// The requests that are forgotten; each hour of event time is a part.
pub(crate) const FORGETTING: Table = Table::new("forgetting");

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;

/// Ids of events are kept as the first half of their SHA-256: they may be long.
pub(crate) type EventKey = [u8; 16];

/// What is known of a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Its answer, with the clicks that count; `None` before it came.
    pub example: Option<TrainingExample>,
    /// The events that were counted.
    pub counted: BTreeSet<EventKey>,
    /// Clicks that came before their answer, in their order.
    pub early: Vec<EarlyClick>,
    /// The revision that was published last; 0 before the window has ended.
    pub published: i32,
    /// The hour in which it is forgotten.
    pub forget_hour: i64,
}

/// A click whose answer has not come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct EarlyClick {
    pub event: EventKey,
    pub item_id: String,
    pub event_time_ms: i64,
}

/// What is written with every batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub reached: Reached,
    /// Minutes in which windows end.
    pub close_minutes: BTreeSet<i64>,
    /// Hours in which requests are forgotten.
    pub forget_hours: BTreeSet<i64>,
}

pub(crate) fn event_key(event_id: &str) -> EventKey {
    let digest = Sha256::digest(event_id.as_bytes());
    let mut key = EventKey::default();
    key.copy_from_slice(&digest[..16]);
    key
}

/// The first whole minute after a time.
pub(crate) fn minute_after(time_ms: i64) -> i64 {
    time_ms.div_euclid(MINUTE_MS) + 1
}

/// The minute that has begun at a time.
pub(crate) fn minute(time_ms: i64) -> i64 {
    time_ms.div_euclid(MINUTE_MS)
}

/// The start of a minute, ms since 1970.
pub(crate) fn start_ms(minute: i64) -> i64 {
    minute.saturating_mul(MINUTE_MS)
}

/// The hour that has begun at a time.
pub(crate) fn hour(time_ms: i64) -> i64 {
    time_ms.div_euclid(HOUR_MS)
}

/// The next offset of each topic; `None` where nothing was read yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offsets {
    /// Of `behavior.by-request`.
    pub clicks: Option<i64>,
    /// Of `impressions`.
    pub answers: Option<i64>,
}

impl From<&Position> for Offsets {
    fn from(position: &Position) -> Self {
        Self {
            clicks: position.get(topics::BEHAVIOR_BY_REQUEST),
            answers: position.get(topics::IMPRESSIONS),
        }
    }
}

impl From<Offsets> for Position {
    fn from(offsets: Offsets) -> Self {
        Self::default()
            .with(topics::BEHAVIOR_BY_REQUEST, offsets.clicks)
            .with(topics::IMPRESSIONS, offsets.answers)
    }
}
