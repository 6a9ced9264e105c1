//! What was handed out, and what the pipeline said to it. The verdict reads it afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use millrace_kafka::RecordPosition;

use super::behavior::Behavior;
use super::poison::Poison;
use crate::report::Violation;

/// A record that the brokers acknowledged to the workload's own producer.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    /// Where they said it is.
    pub position: RecordPosition,
    /// Its key.
    pub key: Bytes,
    /// Its value.
    pub value: Option<Bytes>,
}

/// A posted notice that was answered with 200.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AcceptedNotice {
    /// The object.
    pub uri: String,
    /// Its event time, ms since 1970.
    pub event_time_ms: i64,
    /// The tag that it named, none for a removal.
    pub etag: Option<String>,
}

/// Behavior that was posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldBehavior {
    /// What was told.
    pub behavior: Behavior,
    /// The same in every copy, ms since 1970.
    pub event_time_ms: i64,
    /// Whether any copy was answered with 202.
    pub acknowledged: bool,
}

/// Everything that was promised.
#[derive(Debug, Default)]
pub struct Promises {
    /// Acknowledged obligations by kind.
    pub by_kind: BTreeMap<&'static str, u64>,
    /// Keys of objects that were ever written or removed.
    pub objects: BTreeSet<String>,
    /// Documents whose content came with their notices.
    pub inline: BTreeSet<String>,
    /// The last content of each file of the watched folder.
    pub files: BTreeMap<String, String>,
    /// Records that the brokers acknowledged.
    pub acknowledged: Vec<Acknowledged>,
    /// Notices that the endpoint acknowledged.
    pub accepted: BTreeSet<AcceptedNotice>,
    /// Poison by the key under which it is on the topic. What was sent but not acknowledged may be
    /// there as well.
    pub poison: BTreeMap<String, Poison>,
    /// Posted poison by the mark in its dead letter; the bool says whether it was acknowledged.
    pub posted_poison: BTreeMap<String, (Poison, bool)>,
    /// Behavior by its event id, with the event time that it was told with. What was posted but not
    /// acknowledged may be counted as well.
    pub behavior: BTreeMap<String, ToldBehavior>,
    /// The mark of every version that was handed out, in that order.
    pub marks: Vec<String>,
    /// What went wrong while handing out.
    pub violations: Vec<Violation>,
}

/// The promises, shared by everybody who hands out.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Promises>);

impl Ledger {
    /// To read or change it; never across an await.
    pub fn lock(&self) -> MutexGuard<'_, Promises> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An obligation was acknowledged.
    pub fn acknowledged(&self, kind: &'static str) {
        *self.lock().by_kind.entry(kind).or_default() += 1;
    }

    /// A promise was broken while handing out.
    pub fn violation(&self, promise: &'static str, subject: impl Into<String>, found: String) {
        self.lock().violations.push(Violation {
            promise,
            subject: subject.into(),
            found,
        });
    }

    /// How many obligations were acknowledged.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.lock().by_kind.values().sum()
    }
}
