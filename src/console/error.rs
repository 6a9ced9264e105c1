//! What went wrong, as a page.

use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use maud::html;
use millrace_kafka::{AdminError, ReaderError};
use millrace_retry::error_chain;

use super::layout;
use crate::api::error::ApiError;
use crate::cli::UsageError;

/// A page that says what is wrong and what to do about it.
#[derive(Debug)]
pub struct PageError {
    status: StatusCode,
    message: String,
}

impl PageError {
    /// With this status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    /// What was asked for can't be done as it is.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// What there is does not allow it.
    pub fn conflict(error: &anyhow::Error) -> Self {
        Self::new(StatusCode::CONFLICT, error_chain(error.as_ref()))
    }

    /// Another process has what was asked for.
    pub fn not_here(message: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }
}

/// No page has this path.
pub async fn unknown_page(uri: Uri) -> PageError {
    PageError::not_found(format!("There is no page {}.", uri.path()))
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let title = match self.status {
            StatusCode::NOT_FOUND => "Not here",
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => "Not understood",
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => "Not allowed",
            StatusCode::CONFLICT => "Not now",
            _ => "Something is away",
        };
        let content = html! {
            p.problem role="alert" { (layout::shown(&self.message)) }
            p { a href="/console/" { "To the overview" } }
        };
        let page = layout::page(None, None, title, &content);
        (self.status, page).into_response()
    }
}

impl From<anyhow::Error> for PageError {
    fn from(error: anyhow::Error) -> Self {
        let unknown_topic = matches!(
            error.downcast_ref::<ReaderError>(),
            Some(ReaderError::Admin(AdminError::UnknownTopic { .. }))
        ) || matches!(
            error.downcast_ref::<AdminError>(),
            Some(AdminError::UnknownTopic { .. })
        );
        let status = if error.is::<UsageError>() {
            StatusCode::BAD_REQUEST
        } else if unknown_topic {
            StatusCode::NOT_FOUND
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        Self::new(status, error_chain(error.as_ref()))
    }
}

impl From<AdminError> for PageError {
    fn from(error: AdminError) -> Self {
        anyhow::Error::new(error).into()
    }
}

impl From<ReaderError> for PageError {
    fn from(error: ReaderError) -> Self {
        anyhow::Error::new(error).into()
    }
}

impl From<ApiError> for PageError {
    fn from(error: ApiError) -> Self {
        Self::new(error.status(), error.message())
    }
}
