//! The topic `signals`: what a recommender needs to know of an item.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Origin;
use crate::codec::message;

/// An item's vector and features under one model. Keyed by [`Signal::key`], partitioned by
/// `item_id`, so that two model generations live side by side in one partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// The item; the document's id.
    pub item_id: String,
    /// The object it was read from.
    pub uri: String,
    /// Orders the signals of an item: only a higher one replaces.
    pub document_version: i64,
    /// The encoder that made the vector.
    pub model_version: String,
    /// L2-normalised, `[dimension]`; empty in a tombstone.
    #[serde(default)]
    pub vector: Vec<f32>,
    /// The document's title.
    #[serde(default)]
    pub title: Option<String>,
    /// ISO 639-1, detected.
    #[serde(default)]
    pub language: Option<String>,
    /// The media type of the object.
    #[serde(default)]
    pub media_type: String,
    /// From metadata, front matter or the key's prefix.
    #[serde(default)]
    pub categories: Vec<String>,
    /// From metadata or front matter.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The phrases that mark the text.
    #[serde(default)]
    pub key_phrases: Vec<String>,
    /// `SimHash` of the text alone, its 64 bits as a signed number.
    #[serde(default)]
    pub near_duplicate_hash: i64,
    /// When the document was published, ms since 1970.
    #[serde(default)]
    pub published_at_ms: Option<i64>,
    /// The document is gone.
    #[serde(default)]
    pub deleted: bool,
    /// Tag of the object that was read, as the index's header has it; none in a tombstone.
    #[serde(default)]
    pub etag: Option<String>,
    /// Size of that object.
    #[serde(default)]
    pub size_bytes: Option<i64>,
    /// What the upstream system told of the item, by name. Several values stand on a line each, or
    /// between commas where there is one line.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// The notice that led to this signal.
    pub origin: Origin,
}

impl Signal {
    /// The record's key: `{item_id}@{model_version}`.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}@{}", self.item_id, self.model_version)
    }
}

message!(Signal, "signals", older: ["v1", "v2"], newest: "v3");
