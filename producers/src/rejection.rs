//! What a producer could not turn into an event, on its way to a dead-letter topic.

use bytes::Bytes;
use millrace_kafka::{RawRecord, topics};
use millrace_retry::error_chain;
use sha2::{Digest, Sha256};

use crate::corpus::RejectedLine;
use crate::notices::MalformedEntry;

/// Dead-letter messages are cut here.
const MAX_MESSAGE_BYTES: usize = 512;
/// Of what was rejected this much is kept, so that the record fits its topic.
pub(crate) const MAX_REJECTED_BYTES: usize = 1 << 20;

/// Something that a producer could not turn into a notice.
#[derive(Debug)]
pub struct Rejection {
    /// The dead-letter topic it belongs on, without the prefix.
    pub topic: &'static str,
    /// Where it came from: the URI of a corpus, or the endpoint.
    pub origin: String,
    /// Its place there: the line number, or a hash of its bytes. With `origin` it is the same for
    /// the same rejected thing, so that tools count it once.
    pub position: i64,
    /// The row's number in its file or request, where it is one.
    pub row: Option<u64>,
    /// `notice`, `corpus` or `behavior`.
    pub stage: &'static str,
    /// A stable name.
    pub error_type: &'static str,
    /// What people read: the error and its causes, without document text.
    pub message: String,
    /// Its bytes, perhaps only the first.
    pub raw: Vec<u8>,
}

impl Rejection {
    /// Of an entry posted to the notice endpoint.
    pub fn of_entry(entry: MalformedEntry) -> Self {
        let MalformedEntry { reason, raw, .. } = entry;
        Self::of_posted(reason.error_type(), error_chain(&reason), raw)
    }

    /// Of anything posted to the notice endpoint.
    pub fn of_posted(error_type: &'static str, message: String, raw: Vec<u8>) -> Self {
        Self {
            topic: topics::DOCUMENTS_DLQ,
            origin: "POST /v1/notices".to_owned(),
            position: position_of(&raw),
            row: None,
            stage: "notice",
            error_type,
            message,
            raw,
        }
    }

    /// Of a line of a corpus.
    pub fn of_line(line: RejectedLine) -> Self {
        let RejectedLine {
            uri,
            line,
            reason,
            raw,
        } = line;
        Self {
            message: format!("line {line} of {uri}: {}", error_chain(&reason)),
            topic: topics::DOCUMENTS_DLQ,
            origin: uri,
            position: i64::try_from(line).unwrap_or(i64::MAX),
            row: Some(line),
            stage: "corpus",
            error_type: reason.error_type(),
            raw,
        }
    }

    /// The dead letter: its bytes, with the headers that the dead letters of consumers carry. Its
    /// origin is [`Rejection::origin`] and [`Rejection::position`].
    pub(crate) fn record(&self, topic: String) -> RawRecord {
        let raw = &self.raw[..self.raw.len().min(MAX_REJECTED_BYTES)];
        let message = &self.message[..self.message.floor_char_boundary(MAX_MESSAGE_BYTES)];
        let now = crate::now_ms().to_string();
        let position = self.position.to_string();
        let row = self.row.map(|row| row.to_string());
        let headers = [
            ("__connect.errors.topic", self.origin.as_str()),
            ("__connect.errors.partition", "0"),
            ("__connect.errors.offset", &position),
            ("__connect.errors.stage", self.stage),
            ("__connect.errors.exception.class.name", self.error_type),
            ("__connect.errors.exception.message", message),
            ("dlq.error.type", self.error_type),
            ("dlq.attempts", "1"),
            ("dlq.first_failed_at", &now),
            ("dlq.replay_count", "0"),
            ("dlq.pipeline", "producers"),
            ("dlq.version", env!("CARGO_PKG_VERSION")),
        ];
        let headers = headers
            .into_iter()
            .chain(row.as_deref().map(|row| ("dlq.row", row)))
            .map(|(name, value)| {
                (
                    name.to_owned(),
                    Some(Bytes::copy_from_slice(value.as_bytes())),
                )
            });
        RawRecord {
            topic,
            key: None,
            value: Some(Bytes::copy_from_slice(raw)),
            headers: headers.collect(),
            timestamp_ms: None,
            partition_key: None,
        }
    }
}

/// A place for what has none: a hash of its bytes, never negative.
pub(crate) fn position_of(raw: &[u8]) -> i64 {
    let digest = Sha256::digest(raw);
    let first = digest.iter().take(8);
    first.fold(0i64, |hash, byte| hash << 8 | i64::from(*byte)) & i64::MAX
}
