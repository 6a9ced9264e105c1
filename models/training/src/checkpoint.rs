//! All that a run needs to go on as if it had never stopped: parameters, moments, how far it came.
//!
//! The order of the data needs no state: it follows from seed and epoch.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use crate::error::TrainingError;
use crate::optimizer::Moments;
use crate::tensors::{self, Content, TensorOut};

/// A checkpoint's file in the run's folder.
pub const CHECKPOINT: &str = "checkpoint.safetensors";
/// Key of [`Progress`] in the file's metadata.
const PROGRESS: &str = "progress";
const TENSORS: [&str; 3] = ["parameters", "first_moments", "second_moments"];

/// How far a run came, and what is known of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Steps that were taken.
    pub steps: usize,
    /// Seconds that they took, of all processes that worked on them.
    pub seconds: f64,
    /// Tokens that were read.
    pub tokens: u64,
    /// The dev split's best loss, and after how many steps it was.
    pub best: Option<Best>,
    /// How often the dev split was judged since without a better one.
    pub without_gain: usize,
    /// Whether it is over: all steps were taken, or the dev split stopped it.
    pub finished: bool,
}

/// The dev split's best loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Steps that were taken before it.
    pub steps: usize,
    /// The loss.
    pub loss: f32,
}

/// Where a run's checkpoint is.
#[must_use]
pub fn path(run: &Path) -> PathBuf {
    run.join(CHECKPOINT)
}

/// Writes the checkpoint; the one before it stays until this one is on the disk.
///
/// # Errors
/// [`TrainingError::WriteCheckpoint`], with the old one in place.
pub fn write(
    run: &Path,
    parameters: &[f32],
    moments: &Moments,
    progress: &Progress,
) -> Result<(), TrainingError> {
    let path = path(run);
    let failed = |source| TrainingError::WriteCheckpoint {
        path: path.clone(),
        bytes: 3 * size_of_val(parameters),
        source,
    };
    let values = [parameters, &moments.first, &moments.second];
    let tensors = TENSORS.iter().zip(values).map(|(name, values)| TensorOut {
        name: (*name).to_owned(),
        shape: vec![values.len()],
        content: Content::Floats(values),
    });
    let progress = serde_json::to_string(progress).map_err(|error| failed(error.into()))?;
    let metadata = BTreeMap::from([(PROGRESS, progress)]);
    tensors::write(&path, &tensors.collect::<Vec<_>>(), &metadata).map_err(failed)
}

/// Reads the run's checkpoint, which must be of a model of so many parameters.
///
/// # Errors
/// [`TrainingError::NothingToResume`] where there is none, [`TrainingError::Checkpoint`] where it is
/// damaged or of another model.
pub fn read(run: &Path, parameters: usize) -> Result<(Vec<f32>, Moments, Progress), TrainingError> {
    let path = path(run);
    let wrong = |reason: String| TrainingError::Checkpoint {
        path: path.clone(),
        reason,
    };
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(TrainingError::NothingToResume {
                folder: run.to_owned(),
            });
        }
        Err(error) => return Err(wrong(error.to_string())),
    };
    let (_, metadata) =
        SafeTensors::read_metadata(&bytes).map_err(|error| wrong(error.to_string()))?;
    let progress = (metadata.metadata().as_ref())
        .and_then(|metadata| metadata.get(PROGRESS))
        .ok_or_else(|| wrong("it does not say how far the run came".to_owned()))?;
    let progress = serde_json::from_str(progress).map_err(|error| wrong(error.to_string()))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| wrong(error.to_string()))?;
    let values = |name: &str| {
        let view = file
            .tensor(name)
            .map_err(|error| wrong(error.to_string()))?;
        if view.shape() != [parameters] {
            let found = view.shape();
            return Err(wrong(format!(
                "`{name}` has shape {found:?}, the model has {parameters} parameters"
            )));
        }
        Ok(tensors::floats(view.data()))
    };
    let [of_parameters, first, second] = TENSORS;
    let moments = Moments {
        first: values(first)?,
        second: values(second)?,
    };
    Ok((values(of_parameters)?, moments, progress))
}
