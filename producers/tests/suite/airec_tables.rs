//! AIRec's tables over HTTP, on an embedded broker.

use anyhow::{Context, Result};
use millrace_kafka::topics;
use millrace_objects::Secret;
use millrace_producers::airec::{AirecConfig, MAX_BODY_BYTES, MAX_ROWS, Tables};
use millrace_producers::behavior::collector::{Collector, CollectorConfig};
use millrace_producers::behavior::{BehaviorConfig, RowReader};
use millrace_schemas::{DocId, DocumentEvent, Layout, User, decode};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::fixture::{Kafka, gzip, now_ms, post, publisher_without_brokers, serve};

fn tables(publisher: millrace_producers::Publisher, config: AirecConfig) -> Result<Tables> {
    let reader = RowReader::new(&BehaviorConfig::default())?;
    let collector = CollectorConfig {
        acknowledgement_timeout_ms: 2_000,
        ..CollectorConfig::default()
    };
    let events = Some(Secret::new("events"));
    let collector = Collector::new(publisher, reader, events, collector);
    Ok(Tables::new(collector, Some(Secret::new("notices")), config))
}

fn path(instance: &str, table: &str) -> String {
    format!("/v2/openapi/instances/{instance}/tables/{table}/actions/bulk")
}

struct Endpoint {
    url: String,
}

impl Endpoint {
    async fn start(kafka: &Kafka) -> Result<(Self, Tables)> {
        let tables = tables(kafka.publisher()?, AirecConfig::default())?;
        let url = serve(tables.routes()).await?;
        Ok((Self { url }, tables))
    }

    async fn push(&self, table: &str, rows: &Value) -> Result<(StatusCode, Value)> {
        let token = match table {
            "behavior" => "Bearer events",
            _ => "Bearer notices",
        };
        let url = format!("{}{}", self.url, path("shop", table));
        let answer = post(&url, rows.to_string(), &[("authorization", token)]).await?;
        Ok((answer.status(), answer.json().await?))
    }
}

fn add(fields: &Value) -> Value {
    json!({"cmd": "add", "fields": fields})
}

#[tokio::test(flavor = "multi_thread")]
async fn items_become_passages_and_go_again() -> Result<()> {
    let kafka = Kafka::start().await?;
    let (endpoint, tables) = Endpoint::start(&kafka).await?;
    let film = json!({
        "item_id": "a/7", "item_type": "article", "title": "The angler", "content": "A man fishes.",
        "pub_time": "1714564800", "category_path": "12_film_drama", "tags": "sea,quiet days",
        "status": 1, "author": "Ann", "features": {"mood": "calm"}, "expire_time": null
    });
    let (status, answer) = endpoint
        .push(
            "item",
            &json!([
                add(&film),
                {"cmd": "update", "fields": {"item_id": "8", "title": "Only a title"}},
                {"cmd": "delete", "fields": {"item_id": "9"}},
            ]),
        )
        .await?;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(
        (&answer["code"], &answer["result"], answer.get("errors")),
        (&json!("SUCCESS"), &json!(true), None)
    );
    assert!(
        answer["requestId"]
            .as_str()
            .is_some_and(|id| id.len() == 36)
    );

    let mut notices = kafka.notices().await?;
    notices.sort_by(|a, b| a.uri.cmp(&b.uri));
    let [eight, nine, seven] = &notices[..] else {
        anyhow::bail!("{notices:#?}");
    };
    let eight_uri = "airec://shop/item/8";
    assert_eq!(
        [&seven.uri, &eight.uri, &nine.uri],
        ["airec://shop/item/a%2F7", eight_uri, "airec://shop/item/9"]
    );
    assert_eq!(seven.content.as_deref(), Some(&b"A man fishes."[..]));
    assert_eq!(
        (seven.title.as_deref(), seven.layout, seven.event),
        (Some("The angler"), Layout::Passage, DocumentEvent::Created)
    );
    for (name, text) in [
        ("item_id", "a/7"),
        ("item_type", "article"),
        ("published_at", "2024-05-01T12:00:00Z"),
        ("categories", "12\nfilm\ndrama"),
        ("tags", "sea\nquiet days"),
        ("status", "1"),
        ("author", "Ann"),
        ("features", r#"{"mood":"calm"}"#),
    ] {
        assert_eq!(seven.metadata.get(name).map(String::as_str), Some(text));
    }
    assert!(!seven.metadata.contains_key("expire_time"));
    assert_eq!(eight.content.as_deref(), Some(&b"Only a title"[..]));
    assert_eq!((nine.event, &nine.content), (DocumentEvent::Removed, &None));

    // A click names the same document.
    let click = |item: &str| json!({"item_id": item, "user_id": "u", "bhv_type": "click", "bhv_time": now_ms() / 1000});
    let clicks = json!([add(&click("8")), add(&click(eight_uri))]);
    let (status, answer) = endpoint.push("behavior", &clicks).await?;
    assert_eq!(status, StatusCode::OK, "{answer}");
    for event in kafka.behavior().await? {
        assert_eq!(event.item_id, DocId::from_uri(eight_uri).to_string());
    }
    let stats = tables.stats();
    assert_eq!(stats.accepted, [("user", 0), ("item", 3), ("behavior", 2)]);
    assert!(stats.rejected.iter().all(|(_, count)| *count == 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_kept_by_their_id() -> Result<()> {
    let kafka = Kafka::start().await?;
    let (endpoint, _) = Endpoint::start(&kafka).await?;
    let rows = json!([
        add(&json!({"user_id": "u1", "gender": "female", "age": 31, "city": ""})),
        add(&json!({"user_id": "", "imei": "abc"})),
        {"cmd": "delete", "fields": {"user_id": "u1", "gender": "female"}},
    ]);
    let (status, answer) = endpoint.push("user", &rows).await?;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let records = kafka.records(topics::USERS).await?;
    let mut of_u1 = vec![];
    for record in &records {
        let user: User = decode(record.value.as_deref().context("a value")?)?;
        assert_eq!(record.key_text().as_ref(), Some(&user.user_id));
        if user.user_id == "u1" {
            of_u1.push(user);
        }
    }
    assert_eq!(records.len(), 3);
    let fields: Vec<_> = of_u1[0].fields.iter().collect();
    assert_eq!(
        format!("{fields:?}"),
        r#"[("age", "31"), ("gender", "female")]"#
    );
    assert!(of_u1[1].deleted && of_u1[1].fields.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_row_harms_no_other_and_is_kept() -> Result<()> {
    let kafka = Kafka::start().await?;
    let (endpoint, tables) = Endpoint::start(&kafka).await?;
    let rows = json!([
        add(&json!({"item_id": "1", "title": "good"})),
        add(&json!({"item_id": "2"})),
        {"cmd": "upsert", "fields": {"item_id": "3"}},
        add(&json!({"title": "nobody's"})),
        add(&json!({"item_id": "a\nb", "title": "t"})),
        add(&json!({"item_id": "4", "title": "t".repeat(6 << 10)})),
        add(&json!({"item_id": "5", "a": "t".repeat(5000), "b": "t".repeat(5000), "c": "t".repeat(500)})),
        7,
        {"cmd": "add"},
        add(&json!({"item_id": "6", "title": "t", "pub_time": "soon"})),
    ]);
    let (status, answer) = endpoint.push("item", &rows).await?;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(
        (&answer["code"], &answer["result"]),
        (&json!("PARTIAL_SUCCESS"), &json!(true))
    );
    let errors = answer["errors"].as_array().context("errors")?;
    let told: Vec<_> = errors
        .iter()
        .map(|error| (error["index"].as_u64(), error["error_type"].as_str()))
        .collect();
    let expected = [
        (1, "no_text"),
        (2, "unknown_command"),
        (3, "missing_field"),
        (4, "control_character"),
        (5, "field_too_long"),
        (6, "event_too_large"),
        (7, "malformed_row"),
        (8, "missing_field"),
        (9, "invalid_event_time"),
    ];
    assert_eq!(
        told,
        expected.map(|(index, error)| (Some(index), Some(error)))
    );
    assert_eq!(kafka.notices().await?.len(), 1);
    let dead = kafka.records(topics::DOCUMENTS_DLQ).await?;
    assert_eq!(dead.len(), expected.len());
    assert!(dead.iter().any(|dead| dead.value.as_deref() == Some(b"7")));
    assert_eq!(tables.stats().rejected[1], ("item", 9));

    // None of them usable: an error, and kept all the same.
    for (table, dead_letters) in [
        ("user", topics::USERS_DLQ),
        ("behavior", topics::BEHAVIOR_DLQ),
    ] {
        let rows = json!([{"cmd": "delete", "fields": {"item_id": "3"}}]);
        let (status, answer) = endpoint.push(table, &rows).await?;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        assert_eq!(
            (&answer["code"], &answer["result"]),
            (&json!("InvalidParameter"), &json!(false))
        );
        assert_eq!(kafka.records(dead_letters).await?.len(), 1, "{table}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_refused_whole_beyond_the_limits() -> Result<()> {
    let kafka = Kafka::start().await?;
    let (endpoint, _) = Endpoint::start(&kafka).await?;
    let row = |n: usize| add(&json!({"user_id": n}));
    let rows: Value = (0..=MAX_ROWS).map(row).collect();
    let large = add(&json!({"user_id": "u", "a": "t".repeat(MAX_BODY_BYTES)}));
    for rows in [rows, json!([large])] {
        let (status, answer) = endpoint.push("user", &rows).await?;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{answer}");
        assert_eq!(answer["code"], "RequestTooLarge");
    }
    for body in ["", "{}", "[{", "null"] {
        let url = format!("{}{}", endpoint.url, path("shop", "user"));
        let answer = post(&url, body, &[("authorization", "Bearer notices")]).await?;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(answer.json::<Value>().await?["result"], false);
    }
    let full: Value = (0..MAX_ROWS).map(row).collect();
    let url = format!("{}{}", endpoint.url, path("shop", "user"));
    let headers = [
        ("authorization", "Bearer notices"),
        ("content-encoding", "gzip"),
    ];
    let answer = post(&url, gzip(full.to_string().as_bytes())?, &headers).await?;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(kafka.records(topics::USERS).await?.len(), MAX_ROWS);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_table_asks_for_its_token_and_one_instance_may_be_the_only_one() -> Result<()> {
    let kafka = Kafka::start().await?;
    let config = AirecConfig {
        instance: Some("shop".to_owned()),
    };
    let url = serve(tables(kafka.publisher()?, config)?.routes()).await?;
    for (instance, table, token, status) in [
        ("shop", "item", "events", StatusCode::UNAUTHORIZED),
        ("shop", "user", "events", StatusCode::UNAUTHORIZED),
        ("shop", "behavior", "notices", StatusCode::UNAUTHORIZED),
        ("shop", "films", "notices", StatusCode::NOT_FOUND),
        ("other", "item", "notices", StatusCode::NOT_FOUND),
        ("shop", "user", "notices", StatusCode::OK),
    ] {
        let authorization = format!("Bearer {token}");
        let url = format!("{url}{}", path(instance, table));
        let rows = json!([add(&json!({"user_id": "u"}))]).to_string();
        let answer = post(&url, rows, &[("authorization", &authorization)]).await?;
        assert_eq!(answer.status(), status, "{instance} {table} {token}");
        assert!(answer.json::<Value>().await?["requestId"].is_string());
    }
    assert!(kafka.records(topics::DOCUMENTS).await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_away_are_503() -> Result<()> {
    let url = serve(tables(publisher_without_brokers()?, AirecConfig::default())?.routes()).await?;
    let rows = json!([add(&json!({"item_id": "1", "title": "t"}))]).to_string();
    let url = format!("{url}{}", path("shop", "item"));
    let answer = post(&url, rows, &[("authorization", "Bearer notices")]).await?;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers().contains_key("retry-after"));
    let answer: Value = answer.json().await?;
    assert_eq!(
        (&answer["code"], &answer["result"]),
        (&json!("ServiceUnavailable"), &json!(false))
    );
    Ok(())
}
