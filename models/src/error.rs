//! What can be wrong with a model folder or with what is asked of a model.

use std::io;
use std::path::PathBuf;

/// Why a model could not be loaded or could not encode.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// There is no folder at this path.
    #[error(
        "model folder `{}` does not exist; run `millrace model pull all-MiniLM-L6-v2` or name a \
         sentence-transformers folder", path.display()
    )]
    MissingFolder {
        /// The folder that was asked for.
        path: PathBuf,
    },
    /// The folder lacks a file that a sentence-transformers model has.
    #[error(
        "model folder `{}` has no `{file}`; a sentence-transformers folder with safetensors weights \
         is needed (`millrace model pull all-MiniLM-L6-v2` fetches one)", folder.display()
    )]
    MissingFile {
        /// The model folder.
        folder: PathBuf,
        /// The missing file, relative to the folder.
        file: &'static str,
    },
    /// A file could not be read.
    #[error("failed to read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A configuration file is not the JSON that was expected.
    #[error("`{}` is not the configuration of a sentence-transformers model", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where the JSON breaks.
        #[source]
        source: serde_json::Error,
    },
    /// The model is of a kind that this encoder would compute wrongly.
    #[error(
        "model `{}` has {property} `{found}`, but this encoder computes only {supported}; \
         choose another model", folder.display()
    )]
    UnsupportedArchitecture {
        /// The model folder.
        folder: PathBuf,
        /// The configuration property that does not fit.
        property: &'static str,
        /// Its value.
        found: String,
        /// The values that are supported.
        supported: &'static str,
    },
    /// `tokenizer.json` could not be loaded.
    #[error("failed to load the tokenizer `{}`", path.display())]
    Tokenizer {
        /// The tokenizer's file.
        path: PathBuf,
        /// What the tokenizers crate said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The weights are damaged or do not have the shapes that the configuration promises.
    #[error("weights `{}`: {reason}", path.display())]
    Weights {
        /// The safetensors file.
        path: PathBuf,
        /// Which tensor, and what is wrong with it.
        reason: String,
    },
    /// A text could not be tokenized.
    #[error("failed to tokenize text {index} of the batch")]
    Tokenize {
        /// Position of the text in the batch.
        index: usize,
        /// What the tokenizers crate said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A token sequence is empty, too long, or holds an id outside the vocabulary.
    #[error("token sequence {index} of the batch {reason}")]
    Sequence {
        /// Position of the sequence in the batch.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// An option has a value that the model can't follow.
    #[error("encoder option `{option}` is {found}; {rule}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// Its value.
        found: usize,
        /// The rule that it breaks.
        rule: String,
    },
    /// The worker threads could not be started.
    #[error("failed to start {threads} encoder threads")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the thread pool said.
        #[source]
        source: rayon::ThreadPoolBuildError,
    },
    /// The device is absent, not compiled in, or failed while computing.
    #[error("device {device} failed")]
    Device {
        /// The device, such as `cuda:0`.
        device: String,
        /// What the device library said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The model servers are away, overloaded or being deployed: waiting mends it.
    #[error("no vectors from the model server {server}: {reason}")]
    Unavailable {
        /// The addresses that were asked.
        server: String,
        /// What the last attempt met.
        reason: String,
    },
    /// The model server refuses this request, whenever it comes.
    #[error("the model server {server} refused the request with {status}: {message}")]
    RemoteRefused {
        /// The address that was asked.
        server: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of its answer.
        message: String,
    },
    /// The model server computes another model than this process's.
    #[error(
        "the model server {server} answers with {found}, but {wanted} are wanted here; let it serve \
         that model, or name the model that it serves in model.name or model.path"
    )]
    RemoteMismatch {
        /// The address that was asked.
        server: String,
        /// What it computes.
        found: String,
        /// Dimension and fingerprint of the local folder.
        wanted: String,
    },
    /// The device needs a cargo feature that this build lacks.
    #[error("device {device} needs a build with `--features {feature}`; this one has the CPU only")]
    DeviceNotCompiled {
        /// The device, such as `cuda:0`.
        device: String,
        /// The cargo feature.
        feature: &'static str,
    },
}

impl ModelError {
    /// Whether the same call may succeed later, without anybody changing what is asked. A server
    /// that computes another model is one of those: it is being deployed, or deployed wrongly, and
    /// nothing that was asked of it is lost meanwhile.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::RemoteMismatch { .. })
    }
}
