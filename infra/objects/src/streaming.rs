//! A bucket's object part by part, for what is too large to hold.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use opendal::BufferStream;

use crate::bucket::Bucket;
use crate::error::ReadError;
use crate::stores::ObjectMeta;

/// Interruptions in a row that are mended before they are told.
const MAX_INTERRUPTIONS: u32 = 5;
/// Before the first new attempt; doubled before each further one.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// One version of an object, from its beginning to its end. A connection that breaks is made anew
/// where it broke, on the condition that the object is still that version.
pub struct ObjectStream {
    bucket: Bucket,
    key: String,
    meta: ObjectMeta,
    /// None after an interruption.
    body: Option<BufferStream>,
    offset: u64,
    interruptions: u32,
}

impl ObjectStream {
    pub(crate) async fn open(bucket: &Bucket, key: &str) -> Result<Self, ReadError> {
        let (body, meta) = bucket.body(key, None, 0).await?;
        Ok(Self {
            bucket: bucket.clone(),
            key: key.to_owned(),
            meta,
            body: Some(body),
            offset: 0,
            interruptions: 0,
        })
    }

    /// What the store says of the object.
    pub fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    /// The next part; `None` at the end.
    ///
    /// # Errors
    /// [`ReadError::Changed`] where the object was replaced after an interruption,
    /// [`ReadError::Unavailable`] where the store stays away.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        loop {
            let error = match self.part().await {
                Ok(part) => {
                    self.interruptions = 0;
                    self.offset += part.as_ref().map_or(0, |part| part.len() as u64);
                    return Ok(part);
                }
                Err(error) => error,
            };
            self.body = None;
            let mendable =
                matches!(error, ReadError::Unavailable { .. }) && self.meta.etag.is_some();
            if !mendable || self.interruptions == MAX_INTERRUPTIONS {
                return Err(error);
            }
            tracing::debug!(key = self.key, offset = self.offset, %error, "going on after an interruption");
            tokio::time::sleep(FIRST_DELAY * 2_u32.pow(self.interruptions)).await;
            self.interruptions += 1;
        }
    }

    async fn part(&mut self) -> Result<Option<Bytes>, ReadError> {
        let body = match &mut self.body {
            Some(body) => body,
            None => {
                let etag = self.meta.etag.as_deref();
                let (body, _) = self.bucket.body(&self.key, etag, self.offset).await?;
                self.body.insert(body)
            }
        };
        Ok(body.try_next().await?.map(|part| part.to_bytes()))
    }
}
