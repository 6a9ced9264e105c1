//! What the live generation has made of behavior, while the next one is built from the same topics.
//!
//! Feedback names the record that it was made of, and whoever applies it knows it again by that. A
//! replay must not name another: an event that came twice, the first time too early for its signal,
//! was joined at its second record, and would now be at its first. So outcomes are not found anew but
//! taken over by event id, nothing that has been published is published again, and what still waits is
//! decided last, once the old generation stands still.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_kafka::topics;
use millrace_retry::while_unavailable;
use millrace_state::{Change, Shard, ShardWriter, StateError, StateStore, Table};
use millrace_stateful::{WorkError, read, write};

use crate::tables::SEEN;
use crate::values::{Seen, SeenKey, SeenOutcome};

/// One value: the generation that is replayed. Absent once nothing of it is needed any more.
const REPLAYS: Table = Table::new("replays");
/// How often it is looked whether the live generation has come further.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The generation that this one replays, in the same partition.
pub(crate) struct Replay {
    store: Arc<dyn StateStore>,
    old: Shard,
    new: Shard,
}

impl Replay {
    /// As the shard itself says, or else as it is begun.
    pub async fn open(shard: &ShardWriter, begun: Option<u32>) -> Result<Option<Self>, WorkError> {
        let marked = shard.get(vec![(REPLAYS, Vec::new())]).await?;
        let marked = marked.into_iter().next().flatten();
        let marked = marked
            .map(|value| read::<u32>(REPLAYS, &value))
            .transpose()?;
        // One that has read something without a mark has replayed all there was.
        let begun = begun.filter(|_| shard.position().get(topics::BEHAVIOR_BY_ITEM).is_none());
        Ok(marked.or(begun).map(|generation| Self {
            store: shard.store(),
            old: Shard {
                generation,
                ..shard.shard()
            },
            new: shard.shard(),
        }))
    }

    /// Says in the state that the shard is a replay.
    pub fn mark(&self) -> Change {
        Change {
            table: REPLAYS,
            key: Vec::new(),
            value: Some(write(&self.old.generation)),
        }
    }

    /// Says that it no longer is.
    pub fn unmark() -> Change {
        Change {
            table: REPLAYS,
            key: Vec::new(),
            value: None,
        }
    }

    /// Whether `shard` is marked.
    pub async fn is_marked(store: &dyn StateStore, shard: Shard) -> Result<bool, StateError> {
        let found = store.get(shard, vec![(REPLAYS, Vec::new())]).await?;
        Ok(found.into_iter().any(|value| value.is_some()))
    }

    /// Waits until the live generation has decided all records before `next`, or decides no more,
    /// having been replaced by this one. Says up to where it has, and whether that is final.
    pub async fn decided(&self, next: Option<i64>) -> Result<(Option<i64>, bool), StateError> {
        loop {
            // In this order: what is read after the switch is final.
            let live = || self.store.live_generation();
            let live = wait(live).await?;
            let ask = || self.store.position(self.old);
            let decided = wait(ask).await?.get(topics::BEHAVIOR_BY_ITEM);
            if live == self.new.generation {
                return Ok((decided, true));
            }
            if next <= decided {
                return Ok((decided, false));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What the old generation remembers of these events.
    pub async fn outcomes(
        &self,
        ids: Vec<SeenKey>,
    ) -> Result<HashMap<SeenKey, SeenOutcome>, WorkError> {
        let keys: Vec<_> = ids.iter().map(|id| (SEEN, id.to_vec())).collect();
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let get = || self.store.get(self.old, keys.clone());
        let found = wait(get).await?;
        let mut outcomes = HashMap::new();
        for (id, value) in ids.into_iter().zip(found) {
            if let Some(value) = value {
                outcomes.insert(id, read::<Seen>(SEEN, &value)?.outcome);
            }
        }
        Ok(outcomes)
    }
}

async fn wait<T, F>(ask: impl FnMut() -> F) -> Result<T, StateError>
where
    F: Future<Output = Result<T, StateError>>,
{
    while_unavailable("reading the state", StateError::is_retryable, ask).await
}
