//! Building the state anew from the topics, beside the one that serves, and switching to it.
//!
//! 1. A *generation* of its own is chosen by claiming a shard that nobody writes: each attempt, also of
//!    another process, has another number, so none builds on what a second one wrote.
//! 2. A member of that generation's group reads the topics from their beginning.
//! 3. Once it has applied all that they held when it began, the store switches: from then on writes of
//!    the old generation are refused, so that where it stands is final.
//! 4. What the old generation has already published is not published again: see
//!    [`Work::open`](crate::Work::open). Once no partition needs the old one any more, it is dropped.
//!
//! Whatever is cut off before 3 leaves the old generation serving, and an attempt to be begun again;
//! what is cut off after it goes on by itself at the next start.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use millrace_kafka::AdminError;
use millrace_retry::while_unavailable;
use millrace_state::{Shard, StateError, StateStore};
use serde::{Deserialize, Serialize};

use crate::deps::StartError;

/// How often it is looked how far the new generation has come.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The shard whose claims count attempts. No topic has such a partition, and it is dropped with no
/// generation, so that no number is ever given twice.
const ATTEMPTS: Shard = Shard {
    generation: u32::MAX,
    partition: -1,
};

/// A consumer whose state can be built anew from its topics.
#[async_trait]
pub trait Rebuild: Send + Sync {
    /// The generation that it works for.
    fn generation(&self) -> u32;

    /// What a rebuild would read, and what it could not.
    ///
    /// # Errors
    /// The brokers do not answer.
    async fn extent(&self) -> Result<Rebuilt, RebuildError>;

    /// Builds the state anew while the present one serves, then switches to it. `accept_loss` goes on
    /// also where records are gone.
    ///
    /// Dropped before the switch, it leaves the present one serving. The members of other processes fail
    /// at the switch and are to be restarted, which is how they find the new one.
    ///
    /// # Errors
    /// [`RebuildError`].
    async fn rebuild(
        &self,
        accept_loss: bool,
        progress: &(dyn Fn(RebuildProgress) + Send + Sync),
    ) -> Result<Rebuilt, RebuildError>;
}

/// How far a rebuild has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebuildProgress {
    /// The generation that serves meanwhile.
    pub old: u32,
    /// The generation that is built.
    pub new: u32,
    /// Records that it has applied, of those there were at its beginning.
    pub done_records: u64,
    /// Records that there were.
    pub total_records: u64,
}

/// What a rebuild has done, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuilt {
    /// Full name of the topic that the state is made of.
    pub topic: String,
    /// The generation before.
    pub old: u32,
    /// The live generation; the same as `old` where nothing was done.
    pub new: u32,
    /// Records that the topic holds.
    pub records: u64,
    /// Records that the state was made of and the topic no longer holds: what they did is lost.
    pub records_gone: u64,
}

/// Why a state was not rebuilt, or not to its end. Before the switch the old one serves as before; after it
/// the new one serves, and the old one's removal is left to the next rebuild.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// One is running in this process.
    #[error("a rebuild of the {consumer} is running already; wait for it")]
    Running {
        /// Whose state.
        consumer: &'static str,
    },
    /// The topic no longer holds all that the state was made of.
    #[error(
        "{records} records of {topic} are gone by retention: a state made from what is left would lack what \
         they did; accept the loss to go on all the same"
    )]
    RecordsGone {
        /// Full name of the topic.
        topic: String,
        /// How many.
        records: u64,
    },
    /// The new generation's member has failed.
    #[error("the new generation could not be built: {reason}")]
    Failed {
        /// Why.
        reason: String,
    },
    /// The consumer stops.
    #[error("the {consumer} was stopped; rebuild it again")]
    Stopped {
        /// Whose state.
        consumer: &'static str,
    },
    /// The new generation's member does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The brokers cannot be asked.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The store cannot be used, or another process has switched meanwhile.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Where the topic began and ended when a rebuild did, by partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extent(pub BTreeMap<i32, (i64, i64)>);

impl Extent {
    /// Records between where each partition begins and `next`, as far as they are within.
    pub fn done(&self, next: &BTreeMap<i32, i64>) -> u64 {
        let of = |(partition, &(start, end)): (&i32, &(i64, i64))| {
            let next = next.get(partition).copied().unwrap_or(0).min(end);
            u64::try_from(next - start).unwrap_or(0)
        };
        self.0.iter().map(of).sum()
    }

    pub fn total(&self) -> u64 {
        let of = |&(start, end): &(i64, i64)| u64::try_from(end - start).unwrap_or(0);
        self.0.values().map(of).sum()
    }

    pub fn gone(&self) -> u64 {
        let of = |&(start, _): &(i64, i64)| u64::try_from(start).unwrap_or(0);
        self.0.values().map(of).sum()
    }

    pub fn is_reached(&self, next: &BTreeMap<i32, i64>) -> bool {
        self.0.iter().all(|(partition, &(start, end))| {
            start >= end || next.get(partition).is_some_and(|&next| next >= end)
        })
    }
}

/// The number of a new generation, greater than the live one's, which no other attempt has.
pub(crate) async fn choose(store: &dyn StateStore, live: u32) -> Result<u32, StateError> {
    let claim = || store.claim(ATTEMPTS);
    let claim = while_unavailable("claiming the state", StateError::is_retryable, claim).await?;
    // Both terms only grow, and the second one with each attempt.
    Ok(live.saturating_add(u32::try_from(claim.epoch).unwrap_or(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extent_is_reached_once_each_partition_is_at_its_end() {
        let extent = Extent(BTreeMap::from([(0, (5, 10)), (1, (0, 0)), (2, (3, 3))]));
        assert_eq!((extent.total(), extent.gone()), (5, 8));
        let none = BTreeMap::new();
        assert!(!extent.is_reached(&none));
        assert_eq!(extent.done(&none), 0);
        let some = BTreeMap::from([(0, 7)]);
        assert!(!extent.is_reached(&some));
        assert_eq!(extent.done(&some), 2);
        let beyond = BTreeMap::from([(0, 12), (1, 4)]);
        assert!(extent.is_reached(&beyond));
        assert_eq!(extent.done(&beyond), 5);
    }
}
