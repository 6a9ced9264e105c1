//! An HTTP proxy in front of OpenSearch that fails as OpenSearch, or the network before it, does.
//!
//! The shapes of the refusals are those that OpenSearch 2.19 gives.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};

use super::http_rules::HttpRules;
use crate::http_server::{Answer, HttpServer};
use crate::schedule::SearchFault;

const SLOW: Duration = Duration::from_millis(500);

/// The proxy.
#[derive(Debug)]
pub struct SearchProxy {
    http: HttpServer,
    /// How it fails.
    pub rules: Arc<HttpRules<SearchFault>>,
}

impl SearchProxy {
    /// In front of the OpenSearch at `upstream`.
    ///
    /// # Errors
    /// No port or client can be had.
    pub async fn start(upstream: String, rules: HttpRules<SearchFault>) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .no_gzip()
            .timeout(Duration::from_secs(60))
            .build()?;
        let upstream = Arc::new(Upstream {
            client,
            address: upstream,
        });
        let rules = Arc::new(rules);
        let broken = Arc::clone(&rules);
        let http = HttpServer::start(move |request| {
            let (upstream, rules) = (Arc::clone(&upstream), Arc::clone(&broken));
            async move { upstream.answer(&rules, request).await }
        })
        .await?;
        Ok(Self { http, rules })
    }

    /// Where the roles find it.
    #[must_use]
    pub fn url(&self) -> String {
        self.http.url()
    }
}

struct Upstream {
    client: reqwest::Client,
    address: String,
}

impl Upstream {
    async fn answer(&self, rules: &HttpRules<SearchFault>, request: Request<Bytes>) -> Answer {
        let bulk = request
            .uri()
            .path()
            .ends_with("/_bulk")
            .then(|| BulkRequest::read(&request))
            .flatten();
        let fault = rules.strike(|fault| match fault {
            SearchFault::ItemsRejected | SearchFault::ReadOnly | SearchFault::FewerItems => {
                bulk.is_some()
            }
            // A single document that is too large is a dead letter, rightly.
            SearchFault::TooLarge => bulk.as_ref().is_some_and(|bulk| bulk.items.len() > 1),
            _ => true,
        });
        let Some(fault) = fault else {
            return self.pass(request).await;
        };
        match (fault, bulk) {
            (SearchFault::TooManyRequests, _) => refusal(
                StatusCode::TOO_MANY_REQUESTS,
                "opensearch_rejected_execution_exception",
            ),
            (SearchFault::Unavailable, _) => Answer::Whole(plain(
                StatusCode::SERVICE_UNAVAILABLE,
                "upstream connect error",
            )),
            (SearchFault::TooLarge, _) => Answer::Whole(plain(StatusCode::PAYLOAD_TOO_LARGE, "")),
            (SearchFault::HangUp, _) => Answer::HangUp,
            (SearchFault::LostResponse, _) => {
                self.pass(request).await;
                Answer::HangUp
            }
            (SearchFault::Slow, _) => {
                tokio::time::sleep(SLOW).await;
                self.pass(request).await
            }
            (SearchFault::ReadOnly, Some(bulk)) => bulk.refused(
                StatusCode::TOO_MANY_REQUESTS,
                "cluster_block_exception",
                "index [x] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage \
                 watermark, index has read-only-allow-delete block];",
            ),
            (SearchFault::ItemsRejected, Some(bulk)) => self.pass_every_other(request, &bulk).await,
            (SearchFault::FewerItems, Some(bulk)) => self.pass_all_but_last(request, &bulk).await,
            (
                SearchFault::ReadOnly | SearchFault::ItemsRejected | SearchFault::FewerItems,
                None,
            ) => self.pass(request).await,
        }
    }

    async fn pass(&self, request: Request<Bytes>) -> Answer {
        match self.forward(request).await {
            Some(response) => Answer::Whole(response),
            None => Answer::HangUp,
        }
    }

    /// The answer of OpenSearch; none where it is away.
    async fn forward(&self, request: Request<Bytes>) -> Option<Response<Bytes>> {
        let (head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = head.headers;
        for own in [header::HOST, header::CONNECTION, header::CONTENT_LENGTH] {
            headers.remove(own);
        }
        let answered = self
            .client
            .request(head.method, format!("{}{path}", self.address))
            .headers(headers)
            .body(body)
            .send()
            .await
            .ok()?;
        let (status, mut headers) = (answered.status(), answered.headers().clone());
        let body = answered.bytes().await.ok()?;
        for own in [
            header::CONNECTION,
            header::CONTENT_LENGTH,
            header::TRANSFER_ENCODING,
        ] {
            headers.remove(own);
        }
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Some(response)
    }

    /// As [`Self::forward`], with these items of the bulk alone; the answer is not compressed.
    async fn apply<'a>(
        &self,
        request: Request<Bytes>,
        items: impl Iterator<Item = &'a BulkItem>,
    ) -> Option<Response<Bytes>> {
        let applied: Vec<u8> = items.flat_map(|item| item.lines.iter().copied()).collect();
        let (mut head, _) = request.into_parts();
        head.headers.remove(header::CONTENT_ENCODING);
        head.headers.remove(header::ACCEPT_ENCODING);
        let part = Request::from_parts(head, Bytes::from(applied));
        self.forward(part).await
    }

    /// Answers as if the last item had not been sent. It is not applied either: one that was would be
    /// missed by nobody.
    async fn pass_all_but_last(&self, request: Request<Bytes>, bulk: &BulkRequest) -> Answer {
        let kept = bulk.items.len().saturating_sub(1);
        if kept == 0 {
            // OpenSearch would refuse a bulk without items.
            let body = json!({ "took": 1, "errors": false, "items": [] });
            return Answer::Whole(json_response(StatusCode::OK, &body));
        }
        match self.apply(request, bulk.items.iter().take(kept)).await {
            Some(response) => Answer::Whole(response),
            None => Answer::HangUp,
        }
    }

    /// Answers 429 to the first item and every other one after it, applies the rest.
    async fn pass_every_other(&self, request: Request<Bytes>, bulk: &BulkRequest) -> Answer {
        if bulk.items.len() == 1 {
            return bulk.refused(
                StatusCode::TOO_MANY_REQUESTS,
                "rejected_execution_exception",
                "rejected execution of coordinating operation",
            );
        }
        let applied = bulk.items.iter().skip(1).step_by(2);
        let Some(response) = self.apply(request, applied).await else {
            return Answer::HangUp;
        };
        let Ok(mut answer) = serde_json::from_slice::<Value>(response.body()) else {
            return Answer::Whole(response);
        };
        let Some(answered) = answer["items"].as_array() else {
            return Answer::Whole(response);
        };
        let mut answered = answered.iter();
        let items: Vec<Value> = (0..bulk.items.len())
            .filter_map(|number| {
                if number % 2 == 1 {
                    answered.next().cloned()
                } else {
                    Some(bulk.items[number].refused(
                        StatusCode::TOO_MANY_REQUESTS,
                        "rejected_execution_exception",
                        "rejected execution of coordinating operation",
                    ))
                }
            })
            .collect();
        answer["items"] = Value::from(items);
        answer["errors"] = json!(true);
        Answer::Whole(json_response(StatusCode::OK, &answer))
    }
}

struct BulkRequest {
    items: Vec<BulkItem>,
}

struct BulkItem {
    id: String,
    /// Action and source, each with its line feed.
    lines: Vec<u8>,
}

impl BulkRequest {
    fn read(request: &Request<Bytes>) -> Option<Self> {
        if *request.method() != Method::POST {
            return None;
        }
        let gzipped = request
            .headers()
            .get(header::CONTENT_ENCODING)
            .is_some_and(|encoding| encoding == "gzip");
        let mut body = Vec::new();
        if gzipped {
            flate2::read::GzDecoder::new(&request.body()[..])
                .read_to_end(&mut body)
                .ok()?;
        } else {
            body.extend_from_slice(request.body());
        }
        let mut items = Vec::new();
        let mut lines = body.split_inclusive(|byte| *byte == b'\n');
        while let (Some(action), Some(source)) = (lines.next(), lines.next()) {
            let parsed: Value = serde_json::from_slice(action).ok()?;
            let id = parsed["index"]["_id"].as_str()?.to_owned();
            items.push(BulkItem {
                id,
                lines: [action, source].concat(),
            });
        }
        Some(Self { items })
    }

    fn refused(&self, status: StatusCode, error_type: &str, reason: &str) -> Answer {
        let items: Vec<Value> = self
            .items
            .iter()
            .map(|item| item.refused(status, error_type, reason))
            .collect();
        let body = json!({ "took": 1, "errors": true, "items": items });
        Answer::Whole(json_response(StatusCode::OK, &body))
    }
}

impl BulkItem {
    fn refused(&self, status: StatusCode, error_type: &str, reason: &str) -> Value {
        json!({ "index": {
            "_index": "x", "_id": self.id, "status": status.as_u16(),
            "error": { "type": error_type, "reason": reason },
        } })
    }
}

fn refusal(status: StatusCode, error_type: &str) -> Answer {
    let cause = json!({ "type": error_type, "reason": "rejected execution" });
    let body = json!({
        "error": { "root_cause": [cause], "type": error_type, "reason": "rejected execution" },
        "status": status.as_u16(),
    });
    Answer::Whole(json_response(status, &body))
}

fn json_response(status: StatusCode, body: &Value) -> Response<Bytes> {
    let mut response = plain(status, &body.to_string());
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json; charset=UTF-8"),
    );
    response
}

fn plain(status: StatusCode, body: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::copy_from_slice(body.as_bytes()));
    *response.status_mut() = status;
    response
}
