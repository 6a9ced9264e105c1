//! How far event time has come in one partition of a topic.

use std::time::{Duration, Instant};

/// The greatest event time seen. Where no event comes for a while, it goes on with the clock: what
/// waits for it would else wait for the next event, however late that is.
#[derive(Clone, Debug)]
pub struct Watermark {
    ms: Option<i64>,
    idle_after: Duration,
    /// When it last moved, or the partition began.
    moved_at: Instant,
    idle: bool,
}

impl Watermark {
    /// From what was reached before, ms since 1970.
    #[must_use]
    pub fn new(ms: Option<i64>, idle_after: Duration, now: Instant) -> Self {
        Self {
            ms,
            idle_after,
            moved_at: now,
            idle: false,
        }
    }

    /// ms since 1970; `None` before the first event.
    #[must_use]
    pub fn ms(&self) -> Option<i64> {
        self.ms
    }

    /// An event came, whose time is not ahead of the clock's by more than the skew allowed.
    pub fn observe(&mut self, event_time_ms: i64, now: Instant) {
        self.ms = self.ms.max(Some(event_time_ms));
        self.moved_at = now;
        self.idle = false;
    }

    /// Whether no event came for the idle time.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.idle
    }

    /// Goes on with the clock, once no event came for the idle time.
    pub fn tick(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.moved_at);
        if self.idle || since >= self.idle_after {
            self.idle = true;
            self.moved_at = now;
            let since_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
            self.ms = self.ms.map(|ms| ms.saturating_add(since_ms));
        }
    }

    /// No event will come any more that is older than this.
    pub fn advance_to(&mut self, ms: i64) {
        self.ms = self.ms.max(Some(ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_events_and_then_the_clock() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut watermark = Watermark::new(None, Duration::from_secs(30), start);
        watermark.tick(at(1000));
        assert_eq!(watermark.ms(), None, "nothing to go on from");
        watermark.observe(5_000, at(1000));
        watermark.observe(4_000, at(1001));
        assert_eq!(
            watermark.ms(),
            Some(5_000),
            "a late event does not move it back"
        );
        watermark.tick(at(1030));
        assert_eq!(watermark.ms(), Some(5_000));
        watermark.tick(at(1031));
        assert_eq!(watermark.ms(), Some(35_000));
        watermark.tick(at(1032));
        assert_eq!(watermark.ms(), Some(36_000), "idle already");
        watermark.observe(36_500, at(1040));
        watermark.tick(at(1069));
        assert_eq!(watermark.ms(), Some(36_500));
    }
}
