//! Whatever scores candidates now.

use crate::forest::RowsError;
use crate::package::RankerModel;
use crate::weighted::WeightedDefault;

/// A trained model, or what ranks before there is one.
#[derive(Clone, Debug)]
pub enum Ranker {
    /// Trees that were trained on these features.
    Trained(Box<RankerModel>),
    /// A weighted sum of some features.
    Weighted(WeightedDefault),
}

impl Ranker {
    /// Scores of the candidates of one request, whose feature rows lie one after the other; the
    /// greatest is best. Scores of two requests can't be compared.
    ///
    /// # Errors
    /// [`RowsError`] when `rows` is no whole number of rows.
    pub fn score(&self, rows: &[f32]) -> Result<Vec<f64>, RowsError> {
        match self {
            Self::Trained(model) => model.forest().predict(rows),
            Self::Weighted(weighted) => weighted.score(rows),
        }
    }

    /// Names the ranker in answers and impressions: a model's version, or `weighted`.
    #[must_use]
    pub fn version(&self) -> String {
        match self {
            Self::Trained(model) => model.version(),
            Self::Weighted(_) => "weighted".to_owned(),
        }
    }
}
