//! `POST /v1/events`: behavior over HTTP.
//!
//! A body is one JSON object, an array of them, or one a line; plain or gzip. The answer is 202 only
//! after the brokers have acknowledged every event and every rejected row, so a sender that repeats
//! until it reads 202 loses nothing; by their ids, events that arrive twice count once.
//!
//! | status | when | the sender should |
//! |---|---|---|
//! | 202 | all is acknowledged; rows that were rejected are listed with their reasons | forget it |
//! | 400 | no row could be used (all are dead-lettered), an empty body, broken gzip | correct it |
//! | 401 | the bearer token is missing or wrong | correct it |
//! | 413 | more than a limit: bytes as sent, bytes unpacked, events | send less at a time |
//! | 415 | a content encoding other than gzip | send it plain |
//! | 429 | as much is in hand as may be; `Retry-After` | repeat the same, a little later |
//! | 503 | the brokers did not acknowledge; `Retry-After` | repeat the same |
//!
//! Room is asked for before a body is read, by its `Content-Length`: memory stays bounded however
//! many send at once.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use futures::stream::{self, StreamExt};
use millrace_kafka::topics;
use millrace_objects::Secret;
use millrace_retry::error_chain;
use millrace_schemas::TraceParent;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::stats::Counters;
pub use self::stats::{CollectorStats, STATUSES};
use super::publish::size_bytes;
use super::{BehaviorConfigError, BehaviorRow, PublishedRow, RowError, RowReader, Told};
use crate::body::{self, Encoding};
use crate::http::EntryProblem;
use crate::http::request::{Refusal, acknowledged_within, authorise, traceparent, unavailable};
use crate::publish::Publisher;
use crate::rejection::{Rejection, position_of};

mod stats;

/// Where rejected rows of this endpoint come from.
const ORIGIN: &str = "POST /v1/events";
/// Records that may wait in the producer's queue before senders are told to wait: half of what
/// librdkafka holds.
const MAX_QUEUED_RECORDS: usize = 50_000;
/// Errors told in one answer; the count covers all, and all are dead letters.
const MAX_ERRORS: usize = 1000;

/// How the endpoint behaves.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CollectorConfig {
    /// The largest body as it is sent, in bytes; default 2 MiB.
    pub max_body_bytes: usize,
    /// The largest body once unpacked, in bytes; default 8 MiB. Its events may have twice that: a
    /// ranking's context is repeated in each of them.
    pub max_unpacked_bytes: usize,
    /// The most events of one request; default 10,000. A ranking is one for each of its items.
    pub max_events: usize,
    /// The most that all requests may have in hand, in bytes of their unpacked bodies; default
    /// 64 MiB, and at least `max_unpacked_bytes`. Beyond it senders are told to wait.
    pub max_in_flight_bytes: usize,
    /// How long the brokers may take before 503, in milliseconds; default 10,000.
    pub acknowledgement_timeout_ms: u64,
}

impl CollectorConfig {
    /// A body that is larger than all room could never be taken.
    pub(super) fn validate(&self) -> Result<(), BehaviorConfigError> {
        let largest = self.max_body_bytes.max(self.max_unpacked_bytes);
        if self.max_in_flight_bytes < largest {
            return Err(BehaviorConfigError::NoRoom {
                in_flight_bytes: self.max_in_flight_bytes,
                largest_bytes: largest,
            });
        }
        Ok(())
    }
}

impl Default for CollectorConfig {
    fn default() -> Self {
        Self {
            max_body_bytes: 2 << 20,
            max_unpacked_bytes: 8 << 20,
            max_events: 10_000,
            max_in_flight_bytes: 64 << 20,
            acknowledgement_timeout_ms: 10_000,
        }
    }
}

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsAnswer {
    /// Events published to `behavior`.
    pub accepted: usize,
    /// Rows of no concern here: metadata of items and users, queries.
    pub passed_over: usize,
    /// Rows dead-lettered.
    pub rejected: usize,
    /// Why, for the first thousand of them.
    pub errors: Vec<EntryProblem>,
}

/// The endpoint. Cheap to clone.
#[derive(Clone)]
pub struct Collector {
    inner: Arc<Inner>,
}

struct Inner {
    publisher: Publisher,
    reader: RowReader,
    token: Option<Secret>,
    config: CollectorConfig,
    room: Arc<Semaphore>,
    counters: Counters,
}

impl Collector {
    /// An endpoint that publishes through `publisher`. Where there is a `token`, senders must show
    /// it as `Authorization: Bearer …`.
    pub fn new(
        publisher: Publisher,
        reader: RowReader,
        token: Option<Secret>,
        config: CollectorConfig,
    ) -> Self {
        let room = Semaphore::new(kib(config.max_in_flight_bytes) as usize);
        Self {
            inner: Arc::new(Inner {
                publisher,
                reader,
                token,
                config,
                room: Arc::new(room),
                counters: Counters::default(),
            }),
        }
    }

    /// Its route.
    pub fn routes(&self) -> Router {
        let count = |State(collector): State<Self>, response: Response| async move {
            collector.inner.counters.count_status(response.status());
            response
        };
        Router::new()
            .route("/v1/events", post(events))
            .layer(middleware::map_response_with_state(self.clone(), count))
            .with_state(self.clone())
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> CollectorStats {
        let config = kib(self.inner.config.max_in_flight_bytes) as usize;
        let taken = config.saturating_sub(self.inner.room.available_permits());
        self.inner.counters.snapshot((taken as u64) << 10)
    }
}

fn declared_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// At least one, so that empty bodies are bounded in number too.
fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024).max(1)).unwrap_or(u32::MAX)
}

async fn events(
    State(collector): State<Collector>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    authorise(collector.inner.token.as_ref(), &headers)?;
    let config = &collector.inner.config;
    let limits = (config.max_body_bytes, config.max_unpacked_bytes);
    let body = collector.receive(&headers, body, limits).await?;
    let reading = Arc::clone(&collector.inner);
    let bytes = body.bytes.clone();
    let request = off_thread(move || reading.read(&bytes)).await?;
    let answer = collector.publish(request, traceparent(&headers)).await?;
    Ok(respond(answer))
}

fn respond(answer: EventsAnswer) -> Response {
    if !answer.is_without_event() {
        return (StatusCode::ACCEPTED, Json(answer)).into_response();
    }
    let body = json!({
        "error_type": "no_valid_event",
        "message": format!(
            "none of the {} rows is an event; all are kept in {}",
            answer.rejected,
            topics::BEHAVIOR_DLQ
        ),
        "errors": answer.errors,
    });
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

/// A body, unpacked, and the room that it takes.
pub(crate) struct Received {
    pub bytes: Bytes,
    _reserved: OwnedSemaphorePermit,
    _more: Option<OwnedSemaphorePermit>,
}

impl Collector {
    /// Whom senders of behavior must show.
    pub(crate) fn token(&self) -> Option<&Secret> {
        self.inner.token.as_ref()
    }

    /// Reads rows of all dialects.
    pub(crate) fn reader(&self) -> &RowReader {
        &self.inner.reader
    }

    /// Publishes what is not behavior too.
    pub(crate) fn publisher(&self) -> &Publisher {
        &self.inner.publisher
    }

    /// How long the brokers may take.
    pub(crate) fn acknowledgement_timeout(&self) -> Duration {
        Duration::from_millis(self.inner.config.acknowledgement_timeout_ms)
    }

    /// Takes a body in, of at most so many bytes as sent and unpacked. Room is asked for first.
    pub(crate) async fn receive(
        &self,
        headers: &HeaderMap,
        body: Body,
        (limit_bytes, limit_unpacked_bytes): (usize, usize),
    ) -> Result<Received, Refusal> {
        let collector = &self.inner;
        let encoding = Encoding::of(headers).map_err(Refusal::Unread)?;
        // A body that does not tell its length may have as much as any.
        let bytes = declared_length(headers).map_or(limit_bytes, |bytes| bytes.min(limit_bytes));
        let (reserved, reserved_kib) = match collector.admit(bytes) {
            Ok(reserved) => (reserved, kib(bytes)),
            Err(refusal) => {
                body::discard(body).await;
                return Err(refusal);
            }
        };
        let bytes = body::receive(body, limit_bytes)
            .await
            .map_err(Refusal::Unread)?;
        let unpack = move || encoding.decode(bytes, limit_unpacked_bytes);
        let bytes = off_thread(move || unpack().map_err(Refusal::Unread)).await?;
        let more = match kib(bytes.len()).checked_sub(reserved_kib) {
            None | Some(0) => None,
            Some(kib) => Some(collector.reserve(kib)?),
        };
        Ok(Received {
            bytes,
            _reserved: reserved,
            _more: more,
        })
    }

    /// Publishes what a request says, and waits until the brokers have it.
    pub(crate) async fn publish(
        &self,
        request: Request,
        trace: Option<TraceParent>,
    ) -> Result<EventsAnswer, Refusal> {
        let Inner {
            publisher,
            counters,
            ..
        } = &*self.inner;
        let published = async {
            let rows = stream::iter(request.rows);
            let mut published = std::pin::pin!(publisher.publish_behavior_all(rows, trace));
            while let Some(row) = published.next().await {
                match row.map_err(|error| unavailable(&error))? {
                    PublishedRow::Event(kind) => counters.count_event(kind),
                    PublishedRow::Rejected(error_type) => counters.count_rejected(error_type),
                }
            }
            Ok(())
        };
        acknowledged_within(self.acknowledgement_timeout(), published).await?;
        counters.count_passed_over(request.passed_over);
        Ok(EventsAnswer {
            accepted: request.events,
            passed_over: request.passed_over,
            rejected: request.rejected,
            errors: request.errors,
        })
    }
}

/// Runs what takes the processor for long away from the threads that serve.
pub(crate) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(Refusal::Unavailable {
            message: "the process is stopping".to_owned(),
        }),
    }
}

/// What a body says.
pub(crate) struct Request {
    /// Where its rejected rows come from.
    origin: &'static str,
    rows: Vec<BehaviorRow>,
    events: usize,
    /// Of the events.
    bytes: usize,
    passed_over: usize,
    rejected: usize,
    errors: Vec<EntryProblem>,
}

impl Inner {
    /// Room for a body of so many bytes.
    fn admit(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let queued = self.publisher.producer().in_flight();
        if queued > MAX_QUEUED_RECORDS {
            return Err(Refusal::Busy {
                message: format!("{queued} records wait for the brokers"),
            });
        }
        self.reserve(kib(bytes))
    }

    fn reserve(&self, kib: u32) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.room)
            .try_acquire_many_owned(kib)
            .map_err(|_| Refusal::Busy {
                message: format!(
                    "requests of {} bytes are in hand already",
                    self.config.max_in_flight_bytes
                ),
            })
    }

    fn read(&self, body: &[u8]) -> Result<Request, Refusal> {
        let (limit, limit_bytes) = (self.config.max_events, 2 * self.config.max_unpacked_bytes);
        let too_many = || Refusal::TooMany {
            message: format!(
                "the body makes more than {limit} events, or {limit_bytes} bytes of them; send \
                 fewer at a time"
            ),
        };
        let now_ms = crate::now_ms();
        let mut request = Request::of(ORIGIN);
        let rows = split(body, limit).ok_or_else(too_many)?;
        if rows.is_empty() && body.trim_ascii().is_empty() {
            return Err(Refusal::Body {
                error_type: "empty_body",
                message: "the body is empty; send an event, an array of events, or one a line"
                    .to_owned(),
            });
        }
        for (index, row) in rows.into_iter().enumerate() {
            request.read(&self.reader, index, row, now_ms);
            if request.events > limit || request.bytes > limit_bytes {
                return Err(too_many());
            }
        }
        Ok(request)
    }
}

impl EventsAnswer {
    /// Whether all that was sent was rejected.
    pub(crate) fn is_without_event(&self) -> bool {
        self.rejected > 0 && self.accepted == 0 && self.passed_over == 0
    }
}

impl Request {
    pub(crate) fn of(origin: &'static str) -> Self {
        Self {
            origin,
            rows: vec![],
            events: 0,
            bytes: 0,
            passed_over: 0,
            rejected: 0,
            errors: vec![],
        }
    }

    pub(crate) fn read(&mut self, reader: &RowReader, index: usize, row: &[u8], now_ms: i64) {
        match reader.read_json(row, now_ms) {
            Ok(Told::Events(events)) => {
                self.events += events.len();
                self.bytes += events.iter().map(size_bytes).sum::<usize>();
                let events = events.into_iter().map(Box::new);
                self.rows.extend(events.map(BehaviorRow::Event));
            }
            Ok(Told::PassedOver(_)) => self.passed_over += 1,
            Err(error) => self.reject(index, &error, row),
        }
    }

    fn reject(&mut self, index: usize, error: &RowError, row: &[u8]) {
        let (error_type, message) = (error.error_type(), error_chain(error));
        self.rejected += 1;
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(EntryProblem {
                index,
                error_type: error_type.to_owned(),
                message: message.clone(),
            });
        }
        self.rows.push(BehaviorRow::Rejected(Rejection {
            topic: topics::BEHAVIOR_DLQ,
            origin: self.origin.to_owned(),
            position: position_of(row),
            row: u64::try_from(index).ok(),
            stage: "behavior",
            error_type,
            message: format!("row {index} of a request: {message}"),
            raw: row.to_vec(),
        }));
    }
}

/// The rows of a body; `None` where there are more than `limit`.
pub(super) fn split(body: &[u8], limit: usize) -> Option<Vec<&[u8]>> {
    let body = body.trim_ascii();
    let whole: Result<Vec<&RawValue>, _> = match body.first() {
        Some(b'[') => serde_json::from_slice(body),
        Some(b'{') => serde_json::from_slice(body).map(|row: &RawValue| vec![row]),
        _ => Ok(vec![]),
    };
    let rows: Vec<&[u8]> = match whole {
        Ok(rows) if !rows.is_empty() || body == b"[]" => {
            rows.iter().map(|row| row.get().as_bytes()).collect()
        }
        // A broken array has no rows: it is one, and no event.
        Err(_) if body.starts_with(b"[") => vec![body],
        Ok(_) | Err(_) => body
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::trim_ascii)
            .filter(|row| !row.is_empty())
            .take(limit + 1)
            .collect(),
    };
    (rows.len() <= limit).then_some(rows)
}
