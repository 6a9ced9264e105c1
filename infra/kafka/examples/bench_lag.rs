//! How long it takes to tell how far 100 groups are behind on 100 partitions, on the embedded broker:
//! offsets alone, and with the seconds, for which the next unread record of each is read.
//!
//! `GROUPS` says how many groups. With `HOLD` nothing is measured: it prints where the broker listens, and
//! ends when its standard input does.

#![allow(clippy::print_stdout, reason = "a benchmark")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use millrace_broker::{Broker, BrokerConfig};
use millrace_kafka::{Admin, KafkaConfig, Producer, RawRecord, TopicPartition, topics};

const PARTITIONS: i32 = 100;
/// Records of a partition, about: keys spread them. Group n stands at offset n of each.
const RECORDS: i64 = 200;
const ROUNDS: usize = 5;

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let broker = Broker::start(BrokerConfig::new(folder.path()))?;
    let config = KafkaConfig {
        bootstrap: broker.bootstrap(),
        topic_prefix: "bench.".to_owned(),
        ..KafkaConfig::default()
    };
    let admin = Admin::connect(&config)?;
    let declared = topics::declaration(topics::DOCUMENTS);
    let mut spec = declared.context("declared")?.clone();
    spec.partitions = PARTITIONS;
    admin.create_topic(&spec).await?;
    let topic = config.topic(topics::DOCUMENTS);
    fill(&config, &topic).await?;
    let count: i64 = match std::env::var("GROUPS") {
        Ok(count) => count.parse().context("GROUPS is no number")?,
        Err(_) => 100,
    };
    let groups: Vec<String> = (0..count)
        .map(|group| format!("bench.group-{group}"))
        .collect();
    for (group, offset) in groups.iter().zip(0..) {
        let at = |partition| ((topic.clone(), partition), offset);
        let offsets: BTreeMap<TopicPartition, i64> = (0..PARTITIONS).map(at).collect();
        admin.set_offsets(group, &offsets).await?;
    }

    if std::env::var_os("HOLD").is_some() {
        println!("{}", serde_json::json!({ "bootstrap": broker.bootstrap() }));
        std::io::stdin().read_line(&mut String::new())?;
        broker.stop();
        return Ok(());
    }

    let mut offsets = Duration::MAX;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let lags = admin.group_offsets(&groups).await?;
        offsets = offsets.min(began.elapsed());
        ensure!(
            lags.partitions.len() == groups.len() * 100,
            "{}",
            lags.partitions.len()
        );
    }
    let began = Instant::now();
    let lags = admin.group_lags(&groups).await?;
    let seconds = began.elapsed();
    ensure!(
        lags.partitions
            .iter()
            .all(|lag| lag.lag > 0 && lag.lag_seconds.is_some_and(|age| age > 0.0))
    );
    println!(
        "{}",
        serde_json::json!({
            "groups": count,
            "partitions": PARTITIONS,
            "offset_lag_seconds": offsets.as_secs_f64(),
            "time_lag_cold_seconds": seconds.as_secs_f64(),
        })
    );
    broker.stop();
    Ok(())
}

async fn fill(config: &KafkaConfig, topic: &str) -> Result<()> {
    let producer = Producer::connect(config)?;
    let mut sends = tokio::task::JoinSet::new();
    for number in 0..RECORDS * i64::from(PARTITIONS) {
        let record = RawRecord {
            topic: topic.to_owned(),
            key: Some(number.to_string().into()),
            value: Some("a small event".into()),
            ..RawRecord::default()
        };
        let producer = producer.clone();
        sends.spawn(async move { producer.send_raw(record).await });
        if sends.len() >= 1_000 {
            sends.join_next().await;
        }
    }
    while let Some(sent) = sends.join_next().await {
        sent??;
    }
    Ok(())
}
