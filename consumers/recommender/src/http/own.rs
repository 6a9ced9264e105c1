//! Our own dialect: items for a user, and the caller's candidates in a better order.

use std::collections::HashMap;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use millrace_retry::error_chain;
use millrace_schemas::DocId;
use serde::{Deserialize, Serialize};
use tracing::Instrument;

use super::error::HttpError;
use super::{HttpState, filter, span, trace, trace_id};
use crate::request::check_id;
use crate::{Answer, ItemRef, RecommendRequest, RerankRequest};

/// What is asked of `GET …/recommend`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecommendQuery {
    /// Whom it is for.
    pub user_id: String,
    /// Where it will be shown. Default: `recommender.default_scene`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scene: Option<String>,
    /// How many items. Default: the scene's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// What may be in the answer, as JSON: the filter of a search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Say of each item where it came from, its features and its scores. Default: false.
    #[serde(default)]
    pub explain: bool,
}

/// The same as an address has it: numbers are read where their limits are known.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecommendParameters {
    user_id: String,
    scene: Option<String>,
    count: Option<String>,
    filter: Option<String>,
    #[serde(default)]
    explain: bool,
}

/// What is asked of `POST …/rerank`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RerankBody {
    /// Whom it is for.
    pub user_id: String,
    /// What is to be ranked.
    pub candidates: Vec<Candidate>,
    /// Where it will be shown. Default: `recommender.default_scene`.
    #[serde(default)]
    pub scene: Option<String>,
    /// Say of each item its features and its scores. Default: false.
    #[serde(default)]
    pub explain: bool,
}

/// One of the caller's candidates: a document's id, its URI, or the item as the upstream system
/// names it; alone, or with the caller's own score.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Candidate {
    /// Alone.
    Item(String),
    /// With a score.
    Scored(ItemRef),
}

/// An answer over HTTP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recommendation {
    /// The instance that was asked.
    pub instance: String,
    /// The trace of the request: the caller's, or a new one.
    pub trace_id: String,
    /// The answer.
    #[serde(flatten)]
    pub answer: Answer,
}

/// `GET /v1/instances/{instance}/recommend`.
pub(super) async fn recommend(
    State(state): State<HttpState>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    query: Result<Query<RecommendParameters>, QueryRejection>,
) -> Result<Json<Recommendation>, HttpError> {
    let Path(instance) = path?;
    state.check_instance(&instance)?;
    let Query(query) = query?;
    let filter = match &query.filter {
        Some(text) => filter::own(text).map_err(HttpError::invalid)?,
        None => Default::default(),
    };
    let count = match &query.count {
        Some(text) => Some(state.recommender.item_count(text)?),
        None => None,
    };
    let traceparent = trace(&headers);
    let trace_id = trace_id(traceparent.as_ref());
    let request = RecommendRequest {
        request_id: request_id(),
        instance: instance.clone(),
        user_id: query.user_id,
        scene: query.scene,
        count,
        like: Vec::new(),
        filter,
        explain: query.explain,
        preview: false,
        traceparent,
    };
    let span = span(
        "recommend",
        &request.request_id,
        request.traceparent.as_ref(),
    );
    let answer = state.recommender.recommend(request);
    let answer = answer.instrument(span).await?;
    Ok(Json(Recommendation {
        instance,
        trace_id,
        answer,
    }))
}

/// `POST /v1/instances/{instance}/rerank`.
pub(super) async fn rerank(
    State(state): State<HttpState>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Json<RerankBody>, JsonRejection>,
) -> Result<Json<Recommendation>, HttpError> {
    let Path(instance) = path?;
    state.check_instance(&instance)?;
    let Json(body) = body?;
    let items = state.items.of_instance(&instance);
    let mut names = HashMap::with_capacity(body.candidates.len());
    let mut candidates = Vec::with_capacity(body.candidates.len());
    for candidate in body.candidates {
        let ItemRef { item_id, score } = match candidate {
            Candidate::Item(item_id) => ItemRef {
                item_id,
                score: None,
            },
            Candidate::Scored(item) => item,
        };
        check_id("item_id", &item_id)?;
        let document = match DocId::parse(&item_id) {
            Some(document) => document,
            None => items.resolve(&item_id).map_err(|error| {
                let error = error_chain(&error);
                HttpError::invalid(format!("a candidate can't be ranked: {error}"))
            })?,
        };
        candidates.push(ItemRef {
            item_id: document.to_string(),
            score,
        });
        names.insert(document.to_string(), item_id);
    }
    let traceparent = trace(&headers);
    let trace_id = trace_id(traceparent.as_ref());
    let request = RerankRequest {
        request_id: request_id(),
        instance: instance.clone(),
        user_id: body.user_id,
        candidates,
        scene: body.scene,
        explain: body.explain,
        traceparent,
    };
    let span = span("rerank", &request.request_id, request.traceparent.as_ref());
    let answer = state.recommender.rerank(request);
    let mut answer = answer.instrument(span).await?;
    // Of an item that is not known, the caller's own name is all that there is.
    for item in answer.items.iter_mut().filter(|item| !item.known) {
        if let Some(name) = names.remove(&item.item_id) {
            item.uri = items.uri(&name).unwrap_or_default();
        }
    }
    Ok(Json(Recommendation {
        instance,
        trace_id,
        answer,
    }))
}

/// A new name of an answer: 32 hex digits.
fn request_id() -> String {
    format!("{:032x}", fastrand::u128(..))
}
