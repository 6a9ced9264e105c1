//! What is known of an imported version beside its files: when and from where it came, how good it
//! was measured to be, and what it was made of.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::ModelError;
use crate::fingerprint::ModelFingerprint;
use crate::store::card::ModelFile;
use crate::store::reference::ModelReference;

/// The file's name, in the model's folder.
pub const RELEASE_FILE: &str = "millrace.json";

/// A version as `millrace.json` keeps it. A folder that is imported may bring one along, with
/// `metrics` and `lineage` of its training; then its checksums are held to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// The model's name.
    #[serde(default)]
    pub name: String,
    /// Its version.
    #[serde(default)]
    pub version: String,
    /// When it came into the store, milliseconds since 1970.
    #[serde(default)]
    pub imported_at_ms: u64,
    /// The folder or archive that it was imported from.
    #[serde(default)]
    pub source: String,
    /// How good it was measured to be, by measure.
    #[serde(default)]
    pub metrics: Map<String, Value>,
    /// What it was made of: base model, data, options, as whoever trained it tells.
    #[serde(default)]
    pub lineage: Map<String, Value>,
    /// The other files and what their bytes must be.
    #[serde(default)]
    pub files: Vec<ModelFile>,
}

impl Release {
    /// Reads the file where there is one.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, ModelError> {
        let path = folder.join(RELEASE_FILE);
        match std::fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(release) => Ok(Some(release)),
                Err(source) => Err(ModelError::Json { path, source }),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ModelError::Read { path, source }),
        }
    }

    /// How it is named.
    #[must_use]
    pub fn reference(&self) -> ModelReference {
        ModelReference {
            name: self.name.clone(),
            version: Some(self.version.clone()),
        }
    }

    /// The model's fingerprint, by the checksums that are kept.
    #[must_use]
    pub fn fingerprint(&self) -> ModelFingerprint {
        let files = self.files.iter();
        let checksums: Vec<_> = files
            .map(|file| (file.path.as_str(), file.sha256.as_str()))
            .collect();
        ModelFingerprint::of_checksums(&checksums)
    }

    /// The first file that is missing or has other bytes than those that are kept here.
    pub(crate) fn differs_from<'a>(&'a self, files: &[ModelFile]) -> Option<&'a ModelFile> {
        let same = |kept: &ModelFile| {
            files
                .iter()
                .any(|file| file.path == kept.path && file.sha256 == kept.sha256)
        };
        self.files.iter().find(|kept| !same(kept))
    }
}
