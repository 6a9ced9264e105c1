//! The consumer as a whole: re-keying, and the join beside it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use millrace_kafka::{
    AdminError, Consumer, ConsumerConfig, ConsumerHandle, ConsumerState, Drained, KafkaConfig,
    Producer, java_partition, topics,
};
use millrace_schemas::{ItemCounters, SchemaRegistry};
use millrace_state::{StateError, StateStore};
use millrace_stateful::{
    BrokenValue, Deps, Rebuild, Refusals, RunState, StartError, StatefulConsumer, Work as _, group,
};
use tokio::sync::watch;

use crate::config::JoinerConfig;
use crate::partition::{Joins, Shared};
use crate::rekey::Rekey;
use crate::stats::{Counters, JoinerStats, PartitionStats};
use crate::tables::{COUNTERS, Offsets, PROGRESS};
use crate::values::{read_counters, read_totals};

/// How often an end of input looks whether re-keying has reached it.
const LOOK_EVERY: Duration = Duration::from_millis(20);

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

/// The state cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store does not answer.
    #[error(transparent)]
    State(#[from] StateError),
    /// A value is not what this version writes.
    #[error("the state holds a value of another version of millrace")]
    Broken(#[from] BrokenValue),
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
    group(kafka, Joins::NAME, generation)
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
        config
            .validate()
            .map_err(|error| StartError::Config(error.into()))?;
        let counters = Arc::new(Counters::default());
        let max_skew_ms = config.max_skew_ms;
        let refusals = |stage| Refusals::new(producer.clone(), Joins::NAME, stage);
        let rekey = Arc::new(Rekey {
            producer: producer.clone(),
            refusals: refusals("rekey"),
            registry: registry.clone(),
            counters: Arc::clone(&counters),
            max_skew_ms,
        });
        let (batch_records, batch_bytes) = (config.batch_records, config.batch_bytes);
        let joins = Joins {
            shared: Arc::new(Shared {
                registry,
                refusals: refusals("join"),
                counters,
                max_skew_ms,
            }),
            config,
        };
        let deps = Deps {
            kafka: kafka.clone(),
            producer,
            state,
            batch_records,
            batch_bytes,
        };
        let join = StatefulConsumer::start(deps, joins).await?;
        let rekeying = Consumer::start(
            &kafka,
            &ConsumerConfig::new(rekey_group(&kafka), &[topics::BEHAVIOR]),
        )?;
        let rekey_consumer = rekeying.handle();
        let work = Arc::clone(&rekey);
        join.spawn_beside(async move { work.run(rekeying).await });
        Ok(JoinerHandle {
            join,
            rekey,
            rekey_consumer,
        })
    }
}

/// Watches and stops a running joiner. Dropped, it stops at once without waiting.
pub struct JoinerHandle {
    join: StatefulConsumer<Joins>,
    rekey: Arc<Rekey>,
    rekey_consumer: ConsumerHandle,
}

impl JoinerHandle {
    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> JoinerStats {
        let shared = &self.join.work().shared;
        let standings = self.join.standings().into_iter();
        let partitions = standings.map(|(partition, standing)| {
            let offsets = Offsets::from(&standing.position);
            let stats = PartitionStats {
                waiting: standing.view.waiting,
                watermark_ms: standing.view.watermark_ms,
                behavior_offset: offsets.behavior,
                signals_offset: offsets.signals,
                started: standing.started,
            };
            (partition, stats)
        });
        let counters = &shared.counters;
        JoinerStats {
            rekeyed: counters.rekeyed.load(Relaxed),
            joined: counters.joined.load(Relaxed),
            unmatched: counters.unmatched.load(Relaxed),
            duplicates: counters.duplicates.load(Relaxed),
            signals: counters.signals.load(Relaxed),
            unreadable_signals: counters.unreadable_signals.load(Relaxed),
            dead_lettered: self.rekey.refusals.count() + shared.refusals.count(),
            refused_writes: self.join.refused_writes(),
            partitions: partitions.collect(),
        }
    }

    /// How it is.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<RunState> {
        self.join.state()
    }

    /// The consumer that re-keys `behavior`.
    #[must_use]
    pub fn rekey_consumer(&self) -> &ConsumerHandle {
        &self.rekey_consumer
    }

    /// The consumer of `behavior.by-item`.
    #[must_use]
    pub fn join_consumer(&self) -> ConsumerHandle {
        self.join.member()
    }

    /// Whether that one works, whichever generation's it is.
    #[must_use]
    pub fn join_health(&self) -> watch::Receiver<ConsumerState> {
        self.join.health()
    }

    /// Its state, to be built anew.
    #[must_use]
    pub fn rebuilds(&self) -> &dyn Rebuild {
        &self.join
    }

    /// What was counted of an item, by all members; `None` where nothing was.
    ///
    /// # Errors
    /// The store does not answer, or holds what this version does not write.
    pub async fn counters(&self, item_id: &str) -> Result<Option<ItemCounters>, ReadError> {
        let partition = java_partition(item_id.as_bytes(), self.join.partition_count());
        let key = item_id.as_bytes().to_vec();
        let value = self.join.get(partition, COUNTERS, key).await?;
        Ok(value.map(|value| read_counters(&value)).transpose()?)
    }

    /// What was counted of all items, one for each partition that has counted anything.
    ///
    /// # Errors
    /// As [`JoinerHandle::counters`].
    pub async fn totals(&self) -> Result<Vec<ItemCounters>, ReadError> {
        let mut totals = Vec::new();
        for partition in 0..self.join.partition_count() {
            let value = self.join.get(partition, PROGRESS, Vec::new()).await?;
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
        let (admin, kafka) = (self.join.admin(), self.join.kafka());
        let source = kafka.topic(topics::BEHAVIOR);
        let ends = admin.end_offsets(&source).await?;
        let group = rekey_group(kafka);
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
        self.join.end_of_input().await
    }

    /// Takes nothing more, finishes what was begun within `deadline`, commits, leaves the groups.
    pub async fn shutdown(&self, deadline: Duration) -> Drained {
        let (rekeyed, joined) = tokio::join!(
            self.rekey_consumer.shutdown(deadline),
            self.join.drain(deadline)
        );
        self.join.stop().await;
        Drained {
            unfinished: rekeyed.unfinished + joined.unfinished,
        }
    }
}
