//! Asked to stop: once to drain, twice to leave at once.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT of this process.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    count: u32,
}

/// Takes over SIGTERM and SIGINT.
///
/// # Errors
/// The handlers can't be installed.
pub fn signals() -> anyhow::Result<StopSignals> {
    let take = |kind| signal(kind).context("can't take over the stop signals");
    Ok(StopSignals {
        terminate: take(SignalKind::terminate())?,
        interrupt: take(SignalKind::interrupt())?,
        count: 0,
    })
}

impl StopSignals {
    /// Waits for the first signal; returns at once if it came already.
    pub async fn first(&mut self) {
        self.nth(1).await;
    }

    /// Waits for the second.
    pub async fn second(&mut self) {
        self.nth(2).await;
    }

    async fn nth(&mut self, count: u32) {
        while self.count < count {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            self.count += 1;
        }
    }
}
