//! The member's side of the group protocol: what happens when partitions come and go.
//!
//! librdkafka calls these from within `poll`, so on the poll thread. While a revocation waits for
//! the handlers, nothing is polled; the wait is far below `max.poll.interval.ms`, and heartbeats
//! go on in librdkafka's own thread.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::{Offset, TopicPartitionList};

use super::shared::{Progress, Shared};
use super::state::ConsumerState;
use super::tracker::TopicPartition;
use crate::pause_note;

pub(super) struct Group {
    pub(super) shared: Arc<Shared>,
    pub(super) drain_timeout: Duration,
}

impl Group {
    /// Stop feeding, let the handlers finish, store and commit what they did, forget the rest.
    fn revoke(&self, consumer: &BaseConsumer<Self>, partitions: &[TopicPartition]) {
        if consumer.assignment_lost() {
            // Someone else owns them already: a commit now could move their offset.
            tracing::warn!(partitions = partitions.len(), "the assignment was lost");
            self.shared.revoke(partitions);
            return;
        }
        self.shared.stop_feeding(partitions);
        let began = Instant::now();
        let patience = match self.shared.shutdown_deadline() {
            Some(deadline) => deadline
                .saturating_duration_since(began)
                .min(self.drain_timeout),
            None => self.drain_timeout,
        };
        if !self.shared.wait_until_idle(partitions, began + patience) {
            tracing::warn!(
                waited_ms = patience.as_millis(),
                "handlers still hold records of revoked partitions; their new owner reads those again"
            );
            self.shared.count(|counters| counters.drain_timeouts += 1);
        }
        // The wait itself may have outlasted the membership.
        if !consumer.assignment_lost() {
            commit(consumer, &self.shared);
        }
        self.shared.revoke(partitions);
        tracing::info!(
            partitions = partitions.len(),
            drain_ms = began.elapsed().as_millis(),
            "partitions revoked"
        );
    }

    fn report_assignment(&self) {
        let partitions = self.shared.assigned().len();
        if self.shared.current_health() != ConsumerState::Draining {
            self.shared.set_health(ConsumerState::Ready { partitions });
        }
    }

    /// Back from waiting, once there is a sign of life.
    pub(super) fn recover(&self) {
        if matches!(self.shared.current_health(), ConsumerState::Waiting { .. }) {
            self.report_assignment();
        }
    }

    pub(super) fn wait_for(&self, reason: String) {
        if self.shared.current_health() != ConsumerState::Draining {
            self.shared.set_health(ConsumerState::Waiting { reason });
        }
    }
}

/// Hands the finished offsets to librdkafka, which commits them in the background.
pub(super) fn store(consumer: &BaseConsumer<Group>, shared: &Shared) -> Option<TopicPartitionList> {
    let storable = shared.take_storable();
    if storable.is_empty() {
        return None;
    }
    let offsets = offsets(&storable);
    if let Err(error) = consumer.store_offsets(&offsets) {
        // Only for partitions that were lost meanwhile, whose revocation is on its way.
        tracing::warn!(%error, "offsets could not be stored");
    }
    Some(offsets)
}

/// Commits once more, in the background, where a partition stands still and has paused or resumed: what is stored
/// is committed only when it moves.
pub(super) fn note_pauses(consumer: &BaseConsumer<Group>, shared: &Shared) {
    let changed = shared.take_unnoted_pauses();
    if changed.is_empty() {
        return;
    }
    if let Err(error) = consumer.commit(&offsets(&changed), CommitMode::Async) {
        tracing::debug!(%error, "it is not told that partitions paused or resumed");
    }
}

fn offsets(progress: &[Progress]) -> TopicPartitionList {
    let mut offsets = TopicPartitionList::with_capacity(progress.len());
    for Progress {
        partition: (topic, number),
        position,
        paused,
    } in progress
    {
        let mut offset = offsets.add_partition(topic, *number);
        // The offset to resume from: it is `store_offset` that adds 1, for one partition.
        if let Err(error) = offset.set_offset(Offset::Offset(*position)) {
            tracing::error!(topic, number, position, %error, "an offset cannot be stored");
        }
        offset.set_metadata(pause_note::write(*paused));
    }
    offsets
}

/// Stores and commits synchronously.
pub(super) fn commit(consumer: &BaseConsumer<Group>, shared: &Shared) {
    store(consumer, shared);
    match consumer.commit_consumer_state(CommitMode::Sync) {
        Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
        Err(error) => {
            tracing::warn!(%error, "the last offsets could not be committed; some records come again");
            shared.count(|counters| counters.commit_failures += 1);
        }
    }
}

pub(super) fn list(partitions: &[TopicPartition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        list.add_partition(topic, *partition);
    }
    list
}

fn partitions(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements()
        .iter()
        .map(|element| (element.topic().to_owned(), element.partition()))
        .collect()
}

impl ConsumerContext for Group {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(assigned) => self.shared.assign(&partitions(assigned)),
            Rebalance::Revoke(revoked) => self.revoke(consumer, &partitions(revoked)),
            Rebalance::Error(error) => tracing::error!(%error, "rebalance failed"),
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(assigned) = rebalance {
            tracing::info!(partitions = assigned.count(), "partitions assigned");
            // A partition that left while it was paused and came back is still paused inside
            // librdkafka, but its queue is new and empty; and an assignment may have set those
            // going that are full.
            let paused = list(&self.shared.paused());
            for (what, result) in [
                ("resume", consumer.resume(assigned)),
                (
                    "pause",
                    if paused.count() == 0 {
                        Ok(())
                    } else {
                        consumer.pause(&paused)
                    },
                ),
            ] {
                if let Err(error) = result {
                    tracing::warn!(%error, "cannot {what} partitions after an assignment");
                }
            }
        }
        self.report_assignment();
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        match result {
            Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            Err(error) => {
                tracing::warn!(%error, "a commit failed; the next one covers it");
                self.shared.count(|counters| counters.commit_failures += 1);
            }
        }
    }
}

impl ClientContext for Group {
    fn stats(&self, statistics: Statistics) {
        let mut lags = HashMap::new();
        for (topic, stats) in &statistics.topics {
            for (partition, stats) in &stats.partitions {
                if stats.consumer_lag >= 0 {
                    lags.insert((topic.clone(), *partition), stats.consumer_lag);
                }
            }
        }
        self.shared.set_lags(lags);
        if statistics
            .brokers
            .values()
            .any(|broker| broker.state == "UP")
        {
            self.recover();
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            tracing::warn!(reason, "no broker can be reached");
            self.wait_for("no broker can be reached".to_owned());
        } else {
            tracing::warn!(%error, reason, "librdkafka");
        }
    }
}
