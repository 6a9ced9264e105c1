//! Records to what they say, or to the reason why they are dead letters.

use millrace_kafka::{DeadLetterReason, Record};
use millrace_retry::while_unavailable;
use millrace_schemas::{Message, SchemaError, SchemaRegistry, decode_with};

const SCHEMA_ERROR: &str = "millrace_schemas::SchemaError";

/// Reads a value. An unreachable schema registry makes this wait: nothing is wrong with the record.
///
/// # Errors
/// It has none, or it cannot be read.
pub async fn value<M: Message>(
    record: &Record,
    registry: Option<&dyn SchemaRegistry>,
) -> Result<M, DeadLetterReason> {
    let Some(value) = record.value.as_deref() else {
        return Err(refusal("no_value", SCHEMA_ERROR, "the record has no value"));
    };
    let read = || decode_with::<M>(value, registry);
    while_unavailable("reading a schema", SchemaError::is_retryable, read)
        .await
        // Without its source, which may quote the value.
        .map_err(|error| refusal(error.error_type(), SCHEMA_ERROR, error.to_string()))
}

/// A reason that no second attempt changes.
#[must_use]
pub fn refusal(error_type: &str, class: &str, message: impl Into<String>) -> DeadLetterReason {
    DeadLetterReason {
        error_type: error_type.to_owned(),
        class: class.to_owned(),
        message: message.into(),
        http_status: None,
        attempts: 1,
    }
}

/// The trace that a record belongs to, as its header says.
#[must_use]
pub fn traceparent(record: &Record) -> Option<String> {
    let value = std::str::from_utf8(record.header("traceparent")?).ok()?;
    Some(value.to_owned())
}
