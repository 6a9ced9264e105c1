//! The last items of interest, with their vectors.

use std::collections::VecDeque;

use millrace_schemas::{BehaviorEvent, BehaviorKind};
use serde::{Deserialize, Serialize};

use super::RECENT_ITEMS;
use crate::vector::SmallVector;

/// An item that the user showed interest in lately.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecentItem {
    /// The item; the document's id.
    pub item_id: String,
    /// When, ms since 1970.
    pub time_ms: i64,
    /// What the user did last.
    pub kind: BehaviorKind,
    vector: Option<SmallVector>,
}

impl RecentItem {
    /// `[dimension]`, length 1, kept in a byte a component: cosines with it are right to some 0.002.
    /// `None` where the item had none of the profile's model.
    #[must_use]
    pub fn vector(&self) -> Option<Vec<f32>> {
        self.vector.as_ref().map(SmallVector::to_vec)
    }

    pub(crate) fn cosine(&self, unit: &[f32]) -> Option<f64> {
        let vector = self.vector.as_ref()?;
        (vector.dimension() == unit.len()).then(|| vector.dot(unit))
    }
}

/// Each item once, by time; of one time by arrival.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Recent(VecDeque<RecentItem>);

impl Recent {
    pub(super) fn add(&mut self, event: &BehaviorEvent, unit: Option<&[f32]>) {
        let known = self.0.iter().position(|item| item.item_id == event.item_id);
        let mut item = RecentItem {
            item_id: event.item_id.clone(),
            time_ms: event.event_time_ms,
            kind: event.kind,
            vector: unit.map(SmallVector::of),
        };
        if let Some(known) = known.and_then(|at| self.0.remove(at)) {
            // A later event of the item may have come before.
            if known.time_ms > item.time_ms {
                (item.time_ms, item.kind) = (known.time_ms, known.kind);
            }
            item.vector = item.vector.or(known.vector);
        }
        let at = self
            .0
            .partition_point(|known| known.time_ms <= item.time_ms);
        self.0.insert(at, item);
        if self.0.len() > RECENT_ITEMS {
            self.0.pop_front();
        }
    }

    pub(super) fn dimension(&self) -> Option<usize> {
        let mut vectors = self.0.iter().filter_map(|item| item.vector.as_ref());
        vectors.next().map(SmallVector::dimension)
    }

    pub(super) fn replace_vectors(&mut self, vectors: impl Fn(&str) -> Option<Vec<f32>>) {
        for item in &mut self.0 {
            item.vector = vectors(&item.item_id).map(|unit| SmallVector::of(&unit));
        }
    }

    /// The oldest first.
    pub(super) fn iter(&self) -> std::collections::vec_deque::Iter<'_, RecentItem> {
        self.0.iter()
    }
}
