//! Which ranker serves: deployed by name, checked and warmed up, then switched to at once.
//!
//! Models are files `<name>.ranker` in one folder, as `RankerModel::save` writes them. A deploy reads
//! the file (checksum, format), refuses one of another feature version, scores real rows with it, writes
//! down that it is deployed, and only then switches; requests in flight end with the ranker they began
//! with. What served before is kept for a rollback, which is the same switch the other way round: a
//! second rollback goes forth again. `weighted` is the name of the default, which needs no file.
//!
//! Why no copy of the model is kept: its checksum is written down, so that a file that was replaced
//! under its name is noticed at the next start instead of being served as what it was.
//!
//! The same file keeps what was changed of instances' configurations, each by itself. Beside it lies the
//! last sweep over judged queries, which a change of weights is answered with.

mod error;
mod folder_check;
mod state;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use millrace_ranker::{FeatureSpec, Ranker, RankerModel, RowsError};
use millrace_retry::error_chain;
use serde::{Deserialize, Serialize};

use crate::config::{ConfigChange, InstanceConfig};
use crate::last_sweep::LastSweep;
use crate::request::{MAX_ECHOED_CHARS, beginning};
pub use error::{DeployError, SetConfigError};
use folder_check::FolderCheck;
use state::{SavedModel, SavedState, StateFile};
pub(crate) use state::{state_failed, write_whole};

/// What a model's file name ends in.
pub const MODEL_EXTENSION: &str = "ranker";
/// The name that the default, which needs no model, is deployed by.
pub const WEIGHTED: &str = "weighted";
const MAX_NAME_BYTES: usize = 128;
/// Instances with a configuration of their own: any id may be one, and all are in one file.
const MAX_INSTANCES: usize = 1_000;

/// What serves and what could.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentStatus {
    /// What serves: a model's name, or `weighted`.
    pub deployed: String,
    /// Its version, as answers and impressions name it.
    pub ranker_version: String,
    /// What a rollback would go back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// Names of the models in the folder.
    pub available: Vec<String>,
    /// Of these, the ones that can't serve, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unusable: BTreeMap<String, String>,
    /// Why what was deployed does not serve, where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A ranker with the name it was deployed by.
#[derive(Clone, Debug)]
struct Deployed {
    /// None for the weighted default.
    model: Option<SavedModel>,
    ranker: Arc<Ranker>,
}

impl Deployed {
    fn name(&self) -> &str {
        self.model.as_ref().map_or(WEIGHTED, |model| &model.name)
    }
}

struct Active {
    current: Deployed,
    /// What is written down: another than the current one where that can't serve.
    recorded: Option<SavedModel>,
    previous: Option<Previous>,
    /// Of instances without one of their own, as written down.
    config_of_all: Option<InstanceConfig>,
    configs: BTreeMap<String, InstanceConfig>,
    problem: Option<String>,
}

/// What served before: loaded when it was, or known by name since a restart.
#[derive(Clone)]
enum Previous {
    Loaded(Deployed),
    Saved(SavedModel),
}

impl Previous {
    fn saved(&self) -> Option<SavedModel> {
        match self {
            Self::Loaded(deployed) => deployed.model.clone(),
            Self::Saved(model) => Some(model.clone()),
        }
    }

    fn name(&self) -> String {
        self.saved()
            .map_or_else(|| WEIGHTED.to_owned(), |model| model.name)
    }
}

/// An instance's configuration as the folder of deployments has it, for whoever does not serve it.
///
/// # Errors
/// The file there can't be read.
pub fn saved_config(folder: &Path, instance: &str) -> Result<Option<InstanceConfig>, DeployError> {
    let saved = StateFile::at(folder).read()?.unwrap_or_default();
    Ok(saved.config(instance).cloned())
}

/// The rankers of one process.
pub(crate) struct Deployments {
    folder: PathBuf,
    features: FeatureSpec,
    /// The encoder whose vectors are searched.
    embedding_version: String,
    weighted: Arc<Ranker>,
    /// Of instances for which nothing was changed.
    config: InstanceConfig,
    state: StateFile,
    active: RwLock<Active>,
    /// Name of what is being deployed.
    under_way: Mutex<Option<String>>,
    folder_check: FolderCheck,
}

impl Deployments {
    /// Loads what was deployed last. Where that can't serve any more (its file is gone, features are
    /// declared otherwise), the weighted default does and the status says why.
    ///
    /// # Errors
    /// The folder or the file in it that says what is deployed can't be read.
    pub fn open(
        folder: &Path,
        features: FeatureSpec,
        embedding_version: &str,
        weighted: Ranker,
        config: InstanceConfig,
    ) -> Result<Self, DeployError> {
        let state = StateFile::open(folder)?;
        let saved = state.read()?.unwrap_or_default();
        let weighted = Arc::new(weighted);
        let default = Deployed {
            model: None,
            ranker: Arc::clone(&weighted),
        };
        let mut problem = None;
        let current = match &saved.current {
            None => default.clone(),
            Some(model) => load_saved(folder, &features, model).unwrap_or_else(|error| {
                let reason = error_chain(&error);
                tracing::error!(
                    model = model.name,
                    reason,
                    "the deployed ranker can't serve; the weighted default does"
                );
                problem = Some(reason);
                default.clone()
            }),
        };
        let previous = match saved.previous {
            None => None,
            Some(None) => Some(Previous::Loaded(default)),
            Some(Some(model)) => Some(Previous::Saved(model)),
        };
        Ok(Self {
            folder: folder.to_owned(),
            features,
            embedding_version: embedding_version.to_owned(),
            weighted,
            config,
            state,
            active: RwLock::new(Active {
                current,
                recorded: saved.current,
                previous,
                config_of_all: saved.config,
                configs: saved.configs,
                problem,
            }),
            under_way: Mutex::default(),
            folder_check: FolderCheck::default(),
        })
    }

    /// What serves now.
    pub fn ranker(&self) -> Arc<Ranker> {
        Arc::clone(&self.read().current.ranker)
    }

    /// What ranks without a model.
    pub fn weighted(&self) -> Arc<Ranker> {
        Arc::clone(&self.weighted)
    }

    /// An instance's configuration.
    pub fn config(&self, instance: &str) -> InstanceConfig {
        let active = self.read();
        let own = active.configs.get(instance);
        let known = own.or(active.config_of_all.as_ref());
        known.unwrap_or(&self.config).clone()
    }

    /// Changes an instance's configuration, for good, and no other's.
    pub fn set_config(
        &self,
        instance: &str,
        config: InstanceConfig,
    ) -> Result<ConfigChange, SetConfigError> {
        config.validate()?;
        let warnings = config.warnings(self.last_sweep().as_ref());
        // Held while writing, so that two changes are written in the order in which they hold.
        let mut active = self.write();
        if active.configs.len() >= MAX_INSTANCES && !active.configs.contains_key(instance) {
            return Err(SetConfigError::TooManyInstances);
        }
        let mut saved = saved(&active);
        saved.configs.insert(instance.to_owned(), config.clone());
        self.state.write(&saved)?;
        active.configs = saved.configs;
        Ok(ConfigChange { config, warnings })
    }

    /// What was measured of this index last. One of another encoder's vectors is none, and neither is
    /// one that can't be read: a change does not fail for it.
    fn last_sweep(&self) -> Option<LastSweep> {
        match LastSweep::read(&self.folder) {
            Ok(sweep) => sweep.filter(|it| it.embedding_version == self.embedding_version),
            Err(error) => {
                let reason = error_chain(&error);
                tracing::warn!(reason, "the last sweep can't be told");
                None
            }
        }
    }

    /// What serves and what could.
    pub fn status(&self) -> Result<DeploymentStatus, DeployError> {
        let available = available(&self.folder)?;
        let unusable = self
            .folder_check
            .unusable(&self.folder, &self.features, &available);
        let active = self.read();
        Ok(DeploymentStatus {
            deployed: active.current.name().to_owned(),
            ranker_version: active.current.ranker.version(),
            previous: active.previous.as_ref().map(Previous::name),
            available,
            unusable,
            problem: active.problem.clone(),
        })
    }

    /// Deploys the model of this name, or the weighted default by its own. `sample` are rows of real
    /// items to warm it up with.
    pub fn deploy(&self, version: &str, sample: &[f32]) -> Result<DeploymentStatus, DeployError> {
        check_name(version)?;
        let _turn = self.take_turn(version)?;
        if version == WEIGHTED {
            return self.deploy_weighted();
        }
        let path = model_path(&self.folder, version);
        if !path.is_file() {
            let available = match available(&self.folder)?.as_slice() {
                [] => "none; `millrace train ranker` makes one".to_owned(),
                names => names.join(", "),
            };
            return Err(DeployError::Missing {
                version: version.to_owned(),
                folder: self.folder.clone(),
                available,
            });
        }
        let deployed = load(&self.folder, &self.features, version)?;
        warm_up(version, &deployed.ranker, &self.features, sample)?;
        self.switch(deployed)
    }

    fn deploy_weighted(&self) -> Result<DeploymentStatus, DeployError> {
        // Where it serves as it should, what a rollback goes back to is left as it is.
        if self.read().recorded.is_none() {
            return self.status();
        }
        self.switch(Deployed {
            model: None,
            ranker: self.weighted(),
        })
    }

    /// Goes back to what served before; a second rollback goes forth again.
    pub fn rollback(&self, sample: &[f32]) -> Result<DeploymentStatus, DeployError> {
        let _turn = self.take_turn("the one before (rollback)")?;
        let previous = self.read().previous.clone();
        let deployed = match previous {
            None => return Err(DeployError::NothingBefore),
            Some(Previous::Loaded(deployed)) => deployed,
            Some(Previous::Saved(model)) => load_saved(&self.folder, &self.features, &model)?,
        };
        warm_up(deployed.name(), &deployed.ranker, &self.features, sample)?;
        self.switch(deployed)
    }

    fn switch(&self, deployed: Deployed) -> Result<DeploymentStatus, DeployError> {
        {
            let mut active = self.write();
            let before = match &active.recorded {
                Some(model) if active.current.model.is_none() => Previous::Saved(model.clone()),
                _ => Previous::Loaded(active.current.clone()),
            };
            let mut state = saved(&active);
            state.current.clone_from(&deployed.model);
            state.previous = Some(before.saved());
            // Before the switch: what serves is what a restart will serve.
            self.state.write(&state)?;
            active.previous = Some(before);
            active.recorded.clone_from(&deployed.model);
            active.current = deployed;
            active.problem = None;
        }
        self.status()
    }

    fn take_turn(&self, version: &str) -> Result<Turn<'_>, DeployError> {
        let mut under_way = lock(&self.under_way);
        if let Some(other) = under_way.as_ref() {
            return Err(DeployError::InProgress {
                version: version.to_owned(),
                under_way: other.clone(),
            });
        }
        *under_way = Some(version.to_owned());
        Ok(Turn(&self.under_way))
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Active> {
        self.active.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Active> {
        self.active.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to deploy, until dropped.
struct Turn<'a>(&'a Mutex<Option<String>>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *lock(self.0) = None;
    }
}

fn lock(mutex: &Mutex<Option<String>>) -> MutexGuard<'_, Option<String>> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn saved(active: &Active) -> SavedState {
    SavedState {
        current: active.recorded.clone(),
        previous: active.previous.as_ref().map(Previous::saved),
        config: active.config_of_all.clone(),
        configs: active.configs.clone(),
    }
}

fn check_name(version: &str) -> Result<(), DeployError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    let fits = (1..=MAX_NAME_BYTES).contains(&version.len())
        && !version.starts_with('.')
        && version.chars().all(allowed);
    if fits {
        return Ok(());
    }
    let version = beginning(version, MAX_ECHOED_CHARS)
        .escape_debug()
        .to_string();
    Err(DeployError::InvalidName { version })
}

fn model_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.{MODEL_EXTENSION}"))
}

/// Names of the models in a folder, sorted.
fn available(folder: &Path) -> Result<Vec<String>, DeployError> {
    let failed = |source| DeployError::State {
        action: "list",
        path: folder.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == MODEL_EXTENSION)
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
            && path.is_file()
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn load(folder: &Path, features: &FeatureSpec, version: &str) -> Result<Deployed, DeployError> {
    let loaded = RankerModel::load(&model_path(folder, version), features);
    let model = loaded.map_err(|source| DeployError::Unfit {
        version: version.to_owned(),
        source,
    })?;
    Ok(Deployed {
        model: Some(SavedModel {
            name: version.to_owned(),
            ranker_version: model.version(),
        }),
        ranker: Arc::new(Ranker::Trained(Box::new(model))),
    })
}

/// Loads what was deployed before, which must be the same still.
fn load_saved(
    folder: &Path,
    features: &FeatureSpec,
    saved: &SavedModel,
) -> Result<Deployed, DeployError> {
    check_name(&saved.name)?;
    let deployed = load(folder, features, &saved.name)?;
    let found = deployed.ranker.version();
    if found != saved.ranker_version {
        return Err(DeployError::Replaced {
            version: saved.name.clone(),
            expected: saved.ranker_version.clone(),
            found,
        });
    }
    Ok(deployed)
}

/// Scores rows of real items, and one of nothing but missing values, which every new item of a new
/// user nearly is: brings the trees into memory, and a score that can't be ordered to light.
fn warm_up(
    version: &str,
    ranker: &Ranker,
    features: &FeatureSpec,
    sample: &[f32],
) -> Result<(), DeployError> {
    let failed = |reason: String| DeployError::WarmUp {
        version: version.to_owned(),
        reason,
    };
    let mut rows = sample.to_vec();
    rows.extend(std::iter::repeat_n(f32::NAN, features.names.len()));
    let scores = ranker
        .score(&rows)
        .map_err(|error: RowsError| failed(error.to_string()))?;
    match scores.iter().find(|score| !score.is_finite()) {
        Some(score) => Err(failed(format!("it gave an item the score {score}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
