//! Asked to stop: once to drain, twice to leave at once.

use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// As shells tell of a SIGINT.
pub const INTERRUPTED: u8 = 130;

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

    /// Waits for the signal of this number; returns at once if it came already.
    pub async fn nth(&mut self, count: u32) {
        while self.count < count {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            self.count += 1;
        }
    }
}

/// Stops a stack: within its deadlines, or at once at a second signal.
pub async fn drain(stack: super::Stack, mut signals: StopSignals, code: ExitCode) -> ExitCode {
    // A part that failed was not a signal: the next one is the first.
    let at_once = if signals.count == 0 { 1 } else { 2 };
    let mut draining = Box::pin(stack.shutdown());
    tokio::select! {
        () = &mut draining => code,
        () = signals.nth(at_once) => {
            tracing::warn!("stopped at once; what was not acknowledged comes again at the next start");
            // Taken apart it would take leave of the brokers and wait for its threads. Nothing is lost without:
            // a kill does not do it either.
            std::mem::forget(draining);
            ExitCode::from(INTERRUPTED)
        }
    }
}
