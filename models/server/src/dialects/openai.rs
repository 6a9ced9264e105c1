//! OpenAI's embeddings (<https://platform.openai.com/docs/api-reference/embeddings>).
//!
//! `POST /v1/embeddings`, `GET /v1/models`, `GET /v1/models/{model}`. Texts that are longer than the
//! model reads are cut or refused as `model_server.auto_truncate` says: the interface has no word
//! for it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::call::{Call, allow};
use super::{Dialect, answered, signed};
use crate::answer::Shape;
use crate::error::ServeError;
use crate::inputs::Inputs;
use crate::registry::Served;
use crate::service::{Ask, Service};

pub(crate) struct OpenAi;

pub(super) fn routes() -> Router<Arc<Service>> {
    Router::new()
        .route("/v1/embeddings", post(embeddings))
        .route("/v1/models", get(models))
        .route("/v1/models/{*model}", get(model))
}

/// The body of a request. What it holds besides (`user`) is of no concern here.
#[derive(Deserialize)]
struct Request {
    input: Option<Inputs>,
    model: Option<String>,
    #[serde(default)]
    encoding_format: Format,
    dimensions: Option<i64>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Float,
    Base64,
}

#[derive(Serialize)]
struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Components,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Components {
    Floats(Vec<f32>),
    Base64(String),
}

#[derive(Serialize)]
struct Answer {
    object: &'static str,
    data: Vec<Embedding>,
    model: String,
    usage: Usage,
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

async fn embeddings(State(service): State<Arc<Service>>, call: Call<OpenAi>) -> Response {
    let answer = embed(&service, &call).await;
    answered::<OpenAi>(&service, answer)
}

async fn embed(service: &Service, call: &Call<OpenAi>) -> Result<Response, ServeError> {
    let request: Request = call.json()?;
    let missing = |param: &'static str| ServeError::Invalid {
        param,
        message: format!("you must provide {param}"),
    };
    let named = request.model.ok_or_else(|| missing("model"))?;
    let model = service.registry.named(&named)?;
    let dimensions = request.dimensions.map(|wanted| {
        // What is below 0 is out of range as 0 is.
        usize::try_from(wanted).unwrap_or(0)
    });
    let embedded = service
        .embed(Ask {
            model: Arc::clone(&model),
            inputs: request.input.ok_or_else(|| missing("input"))?,
            truncate: None,
            prompt_name: None,
            shape: Shape {
                normalise: true,
                dimensions,
            },
            deadline: call.deadline,
        })
        .await?;
    let data = embedded.vectors.into_iter().enumerate();
    let data = data.map(|(index, vector)| Embedding {
        object: "embedding",
        index,
        embedding: match request.encoding_format {
            Format::Float => Components::Floats(vector),
            Format::Base64 => Components::Base64(base64(&vector)),
        },
    });
    let answer = Answer {
        object: "list",
        data: data.collect(),
        model: named,
        usage: Usage {
            prompt_tokens: embedded.tokens,
            total_tokens: embedded.tokens,
        },
    };
    Ok(signed(&model, Json(answer)))
}

/// Little-endian 32-bit floats.
fn base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    STANDARD.encode(bytes)
}

async fn models(State(service): State<Arc<Service>>, headers: HeaderMap) -> Response {
    let listed = allow(&headers, service.config.api_key.as_deref(), false).map(|()| {
        let all = service.registry.all();
        let data: Vec<Value> = all.iter().map(|served| description(served)).collect();
        Json(json!({ "object": "list", "data": data })).into_response()
    });
    answered::<OpenAi>(&service, listed)
}

async fn model(
    State(service): State<Arc<Service>>,
    Path(named): Path<String>,
    headers: HeaderMap,
) -> Response {
    let found = allow(&headers, service.config.api_key.as_deref(), false)
        .and_then(|()| service.registry.named(&named))
        .map(|served| Json(description(&served)).into_response());
    answered::<OpenAi>(&service, found)
}

fn description(served: &Served) -> Value {
    json!({
        "id": format!("{}:{}", served.name(), served.version()),
        "object": "model",
        "created": served.loaded_at().as_second(),
        "owned_by": "millrace",
    })
}

impl Dialect for OpenAi {
    const NAME: &'static str = "openai";

    fn error(error: &ServeError) -> Response {
        let (status, kind, param, code) = described(error);
        let message = match error {
            ServeError::UnknownModel { .. } | ServeError::UnknownVersion { .. } => {
                format!("The model does not exist or you do not have access to it: {error}.")
            }
            error => error.to_string(),
        };
        let body = json!({ "error": {
            "message": message, "type": kind, "param": param, "code": code
        }});
        (status, Json(body)).into_response()
    }
}

type Described = (
    StatusCode,
    &'static str,
    Option<&'static str>,
    Option<&'static str>,
);

fn described(error: &ServeError) -> Described {
    const INVALID: &str = "invalid_request_error";
    const SERVER: &str = "server_error";
    match error {
        ServeError::Empty
        | ServeError::NothingToRank
        | ServeError::TooManyInputs { .. }
        | ServeError::TooLarge { .. }
        | ServeError::Tokenizer { .. } => (StatusCode::BAD_REQUEST, INVALID, Some("input"), None),
        ServeError::TooManyTokens { .. } | ServeError::TooManyBytes { .. } => (
            StatusCode::BAD_REQUEST,
            INVALID,
            Some("input"),
            Some("context_length_exceeded"),
        ),
        ServeError::Invalid { param, .. } => (StatusCode::BAD_REQUEST, INVALID, Some(param), None),
        ServeError::Malformed { .. }
        | ServeError::BodyUnread { .. }
        | ServeError::UnknownPrompt { .. }
        | ServeError::DefaultStays { .. }
        | ServeError::NotAReranker => (StatusCode::BAD_REQUEST, INVALID, None, None),
        ServeError::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, INVALID, None, None),
        ServeError::UnknownModel { .. } | ServeError::UnknownVersion { .. } => (
            StatusCode::NOT_FOUND,
            INVALID,
            None,
            Some("model_not_found"),
        ),
        ServeError::UnknownRoute { .. } => {
            (StatusCode::NOT_FOUND, INVALID, None, Some("unknown_url"))
        }
        ServeError::Method { .. } => (
            StatusCode::METHOD_NOT_ALLOWED,
            INVALID,
            None,
            Some("method_not_supported"),
        ),
        ServeError::Overloaded { .. } => (
            StatusCode::TOO_MANY_REQUESTS,
            "tokens",
            None,
            Some("rate_limit_exceeded"),
        ),
        ServeError::Late { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            SERVER,
            None,
            Some("timeout"),
        ),
        ServeError::NotReady { .. } => (StatusCode::SERVICE_UNAVAILABLE, SERVER, None, None),
        ServeError::Unauthorised => (
            StatusCode::UNAUTHORIZED,
            INVALID,
            None,
            Some("invalid_api_key"),
        ),
        ServeError::Encoder { .. } => (StatusCode::INTERNAL_SERVER_ERROR, SERVER, None, None),
    }
}
