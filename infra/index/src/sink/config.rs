//! Limits of the bulk sink.

use std::time::Duration;

/// Limits of the bulk sink; the defaults are the contract's.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkConfig {
    /// A batch is sent at this many bytes of JSON (estimated). Default 5 MiB.
    pub batch_bytes: usize,
    /// A single item above this is rejected unsent. Default 9 MiB.
    pub item_bytes: usize,
    /// A batch is sent at this many items. Default 1,000.
    pub batch_items: usize,
    /// A batch is sent when its oldest item waited this long. Default 1 s.
    pub batch_age: Duration,
    /// A batch is sent when nothing arrived for this long. Default 50 ms.
    pub idle: Duration,
    /// Items accepted and not yet final, in bytes; `submit` waits beyond it. Default 64 MiB.
    pub unfinished_bytes: usize,
    /// Most requests in flight. Default 16.
    pub max_concurrency: usize,
    /// Bound of the first retry delay. Default 100 ms.
    pub first_retry: Duration,
    /// Bound of all retry delays. Default 30 s.
    pub longest_retry: Duration,
    /// An item that fails for this long while others pass is given up. Default 15 min.
    pub exhausted_after: Duration,
    /// Items the poison watch looks back on. Default 200.
    pub poison_window: usize,
    /// Items it needs before it judges. Default 50.
    pub poison_at_least: usize,
    /// Share of rejected items above which the sink halts. Default 0.5.
    pub poison_ratio: f64,
}

impl Default for SinkConfig {
    fn default() -> Self {
        Self {
            batch_bytes: 5 << 20,
            item_bytes: 9 << 20,
            batch_items: 1_000,
            batch_age: Duration::from_secs(1),
            idle: Duration::from_millis(50),
            unfinished_bytes: 64 << 20,
            max_concurrency: 16,
            first_retry: Duration::from_millis(100),
            longest_retry: Duration::from_secs(30),
            exhausted_after: Duration::from_secs(15 * 60),
            poison_window: 200,
            poison_at_least: 50,
            poison_ratio: 0.5,
        }
    }
}
