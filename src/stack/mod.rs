//! The parts that run in one process: started so that each finds what it
//! needs, stopped in the order of the dataflow, first what brings work in,
//! then what does it, last what keeps it.

pub mod address;
mod api_server;
pub mod broker;
pub mod canary;
mod collector;
mod deadline;
pub mod generations;
pub mod granted_roots;
pub mod index;
mod joining;
mod kept_file;
mod labelling;
mod lagging;
mod metrics;
pub mod model;
mod needs;
mod objects;
mod pipeline;
mod profiling;
pub mod reach;
mod readiness;
pub mod rebuilding;
pub mod recommending;
mod reconciler;
pub mod rollouts;
pub mod serving;
pub mod states;
pub mod stop;
mod uploads;
mod watches;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::Router;
use millrace_broker::Broker;
use millrace_kafka::Producer;
use millrace_reconciler::schedule::SharedStats;
use millrace_telemetry::Health;
use millrace_telemetry::prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use self::address::RunningAddress;
use self::api_server::ApiServer;
use self::canary::Canary;
use self::collector::Collector;
use self::deadline::Deadline;
use self::generations::OpenGenerations;
use self::joining::Joining;
use self::labelling::Labelling;
use self::lagging::Lagging;
pub use self::needs::Needs;
pub use self::pipeline::{is_vectorizer_group, vectorizer_group};
use self::profiling::Profiling;
use self::rebuilding::{Rebuilds, Stateful};
use self::recommending::{Place, Recommending};
use self::reconciler::{Compares, Scheduled};
use self::rollouts::{Rollouts, RolloutsDeps};
use self::uploads::Uploads;
use crate::api::audit::Auditor;
use crate::api::control::Administrators;
use crate::api::search::InstanceSearch;
use crate::api::{self, ApiState, BehaviorState};
use crate::config::Config;
use crate::console::{self, Console};
use crate::rollout::liking::Liking;
use crate::rollout::recent::RecentQueries;
use crate::token::random_token;

/// How long a stop may take. Supervisors kill after 10 s, many of them.
const DRAIN: Duration = Duration::from_secs(9);
/// How often a start that takes long tells why.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// How often readiness is looked at while starting.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The running parts.
pub struct Stack {
    address: RunningAddress,
    api: ApiServer,
    health: Health,
    uploads: Option<Uploads>,
    reconciler: Option<Scheduled>,
    collector: Option<Collector>,
    rollouts: Option<Arc<Rollouts>>,
    joining: Option<Joining>,
    labelling: Option<Labelling>,
    profiling: Option<Profiling>,
    recommending: Option<Recommending>,
    /// Looks at the groups until it is dropped.
    lagging: Option<Lagging>,
    canary: Option<Canary>,
    broker: Option<Broker>,
    failed: CancellationToken,
}

impl Stack {
    /// Starts what is needed. The HTTP server always is, for health and metrics.
    ///
    /// # Errors
    /// The data folder is another process's, or a part can't be started; what
    /// was started before it is stopped again.
    pub async fn start(config: &Config, needs: Needs) -> anyhow::Result<Self> {
        claim(config)?;
        let health = Health::default();
        let failed = CancellationToken::new();
        let mut registry = Registry::default();
        metrics::health::register(&mut registry, &health);

        // The model takes longest, so it loads while the rest starts.
        let opening = needs.search.then(|| {
            let config = config.clone();
            tokio::spawn(async move { OpenGenerations::start(&config).await })
        });
        let (broker, kafka) = if needs.topics {
            broker::with_topics(config, needs.consumes()).await?
        } else {
            (None, config.kafka.clone())
        };
        let generations = match opening {
            Some(opening) => Some(opening.await.context("opening the index was cut off")??),
            None => None,
        };
        // The one that serves as the process starts; what follows a rollout asks again.
        let serving = match &generations {
            Some(generations) => Some(generations.serving().await?),
            None => None,
        };
        let (objects, granted_roots) = objects::open(config)?;

        let recent = RecentQueries::default();
        let rollouts = match &generations {
            Some(generations) if needs.topics => {
                let rollouts = Rollouts::start(RolloutsDeps {
                    config: config.clone(),
                    kafka: kafka.clone(),
                    generations: Arc::clone(generations),
                    objects: Arc::clone(&objects),
                    recent: recent.clone(),
                    pipeline: needs.pipeline,
                    outsiders: needs.outsiders,
                    health: health.clone(),
                    failed: failed.clone(),
                })
                .await?;
                if needs.pipeline {
                    metrics::pipeline::register(&mut registry, rollouts.told());
                }
                Some(rollouts)
            }
            Some(_) | None => None,
        };
        let model_version = match (&config.joiner.model_version, &serving) {
            (Some(version), _) => version.clone(),
            (None, Some(serving)) => serving.encoder.version().to_owned(),
            (None, None) if needs.joiner || needs.profiles => model::version(config).await?,
            (None, None) => String::new(),
        };
        // Whose items profiles are made of, too.
        let joiner_state = if needs.joiner || needs.profiles || needs.profile_reader {
            Some(states::open(config, "joiner").await?)
        } else {
            None
        };
        let joining = if let Some(state) = &joiner_state
            && needs.joiner
        {
            let state = Arc::clone(state);
            let started = Joining::start(config, &kafka, state, &model_version, &health, &failed);
            let joining = started.await?;
            metrics::joiner::register(&mut registry, &joining.joiner);
            Some(joining)
        } else {
            None
        };
        let labelling = if needs.labeler {
            let labelling = Labelling::start(config, &kafka, &health, &failed).await?;
            metrics::labeler::register(&mut registry, &labelling.labeler);
            Some(labelling)
        } else {
            None
        };
        let vectors = match joiner_state {
            Some(state) if needs.profiles || needs.profile_reader => {
                Some(profiling::item_vectors(&kafka, state).await?)
            }
            Some(_) | None => None,
        };
        let profiling = if let Some(vectors) = &vectors
            && needs.profiles
        {
            let vectors = Arc::clone(vectors);
            let started =
                Profiling::start(config, &kafka, vectors, &model_version, &health, &failed);
            let profiling = started.await?;
            metrics::profiles::register(&mut registry, &profiling.profiles);
            Some(profiling)
        } else {
            None
        };
        let profiles = match (&profiling, &vectors) {
            (Some(profiling), _) => Some(profiling.profiles.reader()),
            (None, Some(vectors)) => {
                let vectors = Arc::clone(vectors);
                Some(profiling::reader(config, &kafka, vectors, &model_version).await?)
            }
            (None, None) => None,
        };
        if let (Some(rollouts), Some(profiles), Some(vectors)) = (&rollouts, &profiles, &vectors) {
            rollouts.judge_by(Liking {
                kafka: kafka.clone(),
                profiles: profiles.clone(),
                vectors: Arc::clone(vectors),
            });
        }
        let recommending = match (&serving, &generations, &rollouts, &profiles, vectors) {
            (Some(serving), Some(generations), Some(rollouts), Some(profiles), Some(vectors))
                if needs.recommender =>
            {
                let place = Place {
                    config: config.clone(),
                    kafka: kafka.clone(),
                    profiles: profiles.clone(),
                    vectors,
                };
                let started = Recommending::start(place, serving, generations, rollouts, &health);
                let recommending = started.await?;
                metrics::recommender::register(&mut registry, &recommending.recommender);
                Some(recommending)
            }
            _ => None,
        };
        // Uploads and reconciler compare with what is indexed, so both need the search too.
        let compares = generations.as_ref().map(|generations| Compares {
            config: config.clone(),
            kafka: kafka.clone(),
            generations: Arc::clone(generations),
            objects: Arc::clone(&objects),
        });
        let uploads = match &compares {
            Some(compares) if needs.uploads => {
                let uploads = Uploads::start(compares, &failed)?;
                metrics::notices::register(&mut registry, &uploads);
                Some(uploads)
            }
            _ => None,
        };
        let reconciler = match (&compares, &rollouts) {
            (Some(compares), Some(rollouts)) if needs.reconciler => {
                let stats = SharedStats::default();
                metrics::reconciler::register(&mut registry, stats.clone());
                let serving = rollouts.serving();
                Some(Scheduled::start(compares.clone(), stats, serving).await?)
            }
            _ => None,
        };
        let collector = if needs.collector {
            let collector = Collector::new(config, &kafka)?;
            metrics::collector::register(&mut registry, collector.endpoint(), collector.tables());
            Some(collector)
        } else {
            None
        };
        let lagging = match config.lag.every() {
            Some(every) if needs.lag => {
                // Where it is all that the process does; an `up` works on without it.
                let part = (!needs.topics).then(|| health.part("lag"));
                let lagging = Lagging::start(config, &kafka, every, part)?;
                metrics::lag::register(&mut registry, &lagging.last);
                Some(lagging)
            }
            _ => None,
        };
        if let Some(rollouts) = &rollouts {
            metrics::rollouts::register(&mut registry, rollouts);
        }
        let canary = match &generations {
            Some(generations) if needs.canary => {
                Canary::start(config, &kafka, generations, &objects)?
            }
            Some(_) | None => None,
        };
        if let Some(canary) = &canary {
            metrics::canary::register(&mut registry, &canary.stats);
        }
        let control_token = random_token()?;
        let administrators = Administrators::new(config, &control_token);
        let auditor = Auditor::new(
            needs
                .topics
                .then(|| Producer::connect(&kafka))
                .transpose()?,
        );
        let deploying =
            api::ml_commons::router(config, generations.clone(), &administrators, &auditor);
        let hidden = canary::doc_id(config)?.map(|id| id.to_string());
        let mut recommendations = Router::new();
        let state = generations.map(|generations| ApiState {
            generations,
            recent,
            objects,
            granted_roots,
            control_token: control_token.as_str().into(),
            hidden,
        });
        let known = BehaviorState {
            joiner: joining.as_ref().map(|joining| Arc::clone(&joining.joiner)),
            profiles,
        };
        let console = if needs.console {
            Some(Console::new(console::Parts {
                config,
                kafka: &kafka,
                administrators: &administrators,
                search: state.clone(),
                rollouts: rollouts.clone(),
                canary: canary.as_ref().map(|canary| canary.stats.clone()),
                recommender: recommending
                    .as_ref()
                    .map(|recommending| Arc::clone(&recommending.recommender)),
                profiles: known.profiles.clone(),
            })?)
        } else {
            None
        };
        let stateful = [
            known.joiner.clone().map(Stateful::Joiner),
            profiling
                .as_ref()
                .map(|profiling| Stateful::Profiles(Arc::clone(&profiling.profiles))),
        ];
        let rebuilds = Rebuilds::new(stateful.into_iter().flatten());
        let behavior = api::behavior_router(known, &administrators).merge(api::rebuild_router(
            rebuilds,
            &administrators,
            &auditor,
        ));
        if let (Some(recommending), Some(state)) = (&recommending, &state) {
            recommendations = recommending
                .routes(config, &administrators, &auditor)?
                .merge(api::instance_search_router(InstanceSearch {
                    api: state.clone(),
                    recommender: Arc::clone(&recommending.recommender),
                    airec: config.airec.clone(),
                }));
        }
        let intake = Router::new()
            .merge(behavior)
            .merge(deploying)
            .merge(rollouts.as_ref().map_or_else(Router::new, |rollouts| {
                api::rollout_router(Arc::clone(rollouts), &administrators, &auditor)
            }))
            .merge(recommendations)
            .merge(console.map_or_else(Router::new, Console::routes))
            .merge(
                uploads
                    .as_ref()
                    .map_or_else(Router::new, |u| u.routes(config)),
            )
            .merge(
                collector
                    .as_ref()
                    .map_or_else(Router::new, Collector::routes),
            );
        let api = ApiServer::start(config, state, intake, health.clone(), registry).await?;
        let address = RunningAddress {
            pid: std::process::id(),
            api: format!("http://{}", api.address),
            kafka: kafka.bootstrap,
            topic_prefix: kafka.topic_prefix,
            control_token,
        };
        Ok(Self {
            address,
            api,
            health,
            uploads,
            reconciler,
            collector,
            rollouts,
            joining,
            labelling,
            profiling,
            recommending,
            lagging,
            canary,
            broker,
            failed,
        })
    }

    /// Where the parts can be reached.
    pub fn address(&self) -> &RunningAddress {
        &self.address
    }

    /// Waits until every part can work, and tells now and then what it waits for.
    pub async fn ready(&self) {
        let started = tokio::time::Instant::now();
        let mut told = started;
        loop {
            let report = self.health.report();
            if report.ready {
                return;
            }
            if told.elapsed() > TELL_EVERY {
                told = tokio::time::Instant::now();
                tracing::warn!(waiting = ?report.waiting, "not ready yet");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Cancelled when a part can't go on.
    pub fn failed(&self) -> CancellationToken {
        self.failed.clone()
    }

    /// Drains and stops all parts.
    pub async fn shutdown(self) {
        let deadline = Deadline::after(DRAIN);
        if let Some(canary) = self.canary {
            canary.stop(deadline).await;
        }
        if let Some(uploads) = self.uploads {
            uploads.stop(deadline).await;
        }
        if let Some(reconciler) = self.reconciler {
            reconciler.stop(deadline).await;
        }
        deadline.wait_for("the API", self.api.stop()).await;
        if let Some(recommending) = self.recommending {
            recommending.stop(deadline).await;
        }
        if let Some(collector) = self.collector {
            collector.stop(deadline).await;
        }
        if let Some(rollouts) = self.rollouts {
            rollouts.stop(deadline).await;
        }
        if let Some(joining) = self.joining {
            joining.stop(deadline).await;
        }
        if let Some(labelling) = self.labelling {
            labelling.stop(deadline).await;
        }
        if let Some(profiling) = self.profiling {
            profiling.stop(deadline).await;
        }
        drop(self.lagging);
        if let Some(broker) = self.broker {
            broker::stop(broker).await;
        }
    }
}

/// Makes the data folder and refuses it where an `up` runs on it.
fn claim(config: &Config) -> anyhow::Result<()> {
    let folder = &config.data_dir;
    if let Some(running) = RunningAddress::read(folder)? {
        bail!(
            "process {} already runs on {}, at {}; stop it, or use another folder with --data",
            running.pid,
            folder.display(),
            running.api
        );
    }
    std::fs::create_dir_all(folder)
        .with_context(|| format!("can't make the data folder {}", folder.display()))
}
