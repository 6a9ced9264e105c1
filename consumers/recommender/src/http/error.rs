//! Refusals in our own dialect: a status, and `{"error_type": "…", "message": "…"}`.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use millrace_retry::error_chain;
use serde_json::json;

use super::rejection;
use crate::{DeployError, RequestError, SetConfigError};

/// Why a request has no answer.
#[derive(Debug)]
pub struct HttpError {
    status: StatusCode,
    /// A stable name.
    error_type: &'static str,
    /// What is wrong and what to do about it.
    pub(super) message: String,
}

impl HttpError {
    /// The request cannot be done as it is.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            error_type: "invalid_request",
            message: message.into(),
        }
    }

    pub(super) fn not_found(error_type: &'static str, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            error_type,
            message: message.into(),
        }
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let body = json!({ "error_type": self.error_type, "message": self.message });
        (self.status, Json(body)).into_response()
    }
}

impl From<RequestError> for HttpError {
    fn from(error: RequestError) -> Self {
        let error_type = match &error {
            RequestError::UnknownScene { .. } => "unknown_scene",
            _ => "invalid_request",
        };
        Self {
            error_type,
            ..Self::invalid(error.to_string())
        }
    }
}

impl From<DeployError> for HttpError {
    fn from(error: DeployError) -> Self {
        let (status, error_type) = match &error {
            DeployError::InvalidName { .. } => (StatusCode::BAD_REQUEST, "invalid_request"),
            DeployError::Missing { .. } => (StatusCode::NOT_FOUND, "unknown_model"),
            DeployError::InProgress { .. } => (StatusCode::CONFLICT, "deploy_in_progress"),
            DeployError::NothingBefore => (StatusCode::CONFLICT, "nothing_before"),
            DeployError::Unfit { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "unfit_model"),
            DeployError::WarmUp { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "failed_warm_up"),
            DeployError::Replaced { .. } => (StatusCode::CONFLICT, "model_replaced"),
            DeployError::State { .. }
            | DeployError::BrokenState { .. }
            | DeployError::BrokenSweep { .. } => {
                (StatusCode::INTERNAL_SERVER_ERROR, "deployment_state")
            }
            DeployError::Cancelled => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        };
        Self {
            status,
            error_type,
            message: error_chain(&error),
        }
    }
}

impl From<SetConfigError> for HttpError {
    fn from(error: SetConfigError) -> Self {
        match error {
            SetConfigError::Invalid(error) => Self::invalid(error.to_string()),
            SetConfigError::TooManyInstances => Self {
                status: StatusCode::CONFLICT,
                error_type: "too_many_instances",
                message: error.to_string(),
            },
            SetConfigError::State(error) => error.into(),
        }
    }
}

impl From<QueryRejection> for HttpError {
    fn from(rejection: QueryRejection) -> Self {
        Self::invalid(rejection::of_query(&rejection))
    }
}

impl From<PathRejection> for HttpError {
    fn from(rejection: PathRejection) -> Self {
        Self::invalid(rejection.body_text())
    }
}

impl From<JsonRejection> for HttpError {
    fn from(rejection: JsonRejection) -> Self {
        let (status, error_type, message) = rejection::of_body(&rejection);
        Self {
            status,
            error_type,
            message,
        }
    }
}
