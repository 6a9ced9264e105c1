//! The recommender and what it stands on.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use millrace_features::{FeatureSet, Profile};
use millrace_kafka::{HttpSchemaRegistry, KafkaConfig, Producer};
use millrace_producers::behavior::RowReader;
use millrace_profiles::{ItemVectors, ProfileReader};
use millrace_recommender::http::{self, HttpState};
use millrace_recommender::{BoxError, Profiles, Recommender, RecommenderDeps};
use millrace_retry::error_chain;
use millrace_telemetry::{Health, Part};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::deadline::Deadline;
use super::generations::{OpenGeneration, OpenGenerations};
use super::rollouts::Rollouts;
use crate::api::audit::Auditor;
use crate::api::control::Administrators;
use crate::config::Config;

/// The running recommender.
pub struct Recommending {
    /// Answers.
    pub recommender: Arc<Recommender>,
    /// Ends the task that has it go over to another generation.
    _following: DropGuard,
}

/// What a recommender is made of, for whichever encoder.
pub struct Place {
    pub config: Config,
    pub kafka: KafkaConfig,
    /// Reads profiles in whatever space they are stored.
    pub profiles: ProfileReader,
    /// What models made of items, for profiles of another encoder.
    pub vectors: Arc<dyn ItemVectors>,
}

impl Place {
    /// For the generation that serves: items, profiles and features are of its model, unless the
    /// configuration names another.
    fn deps(&self, open: &OpenGeneration) -> anyhow::Result<RecommenderDeps> {
        let named = self.config.joiner.model_version.as_deref();
        let model_version = named.unwrap_or(&open.spec.model_version);
        let registry = HttpSchemaRegistry::from_config(&self.kafka)?;
        let profiles = self
            .profiles
            .in_space(model_version, Arc::clone(&self.vectors));
        Ok(RecommenderDeps {
            kafka: self.kafka.clone(),
            registry: registry.map(|registry| Arc::new(registry) as _),
            producer: Producer::connect(&self.kafka)?,
            index: Arc::clone(&open.index),
            profiles: Arc::new(Stored(profiles)),
            features: features(&self.config, model_version)?,
            embedding_version: model_version.to_owned(),
            models_dir: self.config.data_dir.join(RANKERS),
            config: self.config.recommender.clone(),
        })
    }
}

impl Recommending {
    /// Begins to read items, and loads the ranker that was deployed last. At each change of what serves
    /// it goes over to that, once it has read the items; until then it answers from what served before,
    /// which is written still, and `rollouts` is told which it reads.
    ///
    /// # Errors
    /// Settings that can't work, or a file of deployments that can't be read.
    pub async fn start(
        place: Place,
        open: &OpenGeneration,
        generations: &Arc<OpenGenerations>,
        rollouts: &Rollouts,
        health: &Health,
    ) -> anyhow::Result<Self> {
        let recommender = Arc::new(Recommender::start(place.deps(open)?).await?);
        tokio::spawn(follow_readiness(
            health.part("recommender"),
            recommender.ready(),
        ));
        let stopping = CancellationToken::new();
        let (reads, read) = watch::channel(open.spec.generation);
        rollouts.add_reader(read);
        let moving = Moving {
            recommender: Arc::clone(&recommender),
            place,
            generations: Arc::clone(generations),
            reads,
        };
        let following = moving.follow(rollouts.serving());
        tokio::spawn(stopping.clone().run_until_cancelled_owned(following));
        Ok(Self {
            recommender,
            _following: stopping.drop_guard(),
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

/// After a move that was not possible: the index, the brokers or the model's server were away.
const TRY_AGAIN: Duration = Duration::from_secs(2);

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

/// A recommender on its way from one generation to another.
struct Moving {
    recommender: Arc<Recommender>,
    place: Place,
    generations: Arc<OpenGenerations>,
    reads: watch::Sender<u32>,
}

impl Moving {
    async fn follow(self, mut serving: watch::Receiver<u32>) {
        loop {
            if let Err(error) = self.catch_up().await {
                tracing::warn!(
                    "the recommender stays with generation {}; trying again: {}",
                    *self.reads.borrow(),
                    error_chain(error.as_ref())
                );
                tokio::time::sleep(TRY_AGAIN).await;
            } else if serving.changed().await.is_err() {
                return;
            }
        }
    }

    async fn catch_up(&self) -> anyhow::Result<()> {
        let open = self.generations.serving().await?;
        let generation = open.spec.generation;
        if *self.reads.borrow() != generation {
            self.recommender.move_to(self.place.deps(&open)?).await?;
            self.reads.send_replace(generation);
            tracing::info!(generation, "the recommender reads another generation");
        }
        Ok(())
    }
}

/// Not ready until all items that there were at the start have been read.
async fn follow_readiness(part: Part, mut ready: watch::Receiver<bool>) {
    part.not_ready("reading items");
    if ready.wait_for(|ready| *ready).await.is_ok() {
        part.ready();
    }
}
