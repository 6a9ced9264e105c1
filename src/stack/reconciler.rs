//! Comparing the store with the index: on a schedule, and for watched folders at the start.

use std::sync::Arc;

use anyhow::{Context, bail};
use millrace_kafka::{KafkaConfig, Producer};
use millrace_objects::{ObjectStores, ObjectUri};
use millrace_producers::Publisher;
use millrace_reconciler::schedule::{Schedule, ScheduleDeps, SharedStats};
use millrace_reconciler::sweep::horizon;
use millrace_reconciler::{
    IndexHeaders, Reconciler, ReconcilerConfig, ReconcilerOptions, RemovalLimit,
};
use millrace_retry::error_chain;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::deadline::Deadline;
use super::generations::{OpenGeneration, OpenGenerations};
use super::pipeline::vectorizer_group;
use crate::config::Config;

/// After comparisons could not be set up for another generation.
const TRY_AGAIN: std::time::Duration = std::time::Duration::from_secs(30);

/// The parts that a comparison is made of.
#[derive(Clone)]
pub struct Compares {
    pub config: Config,
    pub kafka: KafkaConfig,
    pub generations: Arc<OpenGenerations>,
    pub objects: Arc<ObjectStores>,
}

impl Compares {
    /// Compares with the generation that serves now; without `signals` the topic is not read.
    ///
    /// # Errors
    /// None serves, or the index can't be reached.
    pub async fn reconciler(&self, signals: bool) -> anyhow::Result<Reconciler> {
        Ok(self.reconciler_of(&self.generations.serving().await?, signals))
    }

    fn reconciler_of(&self, open: &OpenGeneration, signals: bool) -> Reconciler {
        let group = vectorizer_group(&self.config.kafka, &open.spec.index_name());
        Reconciler {
            stores: ObjectStores::clone(&self.objects),
            headers: Arc::new(IndexHeaders(Arc::clone(&open.index))),
            kafka: self.kafka.clone(),
            options: ReconcilerOptions {
                signals,
                ..ReconcilerOptions::new(open.encoder.version(), group)
            },
        }
    }

    /// Starts the schedule of comparisons and sweeps.
    ///
    /// # Errors
    /// Something to compare may not be read, or the horizon of the sweep is too short.
    pub async fn schedule(&self, stats: SharedStats) -> anyhow::Result<Schedule> {
        let config = &self.config.reconciler;
        let horizon = horizon(&self.kafka, config.sweep.horizon).await?;
        let repair = if config.repair {
            let publisher = Publisher::new(Producer::connect(&self.kafka)?);
            Some((publisher, removal_limit(config)))
        } else {
            None
        };
        let open = self.generations.serving().await?;
        let deps = ScheduleDeps {
            reconciler: self.reconciler_of(&open, true),
            roots: self.roots()?,
            every: config.every,
            repair,
            index: open.index,
            sweep: horizon.map(|horizon| (config.sweep.every, horizon)),
        };
        Ok(Schedule::start(deps, stats))
    }

    /// What is compared: what is configured, or else all that may be read.
    fn roots(&self) -> anyhow::Result<Vec<ObjectUri>> {
        let Config {
            reconciler,
            objects,
            uploads,
            ..
        } = &self.config;
        let mut roots = Vec::new();
        if reconciler.uris.is_empty() {
            let folders = uploads.folders.iter().chain(&objects.allowed_roots);
            for folder in folders {
                roots.push(ObjectUri::file(folder)?);
            }
            for bucket in &objects.allowed_buckets {
                roots.push(ObjectUri::parse(bucket)?);
            }
        }
        for uri in &reconciler.uris {
            let root = ObjectUri::parse(uri)
                .with_context(|| format!("reconciler.uris: {uri} can't be compared"))?;
            if let Err(error) = self.objects.allow_list().permits(&root) {
                bail!("reconciler.uris: {error}");
            }
            roots.push(root);
        }
        roots.sort();
        roots.dedup();
        Ok(roots)
    }
}

/// The schedule of what serves: begun anew whenever another generation does.
pub struct Scheduled {
    stopping: CancellationToken,
    task: JoinHandle<()>,
}

impl Scheduled {
    /// Starts it, and again at each change that `changed` tells of.
    ///
    /// # Errors
    /// As [`Compares::schedule`].
    pub async fn start(
        compares: Compares,
        stats: SharedStats,
        mut changed: watch::Receiver<u32>,
    ) -> anyhow::Result<Self> {
        changed.borrow_and_update();
        let mut schedule = Some(compares.schedule(stats.clone()).await?);
        let stopping = CancellationToken::new();
        let stopped = stopping.clone();
        let task = tokio::spawn(async move {
            while let Some(Ok(())) = stopped.run_until_cancelled(changed.changed()).await {
                if let Some(schedule) = schedule.take() {
                    schedule.stop().await;
                }
                changed.borrow_and_update();
                while schedule.is_none() {
                    match compares.schedule(stats.clone()).await {
                        Ok(started) => schedule = Some(started),
                        Err(error) => {
                            tracing::error!(
                                "no comparison can be made; trying again: {}",
                                error_chain(error.as_ref())
                            );
                            let wait = tokio::time::sleep(TRY_AGAIN);
                            if stopped.run_until_cancelled(wait).await.is_none() {
                                return;
                            }
                        }
                    }
                }
            }
            if let Some(schedule) = schedule {
                schedule.stop().await;
            }
        });
        Ok(Self { stopping, task })
    }

    /// Ends a comparison that is under way.
    pub async fn stop(self, deadline: Deadline) {
        self.stopping.cancel();
        let ended = async { drop(self.task.await) };
        deadline.wait_for("the reconciler", ended).await;
    }
}

/// How much a repair without a person may remove.
pub fn removal_limit(config: &ReconcilerConfig) -> RemovalLimit {
    RemovalLimit {
        max_percent: config.max_delete_percent,
        force: false,
    }
}
