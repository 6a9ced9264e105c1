//! `/ping` and `/predictions/{model}[/{version}]`.
//!
//! What a prediction takes and gives is a handler's own matter in TorchServe. Ours takes a text
//! (plain, as the JSON string, or as `data`/`body`/`text` of a JSON object) and gives its vector, or
//! an array of texts or token ids and gives theirs.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::TorchServe;
use crate::answer::Shape;
use crate::dialects::call::Call;
use crate::dialects::{answered, signed};
use crate::error::ServeError;
use crate::inputs::Inputs;
use crate::service::{Ask, Service};

pub(super) fn routes() -> Router<Arc<Service>> {
    Router::new()
        .route("/ping", get(ping))
        .route("/predictions/{model}", post(predict))
        .route("/predictions/{model}/{version}", post(predict_version))
}

async fn ping(State(service): State<Arc<Service>>) -> Response {
    match service.ready() {
        Ok(()) => Json(json!({ "status": "Healthy" })).into_response(),
        Err(_) => {
            let body = Json(json!({ "status": "Unhealthy" }));
            (StatusCode::INTERNAL_SERVER_ERROR, body).into_response()
        }
    }
}

async fn predict(
    State(service): State<Arc<Service>>,
    Path(model): Path<String>,
    call: Call<TorchServe>,
) -> Response {
    let answer = predicted(&service, &model, None, &call).await;
    answered::<TorchServe>(&service, answer)
}

async fn predict_version(
    State(service): State<Arc<Service>>,
    Path((model, version)): Path<(String, String)>,
    call: Call<TorchServe>,
) -> Response {
    let answer = predicted(&service, &model, Some(&version), &call).await;
    answered::<TorchServe>(&service, answer)
}

async fn predicted(
    service: &Service,
    model: &str,
    version: Option<&str>,
    call: &Call<TorchServe>,
) -> Result<Response, ServeError> {
    // `NAME:VERSION` is one segment, too.
    let model = match version {
        Some(version) => service.registry.find(model, Some(version))?,
        None => service.registry.named(model)?,
    };
    let (inputs, one) = inputs(call)?;
    let embedded = service
        .embed(Ask {
            model: Arc::clone(&model),
            inputs,
            truncate: None,
            prompt_name: None,
            shape: Shape {
                normalise: true,
                dimensions: None,
            },
            deadline: call.deadline,
        })
        .await?;
    let mut vectors = embedded.vectors;
    Ok(match (one, vectors.pop()) {
        (true, Some(vector)) => signed(&model, Json(vector)),
        (_, last) => {
            vectors.extend(last);
            signed(&model, Json(vectors))
        }
    })
}

/// What is to be embedded, and whether it is one text, whose vector is the whole answer.
fn inputs(call: &Call<TorchServe>) -> Result<(Inputs, bool), ServeError> {
    let media_type = call.headers.get(header::CONTENT_TYPE);
    let media_type = media_type.and_then(|value| value.to_str().ok());
    let media_type = media_type.unwrap_or_default().to_ascii_lowercase();
    if media_type.starts_with("multipart/") {
        return Err(ServeError::Malformed {
            message: "multipart bodies are not read; send the text as the body, or JSON".to_owned(),
        });
    }
    if !media_type.starts_with("application/json") {
        let text = std::str::from_utf8(&call.body).map_err(|_| ServeError::Malformed {
            message: "the body is no text in UTF-8".to_owned(),
        })?;
        // What `curl -d data=…` and torchserve's own examples send.
        let text = match text.strip_prefix("data=") {
            Some(data) if media_type.starts_with("application/x-www-form-urlencoded") => {
                form_decoded(data)?
            }
            _ => text.to_owned(),
        };
        return Ok((Inputs::Texts(vec![text]), true));
    }
    let value = match call.json::<Value>()? {
        Value::Object(mut fields) => ["data", "body", "text", "inputs"]
            .iter()
            .find_map(|name| fields.remove(*name))
            .ok_or_else(|| ServeError::Malformed {
                message: "the object has none of data, body, text and inputs".to_owned(),
            })?,
        value => value,
    };
    let one = value.is_string();
    let inputs = serde_json::from_value(value).map_err(|error| ServeError::Malformed {
        message: format!("the body is not what this route reads: {error}"),
    })?;
    Ok((inputs, one))
}

fn form_decoded(text: &str) -> Result<String, ServeError> {
    let spaced = text.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&spaced).decode_utf8();
    let decoded = decoded.map_err(|_| ServeError::Malformed {
        message: "the form's data is no text in UTF-8".to_owned(),
    })?;
    Ok(decoded.into_owned())
}
