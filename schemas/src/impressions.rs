//! The topic `impressions`: what the recommender answered, and what from.

use serde::{Deserialize, Serialize};

use crate::codec::message;
use crate::vector_bytes;

/// An answer of the recommender. The record's key is the `request_id`, which the behavior that
/// follows it names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Impression {
    /// What behavior names as its `request_id`.
    pub request_id: String,
    /// Who asked.
    pub user_id: String,
    /// The place in the caller's product, as AIRec's scenes.
    #[serde(default)]
    pub scene: String,
    /// Which recall, ranking and rules made the answer.
    #[serde(default)]
    pub pipeline: String,
    /// The experiment's bucket that chose the pipeline.
    #[serde(default)]
    pub bucket: Option<String>,
    /// The time that features were computed for, ms since 1970.
    pub served_at_ms: i64,
    /// In the answer's order.
    pub items: Vec<ImpressionItem>,
    /// Names the features' declarations.
    pub feature_version: String,
    /// The ranker that scored.
    pub ranker_version: String,
    /// The encoder of the vectors.
    pub embedding_version: String,
    /// The index generation that was searched.
    #[serde(default)]
    pub index_version: String,
    /// Weight of BM25 in hybrid recall.
    #[serde(default = "default_bm25_weight")]
    pub bm25_weight: f64,
    /// Weight of the vectors.
    #[serde(default = "default_vector_weight")]
    pub vector_weight: f64,
    /// Probability of these weights, over the draws of the request.
    #[serde(default = "one")]
    pub weight_probability: f64,
    /// Why the answer is not personal, where it is not.
    #[serde(default)]
    pub fallback: Option<String>,
    /// Up to where the topics were read that the features were computed from.
    #[serde(default)]
    pub read_up_to: Vec<ReadUpTo>,
    /// What the user's profile was computed from; absent where none was read, as `fallback` then
    /// says, or one that was stored before profiles kept a position.
    #[serde(default)]
    pub profile: Option<ProfileRead>,
}

/// One item of an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImpressionItem {
    /// The item; the document's id.
    pub item_id: String,
    /// From 1.
    pub position: i32,
    /// The ranker's score.
    pub score: f32,
    /// `[features]`, as declared by the feature version; NaN where missing, `null` in JSON.
    #[serde(with = "vector_bytes::with_missing")]
    pub features: Vec<f32>,
    /// Probability of the item being shown, over the draws of the request; at least 0.01.
    #[serde(default = "one")]
    pub propensity: f64,
    /// It was drawn to be explored.
    #[serde(default)]
    pub explored: bool,
    /// Which recalls brought it.
    #[serde(default)]
    pub sources: Vec<String>,
}

/// Bit by bit, so that a missing feature equals itself.
impl PartialEq for ImpressionItem {
    fn eq(&self, other: &Self) -> bool {
        let bits = |features: &[f32]| features.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        self.item_id == other.item_id
            && self.position == other.position
            && self.score.to_bits() == other.score.to_bits()
            && bits(&self.features) == bits(&other.features)
            && self.propensity.to_bits() == other.propensity.to_bits()
            && self.explored == other.explored
            && self.sources == other.sources
    }
}

/// The next offset of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadUpTo {
    /// The topic's full name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset of the first record that was not read.
    pub offset: i64,
}

/// Which records of `feedback` a profile was computed from: those of its user in this partition and
/// below this offset, each origin once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileRead {
    /// The partition of `feedback`.
    pub partition: i32,
    /// The offset after the user's last record that was applied.
    pub offset: i64,
    /// How many of the user's records were applied. Where fewer are left below the offset, the
    /// profile can't be computed again.
    pub events: i64,
    /// Its vectors were once made anew for another encoder, from signals of then: they are not those
    /// of the records.
    #[serde(default)]
    pub rebuilt: bool,
}

fn default_bm25_weight() -> f64 {
    0.3
}

fn default_vector_weight() -> f64 {
    0.7
}

fn one() -> f64 {
    1.0
}

message!(Impression, "impressions", older: ["v1"], newest: "v2");
