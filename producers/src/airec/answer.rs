//! The shape of AIRec's answers: `{"code","message","requestId","result"}`.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use serde::Serialize;

use crate::http::EntryProblem;
use crate::http::request::{Refusal, with_advice};

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope<T> {
    /// `SUCCESS`, or a stable name of what is wrong.
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// Names this answer.
    pub request_id: String,
    /// What was asked for.
    pub result: T,
    /// Rows that were not taken; not in AIRec's own answers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<EntryProblem>,
    #[serde(skip)]
    status: StatusCode,
}

impl<T: Serialize> Envelope<T> {
    /// Everything went well.
    pub fn success(request_id: String, result: T) -> Self {
        Self {
            code: "SUCCESS",
            message: "success".to_owned(),
            request_id,
            result,
            errors: vec![],
            status: StatusCode::OK,
        }
    }

    /// As an HTTP response.
    pub fn into_response(self) -> Response {
        with_advice((self.status, Json(self)).into_response())
    }
}

impl Envelope<bool> {
    /// Some rows were taken, and some were not.
    pub(crate) fn partial(request_id: String, message: String, errors: Vec<EntryProblem>) -> Self {
        Self {
            code: "PARTIAL_SUCCESS",
            message,
            errors,
            ..Self::success(request_id, true)
        }
    }

    /// Nothing of the request could be used.
    pub(crate) fn invalid(request_id: String, message: String, errors: Vec<EntryProblem>) -> Self {
        let failure = Failure::invalid(message);
        Self {
            errors,
            ..failure.envelope(request_id, false)
        }
    }
}

/// A request without a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Failure {
    /// The request cannot be done as it is.
    #[must_use]
    pub fn invalid(message: String) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code: "InvalidParameter",
            message,
        }
    }

    /// There is nothing of this name.
    #[must_use]
    pub fn not_found(message: String) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            code: "NotFound",
            message,
        }
    }

    fn envelope<T: Serialize>(self, request_id: String, result: T) -> Envelope<T> {
        Envelope {
            code: self.code,
            message: self.message,
            request_id,
            result,
            errors: vec![],
            status: self.status,
        }
    }

    /// As an HTTP response; its result is `false`.
    #[must_use]
    pub fn into_response(self, request_id: String) -> Response {
        self.envelope(request_id, false).into_response()
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let (status, error_type, message) = refusal.parts();
        let code = match status {
            StatusCode::UNAUTHORIZED => "Unauthorized",
            StatusCode::PAYLOAD_TOO_LARGE => "RequestTooLarge",
            StatusCode::TOO_MANY_REQUESTS => "Throttling",
            StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
            _ => "InvalidParameter",
        };
        Self {
            status,
            code,
            message: format!("{error_type}: {message}"),
        }
    }
}

/// A new id of a request, written as AIRec writes them.
#[must_use]
pub fn request_id() -> String {
    let hex = format!("{:032X}", fastrand::u128(..));
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    [
        part(0..8),
        part(8..12),
        part(12..16),
        part(16..20),
        part(20..32),
    ]
    .join("-")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_request_id_has_the_form_of_a_uuid() {
        let id = super::request_id();
        let lengths: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
    }
}
