//! Publishing behavior, and what was none.

use futures::stream::{Stream, StreamExt};
use millrace_kafka::{ProduceError, RecordPosition};
use millrace_schemas::{BehaviorEvent, BehaviorKind, EventHeaders, TraceParent};

use crate::publish::{InFlight, Publisher, acknowledged, new_trace};
use crate::rejection::Rejection;

/// Something to publish.
#[derive(Debug)]
pub enum BehaviorRow {
    /// For `behavior`.
    Event(Box<BehaviorEvent>),
    /// For `behavior.dlq`.
    Rejected(Rejection),
}

/// What was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishedRow {
    /// An event of this kind.
    Event(BehaviorKind),
    /// A rejected row with this reason.
    Rejected(&'static str),
}

impl Publisher {
    /// Publishes an event under its user and waits until the brokers have it. With no `trace` it
    /// begins one.
    ///
    /// # Errors
    /// As [`millrace_kafka::Producer::send`]; the event may then be published or not.
    pub async fn publish_behavior(
        &self,
        event: &BehaviorEvent,
        trace: Option<TraceParent>,
    ) -> Result<RecordPosition, ProduceError> {
        self.enqueue_behavior(event, trace)
            .await?
            .acknowledged()
            .await
    }

    /// Publishes what a stream brings, many at a time, and gives each result in the stream's order.
    /// One user's events keep their order. Memory is bounded in records and bytes.
    pub fn publish_behavior_all<'a>(
        &'a self,
        rows: impl Stream<Item = BehaviorRow> + Send + 'a,
        trace: Option<TraceParent>,
    ) -> impl Stream<Item = Result<PublishedRow, ProduceError>> + Send + 'a {
        let enqueued = rows.then(move |row| async move {
            match row {
                BehaviorRow::Event(event) => {
                    let sent = self.enqueue_behavior(&event, trace).await?;
                    Ok((sent, PublishedRow::Event(event.kind)))
                }
                BehaviorRow::Rejected(rejection) => {
                    let sent = self.enqueue_rejection(&rejection).await?;
                    Ok((sent, PublishedRow::Rejected(rejection.error_type)))
                }
            }
        });
        acknowledged(enqueued).map(|published| published.map(|(_, row)| row))
    }

    async fn enqueue_behavior(
        &self,
        event: &BehaviorEvent,
        trace: Option<TraceParent>,
    ) -> Result<InFlight<'_>, ProduceError> {
        let reserved = self.reserve(size_bytes(event)).await;
        let headers = EventHeaders {
            id: event.event_id.clone(),
            source: format!("millrace/producers/behavior/{}", event.source),
            type_: format!("millrace.behavior.{}", event.kind),
            time_ms: Some(event.event_time_ms),
            traceparent: trace.or_else(new_trace),
        };
        let producer = self.producer();
        let enqueued = producer.enqueue(&event.user_id, None, event, &headers);
        Ok(InFlight {
            enqueued: enqueued.await?,
            _reserved: reserved,
        })
    }
}

/// What its texts take, roughly what it takes in memory.
pub(super) fn size_bytes(event: &BehaviorEvent) -> usize {
    let attributes = event.attributes.iter();
    let attributes: usize = attributes
        .map(|(name, value)| name.len() + value.len())
        .sum();
    let optional = [&event.request_id, &event.trace_info, &event.scene_id];
    let optional: usize = optional
        .iter()
        .filter_map(|text| text.as_ref())
        .map(String::len)
        .sum();
    event.event_id.len() + event.user_id.len() + event.item.len() + optional + attributes
}
