//! The vectorizer and what it stands on.

use std::sync::Arc;

use millrace_index::{BulkSink, SearchIndex, SinkConfig};
use millrace_kafka::{
    Consumer, ConsumerConfig, ConsumerHandle, DeadLetters, HttpSchemaRegistry, KafkaConfig,
    Producer, topics,
};
use millrace_models::Encoder;
use millrace_objects::ObjectStores;
use millrace_telemetry::Health;
use millrace_vectorizer::{
    ExtractorCommand, Outsiders, Vectorizer, VectorizerDeps, VectorizerHandle,
};
use tokio_util::sync::CancellationToken;

use super::deadline::Deadline;
use super::{index, readiness};
use crate::config::Config;

/// The running vectorizer.
pub struct Pipeline {
    /// What it has done.
    pub vectorizer: Arc<VectorizerHandle>,
    /// Its group membership.
    pub consumer: ConsumerHandle,
    producer: Producer,
}

/// The group of the vectorizer. An index generation has its own, so that a new
/// one reads the documents topic from its start beside the old one.
pub fn vectorizer_group(kafka: &KafkaConfig, index: &str) -> String {
    format!(
        "{}vectorizer.{index}-{:06}",
        kafka.topic_prefix,
        index::GENERATION
    )
}

/// What the vectorizer shares with the API.
pub struct Shared<'a> {
    /// Where documents are written, and searched.
    pub index: &'a Arc<dyn SearchIndex>,
    /// Where they are read.
    pub objects: &'a Arc<ObjectStores>,
    /// What makes vectors, of queries too.
    pub encoder: &'a Arc<Encoder>,
}

impl Pipeline {
    /// Joins the group and begins to work.
    ///
    /// # Errors
    /// Settings that can't work.
    pub async fn start(
        config: &Config,
        kafka: &KafkaConfig,
        shared: Shared<'_>,
        outsiders: Outsiders,
        health: &Health,
        failed: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let Shared {
            index,
            objects,
            encoder,
        } = shared;
        let producer = Producer::connect(kafka)?;
        let sink = BulkSink::start(Arc::clone(index), SinkConfig::default());
        let group = ConsumerConfig::new(
            vectorizer_group(&config.kafka, &config.index.name),
            &[topics::DOCUMENTS],
        );
        let consumer = Consumer::start(kafka, &group)?;
        let handle = consumer.handle();
        readiness::follow_consumer(health.part("vectorizer"), handle.health(), failed.clone());
        readiness::follow_sink(health.part("index"), sink.state());
        let registry = HttpSchemaRegistry::from_config(kafka)?;
        let vectorizer = Vectorizer::start(VectorizerDeps {
            consumer,
            dead_letters: DeadLetters::new(producer.clone(), "vectorizer"),
            producer: producer.clone(),
            registry: registry.map(|registry| Arc::new(registry) as _),
            index: Arc::clone(index),
            index_spec: index::spec(config, encoder),
            sink,
            objects: ObjectStores::clone(objects),
            outsiders,
            encoder: Arc::clone(encoder),
            extractor: ExtractorCommand::this_program()?,
            config: config.vectorizer.clone(),
        })
        .await?;
        readiness::follow_vectorizer(vectorizer.state(), failed.clone());
        Ok(Self {
            vectorizer: Arc::new(vectorizer),
            consumer: handle,
            producer,
        })
    }

    /// Finishes what has begun, then leaves the group.
    pub async fn stop(self, deadline: Deadline) {
        let drained = self.vectorizer.shutdown(deadline.left_for_handlers());
        deadline.wait_for("the vectorizer", drained).await;
        if let Err(error) = self.producer.flush(deadline.left()).await {
            tracing::warn!(%error, "not all signals and outcomes were acknowledged; their documents come again");
        }
    }
}
