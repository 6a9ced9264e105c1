//! Vectorizers by the generation that they write.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::future::join_all;
use millrace_kafka::ConsumerHandle;
use millrace_retry::error_chain;
use millrace_schemas::{Rollout, RolloutPhase};
use millrace_vectorizer::{Tells, VectorizerHandle, VectorizerState};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Rollouts;
use crate::rollout::records::{self, described, number};
use crate::stack::deadline::Deadline;
use crate::stack::generations::OpenGeneration;
use crate::stack::pipeline::{Pipeline, Work};

/// How long a vectorizer that is stopped beside others finishes what it has begun.
const DRAIN: Duration = Duration::from_secs(9);

/// What the vectorizer that tells outcomes has done.
#[derive(Clone)]
pub struct Told {
    pub vectorizer: Arc<VectorizerHandle>,
    pub consumer: ConsumerHandle,
}

/// Those that run, by generation.
#[derive(Default)]
pub(super) struct Pipelines {
    running: BTreeMap<u32, Running>,
    /// Whose readiness is the process's, and the tasks that follow it.
    followed: Option<(u32, Vec<JoinHandle<()>>)>,
}

/// One vectorizer.
pub(super) struct Running {
    pub(super) pipeline: Pipeline,
    started: Instant,
    tells: watch::Sender<Tells>,
}

impl Running {
    /// Records that it finished a second, since it was started; none before the first.
    pub(super) fn records_per_second(&self) -> Option<f64> {
        let finished = self.pipeline.consumer.metrics().finished;
        let seconds = self.started.elapsed().as_secs_f64();
        (finished > 0 && seconds > 0.0).then(|| finished as f64 / seconds)
    }

    /// Why it can't go on, where it can't.
    pub(super) fn failure(&self) -> Option<String> {
        match &*self.pipeline.vectorizer.state().borrow() {
            VectorizerState::Failed { reason } => Some(reason.clone()),
            VectorizerState::Running | VectorizerState::Stopped => None,
        }
    }
}

/// A generation that is to be written.
struct Wanted {
    open: OpenGeneration,
    /// What its vectorizer tells.
    tells: Tells,
}

/// What the new generation's vectorizer tells. From the switch on both tell everything: what one of
/// them told before it was stopped the other may not have, and whoever waits takes the first.
fn new_one_tells(rollout: &Rollout) -> Tells {
    match rollout.phase {
        RolloutPhase::Switching
        | RolloutPhase::Switched
        | RolloutPhase::RollingBack
        | RolloutPhase::Finished => Tells::Everything,
        RolloutPhase::Building
        | RolloutPhase::Ready
        | RolloutPhase::RolledBack
        | RolloutPhase::Aborted
        | RolloutPhase::Unknown => match records::is_backfill(rollout) {
            true => Tells::Nothing,
            false => Tells::Signals,
        },
    }
}

impl Pipelines {
    pub(super) fn get(&self, generation: u32) -> Option<&Running> {
        self.running.get(&generation)
    }

    pub(super) async fn stop_all(&mut self, deadline: Deadline) {
        let running = std::mem::take(&mut self.running).into_values();
        join_all(running.map(|running| running.pipeline.stop(deadline))).await;
    }
}

impl Rollouts {
    /// Starts what is wanted and does not run; stops what runs and is not wanted. `false` where a
    /// generation that does not serve could not be opened.
    ///
    /// # Errors
    /// What serves can't be opened, or a vectorizer can't be started.
    pub(super) async fn run_pipelines(
        &self,
        pipelines: &mut Pipelines,
        rollout: Option<&Rollout>,
    ) -> anyhow::Result<bool> {
        if !self.deps.pipeline {
            return Ok(true);
        }
        let serving = self.deps.generations.serving().await?.spec.generation;
        let (wanted, is_whole) = self.wanted(rollout, serving).await?;
        let is_wanted = |generation: &u32| wanted.iter().any(|it| it.number() == *generation);
        for Wanted { open, tells } in &wanted {
            let generation = open.spec.generation;
            if let Some(running) = pipelines.running.get(&generation) {
                running.tells.send_replace(*tells);
                continue;
            }
            let running = self.pipeline(open, *tells).await;
            let running =
                running.with_context(|| format!("{} can't be written", open.spec.index_name()))?;
            pipelines.running.insert(generation, running);
        }
        // Before others stop, which would be told as this process's.
        let told = wanted.iter().find(|it| it.number() == serving);
        if let Some(told) = told.or(wanted.first()) {
            self.follow_pipeline(pipelines, told.number()).await;
        }
        let others = pipelines.running.keys().copied();
        let others: Vec<u32> = others.filter(|generation| !is_wanted(generation)).collect();
        for generation in others {
            if let Some(running) = pipelines.running.remove(&generation) {
                running.pipeline.stop(Deadline::after(DRAIN)).await;
            }
            self.deps.generations.close(generation);
        }
        Ok(is_whole)
    }

    /// What is to be written, first what always tells, and whether that is all. A generation of the
    /// record that is gone is left out: opened, it would be made anew, and empty. One that can't be
    /// opened now (its model is away) must not keep back what serves.
    async fn wanted(
        &self,
        rollout: Option<&Rollout>,
        serving: u32,
    ) -> anyhow::Result<(Vec<Wanted>, bool)> {
        let generations = &self.deps.generations;
        let Some(rollout) = rollout.filter(|rollout| rollout.phase.is_open()) else {
            let open = generations.serving().await?;
            let tells = Tells::Everything;
            return Ok((vec![Wanted { open, tells }], true));
        };
        let there = generations.all().list(&rollout.index).await?;
        let (mut wanted, mut is_whole) = (Vec::new(), true);
        for (of, tells) in [
            (&rollout.from, Tells::Everything),
            (&rollout.to, new_one_tells(rollout)),
        ] {
            if there.iter().any(|found| found.generation == number(of)) {
                match generations.open(&described(rollout, of)).await {
                    Ok(open) => wanted.push(Wanted { open, tells }),
                    Err(error) if number(of) == serving => return Err(error),
                    Err(error) => {
                        is_whole = false;
                        tracing::error!(
                            generation = of.generation,
                            "a generation of the rollout can't be written now; trying again: {}",
                            error_chain(error.as_ref())
                        );
                    }
                }
            } else {
                tracing::error!(
                    generation = of.generation,
                    phase = %rollout.phase,
                    "a generation of the rollout is gone; the other one is written alone"
                );
            }
        }
        if let [only] = wanted.as_mut_slice() {
            only.tells = Tells::Everything;
        }
        Ok((wanted, is_whole))
    }

    async fn pipeline(&self, open: &OpenGeneration, tells: Tells) -> anyhow::Result<Running> {
        let (tells, told) = watch::channel(tells);
        let work = Work {
            open,
            objects: &self.deps.objects,
            outsiders: self.deps.outsiders,
            tells: told,
        };
        Ok(Running {
            pipeline: Pipeline::start(&self.deps.config, &self.deps.kafka, work).await?,
            started: Instant::now(),
            tells,
        })
    }

    /// Has readiness and metrics be those of this generation's vectorizer. Another one beside it must
    /// neither hold the process back nor end it.
    async fn follow_pipeline(&self, pipelines: &mut Pipelines, generation: u32) {
        if let Some((followed, tasks)) = pipelines.followed.take() {
            if followed == generation {
                pipelines.followed = Some((followed, tasks));
                return;
            }
            for task in tasks {
                task.abort();
                // Ended, it says nothing of the one that was stopped any more.
                let _ = task.await;
            }
        }
        if let Some(running) = pipelines.running.get(&generation) {
            let pipeline = &running.pipeline;
            let tasks = pipeline.follow(&self.deps.health, &self.deps.failed);
            pipelines.followed = Some((generation, tasks));
            self.told.send_replace(Some(Told {
                vectorizer: Arc::clone(&pipeline.vectorizer),
                consumer: pipeline.consumer.clone(),
            }));
        }
    }
}

impl Wanted {
    fn number(&self) -> u32 {
        self.open.spec.generation
    }
}
