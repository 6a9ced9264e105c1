//! What a store's answers become. The answers are scripted, to have those that a healthy server
//! does not give; the requests and their reading are OpenDAL's own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context, Result};
use futures::StreamExt;
use millrace_objects::{
    ListError, Object, ObjectStores, ObjectStoresConfig, ObjectUri, OssConfig, ReadError, S3Config,
    Secret,
};

/// Answers each request with the next of `answers`; the requests' heads come through the channel.
pub(crate) fn server(answers: Vec<String>) -> Result<(String, Receiver<String>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let (heads, received) = channel();
    std::thread::spawn(move || -> Result<()> {
        for answer in answers {
            let (mut stream, _) = listener.accept()?;
            let mut reader = BufReader::new(stream.try_clone()?);
            let mut head = String::new();
            while reader.read_line(&mut head)? > 2 {}
            heads.send(head)?;
            stream.write_all(answer.as_bytes())?;
            stream.shutdown(std::net::Shutdown::Write)?;
            // Until the client closes, so that no reset overtakes the answer.
            let _ = stream.read_to_end(&mut vec![]);
        }
        Ok(())
    });
    Ok((endpoint, received))
}

pub(crate) fn answer(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}",
        body.len()
    )
}

fn s3(endpoint: String) -> Result<ObjectStores> {
    Ok(ObjectStores::new(&ObjectStoresConfig {
        allowed_buckets: vec!["s3://docs".into()],
        s3: S3Config {
            endpoint: Some(endpoint),
            access_key_id: Some("id".into()),
            secret_access_key: Some(Secret::new("secret")),
            ..Default::default()
        },
        ..Default::default()
    })?)
}

fn oss(endpoint: String) -> Result<ObjectStores> {
    Ok(ObjectStores::new(&ObjectStoresConfig {
        allowed_buckets: vec!["oss://docs".into()],
        oss: OssConfig {
            endpoint: Some(endpoint),
            region: Some("cn-hangzhou".into()),
            addressing_style: Some("path".into()),
            access_key_id: Some("id".into()),
            access_key_secret: Some(Secret::new("secret")),
            ..Default::default()
        },
        ..Default::default()
    })?)
}

fn xml(code: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message><RequestId>r</RequestId><HostId>h</HostId></Error>"
    )
}

async fn read_one(answer: String) -> Result<Result<Object, ReadError>> {
    let (endpoint, _heads) = server(vec![answer])?;
    Ok(s3(endpoint)?
        .read(&ObjectUri::parse("s3://docs/a.txt")?, None, 10)
        .await)
}

/// An answer whose connection breaks after `body`, of which `length` bytes were promised.
fn cut_short(length: usize, body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\netag: \"v1\"\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn a_stream_goes_on_where_it_broke_as_long_as_the_object_is_the_same() -> Result<()> {
    let rest = answer(
        "206 Partial Content",
        "etag: \"v1\"\r\ncontent-range: bytes 5-10/11\r\n",
        " world",
    );
    let changed = answer("412 Precondition Failed", "", &xml("PreconditionFailed"));
    for (second, expected) in [(rest, Some("hello world")), (changed, None)] {
        let (endpoint, heads) = server(vec![cut_short(11, "hello"), second])?;
        let mut stream = s3(endpoint)?
            .stream(&ObjectUri::parse("s3://docs/a.txt")?)
            .await?;
        assert_eq!(stream.meta().size_bytes, 11);
        let mut content = Vec::new();
        let end = loop {
            match stream.next().await {
                Ok(Some(part)) => content.extend_from_slice(&part),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        let first = heads.recv()?.to_ascii_lowercase();
        assert!(!first.contains("range: bytes=5"), "{first}");
        let second = heads.recv()?.to_ascii_lowercase();
        assert!(second.contains("range: bytes=5-"), "{second}");
        assert!(second.contains("if-match: \"v1\""), "{second}");
        match expected {
            Some(expected) => {
                assert!(end.is_none(), "{end:?}");
                assert_eq!(content, expected.as_bytes());
            }
            None => assert!(matches!(end, Some(ReadError::Changed)), "{end:?}"),
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_read_is_one_signed_conditional_request() -> Result<()> {
    for (scheme, signature) in [
        ("s3", "AWS4-HMAC-SHA256"),
        ("oss", "authorization: OSS4-HMAC-SHA256 Credential=id/"),
    ] {
        let body = answer(
            "200 OK",
            "etag: \"ABC-2\"\r\ncontent-type: text/html\r\n",
            "<p>text",
        );
        let (endpoint, heads) = server(vec![body])?;
        let stores = if scheme == "s3" {
            s3(endpoint)?
        } else {
            oss(endpoint)?
        };
        let uri = ObjectUri::parse(&format!("{scheme}://docs/a b/100%25 %23 文.txt"))?;
        let object = stores.read(&uri, Some("ABC-2"), 100).await?;
        assert_eq!(&object.bytes[..], b"<p>text");
        assert_eq!(object.meta.etag.as_deref(), Some("ABC-2"));
        assert_eq!(object.meta.media_type.as_deref(), Some("text/html"));
        let head = heads.recv()?;
        assert!(
            head.starts_with("GET /docs/a%20b/100%25%20%23%20%E6%96%87.txt"),
            "{head}"
        );
        let head = head.to_ascii_lowercase();
        assert!(head.contains("if-match: \"abc-2\""), "{head}");
        assert!(head.contains(&signature.to_ascii_lowercase()), "{head}");
        assert!(!head.contains("accept-encoding: gzip"), "{head}");
    }
    Ok(())
}

#[tokio::test]
async fn answers_become_what_a_caller_acts_upon() -> Result<()> {
    for (status, code, expected) in [
        ("404 Not Found", "NoSuchKey", "object_not_found"),
        ("404 Not Found", "NoSuchBucket", "object_unavailable"),
        (
            "412 Precondition Failed",
            "PreconditionFailed",
            "object_changed",
        ),
        ("403 Forbidden", "AccessDenied", "object_denied"),
        (
            "500 Internal Server Error",
            "InternalError",
            "object_unavailable",
        ),
        ("503 Service Unavailable", "SlowDown", "object_unavailable"),
        ("400 Bad Request", "Strange", "object_unavailable"),
    ] {
        for scheme in ["s3", "oss"] {
            let (endpoint, _heads) = server(vec![answer(status, "", &xml(code))])?;
            let stores = if scheme == "s3" {
                s3(endpoint)?
            } else {
                oss(endpoint)?
            };
            let uri = ObjectUri::parse(&format!("{scheme}://docs/a.txt"))?;
            let error = stores.read(&uri, Some("abc"), 10).await.unwrap_err();
            assert_eq!(
                error.error_type(),
                expected,
                "{scheme} {status} {code}: {error:?}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_unreachable_store_is_unavailable() -> Result<()> {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        format!("http://{}", listener.local_addr()?)
    };
    let error = s3(closed)?
        .read(&ObjectUri::parse("s3://docs/a.txt")?, None, 10)
        .await
        .unwrap_err();
    assert_eq!(error.error_type(), "object_unavailable", "{error:?}");
    Ok(())
}

#[tokio::test]
async fn the_cap_holds_whatever_the_headers_say() -> Result<()> {
    let honest = read_one(answer("200 OK", "", "more than ten bytes")).await?;
    assert!(
        matches!(
            honest,
            Err(ReadError::TooLarge {
                size_bytes: 19,
                limit_bytes: 10
            })
        ),
        "{honest:?}"
    );
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
        8\r\n12345678\r\n8\r\n12345678\r\n0\r\n\r\n";
    // OpenDAL refuses a body without a length, before any of it is taken.
    let silent = read_one(chunked.into()).await?;
    assert!(
        matches!(silent, Err(ReadError::Unavailable { .. })),
        "{silent:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_body_that_ends_early_is_no_object() -> Result<()> {
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\n1234";
    let error = read_one(cut.into()).await?.unwrap_err();
    assert_eq!(error.error_type(), "object_unavailable", "{error:?}");
    Ok(())
}

#[tokio::test]
async fn nothing_is_asked_of_a_bucket_that_is_not_allowed() -> Result<()> {
    let (endpoint, heads) = server(vec![answer("200 OK", "", "x")])?;
    let stores = s3(endpoint)?;
    for uri in ["s3://other/a.txt", "oss://docs/a.txt"] {
        let error = stores
            .read(&ObjectUri::parse(uri)?, None, 10)
            .await
            .unwrap_err();
        assert_eq!(error.error_type(), "object_not_allowed");
        let listed = stores
            .list(&ObjectUri::parse(uri)?)
            .next()
            .await
            .context("an item")?;
        assert!(matches!(
            listed,
            Err(ListError {
                source: ReadError::NotAllowed { .. },
                ..
            })
        ));
    }
    assert!(heads.try_recv().is_err(), "a request was made");
    Ok(())
}

#[tokio::test]
async fn a_missing_object_is_told_from_a_missing_bucket_by_head_too() -> Result<()> {
    let empty =
        "<ListBucketResult><Name>docs</Name><IsTruncated>false</IsTruncated></ListBucketResult>";
    for (listing, expected) in [
        (answer("200 OK", "", empty), "object_not_found"),
        (
            answer("403 Forbidden", "", &xml("AccessDenied")),
            "object_not_found",
        ),
        (
            answer("404 Not Found", "", &xml("NoSuchBucket")),
            "object_unavailable",
        ),
    ] {
        let (endpoint, _heads) = server(vec![answer("404 Not Found", "", ""), listing])?;
        let error = s3(endpoint)?
            .head(&ObjectUri::parse("s3://docs/a.txt")?)
            .await
            .unwrap_err();
        assert_eq!(error.error_type(), expected, "{error:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_listing_skips_folder_markers_and_reports_keys_that_cannot_be_named() -> Result<()> {
    let object = |key: &str| {
        format!(
            "<Contents><Key>{key}</Key><LastModified>2024-05-01T10:00:00.000Z</LastModified><ETag>&quot;e1&quot;</ETag><Size>3</Size></Contents>"
        )
    };
    let page = format!(
        "<ListBucketResult><Name>docs</Name><IsTruncated>false</IsTruncated>{}</ListBucketResult>",
        ["in/", "in/a b.txt", "in//twice.txt", "in/ü.txt"]
            .map(object)
            .concat()
    );
    let (endpoint, heads) = server(vec![answer("200 OK", "", &page)])?;
    let stores = s3(endpoint)?;
    let items: Vec<_> = stores
        .list(&ObjectUri::parse("s3://docs/in/")?)
        .collect()
        .await;
    let names: Vec<String> = items.iter().flatten().map(|e| e.uri.to_string()).collect();
    assert_eq!(
        names,
        ["s3://docs/in/a%20b.txt", "s3://docs/in/%C3%BC.txt"],
        "{items:?}"
    );
    let first = items.iter().flatten().next().context("an entry")?;
    assert_eq!(first.meta.etag.as_deref(), Some("e1"));
    assert_eq!(
        (first.meta.size_bytes, first.meta.last_modified_ms),
        (3, Some(1_714_557_600_000))
    );
    let errors: Vec<_> = items.iter().filter_map(|i| i.as_ref().err()).collect();
    assert!(
        matches!(errors[..], [ListError { source: ReadError::NotAllowed { .. }, name }] if name.contains("in//twice")),
        "{errors:?}"
    );
    assert!(
        heads.recv()?.contains("prefix=in"),
        "the prefix was asked for"
    );
    Ok(())
}

#[test]
fn settings_that_cannot_work_are_refused_at_the_start() {
    let config = ObjectStoresConfig {
        allowed_buckets: vec!["oss://docs".into()],
        ..Default::default()
    };
    let error = ObjectStores::new(&config).unwrap_err();
    assert!(error.to_string().contains("oss://docs"), "{error}");
    let shown = format!("{:?}", Secret::new("hunter2"));
    assert!(!shown.contains("hunter2"), "{shown}");
    let unknown =
        serde_json::from_str::<ObjectStoresConfig>(r#"{"allowed_root": ["/x"]}"#).unwrap_err();
    assert!(unknown.to_string().contains("allowed_root"), "{unknown}");
}
