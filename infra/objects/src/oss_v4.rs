//! Signature version 4 of OSS (`OSS4-HMAC-SHA256`), added to requests on their way out.
//!
//! OpenDAL's OSS service signs version 1 and cannot be told otherwise, so it is told not to sign,
//! and [`SigningTransport`] signs what it sends. reqsign has a version 4 too, which is not used: it
//! looks for the bucket in the host name only, so its signatures are wrong for a custom domain
//! (`cname`) and for a listing in `path` style, and where no additional header is signed it sends
//! an empty `AdditionalHeaders=`, which Alibaba's SDKs leave out.
//!
//! The algorithm: "Signature version 4 (recommended)", "Include signatures in the Authorization
//! header", in the OSS developer reference.

use std::fmt;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{Request, Response, Uri};
use opendal::{Buffer, ErrorKind, HttpBody, HttpTransport, HttpTransporter};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use reqsign_aliyun_oss::{
    AssumeRoleWithOidcCredentialProvider, Credential, EcsRamRoleCredentialProvider,
    EnvCredentialProvider, StaticCredentialProvider,
};
use reqsign_core::hash::{hex_hmac_sha256, hex_sha256, hmac_sha256};
use reqsign_core::time::Timestamp;
use reqsign_core::{Context, Error, OsEnv, ProvideCredentialChain, SignRequest, Signer};
use reqsign_file_read_tokio::TokioFileRead;

use crate::config::{ConfigError, OssConfig};

const ALGORITHM: &str = "OSS4-HMAC-SHA256";
const SERVICE: &str = "oss";
const REQUEST: &str = "aliyun_v4_request";
const DATE: HeaderName = HeaderName::from_static("x-oss-date");
const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-oss-content-sha256");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-oss-security-token");
/// The only value that OSS takes for the hash of the content.
const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";
/// A signature is made and sent within this.
const CREDENTIAL_HEADROOM: Duration = Duration::from_secs(10);

const UNRESERVED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
const UNRESERVED_AND_SLASH: AsciiSet = UNRESERVED.remove(b'/');

/// Signs each request, and lets `inner` send it. A retried request is signed anew.
pub(crate) struct SigningTransport {
    inner: HttpTransporter,
    signer: Signer<Credential>,
}

impl SigningTransport {
    /// For one bucket. Credentials are looked for at the first request.
    ///
    /// # Errors
    /// No region is set, and the endpoint does not name one.
    pub(crate) fn new(
        bucket: &str,
        config: &OssConfig,
        inner: HttpTransporter,
    ) -> Result<Self, ConfigError> {
        let request_signer = V4Signer {
            bucket: bucket.to_owned(),
            bucket_in_path: config.addressing_style.as_deref() == Some("path"),
            region: region(bucket, config)?,
        };
        // Questions for a role's credentials go to STS or to the instance, not to OSS: unsigned.
        let context = Context::new()
            .with_env(OsEnv)
            .with_file_read(TokioFileRead)
            .with_http_send(inner.clone());
        let signer = Signer::new(context, credentials(config), request_signer);
        Ok(Self { inner, signer })
    }
}

impl HttpTransport for SigningTransport {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let (mut head, body) = request.into_parts();
        self.signer.sign(&mut head, None).await.map_err(|error| {
            let message = match error.kind() {
                reqsign_core::ErrorKind::CredentialInvalid => {
                    "no valid credentials for OSS; set `objects.oss.access_key_id` and \
                     `objects.oss.access_key_secret`, or ALIBABA_CLOUD_ACCESS_KEY_ID and \
                     ALIBABA_CLOUD_ACCESS_KEY_SECRET"
                }
                _ => "the request to OSS could not be signed",
            };
            opendal::Error::new(ErrorKind::Unexpected, message)
                .with_operation("oss_v4::sign")
                .with_temporary(error.is_retryable())
                .set_source(error)
        })?;
        self.inner.fetch(Request::from_parts(head, body)).await
    }
}

/// The settings first, then what OpenDAL's OSS service asks, in its order.
fn credentials(config: &OssConfig) -> ProvideCredentialChain<Credential> {
    let mut chain = ProvideCredentialChain::new();
    let id = config.access_key_id.as_deref().unwrap_or_default();
    let secret = config.access_key_secret.as_ref().map_or("", |s| s.expose());
    if !id.is_empty() && !secret.is_empty() {
        let keys = StaticCredentialProvider::new(id, secret);
        let token = config.security_token.as_ref().map_or("", |t| t.expose());
        chain = chain.push(match token {
            "" => keys,
            token => keys.with_security_token(token),
        });
    }
    chain
        .push(EnvCredentialProvider::new())
        .push(AssumeRoleWithOidcCredentialProvider::new())
        .push(EcsRamRoleCredentialProvider::new())
}

/// The region as set, else as the endpoint's host names it.
fn region(bucket: &str, config: &OssConfig) -> Result<String, ConfigError> {
    let set = config.region.as_deref().filter(|region| !region.is_empty());
    if let Some(region) = set {
        return Ok(region.to_owned());
    }
    let endpoint = config.endpoint.as_deref().unwrap_or_default();
    region_of(endpoint).ok_or_else(|| ConfigError::OssRegion {
        bucket: format!("oss://{bucket}"),
        endpoint: endpoint.to_owned(),
    })
}

/// `cn-hangzhou` of `oss-cn-hangzhou.aliyuncs.com`, of its `-internal` form, and of these with a
/// bucket before them.
fn region_of(endpoint: &str) -> Option<String> {
    let uri: Uri = endpoint.trim_end_matches('/').parse().ok()?;
    let host = uri.host()?.to_ascii_lowercase();
    let label = host.strip_suffix(".aliyuncs.com")?.rsplit('.').next()?;
    let region = label.strip_prefix("oss-")?;
    let region = region.strip_suffix("-internal").unwrap_or(region);
    // `oss-accelerate` and `oss-accelerate-overseas` belong to no region; a region begins with the
    // two letters of a country or an area.
    (region.find('-') == Some(2)).then(|| region.to_owned())
}

struct V4Signer {
    bucket: String,
    /// Whether the path of a URL begins with the bucket; otherwise the host stands for it.
    bucket_in_path: bool,
    region: String,
}

// Required by `SignRequest`.
impl fmt::Debug for V4Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("V4Signer")
            .field("bucket", &self.bucket)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

impl SignRequest for V4Signer {
    type Credential = Credential;

    fn required_valid_until(&self, _: &Credential, _: Option<Duration>) -> Timestamp {
        Timestamp::now() + CREDENTIAL_HEADROOM
    }

    /// Signs in the header, whatever `expires_in`. `Signer` has checked that the credential lives.
    async fn sign_request(
        &self,
        _: &Context,
        head: &mut http::request::Parts,
        credential: Option<&Credential>,
        _: Option<Duration>,
    ) -> reqsign_core::Result<()> {
        let credential =
            credential.ok_or_else(|| Error::credential_invalid("no credential to sign with"))?;
        self.sign_at(head, credential, Timestamp::now())
    }
}

impl V4Signer {
    fn sign_at(
        &self,
        head: &mut http::request::Parts,
        credential: &Credential,
        time: Timestamp,
    ) -> reqsign_core::Result<()> {
        let (moment, day) = (time.format_iso8601(), time.format_date());
        let mut headers = head.headers.clone();
        headers.insert(DATE, moment.parse()?);
        headers.insert(CONTENT_SHA256, HeaderValue::from_static(UNSIGNED_PAYLOAD));
        if let Some(token) = &credential.security_token {
            let mut token: HeaderValue = token.parse()?;
            token.set_sensitive(true);
            headers.insert(SECURITY_TOKEN, token);
        }

        // No additional headers are signed, hence the empty line of their names.
        let canonical_request = format!(
            "{}\n{}\n{}\n{}\n\n{UNSIGNED_PAYLOAD}",
            head.method,
            self.canonical_uri(&head.uri),
            canonical_query(head.uri.query().unwrap_or_default()),
            canonical_headers(&headers)?,
        );
        let scope = format!("{day}/{}/{SERVICE}/{REQUEST}", self.region);
        let string_to_sign = format!(
            "{ALGORITHM}\n{moment}\n{scope}\n{}",
            hex_sha256(canonical_request.as_bytes())
        );
        let secret = format!("aliyun_v4{}", credential.access_key_secret).into_bytes();
        let signing_key = [&day, self.region.as_str(), SERVICE, REQUEST]
            .iter()
            .fold(secret, |key, part| hmac_sha256(&key, part.as_bytes()));
        let signature = hex_hmac_sha256(&signing_key, string_to_sign.as_bytes());

        let mut authorization: HeaderValue = format!(
            "{ALGORITHM} Credential={}/{scope},Signature={signature}",
            credential.access_key_id
        )
        .parse()?;
        authorization.set_sensitive(true);
        headers.insert(AUTHORIZATION, authorization);
        head.headers = headers;
        Ok(())
    }

    /// `/bucket/key`, however the bucket is addressed; `/bucket/` of the bucket itself.
    fn canonical_uri(&self, uri: &Uri) -> String {
        let bucket = format!("/{}", self.bucket);
        let path = reencoded(uri.path(), &UNRESERVED_AND_SLASH);
        match (self.bucket_in_path, path == bucket) {
            (false, _) => bucket + &path,
            (true, true) => bucket + "/",
            (true, false) => path,
        }
    }
}

/// Sorted by the encoded names; a name without a value stands alone.
fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (reencoded(name, &UNRESERVED), reencoded(value, &UNRESERVED))
        })
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| match value.as_str() {
            "" => name,
            value => format!("{name}={value}"),
        })
        .collect();
    pairs.join("&")
}

/// One line a header that is always signed, sorted by name.
fn canonical_headers(headers: &http::HeaderMap) -> reqsign_core::Result<String> {
    let mut lines = Vec::new();
    for (name, value) in headers {
        let name = name.as_str();
        if name.starts_with("x-oss-") || matches!(name, "content-type" | "content-md5") {
            let value = value.to_str().map_err(|error| {
                Error::request_invalid(format!("header {name} is not ASCII")).with_source(error)
            })?;
            lines.push(format!("{name}:{}\n", value.trim()));
        }
    }
    lines.sort();
    Ok(lines.concat())
}

/// Clients leave more characters as they are than the canonical form does.
fn reencoded(text: &str, kept: &'static AsciiSet) -> String {
    let bytes: Vec<u8> = percent_decode_str(text).collect();
    percent_encode(&bytes, kept).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use anyhow::Result;
    use reqsign_core::StaticEnv;

    use super::*;
    use crate::config::Secret;

    fn signer(bucket_in_path: bool) -> V4Signer {
        V4Signer {
            bucket: "bucket".into(),
            bucket_in_path,
            region: "cn-hangzhou".into(),
        }
    }

    /// The request of the signature tests of Alibaba's SDKs; only some of its headers are signed.
    fn sdk_request(url: &str) -> Result<http::request::Parts> {
        let query = "param1=value1&%2Bparam1=value3&%7Cparam1=value4&%2Bparam2=&%7Cparam2&param2";
        let request = Request::put(format!("{url}?{query}"))
            .header("x-oss-head1", "value")
            .header("abc", "value")
            .header("ZAbc", "value")
            .header("XYZ", "value")
            .header("content-type", "text/plain")
            .header("date", "Sat, 16 Dec 2023 16:20:57 GMT");
        Ok(request.body(())?.into_parts().0)
    }

    fn authorization(head: &http::request::Parts) -> Result<&str> {
        Ok(head.headers[AUTHORIZATION].to_str()?)
    }

    /// The expected values are those of the SDKs (TestAuthV4Header, TestAuthV4HeaderToken in Go's).
    #[test]
    fn signatures_are_those_of_alibabas_sdks() -> Result<()> {
        for (url, bucket_in_path) in [
            (
                "http://bucket.oss-cn-hangzhou.aliyuncs.com/1234%2B-/123/1.txt",
                false,
            ),
            ("http://files.example.com/1234+-/123/1.txt", false),
            (
                "http://oss-cn-hangzhou.aliyuncs.com/bucket/1234%2B-/123/1.txt",
                true,
            ),
        ] {
            for (token, second, expected) in [
                (
                    None,
                    1_702_743_657,
                    "20231216/cn-hangzhou/oss/aliyun_v4_request,Signature=e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe",
                ),
                (
                    Some("token"),
                    1_702_784_856,
                    "20231217/cn-hangzhou/oss/aliyun_v4_request,Signature=b94a3f999cf85bcdc00d332fbd3734ba03e48382c36fa4d5af5df817395bd9ea",
                ),
            ] {
                let mut head = sdk_request(url)?;
                let credential = Credential {
                    access_key_id: "ak".into(),
                    access_key_secret: "sk".into(),
                    security_token: token.map(str::to_owned),
                    expires_in: None,
                };
                let time = Timestamp::from_second(second)?;
                signer(bucket_in_path).sign_at(&mut head, &credential, time)?;
                assert_eq!(
                    authorization(&head)?,
                    format!("OSS4-HMAC-SHA256 Credential=ak/{expected}"),
                    "{url}"
                );
                assert_eq!(head.headers.contains_key(SECURITY_TOKEN), token.is_some());
            }
        }
        Ok(())
    }

    #[test]
    fn the_bucket_itself_ends_in_a_slash_in_every_style() -> Result<()> {
        for (url, bucket_in_path) in [
            (
                "http://bucket.oss-cn-hangzhou.aliyuncs.com?list-type=2",
                false,
            ),
            ("http://files.example.com/?list-type=2", false),
            ("http://127.0.0.1:9000/bucket?list-type=2", true),
            ("http://127.0.0.1:9000/bucket/?list-type=2", true),
        ] {
            assert_eq!(
                signer(bucket_in_path).canonical_uri(&url.parse()?),
                "/bucket/",
                "{url}"
            );
        }
        let bang = "http://bucket.example.com/a!(1)*'/b".parse()?;
        assert_eq!(
            signer(false).canonical_uri(&bang),
            "/bucket/a%21%281%29%2A%27/b"
        );
        Ok(())
    }

    #[test]
    fn regions_come_from_hosts_that_name_one() {
        for (endpoint, expected) in [
            ("https://oss-cn-hangzhou.aliyuncs.com", Some("cn-hangzhou")),
            ("https://oss-cn-hangzhou.aliyuncs.com/", Some("cn-hangzhou")),
            (
                "http://OSS-CN-Hangzhou-internal.aliyuncs.com:80",
                Some("cn-hangzhou"),
            ),
            ("oss-us-west-1.aliyuncs.com", Some("us-west-1")),
            (
                "https://docs.oss-ap-southeast-1.aliyuncs.com",
                Some("ap-southeast-1"),
            ),
            ("https://oss-accelerate.aliyuncs.com", None),
            ("https://oss-accelerate-overseas.aliyuncs.com", None),
            ("https://files.example.com", None),
            ("https://oss-cn-hangzhou.example.com", None),
            ("http://127.0.0.1:9000", None),
            ("", None),
        ] {
            assert_eq!(region_of(endpoint).as_deref(), expected, "{endpoint}");
        }
    }

    #[tokio::test]
    async fn credentials_that_are_set_come_before_those_of_the_environment() -> Result<()> {
        let set = OssConfig {
            access_key_id: Some("set-ak".into()),
            access_key_secret: Some(Secret::new("set-sk")),
            security_token: Some(Secret::new("set-token")),
            ..Default::default()
        };
        // Settings that are there but empty are no credentials.
        let empty = OssConfig {
            access_key_id: Some(String::new()),
            access_key_secret: Some(Secret::new("")),
            ..Default::default()
        };
        for (config, id, token) in [(set, "set-ak", "set-token"), (empty, "env-ak", "env-token")] {
            let environment = [
                ("ALIBABA_CLOUD_ACCESS_KEY_ID", "env-ak"),
                ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "env-sk"),
                ("ALIBABA_CLOUD_SECURITY_TOKEN", "env-token"),
            ];
            let context = Context::new().with_env(StaticEnv {
                home_dir: None,
                envs: HashMap::from(environment.map(|(k, v)| (k.to_owned(), v.to_owned()))),
            });
            let signer = Signer::new(context, credentials(&config), signer(false));
            let mut head = sdk_request("http://bucket.oss-cn-hangzhou.aliyuncs.com/a")?;
            signer.sign(&mut head, None).await?;
            let start = format!("OSS4-HMAC-SHA256 Credential={id}/");
            assert!(authorization(&head)?.starts_with(&start), "{head:?}");
            assert_eq!(head.headers[SECURITY_TOKEN], token);
        }
        Ok(())
    }
}
