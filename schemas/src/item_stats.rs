//! The topic `item-stats`: how often items were shown, clicked and otherwise acted on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Origin;
use crate::codec::message;

/// The counters of an item. The record's key is the `item_id`, and the last record holds; where an
/// owner of the partition that was thought dead writes late, [`ItemStats::order`] tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ItemStats {
    /// The item, or `*@n` for all items of partition n.
    pub item_id: String,
    /// What was counted.
    pub counters: ItemCounters,
    /// Of the state that counted.
    pub generation: i32,
    /// Of the writer: each owner of the partition has a greater one.
    pub epoch: i64,
    /// Of the writer's writes.
    pub revision: i64,
    /// The last record of `behavior.by-item` that was looked at.
    pub origin: Origin,
}

/// Integers in buckets of event time, so that no order of arrival changes a bit of them. Buckets
/// are sorted by number, and those without a count are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemCounters {
    /// By minute of event time.
    #[serde(default)]
    pub minutes: Vec<Bucket>,
    /// By hour.
    #[serde(default)]
    pub hours: Vec<Bucket>,
    /// By day.
    #[serde(default)]
    pub days: Vec<Bucket>,
}

/// What happened in one minute, hour or day of event time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Event time divided by the length of the bucket, rounded down.
    pub number: i64,
    /// Times shown.
    #[serde(default)]
    pub impressions: i64,
    /// Times clicked.
    #[serde(default)]
    pub clicks: i64,
    /// Other kinds of behavior by name.
    #[serde(default)]
    pub others: BTreeMap<String, i64>,
    /// Those with a position, sorted by it; kept in days alone.
    #[serde(default)]
    pub positions: Vec<PositionCounts>,
}

/// What happened at one position of the answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionCounts {
    /// From 1; the last one stands for all beyond.
    pub position: i32,
    /// Times shown there.
    #[serde(default)]
    pub impressions: i64,
    /// Times clicked there.
    #[serde(default)]
    pub clicks: i64,
}

impl ItemStats {
    /// Of two records of one item the one with the greater order holds; equal is the same again.
    #[must_use]
    pub fn order(&self) -> (i32, i64, i64) {
        (self.generation, self.epoch, self.revision)
    }

    /// The `item_id` that stands for all items of a partition.
    #[must_use]
    pub fn totals_id(partition: i32) -> String {
        format!("*@{partition}")
    }
}

message!(ItemStats, "item-stats", older: [], newest: "v1");
