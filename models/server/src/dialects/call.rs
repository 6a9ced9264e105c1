//! A request's body, read within its limits and its time, by whoever may ask.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use subtle::ConstantTimeEq;
use tokio::sync::OwnedSemaphorePermit;

use super::{Dialect, TIMEOUT, answered};
use crate::error::ServeError;
use crate::service::{Deadline, Service};

/// A request for vectors or tokens.
pub(crate) struct Call<D> {
    pub body: Bytes,
    pub headers: HeaderMap,
    pub deadline: Deadline,
    _in_hand: OwnedSemaphorePermit,
    dialect: PhantomData<D>,
}

impl<D> Call<D> {
    /// The body as JSON, whatever its media type says.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ServeError> {
        serde_json::from_slice(&self.body).map_err(|error| ServeError::Malformed {
            message: format!("the body is not what this route reads: {error}"),
        })
    }
}

impl<D: Dialect> FromRequest<Arc<Service>> for Call<D> {
    type Rejection = Response;

    async fn from_request(request: Request, service: &Arc<Service>) -> Result<Self, Response> {
        let read = read(request, service).await;
        read.map_err(|error| answered::<D>(service, Err(error)))
    }
}

async fn read<D>(request: Request, service: &Arc<Service>) -> Result<Call<D>, ServeError> {
    let started = Instant::now();
    let headers = request.headers().clone();
    allow(&headers, service.config.api_key.as_deref(), false)?;
    service.ready()?;
    let timeout = timeout(&headers, Duration::from_millis(service.config.timeout_ms))?;
    let deadline = Deadline { started, timeout };
    if timeout.is_zero() {
        return Err(deadline.late());
    }
    service.admission.has_room(deadline.at())?;
    let limit = service.config.max_body_bytes;
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    // A body of unknown length may have all that is allowed.
    let length: usize = length.unwrap_or(limit);
    if length > limit {
        return Err(ServeError::BodyTooLarge { limit });
    }
    let bytes = u32::try_from(length).unwrap_or(u32::MAX);
    let in_hand = Arc::clone(&service.bodies)
        .try_acquire_many_owned(bytes)
        .map_err(|_| ServeError::Overloaded {
            retry_after: Duration::from_secs(1),
        })?;
    let reading = Bytes::from_request(request, service);
    let body = tokio::time::timeout_at(deadline.at().into(), reading)
        .await
        .map_err(|_| deadline.late())?
        .map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ServeError::BodyTooLarge { limit },
            _ => ServeError::BodyUnread {
                reason: rejection.body_text(),
            },
        })?;
    Ok(Call {
        body,
        headers,
        deadline,
        _in_hand: in_hand,
        dialect: PhantomData,
    })
}

fn timeout(headers: &HeaderMap, most: Duration) -> Result<Duration, ServeError> {
    let Some(value) = headers.get(TIMEOUT) else {
        return Ok(most);
    };
    let asked = value.to_str().ok().and_then(|text| text.parse().ok());
    let asked = asked.ok_or_else(|| ServeError::Malformed {
        message: format!("the header {TIMEOUT} is not a number of milliseconds"),
    })?;
    Ok(Duration::from_millis(asked).min(most))
}

/// Somebody who may change what serves.
pub(crate) struct Administrator<D>(PhantomData<D>);

impl<D: Dialect> FromRequestParts<Arc<Service>> for Administrator<D> {
    type Rejection = Response;

    async fn from_request_parts(
        parts: &mut Parts,
        service: &Arc<Service>,
    ) -> Result<Self, Response> {
        let config = &service.config;
        let closed = !config.listen.ip().is_loopback();
        match allow(&parts.headers, config.admin_token.as_deref(), closed) {
            Ok(()) => Ok(Self(PhantomData)),
            Err(error) => Err(answered::<D>(service, Err(error))),
        }
    }
}

/// Compares the bearer token; where none is configured, all or nobody may, as `closed` says.
pub(crate) fn allow(
    headers: &HeaderMap,
    token: Option<&str>,
    closed: bool,
) -> Result<(), ServeError> {
    let allowed = match token {
        None => !closed,
        Some(token) => {
            let shown = headers
                .get(header::AUTHORIZATION)
                .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
                .unwrap_or_default();
            bool::from(shown.as_bytes().ct_eq(token.as_bytes()))
        }
    };
    if allowed {
        Ok(())
    } else {
        Err(ServeError::Unauthorised)
    }
}
