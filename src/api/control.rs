//! Calls that change what a running `up` does. They need the token that it
//! leaves in its data folder: whoever owns the folder may steer the process.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use axum::{Json, Router, middleware};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use super::{ApiError, ApiState, Body};
use crate::config::Config;
use crate::stack::granted_roots::GrantError;

/// A folder that documents may be read from, now and after a restart.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowRoot {
    /// Absolute path of a folder or file.
    pub path: PathBuf,
}

/// Who may change what serves, and read what users did: whoever shows the control token or
/// `api.admin_token`; where that is not set and the process listens on loopback, anybody who reaches it.
#[derive(Clone)]
pub struct Administrators {
    control_token: Arc<str>,
    admin_token: Option<Arc<str>>,
    anybody: bool,
}

impl Administrators {
    /// As configured.
    pub fn new(config: &Config, control_token: &str) -> Self {
        let admin_token = config.api.admin_token.as_deref().map(Arc::from);
        Self {
            control_token: control_token.into(),
            anybody: admin_token.is_none() && config.api.listen.ip().is_loopback(),
            admin_token,
        }
    }

    /// Whether anybody who reaches the process is one.
    pub fn are_anybody(&self) -> bool {
        self.anybody
    }

    /// Whether whoever shows this token is one.
    pub fn know(&self, token: &[u8]) -> bool {
        let allowed = [Some(&self.control_token), self.admin_token.as_ref()];
        let is_one = |known: &Arc<str>| bool::from(token.ct_eq(known.as_bytes()));
        allowed.into_iter().flatten().any(is_one)
    }

    /// Lets them alone through to these routes.
    pub fn protect(&self, routes: Router) -> Router {
        routes.route_layer(middleware::from_fn_with_state(
            self.clone(),
            require_administrator,
        ))
    }
}

async fn require_administrator(
    State(administrators): State<Administrators>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if administrators.are_anybody() || administrators.know(presented(&request)) {
        return Ok(next.run(request).await);
    }
    Err(ApiError::no_administrator(
        administrators.admin_token.is_some(),
    ))
}

/// The bearer token of a request; empty where there is none.
fn presented(request: &Request) -> &[u8] {
    request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
        .unwrap_or_default()
        .as_bytes()
}

pub async fn require_token(
    State(token): State<Arc<str>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if bool::from(presented(&request).ct_eq(token.as_bytes())) {
        return Ok(next.run(request).await);
    }
    Err(ApiError::unauthorised())
}

pub async fn allow_root(
    State(state): State<ApiState>,
    Body(root): Body<AllowRoot>,
) -> Result<Json<Value>, ApiError> {
    let path = root.path.clone();
    let granting = move || state.granted_roots.grant(&path, state.objects.allow_list());
    let granted = tokio::task::spawn_blocking(granting).await;
    granted
        .map_err(|error| ApiError::unavailable(&error))?
        .map_err(|error| match error {
            GrantError::Root(error) => ApiError::bad_request(&error),
            GrantError::Kept(_) => ApiError::unavailable(&error),
        })?;
    tracing::info!(path = %root.path.display(), "documents may be read from this path from now on");
    Ok(Json(json!({ "allowed": root.path })))
}

pub async fn refresh(State(state): State<ApiState>) -> Result<Json<Value>, ApiError> {
    let serving = state.serving().await?;
    serving
        .index
        .refresh()
        .await
        .map_err(|error| ApiError::unavailable(&error))?;
    Ok(Json(json!({})))
}
