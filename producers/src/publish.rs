//! Publishing: notices to `documents`, and what was no notice to its dead-letter topic.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{Stream, StreamExt};
use millrace_kafka::{ProduceError, Producer, RawRecord, RecordPosition, topics};
use millrace_schemas::{DocumentEvent, DocumentNotice, EventHeaders, TraceParent};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::corpus::RejectedLine;
use crate::notices::MalformedEntry;

/// Content and names that may be unacknowledged at one time.
const MAX_IN_FLIGHT_KIB: u32 = 32 << 10;
/// Records of one stream that may be unacknowledged at one time.
const MAX_IN_FLIGHT_RECORDS: usize = 1024;
/// Dead-letter messages are cut here.
const MAX_MESSAGE_BYTES: usize = 512;
/// Of what was rejected this much is kept, so that the record fits its topic.
const MAX_REJECTED_BYTES: usize = 512 << 10;

/// Publishes notices. Cheap to clone; all clones share one bound on memory.
///
/// The key is the object's URI, so all that happens to an object stays in order in one partition,
/// as long as one task publishes it: [`Publisher::publish_all`] keeps the order of its stream.
#[derive(Clone)]
pub struct Publisher {
    producer: Producer,
    in_flight: Arc<Semaphore>,
}

/// Something that a producer could not turn into a notice.
#[derive(Debug)]
pub struct Rejection {
    /// Where it came from: the URI of a corpus, or the endpoint.
    pub origin: String,
    /// Its place there: the line number, or a hash of its bytes. With `origin` it is the same for
    /// the same rejected thing, so that tools count it once.
    pub position: i64,
    /// `notice` or `corpus`.
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
        Self::of_posted(reason.error_type(), chain(&reason), raw)
    }

    /// Of anything posted to the notice endpoint.
    pub fn of_posted(error_type: &'static str, message: String, raw: Vec<u8>) -> Self {
        let digest = Sha256::digest(&raw);
        let hash = digest
            .iter()
            .take(8)
            .fold(0i64, |hash, byte| hash << 8 | i64::from(*byte));
        let (origin, position) = ("POST /v1/notices".to_owned(), hash & i64::MAX);
        Self {
            origin,
            position,
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
            message: format!("line {line} of {uri}: {}", chain(&reason)),
            origin: uri,
            position: i64::try_from(line).unwrap_or(i64::MAX),
            stage: "corpus",
            error_type: reason.error_type(),
            raw,
        }
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl Publisher {
    /// Publishes through this producer.
    pub fn new(producer: Producer) -> Self {
        Self {
            producer,
            in_flight: Arc::new(Semaphore::new(MAX_IN_FLIGHT_KIB as usize)),
        }
    }

    /// The producer it publishes through.
    pub fn producer(&self) -> &Producer {
        &self.producer
    }

    /// Publishes a notice and waits until the brokers have it. With no `trace` it begins one.
    ///
    /// # Errors
    /// As [`Producer::send`]; the notice may then be published or not.
    pub async fn publish(
        &self,
        notice: &DocumentNotice,
        trace: Option<TraceParent>,
    ) -> Result<RecordPosition, ProduceError> {
        let content = notice.content.as_ref().map_or(0, Vec::len);
        let _in_flight = self.reserve(content + notice.uri.len()).await;
        let event = EventHeaders {
            id: format!("{:032x}", fastrand::u128(..)),
            source: format!("millrace/producers/{}", notice.source),
            type_: match notice.event {
                DocumentEvent::Created => "millrace.documents.created",
                DocumentEvent::Removed => "millrace.documents.removed",
            }
            .to_owned(),
            time_ms: Some(notice.event_time_ms),
            traceparent: trace.or_else(new_trace),
        };
        self.producer.send(&notice.uri, None, notice, &event).await
    }

    /// Publishes what a stream brings, many at a time, and gives each result in the stream's order.
    /// Notices of one object keep their order. Memory is bounded in records and bytes.
    pub fn publish_all<'a>(
        &'a self,
        noticed: impl Stream<Item = Noticed> + Send + 'a,
    ) -> impl Stream<Item = Result<Published, ProduceError>> + Send + 'a {
        // All sends are first polled by one task, in order, and a first poll enqueues: that is what
        // keeps the order. Spawning a task a send would lose it.
        noticed
            .map(move |noticed| self.publish_one(noticed))
            .buffered(MAX_IN_FLIGHT_RECORDS)
    }

    async fn publish_one(&self, noticed: Noticed) -> Result<Published, ProduceError> {
        match noticed {
            Noticed::Document(notice) => {
                Ok(Published::Document(self.publish(&notice, None).await?))
            }
            Noticed::Rejected(rejection) => Ok(Published::Rejected(self.reject(&rejection).await?)),
        }
    }

    /// Publishes what could not become a notice to `documents.dlq`, and waits until the brokers
    /// have it. The record carries the headers that the dead letters of consumers carry; its origin
    /// is [`Rejection::origin`] and [`Rejection::position`].
    ///
    /// # Errors
    /// As [`Producer::send_raw`].
    pub async fn reject(&self, rejection: &Rejection) -> Result<RecordPosition, ProduceError> {
        let raw = &rejection.raw[..rejection.raw.len().min(MAX_REJECTED_BYTES)];
        let _in_flight = self.reserve(raw.len()).await;
        let message =
            &rejection.message[..rejection.message.floor_char_boundary(MAX_MESSAGE_BYTES)];
        let now = crate::now_ms().to_string();
        let position = rejection.position.to_string();
        let headers = [
            ("__connect.errors.topic", rejection.origin.as_str()),
            ("__connect.errors.partition", "0"),
            ("__connect.errors.offset", &position),
            ("__connect.errors.stage", rejection.stage),
            (
                "__connect.errors.exception.class.name",
                rejection.error_type,
            ),
            ("__connect.errors.exception.message", message),
            ("dlq.error.type", rejection.error_type),
            ("dlq.attempts", "1"),
            ("dlq.first_failed_at", &now),
            ("dlq.replay_count", "0"),
            ("dlq.pipeline", "producers"),
            ("dlq.version", env!("CARGO_PKG_VERSION")),
        ];
        let headers = headers.into_iter().map(|(name, value)| {
            (
                name.to_owned(),
                Some(Bytes::copy_from_slice(value.as_bytes())),
            )
        });
        let record = RawRecord {
            topic: self.producer.config().topic(topics::DOCUMENTS_DLQ),
            key: None,
            value: Some(Bytes::copy_from_slice(raw)),
            headers: headers.collect(),
            timestamp_ms: None,
            partition_key: None,
        };
        self.producer.send_raw(record).await
    }

    async fn reserve(&self, bytes: usize) -> Option<tokio::sync::SemaphorePermit<'_>> {
        let kib = u32::try_from(bytes.div_ceil(1024) + 1).unwrap_or(u32::MAX);
        // The semaphore is never closed; without a permit there would only be no bound.
        self.in_flight
            .acquire_many(kib.min(MAX_IN_FLIGHT_KIB))
            .await
            .ok()
    }
}

/// What a producer found.
#[derive(Debug)]
pub enum Noticed {
    /// Something for `documents`.
    Document(Box<DocumentNotice>),
    /// Something for `documents.dlq`.
    Rejected(Rejection),
}

/// Where it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// To `documents`.
    Document(RecordPosition),
    /// To `documents.dlq`.
    Rejected(RecordPosition),
}

fn new_trace() -> Option<TraceParent> {
    let trace_id = fastrand::u128(1..).to_be_bytes();
    TraceParent::new(trace_id, fastrand::u64(1..).to_be_bytes(), true).ok()
}
