//! What brings documents in: watched folders, and notices over HTTP.

use std::sync::Arc;

use axum::Router;
use millrace_kafka::Producer;
use millrace_objects::{ObjectStores, Secret};
use millrace_producers::Publisher;
use millrace_producers::folder::{FolderConfig, FolderWatch};
use millrace_producers::http::{NoticeCounts, NoticesConfig, router};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::deadline::Deadline;
use super::reconciler::Compares;
use super::watches;
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
    pub fn start(compares: &Compares, failed: &CancellationToken) -> anyhow::Result<Self> {
        let Compares {
            config,
            kafka,
            objects,
            ..
        } = compares;
        let publisher = Publisher::new(Producer::connect(kafka)?);
        let stopping = failed.child_token();
        let mut watches = JoinSet::new();
        for folder in &config.uploads.folders {
            let config = FolderConfig {
                // The comparison with the index tells what is new.
                initial_listing: false,
                ..FolderConfig::default()
            };
            let watch = FolderWatch::open(
                folder,
                ObjectStores::clone(objects),
                publisher.clone(),
                &config,
            )?;
            watches.spawn(watches::follow(
                watch,
                folder.clone(),
                compares.clone(),
                publisher.clone(),
                stopping.clone(),
            ));
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
    pub async fn stop(mut self, deadline: Deadline) {
        self.stopping.cancel();
        let watches = async { while self.watches.join_next().await.is_some() {} };
        deadline.wait_for("watching folders", watches).await;
        if let Err(error) = self.publisher.producer().flush(deadline.left()).await {
            tracing::warn!(%error, "not all notices were acknowledged");
        }
    }
}
