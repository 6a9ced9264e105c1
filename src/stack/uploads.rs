//! What brings documents in: watched folders, and notices over HTTP.

use std::sync::Arc;

use axum::Router;
use millrace_kafka::{KafkaConfig, Producer};
use millrace_objects::{ObjectStores, Secret};
use millrace_producers::Publisher;
use millrace_producers::folder::{FolderConfig, FolderWatch};
use millrace_producers::http::{NoticeCounts, NoticesConfig, router};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// The running producers.
pub struct Uploads {
    publisher: Publisher,
    objects: Arc<ObjectStores>,
    watches: JoinSet<()>,
    stopping: CancellationToken,
    /// Entries of notices by what became of them.
    pub notices: Arc<NoticeCounts>,
}

impl Uploads {
    /// Watches the configured folders.
    ///
    /// # Errors
    /// A folder can't be watched, or the producer's settings can't work.
    pub fn start(
        config: &Config,
        kafka: &KafkaConfig,
        objects: &Arc<ObjectStores>,
        failed: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let publisher = Publisher::new(Producer::connect(kafka)?);
        let stopping = failed.child_token();
        let mut watches = JoinSet::new();
        for folder in &config.uploads.folders {
            let watch = FolderWatch::open(
                folder,
                ObjectStores::clone(objects),
                publisher.clone(),
                &FolderConfig::default(),
            )?;
            let stopping = stopping.clone();
            let folder = folder.clone();
            watches.spawn(async move {
                let counts = watch.run(stopping).await;
                tracing::info!(folder = %folder.display(), ?counts, "stopped watching");
            });
        }
        Ok(Self {
            publisher,
            objects: Arc::clone(objects),
            watches,
            stopping,
            notices: Arc::default(),
        })
    }

    /// `POST /v1/notices`.
    pub fn routes(&self, config: &Config) -> Router {
        let notices = NoticesConfig {
            bearer_token: config.api.notices_token.clone().map(Secret::new),
            ..NoticesConfig::default()
        };
        router(
            self.publisher.clone(),
            ObjectStores::clone(&self.objects),
            notices,
            Arc::clone(&self.notices),
        )
    }

    /// Publishes what was noticed already, then stops.
    pub async fn stop(mut self) {
        self.stopping.cancel();
        while self.watches.join_next().await.is_some() {}
        if let Err(error) = self
            .publisher
            .producer()
            .flush(super::pipeline::DRAIN)
            .await
        {
            tracing::warn!(%error, "not all notices were acknowledged");
        }
    }
}
