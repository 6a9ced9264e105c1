//! What a dataset was made of and what is in it, so that a model can name the data it saw.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::DatasetError;

/// The manifest's file in a dataset's folder.
pub(crate) const MANIFEST: &str = "manifest.json";

/// A dataset's `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this layout: 1.
    pub format: u32,
    /// What it was made of: `beir` or `pairs`.
    pub source: String,
    /// The files it was made of.
    pub read: Vec<FileSum>,
    /// Its own files.
    pub files: Vec<FileSum>,
    /// What is in them.
    pub counts: Counts,
    /// How it was split.
    pub split: SplitBy,
    /// Share of the queries that the dev split was to have.
    pub dev_share: f64,
    /// First and last rank, by BM25 over what does not answer the query, of the hard negatives.
    pub negative_ranks: [usize; 2],
}

/// A file and its checksum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSum {
    /// Where it is, or was read from; the dataset's own are relative to its folder.
    pub path: PathBuf,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
}

/// How much a dataset holds, and what was left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Triples to learn from.
    pub train: usize,
    /// Triples to judge by.
    pub dev: usize,
    /// Queries of both.
    pub queries: usize,
    /// Passages among which negatives were looked for.
    pub passages: usize,
    /// Hard negatives of all triples.
    pub negatives: usize,
    /// Pairs that were there before.
    pub duplicates: usize,
    /// Pairs without a query or a passage.
    pub incomplete: usize,
}

/// What decided which query is on which side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitBy {
    /// The latest queries judge.
    Time,
    /// Chance, from this seed.
    Seed(u64),
}

impl FileSum {
    /// Reads and hashes a file, which can be read again: a pipe would be empty then.
    ///
    /// # Errors
    /// [`DatasetError::Read`].
    pub fn of(path: &Path) -> Result<Self, DatasetError> {
        let failed = |source| DatasetError::Read {
            path: path.to_owned(),
            source,
        };
        let metadata = path.metadata().map_err(failed)?;
        if !metadata.is_file() {
            let kind =
                std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is no regular file");
            return Err(failed(kind));
        }
        Ok(Self {
            path: path.to_owned(),
            bytes: metadata.len(),
            sha256: millrace_downloads::sha256_of(path).map_err(failed)?,
        })
    }
}
