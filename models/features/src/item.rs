//! A candidate, as features look at it.

use std::collections::BTreeMap;

use millrace_schemas::{Feedback, ItemCounters, Signal};

/// What is known of an item: what its latest signal says, and how it was received. Borrowed, so that
/// a catalog hands out its own.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// The document's id.
    pub item_id: &'a str,
    /// The encoder that made the vector.
    pub model_version: &'a str,
    /// L2-normalised, `[dimension]`; empty where there is none.
    pub vector: &'a [f32],
    /// Its categories.
    pub categories: &'a [String],
    /// Its tags.
    pub tags: &'a [String],
    /// The phrases that mark its text.
    pub key_phrases: &'a [String],
    /// ISO 639-1.
    pub language: Option<&'a str>,
    /// What the upstream system told of it.
    pub metadata: &'a BTreeMap<String, String>,
    /// When it was published, ms since 1970.
    pub published_at_ms: Option<i64>,
    /// How often it was shown, clicked and otherwise acted on.
    pub counters: &'a ItemCounters,
}

impl<'a> Item<'a> {
    /// The item of a signal.
    #[must_use]
    pub fn of_signal(signal: &'a Signal, counters: &'a ItemCounters) -> Self {
        Self {
            item_id: &signal.item_id,
            model_version: &signal.model_version,
            vector: &signal.vector,
            categories: &signal.categories,
            tags: &signal.tags,
            key_phrases: &signal.key_phrases,
            language: signal.language.as_deref(),
            metadata: &signal.metadata,
            published_at_ms: signal.published_at_ms,
            counters,
        }
    }

    /// The item that feedback was about.
    #[must_use]
    pub fn of_feedback(feedback: &'a Feedback, counters: &'a ItemCounters) -> Self {
        let item = &feedback.item;
        Self {
            item_id: &feedback.event.item_id,
            model_version: &item.model_version,
            vector: &item.vector,
            categories: &item.categories,
            tags: &item.tags,
            key_phrases: &item.key_phrases,
            language: item.language.as_deref(),
            metadata: &item.metadata,
            published_at_ms: item.published_at_ms,
            counters,
        }
    }
}
