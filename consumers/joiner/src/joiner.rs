//! The consumer as a whole: re-keying, and a task for each partition of the join.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millrace_kafka::{
    Admin, AdminError, AssignedConsumer, Consumer, ConsumerConfig, ConsumerError, ConsumerHandle,
    ConsumerState, DeadLetters, Drained, KafkaConfig, PartitionedConsumer, Producer,
    java_partition, topics,
};
use millrace_retry::error_chain;
use millrace_schemas::{ItemCounters, SchemaRegistry};
use millrace_state::{Shard, StateError, StateStore, Table};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{InvalidConfig, JoinerConfig};
use crate::partition::{self, Context, EndOfInput};
use crate::rekey::Rekey;
use crate::stats::{Counters, JoinerStats};
use crate::tables::{COUNTERS, PROGRESS};
use crate::values::{BrokenValue, read_counters, read_totals};

/// How often an end of input looks whether re-keying has reached it.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Bytes of a partition's records that wait in memory.
const QUEUED_BYTES: usize = 16 << 20;

/// What a joiner stands on.
pub struct JoinerDeps {
    /// How to reach the brokers.
    pub kafka: KafkaConfig,
    /// For everything that is published.
    pub producer: Producer,
    /// For Confluent-framed values, where a registry is configured.
    pub registry: Option<Arc<dyn SchemaRegistry>>,
    /// Where the state is kept.
    pub state: Arc<dyn StateStore>,
    /// Settings.
    pub config: JoinerConfig,
}

/// Why a joiner does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The brokers cannot be asked, or a topic is missing.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A consumer cannot be created.
    #[error(transparent)]
    Consumer(#[from] ConsumerError),
    /// The state cannot be opened.
    #[error(transparent)]
    State(#[from] StateError),
    /// The topics that are joined are not partitioned alike.
    #[error(
        "{behavior} has {behavior_partitions} partitions and {signals} has {signals_partitions}, so an \
         item's behavior and its signal are not side by side. Partitions can't be taken away: make both \
         topics anew with one count under another kafka.topic_prefix, publish the corpus again there \
         (signals follow), mirror `behavior` into it, and start the joiner on it; its state is built \
         from the topics"
    )]
    NotCopartitioned {
        /// Full name of the topic of behavior.
        behavior: String,
        /// Its partitions.
        behavior_partitions: usize,
        /// Full name of the topic of signals.
        signals: String,
        /// Its partitions.
        signals_partitions: usize,
    },
}

/// The state cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store does not answer.
    #[error(transparent)]
    State(#[from] StateError),
    /// A value is not what this version writes.
    #[error("the state holds a value of another version of millrace")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<BrokenValue> for ReadError {
    fn from(error: BrokenValue) -> Self {
        Self::Broken(error.into())
    }
}

/// How a joiner is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinerState {
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

/// The consumer of `behavior`, `behavior.by-item` and `signals`.
pub struct Joiner;

/// The group that re-keys.
#[must_use]
pub fn rekey_group(kafka: &KafkaConfig) -> String {
    format!("{}rekey", kafka.topic_prefix)
}

/// The group that joins into this generation of the state.
#[must_use]
pub fn join_group(kafka: &KafkaConfig, generation: u32) -> String {
    format!("{}joiner.{generation:06}", kafka.topic_prefix)
}

impl Joiner {
    /// Joins both groups and begins to work.
    ///
    /// # Errors
    /// [`StartError`]; nothing was read or written.
    pub async fn start(deps: JoinerDeps) -> Result<JoinerHandle, StartError> {
        let JoinerDeps {
            kafka,
            producer,
            registry,
            state,
            config,
        } = deps;
        config.validate()?;
        let admin = Admin::connect(&kafka)?;
        let partition_count = check_partitions(&kafka, &admin).await?;
        let generation = state.live_generation().await?;
        let counters = Arc::new(Counters::default());
        let dead_letters = DeadLetters::new(producer.clone(), "joiner");
        let rekeying = Consumer::start(
            &kafka,
            &ConsumerConfig::new(rekey_group(&kafka), &[topics::BEHAVIOR]),
        )?;
        let mut group =
            ConsumerConfig::new(join_group(&kafka, generation), &[topics::BEHAVIOR_BY_ITEM]);
        // While one batch is written the next one gathers.
        group.max_queued_messages_per_partition = 2 * config.batch_records;
        group.max_queued_bytes_per_partition = QUEUED_BYTES.max(2 * config.batch_bytes);
        let joining = PartitionedConsumer::start(&kafka, &group)?;
        let running = Arc::new(Running {
            rekey: Rekey {
                producer: producer.clone(),
                dead_letters: dead_letters.clone(),
                registry: registry.clone(),
                counters: Arc::clone(&counters),
                max_skew_ms: config.max_skew_ms,
            },
            context: Arc::new(Context {
                producer,
                dead_letters,
                registry,
                state,
                signals: AssignedConsumer::start(&kafka, topics::SIGNALS)?,
                admin,
                signals_topic: kafka.topic(topics::SIGNALS),
                generation,
                config,
                counters,
            }),
            rekey_consumer: rekeying.handle(),
            join_consumer: joining.handle(),
            kafka,
            partition_count,
            partitions: Mutex::default(),
            state: watch::Sender::new(JoinerState::Running),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        running.tasks.spawn(Arc::clone(&running).rekey(rekeying));
        running.tasks.spawn(Arc::clone(&running).join(joining));
        Ok(JoinerHandle { running })
    }
}

/// Equal partition counts, so that one partitioner puts an item's records side by side.
async fn check_partitions(kafka: &KafkaConfig, admin: &Admin) -> Result<i32, StartError> {
    let behavior = kafka.topic(topics::BEHAVIOR_BY_ITEM);
    let signals = kafka.topic(topics::SIGNALS);
    let behavior_partitions = admin.partitions(&behavior).await?.len();
    let signals_partitions = admin.partitions(&signals).await?.len();
    if behavior_partitions == signals_partitions {
        return Ok(i32::try_from(signals_partitions).unwrap_or(i32::MAX));
    }
    Err(StartError::NotCopartitioned {
        behavior,
        behavior_partitions,
        signals,
        signals_partitions,
    })
}

/// Watches and stops a running joiner. Dropped, it stops at once without waiting.
pub struct JoinerHandle {
    running: Arc<Running>,
}

impl JoinerHandle {
    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> JoinerStats {
        self.running.context.counters.snapshot()
    }

    /// How it is.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<JoinerState> {
        self.running.state.subscribe()
    }

    /// The consumer that re-keys `behavior`.
    #[must_use]
    pub fn rekey_consumer(&self) -> &ConsumerHandle {
        &self.running.rekey_consumer
    }

    /// The consumer of `behavior.by-item`.
    #[must_use]
    pub fn join_consumer(&self) -> &ConsumerHandle {
        &self.running.join_consumer
    }

    /// What was counted of an item, by all members; `None` where nothing was.
    ///
    /// # Errors
    /// The store does not answer, or holds what this version does not write.
    pub async fn counters(&self, item_id: &str) -> Result<Option<ItemCounters>, ReadError> {
        let partition = java_partition(item_id.as_bytes(), self.running.partition_count);
        let key = (COUNTERS, item_id.as_bytes().to_vec());
        let value = self.running.get(partition, key).await?;
        Ok(value.map(|value| read_counters(&value)).transpose()?)
    }

    /// What was counted of all items, one for each partition that has counted anything.
    ///
    /// # Errors
    /// As [`JoinerHandle::counters`].
    pub async fn totals(&self) -> Result<Vec<ItemCounters>, ReadError> {
        let mut totals = Vec::new();
        for partition in 0..self.running.partition_count {
            let value = self.running.get(partition, (PROGRESS, Vec::new())).await?;
            totals.extend(value.map(|value| read_totals(&value)).transpose()?);
        }
        Ok(totals)
    }

    /// Takes all that the topics hold now as all there is: waits until it was joined, then gives up
    /// what still waits for a signal. For bounded inputs, whose last events nothing follows. Covers
    /// the partitions of this process.
    ///
    /// # Errors
    /// The brokers cannot be asked.
    pub async fn end_of_input(&self) -> Result<(), AdminError> {
        let running = &self.running;
        let admin = &running.context.admin;
        let source = running.kafka.topic(topics::BEHAVIOR);
        let ends = admin.end_offsets(&source).await?;
        let group = rekey_group(&running.kafka);
        loop {
            let lags = admin
                .group_lag(&group, std::slice::from_ref(&source))
                .await?;
            let reached = |partition: i32, current: i64| {
                ends.get(&partition).is_none_or(|&end| current >= end)
            };
            if lags.iter().all(|lag| reached(lag.partition, lag.current)) {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let by_item = running.kafka.topic(topics::BEHAVIOR_BY_ITEM);
        let signals = running.kafka.topic(topics::SIGNALS);
        let behavior_ends = admin.end_offsets(&by_item).await?;
        let signals_ends = admin.end_offsets(&signals).await?;
        for (partition, behavior) in behavior_ends {
            let signals = signals_ends.get(&partition).copied().unwrap_or(0);
            // Asked again where the partition's task ended before it answered: it may have claimed
            // its state anew, or be another member's by now.
            while running.has_partition(partition) {
                let (done, answered) = oneshot::channel();
                let request = EndOfInput {
                    behavior,
                    signals,
                    done,
                };
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

    /// Takes nothing more, finishes what was begun within `deadline`, commits, leaves the groups.
    pub async fn shutdown(&self, deadline: Duration) -> Drained {
        let running = &self.running;
        let (rekeyed, joined) = tokio::join!(
            running.rekey_consumer.shutdown(deadline),
            running.join_consumer.shutdown(deadline)
        );
        running.stop.cancel();
        running.tasks.close();
        running.tasks.wait().await;
        running.state.send_if_modified(|state| {
            let was_running = *state == JoinerState::Running;
            if was_running {
                *state = JoinerState::Stopped;
            }
            was_running
        });
        Drained {
            unfinished: rekeyed.unfinished + joined.unfinished,
        }
    }
}

impl Drop for JoinerHandle {
    fn drop(&mut self) {
        self.running.stop.cancel();
    }
}

struct Running {
    rekey: Rekey,
    context: Arc<Context>,
    rekey_consumer: ConsumerHandle,
    join_consumer: ConsumerHandle,
    kafka: KafkaConfig,
    /// Of both topics.
    partition_count: i32,
    /// Where each partition's task takes requests.
    partitions: Mutex<BTreeMap<i32, mpsc::Sender<EndOfInput>>>,
    state: watch::Sender<JoinerState>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Running {
    async fn get(
        &self,
        partition: i32,
        key: (Table, Vec<u8>),
    ) -> Result<Option<bytes::Bytes>, StateError> {
        let shard = Shard {
            generation: self.context.generation,
            partition,
        };
        let found = self.context.state.get(shard, vec![key]).await?;
        Ok(found.into_iter().next().flatten())
    }

    fn requests(&self, partition: i32) -> Option<mpsc::Sender<EndOfInput>> {
        let partitions = self
            .partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        partitions.get(&partition).cloned()
    }

    fn has_partition(&self, partition: i32) -> bool {
        let assigned = self.join_consumer.metrics().partitions;
        assigned
            .iter()
            .any(|assigned| assigned.partition == partition)
    }

    async fn rekey(self: Arc<Self>, consumer: Consumer) {
        let health = consumer.health();
        let worked = self
            .stop
            .run_until_cancelled(self.rekey.run(consumer))
            .await;
        if let Some(Err(error)) = worked {
            self.fail(error_chain(&error));
        }
        self.fail_with(&health.borrow());
    }

    async fn join(self: Arc<Self>, mut consumer: PartitionedConsumer) {
        while let Some(Some(assigned)) = self
            .stop
            .run_until_cancelled(consumer.next_assignment())
            .await
        {
            let (sender, requests) = mpsc::channel(1);
            let number = assigned.partition();
            self.partitions
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(number, sender);
            let running = Arc::clone(&self);
            self.tasks.spawn(async move {
                let work = partition::run(Arc::clone(&running.context), assigned, requests);
                if let Some(Err(error)) = running.stop.run_until_cancelled(work).await {
                    running.fail(format!("partition {number}: {}", error_chain(&error)));
                }
            });
        }
        self.fail_with(&consumer.health().borrow());
        // Its partitions are given the time to finish by whoever asked it to stop.
        self.stop.cancelled().await;
        drop(consumer);
    }

    fn fail_with(&self, state: &ConsumerState) {
        if let ConsumerState::Fatal { reason } = state {
            self.fail(reason.clone());
        }
    }

    fn fail(&self, reason: String) {
        tracing::error!(reason, "the joiner can't go on; restart the process");
        self.state.send_replace(JoinerState::Failed { reason });
        self.stop.cancel();
    }
}
