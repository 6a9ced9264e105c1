//! Waiting that ends with what is waited for.

use std::future::Future;

use crate::{FullJitter, error_chain};

/// Calls `attempt` until it gives something but an error that `is_retryable`; the reason to wait is
/// logged. Whoever must stop drops the future.
///
/// # Errors
/// The first that is not retryable.
pub async fn while_unavailable<T, E, F>(
    what: &'static str,
    is_retryable: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> F,
) -> Result<T, E>
where
    E: std::error::Error + 'static,
    F: Future<Output = Result<T, E>>,
{
    let mut delays = FullJitter::default();
    loop {
        match attempt().await {
            Err(error) if is_retryable(&error) => {
                let delay = delays.next_delay();
                tracing::warn!(
                    what,
                    error = error_chain(&error),
                    delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
                    "waiting before the next attempt"
                );
                tokio::time::sleep(delay).await;
            }
            done => return done,
        }
    }
}
