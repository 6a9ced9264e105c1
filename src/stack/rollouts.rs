//! The vectorizers of this process, one for each generation that is written, and the rollout that says
//! which those are. Whoever writes or searches an index follows its record, so a restart in any phase
//! goes on in it.

mod building;
mod orders;
mod pipelines;
mod plan;
mod progress;

use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Context;
use millrace_kafka::{KafkaConfig, Producer, TopicReader};
use millrace_objects::ObjectStores;
use millrace_retry::error_chain;
use millrace_schemas::{Rollout, RolloutPhase};
use millrace_telemetry::Health;
use millrace_vectorizer::Outsiders;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::orders::{RolloutError, SwitchOrder};
use self::pipelines::Pipelines;
pub use self::pipelines::Told;
pub use self::plan::Plan;
pub use self::progress::RolloutStatus;
use super::deadline::Deadline;
use super::generations::OpenGenerations;
use crate::config::Config;
use crate::rollout::liking::Liking;
use crate::rollout::recent::RecentQueries;
use crate::rollout::records;

/// After the record could not be followed, or a generation not be built.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// What rollouts stand on.
pub struct RolloutsDeps {
    pub config: Config,
    pub kafka: KafkaConfig,
    pub generations: Arc<OpenGenerations>,
    pub objects: Arc<ObjectStores>,
    /// What was searched for in this process.
    pub recent: RecentQueries,
    /// Whether this process turns notices into index records.
    pub pipeline: bool,
    pub outsiders: Outsiders,
    pub health: Health,
    pub failed: CancellationToken,
}

/// Follows the record and does what it says.
pub struct Rollouts {
    deps: RolloutsDeps,
    producer: Producer,
    /// The last record of the index.
    state: watch::Sender<Option<Rollout>>,
    /// The generation that serves, as far as the record says.
    serving: watch::Sender<u32>,
    /// One order, or one record, at a time.
    work: Mutex<Work>,
    told: watch::Sender<Option<Told>>,
    /// The generations that parts of this process read, which go over to another by themselves.
    readers: std::sync::Mutex<Vec<watch::Receiver<u32>>>,
    /// What users like, where this process knows that.
    liking: OnceLock<Liking>,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

/// What one order or record changes.
struct Work {
    pipelines: Pipelines,
    /// Offset of the last record that was taken; -1 before the first.
    taken: i64,
    /// Whether not all that the record asks for is done here: it is tried again.
    is_behind: bool,
}

impl Rollouts {
    /// Reads the record to its end, starts the vectorizers that it asks for, and follows it.
    ///
    /// # Errors
    /// The brokers can't be reached, or a part of what it asks for can't be started.
    pub async fn start(deps: RolloutsDeps) -> anyhow::Result<Arc<Self>> {
        let producer = Producer::connect(&deps.kafka)?;
        let mut reader = records::follow(&deps.kafka).await?;
        let name = &deps.config.index.name;
        let (last, taken) = records::last(&mut reader, name).await?;
        let serving = deps.generations.serving().await?.spec.generation;
        let rollouts = Arc::new(Self {
            work: Mutex::new(Work {
                pipelines: Pipelines::default(),
                taken,
                is_behind: false,
            }),
            deps,
            producer,
            state: watch::channel(None).0,
            serving: watch::channel(serving).0,
            told: watch::channel(None).0,
            readers: std::sync::Mutex::default(),
            liking: OnceLock::new(),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        if let Some(last) = &last {
            tracing::info!(
                phase = %last.phase,
                from = last.from.generation,
                to = last.to.generation,
                "a rollout goes on where it was"
            );
        }
        {
            let mut work = rollouts.work.lock().await;
            let applied = rollouts.apply(&mut work, last).await;
            applied.context("the vectorizer can't be started")?;
        }
        rollouts.spawn(Arc::clone(&rollouts).follow(reader));
        rollouts.spawn(Arc::clone(&rollouts).catch_up());
        if rollouts.deps.pipeline {
            rollouts.spawn(Arc::clone(&rollouts).build());
        }
        Ok(rollouts)
    }

    /// What the vectorizer that tells outcomes has done; another one's after a rollout.
    pub fn told(&self) -> watch::Receiver<Option<Told>> {
        self.told.subscribe()
    }

    /// The generation that serves, told of at each change.
    pub fn serving(&self) -> watch::Receiver<u32> {
        self.serving.subscribe()
    }

    /// The last record of the index, told of at each change.
    pub fn record(&self) -> watch::Receiver<Option<Rollout>> {
        self.state.subscribe()
    }

    /// Has [`finish`](Self::finish) wait for a part that tells which generation it reads.
    pub fn add_reader(&self, reads: watch::Receiver<u32>) {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.push(reads);
    }

    /// Has the gates judge the order of what users were shown; the first one given stays.
    pub fn judge_by(&self, liking: Liking) {
        self.liking.get_or_init(|| liking);
    }

    /// Whether a part of this process reads another generation than this one still.
    fn is_read_elsewhere(&self, generation: u32) -> bool {
        let readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.iter().any(|reads| *reads.borrow() != generation)
    }

    /// Finishes what has begun, then leaves the groups.
    pub async fn stop(&self, deadline: Deadline) {
        self.stopping.cancel();
        self.tasks.close();
        deadline.wait_for("the rollout", self.tasks.wait()).await;
        let stopping = async {
            let mut work = self.work.lock().await;
            work.pipelines.stop_all(deadline).await;
        };
        deadline.wait_for("the vectorizers", stopping).await;
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.stopping.clone();
        self.tasks.spawn(async move {
            stopping.run_until_cancelled(task).await;
        });
    }

    /// Takes the records that come, those of other processes too.
    async fn follow(self: Arc<Self>, mut reader: TopicReader) {
        loop {
            while let Some(record) = reader.next().await {
                match record {
                    Ok(record) => {
                        let name = &self.deps.config.index.name;
                        if let Some(rollout) = records::of_index(&record, name) {
                            self.take(rollout, record.offset).await;
                        }
                    }
                    Err(error) => {
                        let reason = error_chain(&error);
                        tracing::warn!(
                            reason,
                            "the rollout's record can't be followed; trying again"
                        );
                        break;
                    }
                }
            }
            reader = loop {
                tokio::time::sleep(TRY_AGAIN).await;
                match records::follow(&self.deps.kafka).await {
                    Ok(reader) => break reader,
                    Err(error) => {
                        let reason = error_chain(&error);
                        tracing::warn!(
                            reason,
                            "the rollout's record can't be followed; trying again"
                        );
                    }
                }
            };
        }
    }

    async fn take(&self, rollout: Rollout, offset: i64) {
        let mut work = self.work.lock().await;
        // Our own are taken when they are written; after a reader was opened anew all come again.
        if offset <= work.taken {
            return;
        }
        work.taken = offset;
        if let Err(error) = self.apply(&mut work, Some(rollout)).await {
            tracing::error!(
                "what the rollout asks for is not done here; trying again: {}",
                error_chain(error.as_ref())
            );
        }
    }

    /// Tries again what the record asks for and could not be done.
    async fn catch_up(self: Arc<Self>) {
        loop {
            tokio::time::sleep(TRY_AGAIN).await;
            let mut work = self.work.lock().await;
            if !work.is_behind {
                continue;
            }
            let now = self.now();
            if let Err(error) = self.apply(&mut work, now).await {
                tracing::warn!(
                    "what the rollout asks for is not done here yet: {}",
                    error_chain(error.as_ref())
                );
            }
        }
    }

    /// Writes that `rollout` has reached `phase`, and does what that means here.
    async fn reach(
        &self,
        work: &mut Work,
        rollout: &Rollout,
        phase: RolloutPhase,
        who: &str,
    ) -> anyhow::Result<Rollout> {
        let (reached, offset) = records::publish(&self.producer, rollout, phase, who).await?;
        tracing::info!(%phase, from = reached.from.generation, to = reached.to.generation, "rollout");
        let applied = self.apply(work, Some(reached.clone())).await;
        work.taken = work.taken.max(offset);
        applied?;
        Ok(reached)
    }

    /// Has what runs in this process be what the record asks for.
    async fn apply(&self, work: &mut Work, rollout: Option<Rollout>) -> anyhow::Result<()> {
        work.is_behind = true;
        let applied = self
            .run_pipelines(&mut work.pipelines, rollout.as_ref())
            .await;
        // Told even where a vectorizer could not be started: the next order must know the phase.
        self.state.send_replace(rollout);
        let serving = self.deps.generations.serving().await;
        work.is_behind = !matches!(applied, Ok(true)) || serving.is_err();
        if let Ok(serving) = serving {
            let number = serving.spec.generation;
            let closed = self.now().filter(|rollout| !rollout.phase.is_open());
            for of in closed
                .iter()
                .flat_map(|rollout| [&rollout.from, &rollout.to])
            {
                if records::number(of) != number {
                    self.deps.generations.close(records::number(of));
                }
            }
            self.serving.send_if_modified(|known| {
                let changed = *known != number;
                *known = number;
                changed
            });
        }
        applied.map(drop)
    }

    fn now(&self) -> Option<Rollout> {
        self.state.borrow().clone()
    }
}
