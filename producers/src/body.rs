//! A request's body, bounded before and after decompression.

use std::io::Read;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_ENCODING;
use bytes::BytesMut;
use futures::StreamExt;

/// How much of a body beyond the limit is read and dropped, and for how long. A connection that is
/// closed while its sender still writes shows that sender a broken pipe instead of the answer.
const LINGER_BYTES: u64 = 64 << 20;
const LINGER: Duration = Duration::from_secs(5);

/// Why a body was not taken.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is larger than allowed, as it came or decompressed.
    #[error("the body is larger than {limit_bytes} bytes")]
    TooLarge {
        /// What is allowed.
        limit_bytes: usize,
    },
    /// Its encoding is not understood.
    #[error("content encoding `{0}` is not known; send it plain or as gzip")]
    UnknownEncoding(String),
    /// It is no gzip although it says so.
    #[error("the body is not gzip")]
    InvalidGzip(#[source] std::io::Error),
    /// The connection ended before it did.
    #[error("the body could not be read")]
    Unreadable(#[source] axum::Error),
}

/// Reads all of `body`, plain or gzip by its `Content-Encoding`, of at most `limit_bytes` before
/// and after decompression.
///
/// # Errors
/// See [`BodyError`]. Of a body that is too large the rest is read and dropped within bounds, so
/// that its sender comes to read the answer.
pub async fn read(headers: &HeaderMap, body: Body, limit_bytes: usize) -> Result<Bytes, BodyError> {
    let encoding = Encoding::of(headers)?;
    let bytes = receive(body, limit_bytes).await?;
    encoding.decode(bytes, limit_bytes)
}

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
}

impl Encoding {
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, BodyError> {
        let named = headers
            .get(CONTENT_ENCODING)
            .map_or(&b""[..], |value| value.as_bytes());
        match named.to_ascii_lowercase().as_slice() {
            b"" | b"identity" => Ok(Self::Identity),
            b"gzip" | b"x-gzip" => Ok(Self::Gzip),
            _ => Err(BodyError::UnknownEncoding(
                String::from_utf8_lossy(named).into_owned(),
            )),
        }
    }

    /// The body as it was before it was encoded, of at most `limit_bytes`.
    pub(crate) fn decode(self, bytes: Bytes, limit_bytes: usize) -> Result<Bytes, BodyError> {
        match self {
            Self::Identity if bytes.len() > limit_bytes => Err(BodyError::TooLarge { limit_bytes }),
            Self::Identity => Ok(bytes),
            Self::Gzip => gunzip(&bytes, limit_bytes),
        }
    }
}

/// Reads all of `body` as it comes, of at most `limit_bytes`.
pub(crate) async fn receive(body: Body, limit_bytes: usize) -> Result<Bytes, BodyError> {
    let announced = body.size_hint().lower();
    let mut chunks = body.into_data_stream();
    let mut bytes = BytesMut::new();
    if announced <= limit_bytes as u64 {
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(BodyError::Unreadable)?;
            if bytes.len() + chunk.len() > limit_bytes {
                drop(bytes);
                linger(chunks).await;
                return Err(BodyError::TooLarge { limit_bytes });
            }
            bytes.extend_from_slice(&chunk);
        }
        return Ok(bytes.freeze());
    }
    if announced <= LINGER_BYTES {
        linger(chunks).await;
    }
    Err(BodyError::TooLarge { limit_bytes })
}

/// Reads and drops a body that is not wanted, within bounds, so that its sender comes to read why.
pub(crate) async fn discard(body: Body) {
    linger(body.into_data_stream()).await;
}

/// Reads on and drops what comes.
async fn linger(mut chunks: axum::body::BodyDataStream) {
    let mut dropped_bytes = 0;
    let reading = async {
        while let Some(Ok(chunk)) = chunks.next().await {
            dropped_bytes += chunk.len() as u64;
            if dropped_bytes > LINGER_BYTES {
                break;
            }
        }
    };
    // Over time or not, the answer is the same.
    let _ = tokio::time::timeout(LINGER, reading).await;
}

/// The plain bytes, never more than `limit_bytes` of them.
pub(crate) fn gunzip(bytes: &[u8], limit_bytes: usize) -> Result<Bytes, BodyError> {
    let mut plain = Vec::new();
    // One byte more than allowed tells that there is more.
    flate2::read::MultiGzDecoder::new(bytes)
        .take(limit_bytes as u64 + 1)
        .read_to_end(&mut plain)
        .map_err(BodyError::InvalidGzip)?;
    if plain.len() > limit_bytes {
        return Err(BodyError::TooLarge { limit_bytes });
    }
    Ok(plain.into())
}
