//! What a consumer tells of itself.

use std::ops::Deref;

/// Whether a consumer works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumerState {
    /// It has not joined its group yet.
    Connecting,
    /// It is a member of its group. A member beyond the number of partitions has none and is ready
    /// to take over.
    Ready {
        /// Partitions assigned.
        partitions: usize,
    },
    /// No broker can be reached, or a topic is missing; it goes on by itself when that is over.
    Waiting {
        /// What it waits for.
        reason: String,
    },
    /// It was asked to stop and waits for its handlers.
    Draining,
    /// It has left the group.
    Stopped,
    /// It has been evicted from its group and does nothing more; the process should restart.
    Fatal {
        /// Why.
        reason: String,
    },
}

impl ConsumerState {
    /// Whether the process may report itself ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready { .. })
    }

    /// Whether nothing follows.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Stopped | Self::Fatal { .. })
    }
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Records received from the brokers.
    pub received: u64,
    /// Records finished.
    pub finished: u64,
    /// Acknowledgements of a dead epoch, ignored.
    pub late_acknowledgements: u64,
    /// Deliveries dropped without an acknowledgement.
    pub dropped_unfinished: u64,
    /// Times that a partition was paused because its queue was full.
    pub pauses: u64,
    /// Assignments and revocations.
    pub rebalances: u64,
    /// Revocations whose handlers were not done in time.
    pub drain_timeouts: u64,
    /// Commits that failed.
    pub commit_failures: u64,
    /// Evictions from the group, each fatal.
    pub evictions: u64,
}

/// A consumer's counters and the state of its partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerMetrics {
    /// Counts since the start.
    pub counters: Counters,
    /// The assigned partitions, by topic and number.
    pub partitions: Vec<PartitionMetrics>,
}

impl Deref for ConsumerMetrics {
    type Target = Counters;

    fn deref(&self) -> &Counters {
        &self.counters
    }
}

/// One assigned partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMetrics {
    /// The topic's full name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset below which everything received is finished.
    pub position: Option<i64>,
    /// Records between the committed offset and the end, as librdkafka last saw them.
    pub lag: Option<i64>,
    /// Records queued for handlers.
    pub queued_messages: usize,
    /// Bytes queued for handlers.
    pub queued_bytes: usize,
    /// Records received and not finished.
    pub unfinished: usize,
    /// Whether fetching is paused because the queue is full.
    pub paused: bool,
}
