//! The tensors of a safetensors file, one at a time, as 32-bit floats.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;

use crate::error::ModelError;

/// The bytes of a safetensors file.
///
/// Read, not mapped: a mapping would need `unsafe` (the file may change underneath), and its pages
/// would count twice once the tensors are copied out.
pub struct WeightsFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

/// The tensors by name.
pub struct Weights<'a> {
    path: &'a Path,
    tensors: SafeTensors<'a>,
    prefix: &'static str,
}

impl WeightsFile {
    /// Reads the file.
    ///
    /// # Errors
    /// [`ModelError::Read`].
    pub fn read(path: PathBuf) -> Result<Self, ModelError> {
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Self { path, bytes }),
            Err(source) => Err(ModelError::Read { path, source }),
        }
    }

    /// The tensors in it.
    ///
    /// # Errors
    /// [`ModelError::Weights`] when it is no safetensors file.
    pub fn tensors(&self) -> Result<Weights<'_>, ModelError> {
        let tensors =
            SafeTensors::deserialize(&self.bytes).map_err(|error| ModelError::Weights {
                path: self.path.clone(),
                reason: error.to_string(),
            })?;
        // A model saved with a task head keeps its encoder under `bert.`.
        let headed = tensors
            .tensor("bert.embeddings.word_embeddings.weight")
            .is_ok();
        Ok(Weights {
            path: &self.path,
            tensors,
            prefix: if headed { "bert." } else { "" },
        })
    }
}

impl Weights<'_> {
    /// The tensor `name`, which must have this shape, as f32 on the CPU.
    ///
    /// # Errors
    /// [`ModelError::Weights`] when it is missing or of another shape.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        self.stored(&format!("{}{name}", self.prefix), shape)
    }

    /// The tensor that the file has under this very name.
    fn stored(&self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let wrong = |reason: String| ModelError::Weights {
            path: self.path.to_owned(),
            reason,
        };
        let view = self
            .tensors
            .tensor(name)
            .map_err(|_| wrong(format!("tensor `{name}` is missing")))?;
        if view.shape() != shape {
            let found = view.shape();
            return Err(wrong(format!(
                "tensor `{name}` has shape {found:?}, but the configuration asks for {shape:?}"
            )));
        }
        DType::try_from(view.dtype())
            .and_then(|dtype| Tensor::from_raw_buffer(view.data(), dtype, shape, &Device::Cpu))
            .and_then(|tensor| tensor.to_dtype(DType::F32))
            .map_err(|error| wrong(format!("tensor `{name}`: {error}")))
    }

    /// The values of the tensor `name` in row-major order.
    ///
    /// # Errors
    /// As [`Self::tensor`].
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        self.flat(name, &self.tensor(name, shape)?)
    }

    /// As [`Self::values`], of the task head, which lies beside the encoder and not in it.
    ///
    /// # Errors
    /// As [`Self::tensor`].
    pub fn head_values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        self.flat(name, &self.stored(name, shape)?)
    }

    fn flat(&self, name: &str, tensor: &Tensor) -> Result<Vec<f32>, ModelError> {
        tensor
            .flatten_all()
            .and_then(|flat| flat.to_vec1())
            .map_err(|error| ModelError::Weights {
                path: self.path.to_owned(),
                reason: format!("tensor `{name}`: {error}"),
            })
    }
}
