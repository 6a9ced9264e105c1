//! The interfaces, one file each: what their requests say, how their answers and errors look.
//!
//! Each reads its own words into an [`Ask`](crate::service::Ask) and writes the vectors, or the
//! [`ServeError`], in its own shape. None of them decides anything that another could decide
//! differently.

mod call;
mod openai;
mod tei;
mod torchserve;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use axum::response::{IntoResponse, Response};
use millrace_models::ModelFingerprint;

use self::openai::OpenAi;
use self::tei::Tei;
use self::torchserve::TorchServe;
use crate::error::ServeError;
use crate::registry::Served;
use crate::service::Service;

/// Which model made the vectors of an answer: name and short fingerprint, as records carry it.
pub const MODEL_VERSION: HeaderName = HeaderName::from_static("millrace-model-version");
/// The whole fingerprint of that model.
pub const MODEL_FINGERPRINT: HeaderName = HeaderName::from_static("millrace-model-fingerprint");
/// Time that a request has, milliseconds from its head; the server's own limit stays.
pub const TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout-ms");

/// The interfaces, as metrics name them.
pub(crate) const NAMES: [&str; 3] = [OpenAi::NAME, Tei::NAME, TorchServe::NAME];

/// How an interface tells what went wrong.
pub(crate) trait Dialect: Send + Sync + 'static {
    /// Its name in metrics.
    const NAME: &'static str;

    /// Status and body; `Retry-After` is added where there is something to wait for.
    fn error(error: &ServeError) -> Response;
}

/// The routes of all interfaces.
pub(crate) fn routes(service: &Arc<Service>) -> Router {
    let limit = service.config.max_body_bytes;
    Router::new()
        .merge(openai::routes())
        .merge(tei::routes())
        .merge(torchserve::routes())
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(limit))
        .with_state(Arc::clone(service))
}

/// The answer of a request, counted.
fn answered<D: Dialect>(service: &Service, answer: Result<Response, ServeError>) -> Response {
    match answer {
        Ok(response) => {
            service.metrics.request(D::NAME, "answered");
            response
        }
        Err(error) => {
            service.metrics.request(D::NAME, error.name());
            refused::<D>(&error)
        }
    }
}

/// An error in a dialect's shape.
fn refused<D: Dialect>(error: &ServeError) -> Response {
    let mut response = D::error(error);
    if let Some(seconds) = error.retry_after() {
        let value = HeaderValue::from(seconds);
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

/// Says which model made the vectors, for whoever must not mix two.
fn signed(model: &Served, answer: impl IntoResponse) -> Response {
    let encoder = model.encoder();
    signed_by(encoder.version(), encoder.fingerprint(), answer)
}

fn signed_by(version: &str, fingerprint: &ModelFingerprint, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    for (name, value) in [
        (MODEL_VERSION, version),
        (MODEL_FINGERPRINT, fingerprint.as_str()),
    ] {
        // A model's name may hold what a header can't; then the answer is unsigned.
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

async fn unknown_route(State(service): State<Arc<Service>>, uri: Uri) -> Response {
    let path = uri.path().to_owned();
    in_dialect_of(&service, &path.clone(), ServeError::UnknownRoute { path })
}

async fn method_not_allowed(
    State(service): State<Arc<Service>>,
    method: Method,
    uri: Uri,
) -> Response {
    let path = uri.path().to_owned();
    let error = ServeError::Method {
        path: path.clone(),
        method: method.to_string(),
    };
    in_dialect_of(&service, &path, error)
}

fn in_dialect_of(service: &Service, path: &str, error: ServeError) -> Response {
    let under = |prefix: &str| path == prefix || path.starts_with(&format!("{prefix}/"));
    if under("/v1") {
        answered::<OpenAi>(service, Err(error))
    } else if under("/models") || under("/predictions") || path == "/ping" {
        answered::<TorchServe>(service, Err(error))
    } else {
        answered::<Tei>(service, Err(error))
    }
}
