//! The model server: listening before its models are loaded, so that its health can be asked.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use millrace_model_server::{Fetch, FetchError, ModelServer, ModelSource, RegisterError};
use millrace_models::ModelStore;
use millrace_models::store::ModelReference;
use millrace_retry::error_chain;
use millrace_telemetry::prometheus_client::registry::Registry;
use millrace_telemetry::{Health, Part};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::deadline::Deadline;
use super::{model, reach};
use crate::config::Config;
use crate::shared_store::NotShared;

/// How long a stop may take. Supervisors kill after 10 s, many of them.
const DRAIN: Duration = Duration::from_secs(9);

/// What this machine's store lacks comes from the one that machines share.
#[derive(Debug)]
struct SharedModels {
    config: Config,
    runtime: Handle,
    stopping: CancellationToken,
}

impl Fetch for SharedModels {
    fn fetch(&self, reference: &ModelReference) -> Result<PathBuf, FetchError> {
        let reference = reference.to_string();
        let located = model::locate(&self.config, &reference);
        // A drain waits for what is being answered: not for a whole model.
        let located = self.stopping.run_until_cancelled(located);
        match self.runtime.block_on(located) {
            Some(Ok(folder)) => Ok(folder),
            Some(Err(error)) if error.is::<NotShared>() => Err(FetchError::NotThere(error.into())),
            Some(Err(error)) if reach::is_out_of_reach(&error) => {
                Err(FetchError::Away(error.into()))
            }
            Some(Err(error)) => Err(FetchError::Failed(error.into())),
            None => Err(FetchError::Away("the server is stopping".into())),
        }
    }
}

/// The running model server.
pub struct Serving {
    address: SocketAddr,
    server: Arc<ModelServer>,
    part: Part,
    stopping: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Serving {
    /// Listens, without models: requests for vectors are answered with 503.
    ///
    /// # Errors
    /// The address is taken, or settings can't work.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        let threads = config.model.threads.and_then(NonZeroUsize::new);
        let settings = config.model_server.clone();
        let listen = settings.listen;
        let stopping = CancellationToken::new();
        let mut source = ModelSource::from(ModelStore::from_env()?);
        if config.model.shared_store.is_some() {
            source = source.or_from(Arc::new(SharedModels {
                config: config.clone(),
                runtime: Handle::current(),
                stopping: stopping.clone(),
            }));
        }
        let server = ModelServer::start(settings, source, threads)?;
        let listener = TcpListener::bind(listen).await.with_context(|| {
            format!(
                "can't listen on {listen}; set model_server.listen (MILLRACE_MODEL_SERVER__LISTEN) to \
                 another address, port 0 takes a free one"
            )
        })?;
        let address = listener.local_addr()?;
        let mut registry = Registry::default();
        server.register_metrics(&mut registry);
        let health = Health::default();
        let part = health.part("models");
        let routes = server
            .routes()
            .merge(millrace_telemetry::router(health, Arc::new(registry)));
        let stopped = stopping.clone().cancelled_owned();
        let serving = tokio::spawn(async move {
            axum::serve(listener, routes)
                .with_graceful_shutdown(stopped)
                .await
        });
        Ok(Self {
            address,
            server: Arc::new(server),
            part,
            stopping,
            serving,
        })
    }

    /// Loads the configured models and warms them up; then requests are taken.
    ///
    /// # Errors
    /// A model is not in the store, or can't be used.
    pub async fn load(&self, config: &Config) -> anyhow::Result<()> {
        let models = &config.model_server.models;
        match &config.model.path {
            Some(folder) if models.is_empty() => {
                self.part.not_ready(format!("loading {}", folder.display()));
                let (server, folder) = (Arc::clone(&self.server), folder.clone());
                let load = tokio::task::spawn_blocking(move || server.load_folder(folder));
                load.await.context("loading the model was cut off")??;
            }
            _ => {
                let default = std::slice::from_ref(&config.model.name);
                for model in if models.is_empty() { default } else { models } {
                    self.load_stored(model, ModelServer::load).await?;
                }
            }
        }
        if let Some(model) = &config.model_server.reranker {
            self.load_stored(model, ModelServer::load_reranker).await?;
        }
        self.server.loaded();
        self.part.ready();
        Ok(())
    }

    /// Has a model of the store loaded, fetched first where only the shared store has it; waits while
    /// that is away.
    async fn load_stored(
        &self,
        model: &str,
        load: fn(&ModelServer, &str) -> Result<(), RegisterError>,
    ) -> anyhow::Result<()> {
        self.part.not_ready(format!("loading {model}"));
        reach::reached(async || {
            let (server, model) = (Arc::clone(&self.server), model.to_owned());
            let loading = model.clone();
            let loaded = tokio::task::spawn_blocking(move || load(&server, &loading));
            let loaded = loaded.await.context("loading the model was cut off")?;
            if let Err(error) = &loaded {
                let reason = error_chain(error);
                self.part.not_ready(format!("loading {model}: {reason}"));
            }
            Ok(loaded?)
        })
        .await
    }

    /// Where it is reached.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Takes no more connections, answers what was asked, then stops.
    pub async fn stop(self) {
        let deadline = Deadline::after(DRAIN);
        self.part.not_ready("draining");
        self.stopping.cancel();
        let served = async {
            match self.serving.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the model server ended with an error"),
                Err(error) => tracing::warn!(%error, "the model server was cut off"),
            }
        };
        deadline.wait_for("the model server", served).await;
        deadline.wait_for("the encoders", self.server.stop()).await;
    }
}
