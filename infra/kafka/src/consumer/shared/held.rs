//! Partitions whose caller keeps the positions: held until it says where to start.

use std::sync::Arc;

use super::super::delivery::Delivery;
use super::super::tracker::{Epoch, TopicPartition};
use super::Shared;

/// Where a held partition starts; `None` is its oldest record.
#[derive(Clone, Debug)]
pub(in crate::consumer) struct Start {
    pub(in crate::consumer) partition: TopicPartition,
    pub(in crate::consumer) epoch: Epoch,
    pub(in crate::consumer) offset: Option<i64>,
}

impl Shared {
    /// The next partition that was assigned; `None` once there will be none.
    pub(in crate::consumer) async fn next_assignment(&self) -> Option<(TopicPartition, Epoch)> {
        loop {
            let readable = self.readable.notified();
            {
                let mut state = self.lock();
                if state.closed {
                    return None;
                }
                if let Some(assigned) = state.assignments.pop_front() {
                    return Some(assigned);
                }
            }
            readable.await;
        }
    }

    /// Ends an epoch whose partition stays assigned, and begins the next.
    pub(in crate::consumer) fn begin_again(&self, partition: &TopicPartition, epoch: Epoch) {
        let mut state = self.lock();
        let state = &mut *state;
        let queue = state.queues.get(partition);
        if queue.is_some_and(|queue| queue.epoch == epoch) {
            self.begin_epoch(state, partition);
            self.readable.notify_one();
        }
    }

    /// Says where a held partition starts; the poll thread sees to it.
    pub(in crate::consumer) fn start_at(&self, start: Start) {
        self.lock().starts.push(start);
    }

    /// Records of one partition, at least one; `None` once the epoch is dead.
    pub(in crate::consumer) async fn receive_batch(
        self: &Arc<Self>,
        partition: &TopicPartition,
        epoch: Epoch,
        max_records: usize,
        max_bytes: usize,
    ) -> Option<Vec<Delivery>> {
        loop {
            let readable = {
                let mut state = self.lock();
                if state.closed {
                    return None;
                }
                let queue = state.queues.get_mut(partition)?;
                if queue.epoch != epoch {
                    return None;
                }
                if !queue.records.is_empty() {
                    let batch = queue.take(max_records, max_bytes);
                    drop(state);
                    let deliver = |record| Delivery::new(record, epoch, Arc::clone(self));
                    return Some(batch.into_iter().map(deliver).collect());
                }
                Arc::clone(&queue.readable)
            };
            // A single waiter a partition: a notice given in between is kept for it.
            readable.notified().await;
        }
    }

    pub(in crate::consumer) fn is_epoch(&self, partition: &TopicPartition, epoch: Epoch) -> bool {
        let state = self.lock();
        let queue = state.queues.get(partition);
        !state.closed && queue.is_some_and(|queue| queue.epoch == epoch)
    }

    /// What the caller wants started and is still assigned.
    pub(in crate::consumer) fn take_starts(&self) -> Vec<Start> {
        let mut state = self.lock();
        let state = &mut *state;
        let mut starts = std::mem::take(&mut state.starts);
        starts.retain(|start| {
            let queue = state.queues.get(&start.partition);
            queue.is_some_and(|queue| queue.epoch == start.epoch && queue.held)
        });
        starts
    }

    /// A held partition stands where the caller wants it: its records are accepted from here on.
    /// `false` where its epoch has ended meanwhile.
    pub(in crate::consumer) fn release(&self, start: &Start) -> bool {
        let mut state = self.lock();
        let state = &mut *state;
        match state.queues.get_mut(&start.partition) {
            Some(queue) if queue.epoch == start.epoch => {
                queue.held = false;
                if let Some(offset) = start.offset {
                    let tracker = &mut state.tracker;
                    tracker.begin_at(&start.partition, start.epoch, offset);
                }
                true
            }
            Some(_) | None => false,
        }
    }
}
