//! Records that mean harm, and records that are too large.

use anyhow::ensure;
use bytes::Bytes;
use millrace_kafka::{DeadLetterReason, DeadLetters, KafkaConfig, Producer, RawRecord, Record};
use serde_json::json;

use super::{LONG, Visitor, kafka, publish};
use crate::harness::{Pipeline, Target, eventually};

const SCRIPT: &str = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>";

/// Nothing of it may stand in a page as it was sent.
fn is_harmless(page: &str) -> anyhow::Result<()> {
    for raw in [
        "<script>alert",
        "<img src=x",
        "</script>\"",
        "\u{1b}",
        "\u{202e}",
    ] {
        ensure!(!page.contains(raw), "{raw:?} in {page}");
    }
    Ok(())
}

#[test]
fn what_records_hold_is_shown_and_does_nothing() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let line = json!({
        "_id": "tides",
        "title": format!("Tides {SCRIPT}"),
        "text": format!("The moon pulls at the sea {SCRIPT}."),
    });
    let corpus = pipeline.write("notes.jsonl", line.to_string() + "\n")?;
    let up = pipeline.up(&[])?;
    pipeline.ingest(&corpus)?;
    let kafka = kafka(&up);
    let hostile = format!("{SCRIPT}\u{1b}[2J\u{202e}");
    let header = (hostile.clone(), Some(Bytes::from(hostile.clone())));
    let record = RawRecord {
        topic: kafka.topic("users"),
        key: Some(Bytes::from(hostile.clone())),
        value: Some(Bytes::from(hostile.clone())),
        headers: vec![header.clone()],
        ..RawRecord::default()
    };
    let (partition, offset) = publish(&kafka, vec![record])?[0];
    dead_letter(&kafka, &hostile, header)?;

    let visitor = Visitor::new(&pipeline, &up, "anybody");
    let users = kafka.topic("users");
    for path in [
        format!("/console/topics/{users}"),
        format!("/console/topics/{users}/{partition}/{offset}"),
        format!("/console/topics/{users}?key=%3Cscript%3Ealert&text=%22%3E%3Cimg+src%3Dx"),
        "/console/dead-letters?key=%22%3E%3Cscript%3Ealert(1)%3C/script%3E".to_owned(),
        "/console/dead-letters".to_owned(),
        "/console/dead-letters/order?act=replay".to_owned(),
        "/console/groups/reset?group=%22%3E%3Cscript%3Ealert(1)%3C/script%3E".to_owned(),
        "/console/recommendations?user=%22%3E%3Cscript%3Ealert(1)%3C/script%3E".to_owned(),
    ] {
        let page = visitor.get(&path)?.ok()?;
        is_harmless(&page.body)?;
        page.has("alert")?;
    }
    for path in [
        "/console/topics/%3Cscript%3Ealert(1)%3C%2Fscript%3E",
        "/console/dead-letters?topic=%3Cscript%3Ealert(1)%3C/script%3E",
        "/console/topics/users?from=%3Cscript%3Ealert(1)%3C/script%3E",
        "/console/groups/reset?to=latest&group=%3Cscript%3Ealert(1)%3C/script%3E",
        "/console/login?to=%22%3E%3Cscript%3Ealert(1)%3C/script%3E",
    ] {
        is_harmless(&visitor.get(path)?.body)?;
    }
    eventually("the document is found", LONG, || {
        let page = visitor
            .get("/console/search?q=what+pulls+at+the+sea")?
            .ok()?;
        is_harmless(&page.body)?;
        Ok(page.body.contains("Tides &lt;").then_some(()))
    })?;
    let value = visitor
        .get(&format!(
            "/console/topics/{users}/{partition}/{offset}/value"
        ))?
        .ok()?;
    ensure!(value.header("content-type") == "application/octet-stream");
    ensure!(
        value
            .header("content-disposition")
            .starts_with("attachment")
    );
    ensure!(value.body == hostile, "byte for byte");
    up.leave()
}

fn dead_letter(
    kafka: &KafkaConfig,
    hostile: &str,
    header: (String, Option<Bytes>),
) -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let dead_letters = DeadLetters::new(Producer::connect(kafka)?, hostile);
        let reason = DeadLetterReason {
            error_type: hostile.to_owned(),
            message: hostile.to_owned(),
            ..DeadLetterReason::default()
        };
        let record = Record {
            topic: kafka.topic("documents"),
            partition: 0,
            offset: 0,
            timestamp_ms: Some(jiff::Timestamp::now().as_millisecond()),
            key: Some(Bytes::from(hostile.to_owned())),
            value: Some(Bytes::from(hostile.to_owned())),
            headers: vec![header],
        };
        dead_letters.publish(&record, hostile, &reason).await?;
        Ok(())
    })
}

#[test]
fn a_record_of_ten_megabytes_is_shown_by_its_beginning() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let up = pipeline.up(&[])?;
    let mut kafka = kafka(&up);
    // The topic's limit is one of a batch as it is sent, compressed.
    let limit = ("message.max.bytes".to_owned(), "20000000".to_owned());
    kafka.librdkafka_options.extend([limit]);
    let value = "z".repeat(10 << 20);
    let record = RawRecord {
        topic: kafka.topic("users"),
        key: Some(Bytes::from_static(b"large")),
        value: Some(Bytes::from(value)),
        ..RawRecord::default()
    };
    let (partition, offset) = publish(&kafka, vec![record])?[0];
    let visitor = Visitor::new(&pipeline, &up, "anybody");
    let list = visitor.get("/console/topics/users")?.ok()?;
    ensure!(list.body.len() < 100_000, "{} bytes", list.body.len());
    list.has("10.00 MiB")?;
    let page = visitor
        .get(&format!("/console/topics/users/{partition}/{offset}"))?
        .ok()?;
    ensure!(page.body.len() < 100_000, "{} bytes", page.body.len());
    page.has("the first 64.00 KiB")?;
    page.has("Download")?;
    let whole = visitor
        .get(&format!("/console/topics/users/{partition}/{offset}/value"))?
        .ok()?;
    ensure!(whole.body.len() == 10 << 20, "{} bytes", whole.body.len());
    // A form of that size is not even read.
    let form = pipeline.write(
        "form",
        format!("csrf={}&value={}", visitor.csrf()?, "z".repeat(10 << 20)),
    )?;
    let origin = format!("origin: {}", up.api());
    let body = format!("@{}", form.display());
    let refused = visitor.send(
        "/console/topics/users/produce",
        &["-H", &origin, "-d", &body],
    )?;
    ensure!(refused.status == 413, "{}", refused.body);
    up.leave()
}
