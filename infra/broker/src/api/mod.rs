//! The requests, one file a family. A handler takes a decoded request and makes the answer; what is
//! wrong with one topic or partition stands in its place in the answer.

#![allow(
    clippy::needless_pass_by_value,
    reason = "dispatch hands each handler its own request"
)]

pub mod cluster;
pub mod configs;
pub mod fetch;
pub mod groups;
pub mod list_offsets;
pub mod offsets;
pub mod produce;
pub mod topics;
pub mod transactions;

use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;

/// Who asks, and in which version.
#[derive(Clone, Debug)]
pub struct Caller {
    pub client_id: String,
    /// As Kafka shows it: `/127.0.0.1`.
    pub host: String,
    pub version: i16,
}

/// The protocol's code of an outcome; 0 is success.
fn code<T>(outcome: &Result<T, ResponseError>) -> i16 {
    outcome.as_ref().err().map_or(0, ResponseError::code)
}

fn text(from: impl Into<String>) -> StrBytes {
    StrBytes::from_string(from.into())
}
