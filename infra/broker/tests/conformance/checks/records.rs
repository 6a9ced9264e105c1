//! Producing and reading.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseRecord, FutureProducer, FutureRecord};
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::client::{DEADLINE, Target, enqueue, flush, read, read_nothing, send, unique, wait};
use crate::raw::{Raw, RawRecord, batch};

/// Far enough in the past that only `retention.ms=-1` keeps it.
const LONG_AGO_MS: i64 = 1_700_000_000_000;
const KEEP: [(&str, &str); 1] = [("retention.ms", "-1")];

pub fn keys_headers_and_times_survive(target: &Target) -> Result<()> {
    let topic = target.topic("whole", 3, &KEEP)?;
    let producer: FutureProducer = target.client().set("enable.idempotence", "true").create()?;
    let mut delivered = HashSet::new();
    for number in 0..20i64 {
        let (key, payload, trace) = (
            format!("key{number}"),
            format!("val{number}"),
            format!("h{number}"),
        );
        let headers = OwnedHeaders::new()
            .insert(Header {
                key: "trace",
                value: Some(&trace),
            })
            .insert(Header::<&str> {
                key: "nothing",
                value: None,
            })
            .insert(Header {
                key: "trace",
                value: Some("again"),
            });
        let record = FutureRecord::to(&topic)
            .key(&key)
            .payload(&payload)
            .timestamp(LONG_AGO_MS + number * 1000)
            .headers(headers);
        let sent = wait(async {
            producer
                .send(record, DEADLINE)
                .await
                .map_err(|(error, _)| error)
        })?;
        delivered.insert((sent.partition, sent.offset));
    }
    let consumer = target.consumer(&unique("whole"), &[])?;
    consumer.subscribe(&[&topic])?;
    for _ in 0..20 {
        let message = next(&consumer)?;
        let key = String::from_utf8(message.key().context("key")?.to_vec())?;
        let number: i64 = key.trim_start_matches("key").parse()?;
        ensure!(message.payload() == Some(format!("val{number}").as_bytes()));
        ensure!(message.timestamp().to_millis() == Some(LONG_AGO_MS + number * 1000));
        let headers = message.headers().context("headers")?;
        let all: Vec<_> = headers
            .iter()
            .map(|header| (header.key, header.value.map(<[u8]>::to_vec)))
            .collect();
        let trace = format!("h{number}").into_bytes();
        ensure!(
            all == [
                ("trace", Some(trace)),
                ("nothing", None),
                ("trace", Some(b"again".to_vec()))
            ],
            "{all:?}"
        );
        ensure!(delivered.remove(&(message.partition(), message.offset())));
    }
    Ok(())
}

fn next(consumer: &BaseConsumer) -> Result<rdkafka::message::OwnedMessage> {
    crate::client::eventually("a record", || {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => Ok(Some(message.detach())),
            Some(Err(_)) | None => Ok(None),
        }
    })
}

fn numbered(raw_values: &[String]) -> Vec<RawRecord<'_>> {
    raw_values
        .iter()
        .map(|value| RawRecord {
            key: Some(b"k"),
            value: Some(value.as_bytes()),
            headers: &[],
        })
        .collect()
}

pub fn idempotent_produce_survives_retry(target: &Target) -> Result<()> {
    let topic = target.topic("retry", 1, &KEEP)?;
    let mut raw = Raw::connect(&target.bootstrap)?;
    let producer = raw.new_producer()?;
    let values: Vec<String> = (0..3).map(|number| format!("v{number}")).collect();
    let first = batch(&numbered(&values), producer, 0, LONG_AGO_MS);
    let second = batch(&numbered(&values[..1]), producer, 3, LONG_AGO_MS);
    ensure!(raw.produce(&topic, &first)? == (0, 0));
    ensure!(raw.produce(&topic, &second)? == (0, 3));
    // The answers were lost: the client sends both again, on another connection.
    let mut raw = Raw::connect(&target.bootstrap)?;
    ensure!(raw.produce(&topic, &first)? == (0, 0));
    ensure!(raw.produce(&topic, &second)? == (0, 3));
    ensure!(
        target
            .consumer("any", &[])?
            .fetch_watermarks(&topic, 0, DEADLINE)?
            == (0, 4)
    );
    Ok(())
}

pub fn idempotent_gap_is_refused(target: &Target) -> Result<()> {
    let topic = target.topic("gap", 1, &KEEP)?;
    let mut raw = Raw::connect(&target.bootstrap)?;
    let producer = raw.new_producer()?;
    let values = ["v".to_owned()];
    ensure!(
        raw.produce(&topic, &batch(&numbered(&values), producer, 0, LONG_AGO_MS))?
            .0
            == 0
    );
    let gap = raw.produce(&topic, &batch(&numbered(&values), producer, 5, LONG_AGO_MS))?;
    ensure!(gap.0 == 45, "OUT_OF_ORDER_SEQUENCE_NUMBER, not {}", gap.0);
    let newer = (producer.0, producer.1 + 1);
    ensure!(
        raw.produce(&topic, &batch(&numbered(&values), newer, 0, LONG_AGO_MS))?
            .0
            == 0
    );
    let older = raw.produce(&topic, &batch(&numbered(&values), producer, 1, LONG_AGO_MS))?;
    ensure!(older.0 == 47, "INVALID_PRODUCER_EPOCH, not {}", older.0);
    Ok(())
}

pub fn parallel_idempotent_producers_lose_nothing(target: &Target) -> Result<()> {
    let topic = target.topic("parallel", 4, &[])?;
    let sent: Vec<Result<()>> = std::thread::scope(|scope| {
        let topic = &topic;
        let threads = (0..4).map(|thread| {
            scope.spawn(move || {
                let producer = target.producer(&[("compression.type", "zstd")])?;
                for number in 0..1000 {
                    let name = format!("{thread}:{number}");
                    enqueue(
                        &producer,
                        BaseRecord::to(topic)
                            .key(name.as_str())
                            .payload(name.as_str()),
                    )?;
                }
                flush(&producer)
            })
        });
        let threads: Vec<_> = threads.collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a producer's thread panicked"))
            .collect()
    });
    sent.into_iter().collect::<Result<()>>()?;
    let consumer = target.consumer(&unique("parallel"), &[])?;
    consumer.subscribe(&[&topic])?;
    let seen = read(&consumer, 4000)?;
    let distinct: HashSet<_> = seen.iter().map(|record| &record.payload).collect();
    ensure!(distinct.len() == 4000, "{} distinct", distinct.len());
    let high: i64 = (0..4)
        .map(|partition| anyhow::Ok(consumer.fetch_watermarks(&topic, partition, DEADLINE)?.1))
        .sum::<Result<i64>>()?;
    ensure!(high == 4000, "{high} records are in the log");
    Ok(())
}

fn round_trip(target: &Target, codec: &str) -> Result<()> {
    let topic = target.topic(codec, 1, &[])?;
    let producer = target.producer(&[("compression.type", codec), ("linger.ms", "50")])?;
    let filler = "abcdefghij".repeat(100);
    for number in 0..300 {
        enqueue(
            &producer,
            BaseRecord::to(&topic)
                .key("k")
                .payload(&format!("{number}{filler}")),
        )?;
    }
    flush(&producer)?;
    let seen = read(&target.reader(&topic, 0, &[("check.crcs", "true")])?, 300)?;
    for (number, record) in seen.iter().enumerate() {
        ensure!(
            record.payload == format!("{number}{filler}"),
            "record {number} differs"
        );
    }
    Ok(())
}

pub fn gzip_round_trip(target: &Target) -> Result<()> {
    round_trip(target, "gzip")
}

pub fn snappy_round_trip(target: &Target) -> Result<()> {
    round_trip(target, "snappy")
}

pub fn lz4_round_trip(target: &Target) -> Result<()> {
    round_trip(target, "lz4")
}

pub fn zstd_round_trip(target: &Target) -> Result<()> {
    round_trip(target, "zstd")
}

pub fn large_messages(target: &Target) -> Result<()> {
    let topic = target.topic("large", 1, &[])?;
    let producer = target.producer(&[])?;
    let payload = "x".repeat(950_000);
    for _ in 0..6 {
        enqueue(&producer, BaseRecord::to(&topic).key("k").payload(&payload))?;
    }
    flush(&producer)?;
    // Smaller than one record: a reader must get it all the same.
    let reader = target.reader(
        &topic,
        0,
        &[
            ("max.partition.fetch.bytes", "1000"),
            ("fetch.max.bytes", "1000000"),
        ],
    )?;
    ensure!(
        read(&reader, 6)?
            .iter()
            .all(|record| record.payload == payload)
    );
    Ok(())
}

pub fn oversized_batch_is_refused(target: &Target) -> Result<()> {
    let topic = target.topic("small", 1, &[("max.message.bytes", "1000")])?;
    let mut raw = Raw::connect(&target.bootstrap)?;
    let values = ["x".repeat(2000)];
    let refused = raw.produce(
        &topic,
        &batch(&numbered(&values), (-1, -1), -1, LONG_AGO_MS),
    )?;
    ensure!(refused.0 == 10, "MESSAGE_TOO_LARGE, not {}", refused.0);
    let values = ["x".repeat(500)];
    ensure!(
        raw.produce(
            &topic,
            &batch(&numbered(&values), (-1, -1), -1, LONG_AGO_MS)
        )?
        .0 == 0
    );
    Ok(())
}

pub fn corrupt_batch_is_refused(target: &Target) -> Result<()> {
    let topic = target.topic("corrupt", 1, &[])?;
    let mut raw = Raw::connect(&target.bootstrap)?;
    let mut bytes = batch(&numbered(&["v".to_owned()]), (-1, -1), -1, LONG_AGO_MS).to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let refused = raw.produce(&topic, &bytes.into())?;
    ensure!(refused.0 == 2, "CORRUPT_MESSAGE, not {}", refused.0);
    Ok(())
}

pub fn compacted_topic_needs_keys(target: &Target) -> Result<()> {
    let topic = target.topic("keyed", 1, &[("cleanup.policy", "compact")])?;
    let mut raw = Raw::connect(&target.bootstrap)?;
    let record = RawRecord {
        key: None,
        value: Some(b"v"),
        headers: &[],
    };
    let refused = raw.produce(&topic, &batch(&[record], (-1, -1), -1, LONG_AGO_MS))?;
    ensure!(refused.0 == 87, "INVALID_RECORD, not {}", refused.0);
    Ok(())
}

pub fn watermarks(target: &Target) -> Result<()> {
    let topic = target.topic("marks", 2, &[])?;
    send(&target.producer(&[])?, &topic, 0..25, Some(1))?;
    let consumer = target.consumer("any", &[])?;
    ensure!(consumer.fetch_watermarks(&topic, 0, DEADLINE)? == (0, 0));
    ensure!(consumer.fetch_watermarks(&topic, 1, DEADLINE)? == (0, 25));
    Ok(())
}

fn times(target: &Target, settings: &[(&str, &str)]) -> Result<()> {
    let topic = target.topic("times", 1, &KEEP)?;
    let producer = target.producer(settings)?;
    for number in 0..20i64 {
        let record = BaseRecord::to(&topic)
            .key("k")
            .payload("v")
            .timestamp(LONG_AGO_MS + number * 1000);
        enqueue(&producer, record)?;
    }
    flush(&producer)?;
    let consumer = target.consumer("any", &[])?;
    let at = |time_ms: i64| {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_offset(&topic, 0, Offset::Offset(time_ms))?;
        let found = consumer.offsets_for_times(asked, DEADLINE)?;
        anyhow::Ok(found.elements()[0].offset())
    };
    ensure!(at(LONG_AGO_MS + 7000)? == Offset::Offset(7));
    ensure!(at(LONG_AGO_MS + 7500)? == Offset::Offset(8));
    ensure!(at(LONG_AGO_MS - 1)? == Offset::Offset(0));
    ensure!(at(LONG_AGO_MS + 99_000)? == Offset::End);
    Ok(())
}

pub fn offsets_for_times(target: &Target) -> Result<()> {
    times(target, &[("batch.num.messages", "1")])
}

pub fn offsets_for_times_inside_a_compressed_batch(target: &Target) -> Result<()> {
    times(
        target,
        &[("linger.ms", "200"), ("compression.type", "zstd")],
    )
}

pub fn assign_seek_and_tail(target: &Target) -> Result<()> {
    let topic = target.topic("seek", 1, &[])?;
    send(&target.producer(&[])?, &topic, 0..100, Some(0))?;
    let consumer = target.consumer(&unique("seek"), &[])?;
    let assign = |from: Offset| {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, 0, from)?;
        consumer.assign(&list)
    };
    assign(Offset::Offset(90))?;
    ensure!(read(&consumer, 10)?[0].offset == 90);
    consumer.seek(&topic, 0, Offset::Offset(37), DEADLINE)?;
    ensure!(read(&consumer, 1)?[0].offset == 37);
    assign(Offset::OffsetTail(5))?;
    ensure!(read(&consumer, 5)?[0].offset == 95);
    read_nothing(&consumer, Duration::from_millis(300))
}
