//! What a model folder says about itself.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{ModelConfig, ModelKind};
use crate::error::ModelError;
use crate::fingerprint::{ModelFingerprint, sha256_of};
use crate::store::error::StoreError;
use crate::store::name_in;
use crate::store::release::{RELEASE_FILE, Release};

/// A model's card, as `millrace model show` prints it.
#[derive(Clone, Debug, Serialize)]
pub struct ModelCard {
    /// The folder's name.
    pub name: String,
    /// Where it lies.
    pub folder: PathBuf,
    /// Name and short fingerprint, as records and indexes carry it.
    pub version: String,
    /// Who makes its vectors or scores.
    pub fingerprint: ModelFingerprint,
    /// What it makes of texts.
    pub kind: ModelKind,
    /// Such as `bert, 6 layers, 12 heads, mean pooling`.
    pub architecture: String,
    /// Length of a vector; a cross-encoder makes none.
    pub dimension: Option<usize>,
    /// Where texts are cut, in tokens, special ones included.
    pub max_tokens: usize,
    /// The files, by path.
    pub files: Vec<ModelFile>,
    /// What is known of an imported version.
    pub release: Option<Release>,
}

/// A file of a model folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFile {
    /// Path inside the folder, with `/`.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
}

impl ModelCard {
    /// Reads and hashes a model's folder; it need not be in a store.
    ///
    /// # Errors
    /// [`StoreError::Model`] when it is missing, incomplete or of another architecture.
    pub fn read(folder: &Path) -> Result<Self, StoreError> {
        let (kind, config) = ModelConfig::read_any(folder).map_err(StoreError::Model)?;
        let (head, dimension) = match kind {
            ModelKind::SentenceEncoder => ("mean pooling", Some(config.hidden_size)),
            ModelKind::CrossEncoder => ("cross-encoder", None),
        };
        let mut files = Vec::new();
        collect(folder, "", &mut files).map_err(StoreError::Model)?;
        // It tells of the others, and is no part of the model.
        files.retain(|file| file.path != RELEASE_FILE);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let checksums: Vec<_> = files
            .iter()
            .map(|file| (file.path.as_str(), file.sha256.as_str()))
            .collect();
        let fingerprint = ModelFingerprint::of_checksums(&checksums);
        let name = folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Ok(Self {
            version: fingerprint.version(name_in(&name)),
            name,
            folder: folder.to_owned(),
            fingerprint,
            kind,
            architecture: format!(
                "bert, {} layers, {} heads, {head}",
                config.layers, config.heads
            ),
            dimension,
            max_tokens: config.max_tokens,
            files,
            release: Release::read(folder).map_err(StoreError::Model)?,
        })
    }

    /// The first file of an imported version that is missing or is not what was imported.
    #[must_use]
    pub fn damaged(&self) -> Option<&ModelFile> {
        self.release.as_ref()?.differs_from(&self.files)
    }
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<ModelFile>) -> Result<(), ModelError> {
    let failed = |source| ModelError::Read {
        path: folder.to_owned(),
        source,
    };
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let metadata = entry.path().metadata().map_err(failed)?;
        if metadata.is_dir() {
            collect(&entry.path(), &format!("{path}/"), files)?;
        } else {
            files.push(ModelFile {
                path,
                bytes: metadata.len(),
                sha256: sha256_of(&entry.path())?,
            });
        }
    }
    Ok(())
}
