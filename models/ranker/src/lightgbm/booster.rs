//! What of LightGBM is used, in safe types.

use std::ffi::CStr;
use std::sync::Arc;

use crate::forest::{Forest, ForestError, RowsError};
use crate::lightgbm::LightGbm;
use crate::lightgbm::ffi::{Api, BoosterHandle, DatasetHandle, LightGbmError};

/// Which of LightGBM's predictions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prediction {
    /// With the objective's output transformation.
    Transformed = 0,
    /// Sum of the leaves.
    RawScore = 1,
}

/// A text model in LightGBM's own hands: what [`Forest`] is tested and timed against.
#[derive(Debug)]
pub struct Booster {
    handle: BoosterHandle,
    features: usize,
}

/// Why LightGBM's own prediction could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BoosterError {
    /// The text is not a model with one score a row.
    #[error(transparent)]
    Model(#[from] ForestError),
    /// The rows do not fit the model.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// LightGBM refused.
    #[error(transparent)]
    LightGbm(#[from] LightGbmError),
}

impl Booster {
    /// Gives a text model to LightGBM. It is read by [`Forest`] first, because LightGBM crashes on
    /// some damaged models.
    ///
    /// # Errors
    /// The model is refused by [`Forest::parse`] or by LightGBM.
    pub fn parse(library: &LightGbm, text: &str) -> Result<Self, BoosterError> {
        let features = Forest::parse(text)?.feature_names().len();
        Ok(Self {
            handle: BoosterHandle::parse(&library.api, text)?,
            features,
        })
    }

    /// LightGBM's prediction for rows, laid out as for [`Forest::predict`], on so many threads.
    ///
    /// # Errors
    /// The rows do not fit the model, or LightGBM refuses.
    pub fn predict(
        &self,
        rows: &[f32],
        kind: Prediction,
        threads: usize,
    ) -> Result<Vec<f64>, BoosterError> {
        RowsError::check(rows.len(), self.features)?;
        let parameters = format!("num_threads={threads}");
        let kind = kind as i32;
        Ok(self
            .handle
            .predict(rows, self.features, kind, &parameters)?)
    }
}

/// Rows with everything that training needs to know of them.
pub(crate) struct Dataset<'a> {
    /// Row-major.
    pub rows: &'a [f32],
    pub feature_names: &'a [String],
    pub labels: &'a [f32],
    pub weights: Option<&'a [f32]>,
    pub positions: Option<&'a [i32]>,
    /// Rows of each query.
    pub groups: &'a [i32],
}

impl Dataset<'_> {
    fn create(
        &self,
        api: &Arc<Api>,
        parameters: &str,
        binned_as: Option<&DatasetHandle>,
    ) -> Result<DatasetHandle, LightGbmError> {
        let columns = self.feature_names.len();
        let handle = DatasetHandle::from_rows(api, self.rows, columns, parameters, binned_as)?;
        handle.set_feature_names(self.feature_names)?;
        let floats = |field: &'static CStr, values| handle.set_floats(field, values);
        floats(c"label", self.labels)?;
        handle.set_integers(c"group", self.groups)?;
        if let Some(weights) = self.weights {
            floats(c"weight", weights)?;
        }
        if let Some(positions) = self.positions {
            handle.set_integers(c"position", positions)?;
        }
        Ok(handle)
    }
}

/// A model being trained.
pub(crate) struct Training {
    booster: BoosterHandle,
}

impl Training {
    pub fn start(
        library: &LightGbm,
        training: &Dataset<'_>,
        validation: Option<&Dataset<'_>>,
        parameters: &str,
    ) -> Result<Self, LightGbmError> {
        let api = &library.api;
        let training = training.create(api, parameters, None)?;
        let validation = validation
            .map(|validation| validation.create(api, parameters, Some(&training)))
            .transpose()?;
        let booster = BoosterHandle::create(api, training, validation, parameters)?;
        Ok(Self { booster })
    }

    /// Grows one more tree; `false` when no split gained anything.
    pub fn grow(&mut self) -> Result<bool, LightGbmError> {
        self.booster.grow()
    }

    /// Scores of the validation set's rows by the trees so far.
    pub fn validation_scores(&self) -> Result<Vec<f64>, LightGbmError> {
        self.booster.dataset_scores(1)
    }

    /// The text model of the first so many trees.
    pub fn text(&self, trees: u32) -> Result<String, LightGbmError> {
        self.booster.text(i32::try_from(trees).unwrap_or(i32::MAX))
    }
}
