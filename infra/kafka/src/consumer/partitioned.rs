//! A group member whose caller keeps the positions: state and offset in one store.
//!
//! An assigned partition is *held*: paused, and what might still arrive of it is dropped. Its owner
//! opens its state, learns the offset there, and says so; the poll thread seeks and sets the
//! partition going. So nothing blocks inside a rebalance callback, however long a remote store takes
//! to answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::shared::{Positions, Shared, Start};
use super::tracker::{Epoch, TopicPartition};
use super::{
    ConsumerConfig, ConsumerError, ConsumerHandle, ConsumerState, Delivery, Drained, join,
};
use crate::KafkaConfig;

/// A member of a consumer group that hands out partitions instead of records. The committed offset
/// follows what is acknowledged, and only shows the lag: where a partition starts is the caller's
/// word alone. Dropped, it leaves the group at once.
pub struct PartitionedConsumer {
    shared: Arc<Shared>,
}

/// One assignment of one partition. It ends with a revocation or the consumer's shutdown, and what
/// it delivered is then given the time to be acknowledged that [`ConsumerConfig`] says.
pub struct AssignedPartition {
    partition: TopicPartition,
    epoch: Epoch,
    shared: Arc<Shared>,
}

impl PartitionedConsumer {
    /// Joins the group in the background. Brokers and topics need not be there yet.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn start(kafka: &KafkaConfig, config: &ConsumerConfig) -> Result<Self, ConsumerError> {
        let shared = join(kafka, config, Positions::Caller)?;
        Ok(Self { shared })
    }

    /// The next partition that was assigned. `None` after a shutdown was asked for or the consumer
    /// failed for good; [`PartitionedConsumer::health`] says which.
    pub async fn next_assignment(&mut self) -> Option<AssignedPartition> {
        let (partition, epoch) = self.shared.next_assignment().await?;
        Some(AssignedPartition {
            partition,
            epoch,
            shared: Arc::clone(&self.shared),
        })
    }

    /// Whether it works.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<ConsumerState> {
        self.shared.health()
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

impl Drop for PartitionedConsumer {
    fn drop(&mut self) {
        if self.shared.shutdown_deadline().is_none() {
            self.shared.request_shutdown(Duration::ZERO);
        }
    }
}

impl AssignedPartition {
    /// The topic's full name.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.partition.0
    }

    /// The partition's number.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.partition.1
    }

    /// Sets the partition going from `offset`, or from its oldest record. To be called once.
    pub fn start_at(&self, offset: Option<i64>) {
        self.shared.start_at(Start {
            partition: self.partition.clone(),
            epoch: self.epoch,
            offset,
        });
    }

    /// What is queued, in order: at least one record, waiting for it where there is none, and no
    /// more than both limits allow. `None` once the assignment has ended.
    ///
    /// Safe to cancel: records are either returned or stay queued.
    pub async fn recv_batch(
        &mut self,
        max_records: usize,
        max_bytes: usize,
    ) -> Option<Vec<Delivery>> {
        self.shared
            .receive_batch(&self.partition, self.epoch, max_records, max_bytes)
            .await
    }

    /// Ends this assignment and begins the next of the same partition, held again: for an owner
    /// whose state stands elsewhere than it thought. What was delivered and not acknowledged is
    /// forgotten.
    pub fn begin_again(self) {
        self.shared.begin_again(&self.partition, self.epoch);
    }

    /// Whether the partition is still ours.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.shared.is_epoch(&self.partition, self.epoch)
    }
}

impl fmt::Debug for AssignedPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (topic, partition) = &self.partition;
        write!(
            f,
            "AssignedPartition({topic}/{partition} epoch {})",
            self.epoch
        )
    }
}
