//! Calls that change what serves are on the topic `audit`, whoever makes them.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use axum::{Router, middleware};
use millrace_kafka::Producer;
use millrace_recommender::http::rejection::MAX_BODY_BYTES;

use super::ApiError;
use crate::audit::{Arguments, Audit, Counts};

/// The header by which a caller says who it is, as `user@host`. It is believed: whoever makes these
/// calls has shown a token, or is on the machine.
pub const OPERATOR: &str = "x-millrace-operator";
/// Who does not say.
const ANYBODY: &str = "http";
/// How long a call waits for the topic.
const PATIENCE: Duration = Duration::from_secs(15);

/// Audits calls of routes.
#[derive(Clone)]
pub struct Auditor(Option<Producer>);

impl Auditor {
    /// Through `producer`; a process without topics has nothing to audit.
    pub fn new(producer: Option<Producer>) -> Self {
        Self(producer)
    }

    /// These routes, every call audited that may change something.
    pub fn watch(&self, routes: Router) -> Router {
        match &self.0 {
            Some(producer) => {
                routes.route_layer(middleware::from_fn_with_state(producer.clone(), audited))
            }
            None => routes,
        }
    }
}

async fn audited(
    State(producer): State<Producer>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if request.method().is_safe() {
        return Ok(next.run(request).await);
    }
    let who = who(request.headers());
    let (parts, body) = request.into_parts();
    // A caller that hung up in the middle of it reads no answer.
    let body = to_bytes(body, MAX_BODY_BYTES).await;
    let body = body.map_err(|_| ApiError::body_too_large())?;
    let mut arguments = Arguments::from([("path".to_owned(), parts.uri.path().to_owned())]);
    if let Some(query) = parts.uri.query() {
        arguments.insert("query".to_owned(), query.to_owned());
    }
    if !body.is_empty() {
        let text = String::from_utf8_lossy(&body).into_owned();
        arguments.insert("body".to_owned(), text);
    }
    let action = action(parts.uri.path());
    let audit = in_time(Audit::begin(&producer, who, &action, arguments)).await?;
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    let status = response.status();
    let counts = Counts::from([("status".to_owned(), status.as_u16().into())]);
    if status.is_success() {
        in_time(audit.done(counts)).await?;
    } else {
        // The caller is told of the failure itself, which is more.
        let told = audit.failed(counts, reason(status));
        if let Err(error) = in_time(told).await {
            tracing::warn!(?error, action, "a failure is not on the topic audit");
        }
    }
    Ok(response)
}

/// Who makes a call, as it says.
pub fn who(headers: &HeaderMap) -> String {
    headers.get(OPERATOR).map_or_else(
        || ANYBODY.to_owned(),
        |who| String::from_utf8_lossy(who.as_bytes()).into_owned(),
    )
}

async fn in_time<T>(telling: impl Future<Output = anyhow::Result<T>>) -> Result<T, ApiError> {
    let told = tokio::time::timeout(PATIENCE, telling).await;
    let told =
        told.unwrap_or_else(|_| Err(anyhow::anyhow!("the topic audit can't be written to now")));
    told.map_err(|error| ApiError::unavailable(error.as_ref()))
}

fn reason(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("refused")
}

/// `/v1/instances/{instance}/deploy` is `deploy`, `/v1/rebuild/{consumer}` is `rebuild`,
/// `/_plugins/_ml/models/{model}/_deploy` is `deploy.opensearch`, `/v1/rollout/{step}` is `rollout.{step}`.
fn action(path: &str) -> String {
    if path.starts_with("/v1/rebuild/") {
        return "rebuild".to_owned();
    }
    if path.starts_with("/_plugins/_ml/") {
        return "deploy.opensearch".to_owned();
    }
    match path.strip_prefix("/v1/rollout/") {
        Some(step) => format!("rollout.{step}"),
        None => path.rsplit('/').next().unwrap_or(path).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::action;

    #[test]
    fn actions_are_named_by_their_routes() {
        assert_eq!(action("/v1/instances/shop/deploy"), "deploy");
        assert_eq!(action("/v1/instances/shop/rollback"), "rollback");
        assert_eq!(action("/v1/rebuild/joiner"), "rebuild");
        let by_path = "/_plugins/_ml/models/custom/_deploy";
        assert_eq!(action(by_path), "deploy.opensearch");
        assert_eq!(action("/v1/rollout/switch"), "rollout.switch");
    }
}
