//! `behavior` to `behavior.by-item` and `behavior.by-request`: the same events keyed by item, and the
//! clicks among them also by the answer that they name, with their origins.
//!
//! Stateless: it resumes from the committed offset, and after a crash writes some records again. Who
//! joins them takes an event id once. Timestamps are kept, so that a replay sees the clocks of then.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures::FutureExt as _;
use millrace_kafka::{
    Consumer, ConsumerState, DeadLetterReason, Delivery, Enqueued, ProduceError, Producer,
};
use millrace_retry::{error_chain, while_unavailable};
use millrace_schemas::{
    BehaviorByItem, BehaviorByRequest, BehaviorEvent, BehaviorKind, EventHeaders, Origin,
    SchemaRegistry,
};
use millrace_stateful::{Refusals, refusal, value};

use crate::decode;
use crate::stats::Counters;

/// Records in flight at a time.
const MAX_BATCH: usize = 1_000;
const SOURCE: &str = "millrace/consumers/joiner";

pub(crate) struct Rekey {
    pub producer: Producer,
    pub refusals: Refusals,
    pub registry: Option<Arc<dyn SchemaRegistry>>,
    pub counters: Arc<Counters>,
    pub max_skew_ms: i64,
}

/// A record on its way.
enum Begun {
    Enqueued {
        delivery: Delivery,
        copies: Vec<(Copy, Enqueued)>,
    },
    Refused {
        delivery: Delivery,
        reason: DeadLetterReason,
    },
}

/// An event under another key.
enum Copy {
    ByItem(BehaviorByItem),
    ByRequest(BehaviorByRequest),
}

impl Copy {
    /// All of an event, which is on the record of `origin`.
    fn all_of(event: BehaviorEvent, origin: Origin) -> Vec<Self> {
        let mut copies = Vec::with_capacity(2);
        let names_answer = event.request_id.as_ref().is_some_and(|id| !id.is_empty());
        if event.kind == BehaviorKind::Click && names_answer {
            copies.push(Self::ByRequest(BehaviorByRequest {
                event: event.clone(),
                origin: origin.clone(),
            }));
        }
        copies.push(Self::ByItem(BehaviorByItem { event, origin }));
        copies
    }

    fn headers(event: &BehaviorEvent, type_: &str, delivery: &Delivery) -> EventHeaders {
        EventHeaders {
            id: event.event_id.clone(),
            source: SOURCE.to_owned(),
            type_: type_.to_owned(),
            time_ms: Some(event.event_time_ms),
            traceparent: delivery.event().and_then(|event| event.traceparent),
        }
    }

    async fn enqueue(
        &self,
        producer: &Producer,
        delivery: &Delivery,
    ) -> Result<Enqueued, ProduceError> {
        let timestamp_ms = delivery.timestamp_ms;
        match self {
            Self::ByItem(by_item) => {
                let event = &by_item.event;
                let headers = Self::headers(event, "millrace.behavior.by-item", delivery);
                producer
                    .enqueue_at(&event.item_id, None, by_item, &headers, timestamp_ms)
                    .await
            }
            Self::ByRequest(by_request) => {
                let event = &by_request.event;
                let headers = Self::headers(event, "millrace.behavior.by-request", delivery);
                let key = event.request_id.as_deref().unwrap_or_default();
                producer
                    .enqueue_at(key, None, by_request, &headers, timestamp_ms)
                    .await
            }
        }
    }
}

/// What the topic does not take: with its origin a record may be a few bytes too large for it.
fn refused(delivery: Delivery, error: ProduceError) -> Result<Begun, ProduceError> {
    if matches!(error, ProduceError::Fatal { .. }) {
        return Err(error);
    }
    let class = "millrace_kafka::ProduceError";
    let reason = refusal("publish_refused", class, error_chain(&error));
    Ok(Begun::Refused { delivery, reason })
}

/// Why re-keying cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RekeyError {
    #[error(transparent)]
    Produce(#[from] ProduceError),
    #[error("the consumer of `behavior` has failed: {reason}")]
    Consumer { reason: String },
}

impl Rekey {
    /// Works until the consumer ends.
    ///
    /// # Errors
    /// The producer or the consumer has failed for good.
    pub async fn run(&self, mut consumer: Consumer) -> Result<(), RekeyError> {
        while let Some(first) = consumer.recv().await {
            let mut batch = vec![first];
            while batch.len() < MAX_BATCH
                && let Some(Some(next)) = consumer.recv().now_or_never()
            {
                batch.push(next);
            }
            // One after the other into the queue, so that records of one partition keep their order;
            // then together for the brokers.
            let mut begun = Vec::with_capacity(batch.len());
            for delivery in batch {
                begun.push(self.begin(delivery).await?);
            }
            for rekeyed in begun {
                self.finish(rekeyed).await?;
            }
        }
        match &*consumer.health().borrow() {
            ConsumerState::Fatal { reason } => Err(RekeyError::Consumer {
                reason: reason.clone(),
            }),
            _ => Ok(()),
        }
    }

    async fn begin(&self, delivery: Delivery) -> Result<Begun, ProduceError> {
        let registry = self.registry.as_deref();
        let read = match value::<BehaviorEvent>(&delivery, registry).await {
            Ok(event) => decode::check_event(&event, &delivery, self.max_skew_ms).map(|()| event),
            Err(reason) => Err(reason),
        };
        let event = match read {
            Ok(event) => event,
            Err(reason) => return Ok(Begun::Refused { delivery, reason }),
        };
        let mut copies = Vec::new();
        for copy in Copy::all_of(event, delivery.origin()) {
            let enqueue = || copy.enqueue(&self.producer, &delivery);
            match while_unavailable("publishing", ProduceError::is_retryable, enqueue).await {
                Ok(enqueued) => copies.push((copy, enqueued)),
                Err(error) => return refused(delivery, error),
            }
        }
        Ok(Begun::Enqueued { delivery, copies })
    }

    /// Waits until the brokers have all copies; fails with the first that they will never take.
    async fn acknowledged(
        &self,
        delivery: &Delivery,
        copies: Vec<(Copy, Enqueued)>,
    ) -> Result<(), ProduceError> {
        for (copy, enqueued) in copies {
            match enqueued.acknowledged().await {
                Err(error) if error.is_retryable() => {
                    let send = || async {
                        let enqueued = copy.enqueue(&self.producer, delivery).await?;
                        enqueued.acknowledged().await
                    };
                    while_unavailable("publishing", ProduceError::is_retryable, send).await?;
                }
                answer => {
                    answer?;
                }
            }
        }
        Ok(())
    }

    async fn finish(&self, begun: Begun) -> Result<(), ProduceError> {
        let ended = match begun {
            Begun::Enqueued { delivery, copies } => {
                match self.acknowledged(&delivery, copies).await {
                    Ok(()) => {
                        self.counters.rekeyed.fetch_add(1, Relaxed);
                        delivery.ack();
                        return Ok(());
                    }
                    Err(error) => refused(delivery, error)?,
                }
            }
            refused @ Begun::Refused { .. } => refused,
        };
        if let Begun::Refused { delivery, reason } = ended {
            self.refusals.refuse(&delivery, &reason).await?;
            delivery.ack();
        }
        Ok(())
    }
}
