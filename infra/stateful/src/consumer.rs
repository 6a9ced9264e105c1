//! The consumer as a whole: the member that works, and the one that builds the next generation.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millrace_kafka::{
    Admin, AdminError, ConsumerError, ConsumerHandle, ConsumerState, Drained, KafkaConfig, Producer,
};
use millrace_retry::{error_chain, while_unavailable};
use millrace_state::{FIRST_GENERATION, Shard, StateError, StateStore, Table};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::member::Member;
use crate::partition::Standing;
use crate::rebuild::{self, Extent, LOOK_EVERY, Rebuild, RebuildError, RebuildProgress, Rebuilt};
use crate::work::{PartitionWork, Work};

/// How long the member of an old generation may take to leave its group.
const OLD_LEAVES_WITHIN: Duration = Duration::from_secs(5);

/// What a stateful consumer stands on.
#[derive(Clone)]
pub struct Deps {
    /// How to reach the brokers.
    pub kafka: KafkaConfig,
    /// For everything that is published.
    pub producer: Producer,
    /// Where the state is kept.
    pub state: Arc<dyn StateStore>,
    /// Most records that one write covers.
    pub batch_records: usize,
    /// Most bytes of records that one write covers.
    pub batch_bytes: usize,
}

/// Why a stateful consumer does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(Box<dyn std::error::Error + Send + Sync>),
    /// The brokers cannot be asked, or a topic is missing.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A consumer cannot be created.
    #[error(transparent)]
    Consumer(#[from] ConsumerError),
    /// The state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The topics that are joined are not partitioned alike.
    #[error(
        "{own} has {own_partitions} partitions and {beside} has {beside_partitions}, so records of one key \
         are not side by side. Partitions can't be taken away: make both topics anew with one count under \
         another kafka.topic_prefix, publish there again what they are made of (for signals the corpus), \
         mirror `behavior` into it, and start the {consumer} on it; its state is built from the topics"
    )]
    NotCopartitioned {
        /// Who joins them.
        consumer: &'static str,
        /// Full name of the consumer's own topic.
        own: String,
        /// Its partitions.
        own_partitions: usize,
        /// Full name of the topic beside.
        beside: String,
        /// Its partitions.
        beside_partitions: usize,
    },
}

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

/// The group of `consumer` that writes this generation of its state.
#[must_use]
pub fn group(kafka: &KafkaConfig, consumer: &str, generation: u32) -> String {
    format!("{}{consumer}.{generation:06}", kafka.topic_prefix)
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

    /// Where the consumer's topic begins and ends now.
    async fn extent(&self) -> Result<Extent, AdminError> {
        let topic = self.deps.kafka.topic(W::TOPIC);
        let mut extent = Extent::default();
        for partition in 0..self.partition_count {
            let watermarks = self.admin.watermarks(&topic, partition).await?;
            extent.0.insert(partition, watermarks);
        }
        Ok(extent)
    }

    async fn rebuild(
        self: &Arc<Self>,
        accept_loss: bool,
        progress: &(dyn Fn(RebuildProgress) + Send + Sync),
    ) -> Result<Rebuilt, RebuildError> {
        let consumer = W::NAME;
        let Ok(_one) = self.rebuilding.try_lock() else {
            return Err(RebuildError::Running { consumer });
        };
        let extent = self.extent().await?;
        if extent.gone() > 0 && !accept_loss {
            return Err(RebuildError::RecordsGone {
                topic: self.deps.kafka.topic(W::TOPIC),
                records: extent.gone(),
            });
        }
        let store = &self.deps.state;
        let old = self.live();
        let (before, after) = {
            let live = old.context.generation;
            (live, rebuild::choose(&**store, live).await?)
        };
        tracing::info!(
            consumer,
            before,
            after,
            "building a generation of the state"
        );
        let new = Member::start(&self.deps, &self.admin, &self.work, after, Some(before))?;
        // Whoever drops this future before the switch ends the member too.
        let guard = new.guard();
        let built = tokio::select! {
            built = self.build(&extent, before, after, progress) => built,
            reason = new.failed() => Err(RebuildError::Failed { reason }),
        };
        let switched = match built {
            Ok(()) => self.switch(before, &new).await,
            Err(error) => Err(error),
        };
        if let Err(error) = switched {
            new.drain(Duration::ZERO).await;
            new.stop().await;
            return Err(error);
        }
        guard.disarm();
        tracing::info!(
            consumer,
            before,
            after,
            "switched to a new generation of the state"
        );
        old.drain(OLD_LEAVES_WITHIN).await;
        old.stop().await;
        while self.is_replaying(after).await? {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        // Those of attempts that were cut off after their switch are among them.
        for generation in FIRST_GENERATION..after {
            store.drop_generation(generation).await?;
        }
        Ok(Rebuilt {
            topic: self.deps.kafka.topic(W::TOPIC),
            old: before,
            new: after,
            records: extent.total(),
            records_gone: extent.gone(),
        })
    }

    /// Waits until the new generation has applied all that was there.
    async fn build(
        &self,
        extent: &Extent,
        old: u32,
        new: u32,
        progress: &(dyn Fn(RebuildProgress) + Send + Sync),
    ) -> Result<(), RebuildError> {
        loop {
            let (read, next) = (self.read_up_to(old).await?, self.read_up_to(new).await?);
            progress(RebuildProgress {
                old,
                new,
                done_records: extent.done(&next),
                total_records: extent.total(),
            });
            // Where the old one has read anything, the new one says what it replays.
            if extent.is_reached(&next) && read.keys().all(|partition| next.contains_key(partition))
            {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// How far a generation has read, in partitions of which it has read anything.
    async fn read_up_to(&self, generation: u32) -> Result<BTreeMap<i32, i64>, StateError> {
        let mut next = BTreeMap::new();
        for partition in 0..self.partition_count {
            let shard = Shard {
                generation,
                partition,
            };
            let ask = || self.deps.state.position(shard);
            let asked = while_unavailable("asking the state", StateError::is_retryable, ask);
            next.extend(asked.await?.get(W::TOPIC).map(|next| (partition, next)));
        }
        Ok(next)
    }

    /// Makes the new member's generation the live one.
    async fn switch(
        self: &Arc<Self>,
        before: u32,
        new: &Arc<Member<W>>,
    ) -> Result<(), RebuildError> {
        let _switching = self.switching.lock().await;
        let after = new.context.generation;
        self.deps.state.switch(before, after).await?;
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(new);
        self.follow(Arc::clone(new));
        Ok(())
    }

    /// Whether a partition of this generation still needs the one before.
    async fn is_replaying(&self, generation: u32) -> Result<bool, StateError> {
        for partition in 0..self.partition_count {
            let shard = Shard {
                generation,
                partition,
            };
            let ask = || self.work.is_replaying(&*self.deps.state, shard);
            let asked = while_unavailable("asking the state", StateError::is_retryable, ask);
            if asked.await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Equal partition counts, so that one partitioner puts the records of a key side by side.
async fn check_partitions<W: Work>(kafka: &KafkaConfig, admin: &Admin) -> Result<i32, StartError> {
    let own = kafka.topic(W::TOPIC);
    let own_partitions = admin.partitions(&own).await?.len();
    if let Some(beside) = W::BESIDE {
        let beside = kafka.topic(beside);
        let beside_partitions = admin.partitions(&beside).await?.len();
        if own_partitions != beside_partitions {
            return Err(StartError::NotCopartitioned {
                consumer: W::NAME,
                own,
                own_partitions,
                beside,
                beside_partitions,
            });
        }
    }
    Ok(i32::try_from(own_partitions).unwrap_or(i32::MAX))
}
