//! Which items the user was shown or acted on.

use serde::{Deserialize, Serialize};

use super::sums::kept;

/// What a user saw of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenItem {
    /// Times it was shown.
    pub shown: u32,
    /// Times it was clicked or otherwise acted on.
    pub acted: u32,
    /// The latest of both, ms since 1970.
    pub last_ms: i64,
}

/// By 64 bits of a hash of the item's id, sorted: a third of the ids' size, and of 10^15 answers one
/// is wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Seen(Vec<(u64, SeenItem)>);

impl Seen {
    pub(super) fn add(&mut self, item_id: &str, acted: bool, time_ms: i64, most: usize) {
        let key = key(item_id);
        let at = match self.0.binary_search_by_key(&key, |(key, _)| *key) {
            Ok(at) => at,
            Err(at) => {
                let none = SeenItem {
                    shown: 0,
                    acted: 0,
                    last_ms: time_ms,
                };
                self.0.insert(at, (key, none));
                at
            }
        };
        let seen = &mut self.0[at].1;
        let count = if acted {
            &mut seen.acted
        } else {
            &mut seen.shown
        };
        *count = count.saturating_add(1);
        seen.last_ms = seen.last_ms.max(time_ms);
        if self.0.len() > most {
            let times = self.0.iter().map(|(_, seen)| seen.last_ms);
            let mut keep = kept(times, most, i64::cmp).into_iter();
            self.0.retain(|_| keep.next() == Some(true));
        }
    }

    pub(super) fn get(&self, item_id: &str) -> Option<SeenItem> {
        let at = self
            .0
            .binary_search_by_key(&key(item_id), |(key, _)| *key)
            .ok()?;
        Some(self.0[at].1)
    }
}

/// FNV-1a: ids are hashes of what they name, so nobody can look for two that meet.
fn key(item_id: &str) -> u64 {
    item_id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
