//! How fast a model computes, measured where there was enough to do.

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

    /// A batch of so many tokens, begun at `start`, has ended. `full` says whether it could have
    /// been larger: how fast a lone query goes says little about a queue.
    pub fn batch_ended(&self, tokens: usize, start: Instant, full: bool) {
        let mut measured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let end = Instant::now();
        let since = measured.last_end.map_or(start, |last| last.max(start));
        measured.last_end = Some(end);
        if full {
            let seconds = end.saturating_duration_since(since).as_secs_f64();
            measured.tokens = measured.tokens * MEMORY + tokens as f64;
            measured.seconds = measured.seconds * MEMORY + seconds;
        }
    }
}
