//! A broker to test against, and what every scenario needs of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use millrace_broker::{Broker, BrokerConfig};
use millrace_kafka::{
    Admin, Consumer, ConsumerConfig, ConsumerState, Delivery, KafkaConfig, Producer, RawRecord,
};

/// How long anything may take before it counts as lost: generous, for loaded machines.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A broker and a prefix that no other test uses.
pub struct Cluster {
    pub config: KafkaConfig,
    _embedded: Option<(Broker, tempfile::TempDir)>,
}

impl Cluster {
    /// An embedded broker of this test's own.
    pub fn embedded() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let broker = Broker::start(BrokerConfig::new(folder.path())).context("embedded broker")?;
        Ok(Self {
            config: config(broker.bootstrap()),
            _embedded: Some((broker, folder)),
        })
    }

    /// The real Kafka.
    pub fn real() -> Result<Self> {
        Ok(Self {
            config: config(millrace_servers::kafka()?),
            _embedded: None,
        })
    }

    /// All declared topics, under this test's prefix.
    pub async fn with_topics(&self) -> Result<Admin> {
        let admin = Admin::connect(&self.config)?;
        admin.create_declared().await?;
        Ok(admin)
    }

    pub fn producer(&self) -> Result<Producer> {
        Ok(Producer::connect(&self.config)?)
    }

    /// A group name that no other test uses.
    pub fn group(&self) -> String {
        format!("{}group", self.config.topic_prefix)
    }

    pub fn consumer(&self, topic: &str) -> Result<Consumer> {
        Ok(Consumer::start(
            &self.config,
            &ConsumerConfig::new(self.group(), &[topic]),
        )?)
    }

    /// Publishes `0..count` as values, with the number as key.
    pub async fn publish(&self, topic: &str, numbers: std::ops::Range<u32>) -> Result<()> {
        let producer = self.producer()?;
        let mut sends = tokio::task::JoinSet::new();
        for number in numbers {
            let producer = producer.clone();
            let record = numbered(self.config.topic(topic), number);
            sends.spawn(async move { producer.send_raw(record).await });
        }
        while let Some(sent) = sends.join_next().await {
            sent??;
        }
        Ok(())
    }

    /// Where the group resumes: committed offsets by partition.
    pub async fn committed(&self, admin: &Admin, topic: &str) -> Result<BTreeMap<i32, i64>> {
        let lags = admin
            .group_lag(&self.group(), &[self.config.topic(topic)])
            .await?;
        Ok(lags
            .into_iter()
            .filter_map(|lag| Some((lag.partition, lag.committed?)))
            .collect())
    }
}

fn config(bootstrap: String) -> KafkaConfig {
    KafkaConfig {
        bootstrap,
        topic_prefix: format!("{}.", millrace_servers::unique_name("kafka-test")),
        ..KafkaConfig::default()
    }
}

pub fn numbered(topic: String, number: u32) -> RawRecord {
    RawRecord {
        topic,
        key: Some(number.to_string().into()),
        value: Some(Bytes::copy_from_slice(&number.to_be_bytes())),
        ..RawRecord::default()
    }
}

pub fn number(delivery: &Delivery) -> u32 {
    u32::from_be_bytes(delivery.value.as_deref().unwrap().try_into().unwrap())
}

/// The next delivery, within [`PATIENCE`].
pub async fn next(consumer: &mut Consumer) -> Result<Delivery> {
    tokio::time::timeout(PATIENCE, consumer.recv())
        .await
        .context("nothing was delivered in time")?
        .context("the consumer has ended")
}

pub async fn until_ready(consumer: &Consumer) -> Result<()> {
    let mut health = consumer.health();
    tokio::time::timeout(PATIENCE, health.wait_for(ConsumerState::is_ready))
        .await
        .context("the consumer was not ready in time")??;
    Ok(())
}

/// Asks until the answer is yes, within [`PATIENCE`].
pub async fn until<F: Future<Output = Result<bool>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !ask().await? {
        if Instant::now() > deadline {
            bail!("{what}: not in time");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    i64::try_from(since.as_millis()).unwrap()
}
