//! The port: what a search index is to the rest of Millrace.

use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{BulkAction, Hit, ItemOutcome, Record, SearchRequest};

/// Layout of the stored records; another one is refused, not guessed at.
pub const FORMAT_VERSION: u32 = 1;

/// The most headers in one page: what OpenSearch gives at once.
pub const MAX_HEADERS: usize = 10_000;

/// The engine behind a `knn_vector` field (OpenSearch only; the embedded index scans exactly).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KnnEngine {
    /// Lucene's HNSW: part of every OpenSearch, needs no native library.
    #[default]
    Lucene,
    /// Faiss's HNSW: needs the k-NN plugin's native library.
    Faiss,
}

/// What an index must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexSpec {
    /// Name of the read alias, such as `millrace-documents`; lower case.
    pub name: String,
    /// Which build of it, from 1. A handle writes and searches this one alone; the read alias, which
    /// says what serves, moves only by [`Generations::swap_alias`](crate::Generations::swap_alias).
    pub generation: u32,
    /// Length of the vectors.
    pub dimension: usize,
    /// Version of the model that makes them.
    pub model_version: String,
    /// Fingerprint of that model: equal dimension is not compatibility.
    pub model_fingerprint: String,
    /// Engine for the vectors.
    pub engine: KnnEngine,
}

impl IndexSpec {
    /// Name of this generation: `"{name}-000001"`.
    pub fn index_name(&self) -> String {
        generation_name(&self.name, self.generation)
    }

    /// Alias that writes to this generation go through: `"{name}-000001-write"`.
    pub fn write_alias(&self) -> String {
        format!("{}-write", self.index_name())
    }

    /// Alias that searches of this generation go through, whatever serves: `"{name}-000001-read"`.
    pub fn search_alias(&self) -> String {
        format!("{}-read", self.index_name())
    }

    /// Compares what an index was built for with what this process writes.
    ///
    /// # Errors
    /// [`IndexError::DimensionMismatch`] and [`IndexError::FingerprintMismatch`] name both.
    pub(crate) fn accepts(&self, dimension: usize, fingerprint: &str) -> Result<(), IndexError> {
        let index = self.index_name();
        if dimension != self.dimension {
            return Err(IndexError::DimensionMismatch {
                index,
                stored: dimension,
                wanted: self.dimension,
            });
        }
        if fingerprint != self.model_fingerprint {
            return Err(IndexError::FingerprintMismatch {
                index,
                stored: fingerprint.to_owned(),
                wanted: self.model_fingerprint.clone(),
            });
        }
        Ok(())
    }

    /// # Errors
    /// [`IndexError::InvalidRequest`] when a field could not name or describe an index.
    pub fn validate(&self) -> Result<(), IndexError> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        let message = if self.name.is_empty()
            || self.name.len() > 200
            || !self.name.starts_with(|c: char| c.is_ascii_alphanumeric())
            || !self.name.chars().all(allowed)
        {
            format!(
                "index name {:?}; give lower-case letters, digits, '-', '_' or '.', \
                 beginning with a letter or digit",
                self.name
            )
        } else if self.generation == 0 || self.generation > 999_999 {
            format!("generation is {}; give 1 to 999999", self.generation)
        } else if self.dimension == 0 || self.dimension > 16_000 {
            format!("dimension is {}; give 1 to 16000", self.dimension)
        } else {
            return Ok(());
        };
        Err(IndexError::InvalidRequest { message })
    }
}

/// Name of a generation: `"{name}-000001"`.
pub fn generation_name(name: &str, generation: u32) -> String {
    format!("{name}-{generation:06}")
}

/// How much an index holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IndexCounts {
    /// Headers that are no tombstones.
    pub documents: u64,
    /// Chunks that are no tombstones.
    pub chunks: u64,
    /// Tombstones of headers and chunks.
    pub tombstones: u64,
}

/// What an index is, for status pages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IndexDescription {
    /// `embedded` or `opensearch`.
    pub adapter: &'static str,
    /// Version of the engine.
    pub engine_version: String,
    /// Name of the generation that serves; empty where none does.
    pub reads: String,
    /// Name of the generation that this describes, which writes and searches of its handle go to.
    pub writes: String,
    /// Length of the vectors.
    pub dimension: usize,
    /// Version of the model that makes them.
    pub model_version: String,
    /// Fingerprint of that model.
    pub model_fingerprint: String,
}

/// One generation of a search index, embedded or in a cluster. Both adapters pass one conformance
/// suite. What it is asked, it answers from this generation, wherever the read alias points.
///
/// Versions are compared as `external_gte`: equal is the same event again and is written again,
/// older is [`ItemOutcome::Stale`]. Searches see a write at the latest after the adapter's
/// refresh interval, or after [`refresh`](Self::refresh); [`get`](Self::get) sees it at once.
#[async_trait]
pub trait SearchIndex: Send + Sync + 'static {
    /// Creates the generation with its aliases, or verifies that the one there fits. Where nothing
    /// serves yet, this one does from here on.
    ///
    /// # Errors
    /// [`IndexError::DimensionMismatch`], [`IndexError::FingerprintMismatch`] and
    /// [`IndexError::FormatMismatch`] name both values; [`IndexError::Locked`] when another
    /// process has the embedded folder.
    async fn ensure(&self, spec: &IndexSpec) -> Result<(), IndexError>;

    /// One attempt; an outcome an item, in order. [`ItemOutcome::Indexed`] and
    /// [`ItemOutcome::Stale`] are durable when this returns.
    ///
    /// # Errors
    /// [`IndexError::TooLarge`] when the request must be split, [`IndexError::NotEnsured`];
    /// everything else is an outcome of the items.
    async fn bulk(&self, actions: Vec<BulkAction>) -> Result<Vec<ItemOutcome>, IndexError>;

    /// Reads records by id as written last (realtime), tombstones included, without vectors.
    ///
    /// # Errors
    /// When the index cannot be read.
    async fn get(&self, ids: &[String]) -> Result<Vec<Option<Record>>, IndexError> {
        self.fetch(ids, false).await
    }

    /// As [`get`](Self::get), with vectors if asked.
    ///
    /// # Errors
    /// When the index cannot be read.
    async fn fetch(
        &self,
        ids: &[String],
        with_vectors: bool,
    ) -> Result<Vec<Option<Record>>, IndexError>;

    /// Finds at most `k` documents, best first, each once, with its best chunk.
    ///
    /// # Errors
    /// [`IndexError::InvalidRequest`], or when the index cannot be read.
    async fn search(&self, request: &SearchRequest) -> Result<Vec<Hit>, IndexError>;

    /// Counts what the generation holds, as searches see it.
    ///
    /// # Errors
    /// When the index cannot be read.
    async fn count(&self) -> Result<IndexCounts, IndexError>;

    /// Headers whose URI starts with `uri_prefix` and is greater than `after`, tombstones
    /// included, ordered by URI (bytewise), at most `limit` (up to [`MAX_HEADERS`]): one page of a
    /// walk over all documents. As searches see them: [`refresh`](Self::refresh) before a walk.
    ///
    /// # Errors
    /// When the index cannot be read.
    async fn headers(
        &self,
        uri_prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Record>, IndexError>;

    /// Loads what searches need, so that the first one is not slow.
    ///
    /// # Errors
    /// When the index cannot be read.
    async fn warm_up(&self) -> Result<(), IndexError>;

    /// Makes all writes so far visible to searches.
    ///
    /// # Errors
    /// When the index cannot be reached.
    async fn refresh(&self) -> Result<(), IndexError>;

    /// Removes tombstones with a version below `older_than_version`; returns how many. Safe only
    /// beyond the longest replay horizon: afterwards a late older version would be accepted.
    ///
    /// # Errors
    /// When the index cannot be written.
    async fn sweep(&self, older_than_version: i64) -> Result<u64, IndexError>;

    /// What this index is.
    ///
    /// # Errors
    /// When the index cannot be read.
    async fn describe(&self) -> Result<IndexDescription, IndexError>;
}

/// An error below, kept for the chain.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why an index could not do as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// Used before `ensure`.
    #[error("the index was not ensured; call ensure with its spec first")]
    NotEnsured,
    /// The index holds vectors of another length.
    #[error(
        "index {index} has vectors of {stored} dimensions, the model makes {wanted}; \
         build a new generation, or use the model that built this one"
    )]
    DimensionMismatch {
        /// Name of the index.
        index: String,
        /// Dimensions of the index.
        stored: usize,
        /// Dimensions of the model.
        wanted: usize,
    },
    /// The index was built by another model.
    #[error(
        "index {index} was built by the model with fingerprint {stored}, this one is {wanted}; \
         build a new generation, or use the model that built this one"
    )]
    FingerprintMismatch {
        /// Name of the index.
        index: String,
        /// Fingerprint in the index.
        stored: String,
        /// Fingerprint of the model.
        wanted: String,
    },
    /// The index has another layout.
    #[error(
        "index {index} has format version {stored}, this program writes {wanted}; \
         build a new generation"
    )]
    FormatMismatch {
        /// Name of the index.
        index: String,
        /// Format in the index.
        stored: String,
        /// Format of this program.
        wanted: u32,
    },
    /// Another process has the folder.
    #[error("another process has the index at {path}; stop it, or use another data folder")]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// There is no such generation.
    #[error("there is no index {name}; it was removed, or never made")]
    NoSuchGeneration {
        /// Name of the generation.
        name: String,
    },
    /// The read alias is not where it was expected.
    #[error(
        "the alias {alias} points at {found}, not at {expected}: somebody moved it; nothing was changed"
    )]
    AliasMoved {
        /// The read alias.
        alias: String,
        /// Name of the generation where it was expected.
        expected: String,
        /// Where it is; `nothing` where it is gone.
        found: String,
    },
    /// A generation that serves is not removed.
    #[error("{name} serves searches and is not removed; move the alias first")]
    Serves {
        /// Name of the generation.
        name: String,
    },
    /// The request itself is wrong.
    #[error("{message}")]
    InvalidRequest {
        /// What is wrong, and what it may be.
        message: String,
    },
    /// The request has too many bytes for the server: split it.
    #[error("the server refused {bytes} bytes as too large a request; send less at once")]
    TooLarge {
        /// Size of the request body before compression.
        bytes: usize,
    },
    /// The server cannot be reached or is overloaded: try again.
    #[error("the index is unavailable: {what}")]
    Unavailable {
        /// What was tried, and what came back.
        what: String,
        /// The cause, where there was one below.
        #[source]
        source: Option<BoxError>,
    },
    /// The server answered with an error that trying again does not cure.
    #[error("the index refused the request with {status} {error_type}: {reason}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The engine's type.
        error_type: String,
        /// The engine's words.
        reason: String,
    },
    /// Files of the embedded index cannot be read or written.
    #[error("index storage at {path} failed: {what}")]
    Storage {
        /// The folder or file.
        path: PathBuf,
        /// What was tried.
        what: String,
        /// The cause.
        #[source]
        source: BoxError,
    },
}

impl IndexError {
    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Storage { .. })
    }
}
