//! What the tables' endpoint has done, for metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Table;

/// Rows since the start that the brokers have, by table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableStats {
    /// On their topics.
    pub accepted: Vec<(&'static str, u64)>,
    /// In dead-letter topics.
    pub rejected: Vec<(&'static str, u64)>,
}

#[derive(Default)]
pub(super) struct TableCounters {
    accepted: [AtomicU64; Table::ALL.len()],
    rejected: [AtomicU64; Table::ALL.len()],
}

impl TableCounters {
    pub fn count(&self, table: Table, accepted: usize, rejected: usize) {
        // In the order of `Table::ALL`.
        let place = table as usize;
        self.accepted[place].fetch_add(accepted as u64, Relaxed);
        self.rejected[place].fetch_add(rejected as u64, Relaxed);
    }

    pub fn snapshot(&self) -> TableStats {
        let read = |counters: &[AtomicU64; 3]| {
            let names = Table::ALL.iter().map(|table| table.as_str());
            names
                .zip(counters.iter().map(|counter| counter.load(Relaxed)))
                .collect()
        };
        TableStats {
            accepted: read(&self.accepted),
            rejected: read(&self.rejected),
        }
    }
}
