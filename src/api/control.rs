//! Calls that change what a running `up` does. They need the token that it
//! leaves in its data folder: whoever owns the folder may steer the process.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use super::{ApiError, ApiState, Body};

/// A folder that documents may be read from from now on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowRoot {
    /// Absolute path of a folder or file.
    pub path: PathBuf,
}

pub async fn require_token(
    State(token): State<Arc<str>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let presented = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    if presented.is_some_and(|presented| bool::from(presented.as_bytes().ct_eq(token.as_bytes()))) {
        return Ok(next.run(request).await);
    }
    Err(ApiError::unauthorised())
}

pub async fn allow_root(
    State(state): State<ApiState>,
    Body(root): Body<AllowRoot>,
) -> Result<Json<Value>, ApiError> {
    state
        .objects
        .allow_list()
        .add_root(&root.path)
        .map_err(|error| ApiError::bad_request(&error))?;
    tracing::info!(path = %root.path.display(), "documents may be read from this path from now on");
    Ok(Json(json!({ "allowed": root.path })))
}

pub async fn refresh(State(state): State<ApiState>) -> Result<Json<Value>, ApiError> {
    state
        .index
        .refresh()
        .await
        .map_err(|error| ApiError::unavailable(&error))?;
    Ok(Json(json!({})))
}
