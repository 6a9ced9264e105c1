//! AIRec 2020-11-26's tables: `POST /v2/openapi/instances/{id}/tables/{user|item|behavior}/actions/bulk`.
//!
//! The body is a JSON array of `{"cmd":"add|update|delete","fields":{…}}`, plain or gzip.
//!
//! | table | becomes |
//! |---|---|
//! | `behavior` | events on `behavior`, as its dialect says ([`crate::behavior`]); only `add` |
//! | `item` | a document of one passage on `documents`, and with it a signal; `delete` removes it |
//! | `user` | a record on `users`, keyed by `user_id`, or by `imei` where that is empty |
//!
//! `update` replaces a row as `add` does: nothing here keeps the old one to merge with, so an item's
//! update without its text is rejected. AIRec identifies an item by id and type; here the id alone does.
//!
//! The answer is `{"code","message","requestId","result"}`. `result` is true only after the brokers have
//! acknowledged every row, each on its topic or, where it could not be understood, in its dead-letter
//! topic; `errors` then says which and why. Behavior has no key in AIRec, so that a request repeated
//! after a time-out counts twice there; here an event without an `event_id` gets a hash of its content,
//! and the same rows sent again count once.
//!
//! | status | `code` | when |
//! |---|---|---|
//! | 200 | `SUCCESS` | every row is taken |
//! | 200 | `PARTIAL_SUCCESS` | some rows were rejected |
//! | 400 | `InvalidParameter` | no row could be used, or the body is no array of rows |
//! | 401 | `Unauthorized` | the token is missing or wrong |
//! | 404 | `NotFound` | no such instance or table |
//! | 413 | `RequestTooLarge` | more than [`MAX_ROWS`] rows or [`MAX_BODY_BYTES`] |
//! | 429 | `Throttling` | as much is in hand as may be; `Retry-After` |
//! | 503 | `ServiceUnavailable` | the brokers did not acknowledge; `Retry-After` |
//!
//! Statuses and limits are AIRec's where it documents them, codes are ours. Requests are not signed:
//! behavior needs the token of `POST /v1/events`, items and users that of `POST /v1/notices`.

pub mod answer;
mod error;
mod item;
pub mod item_uri;
mod row;
mod stats;
mod user;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::post;
use futures::stream::{self, StreamExt};
use millrace_kafka::topics;
use millrace_objects::Secret;
use millrace_schemas::TraceParent;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use self::answer::{Envelope, Failure};
use self::row::{Row, Rows};
use self::stats::TableCounters;
pub use self::stats::TableStats;
use crate::behavior::BehaviorConfigError;
use crate::behavior::collector::{self, Collector, off_thread};
use crate::http::EntryProblem;
use crate::http::request::{Refusal, acknowledged_within, authorise, traceparent, unavailable};
use crate::publish::{InFlight, acknowledged};

/// The most rows of one request.
pub const MAX_ROWS: usize = 800;
/// The largest body, plain or unpacked.
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// How AIRec's interfaces behave.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AirecConfig {
    /// The one instance that is served; another is answered with 404. Default none: any id is
    /// served, and is part of its items' URIs.
    pub instance: Option<String>,
}

impl AirecConfig {
    /// Checks the instance's id.
    ///
    /// # Errors
    /// It can't be one.
    pub fn validate(&self) -> Result<(), BehaviorConfigError> {
        match &self.instance {
            Some(instance) if !item_uri::is_instance(instance) => {
                Err(BehaviorConfigError::Instance {
                    instance: instance.clone(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Whether this instance is served.
    #[must_use]
    pub fn serves(&self, instance: &str) -> bool {
        match &self.instance {
            Some(served) => served == instance,
            None => item_uri::is_instance(instance),
        }
    }
}

/// A table of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    User,
    Item,
    Behavior,
}

impl Table {
    pub const ALL: [Self; 3] = [Self::User, Self::Item, Self::Behavior];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Item => "item",
            Self::Behavior => "behavior",
        }
    }

    /// Where rejected rows come from.
    fn origin(self) -> &'static str {
        match self {
            Self::User => "POST /v2/openapi/instances/{id}/tables/user/actions/bulk",
            Self::Item => "POST /v2/openapi/instances/{id}/tables/item/actions/bulk",
            Self::Behavior => "POST /v2/openapi/instances/{id}/tables/behavior/actions/bulk",
        }
    }

    /// Where they go.
    fn dead_letters(self) -> &'static str {
        match self {
            Self::User => topics::USERS_DLQ,
            Self::Item => topics::DOCUMENTS_DLQ,
            Self::Behavior => topics::BEHAVIOR_DLQ,
        }
    }
}

/// The tables' endpoint. Cheap to clone.
#[derive(Clone)]
pub struct Tables {
    inner: Arc<Inner>,
}

struct Inner {
    /// Room, publisher and reader are shared with it.
    collector: Collector,
    token: Option<Secret>,
    config: AirecConfig,
    counters: TableCounters,
}

impl Tables {
    /// An endpoint beside `collector`, whose room, publisher and reader it uses, and whose token it
    /// asks for behavior. Whoever sends items and users must show `token`, where there is one.
    #[must_use]
    pub fn new(collector: Collector, token: Option<Secret>, config: AirecConfig) -> Self {
        Self {
            inner: Arc::new(Inner {
                collector,
                token,
                config,
                counters: TableCounters::default(),
            }),
        }
    }

    /// Its route.
    pub fn routes(&self) -> Router {
        Router::new()
            .route(
                "/v2/openapi/instances/{instance}/tables/{table}/actions/bulk",
                post(bulk),
            )
            .with_state(self.clone())
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> TableStats {
        self.inner.counters.snapshot()
    }
}

async fn bulk(
    State(tables): State<Tables>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let request_id = answer::request_id();
    match tables.take(path, &headers, body).await {
        Ok(taken) => taken.envelope(request_id).into_response(),
        Err(failure) => failure.into_response(request_id),
    }
}

/// What became of a request's rows.
struct Taken {
    table: Table,
    accepted: usize,
    rejected: usize,
    errors: Vec<EntryProblem>,
}

impl Taken {
    fn envelope(self, request_id: String) -> Envelope<bool> {
        let Self {
            table,
            accepted,
            rejected,
            errors,
        } = self;
        if rejected == 0 {
            return Envelope::success(request_id, true);
        }
        let first = errors.first().map_or(String::new(), |first| {
            format!("; the first, row {}: {}", first.index, first.message)
        });
        let message = format!(
            "{rejected} of {} rows were rejected and are kept in {}{first}",
            accepted + rejected,
            table.dead_letters()
        );
        if accepted == 0 {
            return Envelope::invalid(request_id, message, errors);
        }
        Envelope::partial(request_id, message, errors)
    }
}

impl Tables {
    async fn take(
        &self,
        path: Result<Path<(String, String)>, PathRejection>,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Taken, Failure> {
        let Inner {
            collector, token, ..
        } = &*self.inner;
        let Path((instance, table)) = path.map_err(|error| Failure::invalid(error.body_text()))?;
        if !self.inner.config.serves(&instance) {
            let known = match &self.inner.config.instance {
                Some(served) => format!("; this is `{served}` (airec.instance)"),
                None => ": an id is 1 to 64 letters, digits, `-`, `_` and `.`".to_owned(),
            };
            return Err(Failure::not_found(format!("no such instance{known}")));
        }
        let known = Table::ALL.into_iter().find(|known| known.as_str() == table);
        let table = known.ok_or_else(|| {
            Failure::not_found("no such table; there are user, item and behavior".to_owned())
        })?;
        let needed = match table {
            Table::Behavior => collector.token(),
            Table::User | Table::Item => token.as_ref(),
        };
        authorise(needed, headers)?;
        let limits = (MAX_BODY_BYTES, MAX_BODY_BYTES);
        let body = collector.receive(headers, body, limits).await?;
        let reader = collector.reader().of_instance(&instance);
        let trace = traceparent(headers);
        let bytes = body.bytes.clone();
        let taken = match table {
            Table::Behavior => {
                let read = move || {
                    let now_ms = crate::now_ms();
                    let mut request = collector::Request::of(table.origin());
                    for (index, row) in split(&bytes)?.into_iter().enumerate() {
                        request.read(&reader, index, row.get().as_bytes(), now_ms);
                    }
                    Ok(request)
                };
                let request = off_thread(read).await?;
                let answer = collector.publish(request, trace).await?;
                Taken {
                    table,
                    accepted: answer.accepted,
                    rejected: answer.rejected,
                    errors: answer.errors,
                }
            }
            Table::User | Table::Item => {
                let read = move || Ok(Rows::read(table, reader.items(), &split(&bytes)?));
                let rows = off_thread(read).await?;
                self.publish(table, rows, trace).await?
            }
        };
        self.inner
            .counters
            .count(taken.table, taken.accepted, taken.rejected);
        Ok(taken)
    }

    async fn publish(
        &self,
        table: Table,
        rows: Rows,
        trace: Option<TraceParent>,
    ) -> Result<Taken, Refusal> {
        let publisher = self.inner.collector.publisher();
        let enqueued = stream::iter(rows.rows).then(|row| async move {
            let sent: InFlight<'_> = match row {
                Row::Item(notice) => publisher.enqueue(&notice, trace).await?,
                Row::User(user) => publisher.enqueue_user(&user, trace).await?,
                Row::Rejected(rejection) => publisher.enqueue_rejection(&rejection).await?,
            };
            Ok((sent, ()))
        });
        let published = async {
            let mut published = std::pin::pin!(acknowledged(enqueued));
            while let Some(row) = published.next().await {
                row.map_err(|error| unavailable(&error))?;
            }
            Ok(())
        };
        acknowledged_within(self.inner.collector.acknowledgement_timeout(), published).await?;
        Ok(Taken {
            table,
            accepted: rows.accepted,
            rejected: rows.rejected,
            errors: rows.errors,
        })
    }
}

/// Why a body has no rows: broken JSON, or JSON of another shape.
fn unreadable(body: &[u8], error: &serde_json::Error) -> String {
    // The shape is complained of at the first byte, before what follows is read.
    match serde_json::from_slice::<IgnoredAny>(body) {
        Err(broken) => format!("the body is broken JSON: {broken}"),
        Ok(_) => {
            format!("the body is JSON, and no array of {{\"cmd\":…,\"fields\":{{…}}}}: {error}")
        }
    }
}

/// The rows of a body.
fn split(body: &[u8]) -> Result<Vec<&RawValue>, Refusal> {
    let rows: Vec<&RawValue> = serde_json::from_slice(body).map_err(|error| Refusal::Body {
        error_type: "malformed_json",
        message: unreadable(body, &error),
    })?;
    if rows.len() > MAX_ROWS {
        return Err(Refusal::TooMany {
            message: format!(
                "the body has {} rows; at most {MAX_ROWS} are taken at a time",
                rows.len()
            ),
        });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_json_is_told_from_json_of_another_shape() {
        for (body, complaint) in [
            (
                "{bad",
                "is broken JSON: key must be a string at line 1 column 2",
            ),
            (
                "[{}\n,",
                "is broken JSON: EOF while parsing a value at line 2 column 1",
            ),
            ("{\"cmd\":\"add\"}", "is JSON, and no array of"),
        ] {
            let Err(Refusal::Body {
                error_type,
                message,
            }) = split(body.as_bytes())
            else {
                panic!("{body} has no rows");
            };
            assert_eq!(error_type, "malformed_json");
            assert!(message.contains(complaint), "{message}");
        }
    }
}
