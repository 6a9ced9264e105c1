//! One tree of a model's text, checked: what remains can be evaluated without looking back.
//!
//! Decisions follow `Tree::NumericalDecision` and `Tree::CategoricalDecision` of LightGBM 4.7
//! (`include/LightGBM/tree.h`).

use std::ops::Range;

use crate::forest::error::ForestError;
use crate::forest::shape::Shape;
use crate::forest::text::{Place, Section};

/// Bits of `decision_type`: categorical, default left, and from the third on the missing type.
const CATEGORICAL: i32 = 1;
const DEFAULT_LEFT: i32 = 2;
const MISSING_SHIFT: u32 = 2;

#[derive(Debug)]
pub(super) struct TreeText {
    pub splits: Vec<Split>,
    /// Of each split; empty where the text has none.
    pub gains: Vec<f32>,
    pub shape: Shape,
    /// Of each leaf, shrinkage already in it.
    pub leaf_values: Vec<f64>,
    /// The category sets of all categorical splits: bit `c` of a set is category `c`.
    pub category_words: Vec<u32>,
}

/// Which child a row goes to.
#[derive(Debug)]
pub(super) enum Split {
    /// Left where the value is at most the threshold, which is not NaN.
    Numerical {
        feature: usize,
        threshold: f64,
        missing: MissingValues,
        default_left: bool,
    },
    /// Left where the value, cut to a whole number, is in the set; NaN and negatives go right.
    Categorical { feature: usize, words: Range<usize> },
}

impl Split {
    pub fn feature(&self) -> usize {
        match self {
            Self::Numerical { feature, .. } | Self::Categorical { feature, .. } => *feature,
        }
    }
}

/// Which values of a feature take a numerical split's default direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum MissingValues {
    /// None do: NaN is read as 0.
    None,
    /// 0 (up to 1e-35) and NaN.
    Zero,
    /// NaN.
    Nan,
}

impl TreeText {
    pub fn read(section: &Section<'_>, features: usize) -> Result<Self, ForestError> {
        let (place, leaves) = section.number("num_leaves")?;
        if leaves == 0 {
            return Err(place.malformed("`num_leaves` is 0"));
        }
        if let Some((place, linear)) = section.get("is_linear")
            && linear.trim() != "0"
        {
            return Err(
                place.unsupported("linear trees are not evaluated: train without `linear_tree`")
            );
        }
        let leaves = leaves as usize;
        let nodes = leaves - 1;
        let (place, leaf_values) = section.list::<f64>("leaf_value", leaves)?;
        if let Some(position) = leaf_values.iter().position(|value| !value.is_finite()) {
            return Err(place.malformed(format!("`leaf_value`[{position}] is not finite")));
        }
        if nodes == 0 {
            return Ok(Self {
                splits: Vec::new(),
                gains: Vec::new(),
                shape: Shape::single_leaf(),
                leaf_values,
                category_words: Vec::new(),
            });
        }
        let sets = CategorySets::read(section)?;
        let (place, left) = section.list::<i32>("left_child", nodes)?;
        let (_, right) = section.list::<i32>("right_child", nodes)?;
        let shape = Shape::of(&left, &right).map_err(|reason| place.malformed(reason))?;
        let gains = match section.get("split_gain") {
            Some(_) => section.list::<f32>("split_gain", nodes)?.1,
            None => Vec::new(),
        };
        Ok(Self {
            splits: read_splits(section, nodes, features, &sets)?,
            gains,
            shape,
            leaf_values,
            category_words: sets.words,
        })
    }
}

fn read_splits(
    section: &Section<'_>,
    nodes: usize,
    features: usize,
    sets: &CategorySets,
) -> Result<Vec<Split>, ForestError> {
    let (feature_place, split_features) = section.list::<usize>("split_feature", nodes)?;
    let (threshold_place, thresholds) = section.list::<f64>("threshold", nodes)?;
    let (decision_place, decisions) = match section.get("decision_type") {
        Some(_) => section.list::<i32>("decision_type", nodes)?,
        None => (section.place(), vec![0; nodes]),
    };
    let mut splits = Vec::with_capacity(nodes);
    for (node, feature) in split_features.into_iter().enumerate() {
        if feature >= features {
            return Err(feature_place.malformed(format!(
                "`split_feature`[{node}] is {feature}, but there are {features} features"
            )));
        }
        let (threshold, decision) = (thresholds[node], decisions[node]);
        if threshold.is_nan() {
            return Err(threshold_place.malformed(format!("`threshold`[{node}] is NaN")));
        }
        splits.push(if decision & CATEGORICAL != 0 {
            Split::Categorical {
                feature,
                words: sets.words_of(node, threshold, threshold_place)?,
            }
        } else {
            Split::Numerical {
                feature,
                threshold,
                missing: missing_values(decision).ok_or_else(|| {
                    decision_place.malformed(format!("`decision_type`[{node}] is {decision}"))
                })?,
                default_left: decision & DEFAULT_LEFT != 0,
            }
        });
    }
    Ok(splits)
}

fn missing_values(decision: i32) -> Option<MissingValues> {
    match decision >> MISSING_SHIFT {
        0 => Some(MissingValues::None),
        1 => Some(MissingValues::Zero),
        2 => Some(MissingValues::Nan),
        _ => None,
    }
}

/// `cat_boundaries` and `cat_threshold`: bit sets one after the other.
struct CategorySets {
    boundaries: Vec<usize>,
    words: Vec<u32>,
}

impl CategorySets {
    fn read(section: &Section<'_>) -> Result<Self, ForestError> {
        let (_, sets) = section.number("num_cat")?;
        if sets == 0 {
            return Ok(Self {
                boundaries: Vec::new(),
                words: Vec::new(),
            });
        }
        let (place, boundaries) = section.list::<usize>("cat_boundaries", sets as usize + 1)?;
        if boundaries[0] != 0 || !boundaries.is_sorted() {
            return Err(place.malformed("`cat_boundaries` does not rise from 0"));
        }
        let length = boundaries[sets as usize];
        let (_, words) = section.list::<u32>("cat_threshold", length)?;
        Ok(Self { boundaries, words })
    }

    /// The words of the set that a categorical split names in place of a threshold.
    fn words_of(
        &self,
        node: usize,
        threshold: f64,
        place: Place<'_>,
    ) -> Result<Range<usize>, ForestError> {
        let sets = self.boundaries.len().saturating_sub(1);
        if threshold < 0.0 || threshold >= sets as f64 || threshold.fract() != 0.0 {
            return Err(place.malformed(format!(
                "`threshold`[{node}] names category set {threshold}, but there are {sets}"
            )));
        }
        let set = threshold as usize;
        Ok(self.boundaries[set]..self.boundaries[set + 1])
    }
}
