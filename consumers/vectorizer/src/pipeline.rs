//! From deliveries to acknowledgements.
//!
//! One task takes deliveries as long as there is room (documents and bytes in flight are bounded,
//! which is what pauses the partitions in the end), reads their notices, and gives each document a
//! task of its own. A task ends in exactly one of these ways:
//!
//! - the effect is in the index, the signal and the outcome are acknowledged, the notice is too;
//! - the dead letter and the outcome are acknowledged, then the notice;
//! - neither (shutdown, a lost broker): the notice is not acknowledged and is delivered again, and
//!   doing it again ends the same.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use millrace_index::{BulkSink, IndexError, IndexSpec, SearchIndex};
use millrace_kafka::{Consumer, ConsumerHandle, DeadLetters, Delivery, Drained, Producer};
use millrace_models::Encoder;
use millrace_objects::ObjectStores;
use millrace_schemas::{
    DocId, DocumentNotice, DocumentOutcome, DocumentVersion, OutcomeKind, SchemaRegistry,
    TraceParent,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::admission::{Admission, Admitted, Versioned};
use crate::config::{InvalidConfig, VectorizerConfig};
use crate::decode::{Decoded, decode, now_ms};
use crate::document::{Finished, Interrupted, Job, Stages, Took};
use crate::embed::Embedder;
use crate::extract::{Extractor, ExtractorCommand};
use crate::failure::Refusal;
use crate::index::DocumentWriter;
use crate::publish::{PublishError, Publisher};
use crate::stats::{Counters, VectorizerStats};

/// Semaphore permits count KiB, since their number has 32 bits.
const PERMIT_BYTES: u64 = 1024;

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
    /// How to start the process that reads hostile formats.
    pub extractor: ExtractorCommand,
    /// Settings.
    pub config: VectorizerConfig,
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
        let embedder = Embedder::start(&deps.encoder, &config.embed).map_err(StartError::Thread)?;
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get);
        let publisher = Publisher::new(deps.producer, deps.dead_letters, Arc::clone(&counters));
        let (state, _) = watch::channel(VectorizerState::Running);
        let bytes = u32::try_from(config.max_in_flight_bytes / PERMIT_BYTES)
            .unwrap_or(u32::MAX)
            .clamp(1, 1 << 28);
        let pipeline = Arc::new(Pipeline {
            admission: Admission::new(),
            slots: Arc::new(Semaphore::new(config.max_in_flight_documents)),
            bytes: Arc::new(Semaphore::new(bytes as usize)),
            all_bytes: bytes,
            registry: deps.registry,
            stages: Stages {
                objects: deps.objects,
                extractor: Extractor::new(deps.extractor, config.extract_limits()),
                encoder: deps.encoder,
                embedder,
                writer: DocumentWriter::new(deps.index, deps.sink),
                publisher,
                counters: Arc::clone(&counters),
                readers: Semaphore::new(cores),
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
    /// by then is given up and delivered again at the next start.
    pub async fn shutdown(&self, deadline: Duration) -> Drained {
        let in_flight = self.pipeline.counters.in_flight.load(Relaxed);
        tracing::info!(
            in_flight,
            deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
            "the vectorizer drains"
        );
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

struct Pipeline {
    stages: Stages,
    admission: Admission<Work>,
    slots: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    all_bytes: u32,
    registry: Option<Arc<dyn SchemaRegistry>>,
    counters: Arc<Counters>,
    state: watch::Sender<VectorizerState>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// A notice in flight, with the room that it takes.
struct Work {
    delivery: Delivery,
    notice: DocumentNotice,
    version: DocumentVersion,
    trace: TraceParent,
    received: Instant,
    _slot: Slot,
}

/// Room for one document, counted.
struct Slot {
    counters: Arc<Counters>,
    _permit: OwnedSemaphorePermit,
}

impl Slot {
    fn new(counters: &Arc<Counters>, permit: OwnedSemaphorePermit) -> Self {
        counters.in_flight.fetch_add(1, Relaxed);
        Self {
            counters: Arc::clone(counters),
            _permit: permit,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.counters.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Versioned for Work {
    fn version(&self) -> DocumentVersion {
        self.version
    }

    fn outlive(&mut self, other: &Self) {
        // Only what a repair asked for: a plain version was its event's own.
        if let Some(min_version) = other.notice.min_version {
            self.version = self.version.max(DocumentVersion::from(min_version));
            self.notice.min_version = self.notice.min_version.max(Some(min_version));
        }
    }
}

impl Pipeline {
    async fn run(self: Arc<Self>, mut consumer: Consumer) {
        let stop = self.stop.clone();
        // Cancelled where a shutdown's deadline has passed; a delivery in hand is then not
        // acknowledged.
        stop.run_until_cancelled(async {
            loop {
                let Ok(permit) = Arc::clone(&self.slots).acquire_owned().await else {
                    break;
                };
                let Some(delivery) = consumer.recv().await else {
                    break;
                };
                self.take(delivery, Slot::new(&self.counters, permit)).await;
            }
        })
        .await;
        if let millrace_kafka::ConsumerState::Fatal { reason } = &*consumer.health().borrow() {
            self.fail(reason.clone());
        }
    }

    async fn take(self: &Arc<Self>, delivery: Delivery, slot: Slot) {
        let received = Instant::now();
        match decode(&delivery, self.registry.as_deref()).await {
            Ok(Decoded {
                notice,
                version,
                trace,
            }) => {
                let uri = notice.uri.clone();
                let work = Work {
                    delivery,
                    notice,
                    version,
                    trace,
                    received,
                    _slot: slot,
                };
                match self.admission.admit(&uri, work) {
                    Admitted::Start(work) => self.spawn(uri, work),
                    Admitted::Waits => {}
                    Admitted::Superseded(work) => {
                        let pipeline = Arc::clone(self);
                        self.tasks.spawn(async move {
                            pipeline.guarded(pipeline.supersede(work)).await;
                        });
                    }
                }
            }
            Err(refusal) => {
                let pipeline = Arc::clone(self);
                self.tasks.spawn(async move {
                    pipeline
                        .guarded(pipeline.refuse_unread(delivery, slot, refusal))
                        .await;
                });
            }
        }
    }

    /// Works on a URI until nothing of it waits.
    fn spawn(self: &Arc<Self>, uri: String, work: Work) {
        let pipeline = Arc::clone(self);
        self.tasks.spawn(async move {
            let mut next = Some(work);
            while let Some(work) = next {
                let span = tracing::info_span!(
                    "document",
                    uri,
                    origin = %work.delivery.origin(),
                    version = work.version.get(),
                    traceparent = %work.trace,
                );
                millrace_telemetry::continue_trace(&span, Some(&work.trace.to_string()));
                pipeline
                    .guarded(pipeline.finish(work).instrument(span))
                    .await;
                next = pipeline.admission.finished(&uri);
            }
        });
    }

    /// Runs `work` unless the time is up.
    async fn guarded(&self, work: impl Future<Output = Result<(), Interrupted>>) {
        match self.stop.run_until_cancelled(work).await {
            Some(Err(Interrupted::Fatal(reason))) => self.fail(reason),
            Some(Err(Interrupted::Refused(refusal))) => {
                // A dead letter of a dead letter: the outcome was refused. Not acknowledged.
                self.fail(refusal.reason.message);
            }
            Some(Ok(()) | Err(Interrupted::Stopping)) | None => {}
        }
    }

    fn fail(&self, reason: String) {
        tracing::error!(reason, "the vectorizer can't go on; restart the process");
        self.state.send_replace(VectorizerState::Failed { reason });
        self.stop.cancel();
    }

    async fn finish(&self, work: Work) -> Result<(), Interrupted> {
        let size = work
            .notice
            .content
            .as_ref()
            .map_or(work.notice.size_bytes, |content| {
                i64::try_from(content.len()).ok()
            });
        let _room = self.room(size).await;
        let job = Job {
            notice: &work.notice,
            doc_id: DocId::from_uri(&work.notice.uri),
            version: work.version.get(),
            trace: work.trace,
            origin: work.delivery.origin(),
        };
        match self.stages.process(&job).await {
            Ok(finished) => {
                self.outcome(&work, &finished, None).await?;
                self.counters.finished(finished.outcome);
                work.delivery.ack();
                Ok(())
            }
            Err(Interrupted::Refused(refusal)) => self.refuse(work, &refusal).await,
            Err(interrupted) => Err(interrupted),
        }
    }

    /// Room for the bytes of an object, before they are read. An object of unknown size takes what
    /// the largest may have.
    async fn room(&self, size_bytes: Option<i64>) -> Option<OwnedSemaphorePermit> {
        let largest = self.stages.config.max_document_bytes;
        let bytes = size_bytes
            .and_then(|size| u64::try_from(size).ok())
            .unwrap_or(largest)
            .min(largest);
        let permits = u32::try_from(bytes.div_ceil(PERMIT_BYTES))
            .unwrap_or(u32::MAX)
            .clamp(1, self.all_bytes);
        Arc::clone(&self.bytes)
            .acquire_many_owned(permits)
            .await
            .ok()
    }

    async fn refuse(&self, work: Work, refusal: &Refusal) -> Result<(), Interrupted> {
        tracing::warn!(
            stage = refusal.stage.as_str(),
            error_type = refusal.reason.error_type,
            message = refusal.reason.message,
            "dead letter"
        );
        self.stages
            .publisher
            .dead_letter(&work.delivery, refusal)
            .await?;
        let finished = Finished {
            outcome: OutcomeKind::DeadLettered,
            version: work.version.get(),
            chunks: 0,
            tokens: 0,
            took: Took::default(),
        };
        self.outcome(&work, &finished, Some(refusal)).await?;
        work.delivery.ack();
        Ok(())
    }

    /// A record that is no notice has no URI but its key, so its outcome goes under that.
    async fn refuse_unread(
        &self,
        delivery: Delivery,
        _slot: Slot,
        refusal: Refusal,
    ) -> Result<(), Interrupted> {
        tracing::warn!(
            origin = %delivery.origin(),
            error_type = refusal.reason.error_type,
            message = refusal.reason.message,
            "dead letter"
        );
        self.stages
            .publisher
            .dead_letter(&delivery, &refusal)
            .await?;
        if let Some(uri) = delivery.key_text().filter(|key| !key.is_empty()) {
            let traceparent = delivery.event().and_then(|event| event.traceparent);
            let outcome = DocumentOutcome {
                doc_id: DocId::from_uri(&uri).into(),
                uri,
                outcome: OutcomeKind::DeadLettered,
                version: 0,
                chunks: 0,
                tokens: 0,
                fetch_ms: 0,
                extract_ms: 0,
                embed_ms: 0,
                index_ms: 0,
                total_ms: 0,
                error_type: Some(refusal.reason.error_type),
                message: Some(refusal.reason.message),
                traceparent: traceparent.map(|trace| trace.to_string()),
                origin: delivery.origin(),
                finished_at_ms: now_ms(),
            };
            if let Some(trace) =
                traceparent.or_else(|| TraceParent::new([1; 16], [1; 8], false).ok())
            {
                self.publish_outcome(&outcome, trace).await?;
            }
        }
        delivery.ack();
        Ok(())
    }

    async fn supersede(&self, work: Work) -> Result<(), Interrupted> {
        let finished = Finished {
            outcome: OutcomeKind::Superseded,
            version: work.version.get(),
            chunks: 0,
            tokens: 0,
            took: Took::default(),
        };
        self.outcome(&work, &finished, None).await?;
        self.counters.finished(OutcomeKind::Superseded);
        work.delivery.ack();
        Ok(())
    }

    async fn outcome(
        &self,
        work: &Work,
        finished: &Finished,
        refusal: Option<&Refusal>,
    ) -> Result<(), Interrupted> {
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let outcome = DocumentOutcome {
            uri: work.notice.uri.clone(),
            doc_id: DocId::from_uri(&work.notice.uri).into(),
            outcome: finished.outcome,
            version: finished.version,
            chunks: i32::try_from(finished.chunks).unwrap_or(i32::MAX),
            tokens: i64::try_from(finished.tokens).unwrap_or(i64::MAX),
            fetch_ms: ms(finished.took.fetch),
            extract_ms: ms(finished.took.extract),
            embed_ms: ms(finished.took.embed),
            index_ms: ms(finished.took.index),
            total_ms: ms(work.received.elapsed()),
            error_type: refusal.map(|refusal| refusal.reason.error_type.clone()),
            message: refusal.map(|refusal| refusal.reason.message.clone()),
            traceparent: Some(work.trace.to_string()),
            origin: work.delivery.origin(),
            finished_at_ms: now_ms(),
        };
        self.publish_outcome(&outcome, work.trace).await
    }

    async fn publish_outcome(
        &self,
        outcome: &DocumentOutcome,
        trace: TraceParent,
    ) -> Result<(), Interrupted> {
        match self.stages.publisher.outcome(outcome, trace).await {
            // The document is done; that nobody can be told of it is no reason to do it again.
            Err(PublishError::Refused(refusal)) => {
                tracing::error!(message = refusal.reason.message, "an outcome was refused");
                Ok(())
            }
            done => done.map_err(Interrupted::from),
        }
    }
}
