//! Waiting for what comes back by itself: a store, a broker, an index.

use std::future::Future;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// Calls `attempt` until it gives something. No limit: the offset stays where it is, so waiting
/// loses nothing, and giving up would. Whoever must stop drops the future.
///
/// `attempt` returns `Err` with the reason to wait, which is logged.
pub(crate) async fn until_done<T, F>(what: &'static str, mut attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let mut delays = delays();
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(reason) => {
                let delay = delays.next().unwrap_or(LONGEST);
                let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(what, reason, delay_ms, "waiting before the next attempt");
                tokio::time::sleep(delay).await;
            }
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
