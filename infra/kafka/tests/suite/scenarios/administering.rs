//! Topics, lag, readers.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use millrace_kafka::topics::{self, DOCUMENTS};
use millrace_kafka::{Admin, AdminError, Created, RawRecord, ReadFrom, ReadUntil, TopicReader};

use crate::cluster::{Cluster, PATIENCE, now_ms, numbered, until};

pub async fn declared_topics_are_made_once(cluster: &Cluster) -> Result<()> {
    let admin = Admin::connect(&cluster.config)?;
    let topic = cluster.config.topic(DOCUMENTS);
    ensure!(matches!(
        admin.describe(&topic).await,
        Err(AdminError::UnknownTopic { .. })
    ));
    let first = admin.create_declared().await?;
    ensure!(
        first.iter().all(|report| report.result == Created::Created),
        "{first:?}"
    );
    let mut expected: Vec<String> = topics::declared()
        .iter()
        .map(|spec| cluster.config.topic(&spec.name))
        .collect();
    expected.sort();
    until("the brokers list them", async || {
        Ok(admin.list().await? == expected)
    })
    .await?;
    let second = admin.create_declared().await?;
    ensure!(
        second
            .iter()
            .all(|report| report.result == Created::Existing),
        "{second:?}"
    );

    let described = admin.describe(&topic).await?;
    ensure!(described.partitions.len() == 6, "{described:?}");
    ensure!(described.settings["cleanup.policy"] == "delete");
    ensure!(described.settings["retention.ms"] == "604800000");
    Ok(())
}

pub async fn processes_that_start_together_make_the_topics_once(cluster: &Cluster) -> Result<()> {
    let mut starting = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let admin = Admin::connect(&cluster.config)?;
        starting.spawn(async move { admin.create_declared().await });
    }
    let mut created = 0;
    while let Some(made) = starting.join_next().await {
        for report in made?? {
            match report.result {
                Created::Created => created += 1,
                Created::Existing => {}
                Created::Differs { differences } => {
                    anyhow::bail!("{} differs: {differences:?}", report.topic)
                }
            }
        }
    }
    ensure!(created == topics::declared().len(), "{created} were made");
    Ok(())
}

pub async fn a_reader_stops_at_the_end_it_saw(cluster: &Cluster) -> Result<()> {
    cluster.with_topics().await?;
    let topic = cluster.config.topic(DOCUMENTS);
    let empty = TopicReader::open(
        &cluster.config,
        &topic,
        &ReadFrom::Beginning,
        ReadUntil::PresentEnd,
    )
    .await?;
    ensure!(empty.collect().await?.is_empty());
    cluster.publish(DOCUMENTS, 0..100).await?;
    let reader = TopicReader::open(
        &cluster.config,
        &topic,
        &ReadFrom::Beginning,
        ReadUntil::PresentEnd,
    )
    .await?;
    cluster.publish(DOCUMENTS, 100..150).await?;
    let read = reader.collect().await?.len();
    ensure!(read == 100, "{read}");
    let missing = TopicReader::open(
        &cluster.config,
        "no-such-topic",
        &ReadFrom::End,
        ReadUntil::Forever,
    )
    .await;
    ensure!(missing.is_err());
    Ok(())
}

pub async fn a_reader_begins_where_it_is_told(cluster: &Cluster) -> Result<()> {
    cluster.with_topics().await?;
    let topic = cluster.config.topic(DOCUMENTS);
    let producer = cluster.producer()?;
    // Recent, or retention might remove them.
    let start_ms = now_ms() - 3_600_000;
    let mut partition = 0;
    for number in 0..10 {
        let record = RawRecord {
            partition_key: Some("one".into()),
            timestamp_ms: Some(start_ms + i64::from(number)),
            ..numbered(topic.clone(), number)
        };
        partition = producer.send_raw(record).await?.partition;
    }
    for (from, expected) in [
        (ReadFrom::Beginning, 0..10),
        (ReadFrom::End, 10..10),
        (ReadFrom::Latest(3), 7..10),
        (ReadFrom::Latest(99), 0..10),
        (ReadFrom::Timestamp(start_ms + 4), 4..10),
        (ReadFrom::Timestamp(start_ms + 1000), 10..10),
        (ReadFrom::Offsets(BTreeMap::from([(partition, 8)])), 8..10),
    ] {
        let reader =
            TopicReader::open(&cluster.config, &topic, &from, ReadUntil::PresentEnd).await?;
        let offsets: Vec<i64> = reader
            .collect()
            .await?
            .iter()
            .map(|record| record.offset)
            .collect();
        ensure!(
            offsets == expected.collect::<Vec<i64>>(),
            "{from:?}: {offsets:?}"
        );
    }
    Ok(())
}

pub async fn a_reader_follows(cluster: &Cluster) -> Result<()> {
    cluster.with_topics().await?;
    cluster.publish(DOCUMENTS, 0..10).await?;
    let topic = cluster.config.topic(DOCUMENTS);
    let mut reader =
        TopicReader::open(&cluster.config, &topic, &ReadFrom::End, ReadUntil::Forever).await?;
    cluster.publish(DOCUMENTS, 10..20).await?;
    let mut seen = Vec::new();
    while seen.len() < 10 {
        let record = tokio::time::timeout(PATIENCE, reader.next())
            .await?
            .context("it ended")??;
        seen.push(u32::from_be_bytes(
            record.value.as_deref().unwrap().try_into()?,
        ));
    }
    seen.sort_unstable();
    ensure!(seen == (10..20).collect::<Vec<u32>>(), "{seen:?}");
    Ok(())
}
