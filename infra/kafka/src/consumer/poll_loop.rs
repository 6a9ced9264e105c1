//! The thread that polls.
//!
//! Polling never stops while the process lives: not for full queues (their partitions pause) and
//! not for slow handlers. So `max.poll.interval.ms` is exceeded only by a process that was frozen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::group::{self, Group};
use super::membership;
use super::shared::{Shared, Start};
use super::state::ConsumerState;
use crate::Record;

/// How long a poll waits for a record: the most that an acknowledgement, a resumption or a
/// shutdown waits to be noticed.
const POLL_TIMEOUT: Duration = Duration::from_millis(20);
/// How often, under a steady flow of records, drained partitions resume and offsets are stored.
const UPKEEP_INTERVAL: Duration = Duration::from_millis(20);

/// How often it is told that a partition which stands still has paused or resumed.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

/// How long giving the partitions back may take before the client is closed with what is left of it.
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);

/// How long one attempt to move a partition may hold up polling.
const SEEK_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct PollLoop {
    consumer: BaseConsumer<Group>,
    shared: Arc<Shared>,
    /// It has a `group.instance.id`.
    static_member: bool,
    last_upkeep: Instant,
    last_notes: Instant,
}

/// Why the consumer cannot go on.
struct Evicted(String);

impl PollLoop {
    pub(super) fn new(
        consumer: BaseConsumer<Group>,
        shared: Arc<Shared>,
        static_member: bool,
    ) -> Self {
        Self {
            consumer,
            shared,
            static_member,
            last_upkeep: Instant::now(),
            last_notes: Instant::now(),
        }
    }

    /// Polls until shutdown or eviction, then leaves the group.
    pub(super) fn run(mut self) {
        let end = loop {
            if let Err(evicted) = self.step() {
                break Some(evicted);
            }
            match self.shared.shutdown_deadline() {
                Some(deadline) if self.shared.is_idle() || Instant::now() >= deadline => {
                    break None;
                }
                Some(_) => self.begin_drain(),
                None => {}
            }
        };
        self.shared.close();
        match end {
            Some(Evicted(reason)) => {
                tracing::error!(reason, "evicted from the consumer group");
                self.shared.count(|counters| counters.evictions += 1);
                self.shared.settle();
                // Whoever has the partitions now must not see a commit of ours.
                self.shared.revoke(&self.shared.assigned());
                self.shared.set_health(ConsumerState::Fatal { reason });
            }
            None => {
                self.shared.set_health(ConsumerState::Draining);
                group::commit(&self.consumer, &self.shared);
                let unfinished = self.shared.settle();
                tracing::info!(unfinished, "leaving the consumer group");
            }
        }
        let Self {
            consumer,
            shared,
            static_member,
            ..
        } = self;
        // A static member stays on purpose: the group keeps its partitions for its return.
        if !static_member {
            leave(&consumer, &shared);
        }
        // Closes: revokes what is left.
        drop(consumer);
        shared.set_health(ConsumerState::Stopped);
    }

    /// Polls on for the membership's sake, but fetches no more: nobody would take it.
    fn begin_drain(&self) {
        if self.shared.current_health() == ConsumerState::Draining {
            return;
        }
        self.shared.set_health(ConsumerState::Draining);
        let assigned = group::list(&self.shared.assigned());
        if let Err(error) = self.consumer.pause(&assigned) {
            // What is fetched then is dropped, and read again after the next start.
            tracing::warn!(%error, "partitions cannot be paused for draining");
        }
    }

    fn step(&mut self) -> Result<(), Evicted> {
        let polled = self.consumer.poll(POLL_TIMEOUT);
        let idle = polled.is_none();
        match polled {
            None => {}
            Some(Ok(message)) => {
                let record = Record::copy_from(&message);
                let partition = (record.topic.clone(), record.partition);
                if self.shared.accept(record)
                    && let Err(error) = self.consumer.pause(&group::list(&[partition]))
                {
                    // The queue then grows past its limit until the handlers catch up.
                    tracing::warn!(%error, "a full partition cannot be paused");
                }
            }
            Some(Err(error)) => self.handle(&error)?,
        }
        if idle || self.last_upkeep.elapsed() >= UPKEEP_INTERVAL {
            self.upkeep();
        }
        Ok(())
    }

    fn upkeep(&mut self) {
        self.last_upkeep = Instant::now();
        let resumable = self.shared.take_resumable();
        if !resumable.is_empty()
            && let Err(error) = self.consumer.resume(&group::list(&resumable))
        {
            tracing::warn!(%error, "drained partitions cannot be resumed");
        }
        for start in self.shared.take_starts() {
            self.start(start);
        }
        group::store(&self.consumer, &self.shared);
        if self.last_notes.elapsed() >= NOTE_INTERVAL {
            self.last_notes = Instant::now();
            group::note_pauses(&self.consumer, &self.shared);
        }
    }

    /// Moves a held partition to where its caller wants it, and sets it going.
    fn start(&self, start: Start) {
        let (topic, partition) = &start.partition;
        let offset = start.offset.map_or(Offset::Beginning, Offset::Offset);
        match self.consumer.seek(topic, *partition, offset, SEEK_TIMEOUT) {
            Ok(()) => {
                // Accepted before it is set going, or its first records would be dropped.
                if self.shared.release(&start)
                    && let Err(error) = self.consumer.resume(&group::list(&[start.partition]))
                {
                    tracing::error!(%error, "a partition cannot be set going");
                }
            }
            // Just assigned: librdkafka does not fetch it yet, so there is nothing to move.
            Err(error) => {
                tracing::debug!(%error, topic, partition, "cannot seek yet; trying again");
                self.shared.start_at(start);
            }
        }
    }

    fn handle(&self, error: &KafkaError) -> Result<(), Evicted> {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::PollExceeded) => Err(Evicted(
                "the process did not run for max.poll.interval.ms".to_owned(),
            )),
            _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => {
                Err(Evicted(error.to_string()))
            }
            Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::FencedInstanceId) => {
                Err(Evicted(error.to_string()))
            }
            Some(
                code @ (RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed),
            ) => {
                tracing::warn!(%error, "waiting for the topic");
                self.consumer.context().wait_for(code.to_string());
                Ok(())
            }
            // Transport errors: librdkafka reconnects by itself.
            _ => {
                tracing::warn!(%error, "while consuming");
                Ok(())
            }
        }
    }
}

/// Leaves the group while the client still lives, rather than by closing it. Closing while an event of a
/// rebalance is on its way can wait for ever: the revocation's answer is thrown away where the group's part
/// of the client has ended meanwhile (librdkafka 2.12, `rd_kafka_cgrp_op_serve`;
/// confluentinc/librdkafka#4884). And a cooperative member without partitions that closes in the steady
/// state sends no LeaveGroup (`rd_kafka_cgrp_revoke_all_rejoin`), so that every later rebalance waits for it
/// until its session ends.
fn leave(consumer: &BaseConsumer<Group>, shared: &Shared) {
    consumer.unsubscribe();
    let began = Instant::now();
    while began.elapsed() < LEAVE_PATIENCE {
        // The revocation comes by polling. Records that still do are read again by whoever has them next.
        let _ = consumer.poll(POLL_TIMEOUT);
        // Closing waits for the answer to what was sent; before that is sent, it would forget to.
        if shared.assigned().is_empty() && !membership::is_member(consumer) {
            return;
        }
    }
    tracing::warn!("the group was not left in time; closing the client");
}
