//! What can be wrong with a text model or with the rows given to a forest.

/// Why a text is not a model that can be evaluated.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ForestError {
    /// The text is not what LightGBM writes.
    #[error("line {line} of the model, {section}: {reason}")]
    Malformed {
        /// Line, from 1.
        line: usize,
        /// `header`, or the tree as in `Tree=17`.
        section: String,
        /// What is wrong there.
        reason: String,
    },
    /// The model is one of LightGBM's, but of a kind that is not evaluated here.
    #[error("line {line} of the model, {section}: {what}")]
    Unsupported {
        /// Line, from 1.
        line: usize,
        /// `header`, or the tree as in `Tree=17`.
        section: String,
        /// The kind, and what to train instead.
        what: String,
    },
    /// The model's categories are too many, or numbered with wide gaps.
    #[error(
        "the model's category sets need more than {limit_mebibytes} MiB: number categories from 0 \
         without gaps"
    )]
    CategorySets {
        /// How much they may need.
        limit_mebibytes: usize,
    },
}

/// Rows that do not fit a model.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{values} values are no whole number of rows of {features} features")]
pub struct RowsError {
    /// How many values were given.
    pub values: usize,
    /// How many a row has.
    pub features: usize,
}

impl RowsError {
    /// Checks that so many values are whole rows; `features` is at least 1.
    pub(crate) fn check(values: usize, features: usize) -> Result<(), Self> {
        if values.is_multiple_of(features) {
            Ok(())
        } else {
            Err(Self { values, features })
        }
    }
}
