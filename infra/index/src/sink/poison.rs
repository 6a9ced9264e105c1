//! Notices when most of a stream is refused: a wrong mapping must not empty a topic into its
//! dead-letter topic.

use std::collections::VecDeque;

/// The fate of the last items that were decided.
#[derive(Debug)]
pub(crate) struct PoisonWatch {
    recent: VecDeque<bool>,
    rejected: usize,
    window: usize,
    at_least: usize,
    ratio: f64,
}

impl PoisonWatch {
    /// Trips when more than `ratio` of the last `window` items were rejected, once `at_least`
    /// were seen.
    pub(crate) fn new(window: usize, at_least: usize, ratio: f64) -> Self {
        Self {
            recent: VecDeque::with_capacity(window),
            rejected: 0,
            window: window.max(1),
            at_least: at_least.max(1),
            ratio,
        }
    }

    /// Counts an item; true when the stream looks poisoned.
    pub(crate) fn record(&mut self, rejected: bool) -> bool {
        if self.recent.len() == self.window && self.recent.pop_front() == Some(true) {
            self.rejected -= 1;
        }
        self.recent.push_back(rejected);
        self.rejected += usize::from(rejected);
        self.tripped()
    }

    /// Forgets what was seen.
    pub(crate) fn clear(&mut self) {
        self.recent.clear();
        self.rejected = 0;
    }

    fn tripped(&self) -> bool {
        self.recent.len() >= self.at_least
            && self.rejected as f64 > self.ratio * self.recent.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trips_above_the_ratio_once_enough_was_seen() {
        let mut watch = PoisonWatch::new(200, 50, 0.5);
        assert!((0..49).all(|_| !watch.record(true)), "too few to judge");
        assert!(watch.record(true));
        watch.clear();
        assert!(
            (0..200).all(|i| !watch.record(i % 2 == 1)),
            "exactly half is not more than half"
        );
        assert!(
            (0..199).all(|_| !watch.record(false)),
            "old rejections leave the window"
        );
    }
}
