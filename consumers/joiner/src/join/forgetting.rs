//! Ids of events that came so long ago that they need not be known again.

use millrace_features::counters::HOURS;
use millrace_state::{Change, Table};

use super::Join;
use crate::tables::{FORGETTING, SEEN};
use crate::values::SeenKey;

impl Join {
    /// The first hour of which ids are to be forgotten now.
    pub fn hour_to_forget(&self) -> Option<i64> {
        let now = HOURS.bucket(self.watermark.ms()?);
        let first = self.progress.forget_hours.first().copied();
        first.filter(|&hour| hour <= now)
    }

    /// The ids that a value of [`FORGETTING`] lists.
    pub fn ids_to_forget(chunk: &[u8]) -> Vec<(Table, Vec<u8>)> {
        let (ids, _) = chunk.as_chunks::<16>();
        ids.iter().map(|id| (SEEN, id.to_vec())).collect()
    }

    /// Forgets the ids of loaded chunks, those that were not seen again since; the hour itself
    /// where these chunks were all it had.
    pub fn forget(&mut self, hour: i64, chunks: &[(Vec<u8>, bytes::Bytes)], all: bool) {
        for (key, chunk) in chunks {
            for (_, id) in Self::ids_to_forget(chunk) {
                let Ok(id) = SeenKey::try_from(id.as_slice()) else {
                    continue;
                };
                let seen = self.seen.get(&id).copied().flatten();
                if seen.is_some_and(|seen| seen.forget_hour <= hour) {
                    self.seen.insert(id, None);
                    self.changed.seen.insert(id);
                }
            }
            self.step.changes.push(Change {
                table: FORGETTING.part(hour),
                key: key.clone(),
                value: None,
            });
        }
        if all {
            self.progress.forget_hours.remove(&hour);
        }
    }
}
