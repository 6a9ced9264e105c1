//! Building a state anew from its topics, while it serves.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use millrace_stateful::{RebuildError, Rebuilt};
use serde::{Deserialize, Serialize};

use super::ApiError;
use crate::stack::rebuilding::{RebuildStatus, Rebuilds};

/// How to rebuild.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RebuildQuery {
    /// Also where the topic no longer holds all that the state was made of.
    #[serde(default)]
    pub accept_loss: bool,
}

/// A state, and its last rebuild.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebuildAnswer {
    /// What a rebuild would read now.
    pub extent: Rebuilt,
    /// How the last one is.
    pub last: RebuildStatus,
}

/// `GET /v1/rebuild/{consumer}`.
pub async fn status(
    State(rebuilds): State<Rebuilds>,
    Path(consumer): Path<String>,
) -> Result<Json<RebuildAnswer>, ApiError> {
    let extent = rebuilds.extent(&consumer).await;
    let extent = extent.ok_or_else(not_here)?.map_err(refused)?;
    let last = rebuilds.status(&consumer).ok_or_else(not_here)?;
    Ok(Json(RebuildAnswer { extent, last }))
}

/// `POST /v1/rebuild/{consumer}`: begins; the status says how it goes on.
pub async fn begin(
    State(rebuilds): State<Rebuilds>,
    Path(consumer): Path<String>,
    query: Result<Query<RebuildQuery>, QueryRejection>,
) -> Result<(StatusCode, Json<RebuildStatus>), ApiError> {
    let Query(query) = query?;
    let begun = rebuilds.begin(&consumer, query.accept_loss).await;
    begun.ok_or_else(not_here)?.map_err(refused)?;
    let status = rebuilds.status(&consumer).ok_or_else(not_here)?;
    Ok((StatusCode::ACCEPTED, Json(status)))
}

fn not_here() -> ApiError {
    ApiError::not_served_here(
        "this process keeps no such state; there are joiner and profiles, kept by `millrace up` and by \
         `millrace run` of that name",
    )
}

fn refused(error: RebuildError) -> ApiError {
    match error {
        RebuildError::Running { .. } | RebuildError::RecordsGone { .. } => {
            ApiError::conflict(&error)
        }
        error => ApiError::unavailable(&error),
    }
}
