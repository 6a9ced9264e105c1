//! Requests to OSS as they leave: each signature is computed again, from the request that arrived
//! and OSS's documentation, with none of the code under test.

use anyhow::{Context, Result};
use futures::TryStreamExt;
use millrace_objects::{ObjectStores, ObjectStoresConfig, ObjectUri, OssConfig, Secret};
use sha2::{Digest, Sha256};

use crate::answers::{answer, server};

fn config(oss: OssConfig) -> ObjectStoresConfig {
    ObjectStoresConfig {
        allowed_buckets: vec!["oss://docs".into()],
        oss: OssConfig {
            addressing_style: Some("path".into()),
            access_key_id: Some("id".into()),
            access_key_secret: Some(Secret::new("secret")),
            ..oss
        },
        ..Default::default()
    }
}

fn stores(endpoint: String) -> Result<ObjectStores> {
    Ok(ObjectStores::new(&config(OssConfig {
        endpoint: Some(endpoint),
        region: Some("cn-hangzhou".into()),
        security_token: Some(Secret::new("sts-token")),
        ..Default::default()
    }))?)
}

/// RFC 2104, for keys that are no longer than a block.
fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let padded = |pad: u8| -> Vec<u8> {
        let byte = |at: usize| key.get(at).copied().unwrap_or(0) ^ pad;
        (0..64).map(byte).collect()
    };
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text);
    let outer = Sha256::new().chain_update(padded(0x5c));
    outer.chain_update(inner.finalize()).finalize().to_vec()
}

fn header<'a>(head: &'a str, name: &str) -> Result<&'a str> {
    head.lines()
        .find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
        .with_context(|| format!("no header {name} in {head}"))
}

/// Asserts the signature of a request without content, of which the canonical resource and query
/// are given.
fn assert_signed(head: &str, resource: &str, query: &str) -> Result<()> {
    let method = head.split(' ').next().context("a method")?;
    let moment = header(head, "x-oss-date")?;
    let day = &moment[..8];
    let scope = format!("{day}/cn-hangzhou/oss/aliyun_v4_request");
    let canonical_request = format!(
        "{method}\n{resource}\n{query}\nx-oss-content-sha256:UNSIGNED-PAYLOAD\nx-oss-date:{moment}\n\
         x-oss-security-token:sts-token\n\n\nUNSIGNED-PAYLOAD"
    );
    let string_to_sign = format!(
        "OSS4-HMAC-SHA256\n{moment}\n{scope}\n{}",
        hex::encode(Sha256::digest(canonical_request))
    );
    let key = hmac(b"aliyun_v4secret", day);
    let key = hmac(
        &hmac(&hmac(&key, "cn-hangzhou"), "oss"),
        "aliyun_v4_request",
    );
    let signature = hex::encode(hmac(&key, &string_to_sign));
    assert_eq!(
        header(head, "authorization")?,
        format!("OSS4-HMAC-SHA256 Credential=id/{scope},Signature={signature}"),
        "{head}"
    );
    assert_eq!(header(head, "x-oss-content-sha256")?, "UNSIGNED-PAYLOAD");
    assert_eq!(header(head, "x-oss-security-token")?, "sts-token");
    Ok(())
}

#[tokio::test]
async fn a_read_is_signed_with_v4() -> Result<()> {
    let (endpoint, heads) = server(vec![answer("200 OK", "etag: \"e1\"\r\n", "text")])?;
    let uri = ObjectUri::parse("oss://docs/a b/(100%25)+文!.txt")?;
    let object = stores(endpoint)?.read(&uri, Some("e1"), 10).await?;
    assert_eq!(&object.bytes[..], b"text");
    // OpenDAL leaves `(`, `)` and `!` as they are; the signature is of their encoded form.
    let resource = "/docs/a%20b/%28100%25%29%2B%E6%96%87%21.txt";
    assert_signed(&heads.recv()?, resource, "")
}

#[tokio::test]
async fn what_an_object_is_is_asked_with_v4() -> Result<()> {
    let (endpoint, heads) = server(vec![answer("200 OK", "etag: \"e1\"\r\n", "")])?;
    let meta = stores(endpoint)?
        .head(&ObjectUri::parse("oss://docs/a.txt")?)
        .await?;
    assert_eq!(meta.etag.as_deref(), Some("e1"));
    let head = heads.recv()?;
    assert!(head.starts_with("HEAD "), "{head}");
    assert_signed(&head, "/docs/a.txt", "")
}

#[tokio::test]
async fn each_page_of_a_listing_is_signed_with_v4() -> Result<()> {
    let page = |key: &str, rest: &str| {
        let body = format!(
            "<ListBucketResult><Name>docs</Name>{rest}<Contents><Key>{key}</Key>\
             <LastModified>2024-05-01T10:00:00.000Z</LastModified><ETag>\"e1\"</ETag>\
             <Size>3</Size></Contents></ListBucketResult>"
        );
        answer("200 OK", "", &body)
    };
    let more = "<IsTruncated>true</IsTruncated>\
                <NextContinuationToken>Ab+/c==</NextContinuationToken>";
    let (endpoint, heads) = server(vec![
        page("in/ü (1).txt", more),
        page("in/b.txt", "<IsTruncated>false</IsTruncated>"),
    ])?;
    let entries: Vec<_> = stores(endpoint)?
        .list(&ObjectUri::parse("oss://docs/in/")?)
        .try_collect()
        .await?;
    assert_eq!(entries.len(), 2, "{entries:?}");
    assert_signed(&heads.recv()?, "/docs/", "list-type=2&prefix=in%2F")?;
    assert_signed(
        &heads.recv()?,
        "/docs/",
        "continuation-token=Ab%2B%2Fc%3D%3D&list-type=2&prefix=in%2F",
    )
}

#[tokio::test]
async fn an_anonymous_read_is_not_signed_and_needs_no_region() -> Result<()> {
    let (endpoint, heads) = server(vec![answer("200 OK", "", "text")])?;
    let stores = ObjectStores::new(&config(OssConfig {
        endpoint: Some(endpoint),
        anonymous: true,
        ..Default::default()
    }))?;
    let uri = ObjectUri::parse("oss://docs/a.txt")?;
    stores.read(&uri, None, 10).await?;
    let head = heads.recv()?.to_ascii_lowercase();
    assert!(head.starts_with("get /docs/a.txt"), "{head}");
    assert!(!head.contains("authorization"), "{head}");
    assert!(!head.contains("x-oss-"), "{head}");
    Ok(())
}

#[test]
fn an_endpoint_that_names_no_region_needs_one_set() -> Result<()> {
    let with = |endpoint: &str, region: Option<&str>| {
        ObjectStores::new(&config(OssConfig {
            endpoint: Some(endpoint.into()),
            region: region.map(str::to_owned),
            ..Default::default()
        }))
    };
    let accelerated = "https://oss-accelerate.aliyuncs.com";
    let error = with(accelerated, None).unwrap_err().to_string();
    for part in ["oss://docs", accelerated, "`objects.oss.region`"] {
        assert!(error.contains(part), "{error}");
    }
    with(accelerated, Some("cn-hangzhou"))?;
    with("https://oss-cn-hangzhou-internal.aliyuncs.com", None)?;
    Ok(())
}
