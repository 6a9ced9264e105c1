//! The encoder's third backend: a model server.
//!
//! Tokens are cut here and vectors computed there, so that a chunk is the same wherever it is
//! encoded. Requests go round the configured addresses over kept connections; what another attempt
//! may mend (no connection, 429, 5xx, a time-out, a model that is not registered yet) is tried again
//! at the next address, and then told as [`ModelError::Unavailable`], for whoever can wait. Vectors
//! of another model or length never leave this module.

mod config;
mod dialect;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use millrace_retry::{FullJitter, error_chain};
use reqwest::{StatusCode, header};
use tokio::runtime::Handle;

pub use config::{RemoteConfig, RemoteDialect};

use crate::error::ModelError;
use crate::fingerprint::ModelFingerprint;

/// What our own server signs its answers with.
const FINGERPRINT: &str = "millrace-model-fingerprint";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// First bound of the delay between attempts, and the last.
const DELAYS: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];
/// One request in so many may have a second one beside it.
const HEDGED: u64 = 10;
/// Of a server's words, what an error repeats.
const MAX_MESSAGE_BYTES: usize = 300;

/// A model server that computes a known model.
pub(crate) struct Remote {
    config: RemoteConfig,
    model: String,
    client: reqwest::Client,
    runtime: Handle,
    dimension: usize,
    fingerprint: ModelFingerprint,
    next_url: AtomicUsize,
    requests: AtomicU64,
    hedges: AtomicU64,
}

/// Vectors, and whether the server said by which model.
pub(crate) struct Answer {
    pub vectors: Vec<Vec<f32>>,
    pub signed: bool,
}

/// Why an attempt gave no vectors.
enum Failure {
    /// Another attempt may succeed; perhaps not before this has passed.
    Away {
        reason: String,
        retry_after: Option<Duration>,
    },
    Final(ModelError),
}

impl Remote {
    pub fn new(
        config: RemoteConfig,
        local_name: &str,
        dimension: usize,
        fingerprint: ModelFingerprint,
        runtime: Handle,
    ) -> Result<Self, ModelError> {
        let at_least_one = |option, found: usize| match found {
            0 => Err(ModelError::Option {
                option,
                found,
                rule: "it must be at least 1".to_owned(),
            }),
            _ => Ok(()),
        };
        at_least_one("remote.urls", config.urls.len())?;
        at_least_one("remote.attempts", config.attempts as usize)?;
        at_least_one("remote.request_tokens", config.request_tokens)?;
        let timeout = Duration::from_millis(config.timeout_ms.max(1));
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .timeout(timeout)
            .user_agent(concat!("millrace/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|source| ModelError::Unavailable {
                server: config.urls.join(", "),
                reason: error_chain(&source),
            })?;
        Ok(Self {
            model: config
                .model
                .clone()
                .unwrap_or_else(|| local_name.to_owned()),
            config,
            client,
            runtime,
            dimension,
            fingerprint,
            next_url: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            hedges: AtomicU64::new(0),
        })
    }

    /// Vectors of norm 1 for texts by their own token ids, one each. Blocks; not for async code.
    pub fn embed(&self, texts: &[&[u32]]) -> Result<Answer, ModelError> {
        self.runtime.block_on(self.in_requests(texts))
    }

    async fn in_requests(&self, texts: &[&[u32]]) -> Result<Answer, ModelError> {
        let mut answer = Answer {
            vectors: Vec::with_capacity(texts.len()),
            signed: true,
        };
        let mut rest = texts;
        while !rest.is_empty() {
            let mut tokens = 0;
            let fits = rest.iter().take_while(|ids| {
                tokens += ids.len();
                tokens <= self.config.request_tokens
            });
            let (now, later) = rest.split_at(fits.count().max(1));
            let part = self.with_attempts(now).await?;
            answer.vectors.extend(part.vectors);
            answer.signed &= part.signed;
            rest = later;
        }
        Ok(answer)
    }

    async fn with_attempts(&self, texts: &[&[u32]]) -> Result<Answer, ModelError> {
        let body = self.config.dialect.body(&self.model, texts);
        let mut delays = FullJitter::new(DELAYS[0], DELAYS[1]);
        let mut attempt = 1;
        loop {
            let (reason, retry_after) = match self.hedged(&body, texts.len()).await {
                Ok(answer) => return Ok(answer),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Away {
                    reason,
                    retry_after,
                }) => (reason, retry_after),
            };
            if attempt == self.config.attempts {
                return Err(ModelError::Unavailable {
                    server: self.config.urls.join(", "),
                    reason,
                });
            }
            attempt += 1;
            let delay = delays.next_delay();
            let delay = retry_after.map_or(delay, |least| delay + least.min(DELAYS[1]));
            tokio::time::sleep(delay).await;
        }
    }

    /// One request, and a second one beside it where the first takes long.
    async fn hedged(&self, body: &[u8], count: usize) -> Result<Answer, Failure> {
        self.requests.fetch_add(1, Relaxed);
        let mut first = std::pin::pin!(self.attempt(self.turn(), body, count));
        let Some(after) = self.config.hedge_after_ms else {
            return first.await;
        };
        tokio::select! {
            done = &mut first => return done,
            () = tokio::time::sleep(Duration::from_millis(after)) => {}
        }
        // A server that is slow because it is overloaded must not have twice the load.
        if self.hedges.load(Relaxed) * HEDGED > self.requests.load(Relaxed) {
            return first.await;
        }
        self.hedges.fetch_add(1, Relaxed);
        let mut second = std::pin::pin!(self.attempt(self.turn(), body, count));
        tokio::select! {
            done = &mut first => if done.is_ok() { done } else { second.await },
            done = &mut second => if done.is_ok() { done } else { first.await },
        }
    }

    fn turn(&self) -> &str {
        let turn = self.next_url.fetch_add(1, Relaxed);
        &self.config.urls[turn % self.config.urls.len()]
    }

    async fn attempt(&self, url: &str, body: &[u8], count: usize) -> Result<Answer, Failure> {
        let away = |reason| Failure::Away {
            reason,
            retry_after: None,
        };
        let path = self.config.dialect.path(&self.model);
        let url = format!("{}{path}", url.trim_end_matches('/'));
        let mut request = self
            .client
            .post(&url)
            .header(header::CONTENT_TYPE, "application/json")
            // What is not answered by then is not worth computing there.
            .header("x-request-timeout-ms", self.config.timeout_ms)
            .body(body.to_vec());
        if let Some(token) = &self.config.token {
            request = request.bearer_auth(token);
        }
        let response = request
            .send()
            .await
            .map_err(|error| away(error_chain(&error)))?;
        let status = response.status();
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let (signature, retry_after) = (header(FINGERPRINT), header("retry-after"));
        let bytes = response
            .bytes()
            .await
            .map_err(|error| away(error_chain(&error)))?;
        if !status.is_success() {
            let message = shortened(&String::from_utf8_lossy(&bytes));
            if is_final(status) {
                return Err(Failure::Final(ModelError::RemoteRefused {
                    server: url,
                    status: status.as_u16(),
                    message,
                }));
            }
            let seconds = retry_after.and_then(|seconds| seconds.parse().ok());
            return Err(Failure::Away {
                reason: format!("{url} answered {status}: {message}"),
                retry_after: seconds.map(Duration::from_secs),
            });
        }
        let other_model = |found: String| {
            Failure::Final(ModelError::RemoteMismatch {
                server: url.clone(),
                found,
                wanted: format!("{} dimensions of {}", self.dimension, self.fingerprint),
            })
        };
        if let Some(found) = &signature
            && found != self.fingerprint.as_str()
        {
            return Err(other_model(format!("model {found}")));
        }
        let vectors = self.config.dialect.vectors(&bytes);
        let vectors =
            vectors.map_err(|reason| away(format!("{url} answered no vectors: {reason}")))?;
        if vectors.len() != count {
            let found = vectors.len();
            return Err(away(format!(
                "{url} answered {found} vectors for {count} texts"
            )));
        }
        match vectors.iter().find(|vector| vector.len() != self.dimension) {
            Some(vector) => Err(other_model(format!("{} dimensions", vector.len()))),
            None => Ok(Answer {
                vectors,
                signed: signature.is_some(),
            }),
        }
    }
}

/// What no other attempt and no waiting mends: this request is wrong. Everything else may be a
/// server that is being deployed, a model that is registered in a moment, a token being changed.
fn is_final(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY
    )
}

fn shortened(message: &str) -> String {
    message[..message.floor_char_boundary(MAX_MESSAGE_BYTES)].to_owned()
}
