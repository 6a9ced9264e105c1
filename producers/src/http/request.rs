//! What the endpoints have in common: who may send, and how a refusal is told.
//!
//! Every refusal is one JSON object, `{"error_type": …, "message": …}`.

use std::time::Duration;

use axum::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use millrace_objects::Secret;
use millrace_retry::error_chain;
use millrace_schemas::TraceParent;
use subtle::ConstantTimeEq;

use crate::body::BodyError;

/// A request that was not taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    Unauthorised,
    Unread(BodyError),
    TooMany {
        message: String,
    },
    Body {
        error_type: &'static str,
        message: String,
    },
    /// The endpoint has as much in hand as it may have.
    Busy {
        message: String,
    },
    Unavailable {
        message: String,
    },
}

/// The bearer token that the sender shows must be `token`, where there is one.
pub(crate) fn authorise(token: Option<&Secret>, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(token) = token else {
        return Ok(());
    };
    let shown = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.as_bytes().split_at_checked("Bearer ".len()))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Bearer "))
        .map_or(&b""[..], |(_, token)| token);
    // In constant time, so that the answer's delay tells nothing of the token.
    if bool::from(shown.ct_eq(token.expose().as_bytes())) {
        Ok(())
    } else {
        Err(Refusal::Unauthorised)
    }
}

/// The trace that the sender is in.
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<TraceParent> {
    headers
        .get("traceparent")
        .and_then(|value| value.to_str().ok()?.parse().ok())
}

/// The brokers did not take it.
pub(crate) fn unavailable(error: &millrace_kafka::ProduceError) -> Refusal {
    tracing::warn!(error = %error_chain(error), "the brokers did not acknowledge");
    Refusal::Unavailable {
        message: error_chain(error),
    }
}

/// What the brokers take longer for is refused; some of it may be published then.
pub(crate) async fn acknowledged_within<T>(
    limit: Duration,
    published: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    match tokio::time::timeout(limit, published).await {
        Ok(published) => published,
        Err(_) => Err(Refusal::Unavailable {
            message: format!(
                "the brokers did not acknowledge within {} ms",
                limit.as_millis()
            ),
        }),
    }
}

impl Refusal {
    /// Status, stable name, and what people read.
    pub(crate) fn parts(self) -> (StatusCode, &'static str, String) {
        match self {
            Self::Unauthorised => {
                let message = "show the token as `Authorization: Bearer …`".to_owned();
                (StatusCode::UNAUTHORIZED, "unauthorised", message)
            }
            Self::Unread(error) => {
                let (status, error_type) = match &error {
                    BodyError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
                    BodyError::UnknownEncoding(_) => {
                        (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unknown_encoding")
                    }
                    BodyError::InvalidGzip(_) => (StatusCode::BAD_REQUEST, "invalid_gzip"),
                    BodyError::Unreadable(_) => (StatusCode::BAD_REQUEST, "body_unreadable"),
                };
                let mut message = error_chain(&error);
                if matches!(error, BodyError::TooLarge { .. }) {
                    message += "; send less at a time";
                }
                (status, error_type, message)
            }
            Self::TooMany { message } => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too_many_events", message)
            }
            Self::Body {
                error_type,
                message,
            } => (StatusCode::BAD_REQUEST, error_type, message),
            Self::Busy { message } => (StatusCode::TOO_MANY_REQUESTS, "busy", message),
            Self::Unavailable { message } => (
                StatusCode::SERVICE_UNAVAILABLE,
                "brokers_unavailable",
                message,
            ),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, error_type, message) = self.parts();
        let body = Json(serde_json::json!({ "error_type": error_type, "message": message }));
        with_advice((status, body).into_response())
    }
}

/// Adds the header that says what to do about a status.
pub(crate) fn with_advice(mut response: Response) -> Response {
    let header = match response.status() {
        StatusCode::UNAUTHORIZED => Some((WWW_AUTHENTICATE, "Bearer")),
        StatusCode::TOO_MANY_REQUESTS => Some((RETRY_AFTER, "1")),
        StatusCode::SERVICE_UNAVAILABLE => Some((RETRY_AFTER, "5")),
        _ => None,
    };
    if let Some((name, value)) = header {
        let value = axum::http::HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}
