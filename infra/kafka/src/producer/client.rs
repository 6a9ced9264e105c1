//! librdkafka's producer, and the thread that takes its acknowledgements.
//!
//! rdkafka's `FutureProducer` does the same by asking for them with a deadline, and spins for the last
//! millisecond before each (0.39, `BaseProducer::poll`): 1 % of a core a producer, busy or not. This
//! thread sleeps until librdkafka has something to tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer as _, ProducerContext};
use tokio::sync::oneshot;

use super::wakeups::EventQueue;

/// Partition and offset of a record that the brokers have acknowledged, or why they have not.
pub(super) type Delivered = Result<(i32, i64), KafkaError>;

/// Gives each acknowledgement to who waits for it.
pub(super) struct Acknowledgements;

impl ClientContext for Acknowledgements {}

impl ProducerContext for Acknowledgements {
    type DeliveryOpaque = Box<oneshot::Sender<Delivered>>;

    fn delivery(&self, result: &DeliveryResult<'_>, waiting: Self::DeliveryOpaque) {
        let delivered = match result {
            Ok(record) => Ok((record.partition(), record.offset())),
            Err((error, _)) => Err(error.clone()),
        };
        // Nobody waits any more where the future of a send was dropped.
        let _ = waiting.send(delivered);
    }
}

/// librdkafka's own.
pub(super) type Native = BaseProducer<Acknowledgements>;

/// A producer whose acknowledgements arrive while it exists.
pub(super) struct Client {
    native: Arc<Native>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    /// With these settings of librdkafka's. It connects in the background.
    pub fn create(config: &ClientConfig) -> Result<Self, KafkaError> {
        let native: Native = config.create_with_context(Acknowledgements)?;
        let (native, stopping) = (Arc::new(native), Arc::new(AtomicBool::new(false)));
        let (producer, stop) = (Arc::clone(&native), Arc::clone(&stopping));
        let thread = thread::Builder::new()
            .name("acknowledgements".to_owned())
            .spawn(move || take_acknowledgements(&producer, &stop))
            .map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        Ok(Self {
            native,
            stopping,
            thread: Some(thread),
        })
    }

    pub fn native(&self) -> &Arc<Native> {
        &self.native
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It has nothing to return, and where it panicked that was told.
            let _ = thread.join();
        }
    }
}

fn take_acknowledgements(producer: &Native, stopping: &AtomicBool) {
    let events = EventQueue::of(producer.client(), thread::current());
    while !stopping.load(Ordering::Relaxed) {
        while !events.is_empty() {
            // One event, which may be of many records, and no waiting.
            producer.poll(Duration::ZERO);
        }
        thread::park();
    }
}
