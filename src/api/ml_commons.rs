//! ml-commons' own words for deploying a model, for those who know them.
//!
//! <https://docs.opensearch.org/2.19/ml-commons-plugin/api/model-apis/deploy-model/>, whose model is named
//! in the path; many scripts name it in the body.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::routing::post;
use axum::{Json, Router};
use millrace_retry::error_chain;
use serde::{Deserialize, Serialize};

use super::audit::Auditor;
use super::control::Administrators;
use super::{ApiError, Body};
use crate::config::{Config, Profile};
use crate::neural::{self, Order};
use crate::stack::generations::OpenGenerations;

/// What the handlers share.
#[derive(Clone)]
struct Deploying {
    config: Arc<Config>,
    /// Which know what this process embeds with, where it does.
    generations: Option<Arc<OpenGenerations>>,
}

/// Which model to deploy.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Its name at the model server.
    model_id: String,
}

/// As ml-commons answers, once it is done.
#[derive(Debug, Serialize)]
struct Answer {
    task_id: String,
    task_type: &'static str,
    status: &'static str,
    model_id: String,
}

/// The routes: the administrators' alone, and audited.
pub fn router(
    config: &Config,
    generations: Option<Arc<OpenGenerations>>,
    administrators: &Administrators,
    auditor: &Auditor,
) -> Router {
    let routes = Router::new()
        .route("/_plugins/_ml/models/_deploy", post(by_body))
        .route("/_plugins/_ml/models/{model_id}/_deploy", post(by_path))
        .with_state(Deploying {
            config: Arc::new(config.clone()),
            generations,
        });
    administrators.protect(auditor.watch(routes))
}

async fn by_body(
    State(deploying): State<Deploying>,
    Body(request): Body<Request>,
) -> Result<Json<Answer>, ApiError> {
    deploying.deploy(request.model_id).await
}

async fn by_path(
    State(deploying): State<Deploying>,
    model_id: Result<Path<String>, PathRejection>,
) -> Result<Json<Answer>, ApiError> {
    let Path(model_id) = model_id.map_err(|error| ApiError::invalid(error.body_text()))?;
    deploying.deploy(model_id).await
}

impl Deploying {
    async fn deploy(&self, model: String) -> Result<Json<Answer>, ApiError> {
        let answer = |task_id: &str, model_id: String| {
            Json(Answer {
                task_id: task_id.to_owned(),
                task_type: "DEPLOY_MODEL",
                status: "COMPLETED",
                model_id,
            })
        };
        if self.config.profile == Profile::Embedded {
            let Some(generations) = &self.generations else {
                return Err(ApiError::not_served_here("this process searches nothing"));
            };
            let serving = generations.serving().await;
            let serving = serving.map_err(|error| ApiError::unavailable(error.as_ref()))?;
            let version = serving.encoder.version();
            let is_in_use = version == model || version.split('@').next() == Some(&model);
            return if is_in_use {
                Ok(answer(version, model))
            } else {
                Err(ApiError::invalid(format!(
                    "the embedded index embeds with {version}, not with {model:?}; another model takes \
                     over with `millrace rollout start --model`"
                )))
            };
        }
        let order = Order::new(&self.config, Some(model), None);
        let order = order.map_err(|error| ApiError::invalid(error_chain(error.as_ref())))?;
        let deployed = neural::deploy(&self.config, &order).await;
        let deployed = deployed.map_err(|error| ApiError::conflict(error.as_ref()))?;
        let model_id = deployed.deployed.model_id.unwrap_or_default();
        Ok(answer(&model_id, model_id.clone()))
    }
}
