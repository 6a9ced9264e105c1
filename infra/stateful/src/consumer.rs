//! The consumer as a whole: the member that works, and the one that builds the next generation.

mod rebuilding;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millrace_kafka::{Admin, AdminError, ConsumerHandle, ConsumerState, Drained, KafkaConfig};
use millrace_retry::error_chain;
use millrace_state::{Shard, StateError, Table};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::deps::{Deps, StartError, check_partitions};
use crate::member::Member;
use crate::partition::Standing;
use crate::rebuild::{Rebuild, RebuildError, RebuildProgress, Rebuilt};
use crate::work::{PartitionWork, Work};

/// How a stateful consumer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunState {
    /// It works, or waits for brokers and store.
    Running,
    /// It was asked to stop and has.
    Stopped,
    /// It can do nothing more; the process should restart.
    Failed {
        /// Why.
        reason: String,
    },
}

/// A running stateful consumer. Dropped, it stops at once without waiting.
pub struct StatefulConsumer<W: Work> {
    running: Arc<Running<W>>,
}

struct Running<W: Work> {
    deps: Deps,
    admin: Admin,
    work: Arc<W>,
    /// Of its topics.
    partition_count: i32,
    /// The member that works for the live generation.
    live: RwLock<Arc<Member<W>>>,
    /// The live member's.
    health: watch::Sender<ConsumerState>,
    state: watch::Sender<RunState>,
    /// Held by the one rebuild.
    rebuilding: tokio::sync::Mutex<()>,
    /// Held while another member becomes the live one: the old one's end is no failure then.
    switching: tokio::sync::Mutex<()>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl<W: Work> StatefulConsumer<W> {
    /// Joins the group of the live generation and begins to work.
    ///
    /// # Errors
    /// [`StartError`]; nothing was read or written.
    pub async fn start(deps: Deps, work: W) -> Result<Self, StartError> {
        let admin = Admin::connect(&deps.kafka)?;
        let partition_count = check_partitions::<W>(&deps.kafka, &admin).await?;
        let generation = deps.state.live_generation().await?;
        let work = Arc::new(work);
        let member = Member::start(&deps, &admin, &work, generation, None)?;
        let running = Arc::new(Running {
            health: watch::Sender::new(member.consumer.health().borrow().clone()),
            live: RwLock::new(Arc::clone(&member)),
            deps,
            admin,
            work,
            partition_count,
            state: watch::Sender::new(RunState::Running),
            rebuilding: tokio::sync::Mutex::default(),
            switching: tokio::sync::Mutex::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        running.follow(member);
        Ok(Self { running })
    }

    /// What it was started with.
    #[must_use]
    pub fn work(&self) -> &W {
        &self.running.work
    }

    /// How it is.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<RunState> {
        self.running.state.subscribe()
    }

    /// Whether its membership in the group works, whichever generation's it is.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<ConsumerState> {
        self.running.health.subscribe()
    }

    /// The present membership in the group.
    #[must_use]
    pub fn member(&self) -> ConsumerHandle {
        self.running.live().consumer.clone()
    }

    /// How its partitions stand.
    #[must_use]
    pub fn standings(&self) -> BTreeMap<i32, Standing<<W::Partition as PartitionWork>::View>> {
        self.running.live().context.standings().clone()
    }

    /// Writes that the state refused since the generation began: another writer, or a store that
    /// went back.
    #[must_use]
    pub fn refused_writes(&self) -> u64 {
        self.running.live().context.refused_writes.load(Relaxed)
    }

    /// Partitions of its topics.
    #[must_use]
    pub fn partition_count(&self) -> i32 {
        self.running.partition_count
    }

    /// To ask the brokers.
    #[must_use]
    pub fn admin(&self) -> &Admin {
        &self.running.admin
    }

    /// How the brokers are reached.
    #[must_use]
    pub fn kafka(&self) -> &KafkaConfig {
        &self.running.deps.kafka
    }

    /// A value of the live generation, whoever writes the partition.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn get(
        &self,
        partition: i32,
        table: Table,
        key: Vec<u8>,
    ) -> Result<Option<Bytes>, StateError> {
        let shard = Shard {
            generation: self.generation(),
            partition,
        };
        let state = &self.running.deps.state;
        let found = state.get(shard, vec![(table, key)]).await?;
        Ok(found.into_iter().next().flatten())
    }

    /// Runs `work` beside the partitions; its failure is the consumer's.
    pub fn spawn_beside<E>(&self, work: impl Future<Output = Result<(), E>> + Send + 'static)
    where
        E: std::error::Error + Send + 'static,
    {
        let running = Arc::clone(&self.running);
        self.running.tasks.spawn(async move {
            if let Some(Err(error)) = running.stop.run_until_cancelled(work).await {
                running.fail(error_chain(&error));
            }
        });
    }

    /// Takes all that the topics hold now as all there is: waits until it was applied, and has what
    /// waits for more give up. For bounded inputs, whose last records nothing follows. Covers the
    /// partitions of this process; before its first assignment it waits for one.
    ///
    /// # Errors
    /// The brokers cannot be asked.
    pub async fn end_of_input(&self) -> Result<(), AdminError> {
        let running = &self.running;
        let own_ends = running.end_offsets(W::TOPIC).await?;
        let beside_ends = match W::BESIDE {
            Some(topic) => running.end_offsets(topic).await?,
            None => BTreeMap::new(),
        };
        running.live().end_input(&own_ends, &beside_ends).await;
        Ok(())
    }

    /// Takes nothing more, finishes what was begun within `deadline`, commits, leaves the group.
    /// To be followed by [`StatefulConsumer::stop`].
    pub async fn drain(&self, deadline: Duration) -> Drained {
        self.running.live().drain(deadline).await
    }

    /// Drains, then stops.
    pub async fn shutdown(&self, deadline: Duration) -> Drained {
        let drained = self.drain(deadline).await;
        self.stop().await;
        drained
    }

    /// Ends what is left, and what runs beside.
    pub async fn stop(&self) {
        let running = &self.running;
        running.stop.cancel();
        running.live().stop().await;
        running.tasks.close();
        running.tasks.wait().await;
        running.state.send_if_modified(|state| {
            let was_running = *state == RunState::Running;
            if was_running {
                *state = RunState::Stopped;
            }
            was_running
        });
    }
}

#[async_trait]
impl<W: Work> Rebuild for StatefulConsumer<W> {
    fn generation(&self) -> u32 {
        self.running.live().context.generation
    }

    async fn extent(&self) -> Result<Rebuilt, RebuildError> {
        let generation = self.generation();
        let extent = self.running.extent().await?;
        Ok(Rebuilt {
            topic: self.running.deps.kafka.topic(W::TOPIC),
            old: generation,
            new: generation,
            records: extent.total(),
            records_gone: extent.gone(),
        })
    }

    async fn rebuild(
        &self,
        accept_loss: bool,
        progress: &(dyn Fn(RebuildProgress) + Send + Sync),
    ) -> Result<Rebuilt, RebuildError> {
        let consumer = W::NAME;
        let work = self.running.rebuild(accept_loss, progress);
        let ended = self.running.stop.run_until_cancelled(work).await;
        ended.unwrap_or(Err(RebuildError::Stopped { consumer }))
    }
}

impl<W: Work> Drop for StatefulConsumer<W> {
    fn drop(&mut self) {
        self.running.stop.cancel();
        self.running.live().cut_off();
    }
}

impl<W: Work> Running<W> {
    fn live(&self) -> Arc<Member<W>> {
        Arc::clone(&self.live.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells of this member's health and failure for as long as it is the live one.
    fn follow(self: &Arc<Self>, member: Arc<Member<W>>) {
        let running = Arc::clone(self);
        self.tasks.spawn(async move {
            let mut health = member.consumer.health();
            let follow = async {
                while Arc::ptr_eq(&running.live(), &member) {
                    running
                        .health
                        .send_replace(health.borrow_and_update().clone());
                    if health.changed().await.is_err() {
                        return;
                    }
                }
            };
            let fail = async {
                let reason = member.failed().await;
                let _switching = running.switching.lock().await;
                if Arc::ptr_eq(&running.live(), &member) {
                    running.fail(reason);
                }
            };
            tokio::select! {
                () = follow => {}
                () = fail => {}
                () = running.stop.cancelled() => {}
            }
        });
    }

    fn fail(&self, reason: String) {
        tracing::error!(
            consumer = W::NAME,
            reason,
            "it can't go on; restart the process"
        );
        self.state.send_replace(RunState::Failed { reason });
        self.stop.cancel();
        self.live().cut_off();
    }

    async fn end_offsets(&self, topic: &str) -> Result<BTreeMap<i32, i64>, AdminError> {
        self.admin.end_offsets(&self.deps.kafka.topic(topic)).await
    }
}
