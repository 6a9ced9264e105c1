//! The profiles of one partition together with their state: what a batch needs is read, what it
//! changes is written. Still without topics, so that tests can stop it between any two steps.

use millrace_retry::while_unavailable;
use millrace_state::{Change, ShardWriter, StateError};
use millrace_stateful::WorkError;

use crate::apply::{Applies, Applying, Input, Step};
use crate::space::Space;
use crate::values::{FORGETTING, PROGRESS, SEEN, offset, position};

/// Chunks of origins that one write forgets.
const MAX_FORGOTTEN_CHUNKS: usize = 256;

/// The one writer of a partition's profiles.
pub(crate) struct ProfileWriter {
    shard: ShardWriter,
    space: Space,
    applying: Applying,
}

impl ProfileWriter {
    /// Reads how far it has come. Waits while the store does not answer.
    pub async fn open(
        shard: ShardWriter,
        space: Space,
        applies: Applies,
    ) -> Result<Self, WorkError> {
        let progress = shard.get(vec![(PROGRESS, Vec::new())]).await?;
        let progress = progress.into_iter().next().flatten();
        let applying = Applying::open(applies, progress.as_deref())?;
        Ok(Self {
            shard,
            space,
            applying,
        })
    }

    /// The next offset of `feedback`; `None` where nothing was read yet.
    pub fn offset(&self) -> Option<i64> {
        offset(self.shard.position())
    }

    /// Applies a batch. What comes out is to be given to
    /// [`ProfileWriter::commit`]; where that fails, this writer is to be thrown away.
    pub async fn step(&mut self, batch: Vec<Input>) -> Result<Step, WorkError> {
        let keys = self.applying.wanted(&batch);
        let values = self.shard.get(keys.clone()).await?;
        self.applying.load(keys, values)?;
        for user_id in self.applying.of_another_space(&batch) {
            self.take_along(user_id).await?;
        }
        self.applying.apply(batch);
        if let Some(hour) = self.applying.hour_to_forget() {
            self.forget(hour).await?;
        }
        Ok(self.applying.finish())
    }

    /// Writes changes and offset in one step.
    pub async fn commit(
        &mut self,
        next: Option<i64>,
        changes: Vec<Change>,
    ) -> Result<(), StateError> {
        self.shard.commit(position(next), changes).await
    }

    /// Moves a profile into the space of the vectors that are now to be added to it.
    async fn take_along(&mut self, user_id: String) -> Result<(), WorkError> {
        if let Some(profile) = self.applying.profile(&user_id) {
            let take = || self.space.take(profile);
            let taken = while_unavailable("reading items", StateError::is_retryable, take).await?;
            self.applying.replace(user_id, taken);
        }
        Ok(())
    }

    /// A part of one hour at a time: whatever came in a long outage is forgotten batch by batch.
    async fn forget(&mut self, hour: i64) -> Result<(), WorkError> {
        let table = FORGETTING.part(hour);
        let entries = self.shard.scan(table, MAX_FORGOTTEN_CHUNKS + 1).await?;
        let all = entries.len() <= MAX_FORGOTTEN_CHUNKS;
        let chunks = entries.into_iter().map(|(chunk, _)| chunk);
        let chunks: Vec<Vec<u8>> = chunks.take(MAX_FORGOTTEN_CHUNKS).collect();
        let unknown = chunks.iter().filter(|chunk| !self.applying.knows(chunk));
        let keys: Vec<_> = unknown.map(|chunk| (SEEN, chunk.clone())).collect();
        let values = self.shard.get(keys.clone()).await?;
        self.applying.load(keys, values)?;
        self.applying.forget(hour, chunks, all);
        Ok(())
    }
}
