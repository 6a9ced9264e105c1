//! Every answer on the topic `impressions`, without an answer waiting for it.
//!
//! Impressions go through a bounded queue to a task that hands them to the producer and looks after
//! their acknowledgements. Where the queue is full, because brokers are away for long, an impression is
//! dropped and counted: it costs training data, and waiting would cost the answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use millrace_kafka::{Enqueued, ProduceError, Producer};
use millrace_schemas::{EventHeaders, Impression, TraceParent};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// CloudEvents source and type of impressions.
const SOURCE: &str = "millrace/consumers/recommender";
const TYPE: &str = "millrace.impressions.served";
/// How long a full producer or brokers that are away are waited for before trying again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// What became of impressions since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ImpressionStats {
    /// Acknowledged by the brokers.
    pub published: u64,
    /// Dropped, because too many waited.
    pub dropped: u64,
    /// Refused by the brokers, or not acknowledged in time.
    pub failed: u64,
    /// Waiting for the brokers.
    pub waiting: u64,
}

#[derive(Debug, Default)]
struct Counters {
    published: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    waiting: AtomicU64,
}

type Waiting = (Box<Impression>, Option<TraceParent>);

/// Takes impressions.
pub(crate) struct Impressions {
    queue: mpsc::Sender<Waiting>,
    counters: Arc<Counters>,
}

impl Impressions {
    /// Begins to publish; ends once `stop` is cancelled and what waits is acknowledged.
    pub fn start(
        producer: Producer,
        queued: usize,
        stop: CancellationToken,
        tasks: &TaskTracker,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(queued);
        let counters = Arc::new(Counters::default());
        tasks.spawn(publish(
            producer,
            waiting,
            queued,
            Arc::clone(&counters),
            stop,
        ));
        Self { queue, counters }
    }

    /// Takes an impression, or counts it as dropped.
    pub fn tell(&self, impression: Impression, traceparent: Option<TraceParent>) {
        self.counters.waiting.fetch_add(1, Relaxed);
        if self
            .queue
            .try_send((Box::new(impression), traceparent))
            .is_err()
        {
            self.counters.waiting.fetch_sub(1, Relaxed);
            self.counters.dropped.fetch_add(1, Relaxed);
        }
    }

    pub fn stats(&self) -> ImpressionStats {
        ImpressionStats {
            published: self.counters.published.load(Relaxed),
            dropped: self.counters.dropped.load(Relaxed),
            failed: self.counters.failed.load(Relaxed),
            waiting: self.counters.waiting.load(Relaxed),
        }
    }
}

async fn publish(
    producer: Producer,
    mut waiting: mpsc::Receiver<Waiting>,
    most: usize,
    counters: Arc<Counters>,
    stop: CancellationToken,
) {
    let mut in_flight = FuturesUnordered::new();
    let done = |acknowledged: Result<_, ProduceError>| {
        counters.waiting.fetch_sub(1, Relaxed);
        match acknowledged {
            Ok(_) => counters.published.fetch_add(1, Relaxed),
            Err(error) => {
                tracing::warn!(%error, "an impression was not acknowledged");
                counters.failed.fetch_add(1, Relaxed)
            }
        };
    };
    let mut stopping = false;
    loop {
        tokio::select! {
            biased;
            Some(acknowledged) = in_flight.next() => done(acknowledged),
            next = waiting.recv(), if in_flight.len() < most => {
                let Some((impression, traceparent)) = next else {
                    break;
                };
                if let Some(enqueued) = enqueue(&producer, &impression, traceparent, &counters, &stop).await {
                    in_flight.push(enqueued.acknowledged());
                }
            }
            () = stop.cancelled(), if !stopping => {
                // What is in the queue is taken still; nothing new comes after a stop.
                waiting.close();
                stopping = true;
            }
        }
    }
    while let Some(acknowledged) = in_flight.next().await {
        done(acknowledged);
    }
}

/// Hands an impression to the producer; `None` where that can't be.
async fn enqueue(
    producer: &Producer,
    impression: &Impression,
    traceparent: Option<TraceParent>,
    counters: &Counters,
    stop: &CancellationToken,
) -> Option<Enqueued> {
    let headers = EventHeaders {
        id: impression.request_id.clone(),
        source: SOURCE.to_owned(),
        type_: TYPE.to_owned(),
        time_ms: Some(impression.served_at_ms),
        traceparent,
    };
    loop {
        let enqueued = producer
            .enqueue(&impression.request_id, None, impression, &headers)
            .await;
        match enqueued {
            Ok(enqueued) => return Some(enqueued),
            Err(error) if error.is_retryable() && !stop.is_cancelled() => {
                tracing::debug!(%error, "impressions wait for the brokers");
                tokio::time::sleep(RETRY_AFTER).await;
            }
            Err(error) => {
                tracing::warn!(%error, "an impression can't be published");
                counters.waiting.fetch_sub(1, Relaxed);
                counters.failed.fetch_add(1, Relaxed);
                return None;
            }
        }
    }
}
