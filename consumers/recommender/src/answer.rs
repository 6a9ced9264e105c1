//! What a caller gets: the items, where they came from, and what they were chosen by.

use serde::{Deserialize, Serialize};

/// A list for a user. There always is one; where it could not be made as the scene wants it,
/// [`fallback`](Self::fallback) says what it is instead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The request's id, which clicks carry back.
    pub request_id: String,
    /// Whom it is for.
    pub user_id: String,
    /// Where it will be shown.
    pub scene: String,
    /// The best first.
    pub items: Vec<AnswerItem>,
    /// Absent where the list is what the scene wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// Sources that gave nothing, because they failed or took too long.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_sources: Vec<FailedSource>,
    /// The pipeline that made it.
    pub pipeline: String,
    /// The experiment and bucket that chose the pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<Bucket>,
    /// What ranked it: `ranker@…`, or `weighted`.
    pub ranker_version: String,
    /// Version of the features that it was ranked by.
    pub feature_version: String,
    /// The encoder whose vectors were compared.
    pub embedding_version: String,
    /// The index generation that was searched; empty where none was.
    pub index_version: String,
    /// How text and vectors were weighed against each other.
    pub hybrid: DrawnWeights,
    /// Milliseconds from request to answer.
    pub took_ms: f64,
}

/// One item of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerItem {
    /// The item; the document's id.
    pub item_id: String,
    /// Where the document is; empty for an item that is not known.
    pub uri: String,
    /// Its title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Its place, from 1.
    pub position: u32,
    /// What the ranker gives it: the greater the better within this answer. Absent for an item that
    /// is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Who found it.
    pub sources: Vec<Source>,
    /// Whether there is a signal of it. Only the caller's own candidates may lack one.
    pub known: bool,
    /// It has its place in order to learn about it.
    pub exploration: bool,
    /// How likely it was to get this place; 1 where chance had no part in it.
    pub propensity: f64,
    /// For behavior to carry back: scene, pipeline, bucket and place.
    pub trace_info: String,
    /// Why it is here, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
}

/// Where candidates come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Nearest to the user's own vector.
    SemanticRecall,
    /// By BM25 on the user's interest terms.
    Text,
    /// Both, weighed.
    Hybrid,
    /// Nearest to what the user clicked last, or to what the request gives.
    ItemToItem,
    /// Most acted upon in the last day.
    Trending,
    /// Newest.
    Fresh,
    /// The caller's own.
    Candidates,
}

impl Source {
    /// All that a pipeline may have.
    pub const RECALL: [Self; 6] = [
        Self::SemanticRecall,
        Self::Text,
        Self::Hybrid,
        Self::ItemToItem,
        Self::Trending,
        Self::Fresh,
    ];

    /// The name in configuration, answers and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SemanticRecall => "semantic_recall",
            Self::Text => "text",
            Self::Hybrid => "hybrid",
            Self::ItemToItem => "item_to_item",
            Self::Trending => "trending",
            Self::Fresh => "fresh",
            Self::Candidates => "candidates",
        }
    }
}

/// Why an item is in an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Who found it, at which rank, with which score in the source's own unit.
    pub sources: Vec<SourceRank>,
    /// Every feature in the order of the model's columns; absent values are missing ones.
    pub features: Vec<FeatureValue>,
    /// What the ranker gave it.
    pub ranker_score: Option<f64>,
    /// Its place by the ranker alone, from 1, before diversity and exploration.
    pub ranker_position: Option<u32>,
    /// The trace of the notice that led to its signal, as `traceparent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal_traceparent: Option<String>,
}

/// A source that found an item.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceRank {
    /// The source.
    pub source: Source,
    /// Its place in the source's list, from 1.
    pub rank: u32,
    /// The source's score: a cosine, BM25, a fused score, decayed actions, or ms since 1970.
    pub score: f64,
}

/// A feature of an item for a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureValue {
    /// The column's name.
    pub name: String,
    /// Its value; `None` where it is missing.
    pub value: Option<f32>,
}

/// A list that is not what the scene wants, and what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallback {
    /// Why.
    pub reason: FallbackReason,
    /// The same for people.
    pub message: String,
    /// What the list was made of.
    pub sources: Vec<Source>,
}

/// Why a list is not what the scene wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FallbackReason {
    /// Nothing is known of the user.
    UnknownUser,
    /// The user has a profile without anything that items could be compared with.
    ColdUser,
    /// Nothing new that the sources found may be shown here.
    NoCandidates,
    /// Of what may be shown here, nothing passes the filter of the request; the list is empty.
    NothingPassesTheFilter,
    /// None of the items whose likes were asked for is known.
    UnknownItems,
    /// The feature store does not answer.
    ProfilesUnavailable,
    /// The search index does not answer.
    IndexUnavailable,
    /// Not all items that there are have been read since the start.
    CatalogNotReady,
    /// Candidates could not be scored; they stand as they were found.
    RankingFailed,
}

impl FallbackReason {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::UnknownUser,
        Self::ColdUser,
        Self::NoCandidates,
        Self::NothingPassesTheFilter,
        Self::UnknownItems,
        Self::ProfilesUnavailable,
        Self::IndexUnavailable,
        Self::CatalogNotReady,
        Self::RankingFailed,
    ];

    /// The name in answers and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownUser => "unknown_user",
            Self::ColdUser => "cold_user",
            Self::NoCandidates => "no_candidates",
            Self::NothingPassesTheFilter => "nothing_passes_the_filter",
            Self::UnknownItems => "unknown_items",
            Self::ProfilesUnavailable => "profiles_unavailable",
            Self::IndexUnavailable => "index_unavailable",
            Self::CatalogNotReady => "catalog_not_ready",
            Self::RankingFailed => "ranking_failed",
        }
    }
}

/// A source that gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedSource {
    /// The source.
    pub source: Source,
    /// Why.
    pub reason: String,
}

/// The part of an experiment that a user is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// The experiment.
    pub experiment: String,
    /// Its bucket.
    pub bucket: String,
}

/// Weights of text and vectors in hybrid recall, and how likely they were.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrawnWeights {
    /// Of BM25.
    pub bm25_weight: f32,
    /// Of the vectors.
    pub vector_weight: f32,
    /// How likely a request was to get these weights; 1 where none are drawn.
    pub probability: f64,
}
