//! What becomes of behavior and signals: the join of one partition, without any input or output.
//!
//! A batch of records and what the state holds of their keys go in; changes of the state and records
//! to publish come out. Nothing here reads a clock or waits, so a test can play any interleaving.
//!
//! An event is *counted* when it is joined, so that counters and feedback always tell of the same
//! events. Its id is remembered: seen again, it is a duplicate, unless it was given up as unmatched
//! before, which is how a re-driven one passes. A removed item is known too: its behavior is joined
//! and says that it is deleted. So which events are joined does not depend on the order in which
//! signals and behavior arrive, as long as each signal comes within the grace.

mod expiring;
mod forgetting;
mod settling;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use millrace_features::counters::{HOURS, count};
use millrace_features::rates::{BetaPrior, HalfLife, smoothed_ctr};
use millrace_schemas::{BehaviorByItem, BehaviorEvent, Feedback, ItemCounters, ItemStats, Origin};
use millrace_state::{Cache, Change, Table};
use millrace_stateful::{BrokenValue, Watermark, read, write};

use crate::batch::{Batch, BehaviorInput, Output, SignalInput, Step};
use crate::config::JoinerConfig;
use crate::signals::ItemSignals;
use crate::tables::{COUNTERS, FORGETTING, Offsets, PROGRESS, SEEN, SIGNALS, WAITING};
use crate::values::{Progress, Seen, SeenKey, SeenOutcome, seen_key};
use crate::waiting::{WaitingEvent, WaitingIndex};

/// Impressions that the prior of an expected click-through rate weighs as much as.
const PRIOR_IMPRESSIONS: f64 = 10.0;

/// Who writes: the part of [`ItemStats::order`] that does not change while the partition is ours.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    pub generation: u32,
    pub epoch: u64,
    pub partition: i32,
    /// The full name of `behavior.by-item`.
    pub topic: String,
}

/// One partition's join. Made from the state, and thrown away where a write fails.
pub(crate) struct Join {
    grace_ms: i64,
    deduplication_hours: i64,
    model_version: Option<String>,
    writer: Writer,
    revision: i64,
    progress: Progress,
    watermark: Watermark,
    waiting: WaitingIndex,
    items: Cache<ItemSignals>,
    counters: Cache<ItemCounters>,
    /// While a generation is replayed: what it has made of the batch's events.
    past: Option<HashMap<SeenKey, SeenOutcome>>,
    /// The batch's own, from here on.
    seen: HashMap<SeenKey, Option<Seen>>,
    events: HashMap<i64, WaitingEvent>,
    changed: Changed,
    step: Step,
}

#[derive(Debug, Default)]
struct Changed {
    items: HashSet<String>,
    counters: BTreeSet<String>,
    seen: HashSet<SeenKey>,
    waiting: BTreeMap<i64, Option<WaitingEvent>>,
    /// Ids to forget, by hour.
    forget: BTreeMap<i64, Vec<SeenKey>>,
}

impl Join {
    /// From what the state holds: the value of [`PROGRESS`] and all of [`WAITING`].
    pub fn open(
        config: &JoinerConfig,
        writer: Writer,
        progress: Option<&[u8]>,
        waiting: &[(Vec<u8>, bytes::Bytes)],
        now: Instant,
    ) -> Result<Self, BrokenValue> {
        let progress: Progress = progress
            .map(|value| read(PROGRESS, value))
            .transpose()?
            .unwrap_or_default();
        let mut index = WaitingIndex::default();
        for (key, value) in waiting {
            let event: WaitingEvent = read(WAITING, value)?;
            let offset = key.as_slice().try_into().map(i64::from_be_bytes);
            index.insert(offset.unwrap_or(event.record.origin.offset), &event);
        }
        let idle_after = Duration::from_millis(config.idle_ms);
        Ok(Self {
            grace_ms: config.grace_ms,
            deduplication_hours: config.deduplication_hours,
            model_version: config.model_version.clone(),
            writer,
            revision: 0,
            watermark: Watermark::new(progress.watermark_ms, idle_after, now),
            progress,
            waiting: index,
            items: Cache::new(config.cached_items),
            counters: Cache::new(config.cached_items),
            past: None,
            seen: HashMap::new(),
            events: HashMap::new(),
            changed: Changed::default(),
            step: Step::default(),
        })
    }

    /// ms since 1970; `None` before the first event.
    pub fn watermark_ms(&self) -> Option<i64> {
        self.watermark.ms()
    }

    /// Events that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The keys whose values [`Join::load`] must be given before [`Join::apply`].
    pub fn wanted(&mut self, batch: &Batch) -> Vec<(Table, Vec<u8>)> {
        let mut keys = Vec::new();
        let mut asked = HashSet::new();
        let signals = batch
            .signals
            .iter()
            .map(|signal| signal.item_id().to_owned());
        let events = batch.behavior.iter().map(|input| &input.record.event);
        let items = signals.chain(events.clone().map(|event| event.item_id.clone()));
        for item_id in items {
            if !asked.insert(item_id.clone()) {
                continue;
            }
            if !self.items.touch(&item_id) {
                keys.push((SIGNALS, item_id.clone().into_bytes()));
            }
            if !self.counters.touch(&item_id) {
                keys.push((COUNTERS, item_id.clone().into_bytes()));
            }
            for offset in self.waiting.of_item(&item_id) {
                keys.push((WAITING, offset.to_be_bytes().to_vec()));
            }
        }
        let ids: HashSet<SeenKey> = events.map(|event| seen_key(&event.event_id)).collect();
        keys.extend(ids.into_iter().map(|id| (SEEN, id.to_vec())));
        keys
    }

    /// Takes the values of wanted keys.
    pub fn load(
        &mut self,
        keys: &[(Table, Vec<u8>)],
        values: Vec<Option<bytes::Bytes>>,
    ) -> Result<(), BrokenValue> {
        for ((table, key), value) in keys.iter().zip(values) {
            let value = value.as_deref();
            let text = || String::from_utf8_lossy(key).into_owned();
            match *table {
                SIGNALS => {
                    let item = value.map(|value| read(*table, value)).transpose()?;
                    self.items.insert(text(), item.unwrap_or_default());
                }
                COUNTERS => {
                    let counters = value.map(|value| read(*table, value)).transpose()?;
                    self.counters.insert(text(), counters.unwrap_or_default());
                }
                WAITING => {
                    let offset = key.as_slice().try_into().map(i64::from_be_bytes);
                    if let (Ok(offset), Some(value)) = (offset, value) {
                        self.events.insert(offset, read(*table, value)?);
                    }
                }
                SEEN => {
                    let seen = value.map(|value| read(*table, value)).transpose()?;
                    if let Ok(id) = key.as_slice().try_into() {
                        self.seen.insert(id, seen);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Joins a batch whose values were loaded.
    pub fn apply(&mut self, batch: Batch, now: Instant) {
        for signal in batch.signals {
            self.step.done.signals += 1;
            self.signal(signal);
        }
        for input in batch.behavior {
            self.behavior(input, now);
        }
    }

    fn signal(&mut self, input: SignalInput) {
        let item_id = input.item_id().to_owned();
        let Some(item) = self.items.get_mut(&item_id) else {
            unreachable!("the signals of {item_id} were wanted and loaded")
        };
        let changed = match input {
            SignalInput::Signal(signal) => item.update(*signal),
            SignalInput::Gone { model_version, .. } => {
                item.remove(&model_version);
                true
            }
        };
        if !changed {
            return;
        }
        let known = item.choose(self.model_version.as_deref()).is_some();
        self.changed.items.insert(item_id.clone());
        // What waited in the past is decided last.
        if !known || self.past.is_some() {
            return;
        }
        for offset in self.waiting.of_item(&item_id) {
            let Some(event) = self.stop_waiting(offset, &item_id) else {
                continue;
            };
            let key = seen_key(&event.record.event.event_id);
            self.remember(key, SeenOutcome::Joined, event.forget_hour);
            self.join(offset, event.record, event.traceparent);
        }
    }

    fn behavior(&mut self, input: BehaviorInput, now: Instant) {
        let event = &input.record.event;
        let key = seen_key(&event.event_id);
        let seen = self.seen.get(&key).copied().flatten();
        // Also of a duplicate: what it says of the time is true.
        self.watermark.observe(event.event_time_ms, now);
        match seen.map(|seen| seen.outcome) {
            Some(SeenOutcome::Joined | SeenOutcome::Waiting) => {
                self.step.done.duplicates += 1;
                return;
            }
            Some(SeenOutcome::Unmatched) | None => {}
        }
        // A late event is new when it comes: it waits, and is remembered, as long as others.
        let came_ms = self.watermark.ms().unwrap_or(event.event_time_ms);
        let forget_hour = HOURS.bucket(came_ms) + self.deduplication_hours + 1;
        self.progress.forget_hours.insert(forget_hour);
        self.changed
            .forget
            .entry(forget_hour)
            .or_default()
            .push(key);
        let known = self.knows_item(&event.item_id);
        if let Some(past) = &self.past {
            let outcome = past.get(&key).copied();
            // Forgotten is what was seen too long ago for its outcome to matter but to the counters.
            let forgotten = if known {
                SeenOutcome::Joined
            } else {
                SeenOutcome::Unmatched
            };
            match outcome.unwrap_or(forgotten) {
                SeenOutcome::Joined => {
                    self.remember(key, SeenOutcome::Joined, forget_hour);
                    self.count(&input.record.event);
                    return;
                }
                SeenOutcome::Unmatched => {
                    self.remember(key, SeenOutcome::Unmatched, forget_hour);
                    return;
                }
                SeenOutcome::Waiting => {}
            }
        } else if known {
            self.remember(key, SeenOutcome::Joined, forget_hour);
            self.join(input.offset, input.record, input.traceparent);
            return;
        }
        let event = WaitingEvent {
            deadline_ms: came_ms.saturating_add(self.grace_ms),
            came_ms,
            record: input.record,
            forget_hour,
            traceparent: input.traceparent,
        };
        self.remember(key, SeenOutcome::Waiting, forget_hour);
        self.waiting.insert(input.offset, &event);
        self.events.insert(input.offset, event.clone());
        self.changed.waiting.insert(input.offset, Some(event));
    }

    fn knows_item(&self, item_id: &str) -> bool {
        let Some(item) = self.items.get(item_id) else {
            unreachable!("the signals of {item_id} were wanted and loaded")
        };
        item.choose(self.model_version.as_deref()).is_some()
    }

    fn remember(&mut self, key: SeenKey, outcome: SeenOutcome, forget_hour: i64) {
        let seen = Seen {
            outcome,
            forget_hour,
        };
        self.seen.insert(key, Some(seen));
        self.changed.seen.insert(key);
    }

    fn stop_waiting(&mut self, offset: i64, item_id: &str) -> Option<WaitingEvent> {
        self.waiting.remove(offset, item_id);
        self.changed.waiting.insert(offset, None);
        self.events.remove(&offset)
    }

    fn origin(&self, offset: i64) -> Origin {
        Origin {
            topic: self.writer.topic.clone(),
            partition: self.writer.partition,
            offset,
        }
    }

    fn join(&mut self, offset: i64, record: BehaviorByItem, traceparent: Option<String>) {
        let event = record.event;
        let item = self.items.get(&event.item_id);
        let Some(item) = item.and_then(|item| item.choose(self.model_version.as_deref())) else {
            unreachable!("an event is joined only where its signal is there")
        };
        let Some(counters) = self.counters.get(&event.item_id) else {
            unreachable!("the counters of {} were wanted and loaded", event.item_id)
        };
        let expected_ctr = expected_ctr(counters, &self.progress.totals, event.event_time_ms);
        let item = item.clone();
        self.count(&event);
        self.step.done.joined += 1;
        let feedback = Feedback {
            item,
            origin: self.origin(offset),
            event,
            expected_ctr: Some(expected_ctr),
        };
        let output = Output::Feedback(Box::new(feedback), traceparent);
        self.step.outputs.push(output);
    }

    fn count(&mut self, event: &BehaviorEvent) {
        let Some(counters) = self.counters.get_mut(&event.item_id) else {
            unreachable!("the counters of {} were wanted and loaded", event.item_id)
        };
        count(counters, event);
        count(&mut self.progress.totals, event);
        self.changed.counters.insert(event.item_id.clone());
    }

    /// Lets the watermark go on with the clock.
    pub fn tick(&mut self, now: Instant) {
        self.watermark.tick(now);
    }

    /// No event will come any more: all that waits has waited for its grace.
    pub fn end_of_input(&mut self) {
        if let Some(deadline_ms) = self.waiting.last_deadline_ms() {
            self.watermark.advance_to(deadline_ms);
        }
    }

    /// Whether the batch has the value of this key already, which may be newer than the state's.
    pub fn knows(&self, (table, key): &(Table, Vec<u8>)) -> bool {
        let id = SeenKey::try_from(key.as_slice());
        *table == SEEN && id.is_ok_and(|id| self.seen.contains_key(&id))
    }

    /// Ends the batch: what to write and to publish. `totals` also publishes the partition's.
    pub fn finish(&mut self, next: Offsets, totals: bool) -> Step {
        let mut step = std::mem::take(&mut self.step);
        let changed = std::mem::take(&mut self.changed);
        self.revision += 1;
        let offset = next.behavior.map_or(-1, |next| next - 1);
        let mut put = |table, key: Vec<u8>, value| {
            step.changes.push(Change { table, key, value });
        };
        for item_id in changed.items {
            let item = self.items.get(&item_id).filter(|item| !item.is_empty());
            put(SIGNALS, item_id.into_bytes(), item.map(write));
        }
        for item_id in &changed.counters {
            let counters = self.counters.get(item_id).map(write);
            put(COUNTERS, item_id.clone().into_bytes(), counters);
        }
        for id in changed.seen {
            let seen = self.seen.get(&id).copied().flatten();
            put(SEEN, id.to_vec(), seen.as_ref().map(write));
        }
        for (offset, event) in changed.waiting {
            let key = offset.to_be_bytes().to_vec();
            put(WAITING, key, event.as_ref().map(write));
        }
        for (hour, ids) in changed.forget {
            // No other batch has this offset as its first.
            let key = offset.to_be_bytes().to_vec();
            put(FORGETTING.part(hour), key, Some(ids.concat()));
        }
        self.progress.watermark_ms = self.watermark.ms();
        put(PROGRESS, Vec::new(), Some(write(&self.progress)));
        // Of a past that is not all replayed they would be too few.
        let published = changed.counters.into_iter().filter(|_| self.past.is_none());
        for item_id in published {
            if let Some(counters) = self.counters.get(&item_id).cloned() {
                let stats = self.stats(item_id, counters, offset);
                step.outputs.push(stats);
            }
        }
        if totals {
            let id = ItemStats::totals_id(self.writer.partition);
            let stats = self.stats(id, self.progress.totals.clone(), offset);
            step.outputs.push(stats);
        }
        self.seen.clear();
        self.events.clear();
        self.items.age();
        self.counters.age();
        step
    }

    fn stats(&self, item_id: String, counters: ItemCounters, offset: i64) -> Output {
        Output::Stats(Box::new(ItemStats {
            item_id,
            counters,
            generation: i32::try_from(self.writer.generation).unwrap_or(i32::MAX),
            epoch: i64::try_from(self.writer.epoch).unwrap_or(i64::MAX),
            revision: self.revision,
            origin: self.origin(offset),
        }))
    }
}

/// What the item's next impression was worth at the time of an event, before the event itself: its
/// click-through rate with a half-life of a day, drawn towards that of the partition's items.
fn expected_ctr(counters: &ItemCounters, totals: &ItemCounters, event_time_ms: i64) -> f64 {
    let half_life = HalfLife::Day;
    let prior = BetaPrior::of_totals([totals], half_life, event_time_ms, PRIOR_IMPRESSIONS);
    smoothed_ctr(counters, half_life, event_time_ms, prior)
}
