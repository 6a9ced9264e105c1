//! What the collector has done, for metrics.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;
use millrace_schemas::BehaviorKind;

use super::RowError;

/// The statuses that the endpoint answers with.
pub const STATUSES: [u16; 7] = [202, 400, 401, 413, 415, 429, 503];

/// What the collector has done since it was made.
#[derive(Clone, Debug)]
pub struct CollectorStats {
    /// Events that the brokers have, by kind.
    pub events: Vec<(&'static str, u64)>,
    /// Rows in `behavior.dlq`, by reason.
    pub rejected: Vec<(&'static str, u64)>,
    /// Rows of no concern.
    pub passed_over: u64,
    /// Answers, by status.
    pub answers: Vec<(u16, u64)>,
    /// Unpacked bodies of requests in hand.
    pub in_flight_bytes: u64,
}

pub(super) struct Counters {
    events: [AtomicU64; BehaviorKind::ALL.len()],
    rejected: [AtomicU64; RowError::ERROR_TYPES.len()],
    passed_over: AtomicU64,
    answers: [AtomicU64; STATUSES.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            events: array::from_fn(|_| AtomicU64::default()),
            rejected: array::from_fn(|_| AtomicU64::default()),
            passed_over: AtomicU64::default(),
            answers: array::from_fn(|_| AtomicU64::default()),
        }
    }
}

impl Counters {
    pub(super) fn count_event(&self, kind: BehaviorKind) {
        count(&BehaviorKind::ALL, &kind, &self.events);
    }

    pub(super) fn count_rejected(&self, error_type: &'static str) {
        count(&RowError::ERROR_TYPES, &error_type, &self.rejected);
    }

    pub(super) fn count_passed_over(&self, rows: usize) {
        self.passed_over.fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub(super) fn count_status(&self, status: StatusCode) {
        count(&STATUSES, &status.as_u16(), &self.answers);
    }

    pub(super) fn snapshot(&self, in_flight_bytes: u64) -> CollectorStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let names = BehaviorKind::ALL.iter().map(|kind| kind.as_str());
        CollectorStats {
            events: names.zip(self.events.iter().map(read)).collect(),
            rejected: RowError::ERROR_TYPES
                .into_iter()
                .zip(self.rejected.iter().map(read))
                .collect(),
            passed_over: read(&self.passed_over),
            answers: STATUSES
                .into_iter()
                .zip(self.answers.iter().map(read))
                .collect(),
            in_flight_bytes,
        }
    }
}

/// Counts up the counter that stands where `what` stands among `names`.
fn count<T: PartialEq>(names: &[T], what: &T, counters: &[AtomicU64]) {
    let place = names.iter().position(|name| name == what);
    if let Some(counter) = place.and_then(|place| counters.get(place)) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
