//! A bucket in memory behind the S3 API: as much of it as a reader uses (GET, HEAD, ListObjectsV2,
//! `If-Match`), and it can fail on purpose.
//!
//! The workload writes to it directly, so what it holds is the truth that the verdict compares with.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, Request, Response, StatusCode, header};
use sha2::{Digest, Sha256};

use crate::faults::http_rules::HttpRules;
use crate::http_server::{Answer, HttpServer};
use crate::schedule::StorageFault;

/// The only bucket.
pub const BUCKET: &str = "judge";
const SLOW: Duration = Duration::from_millis(500);
const MAX_KEYS: usize = 1_000;

/// An object as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its content.
    pub bytes: Bytes,
    /// Its tag, without quotes: a hash of the content, so equal content has an equal tag, as on S3.
    pub etag: String,
}

/// The server and its bucket.
#[derive(Debug)]
pub struct ObjectServer {
    http: HttpServer,
    bucket: Arc<Bucket>,
    /// How it fails.
    pub rules: Arc<HttpRules<StorageFault>>,
}

#[derive(Debug, Default)]
struct Bucket(Mutex<BTreeMap<String, Object>>);

impl ObjectServer {
    /// An empty bucket on a free port.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start(rules: HttpRules<StorageFault>) -> anyhow::Result<Self> {
        let (bucket, rules) = (Arc::new(Bucket::default()), Arc::new(rules));
        let (served, broken) = (Arc::clone(&bucket), Arc::clone(&rules));
        let http = HttpServer::start(move |request| {
            let (bucket, rules) = (Arc::clone(&served), Arc::clone(&broken));
            async move { answer(&bucket, &rules, &request).await }
        })
        .await?;
        Ok(Self {
            http,
            bucket,
            rules,
        })
    }

    /// The endpoint's address.
    #[must_use]
    pub fn url(&self) -> String {
        self.http.url()
    }

    /// Stores an object; its tag.
    pub fn put(&self, key: &str, bytes: impl Into<Bytes>) -> String {
        let bytes = bytes.into();
        let etag = hex::encode(&Sha256::digest(&bytes)[..16]);
        let object = Object {
            bytes,
            etag: etag.clone(),
        };
        self.bucket.lock().insert(key.to_owned(), object);
        etag
    }

    /// Removes an object.
    pub fn delete(&self, key: &str) {
        self.bucket.lock().remove(key);
    }

    /// The object as it is now.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Object> {
        self.bucket.lock().get(key).cloned()
    }
}

impl Bucket {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Object>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(
    bucket: &Bucket,
    rules: &HttpRules<StorageFault>,
    request: &Request<Bytes>,
) -> Answer {
    let fault = rules.strike(|_| true);
    match fault {
        Some(StorageFault::Unavailable) => {
            return Answer::Whole(error(StatusCode::SERVICE_UNAVAILABLE, "SlowDown"));
        }
        Some(StorageFault::HangUp) => return Answer::HangUp,
        Some(StorageFault::Slow) => tokio::time::sleep(SLOW).await,
        Some(StorageFault::Half) | None => {}
    }
    let response = respond(bucket, request);
    if fault == Some(StorageFault::Half) {
        Answer::Half(response)
    } else {
        Answer::Whole(response)
    }
}

fn respond(bucket: &Bucket, request: &Request<Bytes>) -> Response<Bytes> {
    let path = request.uri().path().trim_start_matches('/');
    let (name, key) = path.split_once('/').unwrap_or((path, ""));
    if name != BUCKET {
        return error(StatusCode::NOT_FOUND, "NoSuchBucket");
    }
    if key.is_empty() {
        return list(bucket, request.uri().query().unwrap_or_default());
    }
    let Some(object) = bucket.lock().get(key).cloned() else {
        return error(StatusCode::NOT_FOUND, "NoSuchKey");
    };
    let wanted = request.headers().get(header::IF_MATCH);
    if wanted.is_some_and(|tag| tag.as_bytes() != format!("\"{}\"", object.etag).as_bytes()) {
        return error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
    }
    let response = Response::builder()
        .header(header::ETAG, format!("\"{}\"", object.etag))
        .header(header::CONTENT_TYPE, "binary/octet-stream")
        .header(header::CONTENT_LENGTH, object.bytes.len())
        .header(header::LAST_MODIFIED, "Thu, 01 Jan 2026 00:00:00 GMT");
    let body = match *request.method() {
        Method::HEAD => Bytes::new(),
        _ => object.bytes,
    };
    response
        .body(body)
        .unwrap_or_else(|_| error(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"))
}

fn list(bucket: &Bucket, query: &str) -> Response<Bytes> {
    // Keys here are letters, digits, `/` and `.`: nothing but the slash comes encoded.
    let parameter = |name: &str| {
        query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            (key == name).then(|| value.replace("%2F", "/"))
        })
    };
    let prefix = parameter("prefix").unwrap_or_default();
    let after = parameter("continuation-token").or_else(|| parameter("start-after"));
    let limit = parameter("max-keys")
        .and_then(|text| text.parse().ok())
        .unwrap_or(MAX_KEYS)
        .min(MAX_KEYS);
    let objects = bucket.lock();
    let from = match &after {
        Some(after) => Bound::Excluded(after.clone()),
        None => Bound::Included(prefix.clone()),
    };
    let mut found = objects
        .range((from, Bound::Unbounded))
        .filter(|(key, _)| key.starts_with(&prefix));
    let page: Vec<_> = found.by_ref().take(limit).collect();
    let more = found.next().is_some();
    let contents: String = page
        .iter()
        .map(|(key, object)| {
            format!(
                "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                 <ETag>&quot;{}&quot;</ETag><Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>",
                object.etag,
                object.bytes.len()
            )
        })
        .collect();
    let next = match page.last() {
        Some((key, _)) if more => format!("<NextContinuationToken>{key}</NextContinuationToken>"),
        _ => String::new(),
    };
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult><Name>{BUCKET}</Name>\
         <Prefix>{prefix}</Prefix><KeyCount>{}</KeyCount><MaxKeys>{limit}</MaxKeys>\
         <IsTruncated>{more}</IsTruncated>{next}{contents}</ListBucketResult>",
        page.len()
    );
    let mut response = Response::new(Bytes::from(body));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/xml"),
    );
    response
}

fn error(status: StatusCode, code: &str) -> Response<Bytes> {
    let body =
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code></Error>");
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response
}
