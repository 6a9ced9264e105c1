//! The recommender as a whole: what it stands on, how it starts, what it can be asked.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millrace_features::{DEFAULT_WEIGHTS, FeatureSet, Profile};
use millrace_index::SearchIndex;
use millrace_kafka::{AdminError, ConsumerError, KafkaConfig, Producer};
use millrace_ranker::{FeatureSpec, Ranker, WeightedDefault, WeightsError};
use millrace_schemas::{SchemaRegistry, Signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer::Answer;
use crate::catalog::{Catalog, follow_topics};
use crate::config::{ConfigChange, InstanceConfig, InvalidConfig, RecommenderConfig};
use crate::deployments::{DeployError, DeploymentStatus, Deployments, SetConfigError};
use crate::impressions::Impressions;
use crate::merge::Candidate;
use crate::profiles::Profiles;
use crate::rank;
use crate::request::{RecommendRequest, RequestError, RerankRequest};
use crate::stats::{Counters, RecommenderStats};

/// Items that a new ranker is warmed up with.
const WARM_UP_ITEMS: usize = 300;

/// How long what served before a move has for the requests that it began, and their impressions.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
/// How often it is looked whether they are answered.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How often the index is asked which generation it is.
const ASK_INDEX_EVERY: Duration = Duration::from_secs(30);

/// What a recommender stands on.
pub struct RecommenderDeps {
    /// How to reach the brokers.
    pub kafka: KafkaConfig,
    /// For Confluent-framed values, where a registry is configured.
    pub registry: Option<Arc<dyn SchemaRegistry>>,
    /// For impressions.
    pub producer: Producer,
    /// Where words are searched for, and vectors of many items: a generation of this embedding version.
    pub index: Arc<dyn SearchIndex>,
    /// What is known of users.
    pub profiles: Arc<dyn Profiles>,
    /// What rankers read, of this embedding version.
    pub features: FeatureSet,
    /// The encoder whose vectors signals have and are compared by.
    pub embedding_version: String,
    /// Folder of ranker models, and of the file that says which one is deployed.
    pub models_dir: PathBuf,
    /// Settings.
    pub config: RecommenderConfig,
}

/// Why a recommender does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The weights of features rank nothing.
    #[error("recommender.weights can't rank")]
    Weights(#[from] WeightsError),
    /// The brokers cannot be asked, or a topic is missing.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A consumer cannot be created.
    #[error(transparent)]
    Consumer(#[from] ConsumerError),
    /// What is deployed cannot be read.
    #[error(transparent)]
    Deployments(#[from] DeployError),
    /// The process is stopping.
    #[error("cut off by the end of the process")]
    Cancelled,
}

/// Answers requests. Share it behind an `Arc`.
///
/// All that an answer is made of is of one encoder: its items, its index generation, its profiles and
/// its features change together, between two requests.
pub struct Recommender {
    serving: RwLock<Arc<Running>>,
}

/// A recommender of one encoder.
struct Running {
    core: Core,
    deployments: Arc<Deployments>,
    models_dir: PathBuf,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What an answer is made with.
pub(crate) struct Core {
    pub catalog: Arc<Catalog>,
    pub index: Arc<dyn SearchIndex>,
    pub profiles: Arc<dyn Profiles>,
    pub features: FeatureSet,
    pub embedding_version: String,
    pub config: RecommenderConfig,
    pub impressions: Impressions,
    pub counters: Counters,
    /// Generation of the index that is searched; empty until it has said so.
    index_version: Arc<RwLock<String>>,
}

impl Core {
    pub fn index_version(&self) -> String {
        let version = self.index_version.read();
        version.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Recommender {
    /// Begins to read items, and loads the ranker that was deployed last. Requests are answered at
    /// once, with a stated fall-back until [`ready`](Self::ready).
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub async fn start(deps: RecommenderDeps) -> Result<Self, StartError> {
        let running = Running::start(deps).await?;
        Ok(Self {
            serving: RwLock::new(Arc::new(running)),
        })
    }

    /// Goes over to another encoder: reads all items of `deps` first, while requests are answered as
    /// before, then answers with those. A deployed ranker that was trained on features of the former
    /// encoder can't score the new one's: the weighted default serves until another is deployed.
    ///
    /// # Errors
    /// [`StartError`]; what served before still does.
    pub async fn move_to(&self, deps: RecommenderDeps) -> Result<(), StartError> {
        let mut next = Running::start(deps).await?;
        let mut ready = next.core.catalog.ready();
        let is_ready = ready.wait_for(|ready| *ready).await.is_ok();
        if !is_ready {
            return Err(StartError::Cancelled);
        }
        // What was deployed while the items were read.
        let Core {
            features,
            config,
            embedding_version,
            ..
        } = &next.core;
        next.deployments =
            open_deployments(features, embedding_version, config, &next.models_dir).await?;
        let before = {
            let mut serving = self.serving.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *serving, Arc::new(next))
        };
        let deadline = tokio::time::Instant::now() + LAST_ANSWERS;
        while Arc::strong_count(&before) > 1 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        before.shutdown(LAST_ANSWERS).await;
        Ok(())
    }

    /// What serves now: a request keeps to it until it is answered.
    fn serving(&self) -> Arc<Running> {
        let serving = self.serving.read();
        Arc::clone(&serving.unwrap_or_else(PoisonError::into_inner))
    }

    /// Items for a user. Where they can't be what the scene wants, the answer says what they are.
    ///
    /// # Errors
    /// [`RequestError`] when something is wrong with the request; nothing else.
    pub async fn recommend(&self, request: RecommendRequest) -> Result<Answer, RequestError> {
        let serving = self.serving();
        let Running {
            core, deployments, ..
        } = &*serving;
        let answered = core.recommend(request, deployments).await;
        core.count(&answered, &core.counters.recommended);
        answered
    }

    /// How many items are asked for, where that comes as text.
    pub(crate) fn item_count(&self, text: &str) -> Result<usize, RequestError> {
        let serving = self.serving();
        let core = &serving.core;
        let count = crate::request::count(text, &core.config.limits);
        if count.is_err() {
            core.counters.refused.fetch_add(1, Relaxed);
        }
        count
    }

    /// The caller's own candidates in a better order, all of them: those that are not known stand
    /// last, in the caller's order. Nothing is left out, varied or explored.
    ///
    /// # Errors
    /// [`RequestError`] when something is wrong with the request; nothing else.
    pub async fn rerank(&self, request: RerankRequest) -> Result<Answer, RequestError> {
        let serving = self.serving();
        let Running {
            core, deployments, ..
        } = &*serving;
        let answered = core.rerank(request, deployments).await;
        core.count(&answered, &core.counters.reranked);
        answered
    }

    /// Deploys the ranker model of this name: checks it, warms it up on real items, switches. What
    /// served before is kept for [`rollback`](Self::rollback).
    ///
    /// # Errors
    /// [`DeployError`]: another deploy is under way, there is no such model, or it can't serve here.
    /// What served before still does.
    pub async fn deploy(&self, version: &str) -> Result<DeploymentStatus, DeployError> {
        let serving = self.serving();
        let (sample, version) = (serving.core.sample(), version.to_owned());
        let deployments = Arc::clone(&serving.deployments);
        let deploy = move || deployments.deploy(&version, &sample);
        blocking(deploy).await.ok_or(DeployError::Cancelled)?
    }

    /// Goes back to what served before; a second rollback goes forth again.
    ///
    /// # Errors
    /// [`DeployError`]: nothing served before, or it can't any more.
    pub async fn rollback(&self) -> Result<DeploymentStatus, DeployError> {
        let serving = self.serving();
        let sample = serving.core.sample();
        let deployments = Arc::clone(&serving.deployments);
        let rollback = move || deployments.rollback(&sample);
        blocking(rollback).await.ok_or(DeployError::Cancelled)?
    }

    /// What serves and what could.
    ///
    /// # Errors
    /// The folder of models can't be read.
    pub fn deployment(&self) -> Result<DeploymentStatus, DeployError> {
        self.serving().deployments.status()
    }

    /// An instance's configuration.
    #[must_use]
    pub fn config(&self, instance: &str) -> InstanceConfig {
        self.serving().deployments.config(instance)
    }

    /// Changes an instance's configuration and no other's, at once and for good. What is allowed and
    /// probably not wanted is warned of.
    ///
    /// # Errors
    /// Weights that are negative or do not sum to 1, too many instances; the change can't be written
    /// down.
    pub fn set_config(
        &self,
        instance: &str,
        config: InstanceConfig,
    ) -> Result<ConfigChange, SetConfigError> {
        self.serving().deployments.set_config(instance, config)
    }

    /// Names of the scenes, the default one included.
    #[must_use]
    pub fn scenes(&self) -> String {
        self.serving().core.config.scene_names()
    }

    /// What is known of an item.
    #[must_use]
    pub fn item(&self, item_id: &str) -> Option<Arc<Signal>> {
        let serving = self.serving();
        let item = serving.core.catalog.read().table.get(item_id);
        item.map(|item| item.signal)
    }

    /// Whether all items that there were at the start have been read.
    #[must_use]
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.serving().core.catalog.ready()
    }

    /// What was done so far, since the encoder that serves does.
    #[must_use]
    pub fn stats(&self) -> RecommenderStats {
        let serving = self.serving();
        let core = &serving.core;
        core.counters
            .snapshot(core.catalog.stats(), core.impressions.stats())
    }

    /// Takes no more impressions, and waits at most `deadline` for the brokers to have those that
    /// there are. Requests are still answered.
    pub async fn shutdown(&self, deadline: Duration) {
        self.serving().shutdown(deadline).await;
    }
}

impl Running {
    async fn start(deps: RecommenderDeps) -> Result<Self, StartError> {
        let config = deps.config;
        config.validate()?;
        let models_dir = deps.models_dir;
        let deployments = open_deployments(
            &deps.features,
            &deps.embedding_version,
            &config,
            &models_dir,
        )
        .await?;
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let catalog = follow_topics(
            &deps.kafka,
            deps.registry,
            &config.catalog,
            &deps.embedding_version,
            deps.features.reads_user_fields(),
            &stop,
            &tasks,
        )
        .await?;
        let index_version = Arc::new(RwLock::default());
        let asking = ask_index_version(Arc::clone(&deps.index), Arc::clone(&index_version));
        let stopped = stop.clone();
        tasks.spawn(async move { stopped.run_until_cancelled(asking).await });
        let queued = config.queued_impressions;
        let impressions = Impressions::start(deps.producer, queued, stop.clone(), &tasks);
        Ok(Self {
            core: Core {
                catalog,
                index: deps.index,
                profiles: deps.profiles,
                features: deps.features,
                embedding_version: deps.embedding_version,
                config,
                impressions,
                counters: Counters::default(),
                index_version,
            },
            deployments,
            models_dir,
            stop,
            tasks,
        })
    }

    async fn shutdown(&self, deadline: Duration) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(deadline, self.tasks.wait())
            .await
            .is_err()
        {
            let waiting = self.core.impressions.stats().waiting;
            tracing::warn!(waiting, "impressions were not acknowledged in time");
        }
    }
}

impl Core {
    fn count(&self, answered: &Result<Answer, RequestError>, counter: &AtomicU64) {
        match answered {
            Ok(answer) => {
                counter.fetch_add(1, Relaxed);
                self.counters.answered(answer);
            }
            Err(_) => {
                self.counters.refused.fetch_add(1, Relaxed);
            }
        }
    }

    /// Rows of real items, as a new user has them.
    fn sample(&self) -> Vec<f32> {
        let inner = self.catalog.read();
        let fresh = inner.table.fresh().take(WARM_UP_ITEMS);
        let items = fresh.filter_map(|(id, _)| inner.table.get(id));
        let candidates: Vec<Candidate> = items
            .map(|item| Candidate {
                item,
                sources: Vec::new(),
                merge_score: 0.0,
            })
            .collect();
        let context = self.catalog.context(&inner, now_ms());
        drop(inner);
        let nobody = Profile::new("", &self.embedding_version);
        let scores = |_: &Candidate| millrace_features::Scores::default();
        rank::rows(&self.features, &nobody, &candidates, &scores, &context)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What is deployed, for rankers that read these features.
async fn open_deployments(
    features: &FeatureSet,
    embedding_version: &str,
    config: &RecommenderConfig,
    models_dir: &Path,
) -> Result<Arc<Deployments>, StartError> {
    let spec = features.spec();
    let weighted = weighted(&spec, config)?;
    let (instance, models_dir) = (config.instance.clone(), models_dir.to_owned());
    let embedding_version = embedding_version.to_owned();
    let open = move || Deployments::open(&models_dir, spec, &embedding_version, weighted, instance);
    let opened = blocking(open).await.ok_or(StartError::Cancelled)??;
    Ok(Arc::new(opened))
}

/// Keeps the name of the generation that this index handle reads: asking for each answer would cost a
/// request.
async fn ask_index_version(index: Arc<dyn SearchIndex>, version: Arc<RwLock<String>>) {
    loop {
        match index.describe().await {
            Ok(description) => {
                *version.write().unwrap_or_else(PoisonError::into_inner) = description.writes;
            }
            Err(error) => tracing::debug!(%error, "the index does not say what it is"),
        }
        tokio::time::sleep(ASK_INDEX_EVERY).await;
    }
}

/// What ranks before a model is deployed: the configured weights, or those that come with the
/// default features, as far as these features are declared.
fn weighted(spec: &FeatureSpec, config: &RecommenderConfig) -> Result<Ranker, WeightsError> {
    let configured: Vec<(&str, f64)> = config
        .weights
        .iter()
        .map(|(feature, weight)| (feature.as_str(), *weight))
        .collect();
    let weights = if configured.is_empty() {
        let declared = |(feature, _): &&(&str, f64)| spec.names.iter().any(|name| name == feature);
        DEFAULT_WEIGHTS.iter().filter(declared).copied().collect()
    } else {
        configured
    };
    WeightedDefault::new(&spec.names, &weights).map(Ranker::Weighted)
}

/// Work that reads or writes files. `None` where the runtime ends meanwhile.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Some(done),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}
