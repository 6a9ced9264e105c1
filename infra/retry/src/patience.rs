//! Waiting for what comes back by itself: a store, a broker, an index, a schema registry.
//!
//! There is no limit: the offset stays where it is, so waiting loses nothing, and giving up would.
//! Only a stop ends it: a process that was told to leave must not stay for a store that is away.

use std::future::Future;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio_util::sync::CancellationToken;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
/// What an attempt that is under way at the stop may still take.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// How long a document waits for others: for good, until the pipeline is told to stop.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patience {
    ended: CancellationToken,
}

/// The pipeline stops. The notice is not acknowledged, and comes again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutOfPatience;

impl Patience {
    /// Lets go of everything that waits, now and from now on.
    pub fn end(&self) {
        self.ended.cancel();
    }

    /// Returns once there is no more patience.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Calls `attempt` until it gives something. It returns `Err` with the reason to wait, which
    /// is logged.
    pub async fn until_done<T, F>(
        &self,
        what: &'static str,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, OutOfPatience>
    where
        F: Future<Output = Result<T, String>>,
    {
        let mut delays = delays();
        loop {
            match self.attempt(attempt()).await? {
                Ok(done) => return Ok(done),
                Err(reason) => {
                    let delay = delays.next().unwrap_or(LONGEST);
                    let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                    tracing::warn!(what, reason, delay_ms, "waiting before the next attempt");
                    self.delay(delay).await?;
                }
            }
        }
    }

    /// What `work` gives, unless it is still under way a moment after the stop.
    pub async fn attempt<T>(&self, work: impl Future<Output = T>) -> Result<T, OutOfPatience> {
        let too_late = async {
            self.ended().await;
            tokio::time::sleep(LAST_CHANCE).await;
        };
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = too_late => Err(OutOfPatience),
        }
    }

    /// Lets time pass between two attempts.
    pub async fn delay(&self, delay: Duration) -> Result<(), OutOfPatience> {
        match self
            .ended
            .run_until_cancelled(tokio::time::sleep(delay))
            .await
        {
            Some(()) => Ok(()),
            None => Err(OutOfPatience),
        }
    }
}

/// Delays between attempts: exponential with jitter, without end.
pub(crate) fn delays() -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::default()
        .with_min_delay(FIRST)
        .with_max_delay(LONGEST)
        .with_jitter()
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_every_wait_and_nothing_else_does() {
        let patience = Patience::default();
        let mut attempts = 0;
        let done = patience.until_done("a test", || {
            attempts += 1;
            let answer = if attempts < 50 {
                Err("away".to_owned())
            } else {
                Ok(attempts)
            };
            std::future::ready(answer)
        });
        assert_eq!(done.await.ok(), Some(50));

        let waits = patience.until_done("a test", || async { Err::<(), _>("away".to_owned()) });
        let hangs = patience.attempt(std::future::pending::<()>());
        let stop = async {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            patience.end();
        };
        let (waited, hung, ()) = tokio::join!(waits, hangs, stop);
        assert!(waited.is_err() && hung.is_err());
        assert!(patience.attempt(std::future::ready(7)).await.is_ok());
    }
}
