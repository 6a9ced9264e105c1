//! The topic `documents`: notices of created, changed and removed objects.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::codec::message;
use crate::inline_bytes;

/// The most content that a notice carries inline; larger objects are fetched by their URI.
pub const MAX_INLINE_CONTENT_BYTES: usize = 1 << 20;

/// What happened to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentEvent {
    /// It was created or overwritten.
    Created,
    /// It was removed.
    Removed,
}

/// How the content divides into chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// A document of any length, cut into chunks.
    #[default]
    Document,
    /// The content already is one passage: one chunk, one vector.
    Passage,
}

/// A hint that an object was created, changed or removed. The record's key is the `uri`.
///
/// As JSON, `uri`, `event` and `event_time_ms` are needed, and `content` is a base64 string.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DocumentNotice {
    /// The object, e.g. `oss://bucket/key`, `file:///folder/name` or `file:///corpus.jsonl#id`.
    pub uri: String,
    /// What happened.
    pub event: DocumentEvent,
    /// When it happened at its source, ms since 1970.
    pub event_time_ms: i64,
    /// The object's eTag at that time.
    #[serde(default)]
    pub etag: Option<String>,
    /// The object's size at that time.
    #[serde(default)]
    pub size_bytes: Option<i64>,
    /// Its media type, as the source states it.
    #[serde(default)]
    pub media_type: Option<String>,
    /// The content itself, at most [`MAX_INLINE_CONTENT_BYTES`]; nothing is fetched then.
    #[serde(default, with = "inline_bytes")]
    pub content: Option<Vec<u8>>,
    /// A title known to the source.
    #[serde(default)]
    pub title: Option<String>,
    /// How the content divides into chunks.
    #[serde(default)]
    pub layout: Layout,
    /// What else the source knows: `tags`, `categories`, `language` and so on.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Repair: write at this version or above.
    #[serde(default)]
    pub min_version: Option<i64>,
    /// The producer that noticed it: `folder`, `listing`, `http`, `corpus`.
    #[serde(default)]
    pub source: String,
}

message!(DocumentNotice, "documents", older: [], newest: "v1");
