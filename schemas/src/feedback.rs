//! The topics `feedback` and `behavior.unmatched`: behavior with and without its item's signal.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::codec::message;
use crate::{BehaviorEvent, Origin, Signal, vector_bytes};

/// A behavior event and the item that it was about. The record's key is the event's `user_id`.
///
/// After a crash a record may come again with the same origin: whoever applies feedback applies an
/// origin once. Origins of one partition come nearly in order, and not quite: an event that waited
/// for its signal comes after later ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Feedback {
    /// The event, unchanged.
    pub event: BehaviorEvent,
    /// Its record in `behavior.by-item`.
    pub origin: Origin,
    /// The item, as its latest signal describes it.
    pub item: FeedbackItem,
    /// The item's smoothed click-through rate just before this event was counted. Absent in records
    /// of older writers. A repetition may tell another one: among items it depends on the order in
    /// which their signals came.
    #[serde(default)]
    pub expected_ctr: Option<f64>,
}

/// What a profile needs to know of an item.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FeedbackItem {
    /// The signal's version.
    pub document_version: i64,
    /// The encoder that made the vector.
    pub model_version: String,
    /// L2-normalised, `[dimension]`; empty where the item is deleted.
    #[serde(with = "vector_bytes")]
    pub vector: Vec<f32>,
    /// The document's title.
    #[serde(default)]
    pub title: Option<String>,
    /// ISO 639-1, detected.
    #[serde(default)]
    pub language: Option<String>,
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
    /// The document is gone; nothing but its version is known any more.
    #[serde(default)]
    pub deleted: bool,
    /// As [`Signal::metadata`].
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

impl From<Signal> for FeedbackItem {
    fn from(signal: Signal) -> Self {
        Self {
            document_version: signal.document_version,
            model_version: signal.model_version,
            vector: signal.vector,
            title: signal.title,
            language: signal.language,
            categories: signal.categories,
            tags: signal.tags,
            key_phrases: signal.key_phrases,
            near_duplicate_hash: signal.near_duplicate_hash,
            published_at_ms: signal.published_at_ms,
            deleted: signal.deleted,
            metadata: signal.metadata,
        }
    }
}

/// A behavior event whose item had no signal within the grace. The record's key is the event's
/// `item_id`. Its event published to `behavior` again is joined then: it passes by its `event_id`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnmatchedBehavior {
    /// The event, unchanged.
    pub event: BehaviorEvent,
    /// Its record in `behavior.by-item`.
    pub origin: Origin,
    /// Event time between its arrival and the watermark that gave it up.
    pub waited_ms: i64,
    /// The partition's watermark that gave it up, ms since 1970.
    pub watermark_ms: i64,
}

message!(Feedback, "feedback", older: ["v1"], newest: "v2");
message!(UnmatchedBehavior, "behavior.unmatched", older: [], newest: "v1");
