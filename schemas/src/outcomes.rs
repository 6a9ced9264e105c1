//! The topic `documents.outcomes`: what became of each notice.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Origin;
use crate::codec::message;

/// How the work on a notice ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// Written to the index.
    Indexed,
    /// Tombstones were written.
    Removed,
    /// The index already held a newer version.
    Stale,
    /// A later notice for the same URI made this one moot before anything was fetched.
    Superseded,
    /// It went to the dead-letter topic.
    DeadLettered,
    /// A kind that a newer writer has and this reader has not. Never written.
    #[serde(other)]
    Unknown,
}

impl OutcomeKind {
    /// The name on the wire, e.g. `dead_lettered`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Indexed => "indexed",
            Self::Removed => "removed",
            Self::Stale => "stale",
            Self::Superseded => "superseded",
            Self::DeadLettered => "dead_lettered",
        }
    }
}

impl fmt::Display for OutcomeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What became of one notice. The record's key is the `uri`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DocumentOutcome {
    /// The object.
    pub uri: String,
    /// Its document id.
    pub doc_id: String,
    /// How it ended.
    pub outcome: OutcomeKind,
    /// The version that was written or tried.
    pub version: i64,
    /// Chunks written.
    #[serde(default)]
    pub chunks: i32,
    /// Tokens embedded.
    #[serde(default)]
    pub tokens: i64,
    /// Time to read the object.
    #[serde(default)]
    pub fetch_ms: i64,
    /// Time to extract its text.
    #[serde(default)]
    pub extract_ms: i64,
    /// Time to embed it.
    #[serde(default)]
    pub embed_ms: i64,
    /// Time to index it.
    #[serde(default)]
    pub index_ms: i64,
    /// From receipt to the end.
    #[serde(default)]
    pub total_ms: i64,
    /// Of a dead letter: the machine-readable type.
    #[serde(default)]
    pub error_type: Option<String>,
    /// Of a dead letter: what a person should know. Holds no document text.
    #[serde(default)]
    pub message: Option<String>,
    /// The trace that the notice belongs to.
    #[serde(default)]
    pub traceparent: Option<String>,
    /// The notice.
    pub origin: Origin,
    /// When it ended, ms since 1970.
    pub finished_at_ms: i64,
}

message!(DocumentOutcome, "documents.outcomes", older: [], newest: "v1");
