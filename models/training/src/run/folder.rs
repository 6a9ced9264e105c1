//! The run's folder: whose it is, and the best parameters so far.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use crate::checkpoint;
use crate::durable;
use crate::error::TrainingError;
use crate::options::TrainingOptions;
use crate::tensors::{self, Content, TensorOut};

const IDENTITY: &str = "run.json";
const BEST: &str = "best.safetensors";
const PARAMETERS: &str = "parameters";

/// What makes a run this run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    /// Fingerprint of the base model, tokenizer included.
    pub base: String,
    /// SHA-256 of the dataset's manifest.
    pub dataset: String,
    /// What computes, `cpu` or `cuda`: they round differently.
    pub device: String,
    pub options: TrainingOptions,
}

pub(super) struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes the folder of a new run, or opens that of the run to go on with.
    pub fn open(path: &Path, identity: &Identity, resume: bool) -> Result<Self, TrainingError> {
        let file = path.join(IDENTITY);
        let folder = Self {
            path: path.to_owned(),
        };
        if resume {
            let text = match std::fs::read_to_string(&file) {
                Ok(text) if checkpoint::path(path).is_file() => text,
                _ => {
                    return Err(TrainingError::NothingToResume {
                        folder: path.to_owned(),
                    });
                }
            };
            let began = serde_json::from_str(&text).map_err(|error| TrainingError::Checkpoint {
                path: file,
                reason: error.to_string(),
            })?;
            return folder.same(&began, identity).map(|()| folder);
        }
        // A run that was killed before its first checkpoint has nothing to go on with: it is
        // begun anew. So is a folder in which there never was one.
        if checkpoint::path(path).exists() {
            return Err(TrainingError::RunExists {
                folder: path.to_owned(),
            });
        }
        // The folder may hold what was never a run: a model made elsewhere is not written over.
        let model = folder.model();
        if model.exists() {
            return Err(TrainingError::ModelExists { path: model });
        }
        let written = std::fs::create_dir_all(path).and_then(|()| {
            let json = serde_json::to_vec_pretty(identity)?;
            durable::replace(&file, |out| std::io::Write::write_all(out, &json))
        });
        match written {
            Ok(()) => Ok(folder),
            Err(source) => Err(TrainingError::Write { path: file, source }),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model's name: the folder's own.
    pub fn name(&self) -> String {
        let real = self.path.canonicalize();
        let real = real.as_deref().unwrap_or(&self.path);
        real.file_name().map_or_else(
            || "model".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        )
    }

    /// Where the model goes.
    pub fn model(&self) -> PathBuf {
        self.path.join(self.name())
    }

    fn same(&self, began: &Identity, now: &Identity) -> Result<(), TrainingError> {
        let other = |what: &str, began: String, now: String| {
            Err(TrainingError::OtherRun {
                folder: self.path.clone(),
                what: what.to_owned(),
                began,
                now,
            })
        };
        if began.base != now.base {
            return other("the base model", began.base.clone(), now.base.clone());
        }
        if began.dataset != now.dataset {
            return other("the dataset", began.dataset.clone(), now.dataset.clone());
        }
        if began.device != now.device {
            return other("the device", began.device.clone(), now.device.clone());
        }
        // As JSON, so that the first option that differs has its name.
        let [was, is] = [&began.options, &now.options].map(|options| {
            let fields = serde_json::to_value(options).unwrap_or_default();
            fields.as_object().cloned().unwrap_or_default()
        });
        for (option, value) in &is {
            if was.get(option) != Some(value) {
                let before = was.get(option).cloned().unwrap_or_default();
                return other(
                    &format!("`{option}`"),
                    before.to_string(),
                    value.to_string(),
                );
            }
        }
        Ok(())
    }

    /// Keeps the parameters as the best so far.
    pub fn keep_best(&self, parameters: &[f32]) -> Result<(), TrainingError> {
        let path = self.path.join(BEST);
        let tensor = TensorOut {
            name: PARAMETERS.to_owned(),
            shape: vec![parameters.len()],
            content: Content::Floats(parameters),
        };
        tensors::write(&path, &[tensor], &BTreeMap::new()).map_err(|source| {
            TrainingError::WriteCheckpoint {
                path,
                bytes: size_of_val(parameters),
                source,
            }
        })
    }

    /// The best parameters.
    pub fn best(&self, parameters: usize) -> Result<Vec<f32>, TrainingError> {
        let path = self.path.join(BEST);
        let wrong = |reason: String| TrainingError::Checkpoint {
            path: path.clone(),
            reason,
        };
        let bytes = std::fs::read(&path).map_err(|error| wrong(error.to_string()))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| wrong(error.to_string()))?;
        let view = (file.tensor(PARAMETERS)).map_err(|error| wrong(error.to_string()))?;
        if view.shape() != [parameters] {
            return Err(wrong("it is of another model".to_owned()));
        }
        Ok(tensors::floats(view.data()))
    }
}
