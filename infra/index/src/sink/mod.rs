//! The bulk sink: takes the items of many documents at once, and gives each its final outcome.
//!
//! One task batches what arrives (by bytes, count, age, or as soon as nothing more arrives), keeps
//! an adaptive number of requests in flight, sends again only what may pass later, and pauses on
//! what only a person can repair. While paused it probes, and goes on by itself. Items it holds
//! are bounded in bytes, so a slow index slows its callers down and memory stays flat.

mod concurrency;
mod config;
mod dispatch;
mod poison;

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::{BulkAction, FinalOutcome, SearchIndex};
pub use config::SinkConfig;
use dispatch::{Dispatcher, Item};

/// How the sink is doing: what readiness looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkState {
    /// Items pass.
    Running,
    /// The index is overloaded or away; items are sent again until they pass.
    Retrying {
        /// What the last attempt met.
        reason: String,
    },
    /// Nothing passes until somebody repairs the index; the sink probes and resumes by itself.
    Halted {
        /// What has to be repaired.
        reason: String,
    },
}

/// The sink has stopped before the items were final; they may or may not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bulk sink stopped before the outcome was known; deliver the document again")]
pub struct SinkClosed;

/// Handle to the sink; clones feed the same batches. The task ends when all handles are gone and
/// every item that somebody still waits for is final.
#[derive(Clone, Debug)]
pub struct BulkSink {
    items: mpsc::Sender<Item>,
    unfinished: Arc<Semaphore>,
    permits: u32,
    state: watch::Receiver<SinkState>,
}

/// Semaphore permits count KiB, since their number has 32 bits.
const PERMIT_BYTES: usize = 1024;

impl BulkSink {
    /// Starts the sink's task on the current tokio runtime.
    pub fn start(index: Arc<dyn SearchIndex>, config: SinkConfig) -> Self {
        let permits = u32::try_from(config.unfinished_bytes / PERMIT_BYTES)
            .unwrap_or(u32::MAX)
            .clamp(1, 1 << 28);
        let (items, arrivals) = mpsc::channel(config.batch_items.max(1));
        let (state_tx, state) = watch::channel(SinkState::Running);
        tokio::spawn(Dispatcher::new(index, config, arrivals, state_tx).run());
        Self {
            items,
            unfinished: Arc::new(Semaphore::new(permits as usize)),
            permits,
            state,
        }
    }

    /// Writes `actions` and waits until each is final; outcomes are in order.
    ///
    /// Waits as long as it takes: through overload, an absent server and a read-only index. A
    /// caller that stops waiting (drops the future) gives its items up; those already sent may
    /// still be written, which the version makes harmless.
    ///
    /// # Errors
    /// [`SinkClosed`] when the sink's task is gone.
    pub async fn submit(&self, actions: Vec<BulkAction>) -> Result<Vec<FinalOutcome>, SinkClosed> {
        let mut waiting = Vec::with_capacity(actions.len());
        for action in actions {
            let bytes = action.size_bytes();
            // One item may be larger than the whole allowance: it then takes all of it.
            let wanted = u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX);
            let permit = Arc::clone(&self.unfinished)
                .acquire_many_owned(wanted.clamp(1, self.permits))
                .await
                .map_err(|_| SinkClosed)?;
            let (reply, outcome) = oneshot::channel();
            self.items
                .send(Item::new(action, bytes, reply, permit))
                .await
                .map_err(|_| SinkClosed)?;
            waiting.push(outcome);
        }
        let mut outcomes = Vec::with_capacity(waiting.len());
        for outcome in waiting {
            outcomes.push(outcome.await.map_err(|_| SinkClosed)?);
        }
        Ok(outcomes)
    }

    /// How the sink is doing, as a watch.
    pub fn state(&self) -> watch::Receiver<SinkState> {
        self.state.clone()
    }
}
