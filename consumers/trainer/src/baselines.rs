//! What a ranker must beat: orders that know nothing of the user.

use std::collections::HashMap;

use millrace_schemas::{BehaviorEvent, BehaviorKind};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Impressions that an item's click-through rate is believed to have had before its first.
pub const PRIOR_IMPRESSIONS: f64 = 10.0;

/// Click-through rate of each item so far:
/// `(clicks + 10 · rate of all items) / (impressions + 10)`.
///
/// It counts events as they are told, joined or not, and forgets nothing: the strongest simple order
/// there is where items do not age.
#[derive(Clone, Debug, Default)]
pub struct ItemCtr {
    items: HashMap<String, Counts>,
    all: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    impressions: u64,
    clicks: u64,
}

impl Counts {
    fn add(&mut self, kind: BehaviorKind) {
        match kind {
            BehaviorKind::Expose => self.impressions += 1,
            BehaviorKind::Click => self.clicks += 1,
            _ => {}
        }
    }
}

impl ItemCtr {
    /// Counts an event.
    pub fn count(&mut self, event: &BehaviorEvent) {
        self.all.add(event.kind);
        self.items
            .entry(event.item_id.clone())
            .or_default()
            .add(event.kind);
    }

    /// The item's rate by what was counted so far; 0 before anything was shown.
    #[must_use]
    pub fn of(&self, item_id: &str) -> f64 {
        let counts = self.items.get(item_id).copied().unwrap_or_default();
        let rate = self.all.clicks as f64 / self.all.impressions.max(1) as f64;
        (counts.clicks as f64 + PRIOR_IMPRESSIONS * rate)
            / (counts.impressions as f64 + PRIOR_IMPRESSIONS)
    }
}

/// Scores of no meaning, the same for the same seed.
#[derive(Clone, Debug)]
pub struct RandomOrder(ChaCha8Rng);

impl RandomOrder {
    /// From this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// The next so many scores.
    pub fn scores(&mut self, count: usize) -> Vec<f64> {
        // 53 bits: as many as a double tells apart.
        (0..count)
            .map(|_| (self.0.next_u64() >> 11) as f64)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::event;

    #[test]
    fn an_item_s_rate_is_pulled_towards_all_items_rate_by_ten_impressions() {
        let mut ctr = ItemCtr::default();
        assert_eq!(ctr.of("a").total_cmp(&0.0), std::cmp::Ordering::Equal);
        for (item, impressions, clicks) in [("a", 10, 5), ("b", 30, 3)] {
            for _ in 0..impressions {
                ctr.count(&event("u", item, BehaviorKind::Expose, 0, None));
            }
            for _ in 0..clicks {
                ctr.count(&event("u", item, BehaviorKind::Click, 0, None));
            }
            ctr.count(&event("u", item, BehaviorKind::Like, 0, None));
        }
        // All items: 8 of 40.
        for (item, expected) in [("a", 7.0 / 20.0), ("b", 5.0 / 40.0), ("c", 0.2)] {
            assert!((ctr.of(item) - expected).abs() < 1e-12, "{item}");
        }
    }

    #[test]
    fn a_seed_draws_the_same_order_again() {
        let draw = |seed| RandomOrder::new(seed).scores(20);
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
