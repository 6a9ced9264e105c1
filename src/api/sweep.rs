//! `POST /v1/search/sweep`: one query under several rankings, embedded once. Each is searched as a search
//! of its own would be, by the engine that serves, so that what is measured is what users get.
//!
//! It is behind the control token: one request makes the index work as often as it has rankings.

use axum::Json;
use axum::extract::State;
use millrace_index::{Filter, Mode, SearchRequest};
use serde::{Deserialize, Serialize};

use super::search::{MAX_K, RankingQuery, check, fusion, not_searched, not_that_many};
use super::{ApiError, ApiState, Body};

/// Most rankings of one request: every hundredth of the weights, RRF, and one more.
pub const MAX_RANKINGS: usize = 103;

/// A query and the rankings to try.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepQuery {
    /// Words or a question.
    pub query: String,
    /// How to rank, one after the other.
    pub rankings: Vec<RankingQuery>,
    /// How many documents of each.
    pub k: usize,
    /// What may be found at all.
    #[serde(default)]
    pub filter: Filter,
}

/// What was found, a list a ranking, in the order in which they were asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SweepAnswer {
    /// What was searched.
    #[serde(flatten)]
    pub searched: Searched,
    /// Documents, best first.
    pub rankings: Vec<Vec<RankedDocument>>,
}

/// An index generation, and the model that embedded it and the query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Searched {
    /// The generation.
    pub index_version: String,
    /// The model, `NAME@FINGERPRINT`.
    pub embedding_version: String,
}

/// A document of a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RankedDocument {
    /// Where the document is.
    pub uri: String,
    /// What the ranking is by.
    pub score: f32,
}

pub async fn sweep(
    State(state): State<ApiState>,
    Body(query): Body<SweepQuery>,
) -> Result<Json<SweepAnswer>, ApiError> {
    check(&query.query)?;
    if query.k == 0 || query.k > MAX_K {
        return Err(not_that_many("k", query.k));
    }
    if query.rankings.len() > MAX_RANKINGS {
        return Err(ApiError::invalid(format!(
            "{} rankings; at most {MAX_RANKINGS} are tried at once",
            query.rankings.len()
        )));
    }
    let needs_vector = |ranking: &RankingQuery| ranking.mode != Mode::Text;
    let serving = state.serving().await?;
    let vector = if query.rankings.iter().any(needs_vector) {
        let embedded = serving.embed(query.query.clone()).await;
        Some(embedded.map_err(|error| not_searched(&error))?)
    } else {
        None
    };
    let mut rankings = Vec::with_capacity(query.rankings.len());
    for ranking in &query.rankings {
        let request = SearchRequest {
            text: Some(query.query.clone()),
            vector: vector.clone().filter(|_| needs_vector(ranking)),
            mode: ranking.mode,
            fusion: fusion(ranking),
            k: query.k,
            window: query.k.max(millrace_index::DEFAULT_WINDOW),
            filter: query.filter.clone(),
        };
        let hits = serving.index.search(&request).await;
        let hits = hits.map_err(|error| not_searched(&error.into()))?;
        let documents = hits.into_iter().map(|hit| RankedDocument {
            uri: hit.uri,
            score: hit.score,
        });
        rankings.push(documents.collect());
    }
    let searched = Searched {
        index_version: serving.spec.index_name(),
        embedding_version: serving.spec.model_version,
    };
    Ok(Json(SweepAnswer { searched, rankings }))
}
