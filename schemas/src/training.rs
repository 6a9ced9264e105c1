//! The topic `training`: what was answered, with what was clicked of it.

use serde::{Deserialize, Serialize};

use crate::codec::message;
use crate::{Impression, ImpressionItem, Origin, vector_bytes};

/// An answer of the recommender with the clicks on it. The record's key is the `request_id`; of several
/// records that with the greatest revision holds: a click that came late makes another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingExample {
    /// What behavior names as its `request_id`.
    pub request_id: String,
    /// One more than the clicks that are counted in it. The same revision is the same record, whoever
    /// wrote it.
    pub revision: i32,
    /// As [`Impression::user_id`].
    pub user_id: String,
    /// As [`Impression::scene`].
    #[serde(default)]
    pub scene: String,
    /// As [`Impression::pipeline`].
    #[serde(default)]
    pub pipeline: String,
    /// As [`Impression::bucket`].
    #[serde(default)]
    pub bucket: Option<String>,
    /// As [`Impression::served_at_ms`].
    pub served_at_ms: i64,
    /// In the answer's order.
    pub items: Vec<TrainingItem>,
    /// How long after `served_at_ms` a click counts.
    pub window_ms: i64,
    /// As [`Impression::feature_version`].
    pub feature_version: String,
    /// As [`Impression::ranker_version`].
    pub ranker_version: String,
    /// As [`Impression::embedding_version`].
    pub embedding_version: String,
    /// As [`Impression::index_version`].
    #[serde(default)]
    pub index_version: String,
    /// As [`Impression::bm25_weight`].
    pub bm25_weight: f64,
    /// As [`Impression::vector_weight`].
    pub vector_weight: f64,
    /// As [`Impression::weight_probability`].
    pub weight_probability: f64,
    /// As [`Impression::fallback`].
    #[serde(default)]
    pub fallback: Option<String>,
    /// The answer's record of `impressions`.
    pub origin: Origin,
}

/// One item of an answer, with the clicks on it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrainingItem {
    /// The item; the document's id.
    pub item_id: String,
    /// From 1.
    pub position: i32,
    /// The ranker's score.
    pub score: f32,
    /// As [`ImpressionItem::features`].
    #[serde(with = "vector_bytes::with_missing")]
    pub features: Vec<f32>,
    /// As [`ImpressionItem::propensity`].
    pub propensity: f64,
    /// As [`ImpressionItem::explored`].
    pub explored: bool,
    /// Clicks on it within the window.
    pub clicks: i32,
    /// The event time of the earliest of them, ms since 1970.
    #[serde(default)]
    pub first_click_ms: Option<i64>,
}

/// Bit by bit, so that a missing feature equals itself.
impl PartialEq for TrainingItem {
    fn eq(&self, other: &Self) -> bool {
        self.as_shown() == other.as_shown()
            && self.clicks == other.clicks
            && self.first_click_ms == other.first_click_ms
    }
}

impl TrainingItem {
    fn as_shown(&self) -> ImpressionItem {
        ImpressionItem {
            item_id: self.item_id.clone(),
            position: self.position,
            score: self.score,
            features: self.features.clone(),
            propensity: self.propensity,
            explored: self.explored,
            sources: Vec::new(),
        }
    }
}

impl From<ImpressionItem> for TrainingItem {
    fn from(item: ImpressionItem) -> Self {
        Self {
            item_id: item.item_id,
            position: item.position,
            score: item.score,
            features: item.features,
            propensity: item.propensity,
            explored: item.explored,
            clicks: 0,
            first_click_ms: None,
        }
    }
}

impl TrainingExample {
    /// The first revision of an answer: nothing of it was clicked.
    #[must_use]
    pub fn without_clicks(impression: Impression, window_ms: i64, origin: Origin) -> Self {
        Self {
            request_id: impression.request_id,
            revision: 1,
            user_id: impression.user_id,
            scene: impression.scene,
            pipeline: impression.pipeline,
            bucket: impression.bucket,
            served_at_ms: impression.served_at_ms,
            items: impression.items.into_iter().map(Into::into).collect(),
            window_ms,
            feature_version: impression.feature_version,
            ranker_version: impression.ranker_version,
            embedding_version: impression.embedding_version,
            index_version: impression.index_version,
            bm25_weight: impression.bm25_weight,
            vector_weight: impression.vector_weight,
            weight_probability: impression.weight_probability,
            fallback: impression.fallback,
            origin,
        }
    }

    /// Counts a click on the item at `index` of the answer.
    pub fn count_click(&mut self, index: usize, event_time_ms: i64) {
        if let Some(item) = self.items.get_mut(index) {
            item.clicks += 1;
            let first = item.first_click_ms.unwrap_or(event_time_ms);
            item.first_click_ms = Some(first.min(event_time_ms));
            self.revision += 1;
        }
    }
}

message!(TrainingExample, "training", older: [], newest: "v1");
