//! What is learnt from: queries, and for each candidate that was ranked its features and its grade.

use crate::lightgbm::Dataset;

/// The greatest grade: LightGBM's gain of a grade is 2^grade − 1, and it keeps 31 gains.
const GREATEST_GRADE: u8 = 30;

/// Characters that LightGBM refuses in feature names, because it writes them into JSON.
const FORBIDDEN_IN_NAMES: &str = "\",:[]{}";

/// Queries in the order they were added, all with the same features.
#[derive(Clone, Debug)]
pub struct TrainingSet {
    feature_names: Vec<String>,
    categorical: Vec<usize>,
    rows: Vec<f32>,
    labels: Vec<f32>,
    weights: Vec<f32>,
    positions: Vec<i32>,
    groups: Vec<i32>,
    weighted: Option<bool>,
    positioned: Option<bool>,
}

/// One query: the candidates that were ranked together.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Feature rows one after the other, NaN for what is missing. A category is a whole number from
    /// 0, and LightGBM learns best from small ones.
    pub rows: &'a [f32],
    /// Relevance of each row, 0 for none and at most 30; a grade gains 2^grade − 1.
    pub grades: &'a [u8],
    /// Where each row was shown, from 0. LightGBM estimates how much a place alone earned and takes
    /// it out of the lambdas; it is no feature and not needed to score.
    pub positions: Option<&'a [u32]>,
    /// How much each row counts.
    pub weights: Option<&'a [f32]>,
}

/// Why a training set can't be built or learnt from.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum TrainingSetError {
    /// There are no features.
    #[error("a training set needs at least one feature")]
    NoFeatures,
    /// A feature's name can't be written into a model.
    #[error("feature name {name:?} {reason}")]
    FeatureName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A categorical feature is not among the features.
    #[error("categorical feature `{name}` is not among the features")]
    UnknownCategorical {
        /// The name.
        name: String,
    },
    /// A query does not fit the set or itself.
    #[error("query {query}: {reason}")]
    Query {
        /// The query's position, from 0.
        query: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// There is nothing to learn or to measure.
    #[error("the {set} set {reason}")]
    Useless {
        /// `training` or `validation`.
        set: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// Training and validation have other features.
    #[error(
        "the validation set has other features than the training set: feature {position} is \
         {validation} instead of {training}"
    )]
    OtherFeatures {
        /// Position of the first difference.
        position: usize,
        /// The training set's feature there, quoted, or `none`.
        training: String,
        /// The validation set's.
        validation: String,
    },
}

impl TrainingSet {
    /// An empty set with these features, of which some are categories.
    ///
    /// # Errors
    /// No features, a name twice or with characters that a model can't hold, or a categorical
    /// feature that is none of them.
    pub fn new<S: AsRef<str>>(
        feature_names: &[S],
        categorical: &[S],
    ) -> Result<Self, TrainingSetError> {
        let mut names: Vec<String> = Vec::with_capacity(feature_names.len());
        for name in feature_names.iter().map(AsRef::as_ref) {
            if let Some(reason) = unfit(name, &names) {
                let name = name.to_owned();
                return Err(TrainingSetError::FeatureName { name, reason });
            }
            names.push(name.to_owned());
        }
        if names.is_empty() {
            return Err(TrainingSetError::NoFeatures);
        }
        let categorical = categorical
            .iter()
            .map(|category| {
                let found = names.iter().position(|name| name == category.as_ref());
                found.ok_or_else(|| TrainingSetError::UnknownCategorical {
                    name: category.as_ref().to_owned(),
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            feature_names: names,
            categorical,
            rows: Vec::new(),
            labels: Vec::new(),
            weights: Vec::new(),
            positions: Vec::new(),
            groups: Vec::new(),
            weighted: None,
            positioned: None,
        })
    }

    /// Adds a query.
    ///
    /// # Errors
    /// It is empty; its parts are of different lengths; a grade is beyond 30; a feature is infinite
    /// or a category negative; a weight is not a number from 0; or only some queries have positions
    /// or weights. The set stays as it was.
    pub fn push(&mut self, query: &Query<'_>) -> Result<(), TrainingSetError> {
        self.check(query)
            .map_err(|reason| TrainingSetError::Query {
                query: self.groups.len(),
                reason,
            })?;
        self.rows.extend(query.rows);
        self.labels
            .extend(query.grades.iter().map(|&grade| f32::from(grade)));
        self.weights.extend(query.weights.unwrap_or_default());
        let positions = query.positions.unwrap_or_default();
        // Positions are labels to LightGBM: the cast need not keep their order.
        self.positions
            .extend(positions.iter().map(|&place| place as i32));
        self.groups.push(query.grades.len() as i32);
        self.weighted = Some(query.weights.is_some());
        self.positioned = Some(query.positions.is_some());
        Ok(())
    }

    fn check(&self, query: &Query<'_>) -> Result<(), String> {
        let (features, rows) = (self.feature_names.len(), query.grades.len());
        if rows == 0 {
            return Err("it has no rows".to_owned());
        }
        if query.rows.len() != rows * features {
            let values = query.rows.len();
            return Err(format!(
                "{values} feature values for {rows} grades; {features} features a row were declared"
            ));
        }
        // LightGBM counts rows, and rows of a query, in 31 bits.
        if i32::try_from(self.labels.len() + rows).is_err() {
            return Err("the set would have more than 2,147,483,647 rows".to_owned());
        }
        if let Some(row) = query
            .grades
            .iter()
            .position(|&grade| grade > GREATEST_GRADE)
        {
            let grade = query.grades[row];
            return Err(format!(
                "row {row} has grade {grade}; the greatest is {GREATEST_GRADE}"
            ));
        }
        if let Some(value) = query.rows.iter().position(|value| value.is_infinite()) {
            let (row, name) = (value / features, &self.feature_names[value % features]);
            return Err(format!(
                "row {row}: feature `{name}` is infinite; a missing value is NaN"
            ));
        }
        for &feature in &self.categorical {
            let values = query.rows.iter().skip(feature).step_by(features);
            if let Some((row, value)) = values.enumerate().find(|(_, value)| !is_category(**value))
            {
                let name = &self.feature_names[feature];
                return Err(format!(
                    "row {row}: category `{name}` is {value}; a category is a whole number from 0, \
                     or NaN"
                ));
            }
        }
        let lengths = [
            (
                "positions",
                query.positions.map(<[u32]>::len),
                self.positioned,
            ),
            ("weights", query.weights.map(<[f32]>::len), self.weighted),
        ];
        for (what, length, before) in lengths {
            if length.is_some_and(|length| length != rows) {
                return Err(format!("it has {rows} rows and another number of {what}"));
            }
            if before.is_some_and(|before| before != length.is_some()) {
                return Err(format!("either all queries have {what} or none has"));
            }
        }
        let weights = query.weights.unwrap_or_default();
        match weights
            .iter()
            .position(|weight| !(weight.is_finite() && *weight >= 0.0))
        {
            Some(row) => Err(format!("row {row} has weight {}", weights[row])),
            None => Ok(()),
        }
    }

    /// Number of queries.
    #[must_use]
    pub fn queries(&self) -> usize {
        self.groups.len()
    }

    /// Names of the features, in a row's order.
    #[must_use]
    pub fn feature_names(&self) -> &[String] {
        &self.feature_names
    }

    pub(super) fn categorical(&self) -> &[usize] {
        &self.categorical
    }

    /// Checks that some query prefers one row over another.
    pub(super) fn check_learnable(&self) -> Result<(), TrainingSetError> {
        let useless = |reason| {
            Err(TrainingSetError::Useless {
                set: "training",
                reason,
            })
        };
        let Some(first) = self.labels.first() else {
            return useless("is empty");
        };
        if self.labels.iter().all(|label| label == first) {
            return useless("has one grade only: there is no order to learn");
        }
        let prefers = |labels: &[f32]| labels.iter().any(|label| *label != labels[0]);
        if !self.queries_of(&self.labels).any(prefers) {
            return useless("has no query with two grades: there is no order to learn");
        }
        Ok(())
    }

    /// Checks that the order of this set's rows can be measured by features of `training`.
    pub(super) fn check_validates(&self, training: &Self) -> Result<(), TrainingSetError> {
        if self.labels.iter().all(|label| *label == 0.0) {
            return Err(TrainingSetError::Useless {
                set: "validation",
                reason: "has no grade above 0: there is nothing to measure",
            });
        }
        let quoted = |names: &[String], position: usize| {
            let name = names.get(position);
            name.map_or_else(|| "none".to_owned(), |name| format!("`{name}`"))
        };
        for position in 0..self.feature_names.len().max(training.feature_names.len()) {
            let ours = quoted(&self.feature_names, position);
            let theirs = quoted(&training.feature_names, position);
            if ours != theirs {
                return Err(TrainingSetError::OtherFeatures {
                    position,
                    training: theirs,
                    validation: ours,
                });
            }
        }
        Ok(())
    }

    /// A value a row, cut into queries.
    fn queries_of<'a, T>(&self, mut rows: &'a [T]) -> impl Iterator<Item = &'a [T]> {
        self.groups.iter().map(move |&length| {
            let (query, rest) = rows.split_at(length as usize);
            rows = rest;
            query
        })
    }

    /// The grades of each query with a score of each row.
    pub(super) fn graded<'a>(
        &'a self,
        scores: &'a [f64],
    ) -> impl Iterator<Item = (Vec<u8>, &'a [f64])> {
        self.queries_of(&self.labels)
            .zip(self.queries_of(scores))
            .map(|(labels, scores)| (labels.iter().map(|label| *label as u8).collect(), scores))
    }

    pub(super) fn dataset(&self) -> Dataset<'_> {
        Dataset {
            rows: &self.rows,
            feature_names: &self.feature_names,
            labels: &self.labels,
            weights: (!self.weights.is_empty()).then_some(&self.weights),
            positions: (!self.positions.is_empty()).then_some(&self.positions),
            groups: &self.groups,
        }
    }
}

fn unfit(name: &str, earlier: &[String]) -> Option<&'static str> {
    if name.is_empty() {
        Some("is empty")
    } else if name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        Some("has white space")
    } else if name.contains(|c| FORBIDDEN_IN_NAMES.contains(c)) {
        Some("has one of \",:[]{}, which a LightGBM model can't hold")
    } else if earlier.iter().any(|other| other == name) {
        Some("is there twice")
    } else {
        None
    }
}

fn is_category(value: f32) -> bool {
    value.is_nan() || (value >= 0.0 && value.fract() == 0.0 && value <= i32::MAX as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query<'a>(rows: &'a [f32], grades: &'a [u8]) -> Query<'a> {
        Query {
            rows,
            grades,
            positions: None,
            weights: None,
        }
    }

    fn set() -> TrainingSet {
        TrainingSet::new(&["age", "kind"], &["kind"]).unwrap()
    }

    #[test]
    fn names_that_a_model_can_t_hold_are_refused() {
        for (names, complaint) in [
            (vec![], "at least one feature"),
            (vec!["a", ""], "empty"),
            (vec!["a b"], "white space"),
            (vec!["a:b"], "can't hold"),
            (vec!["a", "b", "a"], "twice"),
        ] {
            let error = TrainingSet::new(&names, &[]).unwrap_err().to_string();
            assert!(error.contains(complaint), "{names:?}: {error}");
        }
        let error = TrainingSet::new(&["a"], &["b"]).unwrap_err();
        assert!(matches!(error, TrainingSetError::UnknownCategorical { .. }));
    }

    #[test]
    fn a_query_that_does_not_fit_is_refused_and_leaves_the_set_as_it_was() {
        let whole = query(&[0.0, 1.0, f32::NAN, 2.0], &[0, 1]);
        let mut set = set();
        set.push(&whole).unwrap();
        for (bad, complaint) in [
            (query(&[], &[]), "no rows"),
            (query(&[0.0, 1.0], &[0, 1]), "2 feature values for 2 grades"),
            (query(&[0.0, 1.0], &[31]), "grade 31"),
            (query(&[f32::INFINITY, 1.0], &[1]), "`age` is infinite"),
            (query(&[0.0, -1.0], &[1]), "category `kind` is -1"),
            (query(&[0.0, 1.5], &[1]), "category `kind` is 1.5"),
            (
                Query {
                    positions: Some(&[0, 1]),
                    ..whole
                },
                "either all queries have positions or none",
            ),
            (
                Query {
                    weights: Some(&[1.0]),
                    ..whole
                },
                "another number of weights",
            ),
        ] {
            let error = set.push(&bad).unwrap_err().to_string();
            assert!(error.starts_with("query 1: "), "{error}");
            assert!(error.contains(complaint), "{error}");
        }
        assert_eq!(set.queries(), 1);
        let mut weighted = self::set();
        let nan = Query {
            weights: Some(&[1.0, f32::NAN]),
            ..whole
        };
        let error = weighted.push(&nan).unwrap_err().to_string();
        assert!(error.contains("row 1 has weight NaN"), "{error}");
    }

    #[test]
    fn a_set_without_an_order_to_learn_is_refused() {
        let complaint = |queries: &[&[u8]]| {
            let mut set = set();
            for grades in queries {
                set.push(&query(&vec![0.0; grades.len() * 2], grades))
                    .unwrap();
            }
            set.check_learnable().map_err(|error| error.to_string())
        };
        assert!(complaint(&[]).unwrap_err().contains("is empty"));
        assert!(
            complaint(&[&[1, 1], &[1]])
                .unwrap_err()
                .contains("one grade only")
        );
        let error = complaint(&[&[1, 1], &[0, 0]]).unwrap_err();
        assert!(error.contains("no query with two grades"), "{error}");
        assert_eq!(complaint(&[&[1, 1], &[0, 1]]), Ok(()));
    }

    #[test]
    fn a_validation_set_needs_the_same_features_and_something_relevant() {
        let mut training = set();
        training.push(&query(&[0.0; 4], &[0, 1])).unwrap();
        let mut other = TrainingSet::new(&["age"], &[]).unwrap();
        other.push(&query(&[0.0], &[1])).unwrap();
        let error = other.check_validates(&training).unwrap_err().to_string();
        assert!(
            error.contains("feature 1 is none instead of `kind`"),
            "{error}"
        );
        let mut irrelevant = set();
        irrelevant.push(&query(&[0.0; 4], &[0, 0])).unwrap();
        let error = irrelevant.check_validates(&training).unwrap_err();
        assert!(matches!(
            error,
            TrainingSetError::Useless {
                set: "validation",
                ..
            }
        ));
        training.check_validates(&training).unwrap();
    }
}
