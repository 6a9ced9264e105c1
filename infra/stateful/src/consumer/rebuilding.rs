//! The next generation from its first record to the switch.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use millrace_kafka::AdminError;
use millrace_retry::{error_chain, while_unavailable};
use millrace_state::{FIRST_GENERATION, LIVE_FOR, Shard, StateError};

use super::Running;
use crate::deps::group;
use crate::member::Member;
use crate::rebuild::{self, Extent, LOOK_EVERY, RebuildError, RebuildProgress, Rebuilt};
use crate::work::Work;

/// How long the member of an old generation may take to leave its group.
const OLD_LEAVES_WITHIN: Duration = Duration::from_secs(5);

impl<W: Work> Running<W> {
    /// Where the consumer's topic begins and ends now.
    pub(super) async fn extent(&self) -> Result<Extent, AdminError> {
        let topic = self.deps.kafka.topic(W::TOPIC);
        let mut extent = Extent::default();
        for partition in 0..self.partition_count {
            let watermarks = self.admin.watermarks(&topic, partition).await?;
            extent.0.insert(partition, watermarks);
        }
        Ok(extent)
    }

    pub(super) async fn rebuild(
        self: &Arc<Self>,
        accept_loss: bool,
        progress: &(dyn Fn(RebuildProgress) + Send + Sync),
    ) -> Result<Rebuilt, RebuildError> {
        let consumer = W::NAME;
        let Ok(_one) = self.rebuilding.try_lock() else {
            return Err(RebuildError::Running { consumer });
        };
        let extent = self.extent().await?;
        if extent.gone() > 0 && !accept_loss {
            return Err(RebuildError::RecordsGone {
                topic: self.deps.kafka.topic(W::TOPIC),
                records: extent.gone(),
            });
        }
        let store = &self.deps.state;
        let old = self.live();
        let (before, after) = {
            let live = old.context.generation;
            (live, rebuild::choose(&**store, live).await?)
        };
        tracing::info!(
            consumer,
            before,
            after,
            "building a generation of the state"
        );
        let new = Member::start(&self.deps, &self.admin, &self.work, after, Some(before))?;
        // Whoever drops this future before the switch ends the member too.
        let guard = new.guard();
        let built = tokio::select! {
            built = self.build(&extent, before, after, progress) => built,
            reason = new.failed() => Err(RebuildError::Failed { reason }),
        };
        let switched = match built {
            Ok(()) => self.switch(before, &new).await,
            Err(error) => Err(error),
        };
        if let Err(error) = switched {
            new.drain(Duration::ZERO).await;
            new.stop().await;
            return Err(error);
        }
        guard.disarm();
        tracing::info!(
            consumer,
            before,
            after,
            "switched to a new generation of the state"
        );
        old.drain(OLD_LEAVES_WITHIN).await;
        old.stop().await;
        while self.is_replaying(after).await? {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        // Whoever reads may take the old one for the live one for as long.
        tokio::time::sleep(2 * LIVE_FOR).await;
        // Those of attempts that were cut off are among them.
        for generation in FIRST_GENERATION..after {
            let remove = || store.drop_generation(generation);
            while_unavailable("removing a state", StateError::is_retryable, remove).await?;
            self.forget_group(generation).await;
        }
        Ok(Rebuilt {
            topic: self.deps.kafka.topic(W::TOPIC),
            old: before,
            new: after,
            records: extent.total(),
            records_gone: extent.gone(),
        })
    }

    /// A group that nobody is in any more would be told of as one that has stopped.
    async fn forget_group(&self, generation: u32) {
        let group = group(&self.deps.kafka, W::NAME, generation);
        if let Err(error) = self.admin.delete_group(&group).await {
            // Members of other processes are still to learn that they are replaced.
            tracing::info!(group, error = error_chain(&error), "the old group stays");
        }
    }

    /// Waits until the new generation has applied all that was there.
    async fn build(
        &self,
        extent: &Extent,
        old: u32,
        new: u32,
        progress: &(dyn Fn(RebuildProgress) + Send + Sync),
    ) -> Result<(), RebuildError> {
        loop {
            let (read, next) = (self.read_up_to(old).await?, self.read_up_to(new).await?);
            progress(RebuildProgress {
                old,
                new,
                done_records: extent.done(&next),
                total_records: extent.total(),
            });
            // Where the old one has read anything, the new one says what it replays.
            if extent.is_reached(&next) && read.keys().all(|partition| next.contains_key(partition))
            {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// How far a generation has read, in partitions of which it has read anything.
    async fn read_up_to(&self, generation: u32) -> Result<BTreeMap<i32, i64>, StateError> {
        let mut next = BTreeMap::new();
        for partition in 0..self.partition_count {
            let shard = Shard {
                generation,
                partition,
            };
            let ask = || self.deps.state.position(shard);
            let asked = while_unavailable("asking the state", StateError::is_retryable, ask);
            next.extend(asked.await?.get(W::TOPIC).map(|next| (partition, next)));
        }
        Ok(next)
    }

    /// Makes the new member's generation the live one.
    async fn switch(
        self: &Arc<Self>,
        before: u32,
        new: &Arc<Member<W>>,
    ) -> Result<(), RebuildError> {
        let _switching = self.switching.lock().await;
        let after = new.context.generation;
        self.deps.state.switch(before, after).await?;
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(new);
        self.follow(Arc::clone(new));
        Ok(())
    }

    /// Whether a partition of this generation still needs the one before.
    async fn is_replaying(&self, generation: u32) -> Result<bool, StateError> {
        for partition in 0..self.partition_count {
            let shard = Shard {
                generation,
                partition,
            };
            let ask = || self.work.is_replaying(&*self.deps.state, shard);
            let asked = while_unavailable("asking the state", StateError::is_retryable, ask);
            if asked.await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
