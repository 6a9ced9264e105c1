//! The interface of Hugging Face's text-embeddings-inference
//! (<https://huggingface.github.io/text-embeddings-inference/>).
//!
//! `POST /embed` (and `/`), `/rerank`, `/tokenize`, `GET /info`, `/health`. It knows one model: the
//! server's default one, in its default version; only `/rerank` is another's, the configured
//! cross-encoder's. Names, statuses and shapes are those of its router's source.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use millrace_models::Tokenizer;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::call::Call;
use super::{Dialect, answered, signed, signed_by};
use crate::answer::Shape;
use crate::error::ServeError;
use crate::inputs::Inputs;
use crate::ranking::RankAsk;
use crate::service::{Ask, Service};

pub(crate) struct Tei;

pub(super) fn routes() -> Router<Arc<Service>> {
    Router::new()
        .route("/", post(embed))
        .route("/embed", post(embed))
        .route("/rerank", post(rerank))
        .route("/tokenize", post(tokenize))
        .route("/info", get(info))
        .route("/health", get(health))
}

#[derive(Deserialize)]
struct EmbedRequest {
    inputs: Inputs,
    truncate: Option<bool>,
    #[serde(default = "yes")]
    normalize: bool,
    prompt_name: Option<String>,
    dimensions: Option<usize>,
}

fn yes() -> bool {
    true
}

async fn embed(State(service): State<Arc<Service>>, call: Call<Tei>) -> Response {
    let answer = embedded(&service, &call).await;
    answered::<Tei>(&service, answer)
}

async fn embedded(service: &Service, call: &Call<Tei>) -> Result<Response, ServeError> {
    let request: EmbedRequest = call.json()?;
    let model = service.registry.default_model()?;
    let embedded = service
        .embed(Ask {
            model: Arc::clone(&model),
            inputs: request.inputs,
            truncate: request.truncate,
            prompt_name: request.prompt_name,
            shape: Shape {
                normalise: request.normalize,
                dimensions: request.dimensions,
            },
            deadline: call.deadline,
        })
        .await?;
    let mut response = signed(&model, Json(embedded.vectors));
    let tokens = embedded.tokens.into();
    response.headers_mut().insert("x-compute-tokens", tokens);
    Ok(response)
}

#[derive(Deserialize)]
struct RerankRequest {
    query: String,
    texts: Vec<String>,
    truncate: Option<bool>,
    #[serde(default)]
    raw_scores: bool,
    #[serde(default)]
    return_text: bool,
}

#[derive(Serialize)]
struct Rank {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    score: f32,
}

async fn rerank(State(service): State<Arc<Service>>, call: Call<Tei>) -> Response {
    let answer = reranked(&service, &call).await;
    answered::<Tei>(&service, answer)
}

async fn reranked(service: &Service, call: &Call<Tei>) -> Result<Response, ServeError> {
    let request: RerankRequest = call.json()?;
    let scored = service
        .rank(RankAsk {
            query: request.query,
            texts: request.texts,
            truncate: request.truncate,
            deadline: call.deadline,
        })
        .await?;
    let mut texts: Vec<_> = scored.texts.into_iter().enumerate().collect();
    // Best first, equal ones as they were asked. By the logit: a sigmoid takes many to 1.0.
    texts.sort_by(|(_, (_, a)), (_, (_, b))| b.total_cmp(a));
    let ranks = texts.into_iter().map(|(index, (text, logit))| Rank {
        index,
        text: request.return_text.then_some(text),
        score: if request.raw_scores {
            logit
        } else {
            1.0 / (1.0 + (-logit).exp())
        },
    });
    let ranks: Vec<Rank> = ranks.collect();
    let model = scored.reranker.model();
    let mut response = signed_by(model.version(), model.fingerprint(), Json(ranks));
    let tokens = scored.tokens.into();
    response.headers_mut().insert("x-compute-tokens", tokens);
    Ok(response)
}

#[derive(Deserialize)]
struct TokenizeRequest {
    inputs: Texts,
    #[serde(default = "yes")]
    add_special_tokens: bool,
    prompt_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "inputs must be a text or an array of texts")]
enum Texts {
    One(String),
    Many(Vec<String>),
}

#[derive(Serialize)]
struct SimpleToken {
    id: u32,
    text: String,
    special: bool,
    start: Option<usize>,
    stop: Option<usize>,
}

async fn tokenize(State(service): State<Arc<Service>>, call: Call<Tei>) -> Response {
    let answer = tokenized(&service, &call).await;
    answered::<Tei>(&service, answer)
}

async fn tokenized(service: &Service, call: &Call<Tei>) -> Result<Response, ServeError> {
    let request: TokenizeRequest = call.json()?;
    let texts = match request.inputs {
        Texts::One(text) => vec![text],
        Texts::Many(texts) => texts,
    };
    let (found, limit) = (texts.len(), service.config.max_inputs);
    if found > limit {
        return Err(ServeError::TooManyInputs { found, limit });
    }
    let model = service.registry.default_model()?;
    let prompt = request
        .prompt_name
        .map(|name| model.prompt(&name).map(str::to_owned));
    let prompt = prompt.transpose()?.unwrap_or_default();
    let (most_bytes, most_tokens) = (
        service.config.max_text_bytes,
        service.config.max_queued_tokens,
    );
    let framed = request.add_special_tokens;
    let work = move || {
        let tokenizer = model.encoder().tokenizer();
        let (mut all, mut count) = (Vec::with_capacity(texts.len()), 0);
        for (index, text) in texts.iter().enumerate() {
            let text = format!("{prompt}{text}");
            let tokens = tokens(tokenizer, index, &text, framed, most_bytes)?;
            // They are not computed, but an answer of them is many times their text.
            count += tokens.len();
            if count > most_tokens {
                return Err(ServeError::TooLarge { limit: most_tokens });
            }
            all.push(tokens);
        }
        Ok(all)
    };
    let tokens = service.read(call.deadline, work).await?;
    Ok(Json(tokens).into_response())
}

fn tokens(
    tokenizer: &Tokenizer,
    index: usize,
    text: &str,
    framed: bool,
    limit: usize,
) -> Result<Vec<SimpleToken>, ServeError> {
    if text.is_empty() {
        return Err(ServeError::Empty);
    }
    if text.len() > limit {
        return Err(ServeError::TooManyBytes {
            index,
            found: text.len(),
            limit,
        });
    }
    let tokens = tokenizer.sequence(text, framed);
    let tokens = tokens.map_err(|source| ServeError::Tokenizer {
        index,
        reason: source.to_string(),
    })?;
    let simple = tokens.into_iter().map(|token| match token.range {
        None => SimpleToken {
            id: token.id,
            text: token.piece,
            special: true,
            start: None,
            stop: None,
        },
        Some(range) => SimpleToken {
            id: token.id,
            text: text.get(range.clone()).unwrap_or_default().to_owned(),
            special: false,
            start: Some(range.start),
            stop: Some(range.end),
        },
    });
    Ok(simple.collect())
}

async fn info(State(service): State<Arc<Service>>) -> Response {
    let described = service.registry.default_model().map(|model| {
        let (config, encoder) = (&service.config, model.encoder());
        Json(json!({
            "model_id": model.name(),
            // Of a model without a repository, what tells it from others.
            "model_sha": encoder.fingerprint(),
            "model_dtype": "float32",
            "model_type": { "embedding": { "pooling": "mean" } },
            // What is bounded here is tokens; each request has at least one.
            "max_concurrent_requests": config.max_queued_tokens,
            "max_input_length": encoder.max_tokens(),
            "max_batch_tokens": config.batch_tokens,
            "max_batch_requests": null,
            "max_client_batch_size": config.max_inputs,
            "auto_truncate": config.auto_truncate,
            "tokenization_workers": encoder.threads(),
            "version": env!("CARGO_PKG_VERSION"),
            "sha": null,
            "docker_label": null,
        }))
        .into_response()
    });
    answered::<Tei>(&service, described)
}

async fn health(State(service): State<Arc<Service>>) -> Response {
    match service.ready() {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => Tei::error(&error),
    }
}

impl Dialect for Tei {
    const NAME: &'static str = "tei";

    fn error(error: &ServeError) -> Response {
        let (status, kind) = described(error);
        let message = match (kind, error) {
            ("Overloaded", _) => "Model is overloaded".to_owned(),
            (_, ServeError::Empty) => "`inputs` cannot be empty".to_owned(),
            (_, ServeError::NothingToRank) => "`query` and `texts` cannot be empty".to_owned(),
            ("Validation", ServeError::TooManyTokens { found, limit, .. }) => format!(
                "Input validation error: `inputs` must have less than {limit} tokens. Given: {found}"
            ),
            ("Validation", ServeError::TooManyInputs { found, limit }) => {
                format!("batch size {found} > maximum allowed batch size {limit}")
            }
            ("Validation", error) => format!("Input validation error: {error}"),
            (_, error) => error.to_string(),
        };
        let body = json!({ "error": message, "error_type": kind });
        (status, Json(body)).into_response()
    }
}

/// Statuses as its router has them: what does not validate is 413 there.
fn described(error: &ServeError) -> (StatusCode, &'static str) {
    match error {
        ServeError::Empty | ServeError::NothingToRank => (StatusCode::BAD_REQUEST, "Empty"),
        ServeError::TooManyInputs { .. }
        | ServeError::TooManyTokens { .. }
        | ServeError::TooManyBytes { .. }
        | ServeError::TooLarge { .. }
        | ServeError::BodyTooLarge { .. }
        | ServeError::Invalid { .. }
        | ServeError::UnknownPrompt { .. }
        | ServeError::DefaultStays { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "Validation"),
        ServeError::Malformed { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "Validation"),
        ServeError::BodyUnread { .. } => (StatusCode::BAD_REQUEST, "Validation"),
        ServeError::Tokenizer { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "Tokenizer"),
        ServeError::UnknownModel { .. }
        | ServeError::UnknownVersion { .. }
        | ServeError::UnknownRoute { .. } => (StatusCode::NOT_FOUND, "Validation"),
        ServeError::Method { .. } => (StatusCode::METHOD_NOT_ALLOWED, "Validation"),
        ServeError::Overloaded { .. } => (StatusCode::TOO_MANY_REQUESTS, "Overloaded"),
        ServeError::Late { .. } | ServeError::NotReady { .. } => {
            (StatusCode::SERVICE_UNAVAILABLE, "Unhealthy")
        }
        ServeError::Unauthorised => (StatusCode::UNAUTHORIZED, "Validation"),
        ServeError::NotAReranker | ServeError::Encoder { .. } => {
            (StatusCode::FAILED_DEPENDENCY, "Backend")
        }
    }
}
