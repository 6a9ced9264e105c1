//! Training data: queries with the passages that answer them and some that only seem to.
//!
//! ```text
//! judged corpus (BEIR), file of pairs ─► pairs ─► hard negatives ─► split ─► train.jsonl.gz, dev.jsonl.gz,
//!                                        once     by BM25           by time   manifest.json
//!                                        each                       or seed
//! ```

mod beir;
mod build;
mod files;
mod lines;
mod manifest;
mod negatives;
mod pairs;
mod split;

use serde::{Deserialize, Serialize};

pub use beir::{Judged, judged};
pub use build::{BuildOptions, build};
pub use files::Dataset;
pub use manifest::{Counts, FileSum, Manifest, SplitBy};
pub use pairs::pairs_of_file;

/// A query, a passage that answers it, and passages that do not although they look like it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Triple {
    /// What is asked.
    pub query: String,
    /// What answers it.
    pub positive: String,
    /// What does not, the hardest first; may be empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub negatives: Vec<String>,
}

/// A query with a passage that answers it, before negatives are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// What is asked.
    pub query: String,
    /// What answers it.
    pub positive: String,
    /// When that was learnt, where it is known, in milliseconds since the Unix epoch.
    pub time_ms: Option<i64>,
}

/// Pairs, and the passages among which hard negatives are looked for.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// Such as `beir`.
    pub kind: &'static str,
    /// In the order in which they were read.
    pub pairs: Vec<Pair>,
    /// Each text once.
    pub passages: Vec<String>,
    /// Pairs that were left out because their query or passage is missing or empty.
    pub incomplete: usize,
    /// What it was read from, hashed before: a dataset is of these bytes, or is not built.
    pub files: Vec<FileSum>,
}
