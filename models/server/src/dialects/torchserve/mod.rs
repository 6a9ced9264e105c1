//! TorchServe's interfaces (<https://pytorch.org/serve/rest_api.html>): `inference` and `management`.
//!
//! Both are on one port here; management asks for a token where one is configured. TorchServe itself
//! is no longer maintained; its interface lives on in deployments and in platforms that took it over.

mod inference;
mod management;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use serde_json::json;

use super::Dialect;
use crate::error::ServeError;
use crate::service::Service;

pub(crate) struct TorchServe;

pub(super) fn routes() -> Router<Arc<Service>> {
    inference::routes().merge(management::routes())
}

impl Dialect for TorchServe {
    const NAME: &'static str = "torchserve";

    fn error(error: &ServeError) -> Response {
        let (status, kind) = described(error);
        let message = match error {
            ServeError::UnknownModel { name, .. } => format!("Model not found: {name}"),
            ServeError::UnknownVersion { name, version, .. } => {
                format!("Model version: {version} does not exist for model: {name}")
            }
            ServeError::UnknownRoute { .. } => {
                "Requested resource is not found, please refer to API document.".to_owned()
            }
            ServeError::Method { .. } => {
                "Requested method is not allowed, please refer to API document.".to_owned()
            }
            error => error.to_string(),
        };
        failure(status, kind, &message)
    }
}

/// Its errors: the status once more, an exception's name, and a text.
fn failure(status: StatusCode, kind: &str, message: &str) -> Response {
    let body = json!({ "code": status.as_u16(), "type": kind, "message": message });
    (status, Json(body)).into_response()
}

fn described(error: &ServeError) -> (StatusCode, &'static str) {
    const BAD_REQUEST: &str = "BadRequestException";
    const UNAVAILABLE: &str = "ServiceUnavailableException";
    match error {
        ServeError::Empty
        | ServeError::NothingToRank
        | ServeError::Malformed { .. }
        | ServeError::Invalid { .. }
        | ServeError::TooManyInputs { .. }
        | ServeError::TooManyTokens { .. }
        | ServeError::TooManyBytes { .. }
        | ServeError::TooLarge { .. }
        | ServeError::BodyUnread { .. }
        | ServeError::Tokenizer { .. }
        | ServeError::UnknownPrompt { .. }
        | ServeError::NotAReranker => (StatusCode::BAD_REQUEST, BAD_REQUEST),
        ServeError::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, BAD_REQUEST),
        ServeError::UnknownModel { .. } => (StatusCode::NOT_FOUND, "ModelNotFoundException"),
        ServeError::UnknownVersion { .. } => {
            (StatusCode::NOT_FOUND, "ModelVersionNotFoundException")
        }
        ServeError::UnknownRoute { .. } => (StatusCode::NOT_FOUND, "ResourceNotFoundException"),
        ServeError::Method { .. } => (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowedException"),
        ServeError::DefaultStays { .. } => (StatusCode::FORBIDDEN, "InvalidModelVersionException"),
        ServeError::Overloaded { .. } => (StatusCode::TOO_MANY_REQUESTS, UNAVAILABLE),
        ServeError::Late { .. } | ServeError::NotReady { .. } => {
            (StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE)
        }
        ServeError::Unauthorised => (StatusCode::UNAUTHORIZED, "InvalidKeyException"),
        ServeError::Encoder { .. } => {
            (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerException")
        }
    }
}
