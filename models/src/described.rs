//! What is read of a model's folder beside its weights.

use std::path::Path;

use crate::config::ModelConfig;
use crate::encoder::folder_name;
use crate::error::ModelError;
use crate::fingerprint::ModelFingerprint;
use crate::tokenizer::Tokenizer;

/// A model without its weights.
pub(crate) struct Described {
    pub tokenizer: Tokenizer,
    pub fingerprint: ModelFingerprint,
    /// What the folder calls the model.
    pub name: String,
    /// Name and short fingerprint.
    pub version: String,
}

impl Described {
    /// Reads the tokenizer, which cuts where `config` says, and hashes the files.
    pub fn read(folder: &Path, config: &ModelConfig) -> Result<Self, ModelError> {
        let tokenizer = Tokenizer::load(&folder.join("tokenizer.json"), config.max_tokens)?;
        let fingerprint = ModelFingerprint::of_folder(folder)?;
        let name = folder_name(folder);
        Ok(Self {
            version: fingerprint.version(&name),
            tokenizer,
            fingerprint,
            name,
        })
    }
}
