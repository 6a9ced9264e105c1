//! Sending.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use bytes::Bytes;
use millrace_kafka::topics::{DOCUMENTS, OUTCOMES, SIGNALS};
use millrace_kafka::{
    HttpSchemaRegistry, ProduceError, Producer, RawRecord, ReadFrom, ReadUntil, TopicReader,
    java_partition,
};
use millrace_schemas::{
    DocumentOutcome, EventHeaders, Origin, OutcomeKind, Signal, decode, decode_with,
};

use crate::cluster::Cluster;
use crate::registry::FakeRegistry;

pub fn event() -> EventHeaders {
    EventHeaders {
        id: "1".into(),
        source: "test".into(),
        type_: "millrace.test".into(),
        time_ms: Some(1_700_000_000_000),
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
            .parse()
            .ok(),
    }
}

fn signal(item_id: &str, model_version: &str) -> Signal {
    Signal {
        item_id: item_id.into(),
        uri: "file:///a".into(),
        document_version: 1,
        model_version: model_version.into(),
        vector: vec![0.5; 384],
        title: None,
        language: None,
        media_type: "text/plain".into(),
        categories: vec![],
        tags: vec![],
        key_phrases: vec![],
        near_duplicate_hash: 0,
        published_at_ms: None,
        deleted: false,
        etag: None,
        size_bytes: None,
        metadata: BTreeMap::new(),
        origin: Origin {
            topic: "t".into(),
            partition: 0,
            offset: 0,
        },
    }
}

pub async fn a_signal_is_partitioned_by_its_item(cluster: &Cluster) -> Result<()> {
    cluster.with_topics().await?;
    let producer = cluster.producer()?;
    for item in ["a", "b", "c", "d"] {
        for model in ["m1", "m2"] {
            let signal = signal(item, model);
            let at = producer
                .send(&signal.key(), Some(item), &signal, &event())
                .await?;
            ensure!(at.partition == java_partition(item.as_bytes(), 6), "{at:?}");
        }
    }
    let topic = cluster.config.topic(SIGNALS);
    let reader = TopicReader::open(
        &cluster.config,
        &topic,
        &ReadFrom::Beginning,
        ReadUntil::PresentEnd,
    );
    let records = reader.await?.collect().await?;
    ensure!(records.len() == 8);
    for record in records {
        let signal: Signal = decode(record.value.as_deref().unwrap())?;
        ensure!(record.key_text() == Some(signal.key()));
        ensure!(signal.vector == vec![0.5; 384]);
    }
    Ok(())
}

/// Where a key alone decides, librdkafka chooses; where we choose, it must be the same.
pub async fn our_partition_is_librdkafkas(cluster: &Cluster) -> Result<()> {
    cluster.with_topics().await?;
    let producer = cluster.producer()?;
    for number in 0..200_u32 {
        let key = "k".repeat(number as usize % 11 + 1) + &number.to_string();
        let record = RawRecord {
            topic: cluster.config.topic(DOCUMENTS),
            key: Some(key.clone().into()),
            value: Some(Bytes::new()),
            ..RawRecord::default()
        };
        let at = producer.send_raw(record).await?;
        ensure!(
            at.partition == java_partition(key.as_bytes(), 6),
            "{key}: {at:?}"
        );
    }
    Ok(())
}

pub async fn a_record_that_is_too_large_is_rejected(cluster: &Cluster) -> Result<()> {
    cluster.with_topics().await?;
    // Random-looking, so that compression does not make it fit.
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    });
    let record = RawRecord {
        topic: cluster.config.topic(OUTCOMES),
        key: Some("k".into()),
        value: Some(noise.take(2 << 20).collect::<Vec<u8>>().into()),
        ..RawRecord::default()
    };
    let error = cluster.producer()?.send_raw(record).await.unwrap_err();
    ensure!(
        matches!(error, ProduceError::Rejected { .. }) && !error.is_retryable(),
        "{error:?}"
    );
    Ok(())
}

fn outcome() -> DocumentOutcome {
    DocumentOutcome {
        uri: "file:///a".into(),
        doc_id: "d".into(),
        outcome: OutcomeKind::Indexed,
        version: 1,
        chunks: 1,
        tokens: 1,
        fetch_ms: 0,
        extract_ms: 0,
        embed_ms: 0,
        index_ms: 0,
        total_ms: 0,
        error_type: None,
        message: None,
        traceparent: None,
        origin: Origin {
            topic: "t".into(),
            partition: 0,
            offset: 0,
        },
        finished_at_ms: 1,
    }
}

pub async fn a_traceparent_travels(cluster: &Cluster) -> Result<()> {
    cluster.with_topics().await?;
    let outcome = outcome();
    cluster
        .producer()?
        .send(&outcome.uri, None, &outcome, &event())
        .await?;
    let topic = cluster.config.topic(OUTCOMES);
    let reader = TopicReader::open(
        &cluster.config,
        &topic,
        &ReadFrom::Beginning,
        ReadUntil::PresentEnd,
    );
    let records = reader.await?.collect().await?;
    ensure!(
        records.len() == 1 && records[0].event() == Some(event()),
        "{records:?}"
    );
    ensure!(decode::<DocumentOutcome>(records[0].value.as_deref().unwrap())? == outcome);
    Ok(())
}

pub async fn a_registry_frames_what_is_sent(cluster: &Cluster) -> Result<()> {
    cluster.with_topics().await?;
    let registry = FakeRegistry::start().await?;
    let mut config = cluster.config.clone();
    config.schema_registry_url = Some(registry.url());
    let producer = Producer::connect(&config)?;
    for _ in 0..2 {
        producer
            .send("file:///a", None, &outcome(), &event())
            .await?;
    }
    ensure!(registry.registrations() == 1, "the id is kept");

    let topic = cluster.config.topic(OUTCOMES);
    let reader = TopicReader::open(
        &cluster.config,
        &topic,
        &ReadFrom::Beginning,
        ReadUntil::PresentEnd,
    );
    let client = HttpSchemaRegistry::new(&registry.url())?;
    for record in reader.await?.collect().await? {
        let value = record.value.as_deref().unwrap();
        ensure!(value[0] == 0, "Confluent's wire format");
        ensure!(decode_with::<DocumentOutcome>(value, Some(&client)).await? == outcome());
    }

    registry.stop().await;
    let producer = Producer::connect(&config)?;
    let error = producer
        .send("file:///a", None, &outcome(), &event())
        .await
        .unwrap_err();
    ensure!(error.is_retryable(), "{error:?}");
    Ok(())
}
