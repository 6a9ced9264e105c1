//! A bucket on a real S3 endpoint: moto, over HTTP, with objects put there by OpenDAL's writer.
//!
//! moto is not S3 in one thing that matters here: it takes any signature, if there is one. So these
//! tests show the requests' form and the reading of the answers, not that a signature is right.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::stream::{self, StreamExt, TryStreamExt};
use millrace_objects::{
    BucketService, ListError, ObjectEntry, ObjectStores, ObjectStoresConfig, ObjectUri,
    ObjectWriter, ReadError, S3Config, Secret,
};
use opendal::{HttpTransporter, OperationContext, Operator, services};
use opendal_http_transport_reqwest::ReqwestTransport;

const CAP: u64 = 1 << 20;
const REGION: &str = "us-east-1";
const ID: &str = "test";

/// A bucket of its own for each test; it goes when the endpoint stops, which keeps all in memory.
struct Bucket {
    name: String,
    writer: Operator,
    stores: ObjectStores,
}

impl Bucket {
    async fn new() -> Result<Self> {
        let name = millrace_servers::unique_name("millrace");
        let endpoint = millrace_servers::s3()?;
        // OpenDAL makes no buckets. moto looks for a signature without checking it.
        let signature = format!(
            "AWS4-HMAC-SHA256 Credential={ID}/20260101/{REGION}/s3/aws4_request, \
             SignedHeaders=host, Signature=0"
        );
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(20))
            .build()?;
        let made = client
            .put(format!("{endpoint}/{name}"))
            .header("authorization", signature)
            .send()
            .await?;
        ensure!(made.status().is_success(), "no bucket: {made:?}");
        let service = services::S3::default()
            .bucket(&name)
            .endpoint(&endpoint)
            .region(REGION)
            .access_key_id(ID)
            .secret_access_key("secret");
        let transport = HttpTransporter::new(ReqwestTransport::new(client));
        let context = OperationContext::new().with_http_transport(transport);
        Ok(Self {
            writer: Operator::new(service)?.with_context(context),
            stores: stores(&name, false)?,
            name,
        })
    }

    async fn put(&self, key: &str, content: impl Into<Vec<u8>>) -> Result<ObjectUri> {
        self.writer
            .write(key, content.into())
            .await
            .with_context(|| format!("put {key}"))?;
        self.uri(key)
    }

    fn uri(&self, key: &str) -> Result<ObjectUri> {
        Ok(ObjectUri::bucket(BucketService::S3, &self.name, key)?)
    }

    async fn list(&self, key: &str) -> Result<Vec<ObjectEntry>> {
        Ok(self.stores.list(&self.uri(key)?).try_collect().await?)
    }
}

fn stores(bucket: &str, anonymous: bool) -> Result<ObjectStores> {
    Ok(ObjectStores::new(&ObjectStoresConfig {
        allowed_buckets: vec![format!("s3://{bucket}")],
        s3: S3Config {
            endpoint: Some(millrace_servers::s3()?),
            region: Some(REGION.into()),
            access_key_id: Some(ID.into()),
            secret_access_key: Some(Secret::new("secret")),
            anonymous,
            ..Default::default()
        },
        ..Default::default()
    })?)
}

#[tokio::test]
async fn keys_of_every_kind_are_listed_and_read_by_their_names() -> Result<()> {
    let bucket = Bucket::new().await?;
    // In the order of a listing: that of the keys' bytes.
    let keys = [
        "in/100% sure.txt",
        "in/a b.txt",
        "in/a%20b.txt",
        "in/a+b.txt",
        "in/deep/er/and/deeper.txt",
        "in/q?x=1&y=#2.txt",
        "in/ü 文档.txt",
    ];
    for key in keys {
        bucket.put(key, format!("content of {key}")).await?;
    }
    bucket.put("inner.txt", "beside the prefix").await?;
    bucket.writer.create_dir("in/empty/").await?;

    let with_slash = bucket.list("in/").await?;
    let entries = bucket.list("in").await?;
    let uris = |entries: &[ObjectEntry]| -> Vec<ObjectUri> {
        entries.iter().map(|e| e.uri.clone()).collect()
    };
    let expected: Vec<_> = keys
        .map(|key| bucket.uri(key))
        .into_iter()
        .collect::<Result<_>>()?;
    assert_eq!(uris(&entries), expected);
    assert_eq!(uris(&with_slash), expected);
    assert!(uris(&bucket.list("").await?).contains(&bucket.uri("inner.txt")?));
    assert_eq!(
        uris(&bucket.list("inner.txt").await?),
        [bucket.uri("inner.txt")?]
    );
    assert!(bucket.list("none/").await?.is_empty());

    for (entry, key) in entries.iter().zip(keys) {
        // By its text, as a notice carries it, and in the version that was listed.
        let uri = ObjectUri::parse(&entry.uri.to_string())?;
        let etag = entry.meta.etag.as_deref().context("a listed eTag")?;
        let object = bucket
            .stores
            .read(&uri, Some(etag), CAP)
            .await
            .with_context(|| format!("read {key}"))?;
        assert_eq!(object.bytes, format!("content of {key}"));
        assert_eq!(object.meta.etag.as_deref(), Some(etag));
        assert_eq!(object.meta.size_bytes, entry.meta.size_bytes);
    }
    Ok(())
}

#[tokio::test]
async fn a_listing_goes_on_over_its_pages() -> Result<()> {
    const OBJECTS: usize = 1_005; // a page has 1,000
    let bucket = &Bucket::new().await?;
    stream::iter(0..OBJECTS)
        .map(|at| async move { bucket.put(&numbered(at), "x").await })
        .buffer_unordered(16)
        .try_collect::<Vec<_>>()
        .await?;
    let entries = bucket.list("many/").await?;
    let expected: Vec<_> = (0..OBJECTS)
        .map(|at| bucket.uri(&numbered(at)))
        .collect::<Result<_>>()?;
    let found: Vec<_> = entries.into_iter().map(|e| e.uri).collect();
    assert_eq!(found, expected);
    Ok(())
}

fn numbered(at: usize) -> String {
    format!("many/{at:05} +%.txt")
}

#[tokio::test]
async fn a_read_is_of_the_version_asked_for() -> Result<()> {
    let bucket = Bucket::new().await?;
    let uri = bucket.put("a.txt", "first").await?;
    let first = bucket.stores.read(&uri, None, CAP).await?;
    assert_eq!(&first.bytes[..], b"first");
    // MD5, as S3 makes it of an object put in one part.
    assert_eq!(
        first.meta.etag.as_deref(),
        Some("8b04d5e3775d298e78455efc5ca404d5")
    );
    assert_eq!(bucket.stores.head(&uri).await?, first.meta);

    bucket
        .writer
        .write_with("a.txt", "second one")
        .content_type("text/plain")
        .await?;
    let old = first.meta.etag.as_deref();
    let changed = bucket.stores.read(&uri, old, CAP).await;
    assert!(matches!(changed, Err(ReadError::Changed)), "{changed:?}");
    let head = bucket.stores.head(&uri).await?;
    assert_ne!(head.etag, first.meta.etag);
    assert_eq!(
        (head.size_bytes, head.media_type.as_deref()),
        (10, Some("text/plain"))
    );
    assert!(
        head.last_modified_ms
            .is_some_and(|ms| ms >= first.meta.last_modified_ms.unwrap())
    );
    let second = bucket.stores.read(&uri, head.etag.as_deref(), CAP).await?;
    assert_eq!(&second.bytes[..], b"second one");
    assert_eq!(second.meta, head);
    Ok(())
}

#[tokio::test]
async fn what_is_larger_than_the_cap_is_refused() -> Result<()> {
    let bucket = Bucket::new().await?;
    let uri = bucket.put("large.bin", vec![7; 300_000]).await?;
    assert_eq!(
        bucket.stores.read(&uri, None, 300_000).await?.bytes.len(),
        300_000
    );
    match bucket.stores.read(&uri, None, 299_999).await {
        Err(ReadError::TooLarge {
            size_bytes: 300_000,
            limit_bytes: 299_999,
        }) => Ok(()),
        other => bail!("expected TooLarge, got {other:?}"),
    }
}

#[tokio::test]
async fn only_an_object_that_is_missing_in_its_bucket_is_not_found() -> Result<()> {
    let bucket = Bucket::new().await?;
    let missing = bucket.uri("none.txt")?;
    for if_match in [None, Some("8b04d5e3775d298e78455efc5ca404d5")] {
        let read = bucket.stores.read(&missing, if_match, CAP).await;
        assert!(
            matches!(read, Err(ReadError::NotFound)),
            "{if_match:?}: {read:?}"
        );
    }
    let head = bucket.stores.head(&missing).await;
    assert!(matches!(head, Err(ReadError::NotFound)), "{head:?}");

    let nowhere = millrace_servers::unique_name("nowhere");
    let stores = stores(&nowhere, false)?;
    let uri = ObjectUri::parse(&format!("s3://{nowhere}/a.txt"))?;
    let read = stores.read(&uri, None, CAP).await;
    assert!(
        matches!(read, Err(ReadError::Unavailable { .. })),
        "{read:?}"
    );
    let head = stores.head(&uri).await;
    assert!(
        matches!(head, Err(ReadError::Unavailable { .. })),
        "{head:?}"
    );
    for name in ["", "a.txt", "in/"] {
        let prefix = ObjectUri::parse(&format!("s3://{nowhere}/{name}"))?;
        let items: Vec<_> = stores.list(&prefix).collect().await;
        assert!(
            matches!(
                items[..],
                [Err(ListError {
                    source: ReadError::Unavailable { .. },
                    ..
                })]
            ),
            "{name}: {items:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_private_bucket_refuses_who_does_not_sign() -> Result<()> {
    let bucket = Bucket::new().await?;
    let uri = bucket.put("a.txt", "private").await?;
    let read = stores(&bucket.name, true)?.read(&uri, None, CAP).await;
    assert!(matches!(read, Err(ReadError::Denied { .. })), "{read:?}");
    Ok(())
}

#[tokio::test]
async fn what_is_written_is_read_and_what_is_removed_is_gone() -> Result<()> {
    let bucket = Bucket::new().await?;
    let uri = bucket.uri("canaries")?.child("one.txt")?;
    assert_eq!(uri, bucket.uri("canaries/one.txt")?);
    let writer = ObjectWriter::of(bucket.stores.clone(), uri.clone());
    for content in ["first", "second"] {
        writer.put(content).await?;
        let object = bucket.stores.read(&uri, None, CAP).await?;
        assert_eq!(object.bytes, content);
    }
    writer.remove().await?;
    writer.remove().await?;
    let gone = bucket.stores.read(&uri, None, CAP).await;
    assert!(matches!(gone, Err(ReadError::NotFound)), "{gone:?}");

    let elsewhere = ObjectUri::bucket(BucketService::S3, "another-bucket", "one.txt")?;
    let refused = ObjectWriter::of(bucket.stores.clone(), elsewhere)
        .put("x")
        .await;
    let refused = refused.err().context("a bucket that is not allowed")?;
    assert!(
        refused
            .to_string()
            .contains("cannot write s3://another-bucket/one.txt")
    );
    Ok(())
}
