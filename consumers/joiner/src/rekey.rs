//! `behavior` to `behavior.by-item`: the same events keyed by item, with their origins.
//!
//! Stateless: it resumes from the committed offset, and after a crash writes some records again. The
//! join takes an event id once. Timestamps are kept, so that a replay sees the clocks of then.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures::FutureExt as _;
use millrace_kafka::{
    Consumer, ConsumerState, DeadLetterReason, Delivery, Enqueued, ProduceError, Producer,
};
use millrace_retry::{error_chain, while_unavailable};
use millrace_schemas::{BehaviorByItem, BehaviorEvent, EventHeaders, SchemaRegistry};
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
        by_item: Box<BehaviorByItem>,
        enqueued: Enqueued,
    },
    Refused {
        delivery: Delivery,
        reason: DeadLetterReason,
    },
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
        let by_item = BehaviorByItem {
            event,
            origin: delivery.origin(),
        };
        let enqueue = || self.enqueue(&delivery, &by_item);
        match while_unavailable("publishing", ProduceError::is_retryable, enqueue).await {
            Ok(enqueued) => Ok(Begun::Enqueued {
                delivery,
                by_item: Box::new(by_item),
                enqueued,
            }),
            Err(error) => refused(delivery, error),
        }
    }

    async fn enqueue(
        &self,
        delivery: &Delivery,
        by_item: &BehaviorByItem,
    ) -> Result<Enqueued, ProduceError> {
        let headers = EventHeaders {
            id: by_item.event.event_id.clone(),
            source: SOURCE.to_owned(),
            type_: "millrace.behavior.by-item".to_owned(),
            time_ms: Some(by_item.event.event_time_ms),
            traceparent: delivery.event().and_then(|event| event.traceparent),
        };
        let key = &by_item.event.item_id;
        self.producer
            .enqueue_at(key, None, by_item, &headers, delivery.timestamp_ms)
            .await
    }

    async fn finish(&self, begun: Begun) -> Result<(), ProduceError> {
        let ended = match begun {
            Begun::Enqueued {
                delivery,
                by_item,
                enqueued,
            } => {
                let answer = match enqueued.acknowledged().await {
                    Err(error) if error.is_retryable() => {
                        let send = || async {
                            let enqueued = self.enqueue(&delivery, &by_item).await?;
                            enqueued.acknowledged().await
                        };
                        while_unavailable("publishing", ProduceError::is_retryable, send).await
                    }
                    answer => answer,
                };
                match answer {
                    Ok(_) => {
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
