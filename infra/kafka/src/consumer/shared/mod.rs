//! What the poll thread and the handlers share: queues, tracker, counters, behind one lock.
//!
//! The lock is held for moments only; nothing in here calls librdkafka or waits, except
//! [`Shared::wait_until_idle`], which releases it while it waits.

mod held;
mod queue;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::delivery::Delivery;
use super::state::{ConsumerMetrics, ConsumerState, Counters, PartitionMetrics};
use super::tracker::{Epoch, Finished, OffsetTracker, TopicPartition};
use crate::Record;

pub(super) use self::held::Start;
use self::queue::PartitionQueue;
pub(super) use self::queue::QueueLimits;

/// Who knows where a partition is resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Positions {
    /// The group's committed offsets.
    Committed,
    /// The caller, who keeps them beside its own state. A partition is held until the caller says.
    Caller,
}

pub(super) struct Shared {
    pub(super) group: String,
    state: Mutex<State>,
    limits: QueueLimits,
    positions: Positions,
    /// Something can be received, or nothing ever will.
    readable: Notify,
    /// The last delivery of some partition has ended.
    idle: Condvar,
    health: watch::Sender<ConsumerState>,
}

/// How far a partition is done.
pub(super) struct Progress {
    pub(super) partition: TopicPartition,
    /// The offset to resume from.
    pub(super) position: i64,
    /// Whether its queue is full.
    pub(super) paused: bool,
}

#[derive(Default)]
struct State {
    tracker: OffsetTracker,
    queues: HashMap<TopicPartition, PartitionQueue>,
    /// Partitions with something queued, each once, served in turn.
    turn: VecDeque<TopicPartition>,
    /// With [`Positions::Caller`]: partitions assigned and not yet handed to the caller.
    assignments: VecDeque<(TopicPartition, Epoch)>,
    /// Where the caller wants held partitions to start.
    starts: Vec<Start>,
    counters: Counters,
    lags: HashMap<TopicPartition, i64>,
    shutdown: Option<Instant>,
    unfinished_at_end: usize,
    closed: bool,
}

impl Shared {
    pub(super) fn new(group: &str, limits: QueueLimits, positions: Positions) -> Self {
        Self {
            group: group.to_owned(),
            state: Mutex::default(),
            limits,
            positions,
            readable: Notify::new(),
            idle: Condvar::new(),
            health: watch::Sender::new(ConsumerState::Connecting),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A handler's panic while it held the lock leaves counters at worst one off.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Handlers.

    /// The next record; `None` once there will be none.
    pub(super) async fn receive(self: &Arc<Self>) -> Option<Delivery> {
        loop {
            // Made before looking, so that a record queued in between is not missed.
            let readable = self.readable.notified();
            {
                let mut state = self.lock();
                if state.closed {
                    return None;
                }
                if let Some((record, epoch)) = state.pop() {
                    return Some(Delivery::new(record, epoch, Arc::clone(self)));
                }
            }
            readable.await;
        }
    }

    pub(super) fn is_current(&self, record: &Record, epoch: Epoch) -> bool {
        let partition = (record.topic.clone(), record.partition);
        self.lock()
            .queues
            .get(&partition)
            .is_some_and(|queue| queue.epoch == epoch)
    }

    /// A handler has let go of a delivery.
    pub(super) fn end_delivery(
        &self,
        partition: &TopicPartition,
        epoch: Epoch,
        offset: i64,
        done: bool,
    ) {
        let mut state = self.lock();
        let state = &mut *state;
        if done {
            match state.tracker.finished(partition, epoch, offset) {
                Finished::Counted => state.counters.finished += 1,
                Finished::DeadEpoch => state.counters.late_acknowledgements += 1,
            }
        } else {
            state.counters.dropped_unfinished += 1;
        }
        if let Some(queue) = state.queues.get_mut(partition)
            && queue.epoch == epoch
        {
            queue.delivered = queue.delivered.saturating_sub(1);
            if queue.delivered == 0 {
                self.idle.notify_all();
            }
        }
    }

    // The poll thread.

    /// Queues a record. `true` where its partition must pause now.
    pub(super) fn accept(&self, record: Record) -> bool {
        let mut state = self.lock();
        let state = &mut *state;
        let partition = (record.topic.clone(), record.partition);
        if state.closed || state.queues.get(&partition).is_none_or(|queue| queue.held) {
            return false;
        }
        if !state.tracker.received(&partition, record.offset) {
            tracing::warn!(
                topic = partition.0,
                partition = partition.1,
                offset = record.offset,
                "the partition's offsets went back: it was cut or made anew; starting over with it"
            );
            self.begin_epoch(state, &partition);
            if self.positions == Positions::Caller {
                self.readable.notify_one();
                return true;
            }
            // Accepted by a tracker that has received nothing yet.
            let _ = state.tracker.received(&partition, record.offset);
        }
        state.counters.received += 1;
        let Some(queue) = state.queues.get_mut(&partition) else {
            return false;
        };
        queue.bytes += record.size_bytes();
        queue.records.push_back(record);
        let full = queue.records.len() >= self.limits.messages || queue.bytes >= self.limits.bytes;
        let pause = full && !queue.paused;
        queue.paused |= full;
        match self.positions {
            Positions::Caller => queue.readable.notify_one(),
            Positions::Committed => {
                if queue.records.len() == 1 {
                    state.turn.push_back(partition);
                }
                self.readable.notify_one();
            }
        }
        state.counters.pauses += u64::from(pause);
        pause
    }

    /// Partitions that have drained to half of their limits and may go on.
    pub(super) fn take_resumable(&self) -> Vec<TopicPartition> {
        let mut resumable = Vec::new();
        let mut state = self.lock();
        if state.closed {
            return resumable;
        }
        for (partition, queue) in &mut state.queues {
            let drained = queue.records.len() <= self.limits.messages / 2
                && queue.bytes <= self.limits.bytes / 2;
            if queue.paused && drained && !queue.held {
                queue.paused = false;
                resumable.push(partition.clone());
            }
        }
        resumable
    }

    pub(super) fn paused(&self) -> Vec<TopicPartition> {
        let state = self.lock();
        let stands = |queue: &PartitionQueue| queue.paused || queue.held;
        let paused = state.queues.iter().filter(|(_, queue)| stands(queue));
        paused.map(|(partition, _)| partition.clone()).collect()
    }

    /// What has moved since it was last taken.
    pub(super) fn take_storable(&self) -> Vec<Progress> {
        let mut state = self.lock();
        let moved = state.tracker.take_storable().into_iter();
        moved
            .map(|(partition, position)| state.note_progress(partition, position))
            .collect()
    }

    /// What stands still, and paused or resumed since that was last taken: nothing else tells of it.
    pub(super) fn take_unnoted_pauses(&self) -> Vec<Progress> {
        let mut state = self.lock();
        let changed: Vec<_> = state
            .queues
            .iter()
            .filter(|(_, queue)| queue.paused != queue.noted_paused)
            .filter_map(|(partition, _)| {
                Some((partition.clone(), state.tracker.position(partition)?))
            })
            .collect();
        changed
            .into_iter()
            .map(|(partition, position)| state.note_progress(partition, position))
            .collect()
    }

    /// Begins an epoch for each partition.
    pub(super) fn assign(&self, partitions: &[TopicPartition]) {
        let mut state = self.lock();
        state.counters.rebalances += 1;
        for partition in partitions {
            self.begin_epoch(&mut state, partition);
        }
        if self.positions == Positions::Caller {
            self.readable.notify_one();
        }
    }

    fn begin_epoch(&self, state: &mut State, partition: &TopicPartition) {
        let held = self.positions == Positions::Caller;
        let epoch = state.begin_epoch(partition, held);
        if held {
            state.assignments.push_back((partition.clone(), epoch));
        }
    }

    /// Drops what is queued of these partitions; handlers keep what they have.
    pub(super) fn stop_feeding(&self, partitions: &[TopicPartition]) {
        let mut state = self.lock();
        state
            .turn
            .retain(|partition| !partitions.contains(partition));
        for partition in partitions {
            if let Some(queue) = state.queues.get_mut(partition) {
                queue.records.clear();
                queue.bytes = 0;
            }
        }
    }

    /// Waits until handlers hold nothing of these partitions. `false` at the deadline.
    pub(super) fn wait_until_idle(&self, partitions: &[TopicPartition], deadline: Instant) -> bool {
        let mut state = self.lock();
        loop {
            let busy = |partition| {
                state
                    .queues
                    .get(partition)
                    .is_some_and(|queue| queue.delivered > 0)
            };
            if !partitions.iter().any(busy) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self
                .idle
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Ends the epochs of these partitions.
    pub(super) fn revoke(&self, partitions: &[TopicPartition]) {
        let mut state = self.lock();
        state.counters.rebalances += 1;
        state
            .turn
            .retain(|partition| !partitions.contains(partition));
        for partition in partitions {
            state.tracker.revoke(partition);
            state.assignments.retain(|(other, _)| other != partition);
            if let Some(queue) = state.queues.remove(partition) {
                queue.readable.notify_one();
            }
            state.lags.remove(partition);
        }
    }

    /// Everything that is assigned.
    pub(super) fn assigned(&self) -> Vec<TopicPartition> {
        self.lock().queues.keys().cloned().collect()
    }

    /// Takes the records received and not finished as the final count.
    pub(super) fn settle(&self) -> usize {
        let mut state = self.lock();
        let count = state
            .queues
            .keys()
            .map(|partition| state.tracker.unfinished(partition))
            .sum();
        state.unfinished_at_end = count;
        count
    }

    pub(super) fn unfinished_at_end(&self) -> usize {
        self.lock().unfinished_at_end
    }

    /// Whether handlers hold nothing at all.
    pub(super) fn is_idle(&self) -> bool {
        self.lock()
            .queues
            .values()
            .all(|queue| queue.delivered == 0)
    }

    /// No record is handed out from here on.
    pub(super) fn close(&self) {
        let assigned = self.assigned();
        self.stop_feeding(&assigned);
        let mut state = self.lock();
        state.closed = true;
        for queue in state.queues.values() {
            queue.readable.notify_one();
        }
        self.readable.notify_one();
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut Counters)) {
        count(&mut self.lock().counters);
    }

    pub(super) fn set_lags(&self, lags: HashMap<TopicPartition, i64>) {
        self.lock().lags = lags;
    }

    // Shutdown, health, metrics.

    /// Asks the poll thread to drain and stop; the earliest deadline counts.
    pub(super) fn request_shutdown(&self, deadline: Duration) {
        let at = Instant::now() + deadline;
        // First: who sees that it drains must not be handed a record any more.
        self.close();
        let mut state = self.lock();
        state.shutdown = Some(state.shutdown.map_or(at, |earlier| earlier.min(at)));
    }

    pub(super) fn shutdown_deadline(&self) -> Option<Instant> {
        self.lock().shutdown
    }

    pub(super) fn health(&self) -> watch::Receiver<ConsumerState> {
        self.health.subscribe()
    }

    /// Moves to `next`, unless a final state was reached.
    pub(super) fn set_health(&self, next: ConsumerState) {
        self.health.send_if_modified(|current| {
            let change = *current != next && !current.is_final();
            if change {
                *current = next;
            }
            change
        });
    }

    pub(super) fn current_health(&self) -> ConsumerState {
        self.health.borrow().clone()
    }

    pub(super) fn metrics(&self) -> ConsumerMetrics {
        let state = self.lock();
        let mut partitions: Vec<PartitionMetrics> = state
            .queues
            .iter()
            .map(|(partition, queue)| PartitionMetrics {
                topic: partition.0.clone(),
                partition: partition.1,
                position: state.tracker.position(partition),
                lag: state.lags.get(partition).copied(),
                queued_messages: queue.records.len(),
                queued_bytes: queue.bytes,
                unfinished: state.tracker.unfinished(partition),
                paused: queue.paused,
            })
            .collect();
        partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        ConsumerMetrics {
            counters: state.counters,
            partitions,
        }
    }
}

impl State {
    fn note_progress(&mut self, partition: TopicPartition, position: i64) -> Progress {
        let mut paused = false;
        if let Some(queue) = self.queues.get_mut(&partition) {
            paused = queue.paused;
            queue.noted_paused = paused;
        }
        Progress {
            partition,
            position,
            paused,
        }
    }

    fn begin_epoch(&mut self, partition: &TopicPartition, held: bool) -> Epoch {
        let epoch = self.tracker.assign(partition.clone());
        self.turn.retain(|other| other != partition);
        let queue = PartitionQueue::new(epoch, held);
        if let Some(ended) = self.queues.insert(partition.clone(), queue) {
            ended.readable.notify_one();
        }
        epoch
    }

    fn pop(&mut self) -> Option<(Record, Epoch)> {
        let partition = self.turn.pop_front()?;
        let queue = self.queues.get_mut(&partition)?;
        let record = queue.take(1, usize::MAX).pop()?;
        let epoch = queue.epoch;
        if !queue.records.is_empty() {
            self.turn.push_back(partition);
        }
        Some((record, epoch))
    }
}
