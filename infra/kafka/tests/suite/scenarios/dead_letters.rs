//! Records that cannot be processed.

use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use millrace_kafka::topics::{DOCUMENTS, DOCUMENTS_DLQ};
use millrace_kafka::{
    DeadLetter, DeadLetterReason, DeadLetters, RawRecord, ReadFrom, read_dead_letters,
    summarize_dead_letters,
};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;

use crate::cluster::{Cluster, PATIENCE, next, now_ms, until};

fn reason() -> DeadLetterReason {
    DeadLetterReason {
        error_type: "unknown_fingerprint".into(),
        class: "millrace_schemas::SchemaError".into(),
        message: "é".repeat(400),
        http_status: Some(400),
        attempts: 3,
    }
}

fn original(cluster: &Cluster) -> RawRecord {
    RawRecord {
        topic: cluster.config.topic(DOCUMENTS),
        key: Some(Bytes::from_static(b"\xFF\x00key")),
        value: Some(Bytes::from_static(
            b"\xC3\x01\x01\x02\x03\x04\x05\x06\x07\x08\xFF\x00",
        )),
        headers: vec![
            ("twice".into(), Some(Bytes::from_static(b"1"))),
            ("empty".into(), Some(Bytes::new())),
            ("twice".into(), Some(Bytes::from_static(b"2"))),
            ("absent".into(), None),
        ],
        // Not so old that retention removes it.
        timestamp_ms: Some(now_ms() - 3_600_123),
        partition_key: None,
    }
}

async fn letters(cluster: &Cluster) -> Result<Vec<DeadLetter>> {
    let reader = read_dead_letters(&cluster.config, DOCUMENTS, &ReadFrom::Beginning).await?;
    Ok(reader
        .collect()
        .await?
        .into_iter()
        .map(DeadLetter::from_record)
        .collect())
}

pub async fn a_dead_letter_is_the_original_byte_for_byte(cluster: &Cluster) -> Result<()> {
    let admin = cluster.with_topics().await?;
    let producer = cluster.producer()?;
    producer.send_raw(original(cluster)).await?;
    let tombstone = RawRecord {
        value: None,
        key: None,
        headers: vec![],
        ..original(cluster)
    };
    producer.send_raw(tombstone).await?;

    let dead_letters = DeadLetters::new(producer, "test");
    let mut consumer = cluster.consumer(DOCUMENTS)?;
    let mut originals = Vec::new();
    for _ in 0..2 {
        let delivery = next(&mut consumer).await?;
        dead_letters.publish(&delivery, "decode", &reason()).await?;
        originals.push(delivery.record().clone());
        delivery.ack();
    }
    consumer.shutdown(PATIENCE).await;
    let committed: i64 = cluster.committed(&admin, DOCUMENTS).await?.values().sum();
    ensure!(committed == 2);

    let mut letters = letters(cluster).await?;
    letters.sort_by_key(|letter| letter.origin.clone());
    originals.sort_by_key(millrace_kafka::Record::origin);
    ensure!(letters.len() == 2);
    for (letter, original) in letters.iter().zip(&originals) {
        ensure!(&letter.original == original, "{letter:?}\n{original:?}");
        ensure!(letter.origin == original.origin());
        ensure!((letter.stage.as_str(), letter.pipeline.as_str()) == ("decode", "test"));
        ensure!(letter.error_type == "unknown_fingerprint" && letter.class == reason().class);
        ensure!(letter.message == "é".repeat(256), "cut at 512 bytes");
        ensure!((letter.http_status, letter.attempts, letter.replay_count) == (Some(400), 3, 0));
        ensure!(letter.first_failed_at_ms > original.timestamp_ms);
        let schema_id = original.value.is_some().then_some("0102030405060708");
        ensure!(letter.schema_id.as_deref() == schema_id);
    }
    Ok(())
}

/// Without its topic a dead letter cannot be written: the source's offset stays, and once the topic
/// is there all goes on by itself.
pub async fn an_unwritable_topic_is_waited_for(cluster: &Cluster) -> Result<()> {
    let admin = cluster.with_topics().await?;
    let dead_letter_topic = cluster.config.topic(DOCUMENTS_DLQ);
    let raw: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &cluster.config.bootstrap)
        .create()?;
    raw.delete_topics(&[&dead_letter_topic], &AdminOptions::new())
        .await?;
    until("the topic is gone", async || {
        Ok(!admin.list().await?.contains(&dead_letter_topic))
    })
    .await?;
    cluster.producer()?.send_raw(original(cluster)).await?;

    let mut config = cluster.config.clone();
    for (option, value) in [
        ("message.timeout.ms", "500"),
        ("topic.metadata.propagation.max.ms", "100"),
    ] {
        config
            .librdkafka_options
            .insert(option.to_owned(), value.to_owned());
    }
    let dead_letters = DeadLetters::new(millrace_kafka::Producer::connect(&config)?, "test");
    let mut consumer = cluster.consumer(DOCUMENTS)?;
    let mut publishing = tokio::spawn(async move {
        let delivery = next(&mut consumer).await?;
        dead_letters.publish(&delivery, "decode", &reason()).await?;
        delivery.ack();
        anyhow::Ok(consumer)
    });
    // Several attempts fail in this time; a duration is what is tested here.
    let early = tokio::time::timeout(Duration::from_secs(4), &mut publishing).await;
    ensure!(
        early.is_err(),
        "it gave up: {:?}",
        early.map(|ended| ended.map(|_| ()))
    );
    ensure!(
        cluster.committed(&admin, DOCUMENTS).await?.is_empty(),
        "the offset moved"
    );

    admin.create_declared().await?;
    tokio::time::timeout(PATIENCE, publishing)
        .await???
        .shutdown(PATIENCE)
        .await;
    ensure!(
        cluster
            .committed(&admin, DOCUMENTS)
            .await?
            .values()
            .eq([&1])
    );
    ensure!(letters(cluster).await?.len() == 1);
    Ok(())
}

/// A crash between the dead letter and the acknowledgement writes it again.
pub async fn the_same_failure_is_counted_once(cluster: &Cluster) -> Result<()> {
    cluster.with_topics().await?;
    cluster.publish(DOCUMENTS, 0..3).await?;
    let dead_letters = DeadLetters::new(cluster.producer()?, "test");
    let mut consumer = cluster.consumer(DOCUMENTS)?;
    for number in 0..3 {
        let delivery = next(&mut consumer).await?;
        dead_letters
            .publish(&delivery, "extract", &reason())
            .await?;
        if number == 0 {
            dead_letters
                .publish(&delivery, "extract", &reason())
                .await?;
            dead_letters
                .publish(
                    &delivery,
                    "index",
                    &DeadLetterReason {
                        error_type: "other".into(),
                        ..reason()
                    },
                )
                .await?;
        }
        delivery.ack();
    }
    consumer.shutdown(PATIENCE).await;
    let summary = summarize_dead_letters(&cluster.config, DOCUMENTS).await?;
    ensure!((summary.records, summary.distinct) == (5, 4), "{summary:?}");
    ensure!(summary.by_stage == [("extract".to_owned(), 3), ("index".to_owned(), 1)].into());
    ensure!(
        summary.by_error_type
            == [
                ("other".to_owned(), 1),
                ("unknown_fingerprint".to_owned(), 3)
            ]
            .into()
    );
    ensure!(
        summary.oldest_age_seconds.is_some_and(|age| age < 60),
        "{summary:?}"
    );
    Ok(())
}
