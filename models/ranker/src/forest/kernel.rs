//! Scores rows, one block of lanes at a time.
//!
//! Plain loops over lanes, compiled once for AVX-512, once for AVX2 and once for neither; `pulp` picks
//! at run time. A block's scores are summed in the order of the trees, as LightGBM does.

use pulp::{Simd, WithSimd};

use crate::forest::layout::{Comparison, Layout, Membership, Node, Test, Tree};
use crate::forest::shape::Child;

/// Rows of a block: one AVX-512 register of single-precision values, or two of AVX2.
const LANES: usize = 16;

type Values = [f32; LANES];
/// Of each row a category, or [`NO_CATEGORY`].
type Categories = [u32; LANES];
/// Of each row the sets of a group that hold its category, a bit each.
type Sets = [u32; LANES];
/// Is in no set.
const NO_CATEGORY: u32 = u32::MAX;

/// Scores rows in the layout's order.
pub(super) struct Evaluate<'a> {
    pub layout: &'a Layout,
    /// Values of a row.
    pub features: usize,
    pub rows: &'a [f32],
    /// One a row, to be written.
    pub scores: &'a mut [f64],
}

impl WithSimd for Evaluate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let mut block = Block::new(self.layout);
        let blocks = self.rows.chunks(LANES * self.features);
        for (rows, scores) in blocks.zip(self.scores.chunks_mut(LANES)) {
            block.load(self.layout, rows, self.features);
            let sums = block.sums(self.layout, scores.len());
            for (score, sum) in scores.iter_mut().zip(sums) {
                *score = sum / self.layout.divisor;
            }
        }
    }
}

/// What the splits ask of a block's rows.
struct Block {
    /// Of each column.
    values: Vec<Values>,
    /// Of each categorical feature.
    categories: Vec<Categories>,
    /// Of each group, the sets that hold the row's category.
    sets: Vec<Sets>,
}

impl Block {
    #[inline(always)]
    fn new(layout: &Layout) -> Self {
        Self {
            values: vec![[0.0; LANES]; layout.columns.len()],
            categories: vec![[NO_CATEGORY; LANES]; layout.categories.len()],
            sets: vec![[0; LANES]; layout.groups.len()],
        }
    }

    /// Reads up to [`LANES`] rows. Lanes beyond the last one keep what an earlier block left there:
    /// their sums are thrown away.
    #[inline(always)]
    fn load(&mut self, layout: &Layout, rows: &[f32], features: usize) {
        for (column, values) in layout.columns.iter().zip(&mut self.values) {
            let read = rows[column.feature..].iter().step_by(features);
            for (value, read) in values.iter_mut().zip(read) {
                *value = column.rule.resolve(*read);
            }
        }
        for (feature, categories) in layout.categories.iter().zip(&mut self.categories) {
            let read = rows[*feature..].iter().step_by(features);
            for (category, read) in categories.iter_mut().zip(read) {
                *category = category_of(*read);
            }
        }
        for (group, sets) in layout.groups.iter().zip(&mut self.sets) {
            for (sets, category) in sets.iter_mut().zip(&self.categories[group.category]) {
                let with = group.sets_with.get(*category as usize);
                *sets = with.copied().unwrap_or(0);
            }
        }
    }

    /// Sums of the leaves that the first `rows` lanes end in.
    #[inline(always)]
    fn sums(&self, layout: &Layout, rows: usize) -> [f64; LANES] {
        let mut sums = [0.0; LANES];
        for tree in &layout.trees {
            match tree {
                Tree::Masks {
                    comparisons,
                    memberships,
                    leaf_values,
                } => {
                    let leaves = &layout.leaf_values[leaf_values.clone()];
                    let mut exits = [u32::MAX; LANES];
                    compare(
                        &mut exits,
                        &layout.comparisons[comparisons.clone()],
                        &self.values,
                    );
                    look_up(
                        &mut exits,
                        &layout.memberships[memberships.clone()],
                        &self.sets,
                    );
                    for (sum, exit) in sums.iter_mut().zip(exits) {
                        *sum += leaves[exit.trailing_zeros() as usize];
                    }
                }
                Tree::Walk { nodes, leaf_values } => {
                    let leaves = &layout.leaf_values[leaf_values.clone()];
                    let nodes = &layout.nodes[nodes.clone()];
                    for (lane, sum) in sums.iter_mut().enumerate().take(rows) {
                        *sum += leaves[self.walk(nodes, lane, &layout.category_words)];
                    }
                }
            }
        }
        sums
    }

    /// The leaf that one lane's row ends in.
    fn walk(&self, nodes: &[Node], lane: usize, words: &[u32]) -> usize {
        let mut node = 0;
        loop {
            let Node { test, children } = &nodes[node];
            let left = match test {
                Test::AtMost { column, threshold } => self.values[*column][lane] <= *threshold,
                Test::In {
                    category,
                    words: set,
                } => contains(&words[set.clone()], self.categories[*category][lane]),
            };
            match children[usize::from(!left)] {
                Child::Node(next) => node = next,
                Child::Leaf(leaf) => return leaf,
            }
        }
    }
}

/// Clears the leaves of each lane that its values rule out.
#[inline(always)]
fn compare(exits: &mut [u32; LANES], comparisons: &[Comparison], values: &[Values]) {
    for comparison in comparisons {
        let values = &values[comparison.column as usize];
        for lane in 0..LANES {
            exits[lane] &= all_if(values[lane] <= comparison.threshold) | comparison.keep;
        }
    }
}

/// Clears the leaves of each lane that its categories rule out.
#[inline(always)]
fn look_up(exits: &mut [u32; LANES], memberships: &[Membership], sets: &[Sets]) {
    for membership in memberships {
        let sets = &sets[membership.group as usize];
        for lane in 0..LANES {
            exits[lane] &= all_if(sets[lane] & membership.bit != 0) | membership.keep;
        }
    }
}

/// Every bit or none. With an `if` in its place the compiler branches, lane by lane.
#[inline(always)]
fn all_if(condition: bool) -> u32 {
    u32::from(condition).wrapping_neg()
}

#[inline(always)]
fn contains(words: &[u32], category: u32) -> bool {
    let word = words.get((category / u32::BITS) as usize);
    word.copied().unwrap_or(0) >> (category % u32::BITS) & 1 == 1
}

/// As LightGBM casts a value: cut to a whole number; NaN and negatives are in no set.
#[inline(always)]
fn category_of(value: f32) -> u32 {
    // −0.5 is cut to 0. Beyond `i32` the cast saturates, and no set reaches so far.
    let category = value as i32;
    if value.is_nan() || category < 0 {
        NO_CATEGORY
    } else {
        category as u32
    }
}

#[cfg(test)]
mod tests {
    use pulp::{Arch, Scalar};

    use super::*;
    use crate::forest::text::ModelText;

    #[test]
    fn every_kind_of_machine_computes_the_same() {
        let model = ModelText::parse(include_str!("../../tests/data/tiny.txt")).unwrap();
        let layout = Layout::of(&model).unwrap();
        let special = [f32::NAN, 0.0, 0.5, 0.6, 1.0, 2.0, 33.0, -1.0, 1e9];
        let rows: Vec<f32> = (0..200)
            .map(|value| special[value * value % special.len()])
            .collect();
        let scores = |evaluate: fn(Evaluate<'_>)| {
            let mut scores = vec![0.0; rows.len() / 2];
            evaluate(Evaluate {
                layout: &layout,
                features: 2,
                rows: &rows,
                scores: &mut scores,
            });
            scores
        };
        let plain = scores(|evaluate| evaluate.with_simd(Scalar::new()));
        assert_eq!(scores(|evaluate| Arch::new().dispatch(evaluate)), plain);
        #[cfg(target_arch = "x86_64")]
        if pulp::x86::V3::is_available() {
            let avx2 = |evaluate: Evaluate<'_>| {
                if let Some(simd) = pulp::x86::V3::try_new() {
                    Simd::vectorize(simd, evaluate);
                }
            };
            assert_eq!(scores(avx2), plain);
        }
    }
}
