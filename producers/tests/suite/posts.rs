//! `POST /v1/notices`.

use std::sync::Arc;

use anyhow::Result;
use millrace_kafka::topics;
use millrace_objects::Secret;
use millrace_producers::Publisher;
use millrace_producers::http::{NoticesAnswer, NoticesConfig, router};
use millrace_schemas::DocumentEvent;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::fixture::{self, Kafka, gzip, post, publisher_without_brokers, stores};

async fn serve(publisher: Publisher, config: NoticesConfig) -> Result<String> {
    let root = tempfile::tempdir()?;
    let routes = router(publisher, stores(root.path())?, config, Arc::default());
    Ok(fixture::serve(routes).await? + "/v1/notices")
}

fn record(event: &str, bucket: &str, key: &str) -> Value {
    json!({"eventVersion": "2.1", "eventSource": "aws:s3", "eventTime": "2024-05-01T10:00:00.123Z", "eventName": event,
        "s3": {"bucket": {"name": bucket}, "object": {"key": key, "size": 5, "eTag": "e1"}}})
}

fn records(records: &[Value]) -> String {
    json!({ "Records": records }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_counts_what_stands_on_the_topics() -> Result<()> {
    let kafka = Kafka::start().await?;
    let url = serve(kafka.publisher()?, NoticesConfig::default()).await?;
    let body = records(&[
        record("ObjectCreated:Put", "docs", "a+b.txt"),
        record("ObjectRemoved:Delete", "docs", "old.txt"),
        record("ObjectCreated:Put", "elsewhere", "secret.txt"),
        record("ObjectAcl:Put", "docs", "a.txt"),
        record("ObjectCreated:Put", "docs", "folder/"),
    ]);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let answer = post(&url, body, &[("traceparent", trace)]).await?;
    assert_eq!(answer.status(), StatusCode::OK);
    let answer: NoticesAnswer = answer.json().await?;
    assert_eq!(
        (
            answer.accepted,
            answer.ignored,
            answer.malformed,
            answer.not_allowed
        ),
        (2, 1, 1, 1),
        "{answer:?}"
    );
    let errors: Vec<_> = answer
        .errors
        .iter()
        .map(|e| (e.index, e.error_type.as_str()))
        .collect();
    assert_eq!(errors, [(2, "not_allowed"), (3, "unknown_event_type")]);

    let mut notices = kafka.notices().await?;
    notices.sort_by(|a, b| a.uri.cmp(&b.uri));
    let told: Vec<_> = notices.iter().map(|n| (n.uri.as_str(), n.event)).collect();
    assert_eq!(
        told,
        [
            ("s3://docs/a%20b.txt", DocumentEvent::Created),
            ("s3://docs/old.txt", DocumentEvent::Removed)
        ]
    );
    let event = kafka.records(topics::DOCUMENTS).await?[0].event().unwrap();
    assert_eq!(event.traceparent.unwrap().to_string(), trace);

    let dead = kafka.records(topics::DOCUMENTS_DLQ).await?;
    let types: Vec<_> = dead
        .iter()
        .map(|d| String::from_utf8_lossy(d.header("dlq.error.type").unwrap()))
        .collect();
    assert_eq!(types, ["not_allowed", "unknown_event_type"]);
    assert_eq!(
        dead[1].header("__connect.errors.stage"),
        Some(&b"notice"[..])
    );
    let raw: Value = serde_json::from_slice(dead[1].value.as_ref().unwrap())?;
    assert_eq!(raw, record("ObjectAcl:Put", "docs", "a.txt"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_no_known_shape_is_refused_and_dead_lettered() -> Result<()> {
    let kafka = Kafka::start().await?;
    let url = serve(kafka.publisher()?, NoticesConfig::default()).await?;
    let answer = post(&url, "hello", &[]).await?;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let problem: Value = answer.json().await?;
    assert_eq!(problem["error_type"], "unknown_notice");
    let dead = kafka.records(topics::DOCUMENTS_DLQ).await?;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].value.as_deref(), Some(&b"hello"[..]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_away_are_503_with_retry_after() -> Result<()> {
    let config = NoticesConfig {
        acknowledgement_timeout_ms: 1000,
        ..NoticesConfig::default()
    };
    let url = serve(publisher_without_brokers()?, config).await?;
    for body in [
        records(&[record("ObjectCreated:Put", "docs", "a.txt")]),
        "hello".to_owned(),
    ] {
        let answer = post(&url, body, &[]).await?;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.headers().contains_key("retry-after"));
        let problem: Value = answer.json().await?;
        assert_eq!(problem["error_type"], "brokers_unavailable");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_where_one_is_set() -> Result<()> {
    let kafka = Kafka::start().await?;
    let config = NoticesConfig {
        bearer_token: Some(Secret::new("right")),
        ..NoticesConfig::default()
    };
    let url = serve(kafka.publisher()?, config).await?;
    let body = || records(&[record("ObjectCreated:Put", "docs", "a.txt")]);
    for wrong in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Bearer right ight",
        "Basic right",
        "right",
    ] {
        let answer = post(&url, body(), &[("authorization", wrong)]).await?;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{wrong}");
        assert!(answer.headers().contains_key("www-authenticate"));
    }
    assert!(kafka.records(topics::DOCUMENTS).await?.is_empty());
    let answer = post(&url, body(), &[("authorization", "bearer right")]).await?;
    assert_eq!(answer.status(), StatusCode::OK);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_bounded_before_and_after_decompression() -> Result<()> {
    let kafka = Kafka::start().await?;
    let config = NoticesConfig {
        max_body_bytes: 10_000,
        ..NoticesConfig::default()
    };
    let url = serve(kafka.publisher()?, config).await?;
    let good = records(&[record("ObjectCreated:Put", "docs", "a.txt")]);
    let bomb = format!("{}{}", " ".repeat(5 << 20), good);
    let encoding = [("content-encoding", "gzip")];
    assert_eq!(
        post(&url, gzip(good.as_bytes())?, &encoding)
            .await?
            .status(),
        StatusCode::OK
    );
    assert_eq!(
        post(&url, gzip(bomb.as_bytes())?, &encoding)
            .await?
            .status(),
        StatusCode::PAYLOAD_TOO_LARGE
    );
    assert_eq!(
        post(&url, bomb, &[]).await?.status(),
        StatusCode::PAYLOAD_TOO_LARGE
    );
    assert_eq!(
        post(&url, good.clone(), &encoding).await?.status(),
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        post(&url, good, &[("content-encoding", "br")])
            .await?
            .status(),
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    );
    assert_eq!(kafka.notices().await?.len(), 1);
    Ok(())
}
