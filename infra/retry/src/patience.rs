//! Waiting that a stop ends: a process that was told to leave must not stay for a store that is away.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::FullJitter;

/// What an attempt that is under way at the stop may still take.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// How long work waits for others: for good, until it is told to stop.
#[derive(Clone, Debug, Default)]
pub struct Patience {
    ended: CancellationToken,
}

/// The stop came first. What was to be done is not acknowledged, and comes again.
#[derive(Clone, Copy, Debug)]
pub struct OutOfPatience;

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
    ///
    /// # Errors
    /// [`OutOfPatience`] after [`Patience::end`].
    pub async fn until_done<T, F>(
        &self,
        what: &'static str,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, OutOfPatience>
    where
        F: Future<Output = Result<T, String>>,
    {
        let mut delays = FullJitter::default();
        loop {
            match self.attempt(attempt()).await? {
                Ok(done) => return Ok(done),
                Err(reason) => {
                    let delay = delays.next_delay();
                    let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                    tracing::warn!(what, reason, delay_ms, "waiting before the next attempt");
                    self.delay(delay).await?;
                }
            }
        }
    }

    /// What `work` gives, unless it is still under way a moment after the stop.
    ///
    /// # Errors
    /// [`OutOfPatience`] a moment after [`Patience::end`].
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
    ///
    /// # Errors
    /// [`OutOfPatience`] after [`Patience::end`].
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
