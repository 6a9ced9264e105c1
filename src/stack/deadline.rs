//! When a stop has to be over.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// Kept from the handlers for what comes after them: committing, leaving the group, flushing.
const LEAVING: Duration = Duration::from_secs(2);

/// One moment for all parts that stop: deadlines of their own would add up, and whoever asked the
/// process to stop kills it in the end.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// So much later than now.
    pub fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// The time until then.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// The time that handlers have to finish what they began.
    pub fn left_for_handlers(self) -> Duration {
        self.left().saturating_sub(LEAVING)
    }

    /// Waits for `stopping`, and gives it up when the time is over: what a broker that is away did
    /// not acknowledge comes again.
    pub async fn wait_for<T>(self, what: &'static str, stopping: impl Future<Output = T>) {
        if tokio::time::timeout_at(self.0, stopping).await.is_err() {
            tracing::warn!(what, "was not done in time and is given up");
        }
    }
}
