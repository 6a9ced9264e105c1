//! Clients for the checks, and the two brokers they talk to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use millrace_broker::{Broker, BrokerConfig};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Message, Offset, TopicPartitionList};

/// Longer than anything should take; a check that needs it has failed.
pub const DEADLINE: Duration = Duration::from_secs(90);

pub type TestProducer = ThreadedProducer<DefaultProducerContext>;

/// A broker under test.
pub struct Target {
    pub bootstrap: String,
    _embedded: Option<(Broker, tempfile::TempDir)>,
}

/// A record as a check wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub partition: i32,
    pub offset: i64,
    pub payload: String,
}

impl Target {
    pub fn embedded() -> Result<Target> {
        let dir = tempfile::tempdir()?;
        let broker = Broker::start(BrokerConfig::new(dir.path()))?;
        Ok(Target {
            bootstrap: broker.bootstrap(),
            _embedded: Some((broker, dir)),
        })
    }

    pub fn real() -> Result<Target> {
        Ok(Target {
            bootstrap: millrace_servers::kafka()?,
            _embedded: None,
        })
    }

    pub fn at(bootstrap: String) -> Target {
        Target {
            bootstrap,
            _embedded: None,
        }
    }

    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("socket.timeout.ms", "10000")
            .set("log_level", "3");
        config
    }

    pub fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        Ok(self.client().create()?)
    }

    /// Makes a topic of a name that no other check has.
    pub fn topic(
        &self,
        prefix: &str,
        partitions: i32,
        settings: &[(&str, &str)],
    ) -> Result<String> {
        let name = unique(prefix);
        let mut topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let made = wait(self.admin()?.create_topics([&topic], &admin_options()))?;
        one(made)?.map_err(|(_, code)| anyhow!("topic {name} was refused: {code}"))?;
        // A real broker answers before its metadata knows the topic everywhere.
        let consumer: BaseConsumer = self.client().create()?;
        eventually("the topic is in the metadata", || {
            let metadata = consumer.fetch_metadata(Some(&name), DEADLINE)?;
            let ready = metadata.topics().iter().any(|topic| {
                topic.error().is_none() && i32::try_from(topic.partitions().len()) == Ok(partitions)
            });
            Ok(ready.then_some(()))
        })?;
        Ok(name)
    }

    pub fn producer(&self, settings: &[(&str, &str)]) -> Result<TestProducer> {
        let mut config = self.client();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", "20000")
            .set("linger.ms", "5");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        Ok(config.create()?)
    }

    pub fn transactional_producer(&self, id: &str, timeout_ms: &str) -> Result<TestProducer> {
        let producer = self.producer(&[
            ("transactional.id", id),
            ("transaction.timeout.ms", timeout_ms),
            ("message.timeout.ms", timeout_ms),
            // librdkafka wants it no longer than the transaction.
            (
                "socket.timeout.ms",
                if timeout_ms.len() > 4 {
                    "10000"
                } else {
                    timeout_ms
                },
            ),
        ])?;
        producer
            .init_transactions(DEADLINE)
            .context("init_transactions")?;
        Ok(producer)
    }

    pub fn consumer_config(&self, group: &str, settings: &[(&str, &str)]) -> ClientConfig {
        let mut config = self.client();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "300")
            .set("topic.metadata.refresh.interval.ms", "2000");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        config
    }

    pub fn consumer(&self, group: &str, settings: &[(&str, &str)]) -> Result<BaseConsumer> {
        Ok(self.consumer_config(group, settings).create()?)
    }

    /// A consumer that reads one partition from its start.
    pub fn reader(
        &self,
        topic: &str,
        partition: i32,
        settings: &[(&str, &str)],
    ) -> Result<BaseConsumer> {
        let consumer = self.consumer(&unique("reader"), settings)?;
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(topic, partition, Offset::Beginning)?;
        consumer.assign(&from)?;
        Ok(consumer)
    }

    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Result<(Offset, String)> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(topic, partition);
        let committed = self
            .consumer(group, &[])?
            .committed_offsets(asked, DEADLINE)?;
        let found = committed
            .find_partition(topic, partition)
            .context("the partition is not in the answer")?;
        Ok((found.offset(), found.metadata().to_owned()))
    }
}

pub fn admin_options() -> AdminOptions {
    AdminOptions::new()
        .operation_timeout(Some(DEADLINE))
        .request_timeout(Some(DEADLINE))
}

/// The only result of an answer.
pub fn one<T>(mut results: Vec<T>) -> Result<T> {
    let first = results.pop().context("the answer is empty")?;
    if results.is_empty() {
        Ok(first)
    } else {
        bail!("the answer has more than one result")
    }
}

/// Waits for one of rdkafka's futures.
pub fn wait<T, E: std::error::Error + Send + Sync + 'static>(
    future: impl Future<Output = Result<T, E>>,
) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(future)?)
}

pub fn unique(prefix: &str) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!(
        "{prefix}-{:x}-{:x}-{number}",
        since.as_millis(),
        std::process::id()
    )
}

/// Tries until it is there or the deadline has passed.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the wait on a condition with a deadline"
)]
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = attempt()? {
            return Ok(found);
        }
        if start.elapsed() > DEADLINE {
            bail!("waited {DEADLINE:?} in vain: {what}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends `k<i>` = `v<i>` and waits until all are acknowledged.
pub fn send(
    producer: &TestProducer,
    topic: &str,
    range: std::ops::Range<usize>,
    partition: Option<i32>,
) -> Result<()> {
    for number in range {
        let (key, payload) = (format!("k{number}"), format!("v{number}"));
        let mut record = BaseRecord::to(topic)
            .key(key.as_str())
            .payload(payload.as_str());
        record.partition = partition;
        enqueue(producer, record)?;
    }
    flush(producer)
}

/// Sends one record, waiting while the queue is full.
pub fn enqueue(producer: &TestProducer, record: BaseRecord<'_, str, str>) -> Result<()> {
    let mut record = Some(record);
    eventually("room in the producer's queue", || {
        let Some(next) = record.take() else {
            return Ok(Some(()));
        };
        match producer.send(next) {
            Ok(()) => Ok(Some(())),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = Some(back);
                Ok(None)
            }
            Err((error, _)) => Err(error.into()),
        }
    })
}

pub fn flush(producer: &TestProducer) -> Result<()> {
    producer.flush(DEADLINE)?;
    if producer.in_flight_count() == 0 {
        Ok(())
    } else {
        bail!("records are still in flight")
    }
}

/// Reads until `count` records are there.
pub fn read(consumer: &BaseConsumer, count: usize) -> Result<Vec<Seen>> {
    let start = Instant::now();
    let mut seen = Vec::new();
    while seen.len() < count {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => seen.push(Seen {
                partition: message.partition(),
                offset: message.offset(),
                payload: String::from_utf8_lossy(message.payload().unwrap_or_default())
                    .into_owned(),
            }),
            Some(Err(error)) if start.elapsed() > DEADLINE => return Err(error.into()),
            Some(Err(_)) | None => {}
        }
        if start.elapsed() > DEADLINE {
            bail!("{} of {count} records came within {DEADLINE:?}", seen.len());
        }
    }
    Ok(seen)
}

/// Nothing comes for a while. The one kind of check that can only wait.
pub fn read_nothing(consumer: &BaseConsumer, during: Duration) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < during {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
            bail!("offset {} came unexpectedly", message.offset());
        }
    }
    Ok(())
}

pub fn payloads(seen: &[Seen]) -> Vec<&str> {
    seen.iter().map(|record| record.payload.as_str()).collect()
}
