//! How a model server starts, serves and stops.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use axum::Router;
use millrace_models::store::ModelReference;
use millrace_telemetry::prometheus_client::registry::Registry as MetricsRegistry;
use tokio::sync::{Semaphore, watch};

use crate::admission::Admission;
use crate::compute;
use crate::config::{InvalidConfig, ModelServerConfig};
use crate::dialects;
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::registry::{RegisterError, Registry};
use crate::reranker::Reranker;
use crate::service::{Service, State};
use crate::source::ModelSource;

/// Why a model server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The operating system gives no thread.
    #[error("no thread for batches")]
    Thread(#[source] std::io::Error),
}

/// Sentence encoders, and one cross-encoder, over HTTP.
#[derive(Debug)]
pub struct ModelServer {
    source: ModelSource,
    encoder_threads: Option<NonZeroUsize>,
    service: Arc<Service>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl ModelServer {
    /// A server without models: it answers 503 until [`Self::loaded`]. `threads` are each encoder's;
    /// one a core where there are none.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(
        config: ModelServerConfig,
        source: impl Into<ModelSource>,
        threads: Option<NonZeroUsize>,
    ) -> Result<Self, StartError> {
        config.validate()?;
        let source = source.into();
        let queue = Arc::new(Queue::default());
        let metrics = Metrics::new();
        let started = compute::start(&queue, config.batches, config.batch_tokens, &metrics)
            .map_err(StartError::Thread)?;
        let (state, _) = watch::channel(State::Loading);
        let service = Service {
            registry: Arc::new(Registry::new(source.clone(), threads)),
            admission: Admission::new(config.max_queued_tokens),
            bodies: Arc::new(Semaphore::new(
                config.max_in_flight_bytes.min(Semaphore::MAX_PERMITS),
            )),
            readers: Arc::new(Semaphore::new(
                std::thread::available_parallelism().map_or(2, NonZeroUsize::get),
            )),
            reranker: Arc::default(),
            queue,
            metrics,
            state,
            config,
        };
        Ok(Self {
            source,
            encoder_threads: threads,
            service: Arc::new(service),
            threads: Mutex::new(started),
        })
    }

    /// Loads a model of the source and warms it up; the first is the default. Blocks for seconds, and
    /// while the model is fetched.
    ///
    /// # Errors
    /// [`RegisterError`]; what was loaded before goes on.
    pub fn load(&self, reference: &str) -> Result<(), RegisterError> {
        self.service.registry.register(reference, true)?;
        Ok(())
    }

    /// As [`Self::load`], for a folder outside of the store; its last path component names the model.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub fn load_folder(&self, folder: PathBuf) -> Result<(), RegisterError> {
        let real = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        let name = real.file_name().unwrap_or_default().to_string_lossy();
        let reference: ModelReference = name.parse()?;
        self.service
            .registry
            .register_folder(reference, folder, true)?;
        Ok(())
    }

    /// Loads the cross-encoder that ranks, and warms it up. Blocks as [`Self::load`]. One that ranks
    /// already stays.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub fn load_reranker(&self, reference: &str) -> Result<(), RegisterError> {
        let reranker = Reranker::load(&self.source, reference, self.encoder_threads)?;
        self.service.reranker.get_or_init(|| Arc::new(reranker));
        Ok(())
    }

    /// All models that there are at the start serve: requests are taken.
    pub fn loaded(&self) {
        self.service.state.send_replace(State::Ready);
    }

    /// The routes of all dialects. Where no `admin_token` is configured, those that change what
    /// serves are open only on loopback.
    pub fn routes(&self) -> Router {
        dialects::routes(&self.service)
    }

    /// Adds what is counted.
    pub fn register_metrics(&self, metrics: &mut MetricsRegistry) {
        let service = &self.service;
        service.metrics.register(
            metrics,
            Arc::clone(&service.admission),
            Arc::clone(&service.registry),
            Arc::clone(&service.reranker),
        );
    }

    /// Computes what was admitted, then stops; no request should be open any more.
    pub async fn stop(&self) {
        self.service.queue.close();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                if thread.join().is_err() {
                    tracing::warn!("a thread of batches panicked");
                }
            }
        });
        if joined.await.is_err() {
            tracing::warn!("the threads of batches were not waited for");
        }
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.service.queue.close();
    }
}
