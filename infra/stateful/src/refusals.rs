//! Records that are refused.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use millrace_kafka::{DeadLetterReason, DeadLetters, ProduceError, Producer, Record};

/// Writes the dead letters of one step of a consumer, and counts them.
pub struct Refusals {
    dead_letters: DeadLetters,
    stage: &'static str,
    count: AtomicU64,
}

impl Refusals {
    /// Of the step `stage` of `consumer`.
    #[must_use]
    pub fn new(producer: Producer, consumer: &str, stage: &'static str) -> Self {
        Self {
            dead_letters: DeadLetters::new(producer, consumer),
            stage,
            count: AtomicU64::new(0),
        }
    }

    /// Writes a dead letter, however long the brokers are away.
    ///
    /// # Errors
    /// As [`DeadLetters::publish`]: the record may not be acknowledged.
    pub async fn refuse(
        &self,
        record: &Record,
        reason: &DeadLetterReason,
    ) -> Result<(), ProduceError> {
        tracing::warn!(
            origin = %record.origin(),
            error_type = reason.error_type,
            message = reason.message,
            "dead letter"
        );
        self.dead_letters
            .publish(record, self.stage, reason)
            .await?;
        self.count.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Dead letters written since the start.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }
}
