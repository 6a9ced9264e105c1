//! One partition's queue between the poll thread and the handlers.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::Notify;

use super::super::tracker::Epoch;
use crate::Record;

/// When a partition pauses: at either limit. It resumes at half of both.
#[derive(Clone, Copy, Debug)]
pub(in crate::consumer) struct QueueLimits {
    pub(in crate::consumer) messages: usize,
    pub(in crate::consumer) bytes: usize,
}

pub(super) struct PartitionQueue {
    pub(super) epoch: Epoch,
    /// Nothing is accepted until the caller has said where to start.
    pub(super) held: bool,
    /// With [`Positions::Caller`]: something can be received from this partition, or never will.
    pub(super) readable: Arc<Notify>,
    pub(super) records: VecDeque<Record>,
    pub(super) bytes: usize,
    /// Deliveries that a handler holds.
    pub(super) delivered: usize,
    pub(super) paused: bool,
    /// What was last committed of `paused`.
    pub(super) noted_paused: bool,
}

impl PartitionQueue {
    pub(super) fn new(epoch: Epoch, held: bool) -> Self {
        Self {
            epoch,
            held,
            readable: Arc::default(),
            records: VecDeque::new(),
            bytes: 0,
            delivered: 0,
            paused: false,
            noted_paused: false,
        }
    }

    /// Hands out what is first in the queue: at least one record where there is one, and no more
    /// than fit both limits.
    pub(super) fn take(&mut self, max_records: usize, max_bytes: usize) -> Vec<Record> {
        let mut taken: Vec<Record> = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.records.front() {
            let size = next.size_bytes();
            if taken.len() >= max_records || (!taken.is_empty() && bytes + size > max_bytes) {
                break;
            }
            bytes += size;
            taken.extend(self.records.pop_front());
        }
        self.bytes -= bytes;
        self.delivered += taken.len();
        taken
    }
}
