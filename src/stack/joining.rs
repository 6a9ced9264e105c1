//! The joiner and what it stands on.

use std::sync::Arc;

use millrace_joiner::{Joiner, JoinerDeps, JoinerHandle};
use millrace_kafka::{HttpSchemaRegistry, KafkaConfig, Producer};
use millrace_state::StateStore;
use millrace_telemetry::Health;
use tokio_util::sync::CancellationToken;

use super::deadline::Deadline;
use super::readiness;
use crate::config::Config;

/// The running joiner.
pub struct Joining {
    /// What it has done, and what it knows of items.
    pub joiner: Arc<JoinerHandle>,
    producer: Producer,
}

impl Joining {
    /// Joins the groups and begins to work on `state`. `model_version` names the model that
    /// embeds.
    ///
    /// # Errors
    /// Settings that can't work, topics that are not partitioned alike, a state that can't be used.
    pub async fn start(
        config: &Config,
        kafka: &KafkaConfig,
        state: Arc<dyn StateStore>,
        model_version: &str,
        health: &Health,
        failed: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let producer = Producer::connect(kafka)?;
        let registry = HttpSchemaRegistry::from_config(kafka)?;
        let mut joiner = config.joiner.clone();
        // Vectors of feedback are compared with those of the index, so they are of its model.
        joiner.model_version = Some(model_version.to_owned());
        let joiner = Joiner::start(JoinerDeps {
            kafka: kafka.clone(),
            producer: producer.clone(),
            registry: registry.map(|registry| Arc::new(registry) as _),
            state,
            config: joiner,
        })
        .await?;
        for (part, consumer) in [
            ("rekey", joiner.rekey_consumer().health()),
            ("joiner", joiner.join_health()),
        ] {
            readiness::follow_consumer(health.part(part), consumer, failed.clone());
        }
        readiness::follow_stateful(joiner.state(), failed.clone());
        Ok(Self {
            joiner: Arc::new(joiner),
            producer,
        })
    }

    /// Finishes what has begun, then leaves the groups.
    pub async fn stop(self, deadline: Deadline) {
        let drained = self.joiner.shutdown(deadline.left_for_handlers());
        deadline.wait_for("the joiner", drained).await;
        if let Err(error) = self.producer.flush(deadline.left()).await {
            tracing::warn!(%error, "not all feedback was acknowledged; its behavior comes again");
        }
    }
}
