//! Which stores may be read, and how they are reached.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

use crate::uri::UriError;

/// What may be read, and how. Nothing is allowed by default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectStoresConfig {
    /// Root folders (or single files) whose content may be read; default none. Each must exist.
    pub allowed_roots: Vec<PathBuf>,
    /// Buckets that may be read, `oss://bucket` or `s3://bucket`, with a prefix if only part of the
    /// bucket may (`s3://bucket/public/`); default none.
    pub allowed_buckets: Vec<String>,
    /// How OSS is reached.
    pub oss: OssConfig,
    /// How S3 is reached.
    pub s3: S3Config,
    /// Time for one request, and for one wait for more bytes of a body, in milliseconds;
    /// default 30,000.
    pub request_timeout_ms: Option<u64>,
}

/// Alibaba Cloud OSS. Credentials that are not set here are looked for where Alibaba's SDKs look:
/// `ALIBABA_CLOUD_ACCESS_KEY_ID`, `ALIBABA_CLOUD_ACCESS_KEY_SECRET`, `ALIBABA_CLOUD_SECURITY_TOKEN`,
/// an OIDC role, the instance's RAM role.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OssConfig {
    /// For example `https://oss-cn-hangzhou.aliyuncs.com`; required to read an OSS bucket.
    pub endpoint: Option<String>,
    /// The bucket's region, which is part of the signature (V4), for example `cn-hangzhou`. Default:
    /// the one that the endpoint's host names (`oss-cn-hangzhou.aliyuncs.com`, and the same with
    /// `-internal`). Required with an endpoint that names none, such as a custom domain or
    /// `oss-accelerate.aliyuncs.com`, unless `anonymous`.
    pub region: Option<String>,
    /// `virtual` (default), `cname` or `path`.
    pub addressing_style: Option<String>,
    /// Access key id; default from the environment.
    pub access_key_id: Option<String>,
    /// Access key secret; default from the environment.
    pub access_key_secret: Option<Secret>,
    /// STS token; default from the environment.
    pub security_token: Option<Secret>,
    /// Requests without a signature, for public buckets; default false.
    pub anonymous: bool,
}

/// Amazon S3 and compatible stores. Credentials that are not set here are looked for where Amazon's
/// SDKs look: `AWS_ACCESS_KEY_ID` and its kin, profiles, web identity, the instance's role.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3Config {
    /// For example `http://127.0.0.1:9000`; default `AWS_ENDPOINT_URL`, else Amazon's.
    pub endpoint: Option<String>,
    /// Default `AWS_REGION`; where an endpoint is set here and no region anywhere, `us-east-1`.
    pub region: Option<String>,
    /// Bucket in the host name instead of the path; default false.
    pub virtual_host_style: bool,
    /// Access key id; default from the environment.
    pub access_key_id: Option<String>,
    /// Secret access key; default from the environment.
    pub secret_access_key: Option<Secret>,
    /// Session token; default from the environment.
    pub session_token: Option<Secret>,
    /// Requests without a signature, for public buckets; default false.
    pub anonymous: bool,
}

impl ObjectStoresConfig {
    /// What looks forgotten, each with the keys to set: buckets that are allowed while nothing says
    /// who asks for them. The machine's own role may still do, which only a request would tell.
    pub fn doubts(&self) -> Vec<String> {
        let allows = |scheme: &str| {
            self.allowed_buckets
                .iter()
                .any(|entry| entry.starts_with(scheme))
        };
        let any_set = |names: &[&str]| names.iter().any(|name| std::env::var_os(name).is_some());
        let mut doubts = Vec::new();
        if allows("oss://")
            && !self.oss.anonymous
            && (self.oss.access_key_id.is_none() || self.oss.access_key_secret.is_none())
            && !any_set(&["ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ROLE_ARN"])
        {
            doubts.push(
                "no credentials for oss:// buckets; set objects.oss.access_key_id and \
                 access_key_secret (or ALIBABA_CLOUD_ACCESS_KEY_ID and _SECRET), or anonymous, \
                 unless this machine has a RAM role"
                    .to_owned(),
            );
        }
        if allows("s3://")
            && !self.s3.anonymous
            && (self.s3.access_key_id.is_none() || self.s3.secret_access_key.is_none())
            && !any_set(&[
                "AWS_ACCESS_KEY_ID",
                "AWS_PROFILE",
                "AWS_ROLE_ARN",
                "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            ])
        {
            doubts.push(
                "no credentials for s3:// buckets; set objects.s3.access_key_id and \
                 secret_access_key (or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), or anonymous, \
                 unless this machine has a profile or an instance role"
                    .to_owned(),
            );
        }
        let region = self.s3.region.is_some() || any_set(&["AWS_REGION", "AWS_DEFAULT_REGION"]);
        let endpoint = self.s3.endpoint.is_some() || any_set(&["AWS_ENDPOINT_URL"]);
        if allows("s3://") && !region && !endpoint {
            doubts.push(
                "neither endpoint nor region for s3:// buckets; set objects.s3.endpoint for a \
                 store of your own, objects.s3.region for Amazon's"
                    .to_owned(),
            );
        }
        doubts
    }
}

/// A text that `Debug` does not show.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why the stores cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A root folder that is not there.
    #[error("allowed root `{}` cannot be opened; create it or correct `allowed_roots`", path.display())]
    Root {
        /// As configured.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A bucket entry that names no bucket.
    #[error("allowed bucket `{entry}` is not of the form oss://bucket or s3://bucket")]
    Bucket {
        /// As configured.
        entry: String,
        /// What is wrong with it, where it is no name at all.
        #[source]
        source: Option<UriError>,
    },
    /// OpenDAL refused the settings of a bucket.
    #[error("the settings for `{bucket}` cannot work")]
    Service {
        /// `oss://bucket` or `s3://bucket`.
        bucket: String,
        /// What OpenDAL said.
        #[source]
        source: Box<opendal::Error>,
    },
    /// An OSS bucket without an endpoint.
    #[error(
        "no endpoint to read `{bucket}` from; set `objects.oss.endpoint`, for example to \
         `https://oss-cn-hangzhou.aliyuncs.com`"
    )]
    OssEndpoint {
        /// `oss://bucket`.
        bucket: String,
    },
    /// Requests to OSS cannot be signed.
    #[error(
        "the region of `{bucket}` cannot be told from the endpoint `{endpoint}`; set \
         `objects.oss.region`, for example to `cn-hangzhou`"
    )]
    OssRegion {
        /// `oss://bucket`.
        bucket: String,
        /// As configured.
        endpoint: String,
    },
    /// No HTTP client.
    #[error("the HTTP client for object stores could not be made")]
    Http(#[source] reqwest::Error),
}
