//! Where the models that serve are found: in this machine's store, or brought into it from elsewhere.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use millrace_models::store::{ModelReference, UNVERSIONED};
use millrace_models::{ModelStore, StoreError};

use crate::registry::RegisterError;

/// Why a model was not brought into this machine's store.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It is not there either.
    #[error(transparent)]
    NotThere(BoxError),
    /// Waiting may mend it.
    #[error("it can't be fetched now")]
    Away(#[source] BoxError),
    /// It is damaged, or can't be used.
    #[error("it can't be fetched")]
    Failed(#[source] BoxError),
}

type BoxError = Box<dyn Error + Send + Sync>;

/// Brings models into this machine's store.
pub trait Fetch: fmt::Debug + Send + Sync {
    /// Brings a version there, and tells its folder. Blocks while it does.
    ///
    /// # Errors
    /// [`FetchError`].
    fn fetch(&self, reference: &ModelReference) -> Result<PathBuf, FetchError>;
}

/// This machine's models, and those that it can get.
#[derive(Clone, Debug)]
pub struct ModelSource {
    store: ModelStore,
    elsewhere: Option<Arc<dyn Fetch>>,
}

impl From<ModelStore> for ModelSource {
    fn from(store: ModelStore) -> Self {
        let elsewhere = None;
        Self { store, elsewhere }
    }
}

impl ModelSource {
    /// What the store lacks is asked for elsewhere.
    #[must_use]
    pub fn or_from(self, elsewhere: Arc<dyn Fetch>) -> Self {
        let elsewhere = Some(elsewhere);
        Self { elsewhere, ..self }
    }

    /// A version by `NAME` or `NAME:VERSION`; a name alone may stand for its only version. Blocks
    /// while it is fetched.
    pub(crate) fn find(&self, reference: &str) -> Result<VersionFolder, RegisterError> {
        let reference: ModelReference = reference.parse()?;
        let folder = match (self.store.locate(&reference), &self.elsewhere) {
            (Err(StoreError::NotStored { .. }), Some(elsewhere)) => {
                let fetched = elsewhere.fetch(&reference);
                fetched.map_err(|source| RegisterError::Fetch {
                    model: reference.to_string(),
                    source,
                })?
            }
            (located, _) => located?,
        };
        let stored = folder.file_name().unwrap_or_default().to_string_lossy();
        Ok(VersionFolder::new(stored.parse()?, folder))
    }
}

/// A version of a model, and where it lies.
#[derive(Debug)]
pub(crate) struct VersionFolder {
    pub name: String,
    pub version: String,
    pub folder: PathBuf,
}

impl VersionFolder {
    pub fn new(reference: ModelReference, folder: PathBuf) -> Self {
        Self {
            name: reference.name,
            version: reference.version.unwrap_or_else(|| UNVERSIONED.to_owned()),
            folder,
        }
    }
}
