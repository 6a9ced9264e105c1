//! Dead letters that are published again, or discarded.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use millrace_kafka::topics::{DOCUMENTS, DOCUMENTS_DLQ};
use millrace_kafka::{
    DeadLetterPosition, DeadLetterReason, DeadLetters, LetterScan, RawRecord, ReadFrom, ReadUntil,
    Record, ResolvedLetters, Resolver, ScannedLetter, TopicReader, WorkedOff,
};
use millrace_schemas::Resolution;

use crate::cluster::{Cluster, now_ms};

const WHO: &str = "ada@host";

fn original(cluster: &Cluster, key: &'static str) -> RawRecord {
    RawRecord {
        topic: cluster.config.topic(DOCUMENTS),
        key: Some(Bytes::from_static(key.as_bytes())),
        value: Some(Bytes::from_static(b"\x00\xFFvalue")),
        headers: vec![
            ("twice".into(), Some(Bytes::from_static(b"\xFF"))),
            ("absent".into(), None),
            ("twice".into(), Some(Bytes::new())),
        ],
        // A replay's must not be this one.
        timestamp_ms: Some(now_ms() - 3_600_123),
        partition_key: None,
    }
}

async fn documents(cluster: &Cluster) -> Result<Vec<Record>> {
    let topic = cluster.config.topic(DOCUMENTS);
    let (from, until) = (ReadFrom::Beginning, ReadUntil::PresentEnd);
    let reader = TopicReader::open(&cluster.config, &topic, &from, until).await?;
    let mut records = reader.collect().await?;
    records.sort_by_key(|record| record.timestamp_ms);
    Ok(records)
}

async fn scan(cluster: &Cluster, resolved: &ResolvedLetters) -> Result<Vec<ScannedLetter>> {
    let config = &cluster.config;
    let mut scan = LetterScan::open(config, DOCUMENTS, &ReadFrom::Beginning, resolved).await?;
    let mut letters = Vec::new();
    while let Some(letter) = scan.next().await {
        letters.push(letter?);
    }
    Ok(letters)
}

/// Letters without an answer.
async fn open(cluster: &Cluster) -> Result<Vec<ScannedLetter>> {
    let resolved = ResolvedLetters::read(&cluster.config).await?;
    let mut letters = scan(cluster, &resolved).await?;
    letters.retain(|scanned| scanned.resolved.is_none());
    Ok(letters)
}

/// Dead-letters the newest record of `documents`, twice as after a crash.
async fn fail(cluster: &Cluster) -> Result<Record> {
    let record = documents(cluster).await?.pop().context("a record")?;
    let dead_letters = DeadLetters::new(cluster.producer()?, "test");
    let reason = DeadLetterReason::default();
    for _ in 0..2 {
        dead_letters.publish(&record, "extract", &reason).await?;
    }
    Ok(record)
}

/// A record is replayed and fails, again and again: it stays what it was, and knows of all of it.
pub async fn a_replay_is_the_original_and_carries_its_history(cluster: &Cluster) -> Result<()> {
    cluster.with_topics().await?;
    let producer = cluster.producer()?;
    let resolver = Resolver::new(producer.clone(), WHO);
    producer.send_raw(original(cluster, "a")).await?;
    let first = fail(cluster).await?;
    for count in 1..=3_u32 {
        let letters = open(cluster).await?;
        ensure!(letters.len() == 1, "{letters:?}");
        ensure!(letters[0].letter.history.count == count - 1, "{letters:?}");
        let before_ms = now_ms();
        let replayed = resolver.replay(&letters).await?;
        ensure!(replayed.published == 1 && replayed.refused.is_empty());
        ensure!(open(cluster).await?.is_empty());

        let records = documents(cluster).await?;
        ensure!(records.len() == usize::try_from(count)? + 1, "{records:?}");
        let again = fail(cluster).await?;
        ensure!(again.partition == first.partition && again.key == first.key);
        ensure!(again.value == first.value && again.headers.starts_with(&first.headers));
        ensure!(again.headers.len() == first.headers.len() + 7, "{again:?}");
        // With the original's time the topic's retention might remove it at once.
        ensure!(again.timestamp_ms >= Some(before_ms), "{again:?}");

        let letters = open(cluster).await?;
        let history = &letters.first().context("it failed again")?.letter.history;
        ensure!(history.count == count && history.replayed_at_ms.len() == count as usize);
        ensure!(history.first_origin == Some(first.origin()), "{history:?}");
        ensure!(letters[0].letter.replay_count == count, "{letters:?}");
        ensure!(letters[0].letter.origin == again.origin(), "{letters:?}");
    }
    resolver.discard(&open(cluster).await?).await?;
    ensure!(open(cluster).await?.is_empty());
    let resolved = ResolvedLetters::read(&cluster.config).await?;
    let kinds: Vec<Resolution> = scan(cluster, &resolved)
        .await?
        .into_iter()
        .filter_map(|scanned| Some(scanned.resolved?.resolution))
        .collect();
    ensure!(
        kinds
            .iter()
            .filter(|kind| **kind == Resolution::Replayed)
            .count()
            == 3
    );
    ensure!(kinds.len() == 4, "{kinds:?}");
    Ok(())
}

/// A replay that is killed between publishing and telling: the next one finds what it published.
pub async fn a_replay_that_was_cut_off_is_recovered(cluster: &Cluster) -> Result<()> {
    cluster.with_topics().await?;
    let producer = cluster.producer()?;
    for key in ["a", "b"] {
        producer.send_raw(original(cluster, key)).await?;
        fail(cluster).await?;
    }
    let since_ms = now_ms();
    let letters = open(cluster).await?;
    ensure!(letters.len() == 2, "{letters:?}");
    producer
        .send_raw(letters[0].letter.to_replay(since_ms))
        .await?;

    let resolver = Resolver::new(producer, WHO);
    let mut resolved = ResolvedLetters::read(&cluster.config).await?;
    let recovered = resolver
        .recover(&cluster.config, DOCUMENTS, since_ms, &mut resolved)
        .await?;
    ensure!(recovered == 1);
    for table in [resolved, ResolvedLetters::read(&cluster.config).await?] {
        let scanned = scan(cluster, &table).await?;
        let told = scanned[0].resolved.as_ref().context("it is resolved")?;
        ensure!(told.resolution == Resolution::Replayed && told.who == WHO);
        ensure!(told.published_as.is_some() && scanned[1].resolved.is_none());
    }
    // Once more finds nothing new.
    let mut resolved = ResolvedLetters::read(&cluster.config).await?;
    let recovered = resolver
        .recover(&cluster.config, DOCUMENTS, since_ms, &mut resolved)
        .await?;
    ensure!(recovered == 0);
    Ok(())
}

pub async fn a_position_tells_of_a_replay_that_is_under_way(cluster: &Cluster) -> Result<()> {
    cluster.with_topics().await?;
    let position = DeadLetterPosition::new(&cluster.config, DOCUMENTS)?;
    ensure!(position.committed([0]).await? == WorkedOff::default());
    let running = WorkedOff {
        offsets: [(0, 0)].into(),
        replaying_since_ms: Some(1_700_000_000_123),
    };
    position.commit(&running).await?;
    ensure!(position.committed([0]).await? == running);
    let ended = WorkedOff {
        replaying_since_ms: None,
        ..running
    };
    position.commit(&ended).await?;
    // Another process reads it.
    let position = DeadLetterPosition::new(&cluster.config, DOCUMENTS)?;
    ensure!(position.committed([0]).await? == ended);
    ensure!(position.group().ends_with("dlq-replay.documents"));
    let admin = millrace_kafka::Admin::connect(&cluster.config)?;
    let topic = cluster.config.topic(DOCUMENTS_DLQ);
    let lag = admin.group_lag(position.group(), &[topic]).await?;
    ensure!(lag[0].committed.is_some(), "{lag:?}");
    Ok(())
}
