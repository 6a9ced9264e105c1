//! Consumers whose caller keeps the positions.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use millrace_kafka::topics::DOCUMENTS;
use millrace_kafka::{
    AssignedConsumer, AssignedPartition, AssignedRecord, ConsumerConfig, Delivery,
    PartitionedConsumer,
};
use tokio::time::timeout;

use crate::cluster::{Cluster, PATIENCE, until};

const COUNT: u32 = 300;

fn member(cluster: &Cluster) -> Result<PartitionedConsumer> {
    let config = ConsumerConfig::new(cluster.group(), &[DOCUMENTS]);
    Ok(PartitionedConsumer::start(&cluster.config, &config)?)
}

async fn assigned(consumer: &mut PartitionedConsumer) -> Result<AssignedPartition> {
    timeout(PATIENCE, consumer.next_assignment())
        .await
        .context("nothing was assigned in time")?
        .context("the consumer has ended")
}

async fn batch(partition: &mut AssignedPartition, max: usize) -> Result<Vec<Delivery>> {
    timeout(PATIENCE, partition.recv_batch(max, usize::MAX))
        .await
        .context("nothing was delivered in time")?
        .context("the assignment has ended")
}

pub async fn a_held_partition_starts_where_its_owner_says(cluster: &Cluster) -> Result<()> {
    let admin = cluster.with_topics().await?;
    let topic = cluster.config.topic(DOCUMENTS);
    cluster.publish(DOCUMENTS, 0..COUNT).await?;
    let ends = admin.end_offsets(&topic).await?;

    // A committed offset of an earlier life, which must not matter.
    let mut before = cluster.consumer(DOCUMENTS)?;
    for _ in 0..COUNT {
        crate::cluster::next(&mut before).await?.ack();
    }
    before.shutdown(PATIENCE).await;
    ensure!(cluster.committed(&admin, DOCUMENTS).await? == ends);

    let mut consumer = member(cluster)?;
    let mut read = 0;
    for turn in 0..ends.len() {
        let mut partition = assigned(&mut consumer).await?;
        ensure!(partition.topic() == topic && partition.is_current());
        let end = ends[&partition.partition()];
        // The oldest record, or one in the middle.
        let start = (turn % 2 == 1).then_some(end / 2);
        partition.start_at(start);
        let mut next = start.unwrap_or(0);
        while next < end {
            for delivery in batch(&mut partition, 7).await? {
                ensure!(delivery.offset == next, "{delivery:?}, expected {next}");
                next += 1;
                read += 1;
                delivery.ack();
            }
        }
    }
    ensure!(read > 0);
    let drained = consumer.shutdown(PATIENCE).await;
    ensure!(drained.unfinished == 0, "{drained:?}");
    ensure!(
        cluster.committed(&admin, DOCUMENTS).await? == ends,
        "shows the lag"
    );
    Ok(())
}

/// An owner that was cut off between its state and the commit would show a lag until the next record.
pub async fn where_its_owner_begins_is_committed_though_nothing_comes(
    cluster: &Cluster,
) -> Result<()> {
    let admin = cluster.with_topics().await?;
    let topic = cluster.config.topic(DOCUMENTS);
    cluster.publish(DOCUMENTS, 0..COUNT).await?;
    let ends = admin.end_offsets(&topic).await?;
    let mut consumer = member(cluster)?;
    let mut partitions = Vec::new();
    for _ in 0..ends.len() {
        let partition = assigned(&mut consumer).await?;
        partition.start_at(Some(ends[&partition.partition()]));
        partitions.push(partition);
    }
    until("the ends are committed", async || {
        Ok(cluster.committed(&admin, DOCUMENTS).await? == ends)
    })
    .await
}

pub async fn a_partition_begun_again_starts_again(cluster: &Cluster) -> Result<()> {
    cluster.with_topics().await?;
    cluster.publish(DOCUMENTS, 0..COUNT).await?;
    let mut consumer = member(cluster)?;
    let mut first = assigned(&mut consumer).await?;
    let number = first.partition();
    first.start_at(None);
    let held = batch(&mut first, 10).await?;
    first.begin_again();
    ensure!(held.iter().all(|delivery| !delivery.is_current()));
    drop(held);
    loop {
        let mut again = assigned(&mut consumer).await?;
        if again.partition() == number {
            again.start_at(Some(3));
            let offset = batch(&mut again, 1).await?[0].offset;
            ensure!(offset == 3, "{offset}");
            return Ok(());
        }
    }
}

pub async fn partitions_move_to_a_second_member(cluster: &Cluster) -> Result<()> {
    cluster.with_topics().await?;
    cluster.publish(DOCUMENTS, 0..COUNT).await?;
    let mut first = member(cluster)?;
    let mut mine = BTreeMap::new();
    while mine.len() < 6 {
        let partition = assigned(&mut first).await?;
        partition.start_at(None);
        mine.insert(partition.partition(), partition);
    }
    let mut second = member(cluster)?;
    let mut theirs = BTreeSet::new();
    while theirs.len() < 3 {
        let mut partition = assigned(&mut second).await?;
        partition.start_at(Some(1));
        ensure!(batch(&mut partition, 1).await?[0].offset == 1);
        theirs.insert(partition.partition());
    }
    for (number, mut partition) in mine {
        ensure!(
            partition.is_current() != theirs.contains(&number),
            "{number}"
        );
        if theirs.contains(&number) {
            ensure!(partition.recv_batch(1, 1).await.is_none());
        } else {
            ensure!(batch(&mut partition, 1).await?[0].offset == 0);
        }
    }
    Ok(())
}

pub async fn chosen_partitions_are_read_without_a_group(cluster: &Cluster) -> Result<()> {
    let admin = cluster.with_topics().await?;
    // More than waits in memory for a reader.
    cluster.publish(DOCUMENTS, 0..12_000).await?;
    let ends = admin.end_offsets(&cluster.config.topic(DOCUMENTS)).await?;
    let consumer = AssignedConsumer::start(&cluster.config, DOCUMENTS)?;
    let mut slow = consumer.assign(0, None);
    let mut from_five = consumer.assign(1, Some(5));
    let read = async |records: &mut millrace_kafka::AssignedRecords| -> Result<Vec<i64>> {
        let mut offsets = Vec::new();
        loop {
            let mut some = Vec::new();
            let count = timeout(PATIENCE, records.recv_many(&mut some, 100)).await?;
            ensure!(count > 0, "the records ended");
            for record in some {
                match record {
                    AssignedRecord::Record(record) => offsets.push(record.offset),
                    AssignedRecord::End => return Ok(offsets),
                }
            }
        }
    };
    let one = read(&mut from_five).await?;
    ensure!(one == (5..ends[&1]).collect::<Vec<_>>(), "{}", one.len());
    // A slow reader has lost nothing meanwhile.
    let zero = read(&mut slow).await?;
    ensure!(zero == (0..ends[&0]).collect::<Vec<_>>(), "{}", zero.len());

    // What comes later comes too; another reader takes a partition over.
    let mut taken_over = consumer.assign(0, Some(ends[&0]));
    ensure!(read(&mut taken_over).await?.is_empty());
    cluster.publish(DOCUMENTS, 0..200).await?;
    until("the new records", async || {
        let mut taken_over = consumer.assign(0, Some(ends[&0]));
        let found = read(&mut taken_over).await?;
        Ok(found.first() == Some(&ends[&0]))
    })
    .await?;
    ensure!(slow.recv_many(&mut Vec::new(), 10).await == 0);
    Ok(())
}
