//! What brings behavior in, `POST /v1/events`, and AIRec's tables.

use axum::Router;
use millrace_kafka::{KafkaConfig, Producer};
use millrace_objects::Secret;
use millrace_producers::Publisher;
use millrace_producers::airec::Tables;
use millrace_producers::behavior::{RowReader, collector};

use super::deadline::Deadline;
use crate::config::Config;

/// The running endpoint.
pub struct Collector {
    publisher: Publisher,
    endpoint: collector::Collector,
    tables: Tables,
}

impl Collector {
    /// An endpoint with a producer of its own: its bounds are then its own too.
    ///
    /// # Errors
    /// Settings that can't work.
    pub fn new(config: &Config, kafka: &KafkaConfig) -> anyhow::Result<Self> {
        let publisher = Publisher::new(Producer::connect(kafka)?);
        let endpoint = collector::Collector::new(
            publisher.clone(),
            RowReader::new(&config.behavior)?,
            config.api.events_token.clone().map(Secret::new),
            config.behavior.collector.clone(),
        );
        // Items are documents: whoever sends them may publish documents.
        let tables = Tables::new(
            endpoint.clone(),
            config.api.notices_token.clone().map(Secret::new),
            config.airec.clone(),
        );
        Ok(Self {
            publisher,
            endpoint,
            tables,
        })
    }

    /// `POST /v1/events`, and AIRec's tables.
    pub fn routes(&self) -> Router {
        self.endpoint.routes().merge(self.tables.routes())
    }

    /// What it counts.
    pub fn endpoint(&self) -> collector::Collector {
        self.endpoint.clone()
    }

    /// What AIRec's tables count.
    pub fn tables(&self) -> Tables {
        self.tables.clone()
    }

    /// Waits for what was sent already; no request is open any more.
    pub async fn stop(self, deadline: Deadline) {
        let producer = self.publisher.producer();
        if let Err(error) = producer.flush(deadline.left()).await {
            tracing::warn!(%error, "not all events were acknowledged; their senders were told");
        }
    }
}
