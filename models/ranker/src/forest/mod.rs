//! LightGBM's text model, read and evaluated without LightGBM.

mod error;
mod kernel;
mod layout;
mod shape;
mod text;
mod tree_text;

use pulp::Arch;

pub use error::{ForestError, RowsError};
use kernel::Evaluate;
use layout::Layout;
use text::ModelText;

/// How much a feature contributed to a forest's splits.
#[derive(Clone, Debug, PartialEq)]
pub struct Importance {
    /// The feature's name.
    pub feature: String,
    /// Number of splits on it.
    pub splits: u64,
    /// Sum of the gains of these splits, in the training objective's unit.
    pub gain: f64,
}

/// A forest of decision trees that scores rows of features.
#[derive(Clone, Debug)]
pub struct Forest {
    feature_names: Vec<String>,
    importance: Vec<Importance>,
    without_missing: Vec<String>,
    layout: Layout,
    arch: Arch,
}

impl Forest {
    /// Reads a model as LightGBM 3 and 4 write it (`save_model`, `model_to_string`).
    ///
    /// Where training saw no missing value of a feature, LightGBM reads a NaN of it as 0, and so does
    /// the forest; the features are named in a warning.
    ///
    /// # Errors
    /// [`ForestError::Malformed`] with line and section where the text is not such a model or is cut
    /// short; [`ForestError::Unsupported`] for linear trees, for several scores a row (multi-class)
    /// and for versions before v3; [`ForestError::CategorySets`] for categories of huge numbers.
    pub fn parse(text: &str) -> Result<Self, ForestError> {
        let model = ModelText::parse(text)?;
        let layout = Layout::of(&model)?;
        let without_missing = model.features_without_missing();
        if !without_missing.is_empty() {
            tracing::warn!(
                features = without_missing.join(", "),
                "training saw no missing values of these features: a NaN is read as 0"
            );
        }
        Ok(Self {
            importance: model.importance(),
            feature_names: model.feature_names,
            without_missing,
            layout,
            arch: Arch::new(),
        })
    }

    /// Scores of rows, one after the other in `rows`, each of as many values as
    /// [`feature_names`](Self::feature_names) in their order; NaN is missing.
    ///
    /// A score is LightGBM's raw score: the sum of the trees' leaves, or their mean where the model
    /// says `average_output`. An objective's output transformation is not applied: all of them are
    /// increasing functions, so the order is the same.
    ///
    /// # Errors
    /// [`RowsError`] when `rows` is no whole number of rows.
    pub fn predict(&self, rows: &[f32]) -> Result<Vec<f64>, RowsError> {
        let features = self.feature_names.len();
        RowsError::check(rows.len(), features)?;
        let mut scores = vec![0.0; rows.len() / features];
        self.arch.dispatch(Evaluate {
            layout: &self.layout,
            features,
            rows,
            scores: &mut scores,
        });
        Ok(scores)
    }

    /// Names of the features, in the order of a row's values.
    #[must_use]
    pub fn feature_names(&self) -> &[String] {
        &self.feature_names
    }

    /// Importance of every feature, in the order of [`feature_names`](Self::feature_names), as
    /// LightGBM counts it: splits without gain are left out.
    #[must_use]
    pub fn importance(&self) -> &[Importance] {
        &self.importance
    }

    /// The features whose NaN is read as 0, because training saw no missing value of them.
    #[must_use]
    pub fn features_without_missing(&self) -> &[String] {
        &self.without_missing
    }

    /// Number of trees.
    #[must_use]
    pub fn trees(&self) -> usize {
        self.layout.trees()
    }
}
