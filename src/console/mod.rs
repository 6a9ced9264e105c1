//! The console: pages over a running pipeline, for people.
//!
//! Pages are made on the server and work without script: links to look, forms to act. The scripts only
//! refresh live figures and search again while a slider moves. Whatever records hold is escaped by the
//! templates ([`maud`]), which are checked when they are compiled.
//!
//! [`access`] says who may see and who may act, [`layout`] what all pages share; then one file a page.
//! What a page orders is what a command orders: `crate::dead_letters`, `crate::reset_offsets`, audited.

mod access;
mod assets;
mod canary;
mod dead_letters;
mod error;
mod flow;
mod form;
mod groups;
mod layout;
mod login;
mod models;
mod overview;
mod produce;
mod recommendations;
mod record;
mod records;
mod redrive;
mod reset;
mod rollouts;
mod search;
mod session;
mod topics;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::response::Redirect;
use axum::routing::{any, get, post};
use axum::{Router, middleware};
use millrace_kafka::{Admin, KafkaConfig, Producer};
use millrace_profiles::ProfileReader;
use millrace_recommender::Recommender;

use self::access::Access;
use self::error::PageError;
use self::flow::Flow;
use crate::api::ApiState;
use crate::api::control::Administrators;
use crate::config::Config;
use crate::stack::canary::CanaryStats;
use crate::stack::rollouts::Rollouts;

/// Where the pages are.
pub const ROOT: &str = "/console";
/// Most bytes of a form.
const MAX_FORM_BYTES: usize = 8 << 20;

/// What the console is made of.
pub struct Parts<'a> {
    /// Tokens, and names of groups.
    pub config: &'a Config,
    /// Where the topics are.
    pub kafka: &'a KafkaConfig,
    /// Who may act.
    pub administrators: &'a Administrators,
    /// The index and the encoder, where this process has them.
    pub search: Option<ApiState>,
    /// The consumers of this process.
    /// The index generations, where this process has them.
    pub rollouts: Option<Arc<Rollouts>>,
    /// What became of the canary, where this process has one.
    pub canary: Option<CanaryStats>,
    /// Recommends, where this process does.
    pub recommender: Option<Arc<Recommender>>,
    /// Reads profiles, where this process does.
    pub profiles: Option<ProfileReader>,
}

/// What the pages share. Cheap to clone.
#[derive(Clone)]
pub struct Console(Arc<Shared>);

/// What the pages are made of.
pub struct Shared {
    access: Access,
    kafka: KafkaConfig,
    admin: Admin,
    producer: Producer,
    flow: Flow,
    search: Option<ApiState>,
    rollouts: Option<Arc<Rollouts>>,
    canary: Option<CanaryStats>,
    recommender: Option<Arc<Recommender>>,
    profiles: Option<ProfileReader>,
    /// The instance that is asked for recommendations and for weights.
    instance: String,
    models: models::Stored,
    /// Held by the order that is carried out: two at once would do the same twice.
    orders: Arc<tokio::sync::Mutex<()>>,
}

impl std::ops::Deref for Console {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Console {
    /// Over these parts. Connects in the background.
    ///
    /// # Errors
    /// The brokers' settings can't be used.
    pub fn new(parts: Parts<'_>) -> anyhow::Result<Self> {
        let Parts {
            config,
            kafka,
            administrators,
            search,
            rollouts,
            canary,
            recommender,
            profiles,
        } = parts;
        let instance = config.airec.instance.as_deref().unwrap_or("default");
        Ok(Self(Arc::new(Shared {
            access: Access::new(config, administrators.clone()),
            kafka: kafka.clone(),
            admin: Admin::connect(kafka)?,
            producer: Producer::connect(kafka)?,
            flow: Flow::new(config, kafka)?,
            search,
            rollouts,
            canary,
            recommender,
            profiles,
            instance: instance.to_owned(),
            models: models::Stored::default(),
            orders: Arc::default(),
        })))
    }

    /// Has an order be the only one until what is returned is dropped.
    ///
    /// # Errors
    /// Another one is being carried out.
    fn turn(&self) -> Result<tokio::sync::OwnedMutexGuard<()>, PageError> {
        Arc::clone(&self.orders).try_lock_owned().map_err(|_| {
            PageError::new(
                StatusCode::CONFLICT,
                "Another order is being carried out. Nothing was changed by this one; look again in a moment.",
            )
        })
    }

    /// All pages, guarded.
    pub fn routes(self) -> Router {
        let pages = Router::new()
            .route("/console/", get(overview::page))
            .route("/console/flow.json", get(flow::figures))
            .route("/console/topics", get(topics::page))
            .route("/console/topics/{topic}", get(records::page))
            .route("/console/topics/{topic}/produce", post(produce::produce))
            .route(
                "/console/topics/{topic}/{partition}/{offset}",
                get(record::page),
            )
            .route(
                "/console/topics/{topic}/{partition}/{offset}/value",
                get(record::download),
            )
            .route("/console/groups", get(groups::page))
            .route(
                "/console/groups/reset",
                get(reset::plan).post(reset::carry_out),
            )
            .route("/console/dead-letters", get(dead_letters::page))
            .route(
                "/console/dead-letters/order",
                get(redrive::plan).post(redrive::carry_out),
            )
            .route("/console/search", get(search::page))
            .route("/console/search/rankings", get(search::rankings))
            .route("/console/recommendations", get(recommendations::page))
            .route("/console/models", get(models::page))
            .route("/console/rollouts", get(rollouts::page))
            .route("/console/rollouts/rollback", post(rollouts::roll_back))
            .route("/console/canary", get(canary::page))
            .route("/console/logout", post(login::leave))
            .route_layer(middleware::from_fn_with_state(
                self.clone(),
                access::guarded,
            ));
        Router::new()
            .route(
                "/console",
                get(|| async { Redirect::permanent("/console/") }),
            )
            .route("/console/login", get(login::page).post(login::enter))
            .route("/console/assets/{name}", get(assets::asset))
            // A person asked: the API's answer would be JSON.
            .route("/console/{*path}", any(error::unknown_page))
            .merge(pages)
            .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
            .layer(middleware::map_response(access::secured))
            .with_state(self)
    }
}
