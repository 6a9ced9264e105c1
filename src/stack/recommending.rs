//! The recommender and what it stands on.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use millrace_features::{FeatureSet, Profile};
use millrace_index::SearchIndex;
use millrace_kafka::{HttpSchemaRegistry, KafkaConfig, Producer};
use millrace_producers::behavior::RowReader;
use millrace_profiles::ProfileReader;
use millrace_recommender::http::{self, HttpState};
use millrace_recommender::{BoxError, Profiles, Recommender, RecommenderDeps};
use millrace_telemetry::{Health, Part};
use tokio::sync::watch;

use super::deadline::Deadline;
use crate::api::audit::Auditor;
use crate::api::control::Administrators;
use crate::config::Config;

/// The running recommender.
pub struct Recommending {
    /// Answers.
    pub recommender: Arc<Recommender>,
}

impl Recommending {
    /// Begins to read items, and loads the ranker that was deployed last. `model_version` names the
    /// model whose vectors items and profiles have.
    ///
    /// # Errors
    /// Settings that can't work, or a file of deployments that can't be read.
    pub async fn start(
        config: &Config,
        kafka: &KafkaConfig,
        index: &Arc<dyn SearchIndex>,
        profiles: ProfileReader,
        model_version: &str,
        health: &Health,
    ) -> anyhow::Result<Self> {
        let registry = HttpSchemaRegistry::from_config(kafka)?;
        let recommender = Recommender::start(RecommenderDeps {
            kafka: kafka.clone(),
            registry: registry.map(|registry| Arc::new(registry) as _),
            producer: Producer::connect(kafka)?,
            index: Arc::clone(index),
            profiles: Arc::new(Stored(profiles)),
            features: features(config, model_version)?,
            embedding_version: model_version.to_owned(),
            models_dir: config.data_dir.join(RANKERS),
            config: config.recommender.clone(),
        })
        .await?;
        tokio::spawn(follow(health.part("recommender"), recommender.ready()));
        Ok(Self {
            recommender: Arc::new(recommender),
        })
    }

    /// The routes of both dialects; what changes something is the administrators' alone, and audited.
    ///
    /// # Errors
    /// Settings of behavior that can't work.
    pub fn routes(
        &self,
        config: &Config,
        administrators: &Administrators,
        auditor: &Auditor,
    ) -> anyhow::Result<Router> {
        let routes = http::routes(&HttpState {
            recommender: Arc::clone(&self.recommender),
            airec: config.airec.clone(),
            items: RowReader::new(&config.behavior)?.items().clone(),
        });
        Ok(routes
            .open
            .merge(administrators.protect(auditor.watch(routes.control))))
    }

    /// Waits for the impressions that there are; no request is open any more.
    pub async fn stop(self, deadline: Deadline) {
        let left = deadline.left_for_handlers();
        deadline
            .wait_for("the recommender", self.recommender.shutdown(left))
            .await;
    }
}

/// Folder of ranker models, in the data folder.
pub const RANKERS: &str = "rankers";

/// The configured features, or those that come with Millrace.
///
/// # Errors
/// A declaration that can't work.
pub fn features(config: &Config, model_version: &str) -> anyhow::Result<FeatureSet> {
    if config.features.is_empty() {
        return Ok(FeatureSet::default_for(model_version));
    }
    Ok(FeatureSet::new(config.features.clone(), model_version)?)
}

/// Profiles of the live state.
struct Stored(ProfileReader);

#[async_trait]
impl Profiles for Stored {
    async fn get(&self, user_id: &str) -> Result<Option<Arc<Profile>>, BoxError> {
        Ok(self.0.get(user_id).await?.map(Arc::new))
    }
}

/// Not ready until all items that there were at the start have been read.
async fn follow(part: Part, mut ready: watch::Receiver<bool>) {
    part.not_ready("reading items");
    if ready.wait_for(|ready| *ready).await.is_ok() {
        part.ready();
    }
}
