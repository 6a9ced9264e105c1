//! Ranks before anything was learnt: a weighted sum of features.

use crate::forest::RowsError;

/// A weighted mean of features, each scaled over the candidates of one request.
///
/// A feature goes from 0 at its worst value among the candidates to 1 at its best, so that features
/// of any unit add up by their weights alone (min-max, as the hybrid search does); a weight below 0
/// says that small values are better, as of an age. A missing value (NaN) counts as the worst, and a
/// feature that all candidates share says nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedDefault {
    features: usize,
    /// Position and weight of the features that count; the weights' sizes sum to 1.
    weights: Vec<(usize, f64)>,
}

/// Weights that make no ranker.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
pub enum WeightsError {
    /// A weight is for a feature that is not computed.
    #[error("weight of unknown feature `{feature}`; known: {known}")]
    UnknownFeature {
        /// The feature.
        feature: String,
        /// The features that are computed.
        known: String,
    },
    /// A feature has two weights.
    #[error("feature `{feature}` has two weights")]
    Twice {
        /// The feature.
        feature: String,
    },
    /// A weight is NaN or infinite.
    #[error("weight of feature `{feature}` is {weight}, not a finite number")]
    NotFinite {
        /// The feature.
        feature: String,
        /// The weight.
        weight: f64,
    },
    /// All weights are 0, or there are none.
    #[error("no feature has a weight other than 0")]
    NoWeight,
}

impl WeightedDefault {
    /// A ranker of rows with these features, in a row's order. Features without a weight count
    /// nothing; only the ratios of weights matter.
    ///
    /// # Errors
    /// [`WeightsError`], naming the feature.
    pub fn new<N: AsRef<str>>(
        feature_names: &[N],
        weights: &[(&str, f64)],
    ) -> Result<Self, WeightsError> {
        let mut positioned: Vec<(usize, f64)> = Vec::new();
        for &(feature, weight) in weights {
            let position = feature_names
                .iter()
                .position(|name| name.as_ref() == feature);
            let feature = || feature.to_owned();
            let Some(position) = position else {
                let names: Vec<&str> = feature_names.iter().map(AsRef::as_ref).collect();
                return Err(WeightsError::UnknownFeature {
                    feature: feature(),
                    known: names.join(", "),
                });
            };
            if positioned.iter().any(|(other, _)| *other == position) {
                return Err(WeightsError::Twice { feature: feature() });
            }
            if !weight.is_finite() {
                let feature = feature();
                return Err(WeightsError::NotFinite { feature, weight });
            }
            positioned.push((position, weight));
        }
        positioned.retain(|(_, weight)| *weight != 0.0);
        let greatest = positioned
            .iter()
            .map(|(_, weight)| weight.abs())
            .fold(0.0, f64::max);
        if greatest == 0.0 {
            return Err(WeightsError::NoWeight);
        }
        // By the greatest first: a sum of huge weights would be infinite.
        let total: f64 = positioned
            .iter()
            .map(|(_, weight)| (weight / greatest).abs())
            .sum();
        for (_, weight) in &mut positioned {
            *weight = *weight / greatest / total;
        }
        Ok(Self {
            features: feature_names.len(),
            weights: positioned,
        })
    }

    /// Scores, 0 to 1, of the candidates of one request, whose rows lie one after the other.
    ///
    /// # Errors
    /// [`RowsError`] when `rows` is no whole number of rows.
    pub fn score(&self, rows: &[f32]) -> Result<Vec<f64>, RowsError> {
        RowsError::check(rows.len(), self.features)?;
        let mut scores = vec![0.0; rows.len() / self.features];
        for &(position, weight) in &self.weights {
            let values = || {
                let column = rows.iter().skip(position).step_by(self.features);
                // An infinite value would make every other one the worst.
                column.map(|value| f64::from(value.clamp(f32::MIN, f32::MAX)))
            };
            let least = values().fold(f64::INFINITY, f64::min);
            let range = values().fold(f64::NEG_INFINITY, f64::max) - least;
            if range <= 0.0 || !range.is_finite() {
                continue;
            }
            for (score, value) in scores.iter_mut().zip(values()) {
                if !value.is_nan() {
                    let scaled = (value - least) / range;
                    let share = if weight > 0.0 { scaled } else { 1.0 - scaled };
                    *score += weight.abs() * share;
                }
            }
        }
        Ok(scores)
    }

    /// Values of a row.
    #[must_use]
    pub fn features(&self) -> usize {
        self.features
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_of_any_unit_add_up_by_their_weights() {
        let ranker = WeightedDefault::new(
            &["clicks", "unused", "age_hours"],
            &[("age_hours", -1.0), ("clicks", 3.0)],
        )
        .unwrap();
        let missing = f32::NAN;
        let rows = [
            [1000.0, 5.0, 10.0],
            [0.0, 5.0, 0.0],
            [500.0, 5.0, missing],
            [missing, missing, 10.0],
        ];
        let scores = ranker.score(rows.as_flattened()).unwrap();
        assert_eq!(scores, [0.75, 0.25, 0.375, 0.0]);
        assert_eq!(ranker.score(&[]), Ok(vec![]));
        assert!(ranker.score(&[1.0]).is_err());
    }

    #[test]
    fn what_all_share_says_nothing_and_infinities_stay_finite() {
        let ranker = WeightedDefault::new(&["a"], &[("a", 1e308)]).unwrap();
        assert_eq!(ranker.score(&[7.0, 7.0]), Ok(vec![0.0, 0.0]));
        assert_eq!(ranker.score(&[f32::NAN, f32::NAN]), Ok(vec![0.0, 0.0]));
        let scores = ranker.score(&[f32::INFINITY, 0.0, f32::NEG_INFINITY]);
        assert_eq!(scores, Ok(vec![1.0, 0.5, 0.0]));
    }

    #[test]
    fn weights_without_sense_are_refused() {
        let complaint = |weights: &[(&str, f64)]| {
            let refused = WeightedDefault::new(&["a", "b"], weights);
            refused.unwrap_err().to_string()
        };
        assert_eq!(complaint(&[]), "no feature has a weight other than 0");
        assert_eq!(
            complaint(&[("a", 0.0)]),
            "no feature has a weight other than 0"
        );
        assert_eq!(
            complaint(&[("c", 1.0)]),
            "weight of unknown feature `c`; known: a, b"
        );
        assert!(complaint(&[("a", f64::NAN)]).contains("NaN"));
        assert!(complaint(&[("a", 1.0), ("a", 2.0)]).contains("two weights"));
    }
}
