//! How fast a topic of an embedded broker can be read at most, for `make bench-replay`.
//!
//! ```text
//! bench_replay BROKER_FOLDER TOPIC TARGET RECORDS
//! ```
//! The first time it publishes so many small events to TOPIC and makes an empty TARGET with as many
//! partitions, both declared names. Then it reads TOPIC whole and does nothing with it. The broker is in
//! this process, as it is in that of a command without `up`. Ends with one line of JSON.

#![allow(
    clippy::cast_precision_loss,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark"
)]

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use millrace_broker::{Broker, BrokerConfig};
use millrace_kafka::replay::{Span, Wanted, capture};
use millrace_kafka::topics::{self, TopicSpec};
use millrace_kafka::{Admin, KafkaConfig, Producer, RawRecord, TopicReader};

/// Records that wait for their acknowledgement.
const IN_FLIGHT: usize = 20_000;
/// As a click with its headers is.
const VALUE_BYTES: usize = 100;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, topic, target, records] = arguments.as_slice() else {
        anyhow::bail!("usage: bench_replay BROKER_FOLDER TOPIC TARGET RECORDS");
    };
    let records: u64 = records.parse()?;
    let broker = Broker::start(BrokerConfig::new(folder))?;
    let kafka = KafkaConfig {
        bootstrap: broker.bootstrap(),
        ..KafkaConfig::default()
    };
    let admin = Admin::connect(&kafka)?;
    let full = kafka.topic(topic);
    if !admin.list().await?.contains(&full) {
        let declared = topics::declaration(topic).context("it is declared")?;
        admin.create_topic(declared).await?;
        let same = TopicSpec {
            name: target.clone(),
            ..declared.clone()
        };
        admin.create_topic(&same).await?;
        publish(&kafka, &full, records).await?;
    }
    let captured = capture(&admin, &full, &Wanted::default()).await?;
    let spans = captured.spans.iter();
    let ranges = spans
        .map(|(&partition, &Span { start, end, .. })| (partition, (start, end)))
        .collect();
    let began = Instant::now();
    let mut reader = TopicReader::open_ranges(&kafka, &full, &ranges)?;
    let mut read = 0_u64;
    while let Some(batch) = reader.next_batch(256).await {
        read += batch?.len() as u64;
    }
    let seconds = began.elapsed().as_secs_f64();
    ensure!(read == records, "{read} of {records} were read");
    broker.stop();
    println!(
        "{{\"records\": {read}, \"seconds\": {seconds:.3}, \"records_per_second\": {:.0}}}",
        read as f64 / seconds
    );
    Ok(())
}

async fn publish(kafka: &KafkaConfig, topic: &str, records: u64) -> Result<()> {
    let producer = Producer::connect(kafka)?;
    let value = Bytes::from(vec![b'x'; VALUE_BYTES]);
    let mut waiting = Vec::with_capacity(IN_FLIGHT);
    for number in 0..records {
        let record = RawRecord {
            topic: topic.to_owned(),
            key: Some(format!("user-{}", number % 10_000).into()),
            value: Some(value.clone()),
            headers: vec![(
                "ce_type".to_owned(),
                Some(Bytes::from_static(b"bench.event")),
            )],
            ..RawRecord::default()
        };
        waiting.push(producer.enqueue_raw(record).await?);
        if waiting.len() == IN_FLIGHT {
            for record in waiting.drain(..) {
                record.acknowledged().await?;
            }
        }
    }
    for record in waiting {
        record.acknowledged().await?;
    }
    Ok(())
}
