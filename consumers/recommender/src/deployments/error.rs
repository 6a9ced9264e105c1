//! Why nothing was deployed or changed.

use std::path::PathBuf;

use millrace_ranker::PackageError;

use super::{MAX_INSTANCES, MAX_NAME_BYTES};
use crate::config::InvalidInstanceConfig;

/// Why nothing was deployed. What served before still serves.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// Another deploy or rollback is under way.
    #[error("`{under_way}` is being deployed; wait for it to end, then deploy `{version}`")]
    InProgress {
        /// What was asked for.
        version: String,
        /// What is being deployed.
        under_way: String,
    },
    /// Not a name that a model can have.
    #[error(
        "`{version}` is no name of a model: it is 1 to {MAX_NAME_BYTES} letters, digits, '-', '_', '.' \
         or '@', and does not begin with '.'"
    )]
    InvalidName {
        /// What was asked for.
        version: String,
    },
    /// There is no such model.
    #[error("there is no ranker model `{version}` in `{}`; there are: {available}", folder.display())]
    Missing {
        /// What was asked for.
        version: String,
        /// Where it was looked for.
        folder: PathBuf,
        /// Names of the models there.
        available: String,
    },
    /// The model can't serve here.
    #[error("ranker model `{version}` can't be deployed")]
    Unfit {
        /// Its name.
        version: String,
        /// Why.
        #[source]
        source: PackageError,
    },
    /// The model gives scores that can't be ordered.
    #[error("ranker model `{version}` failed its warm-up: {reason}")]
    WarmUp {
        /// Its name.
        version: String,
        /// What happened.
        reason: String,
    },
    /// A file that was deployed has been replaced.
    #[error(
        "the file of ranker model `{version}` is now {found} and was deployed as {expected}; deploy it \
         by name if that is meant"
    )]
    Replaced {
        /// Its name.
        version: String,
        /// What was deployed.
        expected: String,
        /// What is there.
        found: String,
    },
    /// There is nothing to go back to.
    #[error("nothing was deployed before what serves now, so there is nothing to roll back to")]
    NothingBefore,
    /// What is deployed can't be written down.
    #[error("failed to {action} `{}`", path.display())]
    State {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The file that says what is deployed can't be understood.
    #[error("`{}` is not what this program writes; remove it to start with the weighted default", path.display())]
    BrokenState {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The file that the last sweep is in can't be understood.
    #[error("`{}` is not what this program writes; `millrace sweep` makes it anew", path.display())]
    BrokenSweep {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The process is stopping.
    #[error("cut off by the end of the process")]
    Cancelled,
}

/// Why a change of the instance's configuration was refused. What was in force still is.
#[derive(Debug, thiserror::Error)]
pub enum SetConfigError {
    /// Values that cannot be taken.
    #[error(transparent)]
    Invalid(#[from] InvalidInstanceConfig),
    /// As many instances have a configuration of their own as may.
    #[error(
        "{MAX_INSTANCES} instances have a configuration of their own, which is the most; use one of them, \
         or set airec.instance so that only yours is served"
    )]
    TooManyInstances,
    /// It can't be written down.
    #[error(transparent)]
    State(#[from] DeployError),
}
