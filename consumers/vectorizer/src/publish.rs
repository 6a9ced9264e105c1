//! What the pipeline tells others: signals, outcomes, dead letters. Each is acknowledged by the
//! brokers before the notice is.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use millrace_kafka::{DeadLetters, ProduceError, Producer, Record};
use millrace_schemas::{DocumentOutcome, EventHeaders, Message, Signal, TraceParent};

use tokio::sync::watch;
use tracing::Instrument;

use crate::decode::now_ms;
use crate::failure::{Refusal, Stage};
use crate::stats::Counters;
use crate::vectorizer::Tells;
use millrace_retry::{OutOfPatience, Patience, error_chain};

/// CloudEvents source of everything that is published here.
const SOURCE: &str = "millrace/consumers/vectorizer";

/// Why something could not be published, ever.
#[derive(Debug)]
pub(crate) enum PublishError {
    /// This record is refused by the brokers.
    Refused(Refusal),
    /// The producer has failed for good: the process must restart.
    Fatal(String),
    /// The pipeline stops before the brokers came back.
    Stopping,
}

impl From<OutOfPatience> for PublishError {
    fn from(_: OutOfPatience) -> Self {
        Self::Stopping
    }
}

/// Publishes, waiting while the brokers are away.
#[derive(Clone)]
pub(crate) struct Publisher {
    producer: Producer,
    dead_letters: DeadLetters,
    tells: watch::Receiver<Tells>,
    counters: Arc<Counters>,
    patience: Patience,
}

impl Publisher {
    pub fn new(
        producer: Producer,
        dead_letters: DeadLetters,
        tells: watch::Receiver<Tells>,
        counters: Arc<Counters>,
        patience: Patience,
    ) -> Self {
        Self {
            producer,
            dead_letters,
            tells,
            counters,
            patience,
        }
    }

    pub async fn signal(&self, signal: &Signal, trace: TraceParent) -> Result<(), PublishError> {
        if *self.tells.borrow() == Tells::Nothing {
            return Ok(());
        }
        let type_ = if signal.deleted {
            "millrace.signals.removed"
        } else {
            "millrace.signals.updated"
        };
        let id = format!("{}/{}", signal.origin, signal.document_version);
        self.send(
            &signal.key(),
            Some(&signal.item_id),
            signal,
            event(id, type_, trace),
        )
        .instrument(tracing::info_span!("signal"))
        .await?;
        self.counters.signals.fetch_add(1, Relaxed);
        Ok(())
    }

    pub async fn outcome(
        &self,
        outcome: &DocumentOutcome,
        trace: TraceParent,
    ) -> Result<(), PublishError> {
        if *self.tells.borrow() != Tells::Everything {
            return Ok(());
        }
        let id = outcome.origin.to_string();
        self.send(
            &outcome.uri,
            None,
            outcome,
            event(id, "millrace.documents.outcome", trace),
        )
        .await
    }

    pub async fn dead_letter(
        &self,
        record: &Record,
        refusal: &Refusal,
    ) -> Result<(), PublishError> {
        if *self.tells.borrow() != Tells::Everything {
            self.counters.dead_lettered(refusal.stage);
            return Ok(());
        }
        let publishing = self
            .dead_letters
            .publish(record, refusal.stage.as_str(), &refusal.reason);
        match self.patience.attempt(publishing).await? {
            Ok(_) => {
                self.counters.dead_lettered(refusal.stage);
                Ok(())
            }
            Err(error) => Err(PublishError::Fatal(error_chain(&error))),
        }
    }

    async fn send<M: Message>(
        &self,
        key: &str,
        partition_key: Option<&str>,
        message: &M,
        event: EventHeaders,
    ) -> Result<(), PublishError> {
        let sending = self.patience.until_done("publishing", || async {
            match self
                .producer
                .send(key, partition_key, message, &event)
                .await
            {
                Ok(_) => Ok(Ok(())),
                Err(error) if error.is_retryable() => Err(error_chain(&error)),
                Err(error @ ProduceError::Fatal { .. }) => {
                    Ok(Err(PublishError::Fatal(error_chain(&error))))
                }
                Err(error) => Ok(Err(PublishError::Refused(Refusal::new(
                    Stage::Signal,
                    "publish_refused",
                    "millrace_kafka::ProduceError",
                    error_chain(&error),
                )))),
            }
        });
        sending.await?
    }
}

fn event(id: String, type_: &str, trace: TraceParent) -> EventHeaders {
    EventHeaders {
        id,
        source: SOURCE.to_owned(),
        type_: type_.to_owned(),
        time_ms: Some(now_ms()),
        traceparent: Some(trace),
    }
}
