//! The recommender over HTTP: our own dialect, and AIRec 2020-11-26's.
//!
//! | route | |
//! |---|---|
//! | `GET /v1/instances/{instance}/recommend` | items for a user ([`own`]) |
//! | `POST /v1/instances/{instance}/rerank` | the caller's candidates in a better order |
//! | `GET`, `PUT /v1/instances/{instance}/config` | what may be changed while it runs |
//! | `GET`, `POST /v1/instances/{instance}/deploy`, `POST …/rollback` | which ranker serves |
//! | `GET /v2/openapi/instances/{instance}/actions/recommend` | AIRec's ([`airec`]) |
//! | `GET /v1/openapi.json` | all of them, as OpenAPI 3.1 describes them |
//!
//! What changes something is in [`Routes::control`], for whoever serves to protect.
//!
//! A request that can't be answered as it is gets a status below 500 and says which parameter is
//! wrong and what it may be. Everything else has an answer: users without a profile, items still
//! being read, an index that is away are stated fall-backs of it.

pub mod airec;
mod control;
pub mod error;
pub mod filter;
pub mod own;
pub mod rejection;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post, put};
use millrace_producers::airec::AirecConfig;
use millrace_producers::behavior::item::ItemDocuments;
use millrace_schemas::TraceParent;
use tracing::Span;

use self::error::HttpError;
use crate::Recommender;

/// What the handlers share.
#[derive(Clone)]
pub struct HttpState {
    /// Answers.
    pub recommender: Arc<Recommender>,
    /// Which instance is served.
    pub airec: AirecConfig,
    /// Which document an item of the upstream system is.
    pub items: ItemDocuments,
}

impl HttpState {
    /// Refuses what another process serves.
    fn check_instance(&self, instance: &str) -> Result<(), HttpError> {
        if self.airec.serves(instance) {
            return Ok(());
        }
        Err(HttpError::not_found(
            "unknown_instance",
            match &self.airec.instance {
                Some(served) => format!("this is instance `{served}` (airec.instance)"),
                None => "an instance's id is 1 to 64 letters, digits, `-`, `_` and `.`".to_owned(),
            },
        ))
    }
}

/// The routes by what they need of the caller.
pub struct Routes {
    /// Anybody's who reaches the port.
    pub open: Router,
    /// Those that change what serves.
    pub control: Router,
}

/// A route: method, path, handler.
type Route = (&'static str, &'static str, MethodRouter<HttpState>);

fn open() -> Vec<Route> {
    vec![
        (
            "get",
            "/v1/instances/{instance}/recommend",
            get(own::recommend),
        ),
        ("post", "/v1/instances/{instance}/rerank", post(own::rerank)),
        (
            "get",
            "/v1/instances/{instance}/config",
            get(control::config),
        ),
        (
            "get",
            "/v1/instances/{instance}/deploy",
            get(control::deployment),
        ),
        (
            "get",
            "/v2/openapi/instances/{instance}/actions/recommend",
            get(airec::recommend),
        ),
        ("get", "/v1/openapi.json", get(openapi)),
    ]
}

fn control() -> Vec<Route> {
    vec![
        (
            "put",
            "/v1/instances/{instance}/config",
            put(control::set_config),
        ),
        (
            "post",
            "/v1/instances/{instance}/deploy",
            post(control::deploy),
        ),
        (
            "post",
            "/v1/instances/{instance}/rollback",
            post(control::rollback),
        ),
    ]
}

/// The routes of this recommender.
pub fn routes(state: &HttpState) -> Routes {
    let router = |routes: Vec<Route>| {
        routes
            .into_iter()
            .fold(Router::new(), |router, (_, path, handler)| {
                router.route(path, handler)
            })
            .with_state(state.clone())
            .layer(DefaultBodyLimit::max(rejection::MAX_BODY_BYTES))
    };
    Routes {
        open: router(open()),
        control: router(control()),
    }
}

/// `openapi.json` beside this file.
const OPENAPI: &str = include_str!("openapi.json");

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

/// The trace that the caller is in, or a new one.
fn trace(headers: &HeaderMap) -> Option<TraceParent> {
    let given = headers
        .get("traceparent")
        .and_then(|value| value.to_str().ok()?.parse().ok());
    given.or_else(|| {
        let trace_id = fastrand::u128(1..).to_be_bytes();
        TraceParent::new(trace_id, fastrand::u64(1..).to_be_bytes(), true).ok()
    })
}

/// The span of a request, in the trace that its answer names.
fn span(operation: &'static str, request_id: &str, trace: Option<&TraceParent>) -> Span {
    let span = tracing::info_span!("recommend", operation, request_id);
    let trace = trace.map(ToString::to_string);
    millrace_telemetry::continue_trace(&span, trace.as_deref());
    span
}

/// The id of a trace alone, 32 hex digits.
fn trace_id(trace: Option<&TraceParent>) -> String {
    // `version-trace-parent-flags`, as W3C has it.
    let text = trace.map(ToString::to_string).unwrap_or_default();
    text.split('-').nth(1).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn the_openapi_document_has_exactly_these_routes() {
        let document: Value = serde_json::from_str(OPENAPI).unwrap();
        let mut described = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                if method == "parameters" {
                    continue;
                }
                described.insert((method.clone(), path.clone()));
                let mut statuses = operation["responses"].as_object().unwrap().keys();
                assert!(
                    statuses.any(|status| status.starts_with('2')),
                    "{method} {path} never succeeds"
                );
            }
        }
        // Served by other parts of the process, and described here with the rest.
        let elsewhere = [
            ("get", "/v1/instances/{instance}/search"),
            (
                "post",
                "/v2/openapi/instances/{instance}/tables/{table}/actions/bulk",
            ),
            ("post", "/v1/events"),
        ];
        let served: BTreeSet<(String, String)> = open()
            .into_iter()
            .chain(control())
            .map(|(method, path, _)| (method, path))
            .chain(elsewhere)
            .map(|(method, path)| (method.to_owned(), path.to_owned()))
            .collect();
        assert_eq!(described, served);
    }

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        let document: Value = serde_json::from_str(OPENAPI).unwrap();
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(members) => {
                    for (name, member) in members {
                        match member.as_str() {
                            Some(reference) if name == "$ref" => found.push(reference.to_owned()),
                            _ => references(member, found),
                        }
                    }
                }
                Value::Array(members) => members.iter().for_each(|it| references(it, found)),
                _ => {}
            }
        }
        let mut found = vec![];
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn a_trace_has_its_id() {
        let mut headers = HeaderMap::new();
        let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        headers.insert("traceparent", given.parse().unwrap());
        let id = trace_id(trace(&headers).as_ref());
        assert_eq!(id, "4bf92f3577b34da6a3ce929d0e0e4736");
        headers.insert("traceparent", "x".parse().unwrap());
        assert_eq!(trace_id(trace(&headers).as_ref()).len(), 32);
    }
}
