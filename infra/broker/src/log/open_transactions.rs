//! Which transactions are open in a partition and which of the finished ones were aborted: what
//! `read_committed` readers need.

use std::collections::HashMap;

use super::batch::BatchHeader;

/// A finished transaction whose records must not be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    pub producer_id: i64,
    pub first_offset: i64,
    /// The offset of the abort marker.
    pub last_offset: i64,
}

/// Derived from the log, never stored.
#[derive(Clone, Debug, Default)]
pub struct OpenTransactions {
    first_offset_by_producer: HashMap<i64, i64>,
    aborted: Vec<Aborted>,
}

impl OpenTransactions {
    /// Takes a data batch into account.
    pub fn note_data(&mut self, header: &BatchHeader) {
        if header.is_transactional() {
            self.first_offset_by_producer
                .entry(header.producer_id)
                .or_insert(header.base_offset);
        }
    }

    /// Takes an end-of-transaction marker into account.
    pub fn note_marker(&mut self, header: &BatchHeader, committed: bool) {
        let Some(first_offset) = self.first_offset_by_producer.remove(&header.producer_id) else {
            return;
        };
        if !committed {
            let last_offset = header.base_offset;
            self.aborted.push(Aborted {
                producer_id: header.producer_id,
                first_offset,
                last_offset,
            });
        }
    }

    pub fn is_open(&self, producer_id: i64) -> bool {
        self.first_offset_by_producer.contains_key(&producer_id)
    }

    /// The first offset of the oldest open transaction.
    pub fn first_open_offset(&self) -> Option<i64> {
        self.first_offset_by_producer.values().min().copied()
    }

    /// Aborted transactions that touch the offsets of a read.
    pub fn aborted_within(&self, first_offset: i64, last_offset: i64) -> Vec<Aborted> {
        let touches = |aborted: &&Aborted| {
            aborted.last_offset >= first_offset && aborted.first_offset <= last_offset
        };
        self.aborted.iter().filter(touches).copied().collect()
    }

    /// All of them, for compaction.
    pub fn aborted(&self) -> &[Aborted] {
        &self.aborted
    }

    /// Forgets what ended before the log's first offset.
    pub fn forget_before(&mut self, offset: i64) {
        self.aborted.retain(|aborted| aborted.last_offset >= offset);
    }
}
