//! The HTTP API of `up`: search, what is known of documents, control.
//!
//! Commands reach a running `up` through it, and a stack of their own through
//! it too, so that there is one way in.

pub mod audit;
pub mod client;
pub mod control;
pub mod error;
pub mod items;
pub mod ml_commons;
pub mod rebuild;
pub mod records;
pub mod rollout;
pub mod search;
mod snippet;
pub mod sweep;
pub mod users;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, FromRef};
use axum::routing::{get, post};
use axum::{Router, middleware};
use millrace_joiner::JoinerHandle;
use millrace_objects::ObjectStores;
use millrace_profiles::ProfileReader;
use millrace_recommender::http::rejection::MAX_BODY_BYTES;

use self::audit::Auditor;
use self::control::Administrators;
use self::error::{ApiError, Body};
use crate::rollout::recent::RecentQueries;
use crate::stack::generations::{OpenGeneration, OpenGenerations};
use crate::stack::granted_roots::GrantedRoots;
use crate::stack::rebuilding::Rebuilds;
use crate::stack::rollouts::Rollouts;

/// What the handlers share.
#[derive(Clone)]
pub struct ApiState {
    /// The search index, and what embeds queries for it.
    pub generations: Arc<OpenGenerations>,
    /// What was searched for last.
    pub recent: RecentQueries,
    /// Whose allow-list control calls may extend.
    pub objects: Arc<ObjectStores>,
    /// Where its extensions are kept.
    pub granted_roots: Arc<GrantedRoots>,
    /// What control calls must present.
    pub control_token: Arc<str>,
    /// The canary, which no search for people finds.
    pub hidden: Option<String>,
}

/// What is known of behavior, by those parts of this process that know it.
#[derive(Clone)]
pub struct BehaviorState {
    /// Counts behavior by item.
    pub joiner: Option<Arc<JoinerHandle>>,
    /// Reads profiles of users.
    pub profiles: Option<ProfileReader>,
}

/// The routes over what is known of behavior. Every process has them: one that does not know says
/// who does. What a user did is the administrators' alone.
pub fn behavior_router(state: BehaviorState, administrators: &Administrators) -> Router {
    let items = Router::new().route("/v1/items/{id}/stats", get(items::stats));
    let users = Router::new().route("/v1/users/{id}/profile", get(users::profile));
    items
        .with_state(state.clone())
        .merge(administrators.protect(users.with_state(state)))
}

/// The routes that build states anew: the administrators' alone, and audited.
pub fn rebuild_router(
    rebuilds: Rebuilds,
    administrators: &Administrators,
    auditor: &Auditor,
) -> Router {
    let routes = Router::new().route(
        "/v1/rebuild/{consumer}",
        get(rebuild::status).post(rebuild::begin),
    );
    administrators.protect(auditor.watch(routes.with_state(rebuilds)))
}

/// The routes that bring in another index generation: the administrators' alone, and audited.
pub fn rollout_router(
    rollouts: Arc<Rollouts>,
    administrators: &Administrators,
    auditor: &Auditor,
) -> Router {
    let routes = Router::new()
        .route("/v1/rollout", get(rollout::status))
        .route("/v1/rollout/plan", post(rollout::plan))
        .route("/v1/rollout/start", post(rollout::start))
        .route("/v1/rollout/switch", post(rollout::switch))
        .route("/v1/rollout/rollback", post(rollout::rollback))
        .route("/v1/rollout/finish", post(rollout::finish))
        .route("/v1/rollout/abort", post(rollout::abort));
    administrators.protect(auditor.watch(routes.with_state(rollouts)))
}

/// Search as an instance of AIRec's is asked, with its weights.
pub fn instance_search_router(state: search::InstanceSearch) -> Router {
    Router::new()
        .route(
            "/v1/instances/{instance}/search",
            get(search::instance_search),
        )
        .with_state(state)
}

/// The routes; `notices` and `telemetry` are merged in by the stack.
pub fn router(state: ApiState) -> Router {
    let control = Router::new()
        .route("/v1/roots", post(control::allow_root))
        .route("/v1/refresh", post(control::refresh))
        .route("/v1/search/sweep", post(sweep::sweep))
        .route_layer(middleware::from_fn_with_state(
            Arc::<str>::from_ref(&state),
            control::require_token,
        ));
    Router::new()
        .route("/v1/search", post(search::search))
        .route("/v1/records", post(records::records))
        .route("/v1/headers", post(records::headers))
        .route("/v1/info", get(records::info))
        .merge(control)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(state)
}

impl FromRef<ApiState> for Arc<str> {
    fn from_ref(state: &ApiState) -> Self {
        Arc::clone(&state.control_token)
    }
}

impl ApiState {
    /// The generation that serves, its index and its encoder.
    ///
    /// # Errors
    /// None serves, or its index or its model is away.
    pub async fn serving(&self) -> Result<OpenGeneration, ApiError> {
        let serving = self.generations.serving().await;
        serving.map_err(|error| ApiError::unavailable(error.as_ref()))
    }
}
