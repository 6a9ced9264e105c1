//! The consumer as a whole: the group, and a task for each partition.

use std::sync::Arc;
use std::time::Duration;

use millrace_features::Field;
use millrace_kafka::{
    Admin, AdminError, ConsumerConfig, ConsumerError, ConsumerHandle, ConsumerState, DeadLetters,
    Drained, KafkaConfig, PartitionedConsumer, Producer, topics,
};
use millrace_retry::error_chain;
use millrace_schemas::SchemaRegistry;
use millrace_state::{StateError, StateStore};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::apply::Applies;
use crate::config::{InvalidConfig, ProfilesConfig};
use crate::partition::{self, Context};
use crate::reader::ProfileReader;
use crate::space::{ItemVectors, Space};
use crate::stats::{Counters, ProfilesStats};

/// How often an end of input looks whether it was reached.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Bytes of a partition's records that wait in memory.
const QUEUED_BYTES: usize = 16 << 20;

/// What the consumer stands on.
pub struct ProfilesDeps {
    /// How to reach the brokers.
    pub kafka: KafkaConfig,
    /// For dead letters.
    pub producer: Producer,
    /// For Confluent-framed values, where a registry is configured.
    pub registry: Option<Arc<dyn SchemaRegistry>>,
    /// Where profiles are kept.
    pub state: Arc<dyn StateStore>,
    /// The model whose vectors profiles are made of.
    pub model_version: String,
    /// Where to find what that model made of items that a profile knows by another model's vectors;
    /// without it a profile's vectors begin anew with a new model.
    pub vectors: Option<Arc<dyn ItemVectors>>,
    /// The fields to whose values profiles have affinities, as the declared features want them.
    pub fields: Vec<Field>,
    /// Settings.
    pub config: ProfilesConfig,
}

/// Why the consumer does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The brokers cannot be asked, or the topic is missing.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The group cannot be joined.
    #[error(transparent)]
    Consumer(#[from] ConsumerError),
    /// The state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
}

/// How the consumer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProfilesState {
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

/// The consumer of `feedback`.
pub struct Profiles;

/// The group that writes this generation of the state.
#[must_use]
pub fn profiles_group(kafka: &KafkaConfig, generation: u32) -> String {
    format!("{}profiles.{generation:06}", kafka.topic_prefix)
}

impl Profiles {
    /// Joins the group and begins to work, on the live generation of the state.
    ///
    /// # Errors
    /// [`StartError`]; nothing was read or written.
    pub async fn start(deps: ProfilesDeps) -> Result<ProfilesHandle, StartError> {
        let generation = deps.state.live_generation().await?;
        Self::start_on(deps, generation).await
    }

    /// Joins the group of the generation `next` and begins to build it from the beginning of
    /// `feedback`, beside the live one. Once [`ProfilesHandle::end_of_input`] returns it can be made
    /// live with [`StateStore::switch`]; the members of the old one then fail and are to be
    /// restarted.
    ///
    /// # Errors
    /// As [`Profiles::start`].
    pub async fn rebuild(deps: ProfilesDeps, next: u32) -> Result<ProfilesHandle, StartError> {
        Self::start_on(deps, next).await
    }

    async fn start_on(deps: ProfilesDeps, generation: u32) -> Result<ProfilesHandle, StartError> {
        let ProfilesDeps {
            kafka,
            producer,
            registry,
            state,
            model_version,
            vectors,
            fields,
            config,
        } = deps;
        config.validate()?;
        let admin = Admin::connect(&kafka)?;
        let topic = kafka.topic(topics::FEEDBACK);
        let partitions = admin.partitions(&topic).await?;
        let space = Space {
            model_version: model_version.clone(),
            vectors,
        };
        let partition_count = i32::try_from(partitions.len()).unwrap_or(i32::MAX);
        let reader =
            ProfileReader::within(Some(space.clone()), Arc::clone(&state), partition_count);
        let mut group =
            ConsumerConfig::new(profiles_group(&kafka, generation), &[topics::FEEDBACK]);
        // While one batch is written the next one gathers.
        group.max_queued_messages_per_partition = 2 * config.batch_records;
        group.max_queued_bytes_per_partition = QUEUED_BYTES.max(2 * config.batch_bytes);
        let consumer = PartitionedConsumer::start(&kafka, &group)?;
        let running = Arc::new(Running {
            context: Arc::new(Context {
                dead_letters: DeadLetters::new(producer, "profiles"),
                registry,
                state,
                admin,
                generation,
                space,
                applying: Applies {
                    settings: config.settings(fields),
                    model_version,
                    deduplication_hours: config.deduplication_hours,
                    cached_users: config.cached_users,
                },
                batch_records: config.batch_records,
                batch_bytes: config.batch_bytes,
                counters: Arc::new(Counters::default()),
            }),
            topic,
            reader,
            consumer: consumer.handle(),
            state: watch::Sender::new(ProfilesState::Running),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        running.tasks.spawn(Arc::clone(&running).work(consumer));
        Ok(ProfilesHandle { running })
    }
}

/// Watches and stops a running consumer. Dropped, it stops at once without waiting.
pub struct ProfilesHandle {
    running: Arc<Running>,
}

impl ProfilesHandle {
    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> ProfilesStats {
        self.running.context.counters.snapshot()
    }

    /// How it is.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<ProfilesState> {
        self.running.state.subscribe()
    }

    /// The consumer of `feedback`.
    #[must_use]
    pub fn consumer(&self) -> &ConsumerHandle {
        &self.running.consumer
    }

    /// Reads the profiles of all members, of the live generation, in the space of this one's model.
    #[must_use]
    pub fn reader(&self) -> ProfileReader {
        self.running.reader.clone()
    }

    /// Waits until all that `feedback` holds now is applied. Covers the partitions of this process.
    ///
    /// # Errors
    /// The brokers cannot be asked.
    pub async fn end_of_input(&self) -> Result<(), AdminError> {
        let running = &self.running;
        let ends = running.context.admin.end_offsets(&running.topic).await?;
        while !self.has_reached(&ends) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    fn has_reached(&self, ends: &std::collections::BTreeMap<i32, i64>) -> bool {
        let assigned = self.running.consumer.metrics().partitions;
        let stats = self.stats().partitions;
        // Before the first assignment there is nothing that could have been reached.
        !assigned.is_empty()
            && assigned.iter().all(|assigned| {
                let end = ends.get(&assigned.partition).copied().unwrap_or(0);
                let stands = stats.get(&assigned.partition);
                stands.is_some_and(|stands| stands.offset.unwrap_or(0) >= end)
            })
    }

    /// Takes nothing more, finishes what was begun within `deadline`, commits, leaves the group.
    pub async fn shutdown(&self, deadline: Duration) -> Drained {
        let running = &self.running;
        let drained = running.consumer.shutdown(deadline).await;
        running.stop.cancel();
        running.tasks.close();
        running.tasks.wait().await;
        running.state.send_if_modified(|state| {
            let was_running = *state == ProfilesState::Running;
            if was_running {
                *state = ProfilesState::Stopped;
            }
            was_running
        });
        drained
    }
}

impl Drop for ProfilesHandle {
    fn drop(&mut self) {
        self.running.stop.cancel();
    }
}

struct Running {
    context: Arc<Context>,
    /// Full name of `feedback`.
    topic: String,
    reader: ProfileReader,
    consumer: ConsumerHandle,
    state: watch::Sender<ProfilesState>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Running {
    async fn work(self: Arc<Self>, mut consumer: PartitionedConsumer) {
        while let Some(Some(assigned)) = self
            .stop
            .run_until_cancelled(consumer.next_assignment())
            .await
        {
            let number = assigned.partition();
            let running = Arc::clone(&self);
            self.tasks.spawn(async move {
                let work = partition::run(Arc::clone(&running.context), assigned);
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
        tracing::error!(reason, "profiles can't be kept; restart the process");
        self.state.send_replace(ProfilesState::Failed { reason });
        self.stop.cancel();
    }
}
