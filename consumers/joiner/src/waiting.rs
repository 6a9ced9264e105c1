//! Behavior that waits for its item's signal. The events are in the state; this is their index.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use millrace_schemas::BehaviorByItem;
use serde::{Deserialize, Serialize};

/// An event that waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct WaitingEvent {
    /// The record of `behavior.by-item`.
    pub record: BehaviorByItem,
    /// Event time at which it came: its own, or the watermark where that was later.
    pub came_ms: i64,
    /// The watermark at which it is given up.
    pub deadline_ms: i64,
    /// The hour in which its id is forgotten.
    pub forget_hour: i64,
    /// The trace it belongs to.
    pub traceparent: Option<String>,
}

/// Which offsets wait, by item and by deadline.
#[derive(Debug, Default)]
pub(crate) struct WaitingIndex {
    by_item: HashMap<String, BTreeSet<i64>>,
    by_deadline: BTreeSet<(i64, i64)>,
    deadlines: BTreeMap<i64, i64>,
}

impl WaitingIndex {
    pub fn insert(&mut self, offset: i64, event: &WaitingEvent) {
        self.by_item
            .entry(event.record.event.item_id.clone())
            .or_default()
            .insert(offset);
        self.by_deadline.insert((event.deadline_ms, offset));
        self.deadlines.insert(offset, event.deadline_ms);
    }

    pub fn remove(&mut self, offset: i64, item_id: &str) {
        if let Some(offsets) = self.by_item.get_mut(item_id) {
            offsets.remove(&offset);
            if offsets.is_empty() {
                self.by_item.remove(item_id);
            }
        }
        if let Some(deadline_ms) = self.deadlines.remove(&offset) {
            self.by_deadline.remove(&(deadline_ms, offset));
        }
    }

    /// All, with their items, in the order of arrival.
    pub fn all(&self) -> Vec<(i64, String)> {
        let by_item = self.by_item.iter();
        let all = by_item
            .flat_map(|(item_id, offsets)| offsets.iter().map(|&offset| (offset, item_id.clone())));
        let all: BTreeMap<i64, String> = all.collect();
        all.into_iter().collect()
    }

    /// In the order of arrival.
    pub fn of_item(&self, item_id: &str) -> Vec<i64> {
        let offsets = self.by_item.get(item_id);
        offsets.map_or_else(Vec::new, |offsets| offsets.iter().copied().collect())
    }

    /// The first `max` whose time is up, earliest deadline first.
    pub fn expired(&self, watermark_ms: i64, max: usize) -> Vec<i64> {
        let expired = self.by_deadline.range(..=(watermark_ms, i64::MAX));
        expired.take(max).map(|(_, offset)| *offset).collect()
    }

    pub fn last_deadline_ms(&self) -> Option<i64> {
        self.by_deadline.last().map(|(deadline_ms, _)| *deadline_ms)
    }

    pub fn len(&self) -> usize {
        self.deadlines.len()
    }
}
