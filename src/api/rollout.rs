//! Another index generation: how far it is, and the orders that bring it in.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use millrace_schemas::RolloutGate;
use serde::{Deserialize, Serialize};

use super::audit::who;
use super::{ApiError, Body};
use crate::stack::rollouts::{Plan, RolloutError, RolloutStatus, Rollouts, SwitchOrder};

/// Which model the new generation is to have.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartOrder {
    /// Of the model store: `NAME` or `NAME:VERSION`. None is the one that serves.
    #[serde(default)]
    pub model: Option<String>,
}

/// How to finish.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinishOrder {
    /// Whether the old generation is removed.
    #[serde(default)]
    pub delete_old: bool,
}

/// What the gates said.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SwitchAnswer {
    /// Whether the new generation serves now.
    pub switched: bool,
    /// The gates, in order; none where they were passed over.
    pub gates: Vec<RolloutGate>,
}

type Answer<T> = Result<Json<T>, ApiError>;

/// Carries an order out to its end: a caller that hangs up must not leave one that is half done.
async fn whole<T: Send + 'static>(
    order: impl Future<Output = Result<T, RolloutError>> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::spawn(order).await;
    Ok(done.map_err(|error| ApiError::unavailable(&error))??)
}

/// `GET /v1/rollout`.
pub async fn status(State(rollouts): State<Arc<Rollouts>>) -> Answer<RolloutStatus> {
    Ok(Json(rollouts.status().await?))
}

/// `POST /v1/rollout/plan`: what `start` would do.
pub async fn plan(
    State(rollouts): State<Arc<Rollouts>>,
    Body(order): Body<StartOrder>,
) -> Answer<Plan> {
    Ok(Json(rollouts.plan(order.model.as_deref()).await?))
}

/// `POST /v1/rollout/start`: begins; the status says how it goes on.
pub async fn start(
    State(rollouts): State<Arc<Rollouts>>,
    headers: HeaderMap,
    Body(order): Body<StartOrder>,
) -> Result<(StatusCode, Json<RolloutStatus>), ApiError> {
    let who = who(&headers);
    let begun = whole(async move { rollouts.begin(order.model.as_deref(), &who).await });
    Ok((StatusCode::ACCEPTED, Json(begun.await?)))
}

/// `POST /v1/rollout/switch`.
pub async fn switch(
    State(rollouts): State<Arc<Rollouts>>,
    headers: HeaderMap,
    Body(order): Body<SwitchOrder>,
) -> Answer<SwitchAnswer> {
    let who = who(&headers);
    let switched = !order.dry_run;
    let gates = whole(async move { rollouts.switch(&order, &who).await });
    Ok(Json(SwitchAnswer {
        switched,
        gates: gates.await?,
    }))
}

/// `POST /v1/rollout/rollback`.
pub async fn rollback(
    State(rollouts): State<Arc<Rollouts>>,
    headers: HeaderMap,
) -> Answer<RolloutStatus> {
    let who = who(&headers);
    let back = whole(async move { rollouts.roll_back(&who).await });
    Ok(Json(back.await?))
}

/// `POST /v1/rollout/finish`.
pub async fn finish(
    State(rollouts): State<Arc<Rollouts>>,
    headers: HeaderMap,
    Body(order): Body<FinishOrder>,
) -> Answer<RolloutStatus> {
    let who = who(&headers);
    let finished = whole(async move { rollouts.finish(order.delete_old, &who).await });
    Ok(Json(finished.await?))
}

/// `POST /v1/rollout/abort`.
pub async fn abort(
    State(rollouts): State<Arc<Rollouts>>,
    headers: HeaderMap,
) -> Answer<RolloutStatus> {
    let who = who(&headers);
    let aborted = whole(async move { rollouts.abort(&who).await });
    Ok(Json(aborted.await?))
}

impl From<RolloutError> for ApiError {
    fn from(error: RolloutError) -> Self {
        match error {
            RolloutError::Invalid(_) => Self::bad_request(&error),
            RolloutError::Refused(_) => Self::conflict(&error),
            RolloutError::Failed(_) => Self::unavailable(&error),
        }
    }
}
