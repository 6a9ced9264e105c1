//! The nearest items, by comparing all of them: exact, without an index to keep, and up to tens of
//! thousands of items faster than asking one. Several queries share one walk, since what a walk
//! costs is fetching the items' vectors.

use std::sync::Arc;
use std::time::Instant;

use millrace_schemas::Signal;
use pulp::Arch;

use super::Table;

/// How many items are compared between two looks at the clock.
const LOOK_EVERY: usize = 512;

/// What items are compared with: the nearness to the nearest of these vectors counts.
pub(crate) struct Query<'a> {
    /// Of length 1, all of one dimension.
    pub vectors: Vec<&'a [f32]>,
    /// How many items are wanted.
    pub limit: usize,
}

/// Items with their cosines, the nearest first.
pub(crate) type Near = Vec<(f32, Arc<Signal>)>;

/// The scan took longer than it may.
#[derive(Debug, thiserror::Error)]
#[error("comparing vectors took longer than it may")]
pub(crate) struct OutOfTime;

/// The items nearest to each query, the nearest first, ties by id, of those that `admits` lets pass.
pub(crate) fn nearest(
    table: &Table,
    queries: &[Query<'_>],
    deadline: Instant,
    admits: impl Fn(&Signal) -> bool,
) -> Result<Vec<Near>, OutOfTime> {
    let mut best: Vec<Best> = queries.iter().map(|query| Best::new(query.limit)).collect();
    let arch = Arch::new();
    for (n, signal) in table.signals().enumerate() {
        if n % LOOK_EVERY == LOOK_EVERY - 1 && Instant::now() > deadline {
            return Err(OutOfTime);
        }
        let mut admitted = None;
        for (query, best) in queries.iter().zip(&mut best) {
            let cosine = arch.dispatch(
                #[inline(always)]
                || greatest(&signal.vector, &query.vectors),
            );
            // Whether it may be shown costs more than whether it is near enough.
            if cosine.is_finite()
                && best.wants(cosine)
                && *admitted.get_or_insert_with(|| admits(signal))
            {
                best.offer(cosine, signal);
            }
        }
    }
    Ok(best.into_iter().map(Best::ranked).collect())
}

/// The greatest product with one of the vectors; below all numbers where none has its dimension.
#[inline(always)]
fn greatest(vector: &[f32], vectors: &[&[f32]]) -> f32 {
    let mut greatest = f32::NEG_INFINITY;
    for other in vectors {
        if other.len() == vector.len() && !vector.is_empty() {
            greatest = greatest.max(product(vector, other));
        }
    }
    greatest
}

#[inline(always)]
fn product(a: &[f32], b: &[f32]) -> f32 {
    // Sums that do not wait for each other, so that the loop becomes vector instructions.
    const LANES: usize = 32;
    let mut sums = [0_f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// The best `limit` so far, best first.
struct Best {
    limit: usize,
    ranked: Near,
}

impl Best {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            ranked: Vec::with_capacity(limit + 1),
        }
    }

    /// Whether an item of this score may be among the best.
    fn wants(&self, score: f32) -> bool {
        let full = self.ranked.len() >= self.limit;
        !full || self.ranked.last().is_some_and(|(worst, _)| score >= *worst)
    }

    fn offer(&mut self, score: f32, signal: &Arc<Signal>) {
        let before = |(other, known): &(f32, Arc<Signal>)| {
            *other > score || (*other == score && known.item_id < signal.item_id)
        };
        let at = self.ranked.partition_point(before);
        if at < self.limit {
            self.ranked.truncate(self.limit - 1);
            self.ranked.insert(at, (score, Arc::clone(signal)));
        }
    }

    fn ranked(self) -> Near {
        self.ranked
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::samples::{random_unit, signal};

    fn table(items: usize) -> Table {
        let mut table = Table::new(1 << 30);
        for n in 0..items {
            let mut signal = signal(&format!("item-{n:04}"), 1);
            signal.vector = random_unit(n as u64, 48);
            table.put_signal(signal, None);
        }
        table
    }

    #[test]
    fn the_nearest_are_the_nearest_of_all_that_may_be_shown() {
        let table = table(700);
        let (one, two) = (random_unit(10_001, 48), random_unit(10_002, 48));
        let even = |signal: &Signal| !signal.item_id.ends_with(['1', '3', '5', '7', '9']);
        let queries = [
            Query {
                vectors: vec![&one],
                limit: 10,
            },
            Query {
                vectors: vec![&one, &two],
                limit: 25,
            },
        ];
        let deadline = Instant::now() + Duration::from_secs(60);
        let found = nearest(&table, &queries, deadline, even).unwrap();
        for (query, found) in queries.iter().zip(found) {
            let dot = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
            let mut all: Vec<(f32, &str)> = table
                .signals()
                .filter(|signal| even(signal))
                .map(|signal| {
                    let cosines = query.vectors.iter().map(|q| dot(&signal.vector, q));
                    (cosines.fold(f32::MIN, f32::max), signal.item_id.as_str())
                })
                .collect();
            all.sort_by(|a, b| b.0.total_cmp(&a.0));
            let want: Vec<&str> = all[..query.limit].iter().map(|(_, id)| *id).collect();
            let ids: Vec<&str> = found.iter().map(|(_, s)| s.item_id.as_str()).collect();
            assert_eq!(ids, want);
            assert!((found[0].0 - all[0].0).abs() < 1e-5);
        }
    }

    #[test]
    fn ties_go_by_id_other_dimensions_and_a_deadline_end_it() {
        let mut table = Table::new(1 << 30);
        for id in ["b", "c", "a"] {
            let mut signal = signal(id, 1);
            signal.vector = vec![0.6, 0.8];
            table.put_signal(signal, None);
        }
        let mut other = signal("other", 1);
        other.vector = vec![1.0];
        table.put_signal(other, None);
        let query = |limit| Query {
            vectors: vec![&[0.6, 0.8]],
            limit,
        };
        let later = Instant::now() + Duration::from_secs(60);
        let found = nearest(&table, &[query(2), query(9)], later, |_| true).unwrap();
        let ids = |found: &[(f32, Arc<Signal>)]| {
            let ids = found.iter().map(|(_, signal)| signal.item_id.clone());
            ids.collect::<Vec<_>>()
        };
        assert_eq!(ids(&found[0]), ["a", "b"]);
        assert_eq!(ids(&found[1]), ["a", "b", "c"]);
        let past = Instant::now() - Duration::from_secs(1);
        assert!(nearest(&super::tests::table(600), &[query(1)], past, |_| true).is_err());
    }
}
