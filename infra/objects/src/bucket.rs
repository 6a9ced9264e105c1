//! Buckets, through OpenDAL.

use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use opendal::layers::{RetryLayer, TimeoutLayer};
use opendal::services::{Oss, S3};
use opendal::{BufferStream, HttpTransporter, Metadata, OperationContext, Operator};
use opendal_http_transport_reqwest::ReqwestTransport;
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use crate::config::{ConfigError, ObjectStoresConfig};
use crate::error::ReadError;
use crate::oss_v4::SigningTransport;
use crate::stores::{ListError, Object, ObjectEntry, ObjectMeta};
use crate::uri::{BucketService, ObjectUri};

const DEFAULT_REQUEST_TIMEOUT_MS: u64 = 30_000;

/// Part of an upload: S3 and OSS take 10,000 of them, of at least 5 MiB.
const PART_BYTES: usize = 8 << 20;

/// One bucket of the allow-list.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    service: BucketService,
    name: String,
    operator: Operator,
}

/// The client that all buckets share.
pub(crate) fn http_client() -> Result<reqwest::Client, ConfigError> {
    reqwest::Client::builder()
        // With `Accept-Encoding: gzip`, OSS compresses on the fly and drops the eTag.
        .no_gzip()
        .connect_timeout(Duration::from_secs(10))
        .build()
        .map_err(ConfigError::Http)
}

impl Bucket {
    pub(crate) fn open(
        service: BucketService,
        name: &str,
        config: &ObjectStoresConfig,
        client: &reqwest::Client,
    ) -> Result<Self, ConfigError> {
        if service == BucketService::Oss && config.oss.endpoint.is_none() {
            return Err(ConfigError::OssEndpoint {
                bucket: format!("{}://{name}", service.scheme()),
            });
        }
        let operator = match service {
            BucketService::Oss => Operator::new(oss(name, config)),
            BucketService::S3 => Operator::new(s3(name, config)),
        };
        let operator = operator.map_err(|error| ConfigError::Service {
            bucket: format!("{}://{name}", service.scheme()),
            source: Box::new(error),
        })?;
        let timeout = Duration::from_millis(
            config
                .request_timeout_ms
                .unwrap_or(DEFAULT_REQUEST_TIMEOUT_MS),
        );
        let mut transport = HttpTransporter::new(ReqwestTransport::new(client.clone()));
        if service == BucketService::Oss && !config.oss.anonymous {
            let signing = SigningTransport::new(name, &config.oss, transport)?;
            transport = HttpTransporter::new(signing);
        }
        let operator = operator
            .with_context(OperationContext::new().with_http_transport(transport))
            .layer(
                TimeoutLayer::new()
                    .with_timeout(timeout)
                    .with_io_timeout(timeout),
            );
        Ok(Self {
            service,
            name: name.to_owned(),
            operator,
        })
    }

    /// One GET. The answer's headers belong to its body, so no version can be mixed into another.
    pub(crate) async fn read(
        &self,
        key: &str,
        if_match: Option<&str>,
        max_bytes: u64,
    ) -> Result<Object, ReadError> {
        let (mut body, meta) = self.body(key, if_match, 0).await?;
        let too_large = |size_bytes| ReadError::TooLarge {
            size_bytes,
            limit_bytes: max_bytes,
        };
        if meta.size_bytes > max_bytes {
            return Err(too_large(meta.size_bytes));
        }
        let mut bytes = BytesMut::new();
        while let Some(part) = body.try_next().await? {
            for slice in part {
                if (bytes.len() + slice.len()) as u64 > max_bytes {
                    return Err(too_large((bytes.len() + slice.len()) as u64));
                }
                bytes.extend_from_slice(&slice);
            }
        }
        let bytes: Bytes = bytes.freeze();
        let meta = ObjectMeta {
            size_bytes: bytes.len() as u64,
            ..meta
        };
        Ok(Object { bytes, meta })
    }

    /// One GET from byte `offset` on, and what its answer says of the object.
    pub(crate) async fn body(
        &self,
        key: &str,
        if_match: Option<&str>,
        offset: u64,
    ) -> Result<(BufferStream, ObjectMeta), ReadError> {
        if key.is_empty() || key.ends_with('/') {
            return Err(ReadError::not_allowed("it names a folder, not an object"));
        }
        // No retry layer here: it would go on in the middle of the body with a second GET, which
        // may be answered from another version.
        let reader = match if_match {
            Some(etag) => {
                self.operator
                    .reader_with(key)
                    .if_match(&quoted(etag))
                    .await?
            }
            None => self.operator.reader_with(key).await?,
        };
        let mut body = reader.into_stream(offset..).await?;
        let meta = meta(&body.metadata().await?);
        Ok((body, meta))
    }

    /// Writes an object whole, in one PUT.
    pub(crate) async fn write(&self, key: &str, content: Bytes) -> Result<(), ReadError> {
        self.operator.write(key, content).await?;
        Ok(())
    }

    /// Writes a file's content: in one PUT, or in parts where it is longer than one. It is there whole
    /// or not at all; each part has the time of a request.
    pub(crate) async fn write_file(&self, key: &str, from: &Path) -> Result<(), ReadError> {
        let mut file = File::open(from).await.map_err(ReadError::from_io)?;
        let parts = self.operator.writer_with(key).chunk(PART_BYTES);
        let mut writer = parts.await?;
        loop {
            let mut part = BytesMut::with_capacity(PART_BYTES);
            while part.len() < PART_BYTES {
                let read = file.read_buf(&mut part).await;
                if read.map_err(ReadError::from_io)? == 0 {
                    break;
                }
            }
            let is_last = part.len() < PART_BYTES;
            if let Err(error) = writer.write(part.freeze()).await {
                // What was sent would be kept, and paid for, as an upload without an end; why the
                // write failed says more than that ending it failed too.
                let _ = writer.abort().await;
                return Err(error.into());
            }
            if is_last {
                break;
            }
        }
        writer.close().await?;
        Ok(())
    }

    /// Removes an object; one that is not there is no error.
    pub(crate) async fn remove(&self, key: &str) -> Result<(), ReadError> {
        Ok(self.operator.delete(key).await?)
    }

    /// What the store says of an object without its body.
    pub(crate) async fn head(&self, key: &str) -> Result<ObjectMeta, ReadError> {
        if key.is_empty() || key.ends_with('/') {
            return Err(ReadError::not_allowed("it names a folder, not an object"));
        }
        match self.operator.stat(key).await.map_err(ReadError::from) {
            Ok(metadata) => Ok(meta(&metadata)),
            // The answer to HEAD has no body, hence no code that would tell a missing bucket from a
            // missing object. A listing's answer has.
            Err(ReadError::NotFound) => {
                let mut any = self.operator.lister_with("").limit(1).await?;
                match any.try_next().await {
                    // Not allowed to list is no reason to think that the bucket is missing.
                    Ok(_) => Err(ReadError::NotFound),
                    Err(error) if error.kind() == opendal::ErrorKind::PermissionDenied => {
                        Err(ReadError::NotFound)
                    }
                    Err(error) => Err(ReadError::unavailable(error)),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// The object `key`, or everything below it.
    pub(crate) fn list(&self, key: &str) -> BoxStream<'static, Result<ObjectEntry, ListError>> {
        let bucket = self.clone();
        let key = key.to_owned();
        stream::once(async move { bucket.open_listing(key).await })
            .flatten()
            .boxed()
    }

    async fn open_listing(self, key: String) -> BoxStream<'static, Result<ObjectEntry, ListError>> {
        let mut prefix = key;
        if !prefix.is_empty() && !prefix.ends_with('/') {
            match self.operator.stat(&prefix).await {
                Ok(metadata) => return stream::iter(self.entry(&prefix, &metadata)).boxed(),
                Err(error) if error.kind() == opendal::ErrorKind::NotFound => prefix.push('/'),
                Err(error) => {
                    return stream::iter([Err(self.failed(&prefix, error.into()))]).boxed();
                }
            }
        }
        // Pages may be asked for again: nothing is mixed up by it.
        let operator = self
            .operator
            .clone()
            .layer(RetryLayer::new().with_jitter().with_max_times(4));
        match operator.lister_with(&prefix).recursive(true).await {
            Ok(lister) => lister
                .filter_map(move |entry| {
                    let item = match entry {
                        Ok(entry) => self.entry(entry.path(), entry.metadata()),
                        Err(error) => Some(Err(self.failed(&prefix, missing_bucket_aware(error)))),
                    };
                    std::future::ready(item)
                })
                .boxed(),
            Err(error) => {
                stream::iter([Err(self.failed(&prefix, missing_bucket_aware(error)))]).boxed()
            }
        }
    }

    fn entry(&self, key: &str, metadata: &Metadata) -> Option<Result<ObjectEntry, ListError>> {
        // Consoles make empty objects named `folder/` to show a folder.
        if key.ends_with('/') || !metadata.is_file() {
            return None;
        }
        Some(match ObjectUri::bucket(self.service, &self.name, key) {
            Ok(uri) => Ok(ObjectEntry {
                uri,
                meta: meta(metadata),
            }),
            Err(error) => Err(self.failed(key, ReadError::not_allowed(error.to_string()))),
        })
    }

    fn failed(&self, key: &str, source: ReadError) -> ListError {
        ListError {
            name: format!("{}://{}/{key}", self.service.scheme(), self.name),
            source,
        }
    }
}

/// A listing finds nothing only where there is no bucket: an empty prefix is an empty answer.
fn missing_bucket_aware(error: opendal::Error) -> ReadError {
    match error.kind() {
        opendal::ErrorKind::NotFound => ReadError::unavailable(error),
        _ => error.into(),
    }
}

fn meta(metadata: &Metadata) -> ObjectMeta {
    let says_something =
        |t: &&str| !matches!(*t, "" | "application/octet-stream" | "binary/octet-stream");
    ObjectMeta {
        etag: metadata
            .etag()
            .map(|etag| etag.trim_matches('"').to_owned()),
        size_bytes: metadata.content_length(),
        last_modified_ms: metadata
            .last_modified()
            .map(|time| time.into_inner().as_millisecond()),
        media_type: metadata
            .content_type()
            .filter(says_something)
            .map(str::to_owned),
    }
}

/// Notices carry eTags without the quotes that the header needs.
fn quoted(etag: &str) -> String {
    format!("\"{}\"", etag.trim_matches('"'))
}

fn oss(bucket: &str, config: &ObjectStoresConfig) -> Oss {
    let c = &config.oss;
    // It would sign V1: see `oss_v4`.
    let mut oss = Oss::default().bucket(bucket).skip_signature();
    if let Some(endpoint) = &c.endpoint {
        oss = oss.endpoint(endpoint);
    }
    if let Some(style) = &c.addressing_style {
        oss = oss.addressing_style(style);
    }
    oss
}

fn s3(bucket: &str, config: &ObjectStoresConfig) -> S3 {
    let c = &config.s3;
    let mut s3 = S3::default().bucket(bucket);
    if let Some(endpoint) = &c.endpoint {
        s3 = s3.endpoint(endpoint);
    }
    let region_elsewhere = ["AWS_REGION", "AWS_DEFAULT_REGION"]
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    match &c.region {
        Some(region) => s3 = s3.region(region),
        // MinIO and its kin sign with this one and need none said.
        None if c.endpoint.is_some() && !region_elsewhere => s3 = s3.region("us-east-1"),
        None => {}
    }
    if c.virtual_host_style {
        s3 = s3.enable_virtual_host_style();
    }
    if let Some(id) = &c.access_key_id {
        s3 = s3.access_key_id(id);
    }
    if let Some(secret) = &c.secret_access_key {
        s3 = s3.secret_access_key(secret.expose());
    }
    if let Some(token) = &c.session_token {
        s3 = s3.session_token(token.expose());
    }
    if c.anonymous { s3.skip_signature() } else { s3 }
}
