//! What a batch gives, on its topics: acknowledged by the brokers before the state is written.

use std::convert::Infallible;

use async_trait::async_trait;
use millrace_kafka::{Enqueued, ProduceError, Producer};
use millrace_retry::while_unavailable;

/// A record to publish.
#[async_trait]
pub trait Output: Send + Sync {
    /// Puts it into the producer's queue.
    ///
    /// # Errors
    /// As [`Producer::enqueue`].
    async fn enqueue(&self, producer: &Producer) -> Result<Enqueued, ProduceError>;
}

#[async_trait]
impl Output for Infallible {
    async fn enqueue(&self, _: &Producer) -> Result<Enqueued, ProduceError> {
        match *self {}
    }
}

/// Publishes in this order and waits until all is acknowledged, however long the brokers are away.
///
/// # Errors
/// One of them can never be written, or the producer has failed for good.
pub async fn publish<O: Output>(producer: &Producer, outputs: &[O]) -> Result<(), ProduceError> {
    // One after the other into the queue, because of sends side by side nobody knows which goes
    // first: then together for the brokers.
    let mut enqueued = Vec::with_capacity(outputs.len());
    for output in outputs {
        let enqueue = || output.enqueue(producer);
        enqueued.push(while_unavailable("publishing", ProduceError::is_retryable, enqueue).await?);
    }
    for (output, enqueued) in outputs.iter().zip(enqueued) {
        match enqueued.acknowledged().await {
            Err(error) if error.is_retryable() => {
                let send = || async { output.enqueue(producer).await?.acknowledged().await };
                while_unavailable("publishing", ProduceError::is_retryable, send).await?
            }
            answer => answer?,
        };
    }
    Ok(())
}
