//! Records that a topic or a file does not take: how many, and the first of them.

use millrace_kafka::Record;
use millrace_schemas::Origin;
use serde::Serialize;

/// Refusals that are told one by one; the count covers all.
const TOLD: usize = 10;

/// A record that can't be written.
#[derive(Debug, Serialize)]
pub struct Refused {
    /// Where it stands.
    pub position: Origin,
    /// Why.
    pub reason: String,
}

impl Refused {
    /// Of a record.
    pub fn new(record: &Record, reason: String) -> Self {
        Self {
            position: record.origin(),
            reason,
        }
    }
}

/// Keeps the first ones to tell.
pub fn keep_first(kept: &mut Vec<Refused>, refused: impl IntoIterator<Item = Refused>) {
    let room = TOLD.saturating_sub(kept.len());
    kept.extend(refused.into_iter().take(room));
}
