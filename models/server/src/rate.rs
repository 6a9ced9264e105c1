//! How fast a model computes, measured where there was enough to do, or where it went faster than
//! was known.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Weight of what was measured before, at each new batch.
const MEMORY: f64 = 0.9;

/// Tokens a second of one model with all its threads.
#[derive(Debug)]
pub(crate) struct Rate(Mutex<Measured>);

#[derive(Debug)]
struct Measured {
    tokens: f64,
    seconds: f64,
    /// When the last batch ended; with the start of the next it says what a batch took on the
    /// clock while another one shared the workers.
    last_end: Option<Instant>,
}

impl Rate {
    /// What a warm-up took.
    pub fn measured(tokens: usize, time: Duration) -> Self {
        Self(Mutex::new(Measured {
            tokens: tokens as f64,
            seconds: time.as_secs_f64().max(1e-6),
            last_end: None,
        }))
    }

    /// Tokens a second.
    pub fn tokens_per_second(&self) -> f64 {
        let measured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        measured.tokens / measured.seconds
    }

    /// A batch of so many tokens, begun at `start`, was computed. `full` says whether it could have
    /// been larger: how slowly a lone query goes says little about a queue. How fast it goes does:
    /// without it, a rate that was measured too low would let in too little for a full batch, and
    /// stay.
    pub fn batch_ended(&self, tokens: usize, start: Instant, full: bool) {
        let mut measured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, end) = (tokens as f64, Instant::now());
        let last_end = measured.last_end.replace(end);
        let seconds = if full {
            let since = last_end.map_or(start, |last| last.max(start));
            end.saturating_duration_since(since).as_secs_f64()
        } else {
            // All of its own time, though another one may have shared the workers: only some of
            // these count, and those that end just behind another must not seem the fastest.
            let seconds = end.saturating_duration_since(start).as_secs_f64();
            if tokens * measured.seconds <= measured.tokens * seconds {
                return;
            }
            seconds
        };
        measured.tokens = measured.tokens * MEMORY + tokens;
        measured.seconds = measured.seconds * MEMORY + seconds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The rate of 1,000 tokens a second, after a batch that took a second.
    fn after(tokens: usize, full: bool) -> f64 {
        let rate = Rate::measured(1_000, SECOND);
        rate.batch_ended(tokens, Instant::now() - SECOND, full);
        rate.tokens_per_second()
    }

    #[test]
    fn a_batch_that_is_not_full_counts_only_where_it_is_faster() {
        assert!(after(100, true) < 1_000.0);
        assert!(after(10_000, true) > 1_000.0);
        assert_eq!(after(100, false), 1_000.0);
        assert!(after(10_000, false) > 1_000.0);
    }

    #[test]
    fn a_batch_that_is_not_full_is_not_faster_for_ending_behind_another() {
        let rate = Rate::measured(1_000, SECOND);
        let start = Instant::now() - SECOND;
        rate.batch_ended(500, start, false);
        rate.batch_ended(500, start, false);
        assert_eq!(rate.tokens_per_second(), 1_000.0);
    }
}
