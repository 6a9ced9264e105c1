//! What serves, and how: models deployed and rolled back, the instance's configuration.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};

use super::HttpState;
use super::error::HttpError;
use crate::{
    ConfigChange, DeployError, DeploymentStatus, HybridRanking, InstanceConfig, QueryKind,
};

/// Which model is to serve what.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `model_version`")]
pub(super) struct Deploy {
    /// Only recommendations have models here.
    #[serde(default)]
    service_type: ServiceType,
    /// The model's name.
    model_version: String,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ServiceType {
    #[default]
    Recommendation,
}

/// `GET /v1/instances/{instance}/deploy`.
pub(super) async fn deployment(
    State(state): State<HttpState>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<DeploymentStatus>, HttpError> {
    let Path(instance) = path?;
    state.check_instance(&instance)?;
    // It lists a folder.
    let recommender = state.recommender;
    Ok(Json(off_thread(move || recommender.deployment()).await??))
}

/// `POST /v1/instances/{instance}/deploy`.
pub(super) async fn deploy(
    State(state): State<HttpState>,
    path: Result<Path<String>, PathRejection>,
    body: Result<Json<Deploy>, JsonRejection>,
) -> Result<Json<DeploymentStatus>, HttpError> {
    let Path(instance) = path?;
    state.check_instance(&instance)?;
    let Json(deploy) = body?;
    Ok(Json(state.recommender.deploy(&deploy.model_version).await?))
}

/// `POST /v1/instances/{instance}/rollback`.
pub(super) async fn rollback(
    State(state): State<HttpState>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<DeploymentStatus>, HttpError> {
    let Path(instance) = path?;
    state.check_instance(&instance)?;
    Ok(Json(state.recommender.rollback().await?))
}

/// `GET /v1/instances/{instance}/config`.
pub(super) async fn config(
    State(state): State<HttpState>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<InstanceConfig>, HttpError> {
    let Path(instance) = path?;
    state.check_instance(&instance)?;
    Ok(Json(state.recommender.config(&instance)))
}

/// What of the configuration is to change; what is left out stays.
#[derive(Clone, Debug, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "an object with `semantic_recall`, `hybrid_ranking` and `bm25_weight_by_query`, or some of them"
)]
pub(super) struct ConfigBody {
    semantic_recall: Option<bool>,
    hybrid_ranking: Option<HybridRanking>,
    /// All of them: kinds that are left out have no weight of their own any more.
    bm25_weight_by_query: Option<BTreeMap<QueryKind, f64>>,
}

/// `PUT /v1/instances/{instance}/config`.
pub(super) async fn set_config(
    State(state): State<HttpState>,
    path: Result<Path<String>, PathRejection>,
    body: Result<Json<ConfigBody>, JsonRejection>,
) -> Result<Json<ConfigChange>, HttpError> {
    let Path(instance) = path?;
    state.check_instance(&instance)?;
    let Json(body) = body?;
    let mut config = state.recommender.config(&instance);
    if let Some(semantic_recall) = body.semantic_recall {
        config.semantic_recall = semantic_recall;
    }
    if let Some(hybrid_ranking) = body.hybrid_ranking {
        config.hybrid_ranking = hybrid_ranking;
    }
    if let Some(bm25_weight_by_query) = body.bm25_weight_by_query {
        config.bm25_weight_by_query = bm25_weight_by_query;
    }
    // It writes a file.
    let recommender = state.recommender;
    let change = off_thread(move || recommender.set_config(&instance, config)).await??;
    Ok(Json(change))
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, HttpError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| DeployError::Cancelled.into())
}
