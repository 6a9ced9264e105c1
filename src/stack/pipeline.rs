//! The vectorizer and what it stands on.

use std::sync::Arc;

use millrace_index::{BulkSink, SinkConfig, SinkState};
use millrace_kafka::{
    Consumer, ConsumerConfig, ConsumerHandle, DeadLetters, HttpSchemaRegistry, KafkaConfig,
    Producer, topics,
};
use millrace_objects::ObjectStores;
use millrace_telemetry::Health;
use millrace_vectorizer::{
    ExtractorCommand, Outsiders, Tells, Vectorizer, VectorizerDeps, VectorizerHandle,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::deadline::Deadline;
use super::generations::OpenGeneration;
use super::readiness;
use crate::config::Config;

/// The running vectorizer.
pub struct Pipeline {
    /// What it has done.
    pub vectorizer: Arc<VectorizerHandle>,
    /// Its group membership.
    pub consumer: ConsumerHandle,
    sink: watch::Receiver<SinkState>,
    producer: Producer,
}

/// The group of the vectorizer of this index generation. Each has its own, so that a new one reads the
/// documents topic from its start beside the old one.
pub fn vectorizer_group(kafka: &KafkaConfig, index: &str) -> String {
    format!("{}vectorizer.{index}", kafka.topic_prefix)
}

/// Whether a group is that of a vectorizer, of any generation of the index `name`.
pub fn is_vectorizer_group(kafka: &KafkaConfig, name: &str, group: &str) -> bool {
    let generation = group.strip_prefix(&vectorizer_group(kafka, &format!("{name}-")));
    generation.is_some_and(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What the vectorizer works with.
pub struct Work<'a> {
    /// Where documents are written, and what makes their vectors.
    pub open: &'a OpenGeneration,
    /// Where they are read.
    pub objects: &'a Arc<ObjectStores>,
    /// What becomes of notices of objects that may not be read.
    pub outsiders: Outsiders,
    /// What is told of what it does.
    pub tells: watch::Receiver<Tells>,
}

impl Pipeline {
    /// Joins the group and begins to work.
    ///
    /// # Errors
    /// Settings that can't work.
    pub async fn start(
        config: &Config,
        kafka: &KafkaConfig,
        work: Work<'_>,
    ) -> anyhow::Result<Self> {
        let OpenGeneration {
            spec,
            index,
            encoder,
        } = work.open;
        let producer = Producer::connect(kafka)?;
        let sink = BulkSink::start(Arc::clone(index), SinkConfig::default());
        let group = ConsumerConfig::new(
            vectorizer_group(&config.kafka, &spec.index_name()),
            &[topics::DOCUMENTS],
        );
        let consumer = Consumer::start(kafka, &group)?;
        let handle = consumer.handle();
        let sink_state = sink.state();
        let registry = HttpSchemaRegistry::from_config(kafka)?;
        let vectorizer = Vectorizer::start(VectorizerDeps {
            consumer,
            dead_letters: DeadLetters::new(producer.clone(), "vectorizer"),
            producer: producer.clone(),
            registry: registry.map(|registry| Arc::new(registry) as _),
            index: Arc::clone(index),
            index_spec: spec.clone(),
            sink,
            objects: ObjectStores::clone(work.objects),
            outsiders: work.outsiders,
            tells: work.tells,
            encoder: Arc::clone(encoder),
            extractor: ExtractorCommand::this_program()?,
            config: config.vectorizer.clone(),
        })
        .await?;
        Ok(Self {
            vectorizer: Arc::new(vectorizer),
            consumer: handle,
            sink: sink_state,
            producer,
        })
    }

    /// Has the process's readiness be this one's, and its failure the process's, until the tasks are
    /// aborted.
    pub fn follow(&self, health: &Health, failed: &CancellationToken) -> Vec<JoinHandle<()>> {
        let consumer = self.consumer.health();
        vec![
            readiness::follow_consumer(health.part("vectorizer"), consumer, failed.clone()),
            readiness::follow_sink(health.part("index"), self.sink.clone()),
            readiness::follow_vectorizer(self.vectorizer.state(), failed.clone()),
        ]
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
