//! Writing a dead letter.

use std::time::Duration;

use bytes::Bytes;

use super::headers;
use super::history::ReplayHistory;
use crate::clock::now_ms;
use crate::producer::{ProduceError, Producer, RawRecord, RecordPosition};
use crate::{Record, topics};

/// Longer messages are cut here: a message helps to find the cause, it is no copy of the input.
const MAX_MESSAGE_BYTES: usize = 512;
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Why a record cannot be processed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterReason {
    /// Machine-readable, e.g. `unknown_fingerprint` or `mapper_parsing_exception`.
    pub error_type: String,
    /// The class of the error, e.g. `millrace_schemas::SchemaError`.
    pub class: String,
    /// For people. Holds no document text; cut at 512 bytes.
    pub message: String,
    /// Where a server answered: its status.
    pub http_status: Option<u16>,
    /// How often it was tried.
    pub attempts: u32,
}

/// Writes dead letters of one pipeline; cheap to clone.
#[derive(Clone)]
pub struct DeadLetters {
    producer: Producer,
    pipeline: String,
}

impl DeadLetters {
    /// For `pipeline`, e.g. `vectorizer`, through `producer`.
    #[must_use]
    pub fn new(producer: Producer, pipeline: impl Into<String>) -> Self {
        Self {
            producer,
            pipeline: pipeline.into(),
        }
    }

    /// Writes `record` to its topic's dead-letter topic and waits for the acknowledgement: only
    /// then may the record be acknowledged. `stage` names the step that failed, e.g. `extract`.
    ///
    /// While the topic cannot be written to it tries again, without limit: the source's offset
    /// stays where it is, and nothing is lost. A caller that must stop drops the future.
    ///
    /// # Errors
    /// The record can never be written, or the producer has failed for good. The caller must not
    /// acknowledge the record.
    pub async fn publish(
        &self,
        record: &Record,
        stage: &str,
        reason: &DeadLetterReason,
    ) -> Result<RecordPosition, ProduceError> {
        let letter = self.letter(record, stage, reason);
        let mut retry = FIRST_RETRY;
        loop {
            match self.producer.send_raw(letter.clone()).await {
                Err(error) if error.is_retryable() => {
                    tracing::warn!(
                        topic = letter.topic,
                        origin = %record.origin(),
                        error = &error as &dyn std::error::Error,
                        retry_ms = retry.as_millis(),
                        "a dead letter cannot be written; its source offset waits"
                    );
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(LAST_RETRY);
                }
                done => return done,
            }
        }
    }

    fn letter(&self, record: &Record, stage: &str, reason: &DeadLetterReason) -> RawRecord {
        // Of a record that was replayed: both go on from letter to letter.
        let replayed = ReplayHistory::of(&record.headers);
        let first_failed_at = replayed.first_failed_at_ms.unwrap_or_else(now_ms);
        let replay_count = replayed.count;
        let mut added = vec![
            (headers::ORIGIN_TOPIC, record.topic.clone()),
            (headers::ORIGIN_PARTITION, record.partition.to_string()),
            (headers::ORIGIN_OFFSET, record.offset.to_string()),
            (headers::STAGE, stage.to_owned()),
            (headers::CLASS, cut(&reason.class)),
            (headers::MESSAGE, cut(&reason.message)),
            (headers::ERROR_TYPE, cut(&reason.error_type)),
            (headers::ATTEMPTS, reason.attempts.to_string()),
            (headers::FIRST_FAILED_AT, first_failed_at.to_string()),
            (headers::REPLAY_COUNT, replay_count.to_string()),
            (headers::PIPELINE, self.pipeline.clone()),
            (headers::VERSION, env!("CARGO_PKG_VERSION").to_owned()),
        ];
        added.extend(
            reason
                .http_status
                .map(|status| (headers::HTTP_STATUS, status.to_string())),
        );
        added.extend(schema_id(record.value.as_deref()).map(|id| (headers::SCHEMA_ID, id)));

        let mut headers = record.headers.clone();
        headers.extend(
            added
                .into_iter()
                .map(|(name, value)| (name.to_owned(), Some(value.into()))),
        );
        RawRecord {
            topic: topics::dead_letter_topic(&record.topic),
            key: record.key.clone(),
            value: record.value.clone(),
            headers,
            timestamp_ms: record.timestamp_ms,
            // Nothing reads dead letters by key; a record without a key still gets one place.
            partition_key: record
                .key
                .is_none()
                .then(|| Bytes::from(record.origin().to_string())),
        }
    }
}

/// At most 512 bytes, cut between characters.
fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_MESSAGE_BYTES)].to_owned()
}

/// The fingerprint or registry id that the value names.
fn schema_id(value: Option<&[u8]>) -> Option<String> {
    match value? {
        [0xC3, 0x01, rest @ ..] => rest.first_chunk::<8>().map(hex::encode),
        [0x00, rest @ ..] => rest
            .first_chunk::<4>()
            .map(|id| i32::from_be_bytes(*id).to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"é".repeat(400)).len(), 512);
        assert_eq!(cut(&format!("a{}", "é".repeat(400))).len(), 511);
    }

    #[test]
    fn the_schema_is_told_from_the_framing() {
        assert_eq!(
            schema_id(Some(&[0xC3, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9])).as_deref(),
            Some("0102030405060708")
        );
        assert_eq!(schema_id(Some(&[0, 0, 0, 1, 0, 9])).as_deref(), Some("256"));
        for value in [
            None,
            Some(b"".as_slice()),
            Some(b"{}"),
            Some(b"\xC3\x01\x02"),
            Some(b"\0\0"),
        ] {
            assert_eq!(schema_id(value), None);
        }
    }
}
