//! Records to what they say, or to the reason why they are dead letters.

use millrace_kafka::{DeadLetterReason, Record};
use millrace_schemas::{BehaviorByRequest, Impression, SchemaRegistry};
use millrace_stateful::{refusal, value};

use crate::labels::{Answer, Click};

const LABEL_ERROR: &str = "millrace_labeler::LabelError";
/// The end of the year 9999.
const LAST_MS: i64 = 253_402_300_799_999;

/// Reads a record of `impressions`.
pub(crate) async fn answer(
    record: &Record,
    registry: Option<&dyn SchemaRegistry>,
    max_skew_ms: i64,
) -> Result<Answer, DeadLetterReason> {
    let impression: Impression = value(record, registry).await?;
    check_key(record, Some(impression.request_id.as_str()))?;
    check_time(record, "served_at_ms", impression.served_at_ms, max_skew_ms)?;
    let features = impression.items.iter().flat_map(|item| &item.features);
    // A missing one is NaN.
    if features.copied().any(f32::is_infinite) {
        let message = "a feature of the answer is infinite";
        return Err(refusal("not_finite", LABEL_ERROR, message));
    }
    Ok(Answer {
        impression,
        origin: record.origin(),
    })
}

/// Reads a record of `behavior.by-request`.
pub(crate) async fn click(
    record: &Record,
    registry: Option<&dyn SchemaRegistry>,
    max_skew_ms: i64,
) -> Result<Click, DeadLetterReason> {
    let BehaviorByRequest { event, .. } = value(record, registry).await?;
    check_key(record, event.request_id.as_deref())?;
    check_time(record, "event_time_ms", event.event_time_ms, max_skew_ms)?;
    Ok(Click {
        request_id: event.request_id.clone().unwrap_or_default(),
        event,
    })
}

fn check_key(record: &Record, request_id: Option<&str>) -> Result<(), DeadLetterReason> {
    let request_id = request_id.filter(|id| !id.is_empty());
    let Some(request_id) = request_id else {
        let message = "the record has an empty request_id";
        return Err(refusal("missing_field", LABEL_ERROR, message));
    };
    if record.key.as_deref() == Some(request_id.as_bytes()) {
        return Ok(());
    }
    Err(refusal(
        "key_mismatch",
        LABEL_ERROR,
        "the record's key is not its request_id, so answer and clicks are not side by side",
    ))
}

fn check_time(
    record: &Record,
    field: &str,
    time_ms: i64,
    max_skew_ms: i64,
) -> Result<(), DeadLetterReason> {
    if !(0..=LAST_MS).contains(&time_ms) {
        let message =
            format!("{field} is {time_ms}; it must be between 1970 and 9999, in milliseconds");
        return Err(refusal("event_time_out_of_range", LABEL_ERROR, message));
    }
    let ahead_ms = record
        .timestamp_ms
        .map_or(0, |record_ms| time_ms.saturating_sub(record_ms));
    if ahead_ms > max_skew_ms {
        let message = format!(
            "{field} is {ahead_ms} ms after the record's timestamp; at most {max_skew_ms} are taken for a \
             difference of clocks (labeler.max_skew_ms)"
        );
        return Err(refusal("event_time_in_future", LABEL_ERROR, message));
    }
    Ok(())
}
