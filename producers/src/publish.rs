//! Publishing: notices to `documents`, users to `users`, and what was not understood to a dead-letter topic.

use std::sync::Arc;

use futures::stream::{Stream, StreamExt};
use millrace_kafka::{Enqueued, ProduceError, Producer, RecordPosition};
use millrace_schemas::{DocumentEvent, DocumentNotice, EventHeaders, TraceParent, User};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::rejection::Rejection;

/// Content and names that may be unacknowledged at one time.
const MAX_IN_FLIGHT_KIB: u32 = 32 << 10;
/// Records of one stream that may be unacknowledged at one time.
const MAX_IN_FLIGHT_RECORDS: usize = 1024;

/// Publishes notices. Cheap to clone; all clones share one bound on memory.
///
/// The key is the object's URI, so all that happens to an object stays in order in one partition,
/// as long as one stream publishes it: [`Publisher::publish_all`] keeps the order of its stream.
#[derive(Clone)]
pub struct Publisher {
    producer: Producer,
    in_flight: Arc<Semaphore>,
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
        self.enqueue(notice, trace).await?.acknowledged().await
    }

    /// Publishes what could not be understood to its dead-letter topic, and waits until the brokers
    /// have it.
    ///
    /// # Errors
    /// As [`Producer::send_raw`].
    pub async fn reject(&self, rejection: &Rejection) -> Result<RecordPosition, ProduceError> {
        self.enqueue_rejection(rejection)
            .await?
            .acknowledged()
            .await
    }

    /// Publishes what a stream brings, many at a time, and gives each result in the stream's order.
    /// Notices of one object keep their order. Memory is bounded in records and bytes.
    pub fn publish_all<'a>(
        &'a self,
        noticed: impl Stream<Item = Noticed> + Send + 'a,
    ) -> impl Stream<Item = Result<Published, ProduceError>> + Send + 'a {
        let enqueued = noticed.then(move |noticed| async move {
            match noticed {
                Noticed::Document(notice) => {
                    let sent = self.enqueue(&notice, None).await?;
                    Ok((sent, Published::Document as fn(_) -> _))
                }
                Noticed::Rejected(rejection) => {
                    let sent = self.enqueue_rejection(&rejection).await?;
                    Ok((sent, Published::Rejected as fn(_) -> _))
                }
            }
        });
        acknowledged(enqueued)
            .map(|published| published.map(|(position, published)| published(position)))
    }

    /// Puts a notice into the producer's queue, behind all that were put there before.
    pub(crate) async fn enqueue(
        &self,
        notice: &DocumentNotice,
        trace: Option<TraceParent>,
    ) -> Result<InFlight<'_>, ProduceError> {
        let content = notice.content.as_ref().map_or(0, Vec::len);
        let reserved = self.reserve(content + notice.uri.len()).await;
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
        let enqueued = self.producer.enqueue(&notice.uri, None, notice, &event);
        Ok(InFlight {
            enqueued: enqueued.await?,
            _reserved: reserved,
        })
    }

    /// Puts what is told of a user into the producer's queue.
    pub(crate) async fn enqueue_user(
        &self,
        user: &User,
        trace: Option<TraceParent>,
    ) -> Result<InFlight<'_>, ProduceError> {
        let fields = user.fields.iter();
        let bytes = fields.map(|(name, text)| name.len() + text.len()).sum();
        let reserved = self.reserve(bytes).await;
        let event = EventHeaders {
            id: format!("{:032x}", fastrand::u128(..)),
            source: format!("millrace/producers/{}", user.source),
            type_: match user.deleted {
                false => "millrace.users.updated",
                true => "millrace.users.deleted",
            }
            .to_owned(),
            time_ms: Some(user.updated_at_ms),
            traceparent: trace.or_else(new_trace),
        };
        let enqueued = self.producer.enqueue(&user.user_id, None, user, &event);
        Ok(InFlight {
            enqueued: enqueued.await?,
            _reserved: reserved,
        })
    }

    /// Puts a rejection into the producer's queue.
    pub(crate) async fn enqueue_rejection(
        &self,
        rejection: &Rejection,
    ) -> Result<InFlight<'_>, ProduceError> {
        let reserved = self.reserve(rejection.raw.len()).await;
        let topic = self.producer.config().topic(rejection.topic);
        let enqueued = self.producer.enqueue_raw(rejection.record(topic));
        Ok(InFlight {
            enqueued: enqueued.await?,
            _reserved: reserved,
        })
    }

    pub(crate) async fn reserve(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let kib = u32::try_from(bytes.div_ceil(1024) + 1).unwrap_or(u32::MAX);
        // The semaphore is never closed; without a permit there would only be no bound.
        self.in_flight
            .acquire_many(kib.min(MAX_IN_FLIGHT_KIB))
            .await
            .ok()
    }
}

/// A record on its way, and the room that it takes.
pub(crate) struct InFlight<'a> {
    pub enqueued: Enqueued,
    pub _reserved: Option<SemaphorePermit<'a>>,
}

impl InFlight<'_> {
    pub(crate) async fn acknowledged(self) -> Result<RecordPosition, ProduceError> {
        self.enqueued.acknowledged().await
    }
}

/// Waits for the acknowledgements of many records at a time, and gives them in the stream's order.
///
/// Putting records into the queue is the stream's own work, one after the other: that alone keeps
/// their order. Whole sends side by side do not, although a first poll would mostly enqueue: a
/// task's cooperative budget may end in the middle of them, and then the later ones go first.
pub(crate) fn acknowledged<'a, T: Send + 'a>(
    enqueued: impl Stream<Item = Result<(InFlight<'a>, T), ProduceError>> + Send + 'a,
) -> impl Stream<Item = Result<(RecordPosition, T), ProduceError>> + Send + 'a {
    enqueued
        .map(|enqueued| async move {
            let (in_flight, what) = enqueued?;
            Ok((in_flight.acknowledged().await?, what))
        })
        .buffered(MAX_IN_FLIGHT_RECORDS)
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

pub(crate) fn new_trace() -> Option<TraceParent> {
    let trace_id = fastrand::u128(1..).to_be_bytes();
    TraceParent::new(trace_id, fastrand::u64(1..).to_be_bytes(), true).ok()
}
