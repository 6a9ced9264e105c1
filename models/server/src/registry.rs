//! The models and versions that serve: loaded, warmed up, and found by name.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use millrace_models::store::{InvalidReference, ModelReference};
use millrace_models::{Encoder, EncoderOptions, ModelError, Segments, StoreError};
use serde::Deserialize;

use crate::error::ServeError;
use crate::model::{Model, next_id, warm_up};
use crate::rate::Rate;
use crate::source::{FetchError, ModelSource, VersionFolder};

/// One version of a model, warm.
#[derive(Debug)]
pub(crate) struct Served {
    id: u64,
    name: String,
    version: String,
    folder: PathBuf,
    encoder: Encoder,
    prompts: BTreeMap<String, String>,
    rate: Rate,
    loaded_at: Timestamp,
    at_startup: bool,
}

/// `config_sentence_transformers.json`; only what a server needs.
#[derive(Default, Deserialize)]
struct SentenceTransformers {
    #[serde(default)]
    prompts: BTreeMap<String, String>,
}

impl Served {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn version(&self) -> &str {
        &self.version
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    pub fn loaded_at(&self) -> Timestamp {
        self.loaded_at
    }

    pub fn at_startup(&self) -> bool {
        self.at_startup
    }

    /// The text of a prompt that sentence-transformers keeps with the model.
    pub fn prompt(&self, name: &str) -> Result<&str, ServeError> {
        let unknown = || ServeError::UnknownPrompt {
            name: name.to_owned(),
            known: listed(self.prompts.keys()),
        };
        let prompt = self.prompts.get(name).ok_or_else(unknown)?;
        Ok(prompt)
    }
}

impl Model for Served {
    fn id(&self) -> u64 {
        self.id
    }

    fn rate(&self) -> &Rate {
        &self.rate
    }

    fn compute(&self, texts: &[Segments<'_>]) -> Result<Vec<Vec<f32>>, ModelError> {
        let sequences: Vec<&[u32]> = texts.iter().map(|text| text.ids).collect();
        self.encoder.pool_tokens(&sequences)
    }
}

/// Why a model does not serve.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The name is none.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// It is not in the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not in the store, and can't be brought there.
    #[error("{model} is not in this machine's model store")]
    Fetch {
        /// The model, with its version where one was asked for.
        model: String,
        /// Why.
        #[source]
        source: FetchError,
    },
    /// It can't be loaded.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Its prompts can't be read.
    #[error("`{}` is not the configuration of a sentence-transformers model", path.display())]
    Prompts {
        /// The file.
        path: PathBuf,
        /// Where the JSON breaks.
        #[source]
        source: serde_json::Error,
    },
    /// It serves already.
    #[error("model version {version} is already registered for model {name}")]
    AlreadyServes {
        /// The model.
        name: String,
        /// Its version.
        version: String,
    },
}

#[derive(Debug)]
struct Versions {
    default: String,
    served: BTreeMap<String, Arc<Served>>,
}

#[derive(Debug, Default)]
struct Models {
    by_name: BTreeMap<String, Versions>,
    /// Name of the model that answers where none is named.
    default: Option<String>,
}

/// Where the models that serve are found.
#[derive(Debug)]
pub(crate) struct Registry {
    source: ModelSource,
    threads: Option<NonZeroUsize>,
    models: RwLock<Models>,
}

impl Registry {
    pub fn new(source: ModelSource, threads: Option<NonZeroUsize>) -> Self {
        Self {
            source,
            threads,
            models: RwLock::default(),
        }
    }

    /// Loads a model of the source, warms it up and lets it serve. Blocks for seconds, and while the
    /// model is fetched.
    pub fn register(
        &self,
        reference: &str,
        at_startup: bool,
    ) -> Result<Arc<Served>, RegisterError> {
        self.register_version(self.source.find(reference)?, at_startup)
    }

    /// As [`Self::register`], for a folder anywhere.
    pub fn register_folder(
        &self,
        reference: ModelReference,
        folder: PathBuf,
        at_startup: bool,
    ) -> Result<Arc<Served>, RegisterError> {
        self.register_version(VersionFolder::new(reference, folder), at_startup)
    }

    fn register_version(
        &self,
        found: VersionFolder,
        at_startup: bool,
    ) -> Result<Arc<Served>, RegisterError> {
        let VersionFolder {
            name,
            version,
            folder,
        } = found;
        let already = || RegisterError::AlreadyServes {
            name: name.clone(),
            version: version.clone(),
        };
        if self.read().serves(&name, &version) {
            return Err(already());
        }
        let options = EncoderOptions {
            threads: self.threads,
            ..EncoderOptions::default()
        };
        let encoder = Encoder::load(&folder, options)?;
        let prompts = prompts(&folder)?;
        let rate = warm_up(encoder.max_tokens(), encoder.vocabulary(), |batch| {
            let sequences: Vec<&[u32]> = batch.iter().map(|text| text.ids).collect();
            encoder.pool_tokens(&sequences).map(drop)
        })?;
        let served = Arc::new(Served {
            id: next_id(),
            name: name.clone(),
            version: version.clone(),
            folder,
            encoder,
            prompts,
            rate,
            loaded_at: Timestamp::now(),
            at_startup,
        });
        let mut models = self.write();
        if models.serves(&name, &version) {
            return Err(already());
        }
        let versions = models
            .by_name
            .entry(name.clone())
            .or_insert_with(|| Versions {
                default: version.clone(),
                served: BTreeMap::new(),
            });
        versions.served.insert(version.clone(), Arc::clone(&served));
        models.default.get_or_insert(name.clone());
        tracing::info!(
            model = name,
            version,
            fingerprint = served.encoder.version(),
            tokens_per_second = served.rate.tokens_per_second().round(),
            "a model serves"
        );
        Ok(served)
    }

    /// Takes a version away; requests that have it go on. Without a version it is the default one.
    /// A default goes last of its name, and the model that answers where none is named stays.
    pub fn unregister(&self, name: &str, version: Option<&str>) -> Result<(), ServeError> {
        let mut models = self.write();
        let served = models.find(name, version)?;
        let is_default_model = models.default.as_deref() == Some(name);
        let Some(versions) = models.by_name.get_mut(name) else {
            return Err(models.unknown(name));
        };
        let is_last = versions.served.len() == 1;
        let is_default = versions.default == served.version;
        if (is_default && !is_last) || (is_last && is_default_model) {
            return Err(ServeError::DefaultStays {
                name: name.to_owned(),
            });
        }
        versions.served.remove(&served.version);
        if is_last {
            models.by_name.remove(name);
        }
        tracing::info!(
            model = name,
            version = served.version,
            "a model serves no more"
        );
        Ok(())
    }

    /// Makes a version the one that answers for its name.
    pub fn set_default(&self, name: &str, version: &str) -> Result<(), ServeError> {
        let mut models = self.write();
        models.find(name, Some(version))?;
        if let Some(versions) = models.by_name.get_mut(name) {
            version.clone_into(&mut versions.default);
        }
        tracing::info!(model = name, version, "the default version is another");
        Ok(())
    }

    /// The model of this name, in this version or its default one.
    pub fn find(&self, name: &str, version: Option<&str>) -> Result<Arc<Served>, ServeError> {
        self.read().find(name, version)
    }

    /// The model that a text names: `NAME`, `NAME:VERSION` or `NAME/VERSION`.
    pub fn named(&self, text: &str) -> Result<Arc<Served>, ServeError> {
        let models = self.read();
        match text.split_once([':', '/']) {
            Some((name, version)) => models.find(name, Some(version)),
            None => models.find(text, None),
        }
    }

    /// The model that answers where none is named.
    pub fn default_model(&self) -> Result<Arc<Served>, ServeError> {
        let models = self.read();
        match &models.default {
            Some(name) => models.find(name, None),
            None => Err(ServeError::NotReady {
                reason: "no model is loaded yet".to_owned(),
            }),
        }
    }

    /// The default version of each name, by name.
    pub fn defaults(&self) -> Vec<Arc<Served>> {
        let models = self.read();
        let default = |versions: &Versions| versions.served.get(&versions.default).cloned();
        models.by_name.values().filter_map(default).collect()
    }

    /// All versions of a name, by version.
    pub fn versions(&self, name: &str) -> Result<Vec<Arc<Served>>, ServeError> {
        let models = self.read();
        match models.by_name.get(name) {
            Some(versions) => Ok(versions.served.values().cloned().collect()),
            None => Err(models.unknown(name)),
        }
    }

    /// All that serves.
    pub fn all(&self) -> Vec<Arc<Served>> {
        let models = self.read();
        let versions = models.by_name.values();
        versions
            .flat_map(|versions| versions.served.values().cloned())
            .collect()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Models> {
        // Whole after a panic elsewhere: each change under the lock is one insertion or removal.
        self.models.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Models> {
        self.models.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Models {
    fn serves(&self, name: &str, version: &str) -> bool {
        let versions = self.by_name.get(name);
        versions.is_some_and(|versions| versions.served.contains_key(version))
    }

    fn find(&self, name: &str, version: Option<&str>) -> Result<Arc<Served>, ServeError> {
        let Some(versions) = self.by_name.get(name) else {
            return Err(self.unknown(name));
        };
        let version = version.unwrap_or(&versions.default);
        let unknown = || ServeError::UnknownVersion {
            name: name.to_owned(),
            version: version.to_owned(),
            known: listed(versions.served.keys()),
        };
        versions.served.get(version).cloned().ok_or_else(unknown)
    }

    fn unknown(&self, name: &str) -> ServeError {
        ServeError::UnknownModel {
            name: name.to_owned(),
            known: listed(self.by_name.keys()),
        }
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

fn prompts(folder: &Path) -> Result<BTreeMap<String, String>, RegisterError> {
    let path = folder.join("config_sentence_transformers.json");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(source) => return Err(ModelError::Read { path, source }.into()),
    };
    serde_json::from_slice::<SentenceTransformers>(&bytes)
        .map(|config| config.prompts)
        .map_err(|source| RegisterError::Prompts { path, source })
}
