//! How a vectorizer starts, how it is, and how it stops.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use millrace_index::{BulkSink, IndexError, IndexSpec, SearchIndex};
use millrace_kafka::{Consumer, ConsumerHandle, DeadLetters, Drained, Producer};
use millrace_models::Encoder;
use millrace_objects::ObjectStores;
use millrace_schemas::SchemaRegistry;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::config::{InvalidConfig, VectorizerConfig};
use crate::document::Stages;
use crate::embed::Embedder;
use crate::extract::{Extractor, ExtractorCommand};
use crate::index::DocumentWriter;
use crate::pipeline::{PERMIT_BYTES, Pipeline};
use crate::publish::Publisher;
use crate::stats::{Counters, VectorizerStats};
use millrace_retry::Patience;

/// What a vectorizer stands on.
pub struct VectorizerDeps {
    /// Of the topic `documents`.
    pub consumer: Consumer,
    /// For signals and outcomes.
    pub producer: Producer,
    /// For notices that can never pass.
    pub dead_letters: DeadLetters,
    /// For Confluent-framed notices, where a registry is configured.
    pub registry: Option<Arc<dyn SchemaRegistry>>,
    /// Where documents are written.
    pub index: Arc<dyn SearchIndex>,
    /// What the index must be; created, or compared with what is there, before anything is read.
    pub index_spec: IndexSpec,
    /// Above `index`.
    pub sink: BulkSink,
    /// Where documents are read.
    pub objects: ObjectStores,
    /// What makes vectors.
    pub encoder: Arc<Encoder>,
    /// What becomes of notices of objects that `objects` may not read.
    pub outsiders: Outsiders,
    /// What is published of what it does.
    pub tells: watch::Receiver<Tells>,
    /// How to start the process that reads hostile formats.
    pub extractor: ExtractorCommand,
    /// Settings.
    pub config: VectorizerConfig,
}

/// What a vectorizer tells others. One that builds an index generation beside the one that serves keeps
/// silent on notices: the other one tells what becomes of each, and what only this one can't read is
/// written from what the other has of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tells {
    /// Nothing: the other one has the same model. Signals of the documents' first versions would take
    /// the place of those of their last ones until this one has read as far.
    Nothing,
    /// Signals, which name their model.
    Signals,
    /// Signals, outcomes and dead letters.
    #[default]
    Everything,
}

/// What becomes of notices of objects outside the allow-list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outsiders {
    /// They are dead letters: nobody else will come who may read them.
    #[default]
    DeadLetter,
    /// They are not acknowledged and wait for a pipeline that may read them. What comes after them
    /// in their partition is done, and is delivered to that pipeline once more.
    Wait,
}

/// Why a vectorizer does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The index is not for this model, or cannot be opened. Nothing was written.
    #[error("the index cannot be used with this model")]
    Index(#[from] IndexError),
    /// What the caller expects of the index is not what the encoder makes.
    #[error(
        "the index is to hold {wanted_dimension} dimensions of model {wanted_fingerprint}, the encoder \
         makes {dimension} of {fingerprint}; start with the model that the index is for"
    )]
    ModelMismatch {
        /// Dimension of the spec.
        wanted_dimension: usize,
        /// Fingerprint of the spec.
        wanted_fingerprint: String,
        /// Dimension of the encoder.
        dimension: usize,
        /// Fingerprint of the encoder.
        fingerprint: String,
    },
    /// The operating system gives no thread.
    #[error("no thread for the encoder")]
    Thread(#[source] std::io::Error),
}

/// How a vectorizer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VectorizerState {
    /// It works, or waits for what comes back by itself.
    Running,
    /// It can't go on: the process must restart. Nothing is lost.
    Failed {
        /// Why.
        reason: String,
    },
    /// It has finished what it had begun.
    Stopped,
}

/// The consumer of `documents`.
pub struct Vectorizer;

impl Vectorizer {
    /// Verifies the index, then starts to work in the background.
    ///
    /// # Errors
    /// [`StartError`]; nothing was read or written then.
    pub async fn start(deps: VectorizerDeps) -> Result<VectorizerHandle, StartError> {
        deps.config.validate()?;
        check_model(&deps.index_spec, &deps.encoder)?;
        deps.index.ensure(&deps.index_spec).await?;
        let config = deps.config;
        let counters = Arc::new(Counters::default());
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get);
        let patience = Patience::default();
        let embedder =
            Embedder::start(&deps.encoder, &config.embed, &patience).map_err(StartError::Thread)?;
        let publisher = Publisher::new(
            deps.producer,
            deps.dead_letters,
            deps.tells,
            Arc::clone(&counters),
            patience.clone(),
        );
        let (state, _) = watch::channel(VectorizerState::Running);
        let bytes = u32::try_from(config.max_in_flight_bytes / PERMIT_BYTES)
            .unwrap_or(u32::MAX)
            .clamp(1, 1 << 28);
        let pipeline = Arc::new(Pipeline {
            admission: Admission::new(),
            slots: Arc::new(Semaphore::new(config.max_in_flight_documents)),
            bytes: Arc::new(Semaphore::new(bytes as usize)),
            all_bytes: bytes,
            outsiders: deps.outsiders,
            registry: deps.registry,
            stages: Stages {
                objects: deps.objects,
                extractor: Extractor::new(deps.extractor, config.extract_limits(cores)),
                encoder: deps.encoder,
                embedder,
                writer: DocumentWriter::new(deps.index, deps.sink, patience.clone()),
                publisher,
                counters: Arc::clone(&counters),
                readers: Semaphore::new(cores),
                patience,
                config,
            },
            counters,
            state,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let consumer = deps.consumer.handle();
        pipeline
            .tasks
            .spawn(Arc::clone(&pipeline).run(deps.consumer));
        pipeline.tasks.close();
        Ok(VectorizerHandle { pipeline, consumer })
    }
}

fn check_model(spec: &IndexSpec, encoder: &Encoder) -> Result<(), StartError> {
    let fingerprint = encoder.fingerprint().as_str();
    if spec.dimension == encoder.dimension() && spec.model_fingerprint == fingerprint {
        return Ok(());
    }
    Err(StartError::ModelMismatch {
        wanted_dimension: spec.dimension,
        wanted_fingerprint: spec.model_fingerprint.clone(),
        dimension: encoder.dimension(),
        fingerprint: fingerprint.to_owned(),
    })
}

/// Watches and stops a running vectorizer. Dropped, it stops at once without waiting.
pub struct VectorizerHandle {
    pipeline: Arc<Pipeline>,
    consumer: ConsumerHandle,
}

impl VectorizerHandle {
    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> VectorizerStats {
        self.pipeline.counters.snapshot()
    }

    /// How it is.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<VectorizerState> {
        self.pipeline.state.subscribe()
    }

    /// The consumer it reads through: health, partitions, lag.
    #[must_use]
    pub fn consumer(&self) -> &ConsumerHandle {
        &self.consumer
    }

    /// Takes nothing more, finishes what was begun within `deadline`, commits. What is not finished
    /// by then, and what waits for a store, an index or brokers that are away, is given up and
    /// delivered again at the next start.
    pub async fn shutdown(&self, deadline: Duration) -> Drained {
        let in_flight = self.pipeline.counters.in_flight.load(Relaxed);
        tracing::info!(
            in_flight,
            deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
            "the vectorizer drains"
        );
        self.pipeline.stages.patience.end();
        let drained = self.consumer.shutdown(deadline).await;
        self.pipeline.stop.cancel();
        self.pipeline.tasks.wait().await;
        self.pipeline.state.send_if_modified(|state| {
            let running = *state == VectorizerState::Running;
            if running {
                *state = VectorizerState::Stopped;
            }
            running
        });
        tracing::info!(
            unfinished = drained.unfinished,
            "the vectorizer has stopped"
        );
        drained
    }
}

impl Drop for VectorizerHandle {
    fn drop(&mut self) {
        self.pipeline.stop.cancel();
    }
}
