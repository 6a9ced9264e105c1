//! The only module that speaks HTTP to the cluster.
//!
//! The `opensearch` crate brings the transport, and nothing around it: a pool of a single node,
//! no timeout, system proxies. Here: several nodes in turn, those that fail rest for a while, an
//! explicit timeout, no proxy, gzip bodies, and errors with the engine's types.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use flate2::{Compression, write::GzEncoder};
use opensearch::auth::Credentials;
use opensearch::cert::{Certificate, CertificateValidation};
use opensearch::http::headers::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use opensearch::http::transport::{SingleNodeConnectionPool, Transport, TransportBuilder};
use opensearch::http::{Method, Url};
use serde::Deserialize;
use serde_json::Value;
use tracing::warn;

use super::OpenSearchConfig;
use crate::{BoxError, IndexError};

/// How long a node that failed is passed over, while another one is there.
const COOL_DOWN: Duration = Duration::from_secs(10);
/// Bodies below this gain nothing from compression.
const COMPRESS_FROM_BYTES: usize = 1_024;

/// What the cluster answered, whatever the status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// The engine's error: its type is what decisions rest on.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct EngineError {
    #[serde(rename = "type")]
    pub(super) error_type: String,
    #[serde(default)]
    pub(super) reason: Option<String>,
    #[serde(default)]
    pub(super) caused_by: Option<Box<EngineError>>,
}

#[derive(Debug)]
struct Node {
    url: Url,
    transport: Transport,
    down_until: Mutex<Option<Instant>>,
}

/// A pool of nodes.
#[derive(Debug)]
pub(super) struct Client {
    nodes: Vec<Node>,
    next: AtomicUsize,
}

impl Client {
    pub(super) fn new(config: &OpenSearchConfig) -> Result<Self, IndexError> {
        let nodes = config
            .nodes
            .iter()
            .map(|node| Node::new(node, config))
            .collect::<Result<Vec<_>, _>>()?;
        if nodes.is_empty() {
            return Err(invalid(
                "no OpenSearch node is configured; give at least one address",
            ));
        }
        Ok(Self {
            nodes,
            next: AtomicUsize::new(0),
        })
    }

    /// Sends `body` as JSON where there is one.
    pub(super) async fn json(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, IndexError> {
        let body = body.map(|value| value.to_string().into_bytes());
        self.send(method, path, query, body, "application/json")
            .await
    }

    /// Sends to one node after the other until one answers. All requests of this adapter may be
    /// repeated: writes carry versions.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
        content_type: &'static str,
    ) -> Result<Answer, IndexError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        let body = match body {
            Some(body) if body.len() >= COMPRESS_FROM_BYTES => {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                Some(gzip(&body).map_err(|error| unavailable("compressing the request", error))?)
            }
            other => other,
        };
        let mut last = None;
        for node in self.in_turn() {
            match node.send(method, path, &headers, query, body.clone()).await {
                Ok(answer) => {
                    node.rest_until(None);
                    return Ok(answer);
                }
                Err(error) => {
                    warn!(node = %node.url, error = &error as &dyn std::error::Error,
                        "an OpenSearch node does not answer");
                    node.rest_until(Some(Instant::now() + COOL_DOWN));
                    // A request that took all its time may take as long elsewhere: tell instead.
                    let timed_out = error.is_timeout();
                    last = Some((node, error));
                    if timed_out {
                        break;
                    }
                }
            }
        }
        match last {
            Some((node, error)) => Err(unavailable(
                &format!("{} does not answer {path}", node.url),
                error,
            )),
            None => Err(invalid("no OpenSearch node is configured")),
        }
    }

    /// Rested nodes in turn; when all failed lately, all of them.
    fn in_turn(&self) -> impl Iterator<Item = &Node> {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let turn = move |i: usize| &self.nodes[start.wrapping_add(i) % self.nodes.len()];
        let now = Instant::now();
        let none_is_up = self.nodes.iter().all(|node| node.is_down(now));
        let indices = 0..self.nodes.len();
        indices
            .map(turn)
            .filter(move |node| none_is_up || !node.is_down(now))
    }
}

impl Node {
    fn new(address: &str, config: &OpenSearchConfig) -> Result<Self, IndexError> {
        let mut url = Url::parse(address)
            .map_err(|error| invalid(&format!("OpenSearch address {address:?}: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            let message = format!("OpenSearch address {address:?}; give http://… or https://…");
            return Err(invalid(&message));
        }
        if !url.path().ends_with('/') {
            // Otherwise joining a path would drop the last part of a prefix.
            url.set_path(&format!("{}/", url.path()));
        }
        let mut builder = TransportBuilder::new(SingleNodeConnectionPool::new(url.clone()))
            .timeout(Duration::from_millis(config.timeout_ms))
            .disable_proxy();
        if let Some(user) = &config.username {
            let password = config.password.clone().unwrap_or_default();
            builder = builder.auth(Credentials::Basic(user.clone(), password));
        }
        if let Some(path) = &config.ca_file {
            let failed = |source: BoxError| IndexError::Storage {
                path: path.clone(),
                what: "the certificate authority cannot be read".to_owned(),
                source,
            };
            let pem = std::fs::read(path).map_err(|error| failed(error.into()))?;
            let authority = Certificate::from_pem(&pem).map_err(|error| failed(error.into()))?;
            builder = builder.cert_validation(CertificateValidation::Full(authority));
        }
        let transport = builder
            .build()
            .map_err(|error| unavailable("the HTTP client cannot start", error))?;
        Ok(Self {
            url,
            transport,
            down_until: Mutex::new(None),
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &HeaderMap,
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Answer, opensearch::Error> {
        let query = (!query.is_empty()).then_some(query);
        let sent = self
            .transport
            .send(method, path, headers.clone(), query, body, None);
        let response = sent.await?;
        let status = response.status_code().as_u16();
        let body = response.bytes().await?.to_vec();
        Ok(Answer { status, body })
    }

    fn is_down(&self, now: Instant) -> bool {
        // A plain value: whatever panicked elsewhere, it is whole.
        let until = *self
            .down_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| until > now)
    }

    fn rest_until(&self, until: Option<Instant>) {
        *self
            .down_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = until;
    }
}

impl Answer {
    /// The body of a success.
    ///
    /// # Errors
    /// [`IndexError::Unavailable`] for what may pass later, else [`IndexError::Refused`].
    pub(super) fn success(self) -> Result<Value, IndexError> {
        if !(200..300).contains(&self.status) {
            return Err(self.into_error());
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| unavailable("the answer is not JSON", error))
    }

    /// The engine's error, where the body holds one.
    pub(super) fn engine_error(&self) -> Option<EngineError> {
        #[derive(Deserialize)]
        struct Body {
            error: EngineError,
        }
        serde_json::from_slice::<Body>(&self.body)
            .ok()
            .map(|body| body.error)
    }

    pub(super) fn into_error(self) -> IndexError {
        let (error_type, reason) = match self.engine_error() {
            Some(error) => (error.error_type, error.reason.unwrap_or_default()),
            None => ("http_status".to_owned(), self.text()),
        };
        if self.status == 429 || self.status >= 500 {
            let what = format!("{} {error_type}: {reason}", self.status);
            return IndexError::Unavailable { what, source: None };
        }
        IndexError::Refused {
            status: self.status,
            error_type,
            reason,
        }
    }

    /// The body's beginning, for messages.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body)
            .chars()
            .take(200)
            .collect()
    }
}

fn gzip(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

fn invalid(message: &str) -> IndexError {
    IndexError::InvalidRequest {
        message: message.to_owned(),
    }
}

fn unavailable(what: &str, source: impl Into<BoxError>) -> IndexError {
    IndexError::Unavailable {
        what: what.to_owned(),
        source: Some(source.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(nodes: &[&str]) -> Result<Client, IndexError> {
        Client::new(&OpenSearchConfig::new(nodes.iter().copied()))
    }

    #[test]
    fn nodes_take_turns_and_those_that_failed_rest() {
        let client = client(&["http://a:1", "http://b:1", "http://c:1"]).expect("valid");
        let hosts = || {
            let turn = client
                .in_turn()
                .map(|node| node.url.host_str().expect("host"));
            turn.collect::<String>()
        };
        assert_eq!([hosts(), hosts(), hosts()], ["abc", "bca", "cab"]);
        client.nodes[1].rest_until(Some(Instant::now() + COOL_DOWN));
        assert_eq!([hosts(), hosts(), hosts()], ["ac", "ca", "ca"]);
        for node in &client.nodes {
            node.rest_until(Some(Instant::now() + COOL_DOWN));
        }
        assert_eq!(hosts(), "abc", "when all failed, all are tried");
    }

    #[test]
    fn addresses_are_checked() {
        let refused = |nodes: &[&str]| client(nodes).expect_err("refused").to_string();
        assert!(refused(&[]).contains("at least one"));
        assert!(refused(&["search:9200"]).contains("http"));
        assert!(refused(&["not an address"]).contains("not an address"));
    }
}
