//! The nearest items, by comparing all of them: without an index to keep, and up to tens of thousands
//! of items faster than asking one. Several queries share one walk.
//!
//! The walk compares 8-bit copies and keeps some more than is wanted; their exact vectors rank them.
//! So the nearest are the exact nearest but for those that 8 bits put far beyond where they belong.

use std::sync::Arc;
use std::time::Instant;

use millrace_schemas::Signal;
use pulp::{Arch, Simd, WithSimd};

use super::Table;
use super::matrix::{Matrix, quantised};

/// How many items are compared between two looks at the clock.
const LOOK_EVERY: usize = 1_024;
/// Items that the walk keeps for each that is wanted, and at least.
const KEPT_PER_ITEM: usize = 2;
const KEPT_AT_LEAST: usize = 40;

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
    let matrix = table.matrix();
    let of_this_space = |vector: &&&[f32]| vector.len() == matrix.dimension();
    let coarse = queries.iter().map(|query| {
        let vectors = query.vectors.iter().filter(of_this_space);
        vectors.map(|vector| quantised(vector)).collect()
    });
    let keep = |query: &Query<'_>| Best::new(KEPT_AT_LEAST.max(KEPT_PER_ITEM * query.limit));
    let walk = Walk {
        matrix,
        coarse: coarse.collect(),
        best: queries.iter().map(keep).collect(),
        deadline,
        admits,
    };
    let best = Arch::new().dispatch(walk)?;
    Ok(queries
        .iter()
        .zip(best)
        .map(|(query, best)| best.ranked(query))
        .collect())
}

/// One walk over all items. Plain loops, compiled for the vector instructions of the machine at hand.
struct Walk<'a, F> {
    matrix: &'a Matrix,
    /// The vectors of each query, in 8 bits, with what one step is worth.
    coarse: Vec<Vec<(Vec<i8>, f32)>>,
    best: Vec<Best<'a>>,
    deadline: Instant,
    admits: F,
}

impl<'a, F: Fn(&Signal) -> bool> WithSimd for Walk<'a, F> {
    type Output = Result<Vec<Best<'a>>, OutOfTime>;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) -> Self::Output {
        for (n, (row, scale, signal)) in self.matrix.rows().enumerate() {
            if n % LOOK_EVERY == LOOK_EVERY - 1 && Instant::now() > self.deadline {
                return Err(OutOfTime);
            }
            let mut admitted = None;
            for (vectors, best) in self.coarse.iter().zip(&mut self.best) {
                let mut greatest = f32::NEG_INFINITY;
                for (vector, step) in vectors {
                    greatest = greatest.max(product(row, vector) as f32 * scale * step);
                }
                // Whether it may be shown costs more than whether it is near enough.
                if greatest > f32::NEG_INFINITY
                    && best.wants(greatest)
                    && *admitted.get_or_insert_with(|| (self.admits)(signal))
                {
                    best.offer(greatest, signal);
                }
            }
        }
        Ok(self.best)
    }
}

/// Of two rows of one dimension. Whole numbers, so that the compiler may sum them in any order.
#[inline(always)]
fn product(a: &[i8], b: &[i8]) -> i32 {
    let products = a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b));
    products.sum()
}

/// The best so far by the walk's numbers, best first.
struct Best<'a> {
    kept: usize,
    items: Vec<(f32, &'a Arc<Signal>)>,
}

impl<'a> Best<'a> {
    fn new(kept: usize) -> Self {
        Self {
            kept,
            items: Vec::with_capacity(kept + 1),
        }
    }

    /// Whether an item of this score may be among the best.
    #[inline(always)]
    fn wants(&self, score: f32) -> bool {
        let full = self.items.len() >= self.kept;
        !full || self.items.last().is_some_and(|(worst, _)| score >= *worst)
    }

    fn offer(&mut self, score: f32, signal: &'a Arc<Signal>) {
        let at = self
            .items
            .partition_point(|item| before(item, (score, signal)));
        if at < self.kept {
            self.items.truncate(self.kept - 1);
            self.items.insert(at, (score, signal));
        }
    }

    /// By the exact vectors.
    fn ranked(self, query: &Query<'_>) -> Near {
        let exact = self.items.into_iter().map(|(_, signal)| {
            let cosines = query
                .vectors
                .iter()
                .filter_map(|v| cosine(v, &signal.vector));
            (cosines.fold(f32::NEG_INFINITY, f32::max), signal)
        });
        let mut items: Vec<(f32, &Arc<Signal>)> = exact.collect();
        items.sort_by(|a, b| {
            b.0.total_cmp(&a.0)
                .then_with(|| a.1.item_id.cmp(&b.1.item_id))
        });
        items.truncate(query.limit);
        items
            .into_iter()
            .map(|(cosine, signal)| (cosine, Arc::clone(signal)))
            .collect()
    }
}

/// The order of what is found: the nearest first, ties by id.
fn before((score, known): &(f32, &Arc<Signal>), (other, signal): (f32, &Arc<Signal>)) -> bool {
    *score > other || (*score == other && known.item_id < signal.item_id)
}

/// The product of two vectors of length 1, in a fixed order: the same bits on every machine. `None`
/// where they are of two spaces.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> Option<f32> {
    const LANES: usize = 16;
    if a.len() != b.len() {
        return None;
    }
    // Sums that do not wait for each other, so that the loop becomes vector instructions.
    let mut sums = [0_f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    Some(sums.iter().sum::<f32>() + rest)
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
            let signals = table.matrix().rows().map(|(_, _, signal)| signal);
            let mut all: Vec<(f32, &str)> = signals
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
        assert!(nearest(&super::tests::table(1_100), &[query(1)], past, |_| true).is_err());
    }
}
