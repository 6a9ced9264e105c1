//! Waiting for what comes back by itself: a broker, a store, a schema registry.

use std::future::Future;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// Calls `attempt` until it gives something but an error that `is_retryable`. No limit: the offset
/// stays where it is, so waiting loses nothing. Whoever must stop drops the future.
pub(crate) async fn while_unavailable<T, E, F>(
    what: &'static str,
    is_retryable: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> F,
) -> Result<T, E>
where
    E: std::error::Error + 'static,
    F: Future<Output = Result<T, E>>,
{
    let mut delays = ExponentialBuilder::default()
        .with_min_delay(FIRST)
        .with_max_delay(LONGEST)
        .with_jitter()
        .without_max_times()
        .build();
    loop {
        match attempt().await {
            Err(error) if is_retryable(&error) => {
                let delay = delays.next().unwrap_or(LONGEST);
                tracing::warn!(
                    what,
                    error = chain(&error),
                    delay_ms = delay.as_millis(),
                    "waiting before the next attempt"
                );
                tokio::time::sleep(delay).await;
            }
            done => return done,
        }
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
