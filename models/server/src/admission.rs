//! One rule: what waits already and what is asked must be computed before the request's time is
//! over, at the rate that was measured. Else 429 says when there will be room.
//!
//! Refusing at the door and not in the queue: a request that waits its whole time for nothing costs
//! its caller that time, and every other caller the room.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::ServeError;
use crate::rate::Rate;

/// Share of a request's time that waiting and computing may take, as far as can be told before:
/// rates vary, and the answer still has to be written.
const USABLE: f64 = 0.7;

/// What waits or is computed.
#[derive(Debug, Default)]
struct Backlog {
    tokens: usize,
    seconds: f64,
}

/// Keeps count of what was let in and has not left.
#[derive(Debug)]
pub(crate) struct Admission {
    backlog: Mutex<Backlog>,
    max_tokens: usize,
}

/// Room for some tokens; given back when dropped.
#[derive(Debug)]
pub(crate) struct Room {
    admission: Arc<Admission>,
    tokens: usize,
    seconds: f64,
}

impl Admission {
    pub fn new(max_tokens: usize) -> Arc<Self> {
        Arc::new(Self {
            backlog: Mutex::default(),
            max_tokens,
        })
    }

    /// Tokens that wait or are computed.
    pub fn queued_tokens(&self) -> usize {
        self.lock().tokens
    }

    /// Room for rows of about these lengths, one each in order. More than there ever is room for is
    /// let in where nothing waits: that it is so many is an estimate, and whoever reads it counts.
    pub fn admit(
        self: &Arc<Self>,
        rows: &[usize],
        rate: &Rate,
        deadline: Instant,
    ) -> Result<Vec<Room>, ServeError> {
        let tokens: usize = rows.iter().sum();
        let per_token = 1.0 / rate.tokens_per_second();
        let usable = usable(deadline);
        let mut backlog = self.lock();
        let seconds = tokens as f64 * per_token;
        let excess = (backlog.seconds + seconds - usable)
            .max((backlog.tokens + tokens).saturating_sub(self.max_tokens) as f64 * per_token);
        // Where nothing waits there is nothing to come back later for: rate and lengths are estimates.
        if excess > 0.0 && backlog.tokens > 0 {
            return Err(overloaded(excess));
        }
        backlog.tokens += tokens;
        backlog.seconds += seconds;
        drop(backlog);
        let room = |tokens: &usize| Room {
            admission: Arc::clone(self),
            tokens: *tokens,
            seconds: *tokens as f64 * per_token,
        };
        Ok(rows.iter().map(room).collect())
    }

    /// Before anything is read of a request: whether what waits already takes all of its time. Being
    /// told so must cost little where many are.
    pub fn has_room(&self, deadline: Instant) -> Result<(), ServeError> {
        let usable = usable(deadline);
        let backlog = self.lock();
        let excess = backlog.seconds - usable;
        if backlog.tokens > 0 && (excess > 0.0 || backlog.tokens >= self.max_tokens) {
            return Err(overloaded(excess));
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Backlog> {
        // Two numbers: whole after a panic elsewhere, too.
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Seconds that waiting and computing may take.
fn usable(deadline: Instant) -> f64 {
    let left = deadline.saturating_duration_since(Instant::now());
    left.as_secs_f64() * USABLE
}

/// Whole seconds, for `Retry-After`.
fn overloaded(excess_seconds: f64) -> ServeError {
    ServeError::Overloaded {
        retry_after: Duration::from_secs(excess_seconds.ceil().clamp(1.0, 3_600.0) as u64),
    }
}

impl Room {
    /// What was an estimate turned out to be so many tokens.
    pub fn resize(&mut self, tokens: usize) {
        let seconds = self.seconds / self.tokens.max(1) as f64 * tokens as f64;
        let mut backlog = self.admission.lock();
        backlog.tokens = backlog.tokens - self.tokens + tokens;
        backlog.seconds = (backlog.seconds - self.seconds + seconds).max(0.0);
        drop(backlog);
        (self.tokens, self.seconds) = (tokens, seconds);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut backlog = self.admission.lock();
        backlog.tokens -= self.tokens;
        // Sums of floats: without it, rounding would stay for good.
        backlog.seconds = if backlog.tokens == 0 {
            0.0
        } else {
            (backlog.seconds - self.seconds).max(0.0)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rate(tokens_per_second: usize) -> Rate {
        Rate::measured(tokens_per_second, SECOND)
    }

    #[test]
    fn what_fits_the_time_is_let_in_and_the_rest_is_told_when_to_come_back() {
        let admission = Admission::new(100_000);
        let rate = rate(1_000);
        let deadline = Instant::now() + 10 * SECOND;
        let first = admission.admit(&[3_000, 3_000], &rate, deadline).unwrap();
        assert_eq!(admission.queued_tokens(), 6_000);
        // 6 s wait already; of 10 s, 7 are usable.
        let refused = admission.admit(&[2_500], &rate, deadline).unwrap_err();
        let ServeError::Overloaded { retry_after } = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(retry_after, 2 * SECOND);
        let second = admission.admit(&[500], &rate, deadline).unwrap();
        drop(first);
        assert_eq!(admission.queued_tokens(), 500);
        let mut guessed = admission.admit(&[1_000], &rate, deadline).unwrap();
        guessed[0].resize(300);
        assert_eq!(admission.queued_tokens(), 800);
        drop(guessed);
        let third = admission.admit(&[2_500], &rate, deadline).unwrap();
        drop((second, third));
        assert_eq!(admission.queued_tokens(), 0);
    }

    #[test]
    fn a_request_alone_is_tried_whatever_the_estimate() {
        let admission = Admission::new(100_000);
        let deadline = Instant::now() + SECOND;
        assert!(admission.has_room(deadline).is_ok());
        let room = admission.admit(&[50_000], &rate(1_000), deadline).unwrap();
        assert!(admission.has_room(deadline).is_err());
        assert!(admission.admit(&[1], &rate(1_000), deadline).is_err());
        drop(room);
        let room = admission.admit(&[100_001], &rate(1_000), deadline);
        assert_eq!(room.unwrap().len(), 1);
    }

    #[test]
    fn tokens_are_bounded_however_fast_the_model_is() {
        let admission = Admission::new(1_000);
        let deadline = Instant::now() + 60 * SECOND;
        let _room = admission.admit(&[900], &rate(1 << 30), deadline).unwrap();
        assert!(admission.has_room(deadline).is_ok());
        assert!(admission.admit(&[200], &rate(1 << 30), deadline).is_err());
        let _rest = admission.admit(&[100], &rate(1 << 30), deadline).unwrap();
        assert!(admission.has_room(deadline).is_err());
    }
}
