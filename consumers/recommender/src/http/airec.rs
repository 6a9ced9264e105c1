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
//! | `items` | `itemId:itemType,itemId:itemType`: what is like these, in the user's order, without them |
//! | `recType` | `gul`; `rr` with `items`. `hot` is refused: a scene has its pipeline, which says whether it is personal |
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
use millrace_producers::behavior::item::ItemDocuments;
use millrace_retry::error_chain;
use serde::{Deserialize, Serialize};
use tracing::Instrument;

use super::{HttpState, filter, rejection, span, trace};
use crate::request::{MAX_ECHOED_CHARS, beginning, check_id};
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
    let like = given(query.items);
    let rec_type = given(query.rec_type);
    if rec_type.as_deref() == Some("rr") && like.is_none() {
        return Err(Failure::invalid(
            "`recType` is \"rr\", which recommends by given items: give them in `items`, as \
             `itemId:itemType,itemId:itemType`"
                .to_owned(),
        ));
    }
    if let Some(other) = rec_type.filter(|it| !["gul", "rr"].contains(&it.as_str())) {
        return Err(Failure::invalid(format!(
            "`recType` is {:?}; `gul` and, with `items`, `rr` are served. For a list that is not personal ask for a scene \
             whose pipeline has only the sources trending and fresh (recommender.scenes)",
            beginning(&other, MAX_ECHOED_CHARS)
        )));
    }
    let user_id = given(query.user_id)
        .or_else(|| given(query.imei))
        .ok_or_else(|| Failure::invalid("give `userId` or `imei`".to_owned()))?;
    let items = state.items.of_instance(&instance);
    let like = like.map_or_else(|| Ok(Vec::new()), |text| documents(&text, &items))?;
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
        instance,
        user_id,
        scene: given(query.scene_id),
        count,
        like,
        filter,
        explain: false,
        preview: false,
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

/// The documents of `itemId:itemType,itemId:itemType`. All items are of one type here.
fn documents(text: &str, items: &ItemDocuments) -> Result<Vec<String>, Failure> {
    let named = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    let documents = named.map(|item| {
        // A colon within an id is not before a type, and neither is that of `https://`.
        let (id, _) = item
            .rsplit_once(':')
            .filter(|(id, kind)| !id.is_empty() && !kind.contains('/'))
            .unwrap_or((item, ""));
        let document = check_id("items", id)
            .map_err(|error| error.to_string())
            .and_then(|()| items.resolve(id).map_err(|error| error_chain(&error)));
        let document = document.map_err(|error| {
            let item = beginning(item, MAX_ECHOED_CHARS);
            Failure::invalid(format!("`items`: {item:?} can't be found: {error}"))
        });
        document.map(|document| document.to_string())
    });
    documents.collect()
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
    fn given_items_are_named_with_their_types_or_without() {
        let items = ItemDocuments::new(&Default::default()).unwrap();
        let items = items.of_instance("shop");
        let found = |text: &str| documents(text, &items).ok();
        let named = |ids: &[&str]| {
            let ids = ids.iter().map(|id| items.resolve(id).unwrap().to_string());
            Some(ids.collect::<Vec<_>>())
        };
        assert_eq!(found("1001:item,7:item"), named(&["1001", "7"]));
        assert_eq!(found("1001, 7 ,"), named(&["1001", "7"]));
        assert_eq!(found("a:b:item"), named(&["a:b"]));
        assert_eq!(found("oss://films/a:b:item"), named(&["oss://films/a:b"]));
        assert_eq!(found("oss://films/a"), named(&["oss://films/a"]));
        assert_eq!(found("a\nb:item"), None);
    }

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
