//! Comparing the store with the index: on a schedule, and for watched folders at the start.

use std::sync::Arc;

use anyhow::{Context, bail};
use millrace_index::SearchIndex;
use millrace_kafka::{KafkaConfig, Producer};
use millrace_models::Encoder;
use millrace_objects::{ObjectStores, ObjectUri};
use millrace_producers::Publisher;
use millrace_reconciler::schedule::{Schedule, ScheduleDeps, SharedStats};
use millrace_reconciler::sweep::horizon;
use millrace_reconciler::{
    IndexHeaders, Reconciler, ReconcilerConfig, ReconcilerOptions, RemovalLimit,
};

use super::pipeline::vectorizer_group;
use crate::config::Config;

/// The parts that a comparison is made of.
#[derive(Clone)]
pub struct Compares {
    pub config: Config,
    pub kafka: KafkaConfig,
    pub index: Arc<dyn SearchIndex>,
    pub objects: Arc<ObjectStores>,
    pub encoder: Arc<Encoder>,
}

impl Compares {
    /// Compares with the index of this process; without `signals` the topic is not read.
    pub fn reconciler(&self, signals: bool) -> Reconciler {
        let group = vectorizer_group(&self.config.kafka, &self.config.index.name);
        Reconciler {
            stores: ObjectStores::clone(&self.objects),
            headers: Arc::new(IndexHeaders(Arc::clone(&self.index))),
            kafka: self.kafka.clone(),
            options: ReconcilerOptions {
                signals,
                ..ReconcilerOptions::new(self.encoder.version(), group)
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
        let deps = ScheduleDeps {
            reconciler: self.reconciler(true),
            roots: self.roots()?,
            every: config.every,
            repair,
            index: Arc::clone(&self.index),
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

/// How much a repair without a person may remove.
pub fn removal_limit(config: &ReconcilerConfig) -> RemovalLimit {
    RemovalLimit {
        max_percent: config.max_delete_percent,
        force: false,
    }
}
