//! What a model is for.

use std::path::Path;

use serde::Serialize;

use super::{Transformer, modules};
use crate::error::ModelError;

/// transformers' name of a BERT whose first token goes through a classifier.
const CLASSIFICATION: &str = "BertForSequenceClassification";

/// What a model makes of texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// A vector of each text.
    SentenceEncoder,
    /// A score of each pair of texts.
    CrossEncoder,
}

impl ModelKind {
    /// The kind of the model in a folder.
    ///
    /// # Errors
    /// [`ModelError`] when the folder is missing, lacks a file that both kinds have, or is of an
    /// architecture that this crate does not compute.
    pub fn of_folder(folder: &Path) -> Result<Self, ModelError> {
        Self::of(folder, &Transformer::read(folder)?)
    }

    pub(super) fn of(folder: &Path, transformer: &Transformer) -> Result<Self, ModelError> {
        let classifies = transformer.architectures == [CLASSIFICATION];
        // What was a classifier once and pools now is a sentence encoder.
        Ok(if classifies && !modules::pools(folder)? {
            Self::CrossEncoder
        } else {
            Self::SentenceEncoder
        })
    }
}
