//! Records to feedback, or to the reason why they are dead letters.

use millrace_kafka::{DeadLetterReason, Record};
use millrace_schemas::{Feedback, SchemaRegistry};
use millrace_stateful::{refusal, value};

const FEEDBACK_ERROR: &str = "millrace_profiles::FeedbackError";
/// The end of the year 9999.
const LAST_MS: i64 = 253_402_300_799_999;

/// Reads a record of `feedback`. An unreachable schema registry makes this wait: nothing is wrong
/// with the record.
pub(crate) async fn feedback(
    record: &Record,
    registry: Option<&dyn SchemaRegistry>,
) -> Result<Feedback, DeadLetterReason> {
    let feedback = value(record, registry).await?;
    check(&feedback, record)?;
    Ok(feedback)
}

/// Refuses what a profile would never get rid of, or nobody would find.
fn check(feedback: &Feedback, record: &Record) -> Result<(), DeadLetterReason> {
    let refuse = |error_type, message: &str| Err(refusal(error_type, FEEDBACK_ERROR, message));
    let event = &feedback.event;
    for (field, value) in [("user_id", &event.user_id), ("item_id", &event.item_id)] {
        if value.is_empty() {
            return refuse("missing_field", &format!("the event has an empty {field}"));
        }
    }
    if record.key.as_deref() != Some(event.user_id.as_bytes()) {
        return refuse(
            "key_mismatch",
            "the record's key is not its event's user_id, so it is in another partition than the profile",
        );
    }
    if !(0..=LAST_MS).contains(&event.event_time_ms) {
        return refuse(
            "event_time_out_of_range",
            &format!(
                "event_time_ms is {}; it must be between 1970 and 9999, in milliseconds",
                event.event_time_ms
            ),
        );
    }
    let numbers = [event.value, feedback.expected_ctr];
    let numbers = numbers.into_iter().flatten();
    let vector = feedback.item.vector.iter().copied().map(f64::from);
    if !numbers.chain(vector).all(f64::is_finite) {
        return refuse(
            "not_finite",
            "the event's value, its expected_ctr or the item's vector is not a finite number",
        );
    }
    Ok(())
}
