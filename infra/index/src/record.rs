//! What is stored: one header and its chunks for each document.
//!
//! A *header* (`id` = document id, `chunk` = `None`) says which version is there, with which tag
//! and how many chunks; it carries neither text nor vector and no search finds it. A *chunk*
//! (`id` = `"{doc_id}#{n}"`) carries a passage and its vector. A *tombstone* of either keeps only
//! its identity and version, so that a late older version stays refused.

use serde::{Deserialize, Serialize};

/// One stored record: a header where `chunk` is `None`, else the chunk of that number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Document id for a header, `"{doc_id}#{n}"` for a chunk; at most 512 bytes.
    pub id: String,
    /// Stable id of the document.
    pub doc_id: String,
    /// Number of the chunk, from 0; `None` for a header.
    pub chunk: Option<u32>,
    /// Orders the writers: an equal or newer version replaces, an older one is stale.
    pub version: i64,
    /// Where the document lives.
    pub uri: String,
    /// Title; searched together with the text.
    pub title: Option<String>,
    /// The passage; `None` for a header.
    pub text: Option<String>,
    /// Embedding of the index's dimension; `None` for a header.
    pub vector: Option<Vec<f32>>,
    /// Media type of the object.
    pub media_type: Option<String>,
    /// BCP 47 language of the text.
    pub language: Option<String>,
    /// Categories of the document.
    pub categories: Vec<String>,
    /// Tags of the document.
    pub tags: Vec<String>,
    /// Publication time, milliseconds since the Unix epoch.
    pub published_at_ms: Option<i64>,
    /// Version of the model that made the vector.
    pub model_version: String,
    /// Tag of the object that was read (header).
    pub etag: Option<String>,
    /// How many chunks the document has (header).
    pub chunk_count: Option<u32>,
    /// A tombstone: no text, no vector, found by no search.
    pub deleted: bool,
}

impl Record {
    /// Whether this is the document's header.
    pub fn is_header(&self) -> bool {
        self.chunk.is_none()
    }

    /// What text search sees: title and text, joined by a space.
    pub fn searchable_text(&self) -> Option<String> {
        let text = self.text.as_deref()?;
        Some(match self.title.as_deref() {
            Some(title) if !title.is_empty() => format!("{title} {text}"),
            _ => text.to_owned(),
        })
    }
}

/// One item of a bulk request.
#[derive(Clone, Debug, PartialEq)]
pub enum BulkAction {
    /// Writes the record unless a strictly newer version is there.
    Upsert(Box<Record>),
    /// Replaces whatever is there by a tombstone unless a strictly newer version is there.
    Tombstone {
        /// Id of the record.
        id: String,
        /// Document it belongs to.
        doc_id: String,
        /// Number of the chunk; `None` for the header.
        chunk: Option<u32>,
        /// Version of the removal.
        version: i64,
        /// Where the document lived.
        uri: String,
    },
}

impl BulkAction {
    /// Upserts `record`.
    pub fn upsert(record: Record) -> Self {
        Self::Upsert(Box::new(record))
    }

    /// Id of the record it writes.
    pub fn id(&self) -> &str {
        match self {
            Self::Upsert(record) => &record.id,
            Self::Tombstone { id, .. } => id,
        }
    }

    /// Version it writes.
    pub fn version(&self) -> i64 {
        match self {
            Self::Upsert(record) => record.version,
            Self::Tombstone { version, .. } => *version,
        }
    }

    /// The record as it will be stored.
    pub fn into_record(self) -> Record {
        match self {
            Self::Upsert(record) => *record,
            Self::Tombstone {
                id,
                doc_id,
                chunk,
                version,
                uri,
            } => Record {
                id,
                doc_id,
                chunk,
                version,
                uri,
                deleted: true,
                ..Record::default()
            },
        }
    }

    /// About how many bytes of JSON it takes: what batches are cut by.
    pub fn size_bytes(&self) -> usize {
        // A float of a unit vector prints as about 12 characters; the rest is names and braces.
        const FLOAT_BYTES: usize = 13;
        const FRAME_BYTES: usize = 400;
        match self {
            Self::Upsert(record) => {
                let strings = record.categories.iter().chain(&record.tags);
                FRAME_BYTES
                    + record.uri.len()
                    + record.title.as_deref().map_or(0, str::len)
                    + record.text.as_deref().map_or(0, str::len)
                    + record
                        .vector
                        .as_deref()
                        .map_or(0, |v| v.len() * FLOAT_BYTES)
                    + strings.map(|s| s.len() + 3).sum::<usize>()
            }
            Self::Tombstone { uri, .. } => FRAME_BYTES + uri.len(),
        }
    }
}
