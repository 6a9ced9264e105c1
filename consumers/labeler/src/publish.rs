//! Training examples, as records of their topic.

use async_trait::async_trait;
use millrace_kafka::{Enqueued, ProduceError, Producer};
use millrace_schemas::{EventHeaders, TrainingExample};
use millrace_stateful::Output;

/// CloudEvents source and type of examples.
const SOURCE: &str = "millrace/consumers/labeler";
const TYPE: &str = "millrace.training.labelled";

pub(crate) struct Example(pub TrainingExample);

#[async_trait]
impl Output for Example {
    async fn enqueue(&self, producer: &Producer) -> Result<Enqueued, ProduceError> {
        let Self(example) = self;
        let headers = EventHeaders {
            id: format!("{}@{}", example.request_id, example.revision),
            source: SOURCE.to_owned(),
            type_: TYPE.to_owned(),
            time_ms: Some(example.served_at_ms),
            traceparent: None,
        };
        producer
            .enqueue(&example.request_id, None, example, &headers)
            .await
    }
}
