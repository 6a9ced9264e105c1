//! The vectors in memory: an exact scan, filters included.
//!
//! A scan of 8-bit copies picks candidates, the f32 originals rank them: 3.7 ms of CPU for
//! 100,000 × 384, and the ten best are the exact ten best. Removed slots are reused.
//!
//! Limit: the scan is linear, about 40 ms of CPU a query at a million chunks; beyond 250,000
//! chunks use OpenSearch.

use std::thread;

use super::filter::{ChunkFacts, MirrorFilter};
use super::simd::{dot, dot_i8};

/// Candidates rescored per result wanted, and at least.
const RESCORED_PER_RESULT: usize = 4;
const RESCORED_AT_LEAST: usize = 40;
/// A scan of fewer slots than this a thread is faster alone: starting a thread costs about 50 µs.
const SLOTS_PER_THREAD: usize = 50_000;

/// A live chunk.
#[derive(Debug)]
struct Slot {
    id: Box<str>,
    facts: ChunkFacts,
}

/// All live vectors, normalised to length 1.
#[derive(Debug)]
pub(super) struct Vectors {
    dimension: usize,
    slots: Vec<Option<Slot>>,
    exact: Vec<f32>,
    coarse: Vec<i8>,
    scales: Vec<f32>,
    free: Vec<u32>,
}

impl Vectors {
    pub(super) fn new(dimension: usize) -> Self {
        Self {
            dimension,
            slots: Vec::new(),
            exact: Vec::new(),
            coarse: Vec::new(),
            scales: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Adds a chunk's vector; gives its slot.
    pub(super) fn insert(&mut self, id: &str, facts: ChunkFacts, vector: &[f32]) -> u32 {
        let unit = normalised(vector);
        let (coarse, scale) = quantised(&unit);
        let entry = Slot {
            id: id.into(),
            facts,
        };
        if let Some(slot) = self.free.pop() {
            let at = slot as usize * self.dimension;
            self.exact[at..at + self.dimension].copy_from_slice(&unit);
            self.coarse[at..at + self.dimension].copy_from_slice(&coarse);
            self.scales[slot as usize] = scale;
            self.slots[slot as usize] = Some(entry);
            return slot;
        }
        self.exact.extend_from_slice(&unit);
        self.coarse.extend_from_slice(&coarse);
        self.scales.push(scale);
        self.slots.push(Some(entry));
        // Four billion vectors do not fit into memory.
        (self.slots.len() - 1) as u32
    }

    /// Frees a slot.
    pub(super) fn remove(&mut self, slot: u32) {
        if self.slots[slot as usize].take().is_some() {
            self.free.push(slot);
        }
    }

    /// Cosine of one chunk with a query of length 1.
    pub(super) fn cosine(&self, slot: u32, unit_query: &[f32]) -> f32 {
        dot(unit_query, self.exact_at(slot as usize))
    }

    /// The `k` nearest chunks that pass the filter: cosine and id, best first, ties by id.
    pub(super) fn nearest(
        &self,
        unit_query: &[f32],
        k: usize,
        filter: &MirrorFilter,
    ) -> Vec<(f32, &str)> {
        let (query, _) = quantised(unit_query);
        let candidates = (k * RESCORED_PER_RESULT).max(RESCORED_AT_LEAST);
        let mut nearest: Vec<(f32, &str)> = self
            .candidates(&query, candidates, filter)
            .into_iter()
            .filter_map(|(_, slot)| {
                let id = &self.slots[slot as usize].as_ref()?.id;
                Some((self.cosine(slot, unit_query), &**id))
            })
            .collect();
        nearest.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        nearest.truncate(k);
        nearest
    }

    fn candidates(&self, query: &[i8], k: usize, filter: &MirrorFilter) -> Vec<(f32, u32)> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = (self.slots.len() / SLOTS_PER_THREAD).clamp(1, cores);
        let mut best = Best::new(k);
        if threads == 1 {
            self.scan(0, self.slots.len(), query, filter, &mut best);
            return best.ranked;
        }
        let share = self.slots.len().div_ceil(threads);
        let parts: Vec<Best> = thread::scope(|scope| {
            let scans: Vec<_> = (0..threads)
                .map(|part| {
                    scope.spawn(move || {
                        let mut best = Best::new(k);
                        let end = ((part + 1) * share).min(self.slots.len());
                        self.scan(part * share, end, query, filter, &mut best);
                        best
                    })
                })
                .collect();
            // A scan has no reason to panic; if one does, so does the search.
            let joined = scans.into_iter().map(thread::ScopedJoinHandle::join);
            joined
                .map(|part| part.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        for (score, slot) in parts.into_iter().flat_map(|part| part.ranked) {
            best.offer(score, slot);
        }
        best.ranked
    }

    fn scan(&self, from: usize, to: usize, query: &[i8], filter: &MirrorFilter, best: &mut Best) {
        for slot in from..to {
            let Some(entry) = &self.slots[slot] else {
                continue;
            };
            if !filter.passes(&entry.facts) {
                continue;
            }
            let at = slot * self.dimension;
            let coarse = dot_i8(query, &self.coarse[at..at + self.dimension]);
            best.offer(coarse as f32 * self.scales[slot], slot as u32);
        }
    }

    fn exact_at(&self, slot: usize) -> &[f32] {
        &self.exact[slot * self.dimension..(slot + 1) * self.dimension]
    }
}

/// The vector scaled to length 1.
pub(super) fn normalised(vector: &[f32]) -> Vec<f32> {
    let length = dot(vector, vector).sqrt().max(f32::MIN_POSITIVE);
    vector.iter().map(|x| x / length).collect()
}

/// The vector in 8 bits, and what one step is worth.
fn quantised(vector: &[f32]) -> (Vec<i8>, f32) {
    let largest = vector.iter().fold(f32::MIN_POSITIVE, |m, x| m.max(x.abs()));
    let scale = largest / 127.0;
    // In range by construction; the cast saturates anyway.
    (
        vector.iter().map(|x| (x / scale).round() as i8).collect(),
        scale,
    )
}

/// The best `k` so far, best first.
struct Best {
    k: usize,
    ranked: Vec<(f32, u32)>,
    worst: f32,
}

impl Best {
    fn new(k: usize) -> Self {
        Self {
            k,
            ranked: Vec::with_capacity(k + 1),
            worst: f32::NEG_INFINITY,
        }
    }

    #[inline]
    fn offer(&mut self, score: f32, slot: u32) {
        if self.ranked.len() == self.k && score <= self.worst {
            return;
        }
        let at = self.ranked.partition_point(|(other, _)| *other >= score);
        self.ranked.insert(at, (score, slot));
        self.ranked.truncate(self.k);
        if self.ranked.len() == self.k {
            self.worst = self.ranked[self.k - 1].0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Filter;
    use crate::embedded::filter::Names;

    /// Unit vectors around a few centres, from a fixed linear congruential sequence.
    fn clustered(n: usize, dimension: usize, seed: u64) -> Vec<Vec<f32>> {
        let mut state = seed;
        let mut next = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        let centres: Vec<Vec<f32>> = (0..20)
            .map(|_| (0..dimension).map(|_| next()).collect())
            .collect();
        (0..n)
            .map(|i| {
                let centre = &centres[i % centres.len()];
                normalised(&centre.iter().map(|c| c + 0.6 * next()).collect::<Vec<_>>())
            })
            .collect()
    }

    #[test]
    fn the_ten_best_are_the_exact_ten_best_also_after_slots_were_reused() {
        const DIMENSION: usize = 96;
        let vectors = clustered(4_100, DIMENSION, 7);
        let mut mirror = Vectors::new(DIMENSION);
        let mut names = Names::default();
        let facts = ChunkFacts::of(&crate::Record::default(), &mut names);
        for (i, vector) in vectors[..4_000].iter().enumerate() {
            mirror.insert(&format!("{i:05}"), facts.clone(), vector);
        }
        for slot in 0..100 {
            mirror.remove(slot);
        }
        for (i, vector) in vectors[4_000..].iter().enumerate() {
            mirror.insert(&format!("{:05}", i + 4_000), facts.clone(), vector);
        }
        assert_eq!(mirror.slots.len(), 4_000, "slots are reused");
        let all = MirrorFilter::compile(&Filter::default(), &names);
        for query in clustered(200, DIMENSION, 99) {
            let mut exact: Vec<(f32, String)> = (100..4_100)
                .map(|i| (dot(&query, &vectors[i]), format!("{i:05}")))
                .collect();
            exact.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
            let found = mirror.nearest(&query, 10, &all);
            let ids: Vec<&str> = found.iter().map(|f| f.1).collect();
            let want: Vec<&str> = exact[..10].iter().map(|e| e.1.as_str()).collect();
            assert_eq!(ids, want);
        }
    }
}
