//! All stores behind one type.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use crate::allow::AllowList;
use crate::bucket::{self, Bucket};
use crate::config::{ConfigError, ObjectStoresConfig};
use crate::error::ReadError;
use crate::folder;
use crate::streaming::ObjectStream;
use crate::uri::{BucketService, Location, ObjectUri};

/// Entries of a folder listing that may wait for their reader.
const LISTING_QUEUE: usize = 256;

/// An object that was read: one version of it.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its content.
    pub bytes: Bytes,
    /// Of exactly this content.
    pub meta: ObjectMeta,
}

/// What a store says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Which version it is: a bucket's eTag without quotes, `size-mtime_ns-inode` of a file.
    pub etag: Option<String>,
    /// Its length.
    pub size_bytes: u64,
    /// When it was written, in milliseconds since 1970.
    pub last_modified_ms: Option<i64>,
    /// As the bucket knows it; none for files, nor where it only says "bytes".
    pub media_type: Option<String>,
}

/// An object found by a listing.
#[derive(Clone, Debug)]
pub struct ObjectEntry {
    /// Its name.
    pub uri: ObjectUri,
    /// What the listing says of it.
    pub meta: ObjectMeta,
}

/// Something that a listing could not list. Unless the stream ends, the rest follows.
#[derive(Debug, thiserror::Error)]
#[error("cannot list {name}")]
pub struct ListError {
    /// The folder, file, prefix or key, for people to read.
    pub name: String,
    /// Why.
    #[source]
    pub source: ReadError,
}

/// Reads and lists the objects of an [`AllowList`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ObjectStores {
    allow: Arc<AllowList>,
    buckets: Arc<HashMap<(BucketService, String), Bucket>>,
}

impl ObjectStores {
    /// Opens what the configuration allows. Nothing is asked of a bucket yet.
    ///
    /// # Errors
    /// A root that does not exist, or settings that cannot work.
    pub fn new(config: &ObjectStoresConfig) -> Result<Self, ConfigError> {
        let allow = AllowList::new(config)?;
        let mut buckets = HashMap::new();
        let named = allow.buckets();
        if !named.is_empty() {
            let client = bucket::http_client()?;
            for (service, name) in named {
                let opened = Bucket::open(service, &name, config, &client)?;
                buckets.insert((service, name), opened);
            }
        }
        Ok(Self {
            allow: Arc::new(allow),
            buckets: Arc::new(buckets),
        })
    }

    /// What may be read.
    pub fn allow_list(&self) -> &AllowList {
        &self.allow
    }

    /// Reads an object, at most `max_bytes` of it, once. A record id in the URI is ignored: the
    /// object that holds the record is read.
    ///
    /// # Errors
    /// See [`ReadError`]. With `if_match` (a tag as [`ObjectMeta::etag`] has it),
    /// [`ReadError::Changed`] where the object is another version.
    pub async fn read(
        &self,
        uri: &ObjectUri,
        if_match: Option<&str>,
        max_bytes: u64,
    ) -> Result<Object, ReadError> {
        self.allow.permits(uri)?;
        match uri.location() {
            Location::File(path) => {
                let (allow, path) = (self.allow.clone(), path.clone());
                let if_match = if_match.map(str::to_owned);
                blocking(move || folder::read(&allow, &path, if_match.as_deref(), max_bytes)).await
            }
            Location::Bucket {
                service,
                bucket,
                key,
            } => {
                self.bucket(*service, bucket)?
                    .read(key, if_match, max_bytes)
                    .await
            }
        }
    }

    /// Reads a bucket's object part by part, however large it is. Files are opened by their path.
    ///
    /// # Errors
    /// See [`ReadError`]; never `TooLarge`.
    pub async fn stream(&self, uri: &ObjectUri) -> Result<ObjectStream, ReadError> {
        self.allow.permits(uri)?;
        match uri.location() {
            Location::File(_) => Err(ReadError::not_allowed("a file is opened by its path")),
            Location::Bucket {
                service,
                bucket,
                key,
            } => ObjectStream::open(self.bucket(*service, bucket)?, key).await,
        }
    }

    /// Asks what an object is, without its content.
    ///
    /// # Errors
    /// See [`ReadError`]; never `Changed` or `TooLarge`.
    pub async fn head(&self, uri: &ObjectUri) -> Result<ObjectMeta, ReadError> {
        self.allow.permits(uri)?;
        match uri.location() {
            Location::File(path) => {
                let (allow, path) = (self.allow.clone(), path.clone());
                blocking(move || folder::head(&allow, &path)).await
            }
            Location::Bucket {
                service,
                bucket,
                key,
            } => self.bucket(*service, bucket)?.head(key).await,
        }
    }

    /// Lists what lies below a folder or a prefix, however deep; a URI that names one object gives
    /// that one. `s3://b/reports` is the object of that name, or else everything below
    /// `s3://b/reports/`.
    ///
    /// Order: in a folder depth first, byte order of the names in each folder; in a bucket as the
    /// service lists (by key). Left out: in folders, names that begin with `.`, links to folders
    /// (they may be loops), links that lead out of the roots, and what is no regular file; in
    /// buckets, keys that end in `/`.
    ///
    /// One error an entry that cannot be listed; the rest follows. The stream keeps one folder's
    /// names, or one page, in memory, and stops its work when it is dropped.
    pub fn list(&self, prefix: &ObjectUri) -> BoxStream<'static, Result<ObjectEntry, ListError>> {
        let refused = |source| {
            let error = ListError {
                name: prefix.to_string(),
                source,
            };
            stream::iter([Err(error)]).boxed()
        };
        if let Err(error) = self.allow.permits(prefix) {
            return refused(error);
        }
        match prefix.location() {
            Location::File(path) => {
                let (allow, path) = (self.allow.clone(), path.clone());
                let (entries, listing) = tokio::sync::mpsc::channel(LISTING_QUEUE);
                tokio::task::spawn_blocking(move || {
                    folder::walk(&allow, &path, &mut |entry| {
                        entries.blocking_send(entry).is_ok()
                    });
                });
                stream::unfold(listing, |mut listing| async {
                    listing.recv().await.map(|entry| (entry, listing))
                })
                .boxed()
            }
            Location::Bucket {
                service,
                bucket,
                key,
            } => match self.bucket(*service, bucket) {
                Ok(bucket) => bucket.list(key),
                Err(error) => refused(error),
            },
        }
    }

    pub(crate) fn bucket(&self, service: BucketService, name: &str) -> Result<&Bucket, ReadError> {
        // `permits` came first, so every bucket asked for was opened; the error is for a reader
        // who changes that.
        self.buckets
            .get(&(service, name.to_owned()))
            .ok_or_else(|| {
                ReadError::not_allowed(format!("{}://{name} was not opened", service.scheme()))
            })
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ReadError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(ReadError::unavailable(error)),
    }
}
