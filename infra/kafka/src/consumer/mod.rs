//! Reading as a member of a group, at least once.
//!
//! ```text
//! brokers ─► poll thread ─► a bounded queue a partition ─► recv() ─► handlers, any number
//!               ▲    pauses a full partition, resumes at half                 │
//!               │                                                             │ ack(), any order
//!               └── stores the offset below which all is finished ◄── tracker ◄┘
//! ```
//! A thread of its own polls a `BaseConsumer`. Not `StreamConsumer`: its async `recv` blocks the
//! runtime in rebalance callbacks, and split partition queues stall on a lost wake-up
//! (rust-rdkafka #840, #535, #665, #738).

mod delivery;
mod group;
mod membership;
mod partitioned;
mod poll_loop;
mod shared;
mod state;
mod tracker;

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use tokio::sync::watch;
use tokio::time::timeout;

pub use self::delivery::Delivery;
pub use self::partitioned::{AssignedPartition, PartitionedConsumer};
pub use self::state::{ConsumerMetrics, ConsumerState, Counters, PartitionMetrics};

use self::group::Group;
use self::poll_loop::PollLoop;
use self::shared::{Positions, QueueLimits, Shared};
use crate::{ConfigError, KafkaConfig};

/// What to read, and how much of it may wait in memory.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// The consumer group.
    pub group: String,
    /// Topics as they are declared, without the prefix.
    pub topics: Vec<String>,
    /// Records queued for handlers at which a partition pauses. Default 1,000.
    pub max_queued_messages_per_partition: usize,
    /// Bytes queued for handlers at which a partition pauses. Default 8 MiB.
    pub max_queued_bytes_per_partition: usize,
    /// How long a revocation waits for handlers. Default 10 s.
    pub drain_timeout: Duration,
}

impl ConsumerConfig {
    /// The defaults for `group` on `topics`.
    #[must_use]
    pub fn new(group: impl Into<String>, topics: &[&str]) -> Self {
        Self {
            group: group.into(),
            topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
            max_queued_messages_per_partition: 1000,
            max_queued_bytes_per_partition: 8 << 20,
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// How long leaving the group may take, once handlers are done or their time is up. A few hundred ms are
/// usual; a close that meets a rebalance can wait for ever for an answer of librdkafka's own thread
/// (`poll_loop::leave` says when, and avoids it).
const LEAVE_LIMIT: Duration = Duration::from_secs(5);

/// Why a consumer cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// librdkafka refuses the settings or the subscription.
    #[error("the consumer of group {group} cannot be created")]
    Client {
        /// The group.
        group: String,
        /// What librdkafka said.
        #[source]
        source: KafkaError,
    },
    /// The operating system gives no thread.
    #[error("no thread for polling")]
    Thread(#[source] std::io::Error),
}

/// A member of a consumer group. Dropped, it leaves the group at once, without waiting for
/// handlers; [`Consumer::shutdown`] waits.
pub struct Consumer {
    shared: Arc<Shared>,
}

/// Watches and stops a [`Consumer`] from elsewhere; cheap to clone.
#[derive(Clone)]
pub struct ConsumerHandle {
    shared: Arc<Shared>,
}

/// How a shutdown ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Records received and not acknowledged; they come again.
    pub unfinished: usize,
}

impl Consumer {
    /// Joins the group in the background. Brokers and topics need not be there yet.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn start(kafka: &KafkaConfig, config: &ConsumerConfig) -> Result<Self, ConsumerError> {
        let shared = join(kafka, config, Positions::Committed)?;
        Ok(Self { shared })
    }

    /// The next record, from the partitions in turn. `None` after a shutdown was asked for or the
    /// consumer failed for good; [`Consumer::health`] says which.
    ///
    /// Safe to cancel: a record is either returned or stays queued.
    pub async fn recv(&mut self) -> Option<Delivery> {
        self.shared.receive().await
    }

    /// Whether it works.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<ConsumerState> {
        self.shared.health()
    }

    /// Counters and partitions.
    #[must_use]
    pub fn metrics(&self) -> ConsumerMetrics {
        self.shared.metrics()
    }

    /// For stopping and watching it from elsewhere.
    #[must_use]
    pub fn handle(&self) -> ConsumerHandle {
        ConsumerHandle {
            shared: Arc::clone(&self.shared),
        }
    }

    /// As [`ConsumerHandle::shutdown`].
    pub async fn shutdown(self, deadline: Duration) -> Drained {
        self.handle().shutdown(deadline).await
    }
}

/// Subscribes and starts the poll thread.
fn join(
    kafka: &KafkaConfig,
    config: &ConsumerConfig,
    positions: Positions,
) -> Result<Arc<Shared>, ConsumerError> {
    let limits = QueueLimits {
        messages: config.max_queued_messages_per_partition.max(1),
        bytes: config.max_queued_bytes_per_partition.max(1),
    };
    let shared = Arc::new(Shared::new(&config.group, limits, positions));
    let group = Group {
        shared: Arc::clone(&shared),
        drain_timeout: config.drain_timeout,
    };
    let client = kafka.group_client(&config.group)?;
    let refused = |source| ConsumerError::Client {
        group: config.group.clone(),
        source,
    };
    let consumer: BaseConsumer<Group> = client.create_with_context(group).map_err(refused)?;
    let topics: Vec<String> = config
        .topics
        .iter()
        .map(|topic| kafka.topic(topic))
        .collect();
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    consumer.subscribe(&names).map_err(refused)?;
    let poll_loop = PollLoop::new(
        consumer,
        Arc::clone(&shared),
        kafka.group_instance_id.is_some(),
    );
    std::thread::Builder::new()
        .name(format!("poll-{}", config.group))
        .spawn(move || poll_loop.run())
        .map_err(ConsumerError::Thread)?;
    Ok(shared)
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // Without a deadline of its own: one that was given to `shutdown` before is earlier than
        // this only if it has passed, and a handle may still wait on it.
        if self.shared.shutdown_deadline().is_none() {
            self.shared.request_shutdown(Duration::ZERO);
        }
    }
}

impl ConsumerHandle {
    /// Name of the group.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.shared.group
    }

    /// Stops handing out records, waits until handlers have let go of theirs, at most `deadline`,
    /// commits, leaves the group. What was queued and not handed out comes again at the next start.
    ///
    /// A client that does not come to its end some seconds after `deadline` is left behind, and told of: all
    /// is committed by then, and its partitions are given to others when its session ends.
    pub async fn shutdown(&self, deadline: Duration) -> Drained {
        self.shared.request_shutdown(deadline);
        let mut health = self.shared.health();
        // The sender lives in `shared`, so it cannot be gone.
        let stopped = health.wait_for(ConsumerState::is_final);
        if timeout(deadline.saturating_add(LEAVE_LIMIT), stopped)
            .await
            .is_err()
        {
            let group = self.group();
            tracing::error!(
                group,
                "the client does not leave its group; it is left behind"
            );
        }
        Drained {
            unfinished: self.shared.unfinished_at_end(),
        }
    }

    /// Whether it works.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<ConsumerState> {
        self.shared.health()
    }

    /// Counters and partitions.
    #[must_use]
    pub fn metrics(&self) -> ConsumerMetrics {
        self.shared.metrics()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_leaves_is_left_behind() {
        let limits = QueueLimits {
            messages: 1,
            bytes: 1,
        };
        // Without a thread that polls, nothing ever comes to an end.
        let handle = ConsumerHandle {
            shared: Arc::new(Shared::new("group", limits, Positions::Committed)),
        };
        let began = tokio::time::Instant::now();
        let drained = handle.shutdown(Duration::from_secs(2)).await;
        assert_eq!(drained.unfinished, 0);
        assert_eq!(began.elapsed(), Duration::from_secs(2) + LEAVE_LIMIT);
    }
}
