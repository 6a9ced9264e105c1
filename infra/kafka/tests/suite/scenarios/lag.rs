//! How far groups are behind.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use millrace_kafka::topics::DOCUMENTS;
use millrace_kafka::{Admin, RawRecord, TopicPartition};

use crate::cluster::{Cluster, PATIENCE, next, now_ms, numbered};

pub async fn lag_is_told_in_records_and_seconds(cluster: &Cluster) -> Result<()> {
    let admin = cluster.with_topics().await?;
    let topic = cluster.config.topic(DOCUMENTS);
    ten_records(cluster).await?;
    let before = admin
        .group_lag(&cluster.group(), std::slice::from_ref(&topic))
        .await?;
    ensure!(
        before.len() == 6 && before.iter().map(|lag| lag.lag).sum::<i64>() == 10,
        "{before:?}"
    );
    ensure!(before.iter().all(|lag| lag.committed.is_none()));
    ensure!(
        admin.group_lag(&cluster.group(), &[]).await?.is_empty(),
        "nothing is committed yet"
    );

    let mut consumer = cluster.consumer(DOCUMENTS)?;
    for _ in 0..4 {
        next(&mut consumer).await?.ack();
    }
    consumer.shutdown(PATIENCE).await;
    let mut after = admin.group_lag(&cluster.group(), &[]).await?;
    ensure!(
        after.iter().all(|lag| lag.lag_seconds.is_none()),
        "not asked for"
    );
    admin.read_ages(&mut after).await?;
    ensure!(after.len() == 1, "{after:?}");
    let lag = &after[0];
    ensure!((lag.current, lag.end, lag.lag) == (4, 10, 6), "{lag:?}");
    // The fifth record is 56 s old.
    ensure!(
        lag.lag_seconds
            .is_some_and(|age| (56.0..70.0).contains(&age)),
        "{lag:?}"
    );

    let mut consumer = cluster.consumer(DOCUMENTS)?;
    for _ in 0..6 {
        next(&mut consumer).await?.ack();
    }
    consumer.shutdown(PATIENCE).await;
    let done = admin.group_lag(&cluster.group(), &[]).await?;
    ensure!(
        done.iter()
            .all(|lag| lag.lag == 0 && lag.lag_seconds == Some(0.0)),
        "{done:?}"
    );
    Ok(())
}

/// Ten records in one partition, a second apart, the first one a minute old. Says which partition.
async fn ten_records(cluster: &Cluster) -> Result<i32> {
    let producer = cluster.producer()?;
    let topic = cluster.config.topic(DOCUMENTS);
    let minute_ago = now_ms() - 60_000;
    for number in 0..10 {
        let record = RawRecord {
            partition_key: Some("one".into()),
            timestamp_ms: Some(minute_ago + i64::from(number) * 1000),
            ..numbered(topic.clone(), number)
        };
        producer.send_raw(record).await?;
    }
    let ends = Admin::connect(&cluster.config)?.end_offsets(&topic).await?;
    let filled = ends.into_iter().find(|(_, end)| *end == 10);
    Ok(filled.context("a partition of ten records")?.0)
}

fn at(cluster: &Cluster, partition: i32, offset: i64) -> BTreeMap<TopicPartition, i64> {
    BTreeMap::from([((cluster.config.topic(DOCUMENTS), partition), offset)])
}

pub async fn groups_at_different_offsets_are_read_at_once(cluster: &Cluster) -> Result<()> {
    let admin = cluster.with_topics().await?;
    let partition = ten_records(cluster).await?;
    let group = |name: &str| format!("{}{name}", cluster.config.topic_prefix);
    for (name, offset) in [("early", 2), ("late", 7), ("done", 10)] {
        admin
            .set_offsets(&group(name), &at(cluster, partition, offset))
            .await?;
    }
    // One with a member, which has partitions of which nothing is committed.
    let mut consumer = cluster.consumer(DOCUMENTS)?;
    let held = next(&mut consumer).await?;
    let names = ["done", "early", "late", "nobody"].map(group).to_vec();
    let asked = [names, vec![cluster.group()]].concat();
    let known = admin.groups().await?;
    ensure!(
        asked
            .iter()
            .filter(|group| !known.contains(group))
            .eq([&group("nobody")])
    );

    let lags = admin.group_lags(&asked).await?;
    let of = |name: &str| {
        let name = group(name);
        let partitions = lags.partitions.iter();
        let found = partitions.filter(move |lag| lag.group == name && lag.committed.is_some());
        found.map(|lag| {
            (
                lag.partition,
                lag.current,
                lag.end,
                lag.lag,
                lag.member.is_some(),
            )
        })
    };
    ensure!(of("early").eq([(partition, 2, 10, 8, false)]), "{lags:?}");
    ensure!(of("late").eq([(partition, 7, 10, 3, false)]), "{lags:?}");
    ensure!(of("done").eq([(partition, 10, 10, 0, false)]), "{lags:?}");
    ensure!(of("nobody").next().is_none(), "{lags:?}");
    let seconds = |name: &str| {
        let name = group(name);
        let mut partitions = lags.partitions.iter();
        let of_ten =
            |lag: &&millrace_kafka::PartitionLag| lag.group == name && lag.partition == partition;
        partitions.find(of_ten).and_then(|lag| lag.lag_seconds)
    };
    ensure!(
        seconds("early").is_some_and(|age| (58.0..75.0).contains(&age)),
        "{lags:?}"
    );
    ensure!(
        seconds("late").is_some_and(|age| (53.0..70.0).contains(&age)),
        "{lags:?}"
    );
    ensure!(seconds("done") == Some(0.0), "{lags:?}");

    let member_of: Vec<_> = lags
        .partitions
        .iter()
        .filter(|lag| lag.group == cluster.group())
        .collect();
    ensure!(
        member_of.len() == 6,
        "all partitions that it was given: {lags:?}"
    );
    let client = format!("{}-", cluster.config.client_id);
    let is_its = |lag: &&millrace_kafka::PartitionLag| {
        let member = lag.member.as_ref();
        member.is_some_and(|member| member.client_id.starts_with(&client) && !member.id.is_empty())
    };
    ensure!(member_of.iter().all(is_its), "{lags:?}");
    let described = lags
        .groups
        .iter()
        .find(|known| known.name == cluster.group());
    ensure!(
        described.is_some_and(|known| known.state == "Stable" && known.members.len() == 1),
        "{lags:?}"
    );
    held.ack();
    consumer.shutdown(PATIENCE).await;
    Ok(())
}

pub async fn offsets_of_a_group_without_members_can_be_moved(cluster: &Cluster) -> Result<()> {
    let admin = cluster.with_topics().await?;
    let partition = ten_records(cluster).await?;
    let mut consumer = cluster.consumer(DOCUMENTS)?;
    for _ in 0..10 {
        next(&mut consumer).await?.ack();
    }
    let refused = admin
        .set_offsets(&cluster.group(), &at(cluster, partition, 4))
        .await;
    ensure!(refused.is_err(), "it has a member");
    consumer.shutdown(PATIENCE).await;
    admin
        .set_offsets(&cluster.group(), &at(cluster, partition, 4))
        .await?;
    let lags = admin.group_lag(&cluster.group(), &[]).await?;
    ensure!(
        lags.len() == 1 && lags[0].current == 4 && lags[0].lag == 6,
        "{lags:?}"
    );
    Ok(())
}

/// A row of `kafka-consumer-groups --describe`: topic, partition, current offset, end, lag, member.
type Row = (String, i32, Option<i64>, i64, Option<i64>, Option<String>);

pub async fn lag_figures_are_those_of_kafkas_own_command(cluster: &Cluster) -> Result<()> {
    let admin = cluster.with_topics().await?;
    cluster.publish(DOCUMENTS, 0..60).await?;
    let mut consumer = cluster.consumer(DOCUMENTS)?;
    for _ in 0..20 {
        next(&mut consumer).await?.ack();
    }
    consumer.shutdown(PATIENCE).await;
    let without_members = theirs(cluster)?;
    ensure!(
        ours(&admin, cluster).await? == without_members,
        "{without_members:?}"
    );

    let mut consumer = cluster.consumer(DOCUMENTS)?;
    let held = next(&mut consumer).await?;
    let with_members = theirs(cluster)?;
    ensure!(
        with_members.iter().all(|row| row.5.is_some()),
        "{with_members:?}"
    );
    ensure!(
        ours(&admin, cluster).await? == with_members,
        "{with_members:?}"
    );
    drop(held);
    consumer.shutdown(PATIENCE).await;
    Ok(())
}

async fn ours(admin: &Admin, cluster: &Cluster) -> Result<Vec<Row>> {
    let lags = admin.group_lags(&[cluster.group()]).await?;
    let row = |lag: millrace_kafka::PartitionLag| {
        let if_committed = |value| lag.committed.map(|_| value);
        (
            lag.topic,
            lag.partition,
            if_committed(lag.current),
            lag.end,
            if_committed(lag.lag),
            lag.member.map(|member| member.id),
        )
    };
    // Theirs leaves out partitions of which the group has read nothing and nobody has.
    let told = |lag: &millrace_kafka::PartitionLag| lag.committed.is_some() || lag.member.is_some();
    Ok(lags.partitions.into_iter().filter(told).map(row).collect())
}

fn theirs(cluster: &Cluster) -> Result<Vec<Row>> {
    let servers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../servers/servers");
    let told = Command::new(servers)
        .args(["kafka-consumer-groups", "--bootstrap-server"])
        .arg(&cluster.config.bootstrap)
        .args(["--describe", "--group", &cluster.group()])
        .output()?;
    let text = String::from_utf8(told.stdout)?;
    let errors = String::from_utf8_lossy(&told.stderr);
    ensure!(told.status.success(), "{text}{errors}");
    // GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID
    let mut rows = Vec::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split_whitespace().collect();
        if cells.first() != Some(&cluster.group().as_str()) || cells.len() < 7 {
            continue;
        }
        let number = |cell: &str| cell.parse::<i64>().ok();
        rows.push((
            cells[1].to_owned(),
            cells[2].parse()?,
            number(cells[3]),
            cells[4].parse()?,
            number(cells[5]),
            Some(cells[6].to_owned()).filter(|id| id != "-"),
        ));
    }
    ensure!(!rows.is_empty(), "no rows: {text}{errors}");
    rows.sort();
    Ok(rows)
}
