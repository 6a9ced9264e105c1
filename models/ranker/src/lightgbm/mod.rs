//! LightGBM's shared library: found, loaded, called.

mod booster;
mod ffi;
mod library;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use booster::{Booster, BoosterError, Prediction};
pub(crate) use booster::{Dataset, Training};
pub use ffi::LightGbmError;
pub use library::LibraryError;

use ffi::Api;

/// LightGBM's C interface, loaded. It stays loaded until the process ends.
#[derive(Clone, Debug)]
pub struct LightGbm {
    api: Arc<Api>,
    path: PathBuf,
}

impl LightGbm {
    /// Loads this shared library.
    ///
    /// # Errors
    /// [`LibraryError`] when it can't be loaded or lacks a function, with what to install.
    pub fn load(path: &Path) -> Result<Self, LibraryError> {
        Ok(Self {
            api: Arc::new(library::open(path)?),
            path: path.to_owned(),
        })
    }

    /// Where the library was found; a bare file name is the system's.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}
