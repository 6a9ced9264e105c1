//! Records to what they say, or to the reason why they are dead letters.

use millrace_kafka::{DeadLetterReason, Record};
use millrace_schemas::{BehaviorByItem, BehaviorEvent, SchemaRegistry, Signal};
use millrace_stateful::{refusal, value};

use crate::batch::SignalInput;
use crate::signals::split_key;

const EVENT_ERROR: &str = "millrace_joiner::EventError";
/// The end of the year 9999.
const LAST_MS: i64 = 253_402_300_799_999;

/// Refuses events that no batch may hold.
pub(crate) fn check_event(
    event: &BehaviorEvent,
    record: &Record,
    max_skew_ms: i64,
) -> Result<(), DeadLetterReason> {
    let refuse = |error_type, message: String| Err(refusal(error_type, EVENT_ERROR, message));
    for (field, value) in [("event_id", &event.event_id), ("item_id", &event.item_id)] {
        if value.is_empty() {
            return refuse("missing_field", format!("the event has an empty {field}"));
        }
    }
    if !(0..=LAST_MS).contains(&event.event_time_ms) {
        return refuse(
            "event_time_out_of_range",
            format!(
                "event_time_ms is {}; it must be between 1970 and 9999, in milliseconds",
                event.event_time_ms
            ),
        );
    }
    if let Some(record_ms) = record.timestamp_ms
        && event.event_time_ms.saturating_sub(record_ms) > max_skew_ms
    {
        return refuse(
            "event_time_in_future",
            format!(
                "event_time_ms is {} ms after the record's timestamp; at most {max_skew_ms} are \
                 taken for a difference of clocks (joiner.max_skew_ms)",
                event.event_time_ms - record_ms
            ),
        );
    }
    Ok(())
}

/// Reads a record of `behavior.by-item`.
pub(crate) async fn behavior(
    record: &Record,
    registry: Option<&dyn SchemaRegistry>,
    max_skew_ms: i64,
) -> Result<BehaviorByItem, DeadLetterReason> {
    let by_item: BehaviorByItem = value(record, registry).await?;
    check_event(&by_item.event, record, max_skew_ms)?;
    if record.key.as_deref() != Some(by_item.event.item_id.as_bytes()) {
        return Err(refusal(
            "key_mismatch",
            EVENT_ERROR,
            "the record's key is not its event's item_id, so it is not beside its item's signal",
        ));
    }
    Ok(by_item)
}

/// Reads a record of `signals`.
pub(crate) async fn signal(
    record: &Record,
    registry: Option<&dyn SchemaRegistry>,
) -> Result<SignalInput, DeadLetterReason> {
    if record.value.is_some() {
        let signal: Signal = value(record, registry).await?;
        return Ok(SignalInput::Signal(Box::new(signal)));
    }
    let key = record.key_text().unwrap_or_default();
    match split_key(&key) {
        Some((item_id, model_version)) => Ok(SignalInput::Gone {
            item_id: item_id.to_owned(),
            model_version: model_version.to_owned(),
        }),
        None => Err(refusal(
            "invalid_key",
            EVENT_ERROR,
            "a tombstone's key is not {item_id}@{model_version}",
        )),
    }
}
