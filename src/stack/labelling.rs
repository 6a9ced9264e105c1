//! The labeler and what it stands on.

use std::sync::Arc;

use millrace_kafka::{HttpSchemaRegistry, KafkaConfig, Producer};
use millrace_labeler::{Labeler, LabelerDeps, LabelerHandle};
use millrace_telemetry::Health;
use tokio_util::sync::CancellationToken;

use super::deadline::Deadline;
use super::{readiness, states};
use crate::config::Config;

/// The running labeler.
pub struct Labelling {
    /// What it has done.
    pub labeler: Arc<LabelerHandle>,
    producer: Producer,
}

impl Labelling {
    /// Opens the state, joins the group and begins to work.
    ///
    /// # Errors
    /// Settings that can't work, topics that are not partitioned alike, a state that can't be opened.
    pub async fn start(
        config: &Config,
        kafka: &KafkaConfig,
        health: &Health,
        failed: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let producer = Producer::connect(kafka)?;
        let registry = HttpSchemaRegistry::from_config(kafka)?;
        let labeler = Labeler::start(LabelerDeps {
            kafka: kafka.clone(),
            producer: producer.clone(),
            registry: registry.map(|registry| Arc::new(registry) as _),
            state: states::open(config, "labeler").await?,
            config: config.labeler.clone(),
        })
        .await?;
        readiness::follow_consumer(health.part("labeler"), labeler.health(), failed.clone());
        readiness::follow_stateful(labeler.state(), failed.clone());
        Ok(Self {
            labeler: Arc::new(labeler),
            producer,
        })
    }

    /// Finishes what has begun, then leaves the group.
    pub async fn stop(self, deadline: Deadline) {
        let drained = self.labeler.shutdown(deadline.left_for_handlers());
        deadline.wait_for("the labeler", drained).await;
        if let Err(error) = self.producer.flush(deadline.left()).await {
            tracing::warn!(%error, "not all training examples were acknowledged; they come again");
        }
    }
}
