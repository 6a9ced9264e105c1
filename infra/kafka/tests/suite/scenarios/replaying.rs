//! Topics that are read once more, copied, and gone on with.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use millrace_kafka::replay::{Copier, ReplayGroup, ReplayNote, ReplayStart, Wanted, capture};
use millrace_kafka::topics::{BEHAVIOR_UNMATCHED, FEEDBACK};
use millrace_kafka::{Admin, RawRecord, Record, TopicReader};

use crate::cluster::{Cluster, now_ms};

async fn published(cluster: &Cluster, count: i64) -> Result<String> {
    cluster.with_topics().await?;
    let (producer, topic) = (
        cluster.producer()?,
        cluster.config.topic(BEHAVIOR_UNMATCHED),
    );
    for n in 0..count {
        let record = RawRecord {
            topic: topic.clone(),
            key: (n % 7 != 0).then(|| format!("key-{n}").into()),
            value: (n % 5 != 0).then(|| Bytes::from_static(b"\x00\xFFvalue")),
            headers: vec![
                ("twice".into(), Some(Bytes::from_static(b"\xFF"))),
                ("absent".into(), None),
                ("twice".into(), Some(Bytes::new())),
            ],
            timestamp_ms: Some(now_ms() - 3_600_123 + n),
            partition_key: None,
        };
        producer.send_raw(record).await?;
    }
    Ok(topic)
}

async fn read(cluster: &Cluster, topic: &str) -> Result<Vec<Record>> {
    let admin = Admin::connect(&cluster.config)?;
    let captured = capture(&admin, topic, &Wanted::default()).await?;
    let spans = captured.spans.iter();
    let ranges = spans.map(|(&partition, span)| (partition, (span.start, span.end)));
    let mut reader = TopicReader::open_ranges(&cluster.config, topic, &ranges.collect())?;
    let mut records = Vec::new();
    while let Some(batch) = reader.next_batch(16).await {
        records.extend(batch?);
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    Ok(records)
}

/// Also without a key, and where there is neither value nor header value.
pub async fn a_copy_has_every_byte_and_its_partition(cluster: &Cluster) -> Result<()> {
    let topic = published(cluster, 40).await?;
    let target = cluster.config.topic(FEEDBACK);
    let originals = read(cluster, &topic).await?;
    ensure!(originals.len() == 40);
    let copier = Copier::open(&cluster.config, cluster.producer()?, &topic, &target).await?;
    ensure!(copier.keeps_partitions());
    let copied = copier.copy(&originals).await?;
    ensure!(
        copied.written.len() == 40 && copied.refused.is_empty(),
        "{copied:?}"
    );
    let copies = read(cluster, &target).await?;
    ensure!(copies.len() == 40);
    for (original, copy) in originals.iter().zip(&copies) {
        let same_place = Record {
            topic: original.topic.clone(),
            offset: original.offset,
            ..copy.clone()
        };
        ensure!(same_place == *original, "{original:?}\n{copy:?}");
    }
    Ok(())
}

/// What is wanted is captured once, and kept with how far it is until it is forgotten.
pub async fn a_replay_is_found_where_it_was(cluster: &Cluster) -> Result<()> {
    let topic = published(cluster, 30).await?;
    let admin = Admin::connect(&cluster.config)?;
    let wanted = Wanted {
        from: ReplayStart::Time(now_ms() - 7_200_000),
        ..Wanted::default()
    };
    let mut captured = capture(&admin, &topic, &wanted).await?;
    let total: u64 = captured
        .spans
        .values()
        .map(millrace_kafka::replay::Span::total)
        .sum();
    ensure!(total == 30 && captured.gone.is_empty(), "{captured:?}");
    let nothing = Wanted {
        from: ReplayStart::Time(now_ms()),
        ..Wanted::default()
    };
    let none = capture(&admin, &topic, &nothing).await?;
    ensure!(
        none.spans.values().all(|span| span.total() == 0),
        "{none:?}"
    );

    let group = ReplayGroup::new(&cluster.config, &topic, "backfill")?;
    ensure!(group.load().await?.is_none());
    let mut note = ReplayNote {
        arguments: BTreeMap::from([("topic".to_owned(), topic.clone())]),
        ..ReplayNote::default()
    };
    group.save(&note, &captured.spans).await?;
    let span = captured.spans.values_mut().find(|span| span.total() > 1);
    span.context("a partition with records")?.next += 1;
    note.records = 1;
    note.file_bytes = Some(17);
    group.save(&note, &captured.spans).await?;
    let again = ReplayGroup::new(&cluster.config, &topic, "backfill")?;
    let found = again.load().await?.context("it was committed")?;
    ensure!(found == (note.clone(), captured.spans), "{found:?}");
    // Asked for with another topic it is found too, and its arguments tell.
    let target = cluster.config.topic(FEEDBACK);
    let other = ReplayGroup::new(&cluster.config, &target, "backfill")?;
    let (of_other, _) = other.load().await?.context("the name is taken")?;
    ensure!(of_other == note);
    ensure!(again.forget().await? && !again.forget().await?);
    ensure!(again.load().await?.is_none());
    Ok(())
}
