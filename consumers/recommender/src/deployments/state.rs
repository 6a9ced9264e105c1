//! The file that says what is deployed: written whole, by rename.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::DeployError;
use crate::config::InstanceConfig;

const FILE: &str = "deployment.json";

/// A model by its name and what it was then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedModel {
    pub name: String,
    pub ranker_version: String,
}

/// What is deployed. Absent models are the weighted default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedState {
    pub current: Option<SavedModel>,
    /// What served before, where anything did; `null` inside is the weighted default.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "some_even_if_null"
    )]
    pub previous: Option<Option<SavedModel>>,
    /// Of instances without one of their own, where it was changed: versions before had one for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<InstanceConfig>,
    /// Of instances that have changed it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub configs: BTreeMap<String, InstanceConfig>,
}

/// Tells an absent field from one that is `null`.
mod some_even_if_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<T: Serialize, S: Serializer>(
        value: &Option<Option<T>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value
            .as_ref()
            .and_then(Option::as_ref)
            .serialize(serializer)
    }

    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Option<T>>, D::Error> {
        Option::deserialize(deserializer).map(Some)
    }
}

/// Where that is written down.
pub(super) struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// In this folder, which is made where it is missing.
    pub fn open(folder: &Path) -> Result<Self, DeployError> {
        std::fs::create_dir_all(folder).map_err(|source| state_failed("create", folder, source))?;
        Ok(Self::at(folder))
    }

    /// In this folder, which may be missing as long as nothing is written.
    pub fn at(folder: &Path) -> Self {
        Self {
            path: folder.join(FILE),
        }
    }

    /// What was written last, if anything.
    pub fn read(&self) -> Result<Option<SavedState>, DeployError> {
        match std::fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|source| {
                let path = self.path.clone();
                DeployError::BrokenState { path, source }
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(state_failed("read", &self.path, source)),
        }
    }

    /// Replaces it: a reader sees the old one or the whole new one, also after a crash.
    pub fn write(&self, state: &SavedState) -> Result<(), DeployError> {
        write_whole(&self.path, state)
    }
}

impl SavedState {
    /// An instance's configuration, where it or that of all was changed.
    pub fn config(&self, instance: &str) -> Option<&InstanceConfig> {
        self.configs.get(instance).or(self.config.as_ref())
    }
}

/// Writes a file as JSON: a reader sees the old one or the whole new one, also after a crash.
pub(crate) fn write_whole<T: Serialize>(path: &Path, value: &T) -> Result<(), DeployError> {
    let failed = |source| state_failed("write", path, source);
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".deployment-")
        .tempfile_in(folder)
        .map_err(failed)?;
    let text = serde_json::to_vec_pretty(value).map_err(|error| failed(error.into()))?;
    file.write_all(&text).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed)
}

/// Something could not be done with a file or folder of deployments.
pub(crate) fn state_failed(
    action: &'static str,
    path: &Path,
    source: std::io::Error,
) -> DeployError {
    DeployError::State {
        action,
        path: path.to_owned(),
        source,
    }
}
