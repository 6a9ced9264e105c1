//! Transactions, as producers and `read_committed` readers see them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::consumer::Consumer;
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use crate::client::{
    DEADLINE, Target, enqueue, eventually, payloads, read, read_nothing, send, unique,
};

const COMMITTED: [(&str, &str); 1] = [("isolation.level", "read_committed")];
const UNCOMMITTED: [(&str, &str); 1] = [("isolation.level", "read_uncommitted")];

pub fn commit_with_offsets(target: &Target) -> Result<()> {
    let (source, sink) = (
        target.topic("source", 1, &[])?,
        target.topic("sink", 1, &[])?,
    );
    let group = unique("exactly-once");
    send(&target.producer(&[])?, &source, 0..10, Some(0))?;
    let producer = target.transactional_producer(&unique("tx"), "20000")?;
    let consumer = target.consumer(&group, &COMMITTED)?;
    consumer.subscribe(&[&source])?;
    let taken = read(&consumer, 5)?;
    producer.begin_transaction()?;
    for record in &taken {
        enqueue(
            &producer,
            BaseRecord::to(&sink).key("k").payload(&record.payload),
        )?;
    }
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(&source, 0, Offset::Offset(5))?;
    let member = consumer
        .group_metadata()
        .context("the consumer is in no group")?;
    producer.send_offsets_to_transaction(&offsets, &member, DEADLINE)?;
    producer.commit_transaction(DEADLINE)?;
    ensure!(payloads(&read(&target.reader(&sink, 0, &COMMITTED)?, 5)?) == payloads(&taken));
    eventually("the group's offset", || {
        Ok((target.committed(&group, &source, 0)?.0 == Offset::Offset(5)).then_some(()))
    })
}

pub fn aborted_records_are_hidden(target: &Target) -> Result<()> {
    let topic = target.topic("aborted", 1, &[])?;
    let producer = target.transactional_producer(&unique("tx"), "20000")?;
    producer.begin_transaction()?;
    send(&producer, &topic, 0..5, Some(0))?;
    producer.abort_transaction(DEADLINE)?;
    producer.begin_transaction()?;
    send(&producer, &topic, 100..103, Some(0))?;
    producer.commit_transaction(DEADLINE)?;
    let reader = target.reader(&topic, 0, &COMMITTED)?;
    let seen = read(&reader, 3)?;
    ensure!(payloads(&seen) == ["v100", "v101", "v102"], "{seen:?}");
    read_nothing(&reader, Duration::from_millis(300))?;
    read(&target.reader(&topic, 0, &UNCOMMITTED)?, 8).map(drop)
}

pub fn open_transaction_holds_readers_back(target: &Target) -> Result<()> {
    let topic = target.topic("open", 1, &[])?;
    let producer = target.transactional_producer(&unique("tx"), "20000")?;
    producer.begin_transaction()?;
    send(&producer, &topic, 0..5, Some(0))?;
    send(&target.producer(&[])?, &topic, 5..6, Some(0))?;
    read(&target.reader(&topic, 0, &UNCOMMITTED)?, 6)?;
    let reader = target.reader(&topic, 0, &COMMITTED)?;
    read_nothing(&reader, Duration::from_millis(1500))?;
    producer.commit_transaction(DEADLINE)?;
    read(&reader, 6).map(drop)
}

pub fn second_producer_fences_the_first(target: &Target) -> Result<()> {
    let topic = target.topic("fenced", 1, &[])?;
    let id = unique("tx");
    let first = target.transactional_producer(&id, "20000")?;
    first.begin_transaction()?;
    send(&first, &topic, 0..3, Some(0))?;
    let second = target.transactional_producer(&id, "20000")?;
    second.begin_transaction()?;
    send(&second, &topic, 10..13, Some(0))?;
    second.commit_transaction(DEADLINE)?;
    ensure!(
        first.commit_transaction(DEADLINE).is_err(),
        "a fenced producer committed"
    );
    let seen = read(&target.reader(&topic, 0, &COMMITTED)?, 3)?;
    ensure!(payloads(&seen) == ["v10", "v11", "v12"], "{seen:?}");
    Ok(())
}

/// Readers are not held back forever by a producer that went away.
pub fn abandoned_transaction_times_out(target: &Target) -> Result<()> {
    let topic = target.topic("abandoned", 1, &[])?;
    let producer = target.transactional_producer(&unique("tx"), "1500")?;
    producer.begin_transaction()?;
    send(&producer, &topic, 0..3, Some(0))?;
    send(&target.producer(&[])?, &topic, 7..8, Some(0))?;
    let seen = read(&target.reader(&topic, 0, &COMMITTED)?, 1)?;
    ensure!(payloads(&seen) == ["v7"], "{seen:?}");
    Ok(())
}
