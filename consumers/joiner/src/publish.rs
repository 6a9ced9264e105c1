//! What the join gives, on its topics: acknowledged by the brokers before the state is written.

use millrace_kafka::{Enqueued, ProduceError, Producer};
use millrace_retry::while_unavailable;
use millrace_schemas::EventHeaders;

use crate::batch::Output;

/// CloudEvents source of everything that is published here.
const SOURCE: &str = "millrace/consumers/joiner";

/// Publishes in this order and waits until all is acknowledged, however long the brokers are away.
pub(crate) async fn publish(producer: &Producer, outputs: &[Output]) -> Result<(), ProduceError> {
    // One after the other into the queue, because of sends side by side nobody knows which goes
    // first: then together for the brokers.
    let mut enqueued = Vec::with_capacity(outputs.len());
    for output in outputs {
        let enqueue = || enqueue(producer, output);
        enqueued.push(while_unavailable("publishing", ProduceError::is_retryable, enqueue).await?);
    }
    for (output, enqueued) in outputs.iter().zip(enqueued) {
        match enqueued.acknowledged().await {
            Err(error) if error.is_retryable() => {
                let send = || async { enqueue(producer, output).await?.acknowledged().await };
                while_unavailable("publishing", ProduceError::is_retryable, send).await?
            }
            answer => answer?,
        };
    }
    Ok(())
}

async fn enqueue(producer: &Producer, output: &Output) -> Result<Enqueued, ProduceError> {
    match output {
        Output::Feedback(feedback, trace) => {
            let type_ = "millrace.feedback.joined";
            let event = headers(&feedback.origin, type_, trace.as_deref());
            let key = &feedback.event.user_id;
            producer.enqueue(key, None, &**feedback, &event).await
        }
        Output::Stats(stats) => {
            let event = headers(&stats.origin, "millrace.item-stats.updated", None);
            producer
                .enqueue(&stats.item_id, None, &**stats, &event)
                .await
        }
        Output::Unmatched(unmatched, trace) => {
            let type_ = "millrace.behavior.unmatched";
            let event = headers(&unmatched.origin, type_, trace.as_deref());
            let key = &unmatched.event.item_id;
            producer.enqueue(key, None, &**unmatched, &event).await
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
