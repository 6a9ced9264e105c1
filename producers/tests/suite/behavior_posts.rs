//! `POST /v1/events`, over real HTTP.

use anyhow::{Context, Result};
use millrace_kafka::topics;
use millrace_objects::Secret;
use millrace_producers::Publisher;
use millrace_producers::behavior::collector::{Collector, CollectorConfig, EventsAnswer};
use millrace_producers::behavior::{BehaviorConfig, RowReader};
use millrace_schemas::{BehaviorEvent, BehaviorKind, decode};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::fixture::{self, Kafka, gzip, now_ms, post, publisher_without_brokers};

async fn serve(collector: &Collector) -> Result<String> {
    let routes = collector.routes();
    Ok(fixture::serve(routes).await? + "/v1/events")
}

fn collector(publisher: Publisher, config: CollectorConfig) -> Result<Collector> {
    let reader = RowReader::new(&BehaviorConfig {
        item_uri: Some("s3://films/{item}".into()),
        ..BehaviorConfig::default()
    })?;
    Ok(Collector::new(publisher, reader, None, config))
}

fn click(user: &str, item: &str) -> Value {
    json!({"user_id": user, "item": item, "kind": "click", "event_time_ms": now_ms()})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_counts_what_stands_on_the_topics() -> Result<()> {
    let kafka = Kafka::start().await?;
    let collector = collector(kafka.publisher()?, CollectorConfig::default())?;
    let url = serve(&collector).await?;
    let ranking = json!({"event": "ranking", "id": "r1", "timestamp": now_ms().to_string(), "user": "u1",
        "items": [{"id": "a"}, {"id": "b"}]});
    let metadata = json!({"event": "item", "id": "m1", "timestamp": "1", "item": "a"});
    let broken = json!({"user_id": "u1", "item": "a", "kind": "glance", "event_time_ms": now_ms()});
    let body = json!([click("u1", "a"), broken, ranking, metadata, 7]);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let answer = post(&url, body.to_string(), &[("traceparent", trace)]).await?;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let answer: EventsAnswer = answer.json().await?;
    assert_eq!(
        (answer.accepted, answer.passed_over, answer.rejected),
        (3, 1, 2),
        "{answer:?}"
    );
    let errors: Vec<_> = answer
        .errors
        .iter()
        .map(|e| (e.index, e.error_type.as_str()))
        .collect();
    assert_eq!(errors, [(1, "unknown_kind"), (4, "malformed_row")]);
    assert!(answer.errors[0].message.contains("glance"), "{answer:?}");

    let events = kafka.behavior().await?;
    let told: Vec<_> = events
        .iter()
        .map(|e| (e.kind, e.item.as_str(), e.position))
        .collect();
    let expected = [
        (BehaviorKind::Click, "a", None),
        (BehaviorKind::Expose, "a", Some(1)),
        (BehaviorKind::Expose, "b", Some(2)),
    ];
    assert_eq!(told, expected, "one user's events, in the order they came");
    let records = kafka.records(topics::BEHAVIOR).await?;
    let event = records[0].event().context("CloudEvents headers")?;
    assert_eq!(event.type_, "millrace.behavior.click");
    assert_eq!(event.traceparent.context("a trace")?.to_string(), trace);

    let dead = kafka.records(topics::BEHAVIOR_DLQ).await?;
    let header = |at: usize, name: &str| {
        String::from_utf8_lossy(dead[at].header(name).unwrap_or_default()).into_owned()
    };
    assert_eq!(dead.len(), 2);
    assert_eq!(
        dead[0].value.as_deref(),
        Some(broken.to_string().as_bytes())
    );
    assert_eq!(
        (
            header(0, "dlq.error.type"),
            header(0, "dlq.row"),
            header(0, "__connect.errors.stage")
        ),
        ("unknown_kind".into(), "1".into(), "behavior".into())
    );
    assert_eq!(dead[1].value.as_deref(), Some(&b"7"[..]));

    let stats = collector.stats();
    let of = |counts: &[(&'static str, u64)], name| {
        counts
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, count)| *count)
    };
    assert_eq!(of(&stats.events, "expose"), Some(2));
    assert_eq!(of(&stats.rejected, "malformed_row"), Some(1));
    assert_eq!((stats.passed_over, stats.in_flight_bytes), (1, 0));
    assert!(stats.answers.contains(&(202, 1)), "{stats:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_lines_and_an_array_are_bodies() -> Result<()> {
    let kafka = Kafka::start().await?;
    let url = serve(&collector(kafka.publisher()?, CollectorConfig::default())?).await?;
    let pretty = serde_json::to_string_pretty(&click("u", "a"))?;
    let lines = format!("{}\r\n\n{}\nhello\n", click("u", "b"), click("u", "c"));
    for (body, accepted, rejected) in [
        (pretty.into_bytes(), 1, 0),
        (lines.into_bytes(), 2, 1),
        (b" [] ".to_vec(), 0, 0),
    ] {
        let answer = post(&url, gzip(&body)?, &[("content-encoding", "gzip")]).await?;
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        let answer: EventsAnswer = answer.json().await?;
        assert_eq!((answer.accepted, answer.rejected), (accepted, rejected));
    }
    let items: Vec<String> = kafka
        .behavior()
        .await?
        .into_iter()
        .map(|e| e.item)
        .collect();
    assert_eq!(items, ["a", "b", "c"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_an_event_is_400_and_kept() -> Result<()> {
    let kafka = Kafka::start().await?;
    let url = serve(&collector(kafka.publisher()?, CollectorConfig::default())?).await?;
    for (body, error_type, row_error) in [
        ("hello", "no_valid_event", Some("malformed_json")),
        ("[{\"kind\":", "no_valid_event", Some("malformed_json")),
        ("\u{0}\u{1}", "no_valid_event", Some("malformed_json")),
        ("{}", "no_valid_event", Some("unknown_dialect")),
        ("", "empty_body", None),
        (" \n ", "empty_body", None),
    ] {
        let answer = post(&url, body, &[]).await?;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{body:?}");
        let problem: Value = answer.json().await?;
        assert_eq!(problem["error_type"], error_type, "{body:?}");
        assert!(problem["message"].is_string());
        assert_eq!(
            problem["errors"][0]["error_type"].as_str(),
            row_error,
            "{problem}"
        );
    }
    let dead = kafka.records(topics::BEHAVIOR_DLQ).await?;
    let kept: Vec<_> = dead.iter().filter_map(|d| d.value.as_deref()).collect();
    assert_eq!(kept, [&b"hello"[..], b"[{\"kind\":", b"\x00\x01", b"{}"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_bounded_before_and_after_unpacking() -> Result<()> {
    let kafka = Kafka::start().await?;
    let config = CollectorConfig {
        max_body_bytes: 4_000,
        max_unpacked_bytes: 20_000,
        max_events: 10,
        ..CollectorConfig::default()
    };
    let url = serve(&collector(kafka.publisher()?, config)?).await?;
    let packed = [("content-encoding", "gzip")];
    let spaces = |n: usize| format!("{}{}", " ".repeat(n), click("u", "a"));
    for (body, headers, status) in [
        (spaces(1).into_bytes(), &[][..], 202),
        (spaces(5_000).into_bytes(), &[], 413),
        (gzip(spaces(10_000).as_bytes())?, &packed, 202),
        (gzip(spaces(5 << 20).as_bytes())?, &packed, 413),
        (spaces(1).into_bytes(), &packed, 400),
        (spaces(1).into_bytes(), &[("content-encoding", "br")], 415),
        (
            json!(vec![click("u", "a"); 11]).to_string().into_bytes(),
            &[],
            413,
        ),
        (b"x\n".repeat(1_000), &[], 413),
    ] {
        let answer = post(&url, body, headers).await?;
        assert_eq!(answer.status().as_u16(), status);
        if status != 202 {
            let problem: Value = answer.json().await?;
            assert!(problem["error_type"].is_string() && problem["message"].is_string());
        }
    }
    assert_eq!(kafka.behavior().await?.len(), 2);
    assert!(kafka.records(topics::BEHAVIOR_DLQ).await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_where_one_is_set() -> Result<()> {
    let kafka = Kafka::start().await?;
    let reader = RowReader::new(&BehaviorConfig::default())?;
    let token = Some(Secret::new("right"));
    let collector = Collector::new(
        kafka.publisher()?,
        reader,
        token,
        CollectorConfig::default(),
    );
    let url = serve(&collector).await?;
    let body = || click("u", "s3://films/a").to_string();
    for wrong in ["", "Bearer wrong", "Basic right"] {
        let answer = post(&url, body(), &[("authorization", wrong)]).await?;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{wrong}");
        assert!(answer.headers().contains_key("www-authenticate"));
    }
    assert!(kafka.records(topics::BEHAVIOR).await?.is_empty());
    let answer = post(&url, body(), &[("authorization", "bearer right")]).await?;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_away_are_503_and_a_full_house_is_429() -> Result<()> {
    let config = CollectorConfig {
        acknowledgement_timeout_ms: 500,
        ..CollectorConfig::default()
    };
    let url = serve(&collector(publisher_without_brokers()?, config)?).await?;
    let answer = post(&url, click("u", "a").to_string(), &[]).await?;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers().contains_key("retry-after"));
    let problem: Value = answer.json().await?;
    assert_eq!(problem["error_type"], "brokers_unavailable");

    // One request waits for the brokers, and leaves no room for another like it.
    let config = CollectorConfig {
        acknowledgement_timeout_ms: 600_000,
        max_body_bytes: 8 << 10,
        max_unpacked_bytes: 8 << 10,
        max_in_flight_bytes: 8 << 10,
        ..CollectorConfig::default()
    };
    let collector = collector(publisher_without_brokers()?, config)?;
    let url = serve(&collector).await?;
    let large = format!("{}{}", " ".repeat(5 << 10), click("u", "a"));
    let waiting = tokio::spawn({
        let (url, large) = (url.clone(), large.clone());
        async move { post(&url, large, &[]).await.map(drop) }
    });
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    while collector.stats().in_flight_bytes == 0 {
        anyhow::ensure!(tokio::time::Instant::now() < deadline, "never taken in");
        tokio::task::yield_now().await;
    }
    let answer = post(&url, large.clone(), &[]).await?;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(answer.headers().contains_key("retry-after"));
    let problem: Value = answer.json().await?;
    assert_eq!(problem["error_type"], "busy");
    // Small as it is sent, too large unpacked.
    let packed = gzip(large.as_bytes())?;
    let answer = post(&url, packed, &[("content-encoding", "gzip")]).await?;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    waiting.abort();
    Ok(())
}

/// What is sent twice has the same ids.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_makes_the_same_events() -> Result<()> {
    let kafka = Kafka::start().await?;
    let url = serve(&collector(kafka.publisher()?, CollectorConfig::default())?).await?;
    let body = json!([click("u", "a"), click("u", "b")]).to_string();
    for _ in 0..2 {
        assert_eq!(
            post(&url, body.clone(), &[]).await?.status(),
            StatusCode::ACCEPTED
        );
    }
    let events: Vec<BehaviorEvent> = kafka.behavior().await?;
    assert_eq!(events.len(), 4);
    assert_eq!(events[..2], events[2..]);
    assert_ne!(events[0].event_id, events[1].event_id);
    let record = &kafka.records(topics::BEHAVIOR).await?[0];
    let first: BehaviorEvent = decode(record.value.as_deref().context("a value")?)?;
    assert_eq!(record.key_text(), Some(first.user_id));
    Ok(())
}
