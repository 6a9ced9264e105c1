//! Errors as callers see them, and bodies that are none.

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, Request};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Json, Response};
use millrace_recommender::http::rejection;
use millrace_retry::error_chain;
use serde::de::DeserializeOwned;
use serde_json::json;

/// An error of any route, the notices endpoint's included: a status, and
/// `{"error_type": "…", "message": "…"}`.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    /// A stable name.
    error_type: &'static str,
    /// What is wrong and what to do about it.
    message: String,
}

impl ApiError {
    /// The status that it is answered with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What is wrong and what to do about it.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The request cannot be done as it is.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            error_type: "invalid_request",
            message: message.into(),
        }
    }

    /// As [`invalid`](Self::invalid), with the causes of an error.
    pub fn bad_request(error: &dyn std::error::Error) -> Self {
        Self::invalid(error_chain(error))
    }

    /// The body can't be read whole.
    pub fn body_too_large() -> Self {
        Self {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            error_type: "body_too_large",
            message: format!(
                "the body has more than {} bytes, the most that is read",
                rejection::MAX_BODY_BYTES
            ),
        }
    }

    /// A part does not work at the moment.
    pub fn unavailable(error: &dyn std::error::Error) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            error_type: "unavailable",
            message: error_chain(error),
        }
    }

    /// What there is does not allow it.
    pub fn conflict(error: &dyn std::error::Error) -> Self {
        Self {
            status: StatusCode::CONFLICT,
            error_type: "conflict",
            message: error_chain(error),
        }
    }

    /// Another process has what was asked for.
    pub fn not_served_here(message: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            error_type: "not_served_here",
            message: message.to_owned(),
        }
    }

    /// A call that changes what serves or tells of a user, without a token that may; `configured`
    /// says whether there is one besides the control token.
    pub fn no_administrator(configured: bool) -> Self {
        let advice = match configured {
            true => "show api.admin_token as `Authorization: Bearer …`",
            false => {
                "no token for it is configured, and this process listens elsewhere than on loopback. \
                 Set api.admin_token (MILLRACE_API__ADMIN_TOKEN), start it anew, and show the token as \
                 `Authorization: Bearer …`; or use `millrace deploy` and `millrace profile` on the \
                 machine of its data folder, which need none"
            }
        };
        Self {
            status: StatusCode::UNAUTHORIZED,
            error_type: "unauthorised",
            message: format!("this call changes what serves, or tells what a user did: {advice}"),
        }
    }

    /// A control call without the token.
    pub fn unauthorised() -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            error_type: "unauthorised",
            message: "this call needs the control token from up.json in the data folder".to_owned(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({ "error_type": self.error_type, "message": self.message });
        (self.status, Json(body)).into_response()
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        let (status, error_type, message) = rejection::of_body(&rejection);
        Self {
            status,
            error_type,
            message,
        }
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::invalid(rejection::of_query(&rejection))
    }
}

/// A JSON body; one that is none is refused as every other error is.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let Json(body) = Json::from_request(request, state).await?;
        Ok(Self(body))
    }
}

/// No route has this path.
pub async fn unknown_route(uri: Uri) -> ApiError {
    ApiError {
        status: StatusCode::NOT_FOUND,
        error_type: "unknown_route",
        message: format!(
            "there is nothing at {}; try POST /v1/search, POST /v1/notices, GET /v1/openapi.json, GET /metrics",
            uri.path()
        ),
    }
}

/// The path's route has other methods; the header `Allow` names them.
pub async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError {
        status: StatusCode::METHOD_NOT_ALLOWED,
        error_type: "method_not_allowed",
        message: format!(
            "{} does not take {method}; see the header Allow",
            uri.path()
        ),
    }
}
