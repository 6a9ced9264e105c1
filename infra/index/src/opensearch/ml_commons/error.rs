//! Why a model is not one of OpenSearch's.

use crate::IndexError;

/// Why a model is not OpenSearch's now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MlError {
    /// The cluster refused, or is away.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The plugin is not there.
    #[error(
        "the OpenSearch cluster has no ml-commons plugin (opensearch-ml), which calls models; install it"
    )]
    NoPlugin,
    /// The cluster's settings forbid to call the model server.
    #[error(
        "OpenSearch may not call {endpoint}: {reason}; let it with --trust, which adds the address to \
         {setting}, or change that setting yourself"
    )]
    NotTrusted {
        /// Where the model server is.
        endpoint: String,
        /// The engine's words.
        reason: String,
        /// The cluster setting that forbids it.
        setting: &'static str,
    },
    /// Something of that name is somebody else's.
    #[error("{what} is there already and was not made by millrace; {then}")]
    NotOurs {
        /// What it is.
        what: String,
        /// What to do.
        then: &'static str,
    },
    /// The index has vectors of another model.
    #[error(
        "the index {index} has vectors of the model with fingerprint {stored}, the server computes \
         {served}: a search by text would compare what can't be compared; deploy the index's model, or \
         build a new generation with this one"
    )]
    OtherModel {
        /// The index that the alias reads.
        index: String,
        /// Fingerprint in the index.
        stored: String,
        /// Fingerprint of the model.
        served: String,
    },
    /// It was not deployed in time.
    #[error(
        "the model {model_id} is {state} after {seconds} s; see the log of the cluster's nodes"
    )]
    NotDeployed {
        /// The model in OpenSearch.
        model_id: String,
        /// Its state.
        state: String,
        /// How long was waited.
        seconds: u64,
    },
    /// An answer that is not what the interface promises.
    #[error("OpenSearch answered without {what}: {answer}")]
    Answer {
        /// What is missing.
        what: &'static str,
        /// The answer's beginning.
        answer: String,
    },
}
