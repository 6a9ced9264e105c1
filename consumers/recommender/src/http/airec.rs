//! AIRec 2020-11-26: `GET /v2/openapi/instances/{instance}/actions/recommend`.
//!
//! Source: Alibaba Cloud, AIRec, "Recommend" (2020-11-26) and "Obtain recommendation results".
//!
//! | parameter | here |
//! |---|---|
//! | `userId`, else `imei` | the user, as behavior names it |
//! | `sceneId` | the scene; default `recommender.default_scene` |
//! | `returnCount` | how many; AIRec has 0 to 50, here up to `recommender.limits.max_count`; default the scene's |
//! | `filter` | base64 of JSON; see [`filter`] for what is served |
//! | `recType` | `gul` alone: a scene has its pipeline, which says whether it is personal |
//! | `items` | refused: no scene is served that recommends by given items |
//! | `ip`, `userInfo`, `rankOpen`, … | of no concern |
//!
//! Where the list is not what the scene wants, `message` says so (`success; fall-back: unknown_user: …`)
//! and `code` stays `SUCCESS`.
//!
//! Of each item, `traceId` is the answer's id and `traceInfo` what behavior should carry back with it:
//! AIRec's own `traceId` is a constant, which joins nothing. `position` counts from 1, as behavior's
//! does here; AIRec's from 0.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use millrace_producers::airec::answer::{Envelope, Failure, request_id};
use serde::{Deserialize, Serialize};
use tracing::Instrument;

use super::{HttpState, filter, rejection, span, trace};
use crate::request::{MAX_ECHOED_CHARS, beginning};
use crate::{AnswerItem, Fallback, RecommendRequest, RequestError};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RecommendQuery {
    scene_id: Option<String>,
    user_id: Option<String>,
    imei: Option<String>,
    return_count: Option<String>,
    items: Option<String>,
    rec_type: Option<String>,
    filter: Option<String>,
}

/// One recommended item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResultItem {
    /// As the upstream system names it.
    pub item_id: String,
    /// Always `item`.
    pub item_type: &'static str,
    /// Its place, from 1.
    pub position: u32,
    /// 1: nothing is pushed.
    pub weight: u32,
    /// Who found it, separated by commas.
    pub match_info: String,
    /// The answer, for behavior to carry back.
    pub trace_id: String,
    /// Scene, pipeline, bucket and place, for behavior to carry back.
    pub trace_info: String,
}

/// `GET /v2/openapi/instances/{instance}/actions/recommend`.
pub(super) async fn recommend(
    State(state): State<HttpState>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    query: Result<Query<RecommendQuery>, QueryRejection>,
) -> Response {
    let request_id = request_id();
    match answer(&state, path, &headers, query, &request_id).await {
        Ok((items, fallback)) => {
            let mut envelope = Envelope::success(request_id, items);
            if let Some(fallback) = fallback {
                envelope.message = told(&fallback);
            }
            envelope.into_response()
        }
        Err(failure) => failure.into_response(request_id),
    }
}

async fn answer(
    state: &HttpState,
    path: Result<Path<String>, PathRejection>,
    headers: &HeaderMap,
    query: Result<Query<RecommendQuery>, QueryRejection>,
    request_id: &str,
) -> Result<(Vec<ResultItem>, Option<Fallback>), Failure> {
    let Path(instance) = path.map_err(|error| Failure::invalid(error.body_text()))?;
    state
        .check_instance(&instance)
        .map_err(|error| Failure::not_found(error.message))?;
    let Query(query) = query.map_err(|error| Failure::invalid(rejection::of_query(&error)))?;
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    if let Some(other) = given(query.rec_type).filter(|it| it != "gul") {
        return Err(Failure::invalid(format!(
            "`recType` is {:?}; `gul` is served. For a list that is not personal ask for a scene \
             whose pipeline has only the sources trending and fresh (recommender.scenes)",
            beginning(&other, MAX_ECHOED_CHARS)
        )));
    }
    if given(query.items).is_some() {
        return Err(Failure::invalid(
            "`items` is given, and no scene recommends by given items".to_owned(),
        ));
    }
    let user_id = given(query.user_id)
        .or_else(|| given(query.imei))
        .ok_or_else(|| Failure::invalid("give `userId` or `imei`".to_owned()))?;
    let items = state.items.of_instance(&instance);
    let filter = match given(query.filter) {
        Some(text) => filter::airec(&text, &items).map_err(Failure::invalid)?,
        None => Default::default(),
    };
    let refused = |error: RequestError| Failure::invalid(in_airecs_words(&error));
    let count = match given(query.return_count) {
        Some(text) => Some(state.recommender.item_count(&text).map_err(refused)?),
        None => None,
    };
    let request = RecommendRequest {
        request_id: request_id.to_owned(),
        user_id,
        scene: given(query.scene_id),
        count,
        filter,
        explain: false,
        traceparent: trace(headers),
    };
    let span = span("airec", request_id, request.traceparent.as_ref());
    let answer = state.recommender.recommend(request).instrument(span).await;
    let answer = answer.map_err(refused)?;
    let item = |item: AnswerItem| {
        let sources: Vec<&str> = item.sources.iter().map(|source| source.as_str()).collect();
        ResultItem {
            item_id: items.item(&item.uri),
            item_type: "item",
            position: item.position,
            weight: 1,
            match_info: sources.join(","),
            trace_id: answer.request_id.clone(),
            trace_info: item.trace_info,
        }
    };
    let items = answer.items.into_iter().map(item).collect();
    Ok((items, answer.fallback))
}

/// `message` of an answer that is not what the scene wants; AIRec has no field for it.
fn told(fallback: &Fallback) -> String {
    let reason = fallback.reason.as_str();
    format!("success; fall-back: {reason}: {}", fallback.message)
}

/// Names the parameter as the caller wrote it.
fn in_airecs_words(error: &RequestError) -> String {
    let message = error.to_string();
    [("`count`", "`returnCount`"), ("`user_id`", "`userId`")]
        .iter()
        .fold(message, |message, (ours, theirs)| {
            message.replace(ours, theirs)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FallbackReason;

    #[test]
    fn a_fall_back_and_a_wrong_count_are_told_in_airecs_words() {
        let fallback = Fallback {
            reason: FallbackReason::UnknownUser,
            message: "nothing is known of this user yet".to_owned(),
            sources: vec![],
        };
        assert_eq!(
            told(&fallback),
            "success; fall-back: unknown_user: nothing is known of this user yet"
        );
        let error = crate::request::count("x", &Default::default()).unwrap_err();
        let told = in_airecs_words(&error);
        assert!(
            told.starts_with("`returnCount` is \"x\"; give 1 to "),
            "{told}"
        );
    }
}
