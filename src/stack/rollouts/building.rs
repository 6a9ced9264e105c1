//! Until a new generation has what the old one has: wait until the topic is read, then fill the gaps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use millrace_kafka::{Admin, PartitionLag, topics};
use millrace_retry::error_chain;
use millrace_schemas::{Rollout, RolloutGeneration, RolloutPhase};

use super::{Rollouts, TRY_AGAIN};
use crate::rollout::fill;
use crate::rollout::measure::Pair;
use crate::rollout::records::{described, number};
use crate::stack::generations::OpenGeneration;
use crate::stack::pipeline::vectorizer_group;

/// How often the group's offsets are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long the switch waits for what is on its way.
const LEVEL_WITHIN: Duration = Duration::from_secs(120);
/// Who has this partition builds; the other members of the group would do the same work again.
const BUILDERS_PARTITION: i32 = 0;

impl Rollouts {
    /// Builds whenever the record says so, until it is done.
    pub(super) async fn build(self: Arc<Self>) {
        let mut state = self.state.subscribe();
        loop {
            let building = |rollout: &Option<Rollout>| {
                let rollout = rollout.as_ref();
                rollout.is_some_and(|rollout| rollout.phase == RolloutPhase::Building)
            };
            let Ok(rollout) = state.wait_for(building).await.map(|it| it.clone()) else {
                return;
            };
            if let Some(rollout) = rollout
                && let Err(error) = self.build_once(&rollout).await
            {
                tracing::warn!(
                    "the new generation is not whole yet; trying again: {}",
                    error_chain(error.as_ref())
                );
            }
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }

    async fn build_once(&self, rollout: &Rollout) -> anyhow::Result<()> {
        if !self.is_builder(rollout).await {
            return Ok(());
        }
        let mut state = self.state.subscribe();
        let filled = tokio::select! {
            filled = self.fill(rollout) => filled?,
            // A generation that is gone would be waited for without end.
            _ = state.wait_for(|now| now.as_ref() != Some(rollout)) => return Ok(()),
        };
        let mut work = self.work.lock().await;
        if self.now().as_ref() != Some(rollout) {
            return Ok(());
        }
        let ready = Rollout {
            filled: rollout.filled + i64::try_from(filled).unwrap_or(i64::MAX),
            ..rollout.clone()
        };
        let who = rollout.who.clone();
        self.reach(&mut work, &ready, RolloutPhase::Ready, &who)
            .await?;
        Ok(())
    }

    /// Waits until the topic is read, then makes what the new generation lacks; how many documents.
    async fn fill(&self, rollout: &Rollout) -> anyhow::Result<u64> {
        self.caught_up_or_failed(rollout).await?;
        let (old, new) = self.pair(rollout).await?;
        let pair = Pair {
            old: &old,
            new: &new,
        };
        let lacking = fill::lacking(pair).await?;
        if lacking.is_empty() {
            return Ok(0);
        }
        tracing::info!(
            documents = lacking.len(),
            "the topic does not have these any more; they are made of the stored text"
        );
        // What the old generation took from the topic meanwhile the new one takes from there too.
        self.caught_up_or_failed(rollout).await?;
        let config = &self.deps.config.vectorizer;
        fill::fill(pair, &lacking, &self.deps.kafka, &self.producer, config).await
    }

    async fn is_builder(&self, rollout: &Rollout) -> bool {
        let work = self.work.lock().await;
        let running = work.pipelines.get(number(&rollout.to));
        running.is_some_and(|running| {
            let partitions = running.pipeline.consumer.metrics().partitions;
            partitions
                .iter()
                .any(|it| it.partition == BUILDERS_PARTITION)
        })
    }

    /// The two generations of a rollout.
    ///
    /// # Errors
    /// One of them is gone, or can't be opened.
    pub(super) async fn pair(
        &self,
        rollout: &Rollout,
    ) -> anyhow::Result<(OpenGeneration, OpenGeneration)> {
        let old = self.one(rollout, &rollout.from).await?;
        let new = self.one(rollout, &rollout.to).await?;
        Ok((old, new))
    }

    /// One generation of a rollout.
    ///
    /// # Errors
    /// It is gone, or can't be opened.
    pub(super) async fn one(
        &self,
        rollout: &Rollout,
        of: &RolloutGeneration,
    ) -> anyhow::Result<OpenGeneration> {
        let generations = &self.deps.generations;
        let there = generations.all().list(&rollout.index).await?;
        if !there.iter().any(|found| found.generation == number(of)) {
            bail!("generation {} of the rollout is gone", of.generation);
        }
        generations.open(&described(rollout, of)).await
    }

    /// Offsets that a generation's group has committed, by partition.
    pub(super) async fn committed(
        &self,
        rollout: &Rollout,
        of: &RolloutGeneration,
    ) -> anyhow::Result<BTreeMap<i32, i64>> {
        let admin = Admin::connect(&self.deps.kafka)?;
        let group = vectorizer_group(&self.deps.kafka, &described(rollout, of).index);
        let documents = [self.deps.kafka.topic(topics::DOCUMENTS)];
        let lags = admin.group_lag(&group, &documents).await?;
        let done = |lag: &PartitionLag| lag.committed.unwrap_or(0).max(lag.oldest);
        Ok(lags.iter().map(|lag| (lag.partition, done(lag))).collect())
    }

    /// Waits until both generations' groups have done all that the topic has now, two minutes at most:
    /// members that join and leave keep partitions from being read for a while.
    pub(super) async fn level(&self, rollout: &Rollout) {
        let both = async {
            let old = self.caught_up(rollout, &rollout.from);
            let new = self.caught_up(rollout, &rollout.to);
            tokio::try_join!(old, new)
        };
        match tokio::time::timeout(LEVEL_WITHIN, both).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(
                    "how far the vectorizers are can't be read: {}",
                    error_chain(error.as_ref())
                );
            }
            Err(_) => tracing::warn!(
                within_s = LEVEL_WITHIN.as_secs(),
                "a vectorizer has not done what the topic had; the generations are compared all the same"
            ),
        }
    }

    /// Waits until a generation's group has done all that the topic has now.
    async fn caught_up(&self, rollout: &Rollout, of: &RolloutGeneration) -> anyhow::Result<()> {
        let admin = Admin::connect(&self.deps.kafka)?;
        let group = vectorizer_group(&self.deps.kafka, &described(rollout, of).index);
        let documents = [self.deps.kafka.topic(topics::DOCUMENTS)];
        let lags = admin.group_lag(&group, &documents).await?;
        let ends: BTreeMap<i32, i64> = lags.iter().map(|lag| (lag.partition, lag.end)).collect();
        loop {
            let lags = admin.group_lag(&group, &documents).await?;
            let is_done = lags.iter().all(|lag| {
                let end = ends.get(&lag.partition).copied().unwrap_or(0);
                lag.committed.unwrap_or(lag.oldest) >= end || lag.oldest >= end
            });
            if is_done {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until the new generation's group has done all that the topic has now.
    ///
    /// # Errors
    /// Its vectorizer can't go on.
    async fn caught_up_or_failed(&self, rollout: &Rollout) -> anyhow::Result<()> {
        let failed = async {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                if let Err(error) = self.still(rollout).await {
                    return error;
                }
            }
        };
        tokio::select! {
            done = self.caught_up(rollout, &rollout.to) => done,
            error = failed => Err(error),
        }
    }

    /// # Errors
    /// Another phase was reached meanwhile, or the new generation's vectorizer can't go on.
    async fn still(&self, rollout: &Rollout) -> anyhow::Result<()> {
        if self.now().as_ref() != Some(rollout) {
            bail!("another phase was reached meanwhile");
        }
        let work = self.work.lock().await;
        let running = work.pipelines.get(number(&rollout.to));
        let running = running.context("the new generation's vectorizer does not run")?;
        match running.failure() {
            Some(reason) => bail!("the new generation's vectorizer can't go on: {reason}"),
            None => Ok(()),
        }
    }
}
