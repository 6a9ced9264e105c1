//! Events that waited for a signal in vain.

use millrace_schemas::UnmatchedBehavior;
use millrace_state::Table;

use super::Join;
use crate::batch::Output;
use crate::tables::WAITING;
use crate::values::{SeenOutcome, seen_key};

/// Forgotten, given up, joined in one write: a bound on what one batch makes of the past.
const MAX_EXPIRED: usize = 2_000;

impl Join {
    /// As [`Join::wanted`], for what [`Join::expire`] will give up now.
    pub fn wanted_to_expire(&self) -> Vec<(Table, Vec<u8>)> {
        let offsets = self.expired();
        let missing = offsets
            .iter()
            .filter(|offset| !self.events.contains_key(offset));
        missing
            .map(|offset| (WAITING, offset.to_be_bytes().to_vec()))
            .collect()
    }

    fn expired(&self) -> Vec<i64> {
        // Whether an event of the past was given up in time is found in the past.
        let watermark = self.watermark.ms().filter(|_| self.past.is_none());
        watermark.map_or_else(Vec::new, |ms| self.waiting.expired(ms, MAX_EXPIRED))
    }

    /// Gives up what has waited long enough. `true` where there is more of it.
    pub fn expire(&mut self) -> bool {
        let expired = self.expired();
        let watermark_ms = self.watermark.ms().unwrap_or(0);
        for &offset in &expired {
            let Some(item_id) = self
                .events
                .get(&offset)
                .map(|event| event.record.event.item_id.clone())
            else {
                continue;
            };
            let Some(event) = self.stop_waiting(offset, &item_id) else {
                continue;
            };
            let key = seen_key(&event.record.event.event_id);
            self.remember(key, SeenOutcome::Unmatched, event.forget_hour);
            self.step.done.unmatched += 1;
            let unmatched = UnmatchedBehavior {
                event: event.record.event,
                origin: self.origin(offset),
                waited_ms: watermark_ms.saturating_sub(event.came_ms),
                watermark_ms,
            };
            let output = Output::Unmatched(Box::new(unmatched), event.traceparent);
            self.step.outputs.push(output);
        }
        expired.len() == MAX_EXPIRED
    }
}
