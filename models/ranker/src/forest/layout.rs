//! A model laid out for the evaluator: what one block of rows reads lies in the order it is read.
//!
//! A tree of up to 32 leaves is evaluated by *all* its splits and no branch, as in QuickScorer
//! (Lucchese et al., SIGIR 2015): number the leaves from left to right and start with a bit for each; a
//! split that sends the row right clears the bits of its left subtree; the lowest bit that is left is
//! the leaf. Taking a split is a comparison and an AND, the same for every row, so a register holds
//! as many rows as it has lanes. Walking from node to node instead mispredicts about every other
//! branch. Larger trees are walked: there most splits are off the path.
//!
//! Missing values cost the splits nothing: they are resolved once a block, when a feature's values
//! are copied into a [`Column`] as a value that each comparison answers as LightGBM would. Category
//! sets are turned round, 32 of a feature together ([`Group`]): a row looks up its category once for
//! all of them, and a split tests one bit of the answer.

use std::ops::Range;

use crate::forest::error::ForestError;
use crate::forest::shape::Child;
use crate::forest::text::ModelText;
use crate::forest::tree_text::{MissingValues, Split, TreeText};

/// Most leaves of a tree that is evaluated by its masks: one bit each.
const MASK_LEAVES: usize = u32::BITS as usize;

/// Most memory that the category sets may take, turned round. A model of 1,000 splits on a million
/// categories needs half; beyond, categories are numbered with gaps, or the file is hostile.
const GROUPS_LIMIT_BYTES: usize = 256 << 20;

/// 1e-35 as LightGBM has it, a single-precision constant: what counts as zero.
const ZERO_THRESHOLD: f32 = 1e-35;

#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub columns: Vec<Column>,
    /// Features that some split reads as a category.
    pub categories: Vec<usize>,
    pub trees: Vec<Tree>,
    pub comparisons: Vec<Comparison>,
    pub memberships: Vec<Membership>,
    pub groups: Vec<Group>,
    pub nodes: Vec<Node>,
    pub leaf_values: Vec<f64>,
    /// The category sets of trees that are walked: bit `c` of a set is category `c`.
    pub category_words: Vec<u32>,
    /// What the sum of the leaves is divided by.
    pub divisor: f64,
}

/// A feature under one rule for missing values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub feature: usize,
    pub rule: Rule,
}

/// What a value becomes, so that `value <= threshold` sends the row where LightGBM sends it: −∞ is
/// at most any threshold, NaN at most none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    NanIsZero,
    NanGoesLeft,
    NanGoesRight,
    ZeroAndNanGoLeft,
    ZeroAndNanGoRight,
}

impl Rule {
    fn of(missing: MissingValues, default_left: bool) -> Self {
        match (missing, default_left) {
            (MissingValues::None, _) => Self::NanIsZero,
            (MissingValues::Nan, true) => Self::NanGoesLeft,
            (MissingValues::Nan, false) => Self::NanGoesRight,
            (MissingValues::Zero, true) => Self::ZeroAndNanGoLeft,
            (MissingValues::Zero, false) => Self::ZeroAndNanGoRight,
        }
    }

    #[inline(always)]
    pub fn resolve(self, value: f32) -> f32 {
        // LightGBM leaves what counts as zero out of a dense row, and so reads it as 0.
        let value = if value.abs() <= ZERO_THRESHOLD {
            0.0
        } else {
            value
        };
        let nan = value.is_nan();
        let missing = nan || value == 0.0;
        match self {
            Self::NanIsZero if nan => 0.0,
            Self::NanGoesLeft if nan => f32::NEG_INFINITY,
            Self::ZeroAndNanGoLeft if missing => f32::NEG_INFINITY,
            Self::ZeroAndNanGoRight if missing => f32::NAN,
            _ => value,
        }
    }
}

/// A tree: ranges of the layout's tables.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    Masks {
        comparisons: Range<usize>,
        memberships: Range<usize>,
        /// From left to right.
        leaf_values: Range<usize>,
    },
    Walk {
        nodes: Range<usize>,
        /// In LightGBM's numbering.
        leaf_values: Range<usize>,
    },
}

/// A numerical split of a tree with masks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Comparison {
    pub threshold: f32,
    pub column: u32,
    /// The leaves that remain when the row goes right.
    pub keep: u32,
}

/// A categorical split of a tree with masks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Membership {
    /// Position in [`Layout::groups`].
    pub group: u32,
    /// The one bit of the group's answer that is this split's.
    pub bit: u32,
    /// The leaves that remain when the row goes right.
    pub keep: u32,
}

/// Up to 32 category sets of one feature, turned round.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// Position in [`Layout::categories`].
    pub category: usize,
    /// Of each category the sets that hold it, a bit each; beyond the last one no set holds any.
    pub sets_with: Vec<u32>,
    sets: u32,
}

/// A node of a tree that is walked.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub test: Test,
    /// Left and right.
    pub children: [Child; 2],
}

#[derive(Clone, Debug)]
pub(super) enum Test {
    AtMost {
        column: usize,
        threshold: f32,
    },
    In {
        category: usize,
        words: Range<usize>,
    },
}

impl Layout {
    pub fn of(model: &ModelText) -> Result<Self, ForestError> {
        let mut layout = Self {
            columns: Vec::new(),
            categories: Vec::new(),
            trees: Vec::with_capacity(model.trees.len()),
            comparisons: Vec::new(),
            memberships: Vec::new(),
            groups: Vec::new(),
            nodes: Vec::new(),
            leaf_values: Vec::new(),
            category_words: Vec::new(),
            divisor: if model.average_output {
                model.trees.len() as f64
            } else {
                1.0
            },
        };
        for tree in &model.trees {
            if tree.leaf_values.len() <= MASK_LEAVES {
                layout.add_masked(tree)?;
            } else {
                layout.add_walked(tree);
            }
        }
        Ok(layout)
    }

    pub fn trees(&self) -> usize {
        self.trees.len()
    }

    fn add_masked(&mut self, tree: &TreeText) -> Result<(), ForestError> {
        let comparisons = self.comparisons.len();
        let memberships = self.memberships.len();
        for (split, left) in tree.splits.iter().zip(&tree.shape.left_leaves) {
            let keep = keep_without(*left);
            match self.test(split, 0) {
                Test::AtMost { column, threshold } => self.comparisons.push(Comparison {
                    threshold,
                    column: column as u32,
                    keep,
                }),
                Test::In { category, words } => {
                    let (group, bit) = self.group(category, &tree.category_words[words])?;
                    self.memberships.push(Membership { group, bit, keep });
                }
            }
        }
        let first_leaf = self.leaf_values.len();
        let from_left = tree.shape.leaves.iter();
        self.leaf_values
            .extend(from_left.map(|leaf| tree.leaf_values[*leaf]));
        self.trees.push(Tree::Masks {
            comparisons: comparisons..self.comparisons.len(),
            memberships: memberships..self.memberships.len(),
            leaf_values: first_leaf..self.leaf_values.len(),
        });
        Ok(())
    }

    fn add_walked(&mut self, tree: &TreeText) {
        let first_word = self.category_words.len();
        self.category_words.extend(&tree.category_words);
        let (first_node, first_leaf) = (self.nodes.len(), self.leaf_values.len());
        for (split, children) in tree.splits.iter().zip(&tree.shape.children) {
            let test = self.test(split, first_word);
            let children = *children;
            self.nodes.push(Node { test, children });
        }
        self.leaf_values.extend(&tree.leaf_values);
        self.trees.push(Tree::Walk {
            nodes: first_node..self.nodes.len(),
            leaf_values: first_leaf..self.leaf_values.len(),
        });
    }

    /// Puts a set into the feature's last group, or a new one; returns the group and the set's bit.
    fn group(&mut self, category: usize, words: &[u32]) -> Result<(u32, u32), ForestError> {
        let open = |group: &Group| group.category == category;
        let last = self.groups.iter().rposition(open);
        let position = match last.filter(|last| self.groups[*last].sets < u32::BITS) {
            Some(position) => position,
            None => {
                self.groups.push(Group {
                    category,
                    sets_with: Vec::new(),
                    sets: 0,
                });
                self.groups.len() - 1
            }
        };
        let others: usize = self.groups.iter().map(|group| group.sets_with.len()).sum();
        let group = &mut self.groups[position];
        let categories = group.sets_with.len().max(words.len() * 32);
        let bytes = (others - group.sets_with.len() + categories) * size_of::<u32>();
        if bytes > GROUPS_LIMIT_BYTES {
            return Err(ForestError::CategorySets {
                limit_mebibytes: GROUPS_LIMIT_BYTES >> 20,
            });
        }
        let bit = 1 << group.sets;
        group.sets += 1;
        group.sets_with.resize(categories, 0);
        let bits = words
            .iter()
            .flat_map(|word| (0..32).map(move |bit| word >> bit & 1));
        for (sets, inside) in group.sets_with.iter_mut().zip(bits) {
            *sets |= inside * bit;
        }
        Ok((position as u32, bit))
    }

    fn test(&mut self, split: &Split, first_word: usize) -> Test {
        match split {
            Split::Numerical {
                feature,
                threshold,
                missing,
                default_left,
            } => Test::AtMost {
                column: position_or_push(
                    &mut self.columns,
                    Column {
                        feature: *feature,
                        rule: Rule::of(*missing, *default_left),
                    },
                ),
                threshold: at_most(*threshold),
            },
            Split::Categorical { feature, words } => Test::In {
                category: position_or_push(&mut self.categories, *feature),
                words: first_word + words.start..first_word + words.end,
            },
        }
    }
}

fn position_or_push<T: PartialEq>(list: &mut Vec<T>, wanted: T) -> usize {
    match list.iter().position(|item| *item == wanted) {
        Some(position) => position,
        None => {
            list.push(wanted);
            list.len() - 1
        }
    }
}

/// The greatest single-precision number that is at most the threshold: for a single-precision value
/// the comparison with either has the same result. The threshold is not NaN.
fn at_most(threshold: f64) -> f32 {
    let nearest = threshold as f32;
    if f64::from(nearest) > threshold {
        nearest.next_down()
    } else {
        nearest
    }
}

/// All leaves but those from `first` up to `end`, which is at most 32.
fn keep_without((first, end): (usize, usize)) -> u32 {
    let below = |position: usize| ((1u64 << position) - 1) as u32;
    !(below(end) & !below(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rounded_threshold_decides_every_single_precision_value_alike() {
        let next = |value: f32| [value.next_down(), value, value.next_up()];
        for threshold in [
            0.1,
            -0.1,
            1e300,
            -1e300,
            f64::INFINITY,
            f64::NEG_INFINITY,
            1.000_000_018_002_509_5e-35,
            1e-60,
            -1e-60,
            0.0,
            -0.0,
            f64::from(f32::MAX) * 1.000_000_01,
        ] {
            let rounded = at_most(threshold);
            for value in next(rounded).into_iter().chain(next(threshold as f32)) {
                assert_eq!(
                    f64::from(value) <= threshold,
                    value <= rounded,
                    "{value} and {threshold}"
                );
            }
        }
    }

    #[test]
    fn masks_clear_the_left_subtree() {
        assert_eq!(keep_without((0, 1)), !1);
        assert_eq!(keep_without((2, 4)), !0b1100);
        assert_eq!(keep_without((0, 31)), 1 << 31);
        assert_eq!(keep_without((31, 32)), u32::MAX >> 1);
    }
}
