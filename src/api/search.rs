//! `POST /v1/search`, `GET /v1/instances/{instance}/search`: one hit a document, by text, by meaning, or both.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use millrace_index::{Filter, Fusion, Hit, IndexError, Mode, SearchRequest};
use millrace_producers::airec::AirecConfig;
use millrace_recommender::Recommender;
use millrace_recommender::http::filter;
use serde::{Deserialize, Serialize};

use super::snippet::snippet;
use super::{ApiError, ApiState, Body};
use crate::stack::generations::OpenGeneration;

/// Most documents one search may ask for.
pub const MAX_K: usize = 1_000;
/// Longest query, in bytes: the encoder reads a few hundred tokens at most.
const MAX_QUERY_BYTES: usize = 16 * 1024;

/// A search as callers write it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchQuery {
    /// Words or a question.
    pub query: String,
    /// `hybrid` (default), `vector` or `text`.
    #[serde(default)]
    pub mode: Mode,
    /// Weight of BM25 in a hybrid search. Default: 0.3.
    #[serde(default = "default_bm25_weight")]
    pub bm25_weight: f32,
    /// Weight of the vectors in a hybrid search. Default: 0.7; both must sum to 1.
    #[serde(default = "default_vector_weight")]
    pub vector_weight: f32,
    /// Fuse by reciprocal rank instead of by weighted scores.
    #[serde(default)]
    pub rrf: bool,
    /// How many documents. Default: 10.
    #[serde(default = "default_k")]
    pub k: usize,
    /// What may be found at all.
    #[serde(default)]
    pub filter: Filter,
}

impl SearchQuery {
    /// A search with every setting at its default.
    pub fn new(query: &str) -> Self {
        Self {
            query: query.to_owned(),
            mode: Mode::default(),
            bm25_weight: default_bm25_weight(),
            vector_weight: default_vector_weight(),
            rrf: false,
            k: default_k(),
            filter: Filter::default(),
        }
    }

    /// As [`new`](Self::new), for so many documents.
    pub fn deep(query: &str, k: usize) -> Self {
        Self {
            k,
            ..Self::new(query)
        }
    }

    /// How what is found is ranked.
    pub fn ranking(&self) -> RankingQuery {
        RankingQuery {
            mode: self.mode,
            bm25_weight: self.bm25_weight,
            vector_weight: self.vector_weight,
            rrf: self.rrf,
        }
    }
}

/// How documents are ranked, whatever is searched for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RankingQuery {
    /// Which sub-queries run.
    pub mode: Mode,
    /// As [`SearchQuery::bm25_weight`].
    pub bm25_weight: f32,
    /// As [`SearchQuery::vector_weight`].
    pub vector_weight: f32,
    /// As [`SearchQuery::rrf`].
    pub rrf: bool,
}

fn default_bm25_weight() -> f32 {
    millrace_index::DEFAULT_BM25_WEIGHT
}

fn default_vector_weight() -> f32 {
    millrace_index::DEFAULT_VECTOR_WEIGHT
}

fn default_k() -> usize {
    millrace_index::DEFAULT_K
}

/// What was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SearchAnswer {
    /// The query as it was given.
    pub query: String,
    /// How it was searched.
    pub mode: Mode,
    /// Milliseconds from request to answer, query embedding included.
    pub took_ms: f64,
    /// The index generation that was searched.
    pub index_version: String,
    /// The model of its vectors, and of the query's.
    pub embedding_version: String,
    /// The weight of BM25, of a search that weighs both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bm25_weight: Option<f32>,
    /// Best first, one a document.
    pub hits: Vec<FoundDocument>,
}

/// A document that was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FoundDocument {
    /// Stable hash of the URI.
    pub doc_id: String,
    /// Where the document is.
    pub uri: String,
    /// Its title, where it has one.
    pub title: Option<String>,
    /// What the ranking is by; its meaning depends on the mode.
    pub score: f32,
    /// BM25 of its best chunk as the engine gives it; none where text was not searched or did not match.
    pub text_score: Option<f32>,
    /// Cosine of its best chunk; none where vectors were not searched.
    pub vector_score: Option<f32>,
    /// Part of its best chunk.
    pub snippet: String,
}

pub async fn search(
    State(state): State<ApiState>,
    Body(query): Body<SearchQuery>,
) -> Result<Json<SearchAnswer>, ApiError> {
    answer(&state, query).await.map(Json)
}

/// Searches.
///
/// # Errors
/// The query can't be searched, or the index or the encoder is away.
pub async fn answer(state: &ApiState, query: SearchQuery) -> Result<SearchAnswer, ApiError> {
    check(&query.query)?;
    if query.k == 0 || query.k > MAX_K {
        return Err(not_that_many("k", query.k));
    }
    let started = Instant::now();
    state.recent.note(&query.query);
    // Of a canary nobody asked for.
    let mut asked = query.clone();
    asked.filter.exclude_doc_ids.extend(state.hidden.clone());
    let serving = state.serving().await?;
    let (serving, hits) = match hits(&serving, &asked).await {
        // It was removed after it had been resolved: what serves now is there.
        Err(error) if is_gone(&error) => {
            let serving = state.serving().await?;
            let hits = hits(&serving, &asked).await;
            (serving, hits)
        }
        hits => (serving, hits),
    };
    let hits = hits.map_err(|error| not_searched(&error))?;
    let weighs = query.mode == Mode::Hybrid && !query.rrf;
    Ok(SearchAnswer {
        bm25_weight: weighs.then_some(query.bm25_weight),
        mode: query.mode,
        took_ms: started.elapsed().as_secs_f64() * 1e3,
        index_version: serving.spec.index_name(),
        embedding_version: serving.spec.model_version,
        hits: hits
            .into_iter()
            .map(|hit| found(hit, &query.query))
            .collect(),
        query: query.query,
    })
}

fn is_gone(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(IndexError::NoSuchGeneration { .. })
    )
}

/// Searches one generation with a vector of its own model.
///
/// # Errors
/// The query can't be embedded, or the index refuses it or is away.
pub async fn hits(open: &OpenGeneration, query: &SearchQuery) -> anyhow::Result<Vec<Hit>> {
    let vector = match query.mode {
        Mode::Text => None,
        Mode::Vector | Mode::Hybrid => Some(open.embed(query.query.clone()).await?),
    };
    let request = SearchRequest {
        text: Some(query.query.clone()),
        vector,
        mode: query.mode,
        fusion: fusion(&query.ranking()),
        k: query.k,
        window: query.k.max(millrace_index::DEFAULT_WINDOW),
        filter: query.filter.clone(),
    };
    Ok(open.index.search(&request).await?)
}

/// What the handler of [`instance_search`] needs.
#[derive(Clone)]
pub struct InstanceSearch {
    /// Searches.
    pub api: ApiState,
    /// Knows the weights in force.
    pub recommender: Arc<Recommender>,
    /// Knows which instance is served.
    pub airec: AirecConfig,
}

/// What is asked of an instance's search.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceSearchQuery {
    query: String,
    #[serde(default)]
    mode: Mode,
    /// A number; read where its limits are known.
    count: Option<String>,
    /// A [`Filter`] as JSON.
    filter: Option<String>,
}

/// `GET /v1/instances/{instance}/search`: with the weights that the instance's configuration has for the query.
pub async fn instance_search(
    State(state): State<InstanceSearch>,
    Path(instance): Path<String>,
    query: Result<Query<InstanceSearchQuery>, QueryRejection>,
) -> Result<Json<SearchAnswer>, ApiError> {
    if !state.airec.serves(&instance) {
        return Err(ApiError::not_served_here(
            "this instance is not served here; see airec.instance",
        ));
    }
    let Query(asked) = query?;
    let filter = match &asked.filter {
        None => Filter::default(),
        Some(text) => filter::own(text).map_err(ApiError::invalid)?,
    };
    let count = match &asked.count {
        None => default_k(),
        Some(text) => match text.parse() {
            Ok(count) if (1..=MAX_K).contains(&count) => count,
            _ => {
                let beginning: String = text.chars().take(100).collect();
                return Err(not_that_many("`count`", beginning));
            }
        },
    };
    let weights = state.recommender.config(&instance).weights_of(&asked.query);
    let query = SearchQuery {
        mode: asked.mode,
        bm25_weight: weights.bm25_weight as f32,
        vector_weight: weights.vector_weight as f32,
        k: count,
        filter,
        ..SearchQuery::new(&asked.query)
    };
    answer(&state.api, query).await.map(Json)
}

/// Refuses words that no search takes.
pub fn check(query: &str) -> Result<(), ApiError> {
    if query.trim().is_empty() {
        return Err(ApiError::invalid(
            "the query is empty; give words or a question",
        ));
    }
    if query.len() > MAX_QUERY_BYTES {
        return Err(ApiError::invalid(format!(
            "the query has {} bytes; at most {MAX_QUERY_BYTES} are searched",
            query.len()
        )));
    }
    Ok(())
}

/// A number of documents that no search may ask for.
pub fn not_that_many(parameter: &str, given: impl std::fmt::Display) -> ApiError {
    ApiError::invalid(format!("{parameter} is {given}; give 1 to {MAX_K}"))
}

/// Whose fault it is that the index gave nothing.
pub fn not_searched(error: &anyhow::Error) -> ApiError {
    match error.downcast_ref::<IndexError>() {
        Some(error @ IndexError::InvalidRequest { .. }) => ApiError::invalid(error.to_string()),
        _ => ApiError::unavailable(error.as_ref()),
    }
}

/// How the two lists of a hybrid search are joined.
pub fn fusion(ranking: &RankingQuery) -> Fusion {
    if ranking.rrf {
        Fusion::Rrf {
            rank_constant: millrace_index::DEFAULT_RANK_CONSTANT,
        }
    } else {
        Fusion::MinMax {
            bm25_weight: ranking.bm25_weight,
            vector_weight: ranking.vector_weight,
        }
    }
}

fn found(hit: Hit, query: &str) -> FoundDocument {
    FoundDocument {
        snippet: snippet(&hit.text, query),
        doc_id: hit.doc_id,
        uri: hit.uri,
        title: hit.title,
        score: hit.score,
        text_score: hit.text_score,
        vector_score: hit.vector_score,
    }
}
