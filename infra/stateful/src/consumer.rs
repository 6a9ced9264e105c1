//! The consumer as a whole: the group, and a task for each partition.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use millrace_kafka::{
    Admin, AdminError, AssignedConsumer, ConsumerConfig, ConsumerError, ConsumerHandle,
    ConsumerState, Drained, KafkaConfig, PartitionedConsumer, Producer,
};
use millrace_retry::error_chain;
use millrace_state::{Shard, StateError, StateStore, Table};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::partition::{self, Context, EndOfInput, Standing};
use crate::work::{PartitionWork, Work};

/// How often an end of input looks whether a partition has a task again.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Bytes of a partition's records that wait in memory.
const QUEUED_BYTES: usize = 16 << 20;

/// What a stateful consumer stands on.
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
    context: Arc<Context<W>>,
    member: ConsumerHandle,
    kafka: KafkaConfig,
    /// Of its topics.
    partition_count: i32,
    /// Where each partition's task takes requests.
    partitions: Mutex<BTreeMap<i32, mpsc::Sender<EndOfInput>>>,
    state: watch::Sender<RunState>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl<W: Work> StatefulConsumer<W> {
    /// Joins the group of this generation and begins to work.
    ///
    /// # Errors
    /// [`StartError`]; nothing was read or written.
    pub async fn start(deps: Deps, work: W, generation: u32) -> Result<Self, StartError> {
        let Deps {
            kafka,
            producer,
            state,
            batch_records,
            batch_bytes,
        } = deps;
        let admin = Admin::connect(&kafka)?;
        let partition_count = check_partitions::<W>(&kafka, &admin).await?;
        let beside = match W::BESIDE {
            Some(topic) => Some((AssignedConsumer::start(&kafka, topic)?, kafka.topic(topic))),
            None => None,
        };
        let mut config = ConsumerConfig::new(group(&kafka, W::NAME, generation), &[W::TOPIC]);
        // While one batch is written the next one gathers.
        config.max_queued_messages_per_partition = 2 * batch_records;
        config.max_queued_bytes_per_partition = QUEUED_BYTES.max(2 * batch_bytes);
        let consumer = PartitionedConsumer::start(&kafka, &config)?;
        let running = Arc::new(Running {
            context: Arc::new(Context {
                work,
                producer,
                state,
                admin,
                beside,
                generation,
                batch_records,
                batch_bytes,
                refused_writes: AtomicU64::new(0),
                standings: Mutex::default(),
            }),
            member: consumer.handle(),
            kafka,
            partition_count,
            partitions: Mutex::default(),
            state: watch::Sender::new(RunState::Running),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        running.tasks.spawn(Arc::clone(&running).run(consumer));
        Ok(Self { running })
    }

    /// What it was started with.
    #[must_use]
    pub fn work(&self) -> &W {
        &self.running.context.work
    }

    /// How it is.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<RunState> {
        self.running.state.subscribe()
    }

    /// Its membership in the group.
    #[must_use]
    pub fn member(&self) -> &ConsumerHandle {
        &self.running.member
    }

    /// How its partitions stand.
    #[must_use]
    pub fn standings(&self) -> BTreeMap<i32, Standing<<W::Partition as PartitionWork>::View>> {
        self.running.context.standings().clone()
    }

    /// Writes that the state refused: another writer, or a store that went back.
    #[must_use]
    pub fn refused_writes(&self) -> u64 {
        self.running.context.refused_writes.load(Relaxed)
    }

    /// Partitions of its topics.
    #[must_use]
    pub fn partition_count(&self) -> i32 {
        self.running.partition_count
    }

    /// To ask the brokers.
    #[must_use]
    pub fn admin(&self) -> &Admin {
        &self.running.context.admin
    }

    /// How the brokers are reached.
    #[must_use]
    pub fn kafka(&self) -> &KafkaConfig {
        &self.running.kafka
    }

    /// A value of its generation of the state, whoever writes the partition.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn get(
        &self,
        partition: i32,
        table: Table,
        key: Vec<u8>,
    ) -> Result<Option<Bytes>, StateError> {
        let context = &self.running.context;
        let shard = Shard {
            generation: context.generation,
            partition,
        };
        let found = context.state.get(shard, vec![(table, key)]).await?;
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
        while running.member.metrics().partitions.is_empty() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        for (partition, own) in own_ends {
            let beside = beside_ends.get(&partition).copied().unwrap_or(0);
            // Asked again where the partition's task ended before it answered: it may have claimed
            // its state anew, or be another member's by now.
            while running.has_partition(partition) {
                let (done, answered) = oneshot::channel();
                let request = EndOfInput { own, beside, done };
                if let Some(requests) = running.requests(partition)
                    && requests.send(request).await.is_ok()
                    && answered.await.is_ok()
                {
                    break;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    /// Takes nothing more, finishes what was begun within `deadline`, commits, leaves the group.
    /// To be followed by [`StatefulConsumer::stop`].
    pub async fn drain(&self, deadline: Duration) -> Drained {
        self.running.member.shutdown(deadline).await
    }

    /// Ends what is left, and what runs beside.
    pub async fn stop(&self) {
        let running = &self.running;
        running.stop.cancel();
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

impl<W: Work> Drop for StatefulConsumer<W> {
    fn drop(&mut self) {
        self.running.stop.cancel();
    }
}

impl<W: Work> Running<W> {
    async fn run(self: Arc<Self>, mut consumer: PartitionedConsumer) {
        while let Some(Some(assigned)) = self
            .stop
            .run_until_cancelled(consumer.next_assignment())
            .await
        {
            let (sender, requests) = mpsc::channel(1);
            let number = assigned.partition();
            self.partitions().insert(number, sender);
            let running = Arc::clone(&self);
            self.tasks.spawn(async move {
                let work = partition::run(Arc::clone(&running.context), assigned, requests);
                if let Some(Err(error)) = running.stop.run_until_cancelled(work).await {
                    running.fail(format!("partition {number}: {}", error_chain(&error)));
                }
            });
        }
        if let ConsumerState::Fatal { reason } = &*consumer.health().borrow() {
            self.fail(reason.clone());
        }
        // Its partitions are given the time to finish by whoever asked it to stop.
        self.stop.cancelled().await;
        drop(consumer);
    }

    fn fail(&self, reason: String) {
        tracing::error!(
            consumer = W::NAME,
            reason,
            "it can't go on; restart the process"
        );
        self.state.send_replace(RunState::Failed { reason });
        self.stop.cancel();
    }

    async fn end_offsets(&self, topic: &str) -> Result<BTreeMap<i32, i64>, AdminError> {
        let admin = &self.context.admin;
        admin.end_offsets(&self.kafka.topic(topic)).await
    }

    fn partitions(&self) -> std::sync::MutexGuard<'_, BTreeMap<i32, mpsc::Sender<EndOfInput>>> {
        self.partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn requests(&self, partition: i32) -> Option<mpsc::Sender<EndOfInput>> {
        self.partitions().get(&partition).cloned()
    }

    fn has_partition(&self, partition: i32) -> bool {
        let assigned = self.member.metrics().partitions;
        assigned
            .iter()
            .any(|assigned| assigned.partition == partition)
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
