//! `/models`: list, describe, register, scale, unregister, set the default version.
//!
//! A model is registered by its name in the model store, or in the one it is fetched from, never by
//! an address: what serves is what was checked when it was brought in. Each has one worker, which
//! uses all of the encoder's threads, so scaling to one is granted and to more is refused.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, put};
use millrace_models::StoreError;
use millrace_retry::error_chain;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{TorchServe, failure};
use crate::dialects::answered;
use crate::dialects::call::Administrator;
use crate::error::ServeError;
use crate::model::Model;
use crate::registry::{RegisterError, Served};
use crate::service::Service;
use crate::source::FetchError;

/// Most models of one page, as in TorchServe.
const PAGE: usize = 100;

type Admin = Administrator<TorchServe>;
type Shared = State<Arc<Service>>;

pub(super) fn routes() -> Router<Arc<Service>> {
    Router::new()
        .route("/models", get(list).post(register))
        .route(
            "/models/{model}",
            get(describe).put(scale).delete(unregister),
        )
        .route(
            "/models/{model}/{version}",
            get(describe_version)
                .put(scale_version)
                .delete(unregister_version),
        )
        .route("/models/{model}/{version}/set-default", put(set_default))
}

#[derive(Deserialize)]
struct PageOf {
    limit: Option<i64>,
    next_page_token: Option<i64>,
}

async fn list(
    _: Admin,
    State(service): Shared,
    page: Result<Query<PageOf>, QueryRejection>,
) -> Response {
    let Query(page) = match page {
        Ok(page) => page,
        Err(rejection) => return bad_request(&rejection.body_text()),
    };
    let in_range = |limit: i64| usize::try_from(limit).ok().filter(|limit| *limit <= PAGE);
    let limit = page.limit.and_then(in_range).unwrap_or(PAGE);
    let first = page.next_page_token.unwrap_or(0);
    let first = usize::try_from(first).unwrap_or(0);
    let defaults = service.registry.defaults();
    let models: Vec<Value> = defaults
        .iter()
        .skip(first)
        .take(limit)
        .map(|served| json!({ "modelName": served.name(), "modelUrl": url(served) }))
        .collect();
    let end = first.saturating_add(limit);
    let mut body = json!({ "models": models });
    if end <= defaults.len() {
        body["nextPageToken"] = end.to_string().into();
    }
    Json(body).into_response()
}

async fn describe(_: Admin, State(service): Shared, Path(model): Path<String>) -> Response {
    let found = service.registry.find(&model, None);
    described(&service, found.map(|served| vec![served]))
}

async fn describe_version(
    _: Admin,
    State(service): Shared,
    Path((model, version)): Path<(String, String)>,
) -> Response {
    let found = if version == "all" {
        service.registry.versions(&model)
    } else {
        let found = service.registry.find(&model, Some(&version));
        found.map(|served| vec![served])
    };
    described(&service, found)
}

fn described(service: &Service, found: Result<Vec<Arc<Served>>, ServeError>) -> Response {
    let described = found.map(|versions| {
        let all: Vec<Value> = versions
            .iter()
            .map(|served| description(service, served))
            .collect();
        Json(all).into_response()
    });
    answered::<TorchServe>(service, described)
}

fn description(service: &Service, served: &Served) -> Value {
    let config = &service.config;
    let queued = service.admission.queued_tokens();
    json!({
        "modelName": served.name(),
        "modelVersion": served.version(),
        "modelUrl": url(served),
        "runtime": "rust",
        "minWorkers": 1,
        "maxWorkers": 1,
        // In tokens, as is the queue below.
        "batchSize": config.batch_tokens,
        "maxBatchDelay": 0,
        "responseTimeout": config.timeout_ms.div_ceil(1_000),
        "loadedAtStartup": served.at_startup(),
        "workers": [{
            "id": served.id().to_string(),
            "startTime": served.loaded_at().to_string(),
            "status": "READY",
            "memoryUsage": 0,
            "pid": std::process::id(),
            "gpu": false,
            "gpuUsage": "N/A",
        }],
        "jobQueueStatus": {
            "remainingCapacity": config.max_queued_tokens.saturating_sub(queued),
            "pendingRequests": queued,
        },
    })
}

/// What a model can be registered by.
fn url(served: &Served) -> String {
    let name = served.folder().file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

#[derive(Deserialize)]
struct Registration {
    url: Option<String>,
    model_name: Option<String>,
}

async fn register(
    _: Admin,
    State(service): Shared,
    query: Result<Query<Registration>, QueryRejection>,
) -> Response {
    // The first model is the one that answers where none is named: it is a configured one.
    if let Err(error) = service.ready() {
        return answered::<TorchServe>(&service, Err(error));
    }
    let Query(Registration { url, model_name }) = match query {
        Ok(query) => query,
        Err(rejection) => return bad_request(&rejection.body_text()),
    };
    let Some(url) = url else {
        return bad_request("Parameter url is required.");
    };
    if let Some(name) = model_name
        && url.split([':', '/']).next() != Some(name.as_str())
    {
        return bad_request(&format!(
            "model_name is {name}, but url names {url}: a model serves under its name in the store"
        ));
    }
    let registry = Arc::clone(&service.registry);
    let registering = tokio::task::spawn_blocking(move || registry.register(&url, false));
    match registering.await {
        Ok(Ok(served)) => status(
            StatusCode::OK,
            &format!(
                "Model \"{}\" Version: {} registered with 1 initial workers",
                served.name(),
                served.version()
            ),
        ),
        Ok(Err(error)) => not_registered(&error),
        Err(_) => failure(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalServerException",
            "loading the model panicked",
        ),
    }
}

fn not_registered(error: &RegisterError) -> Response {
    let (status, kind) = match error {
        RegisterError::AlreadyServes { .. } => (StatusCode::CONFLICT, "ConflictStatusException"),
        RegisterError::Reference(_) => (StatusCode::BAD_REQUEST, "DownloadArchiveException"),
        RegisterError::Fetch { source, .. } => match source {
            FetchError::NotThere(_) => (StatusCode::NOT_FOUND, "ModelNotFoundException"),
            FetchError::Away(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailableException",
            ),
            FetchError::Failed(_) => (StatusCode::BAD_REQUEST, "DownloadArchiveException"),
        },
        RegisterError::Store(StoreError::NotStored { .. }) => {
            (StatusCode::NOT_FOUND, "ModelNotFoundException")
        }
        RegisterError::Store(_) | RegisterError::Model(_) | RegisterError::Prompts { .. } => {
            (StatusCode::BAD_REQUEST, "InvalidModelException")
        }
    };
    failure(status, kind, &error_chain(error))
}

#[derive(Deserialize)]
struct Workers {
    min_worker: Option<i64>,
    max_worker: Option<i64>,
    #[serde(default)]
    synchronous: bool,
}

async fn scale(
    _: Admin,
    State(service): Shared,
    Path(model): Path<String>,
    query: Result<Query<Workers>, QueryRejection>,
) -> Response {
    scaled(&service, &model, None, query)
}

async fn scale_version(
    _: Admin,
    State(service): Shared,
    Path((model, version)): Path<(String, String)>,
    query: Result<Query<Workers>, QueryRejection>,
) -> Response {
    scaled(&service, &model, Some(&version), query)
}

fn scaled(
    service: &Service,
    model: &str,
    version: Option<&str>,
    query: Result<Query<Workers>, QueryRejection>,
) -> Response {
    let Query(workers) = match query {
        Ok(query) => query,
        Err(rejection) => return bad_request(&rejection.body_text()),
    };
    if let Err(error) = service.registry.find(model, version) {
        return answered::<TorchServe>(service, Err(error));
    }
    let least = workers.min_worker.unwrap_or(1);
    let most = workers.max_worker.unwrap_or(least);
    if most < least {
        return bad_request("max_worker cannot be less than min_worker.");
    }
    if least > 1 || most < 1 {
        return bad_request(
            "a model has one worker, which uses all of the encoder's threads (model.threads); \
             unregister a model that should not serve",
        );
    }
    if !workers.synchronous {
        return status(StatusCode::ACCEPTED, "Processing worker updates...");
    }
    let version = version.map_or_else(String::new, |version| format!(", version: {version}"));
    status(
        StatusCode::OK,
        &format!("Workers scaled to 1 for model: {model}{version}"),
    )
}

async fn unregister(_: Admin, State(service): Shared, Path(model): Path<String>) -> Response {
    unregistered(&service, &model, None)
}

async fn unregister_version(
    _: Admin,
    State(service): Shared,
    Path((model, version)): Path<(String, String)>,
) -> Response {
    unregistered(&service, &model, Some(&version))
}

fn unregistered(service: &Service, model: &str, version: Option<&str>) -> Response {
    let done = service.registry.unregister(model, version);
    let done = done.map(|()| status(StatusCode::OK, &format!("Model \"{model}\" unregistered")));
    answered::<TorchServe>(service, done)
}

async fn set_default(
    _: Admin,
    State(service): Shared,
    Path((model, version)): Path<(String, String)>,
) -> Response {
    let done = service.registry.set_default(&model, &version);
    // The words are TorchServe's own, as scripts compare them.
    let said =
        format!("Default vesion succsesfully updated for model \"{model}\" to \"{version}\"");
    answered::<TorchServe>(&service, done.map(|()| status(StatusCode::OK, &said)))
}

fn status(status: StatusCode, said: &str) -> Response {
    (status, Json(json!({ "status": said }))).into_response()
}

fn bad_request(message: &str) -> Response {
    failure(StatusCode::BAD_REQUEST, "BadRequestException", message)
}
