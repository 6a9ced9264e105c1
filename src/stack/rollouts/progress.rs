//! How far a rollout is.

use millrace_index::IndexCounts;
use millrace_kafka::{Admin, PartitionLag, topics};
use millrace_retry::error_chain;
use millrace_schemas::{Rollout, RolloutGeneration};
use serde::{Deserialize, Serialize};

use super::pipelines::Running;
use super::{RolloutError, Rollouts};
use crate::rollout::records::number;
use crate::stack::pipeline::vectorizer_group;

/// How far the new generation's vectorizer is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Records of `documents` that it has done, of those the topic has.
    pub records: i64,
    pub records_total: i64,
    /// Records a second since it was started in this process; none where it does not run here.
    pub records_per_second: Option<f64>,
    /// What is left, at that rate.
    pub seconds_left: Option<f64>,
    /// What the two generations hold.
    pub old: Counts,
    pub new: Counts,
    /// Why its vectorizer can't go on, where it can't.
    pub failure: Option<String>,
}

/// What a generation holds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    pub documents: u64,
    pub chunks: u64,
}

impl From<IndexCounts> for Counts {
    fn from(counts: IndexCounts) -> Self {
        Self {
            documents: counts.documents,
            chunks: counts.chunks,
        }
    }
}

/// How an index is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RolloutStatus {
    /// Name of the generation that serves, by the alias; none where the alias is gone.
    pub serving: Option<String>,
    pub model_version: Option<String>,
    /// The last rollout.
    pub rollout: Option<Rollout>,
    /// While it is open.
    pub progress: Option<Progress>,
}

impl RolloutStatus {
    /// The last rollout, while both generations are written.
    pub fn open(&self) -> Option<&Rollout> {
        let rollout = self.rollout.as_ref();
        rollout.filter(|rollout| rollout.phase.is_open())
    }
}

impl Rollouts {
    /// How the index is.
    ///
    /// # Errors
    /// The index or the brokers can't be reached.
    pub async fn status(&self) -> Result<RolloutStatus, RolloutError> {
        let name = &self.deps.config.index.name;
        let serving = self.deps.generations.all().resolve(name).await?;
        let rollout = self.now();
        let progress = match &rollout {
            Some(rollout) if rollout.phase.is_open() => Some(self.progress(rollout).await?),
            _ => None,
        };
        let (serving, model_version) = serving
            .map(|serving| (serving.index, serving.model_version))
            .unzip();
        Ok(RolloutStatus {
            serving,
            model_version,
            rollout,
            progress,
        })
    }

    async fn progress(&self, rollout: &Rollout) -> Result<Progress, RolloutError> {
        let lags = self.lags(&rollout.to, &rollout.index).await?;
        let done = |lag: &PartitionLag| {
            let committed = lag.committed.unwrap_or(lag.oldest);
            (committed - lag.oldest).clamp(0, lag.end - lag.oldest)
        };
        let records = lags.iter().map(done).sum();
        let records_total = lags.iter().map(|lag| lag.end - lag.oldest).sum();
        let (rate, failure) = {
            let work = self.work.lock().await;
            let running = work.pipelines.get(number(&rollout.to));
            (
                running.and_then(Running::records_per_second),
                running.and_then(Running::failure),
            )
        };
        let counts = self.counts(rollout).await;
        let (old, new) = *counts.as_ref().unwrap_or(&Default::default());
        Ok(Progress {
            records,
            records_total,
            records_per_second: rate,
            seconds_left: rate.map(|rate| (records_total - records) as f64 / rate),
            old,
            new,
            // A generation that is gone is what is to be told here, and no reason to tell nothing.
            failure: failure.or(counts.err().map(|error| error_chain(error.as_ref()))),
        })
    }

    async fn counts(&self, rollout: &Rollout) -> anyhow::Result<(Counts, Counts)> {
        let (old, new) = self.pair(rollout).await?;
        let counted = (old.index.count().await?, new.index.count().await?);
        Ok((counted.0.into(), counted.1.into()))
    }

    /// How far the group of this generation is behind on the documents.
    pub(super) async fn lags(
        &self,
        of: &RolloutGeneration,
        name: &str,
    ) -> anyhow::Result<Vec<PartitionLag>> {
        let index = millrace_index::generation_name(name, number(of));
        let group = vectorizer_group(&self.deps.kafka, &index);
        let documents = [self.deps.kafka.topic(topics::DOCUMENTS)];
        let admin = Admin::connect(&self.deps.kafka)?;
        Ok(admin.group_lag(&group, &documents).await?)
    }
}
