//! What the notices of OSS and of S3 say of an object, in the same words.

use serde::Deserialize;

/// `{"bucket":{…},"object":{…}}`, with more beside them that nothing here needs.
#[derive(Deserialize)]
pub(super) struct NoticedObject {
    pub bucket: Bucket,
    pub object: Object,
}

#[derive(Deserialize)]
pub(super) struct Bucket {
    pub name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Object {
    /// As sent: S3 URL-encodes it, OSS does not.
    pub key: String,
    pub size: Option<i64>,
    pub e_tag: Option<String>,
    /// MinIO only.
    pub content_type: Option<String>,
}
