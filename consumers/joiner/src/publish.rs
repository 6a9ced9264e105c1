//! What the join gives, as records of its topics.

use async_trait::async_trait;
use millrace_kafka::{Enqueued, ProduceError, Producer};
use millrace_schemas::EventHeaders;

use crate::batch::Output;

/// CloudEvents source of everything that is published here.
const SOURCE: &str = "millrace/consumers/joiner";

#[async_trait]
impl millrace_stateful::Output for Output {
    async fn enqueue(&self, producer: &Producer) -> Result<Enqueued, ProduceError> {
        match self {
            Self::Feedback(feedback, trace) => {
                let type_ = "millrace.feedback.joined";
                let event = headers(&feedback.origin, type_, trace.as_deref());
                let key = &feedback.event.user_id;
                producer.enqueue(key, None, &**feedback, &event).await
            }
            Self::Stats(stats) => {
                let event = headers(&stats.origin, "millrace.item-stats.updated", None);
                producer
                    .enqueue(&stats.item_id, None, &**stats, &event)
                    .await
            }
            Self::Unmatched(unmatched, trace) => {
                let type_ = "millrace.behavior.unmatched";
                let event = headers(&unmatched.origin, type_, trace.as_deref());
                let key = &unmatched.event.item_id;
                producer.enqueue(key, None, &**unmatched, &event).await
            }
        }
    }
}

fn headers(origin: &millrace_schemas::Origin, type_: &str, trace: Option<&str>) -> EventHeaders {
    EventHeaders {
        id: origin.to_string(),
        source: SOURCE.to_owned(),
        type_: type_.to_owned(),
        // What it tells of happened at the event's time, which the value has.
        time_ms: None,
        traceparent: trace.and_then(|trace| trace.parse().ok()),
    }
}
