//! Signals and counters as a table: the newest of each item, in whatever order they come.
//!
//! An item's signal is held once, behind an `Arc`: a request takes references to its candidates and
//! lets go of the table before it computes anything. Walks over all vectors read copies of 8 bits.
//!
//! *Trending* is kept without a clock. A count that halves every day keeps its order relative to all
//! others: `log2 Σ counts(hour) · 2^(hour/24)` grows with nothing but new counts, so each item has one
//! key in a sorted set, and `2^(key − now/24)` is what it is worth at a moment.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use millrace_features::counters::HOURS;
use millrace_schemas::{BehaviorKind, Bucket, DocumentVersion, ItemCounters, ItemStats, Signal};

use super::matrix::Matrix;

/// Half-life of what trends, in buckets of an hour.
const TRENDING_HALF_LIFE_HOURS: f64 = 24.0;
/// Removals that are remembered; of more, those of the least versions are forgotten. What a removal is
/// remembered for is an older signal that comes after it, which takes a writer that was thought dead.
const MAX_REMOVALS: usize = 100_000;
/// What an entry takes beside its strings and numbers: maps, sets, counts of references.
const ENTRY_BYTES: usize = 400;

/// What is known of an item. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct KnownItem {
    /// Of this process's embedding version, not deleted.
    pub signal: Arc<Signal>,
    /// `traceparent` of the record that brought it.
    pub traceparent: Option<Arc<str>>,
    pub counters: Arc<ItemCounters>,
    /// Shown and clicked in all, as far back as days are kept.
    pub shown: u64,
    pub clicked: u64,
}

/// A key of [`BTreeSet`] by a number.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Order(f64);

impl Eq for Order {}

impl PartialOrd for Order {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Order {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[derive(Debug)]
enum Known {
    Here(Box<Here>),
    /// Deleted at this version: an older signal that comes late stays refused.
    Gone {
        version: i64,
    },
}

#[derive(Debug)]
struct Here {
    signal: Arc<Signal>,
    traceparent: Option<Arc<str>>,
    bytes: usize,
    /// When the document came, ms since 1970.
    arrived_ms: i64,
    /// Where its vector is compared.
    row: Option<usize>,
}

#[derive(Debug)]
struct Counted {
    order: (i32, i64, i64),
    counters: Arc<ItemCounters>,
    shown: u64,
    clicked: u64,
    /// Key among what trends, where it does.
    trending: Option<Order>,
    bytes: usize,
}

/// Signals and counters of all items.
#[derive(Debug, Default)]
pub(crate) struct Table {
    items: HashMap<Arc<str>, Known>,
    counted: HashMap<Arc<str>, Counted>,
    matrix: Matrix,
    /// Removals by version.
    gone: BTreeSet<(i64, Arc<str>)>,
    totals: BTreeMap<String, ItemStats>,
    /// Raised with each change of the totals.
    pub totals_revision: u64,
    fresh: BTreeSet<(i64, Arc<str>)>,
    trending: BTreeSet<(Order, Arc<str>)>,
    bytes: usize,
    max_bytes: usize,
    live: usize,
    /// Items that were left out for want of room.
    pub evicted: u64,
}

impl Table {
    pub fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            ..Self::default()
        }
    }

    /// Takes a signal, unless a newer one is there.
    pub fn put_signal(&mut self, signal: Signal, traceparent: Option<&str>) {
        let version = match self.items.get(signal.item_id.as_str()) {
            Some(Known::Here(here)) => Some(here.signal.document_version),
            Some(Known::Gone { version }) => Some(*version),
            None => None,
        };
        if version.is_some_and(|known| known > signal.document_version) {
            return;
        }
        let id: Arc<str> = signal.item_id.as_str().into();
        self.remove_signal(&id);
        if signal.deleted {
            let version = signal.document_version;
            self.bytes += gone_bytes(&id);
            self.gone.insert((version, Arc::clone(&id)));
            self.items.insert(id, Known::Gone { version });
            if self.gone.len() > MAX_REMOVALS
                && let Some((_, least)) = self.gone.first().cloned()
            {
                self.remove_signal(&least);
            }
            return;
        }
        let bytes = signal_bytes(&signal);
        let signal = Arc::new(signal);
        let here = Here {
            bytes,
            arrived_ms: DocumentVersion::from(signal.document_version).event_time_ms(),
            row: self.matrix.insert(&signal),
            signal,
            traceparent: traceparent.map(Into::into),
        };
        self.bytes += here.bytes;
        self.live += 1;
        self.fresh.insert((here.arrived_ms, Arc::clone(&id)));
        if let Some(order) = self.counted.get(&id).and_then(|counted| counted.trending) {
            self.trending.insert((order, Arc::clone(&id)));
        }
        self.items.insert(id, Known::Here(Box::new(here)));
        self.make_room();
    }

    /// Forgets an item whose record is gone from the topic.
    pub fn forget(&mut self, item_id: &str) {
        self.remove_signal(&Arc::from(item_id));
    }

    /// Takes counters, unless newer ones are there.
    pub fn put_stats(&mut self, stats: ItemStats) {
        if stats.item_id.starts_with("*@") {
            let newer = |known: &ItemStats| stats.order() >= known.order();
            if self.totals.get(&stats.item_id).is_none_or(newer) {
                self.totals_revision += 1;
                self.totals.insert(stats.item_id.clone(), stats);
            }
            return;
        }
        let known = self.counted.get(stats.item_id.as_str());
        if known.is_some_and(|known| known.order > stats.order()) {
            return;
        }
        let id: Arc<str> = stats.item_id.as_str().into();
        if let Some(before) = self.counted.remove(&id) {
            self.bytes -= before.bytes;
            if let Some(order) = before.trending {
                self.trending.remove(&(order, Arc::clone(&id)));
            }
        }
        let sum = |count: fn(&Bucket) -> i64| {
            let sum: i64 = stats.counters.days.iter().map(count).sum();
            u64::try_from(sum).unwrap_or(0)
        };
        let counted = Counted {
            order: stats.order(),
            shown: sum(|bucket| bucket.impressions),
            clicked: sum(|bucket| bucket.clicks),
            trending: trending_order(&stats.counters),
            bytes: counters_bytes(&stats.counters) + id.len() + ENTRY_BYTES / 2,
            counters: Arc::new(stats.counters),
        };
        self.bytes += counted.bytes;
        if let Some(order) = counted.trending
            && matches!(self.items.get(&id), Some(Known::Here(_)))
        {
            self.trending.insert((order, Arc::clone(&id)));
        }
        self.counted.insert(id, counted);
        self.make_room();
    }

    /// Forgets counters whose record is gone from the topic.
    pub fn forget_stats(&mut self, item_id: &str) {
        if self.totals.remove(item_id).is_some() {
            self.totals_revision += 1;
        }
        let Some(before) = self.counted.remove(item_id) else {
            return;
        };
        self.bytes -= before.bytes;
        if let Some(order) = before.trending {
            self.trending.remove(&(order, Arc::from(item_id)));
        }
    }

    fn remove_signal(&mut self, id: &Arc<str>) {
        match self.items.remove(id) {
            None => {}
            Some(Known::Gone { version }) => {
                self.bytes -= gone_bytes(id);
                self.gone.remove(&(version, Arc::clone(id)));
            }
            Some(Known::Here(here)) => {
                self.bytes -= here.bytes;
                self.live -= 1;
                if let Some(row) = here.row {
                    self.matrix.remove(row);
                }
                self.fresh.remove(&(here.arrived_ms, Arc::clone(id)));
                if let Some(order) = self.counted.get(id).and_then(|counted| counted.trending) {
                    self.trending.remove(&(order, Arc::clone(id)));
                }
            }
        }
    }

    /// Leaves out the items that came longest ago, while there is no room.
    fn make_room(&mut self) {
        while self.bytes > self.max_bytes {
            let Some((_, oldest)) = self.fresh.first().cloned() else {
                return;
            };
            self.remove_signal(&oldest);
            self.forget_stats(&oldest);
            self.evicted += 1;
        }
    }

    /// What is known of an item that is there.
    pub fn get(&self, item_id: &str) -> Option<KnownItem> {
        let Some(Known::Here(here)) = self.items.get(item_id) else {
            return None;
        };
        let counted = self.counted.get(item_id);
        Some(KnownItem {
            signal: Arc::clone(&here.signal),
            traceparent: here.traceparent.clone(),
            counters: counted
                .map(|counted| Arc::clone(&counted.counters))
                .unwrap_or_default(),
            shown: counted.map_or(0, |counted| counted.shown),
            clicked: counted.map_or(0, |counted| counted.clicked),
        })
    }

    /// The vectors of all items that are there.
    pub(super) fn matrix(&self) -> &Matrix {
        &self.matrix
    }

    /// The newest items first, with their time in ms since 1970.
    pub fn fresh(&self) -> impl Iterator<Item = (&str, f64)> {
        let newest = self.fresh.iter().rev();
        newest.map(|(arrived_ms, id)| (&**id, *arrived_ms as f64))
    }

    /// The items most acted upon first, with their actions as they weigh at `now_ms`: halved for
    /// each day. Items that weigh next to nothing are none.
    pub fn trending(&self, now_ms: i64) -> impl Iterator<Item = (&str, f64)> {
        const LEAST: f64 = 0.01;
        let now = HOURS.bucket(now_ms) as f64 / TRENDING_HALF_LIFE_HOURS;
        let most = self.trending.iter().rev();
        most.map(move |(order, id)| (&**id, (order.0 - now).exp2()))
            .take_while(|(_, weight)| *weight >= LEAST)
    }

    /// The counters of all items together, one for each partition.
    pub fn totals(&self) -> impl Iterator<Item = &ItemCounters> + Clone {
        self.totals.values().map(|stats| &stats.counters)
    }

    /// Items that are there.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Items with counters.
    pub fn counted(&self) -> usize {
        self.counted.len()
    }

    /// About how much memory it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// `log2 Σ counts(hour) · 2^(hour/24)`, from the newest hour down so that nothing overflows.
fn trending_order(counters: &ItemCounters) -> Option<Order> {
    let newest = counters.hours.last()?.number;
    let weigh = |bucket: &Bucket| {
        let age = (newest - bucket.number) as f64 / TRENDING_HALF_LIFE_HOURS;
        actions(bucket) as f64 * (-age).exp2()
    };
    let sum: f64 = counters.hours.iter().map(weigh).sum();
    (sum > 0.0).then(|| Order(sum.log2() + newest as f64 / TRENDING_HALF_LIFE_HOURS))
}

/// Clicks and all else that says yes to an item.
fn actions(bucket: &Bucket) -> i64 {
    const YES: [BehaviorKind; 9] = [
        BehaviorKind::Like,
        BehaviorKind::Comment,
        BehaviorKind::Collect,
        BehaviorKind::Share,
        BehaviorKind::Download,
        BehaviorKind::Tip,
        BehaviorKind::Subscribe,
        BehaviorKind::Cart,
        BehaviorKind::Buy,
    ];
    let others = YES
        .iter()
        .filter_map(|kind| bucket.others.get(kind.as_str()));
    bucket.clicks + others.sum::<i64>()
}

fn gone_bytes(id: &Arc<str>) -> usize {
    ENTRY_BYTES / 4 + id.len()
}

fn signal_bytes(signal: &Signal) -> usize {
    const STRING_BYTES: usize = 24;
    let lists = [&signal.categories, &signal.tags, &signal.key_phrases];
    let strings = lists
        .into_iter()
        .flatten()
        .map(|text| text.len() + STRING_BYTES);
    let metadata = signal.metadata.iter();
    ENTRY_BYTES
        + size_of::<Signal>()
        // Exact, and in 8 bits.
        + signal.vector.len() * (size_of::<f32>() + 1)
        + 4 * signal.item_id.len()
        + signal.uri.len()
        + signal.title.as_ref().map_or(0, String::len)
        + strings.sum::<usize>()
        + metadata
            .map(|(key, value)| key.len() + value.len() + 3 * STRING_BYTES)
            .sum::<usize>()
}

fn counters_bytes(counters: &ItemCounters) -> usize {
    const OTHER_BYTES: usize = 64;
    const POSITION_BYTES: usize = 24;
    let buckets = [&counters.minutes, &counters.hours, &counters.days];
    let bytes = |bucket: &Bucket| {
        size_of::<Bucket>()
            + bucket.others.len() * OTHER_BYTES
            + bucket.positions.len() * POSITION_BYTES
    };
    buckets.into_iter().flatten().map(bytes).sum()
}

#[cfg(test)]
mod tests;
