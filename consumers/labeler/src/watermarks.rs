//! How far event time has come in one partition, which has two topics.

use std::time::{Duration, Instant};

use millrace_stateful::Watermark;
use serde::{Deserialize, Serialize};

/// What is kept of [`Watermarks`], ms since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reached {
    pub answers_ms: Option<i64>,
    pub clicks_ms: Option<i64>,
    pub both_ms: Option<i64>,
}

/// The lesser of two topics' watermarks: while one is read behind the other, nothing of it is late. A
/// topic that is idle goes on with the clock; one that never had a record, once it is idle, does not
/// count.
#[derive(Clone, Debug)]
pub(crate) struct Watermarks {
    pub answers: Watermark,
    pub clicks: Watermark,
    both_ms: Option<i64>,
}

impl Watermarks {
    pub fn new(reached: Reached, idle_after: Duration, now: Instant) -> Self {
        Self {
            answers: Watermark::new(reached.answers_ms, idle_after, now),
            clicks: Watermark::new(reached.clicks_ms, idle_after, now),
            both_ms: reached.both_ms,
        }
    }

    /// ms since 1970; never goes back.
    pub fn ms(&mut self) -> Option<i64> {
        let now = match (self.answers.ms(), self.clicks.ms()) {
            (Some(answers), Some(clicks)) => Some(answers.min(clicks)),
            (Some(ms), None) if self.clicks.is_idle() => Some(ms),
            (None, Some(ms)) if self.answers.is_idle() => Some(ms),
            _ => None,
        };
        self.both_ms = self.both_ms.max(now);
        self.both_ms
    }

    pub fn tick(&mut self, now: Instant) {
        self.answers.tick(now);
        self.clicks.tick(now);
    }

    /// Nothing will come any more that is older than this.
    pub fn advance_to(&mut self, ms: i64) {
        self.both_ms = self.both_ms.max(Some(ms));
    }

    pub fn reached(&mut self) -> Reached {
        Reached {
            answers_ms: self.answers.ms(),
            clicks_ms: self.clicks.ms(),
            both_ms: self.ms(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_topic_counts_unless_it_is_idle_and_time_never_goes_back() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let idle_after = Duration::from_secs(30);
        let mut watermarks = Watermarks::new(Reached::default(), idle_after, start);
        watermarks.answers.observe(50_000, at(1));
        assert_eq!(watermarks.ms(), None, "clicks may still come");
        watermarks.tick(at(30));
        assert_eq!(watermarks.ms(), Some(50_000), "none came");
        watermarks.clicks.observe(40_000, at(31));
        assert_eq!(watermarks.ms(), Some(50_000), "it does not go back");
        watermarks.answers.observe(90_000, at(32));
        watermarks.clicks.observe(60_000, at(33));
        assert_eq!(watermarks.ms(), Some(60_000));
        watermarks.tick(at(64));
        assert_eq!(watermarks.ms(), Some(91_000), "both go on with the clock");
        let reached = watermarks.reached();
        let mut again = Watermarks::new(reached, idle_after, at(70));
        assert_eq!((again.ms(), again.reached()), (Some(91_000), reached));
    }
}
