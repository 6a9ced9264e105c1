//! What is in the index, in memory: the version of every record, and every live vector.
//!
//! Rebuilt from the store on opening, changed only after a commit: it never knows more than the
//! disk does.

use std::collections::HashMap;

use super::filter::{ChunkFacts, MirrorFilter, Names};
use super::vectors::{Vectors, normalised};
use crate::{Filter, IndexCounts, Record};

#[derive(Clone, Copy, Debug)]
struct Entry {
    version: i64,
    header: bool,
    deleted: bool,
    slot: Option<u32>,
}

/// The mirror.
#[derive(Debug)]
pub(super) struct Mirror {
    entries: HashMap<Box<str>, Entry>,
    counts: IndexCounts,
    names: Names,
    vectors: Vectors,
}

impl Mirror {
    pub(super) fn new(dimension: usize) -> Self {
        Self {
            entries: HashMap::new(),
            counts: IndexCounts::default(),
            names: Names::default(),
            vectors: Vectors::new(dimension),
        }
    }

    /// Takes in a record that is committed, in place of whatever had its id.
    pub(super) fn put(&mut self, record: &Record) {
        self.remove(&record.id);
        let slot = match &record.vector {
            Some(vector) if !record.deleted => {
                let facts = ChunkFacts::of(record, &mut self.names);
                Some(self.vectors.insert(&record.id, facts, vector))
            }
            _ => None,
        };
        let entry = Entry {
            version: record.version,
            header: record.is_header(),
            deleted: record.deleted,
            slot,
        };
        *self.counter(entry) += 1;
        self.entries.insert(record.id.as_str().into(), entry);
    }

    /// Forgets a record.
    pub(super) fn remove(&mut self, id: &str) {
        if let Some(entry) = self.entries.remove(id) {
            *self.counter(entry) -= 1;
            if let Some(slot) = entry.slot {
                self.vectors.remove(slot);
            }
        }
    }

    fn counter(&mut self, entry: Entry) -> &mut u64 {
        match entry {
            Entry { deleted: true, .. } => &mut self.counts.tombstones,
            Entry { header: true, .. } => &mut self.counts.documents,
            Entry { .. } => &mut self.counts.chunks,
        }
    }

    /// Version of a record, tombstones included.
    pub(super) fn version(&self, id: &str) -> Option<i64> {
        self.entries.get(id).map(|entry| entry.version)
    }

    pub(super) fn counts(&self) -> IndexCounts {
        self.counts
    }

    /// Ids of tombstones with a version below `version`.
    pub(super) fn tombstones_below(&self, version: i64) -> Vec<String> {
        let old = |entry: &Entry| entry.deleted && entry.version < version;
        let entries = self.entries.iter().filter(|(_, entry)| old(entry));
        entries.map(|(id, _)| String::from(&**id)).collect()
    }

    /// The `k` chunks nearest to `query` that pass `filter`: cosine and id, best first.
    pub(super) fn nearest(&self, query: &[f32], k: usize, filter: &Filter) -> Vec<(f32, &str)> {
        let filter = MirrorFilter::compile(filter, &self.names);
        self.vectors.nearest(&normalised(query), k, &filter)
    }

    /// Cosine of one chunk with `query`; `None` where it has no vector.
    pub(super) fn cosine(&self, id: &str, query: &[f32]) -> Option<f32> {
        let slot = self.entries.get(id)?.slot?;
        Some(self.vectors.cosine(slot, &normalised(query)))
    }
}
