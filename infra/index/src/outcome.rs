//! What became of each item of a bulk request.

use std::fmt;

/// Why the index will never take an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The engine's type, such as `mapper_parsing_exception`.
    pub error_type: String,
    /// Type of its cause, where there is one.
    pub cause_type: Option<String>,
    /// The engine's words; for people, never decided upon.
    pub reason: String,
    /// HTTP status of the item.
    pub status: u16,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.error_type, self.status, self.reason)
    }
}

/// Why an item or a request did not pass this time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The engine's type, or one of ours: `transport`, `timeout`, `malformed_response`, `storage`.
    pub error_type: String,
    /// The engine's words, or the error's.
    pub reason: String,
    /// HTTP status, where there was one.
    pub status: Option<u16>,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "{} ({status}): {}", self.error_type, self.reason),
            None => write!(f, "{}: {}", self.error_type, self.reason),
        }
    }
}

/// Outcome of one item of one bulk attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemOutcome {
    /// Durably written.
    Indexed,
    /// A strictly newer version is there; nothing was written.
    Stale,
    /// This item may pass later; send it again, with less concurrency.
    Retry(Obstacle),
    /// This item will never pass: dead-letter it.
    Reject(Rejection),
    /// Nothing passes until somebody repairs the index: pause, never dead-letter.
    Halt(Obstacle),
}

/// Outcome of one item after all attempts: what the bulk sink gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinalOutcome {
    /// Durably written.
    Indexed,
    /// A strictly newer version is there; nothing was written.
    Stale,
    /// This item will never pass: dead-letter it.
    Reject(Rejection),
    /// This item alone kept failing while others passed: dead-letter it as `retry_exhausted`.
    RetryExhausted {
        /// How often it was sent.
        attempts: u32,
        /// What the last attempt met.
        last: Obstacle,
    },
}
