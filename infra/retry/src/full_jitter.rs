//! How long to wait before trying again: full jitter.
//!
//! The only place that uses the `backoff` crate, which is unmaintained (RUSTSEC-2025-0012):
//! replacing it means replacing this file.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff};

/// Delays drawn uniformly from zero to a bound that doubles up to a limit, without end.
#[derive(Debug)]
pub struct FullJitter(ExponentialBackoff);

/// Delays for what is asked now and then: below 100 ms at first, never above 30 s.
impl Default for FullJitter {
    fn default() -> Self {
        Self::new(crate::FIRST, crate::LIMIT)
    }
}

impl FullJitter {
    /// The first delay is below `first`, none is above `limit`.
    #[must_use]
    pub fn new(first: Duration, limit: Duration) -> Self {
        // The crate draws from interval ± interval × factor; with factor 1 and half the interval
        // that is full jitter: zero to the bound.
        Self(
            ExponentialBackoffBuilder::new()
                .with_initial_interval(first / 2)
                .with_max_interval(limit / 2)
                .with_multiplier(2.0)
                .with_randomization_factor(1.0)
                .with_max_elapsed_time(None)
                .build(),
        )
    }

    /// The next delay; there always is one.
    pub fn next_delay(&mut self) -> Duration {
        // Without a limit on the elapsed time the crate always gives a delay.
        self.0.next_backoff().unwrap_or(self.0.max_interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_spread_from_zero_to_a_bound_that_doubles() {
        const FIRST: Duration = Duration::from_millis(100);
        const LIMIT: Duration = Duration::from_secs(30);
        let runs: Vec<Vec<Duration>> = (0..500)
            .map(|_| {
                let mut jitter = FullJitter::new(FIRST, LIMIT);
                (0..20).map(|_| jitter.next_delay()).collect()
            })
            .collect();
        for step in 0..20 {
            let bound = (FIRST * 2u32.pow(step as u32)).min(LIMIT);
            let delays: Vec<Duration> = runs.iter().map(|run| run[step]).collect();
            // The crate draws whole nanoseconds and may round up by one.
            assert!(
                delays
                    .iter()
                    .all(|d| *d <= bound + Duration::from_micros(1))
            );
            let mean = delays.iter().sum::<Duration>() / 500;
            assert!(
                mean > bound * 2 / 5 && mean < bound * 3 / 5,
                "step {step}: {mean:?}"
            );
            assert!(
                delays.iter().any(|d| *d < bound / 10),
                "no short delay at step {step}"
            );
        }
    }
}
