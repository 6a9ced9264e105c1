//! Playing the past again: what the live generation has made of events is taken over, and what still
//! waits is decided once that one stands still.

use std::collections::{BTreeSet, HashMap};

use millrace_state::Table;
use millrace_stateful::{BrokenValue, read};

use super::Join;
use crate::tables::{COUNTERS, Offsets, SIGNALS, WAITING};
use crate::values::{SeenKey, SeenOutcome, seen_key};

impl Join {
    /// From here on events are those of a past, which has made this of them: what it published is not
    /// published again.
    pub fn replay(&mut self, past: HashMap<SeenKey, SeenOutcome>) {
        self.past = Some(past);
    }

    /// The keys whose values [`Join::load`] must be given before [`Join::settle`].
    pub fn wanted_to_settle(&mut self) -> Vec<(Table, Vec<u8>)> {
        let mut keys = BTreeSet::new();
        for (offset, item_id) in self.waiting.all() {
            if !self.events.contains_key(&offset) {
                keys.insert((WAITING, offset.to_be_bytes().to_vec()));
            }
            if !self.items.touch(&item_id) {
                keys.insert((SIGNALS, item_id.clone().into_bytes()));
            }
            if !self.counters.touch(&item_id) {
                keys.insert((COUNTERS, item_id.into_bytes()));
            }
        }
        keys.into_iter().collect()
    }

    /// The ids of the events that wait.
    pub fn waiting_ids(&self) -> Vec<SeenKey> {
        let ids = self.events.values();
        ids.map(|event| seen_key(&event.record.event.event_id))
            .collect()
    }

    /// Ends the replay of a past that has decided all it will. What waits still is joined here, where
    /// the signal came before the event did.
    pub fn settle(&mut self, past: &HashMap<SeenKey, SeenOutcome>) {
        self.past = None;
        for (offset, item_id) in self.waiting.all() {
            let known = self.knows_item(&item_id);
            let Some(event) = self.events.get(&offset) else {
                continue;
            };
            let key = seen_key(&event.record.event.event_id);
            let outcome = past.get(&key).copied().unwrap_or(SeenOutcome::Waiting);
            if outcome == SeenOutcome::Waiting && !known {
                continue;
            }
            let Some(event) = self.stop_waiting(offset, &item_id) else {
                continue;
            };
            match outcome {
                SeenOutcome::Unmatched => {
                    self.remember(key, SeenOutcome::Unmatched, event.forget_hour);
                }
                SeenOutcome::Joined => {
                    self.remember(key, SeenOutcome::Joined, event.forget_hour);
                    self.count(&event.record.event);
                }
                SeenOutcome::Waiting => {
                    self.remember(key, SeenOutcome::Joined, event.forget_hour);
                    self.join(offset, event.record, event.traceparent);
                }
            }
        }
    }

    /// Publishes counters as the state has them: what the generation before has published may be
    /// other ones.
    pub fn publish_counters(
        &mut self,
        counters: Vec<(Vec<u8>, bytes::Bytes)>,
        next: Offsets,
    ) -> Result<(), BrokenValue> {
        let offset = next.behavior.map_or(-1, |next| next - 1);
        for (item_id, value) in counters {
            let item_id = String::from_utf8_lossy(&item_id).into_owned();
            let stats = self.stats(item_id, read(COUNTERS, &value)?, offset);
            self.step.outputs.push(stats);
        }
        Ok(())
    }
}
