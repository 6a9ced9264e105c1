//! `POST /v1/notices`: upload notices over HTTP.
//!
//! The answer is 200 only after the brokers have acknowledged every entry, each in `documents` or
//! in its dead-letter topic, so a sender that repeats until it reads 200 loses nothing.
//!
//! | status | when | the sender should |
//! |---|---|---|
//! | 200 | all entries are published, counted in the body | forget the notice |
//! | 400 | a body of no known shape (dead-lettered), broken gzip | correct it; repeating does not help |
//! | 401 | the bearer token is missing or wrong | correct it |
//! | 413 | more than the limit, before or after decompression | send less at a time |
//! | 415 | a content encoding other than gzip | send it plain |
//! | 503 | the brokers did not acknowledge; `Retry-After` | repeat the same |

pub(crate) mod request;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Json;
use axum::routing::post;
use futures::stream::{self, StreamExt, TryStreamExt};
use millrace_objects::{ObjectStores, ObjectUri, ReadError, Secret};
use millrace_retry::error_chain;
use millrace_schemas::TraceParent;
use serde::{Deserialize, Serialize};

use self::request::{Refusal, acknowledged_within, authorise, traceparent, unavailable};
use crate::body;
use crate::notices::{Entry, recognise};
use crate::publish::{Publisher, acknowledged};
use crate::rejection::Rejection;

/// Errors told in one answer; the counts cover all.
const MAX_ERRORS: usize = 20;

/// How the endpoint behaves.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NoticesConfig {
    /// Senders must show this as `Authorization: Bearer …`; default none, and anyone may send.
    pub bearer_token: Option<Secret>,
    /// The largest body, plain or decompressed, in bytes; default 4 MiB.
    pub max_body_bytes: usize,
    /// How long the brokers may take before 503, in milliseconds; default 10,000.
    pub acknowledgement_timeout_ms: u64,
}

impl Default for NoticesConfig {
    fn default() -> Self {
        Self {
            bearer_token: None,
            max_body_bytes: 4 << 20,
            acknowledgement_timeout_ms: 10_000,
        }
    }
}

/// What became of a request's entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticesAnswer {
    /// Published to `documents`.
    pub accepted: usize,
    /// Of a kind that changes no content.
    pub ignored: usize,
    /// Dead-lettered: not understood.
    pub malformed: usize,
    /// Dead-lettered: of an object outside the allow-list.
    pub not_allowed: usize,
    /// Why, for the first of the dead-lettered.
    pub errors: Vec<EntryProblem>,
}

/// Why an entry was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryProblem {
    /// Its place in the request, from 0.
    pub index: usize,
    /// A stable name; `not_allowed` for an object outside the allow-list.
    pub error_type: String,
    /// For people.
    pub message: String,
}

/// Entries of all requests since the start, by what became of them. A request that was not
/// acknowledged is not counted: its sender repeats it.
#[derive(Debug, Default)]
pub struct NoticeCounts {
    accepted: AtomicU64,
    ignored: AtomicU64,
    malformed: AtomicU64,
    not_allowed: AtomicU64,
}

impl NoticeCounts {
    /// Each count under its name in [`NoticesAnswer`].
    pub fn snapshot(&self) -> [(&'static str, u64); 4] {
        [
            ("accepted", self.accepted.load(Relaxed)),
            ("ignored", self.ignored.load(Relaxed)),
            ("malformed", self.malformed.load(Relaxed)),
            ("not_allowed", self.not_allowed.load(Relaxed)),
        ]
    }

    fn add(&self, answer: &NoticesAnswer) {
        self.accepted.fetch_add(answer.accepted as u64, Relaxed);
        self.ignored.fetch_add(answer.ignored as u64, Relaxed);
        self.malformed.fetch_add(answer.malformed as u64, Relaxed);
        self.not_allowed
            .fetch_add(answer.not_allowed as u64, Relaxed);
    }
}

struct Endpoint {
    publisher: Publisher,
    stores: ObjectStores,
    config: NoticesConfig,
    counts: Arc<NoticeCounts>,
}

/// The routes of the endpoint. Of the stores it uses the allow-list only: a notice of what may not
/// be read is refused here, before it costs anyone a fetch.
pub fn router(
    publisher: Publisher,
    stores: ObjectStores,
    config: NoticesConfig,
    counts: Arc<NoticeCounts>,
) -> Router {
    let endpoint = Arc::new(Endpoint {
        publisher,
        stores,
        config,
        counts,
    });
    Router::new()
        .route("/v1/notices", post(notices))
        .with_state(endpoint)
}

async fn notices(
    State(endpoint): State<Arc<Endpoint>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<NoticesAnswer>, Refusal> {
    authorise(endpoint.config.bearer_token.as_ref(), &headers)?;
    let body = body::read(&headers, body, endpoint.config.max_body_bytes)
        .await
        .map_err(Refusal::Unread)?;
    let trace = traceparent(&headers);
    let timeout = Duration::from_millis(endpoint.config.acknowledgement_timeout_ms);
    let answer = acknowledged_within(timeout, endpoint.take_in(&body, trace)).await?;
    Ok(Json(answer))
}

/// What is to be done with one entry.
enum Step {
    Publish(Box<millrace_schemas::DocumentNotice>),
    DeadLetter(Rejection),
}

impl Endpoint {
    async fn take_in(
        &self,
        body: &[u8],
        trace: Option<TraceParent>,
    ) -> Result<NoticesAnswer, Refusal> {
        let recognised = match recognise(body) {
            Ok(recognised) => recognised,
            Err(error) => {
                let message = error_chain(&error);
                let rejection =
                    Rejection::of_posted("unknown_notice", message.clone(), body.to_vec());
                self.publisher
                    .reject(&rejection)
                    .await
                    .map_err(|error| unavailable(&error))?;
                return Err(Refusal::Body {
                    error_type: "unknown_notice",
                    message,
                });
            }
        };
        let mut answer = NoticesAnswer::default();
        let mut steps = vec![];
        for (index, entry) in recognised.entries.into_iter().enumerate() {
            let rejection = match entry {
                Entry::Ignored { .. } => {
                    answer.ignored += 1;
                    continue;
                }
                Entry::Notice(notice) => match self.permits(&notice.uri) {
                    Ok(()) => {
                        answer.accepted += 1;
                        steps.push(Step::Publish(notice));
                        continue;
                    }
                    Err(reason) => {
                        answer.not_allowed += 1;
                        let raw = serde_json::to_vec(&notice).unwrap_or_default();
                        Rejection::of_posted("not_allowed", reason, raw)
                    }
                },
                Entry::Malformed(entry) => {
                    answer.malformed += 1;
                    Rejection::of_entry(entry)
                }
            };
            if answer.errors.len() < MAX_ERRORS {
                let error_type = rejection.error_type.to_owned();
                answer.errors.push(EntryProblem {
                    index,
                    error_type,
                    message: rejection.message.clone(),
                });
            }
            steps.push(Step::DeadLetter(rejection));
        }
        let enqueued = stream::iter(steps).then(|step| async move {
            let sent = match step {
                Step::Publish(notice) => self.publisher.enqueue(&notice, trace).await?,
                Step::DeadLetter(rejection) => self.publisher.enqueue_rejection(&rejection).await?,
            };
            Ok((sent, ()))
        });
        acknowledged(enqueued)
            .try_for_each(|_| async { Ok(()) })
            .await
            .map_err(|error| unavailable(&error))?;
        self.counts.add(&answer);
        Ok(answer)
    }

    fn permits(&self, uri: &str) -> Result<(), String> {
        let uri = ObjectUri::parse(uri).map_err(|error| error.to_string())?;
        self.stores
            .allow_list()
            .permits(&uri)
            .map_err(|error| match error {
                ReadError::NotAllowed { reason } => reason,
                other => other.to_string(),
            })
    }
}
