//! A notice to the object's present state.
//!
//! The object is the truth and the notice a hint: a version that is gone is replaced by what is
//! there now, an object that is not there is a removal, and a removal whose object is there is not
//! one. Content that came with the notice is taken as it is.

use bytes::Bytes;
use millrace_objects::{ObjectStores, ObjectUri, ReadError};
use millrace_schemas::{DocumentEvent, DocumentNotice};
use sha2::{Digest, Sha256};

use crate::document::Interrupted;
use crate::failure::{Refusal, Stage};
use millrace_retry::{FullJitter, Patience, error_chain};

const READ_ERROR: &str = "millrace_objects::ReadError";

/// How often an object that changes under the reader is read again.
const MAX_CHANGES: u32 = 10;

/// What there is at a URI.
#[derive(Debug)]
pub(crate) enum Fetched {
    Present(Content),
    Gone,
}

/// An object as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub bytes: Bytes,
    /// Tag of what was read; of inline content that came without one, a hash.
    pub etag: Option<String>,
    pub media_type: Option<String>,
    /// Whether it came with the notice, so that reading again gives the same.
    pub inline: bool,
}

/// Reads what `notice` is about. `fresh` ignores its eTag and inline content's age: the second
/// look, after the index held a newer version.
pub(crate) async fn fetch(
    objects: &ObjectStores,
    notice: &DocumentNotice,
    max_bytes: u64,
    fresh: bool,
    patience: &Patience,
) -> Result<Fetched, Interrupted> {
    let reader = Reader {
        objects,
        max_bytes,
        media_type: notice.media_type.as_deref(),
        patience,
    };
    if notice.event == DocumentEvent::Removed {
        return reader.removal(notice).await;
    }
    if let Some(content) = &notice.content {
        return Ok(inline(notice, content, max_bytes)?);
    }
    let uri = ObjectUri::parse(&notice.uri).map_err(|error| {
        Refusal::new(
            Stage::Fetch,
            "invalid_uri",
            "millrace_objects::UriError",
            error_chain(&error),
        )
    })?;
    let etag = if fresh { None } else { notice.etag.as_deref() };
    reader.read(&uri, etag).await
}

fn inline(notice: &DocumentNotice, content: &[u8], max_bytes: u64) -> Result<Fetched, Refusal> {
    let size_bytes = content.len() as u64;
    if size_bytes > max_bytes {
        return Err(refused(
            &ReadError::TooLarge {
                size_bytes,
                limit_bytes: max_bytes,
            },
            1,
        ));
    }
    let etag = notice.etag.clone().unwrap_or_else(|| {
        Sha256::digest(content)[..16]
            .iter()
            .fold("sha256:".to_owned(), |tag, byte| {
                tag + &format!("{byte:02x}")
            })
    });
    not_empty(Content {
        bytes: Bytes::copy_from_slice(content),
        etag: Some(etag),
        media_type: notice.media_type.clone(),
        inline: true,
    })
}

/// Reads objects, waiting while their store is away.
struct Reader<'a> {
    objects: &'a ObjectStores,
    max_bytes: u64,
    /// As the notice has it.
    media_type: Option<&'a str>,
    patience: &'a Patience,
}

impl Reader<'_> {
    /// A removal is believed where nothing can be read to check it: a record of a larger object, a
    /// name that is not an object's, an object that we may not read (any more).
    async fn removal(&self, notice: &DocumentNotice) -> Result<Fetched, Interrupted> {
        let Some(uri) = ObjectUri::parse(&notice.uri)
            .ok()
            .filter(|uri| uri.fragment().is_none())
        else {
            return Ok(Fetched::Gone);
        };
        let exists = self
            .patience
            .until_done("asking for a removed object", || async {
                match self.objects.head(&uri).await {
                    Ok(_) => Ok(true),
                    Err(error @ ReadError::Unavailable { .. }) => Err(error_chain(&error)),
                    Err(_) => Ok(false),
                }
            })
            .await?;
        if exists {
            return self.read(&uri, None).await;
        }
        Ok(Fetched::Gone)
    }

    async fn read(&self, uri: &ObjectUri, etag: Option<&str>) -> Result<Fetched, Interrupted> {
        let mut etag = etag;
        let mut delays = FullJitter::default();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let reading = self.objects.read(uri, etag, self.max_bytes);
            let error = match self.patience.attempt(reading).await? {
                Ok(object) => {
                    let media_type = self.media_type.map(str::to_owned);
                    return Ok(not_empty(Content {
                        bytes: object.bytes,
                        etag: object.meta.etag,
                        media_type: media_type.or(object.meta.media_type),
                        inline: false,
                    })?);
                }
                Err(ReadError::NotFound) => return Ok(Fetched::Gone),
                // Not the version of the notice: whatever is there now is what counts.
                Err(ReadError::Changed) if etag.is_some() => {
                    etag = None;
                    continue;
                }
                Err(error) => error,
            };
            match &error {
                ReadError::Unavailable { .. } => {}
                ReadError::Changed if attempts < MAX_CHANGES => {}
                _ => return Err(refused(&error, attempts).into()),
            }
            let delay = delays.next_delay();
            tracing::warn!(uri = %uri, reason = error_chain(&error), "the object cannot be read now; trying again");
            self.patience.delay(delay).await?;
        }
    }
}

fn not_empty(content: Content) -> Result<Fetched, Refusal> {
    if content.bytes.is_empty() {
        return Err(Refusal::new(
            Stage::Fetch,
            "empty_object",
            READ_ERROR,
            "the object has no bytes",
        ));
    }
    Ok(Fetched::Present(content))
}

fn refused(error: &ReadError, attempts: u32) -> Refusal {
    Refusal::new(
        Stage::Fetch,
        error.error_type(),
        READ_ERROR,
        error_chain(error),
    )
    .attempts(attempts)
}
