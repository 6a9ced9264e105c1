//! Sending records: a send returns once the brokers have acknowledged it.

mod client;
mod wakeups;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use millrace_schemas::{EventHeaders, Framing, Message, SchemaError, SchemaRegistry, encode};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _};
use tokio::sync::oneshot;

use self::client::{Client, Delivered};
use crate::{ConfigError, HttpSchemaRegistry, KafkaConfig, java_partition};

/// How long a topic's number of partitions is believed, as long as librdkafka itself does.
const PARTITIONS_TTL: Duration = Duration::from_secs(300);
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait before a full queue is tried again.
const QUEUE_FULL_RETRY: Duration = Duration::from_millis(10);

/// Where a record was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecordPosition {
    /// The topic's full name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// Bytes to send as they are.
#[derive(Clone, Debug, Default)]
pub struct RawRecord {
    /// The topic's full name, prefix included.
    pub topic: String,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; absent for a tombstone.
    pub value: Option<Bytes>,
    /// The headers, sent in this order.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// The timestamp, ms since 1970; now where absent.
    pub timestamp_ms: Option<i64>,
    /// What chooses the partition in place of the key.
    pub partition_key: Option<Bytes>,
}

/// Why a record was not written.
#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    /// The brokers did not acknowledge in time, or do not know the topic yet, or refuse us for
    /// now. The same send may succeed later; sending again may write the record twice, since an
    /// acknowledgement can be lost.
    #[error("{topic} cannot be written to now")]
    Unavailable {
        /// The topic's full name.
        topic: String,
        /// What librdkafka said.
        #[source]
        source: KafkaError,
    },
    /// This record can never be written: too large, or refused as invalid.
    #[error("{topic} refuses the record")]
    Rejected {
        /// The topic's full name.
        topic: String,
        /// What librdkafka said.
        #[source]
        source: KafkaError,
    },
    /// The producer lost its sequence and can send nothing more: the process must restart.
    #[error("the producer has failed for good")]
    Fatal {
        /// What librdkafka said.
        #[source]
        source: KafkaError,
    },
    /// The value could not be made.
    #[error("the value for {topic} could not be encoded")]
    Schema {
        /// The topic's full name.
        topic: String,
        /// What was wrong.
        #[source]
        source: SchemaError,
    },
}

impl ProduceError {
    /// Whether the same send may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable { .. } => true,
            Self::Schema { source, .. } => source.is_retryable(),
            Self::Rejected { .. } | Self::Fatal { .. } => false,
        }
    }

    fn of(topic: &str, error: KafkaError) -> Self {
        let topic = topic.to_owned();
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal) => Self::Fatal { source: error },
            Some(
                RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::InvalidMessage
                | RDKafkaErrorCode::InvalidMessageSize
                | RDKafkaErrorCode::InvalidRecord
                | RDKafkaErrorCode::InvalidTimestamp
                | RDKafkaErrorCode::InvalidTopic,
            ) => Self::Rejected {
                topic,
                source: error,
            },
            _ => Self::Unavailable {
                topic,
                source: error,
            },
        }
    }
}

/// A record in the producer's queue: its place among the others is fixed.
#[must_use = "a record may still fail: wait for its acknowledgement"]
pub struct Enqueued {
    topic: String,
    delivered: oneshot::Receiver<Delivered>,
}

impl Enqueued {
    /// Waits for the acknowledgement of all in-sync replicas.
    ///
    /// # Errors
    /// [`ProduceError`]; ask it whether to try again.
    pub async fn acknowledged(self) -> Result<RecordPosition, ProduceError> {
        let error = match self.delivered.await {
            Ok(Ok((partition, offset))) => {
                return Ok(RecordPosition {
                    topic: self.topic,
                    partition,
                    offset,
                });
            }
            Ok(Err(error)) => error,
            // The producer was dropped before the brokers answered.
            Err(_) => KafkaError::Canceled,
        };
        Err(ProduceError::of(&self.topic, error))
    }
}

/// Sends records; cheap to clone.
#[derive(Clone)]
pub struct Producer {
    inner: Arc<Inner>,
}

struct Inner {
    config: KafkaConfig,
    client: Client,
    registry: Option<Arc<HttpSchemaRegistry>>,
    /// Ids of our schemas in the registry, by topic.
    schema_ids: tokio::sync::Mutex<HashMap<&'static str, i32>>,
    /// Partitions of each topic, and when that was asked.
    partitions: Mutex<HashMap<String, (i32, Instant)>>,
}

impl Producer {
    /// A producer for these brokers. It connects in the background.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn connect(config: &KafkaConfig) -> Result<Self, ConfigError> {
        let client = Client::create(&config.producer_client()?).map_err(|error| {
            tracing::error!(error = %error, "librdkafka refuses the producer's settings");
            ConfigError::Invalid {
                setting: "librdkafka_options",
                rule: "is refused by librdkafka (see the log)",
            }
        })?;
        let registry = HttpSchemaRegistry::from_config(config)?.map(Arc::new);
        Ok(Self {
            inner: Arc::new(Inner {
                config: config.clone(),
                client,
                registry,
                schema_ids: tokio::sync::Mutex::default(),
                partitions: Mutex::default(),
            }),
        })
    }

    /// The configuration that it was made with.
    #[must_use]
    pub fn config(&self) -> &KafkaConfig {
        &self.inner.config
    }

    /// Sends `message` to its topic and waits for the acknowledgement of all in-sync replicas. The
    /// partition follows from `partition_key`, or from `key` where that is absent.
    ///
    /// While librdkafka's queue is full it waits. A dropped future leaves open whether the record
    /// is written. Of sends that are waited for side by side nobody knows which goes first:
    /// [`Producer::enqueue`] keeps an order.
    ///
    /// # Errors
    /// [`ProduceError`]; ask it whether to try again.
    pub async fn send<M: Message>(
        &self,
        key: &str,
        partition_key: Option<&str>,
        message: &M,
        event: &EventHeaders,
    ) -> Result<RecordPosition, ProduceError> {
        let enqueued = self.enqueue(key, partition_key, message, event).await?;
        enqueued.acknowledged().await
    }

    /// The first half of [`Producer::send`]: the record is in the queue, behind all that were put
    /// there before.
    ///
    /// # Errors
    /// [`ProduceError`]; ask it whether to try again.
    pub async fn enqueue<M: Message>(
        &self,
        key: &str,
        partition_key: Option<&str>,
        message: &M,
        event: &EventHeaders,
    ) -> Result<Enqueued, ProduceError> {
        self.enqueue_at(key, partition_key, message, event, None)
            .await
    }

    /// As [`Producer::enqueue`], with a timestamp of the caller's, ms since 1970: for a record made
    /// of another one, whose time it keeps.
    ///
    /// # Errors
    /// [`ProduceError`]; ask it whether to try again.
    pub async fn enqueue_at<M: Message>(
        &self,
        key: &str,
        partition_key: Option<&str>,
        message: &M,
        event: &EventHeaders,
        timestamp_ms: Option<i64>,
    ) -> Result<Enqueued, ProduceError> {
        let topic = self.inner.config.topic(M::TOPIC);
        let value = match self.framing::<M>().await {
            Ok(framing) => encode(message, &framing),
            Err(error) => Err(error),
        };
        let value = value.map_err(|source| ProduceError::Schema {
            topic: topic.clone(),
            source,
        })?;
        let headers = event
            .to_headers()
            .into_iter()
            .map(|(name, value)| (name, Some(value.into())))
            .collect();
        self.enqueue_raw(RawRecord {
            topic,
            key: Some(Bytes::copy_from_slice(key.as_bytes())),
            value: Some(value.into()),
            headers,
            timestamp_ms,
            partition_key: partition_key.map(|key| Bytes::copy_from_slice(key.as_bytes())),
        })
        .await
    }

    /// Sends bytes as they are; otherwise as [`Producer::send`].
    ///
    /// # Errors
    /// [`ProduceError`]; ask it whether to try again.
    pub async fn send_raw(&self, record: RawRecord) -> Result<RecordPosition, ProduceError> {
        self.enqueue_raw(record).await?.acknowledged().await
    }

    /// The first half of [`Producer::send_raw`]; otherwise as [`Producer::enqueue`].
    ///
    /// # Errors
    /// [`ProduceError`]; ask it whether to try again.
    pub async fn enqueue_raw(&self, record: RawRecord) -> Result<Enqueued, ProduceError> {
        let partition = match &record.partition_key {
            Some(key) => Some(java_partition(key, self.partitions(&record.topic).await?)),
            None => None,
        };
        self.enqueue_in(record, partition).await
    }

    /// As [`Producer::enqueue_raw`], in this partition, whatever the keys say; by them where it is
    /// absent.
    pub(crate) async fn enqueue_in(
        &self,
        record: RawRecord,
        partition: Option<i32>,
    ) -> Result<Enqueued, ProduceError> {
        let headers = record.headers.iter().fold(
            OwnedHeaders::new_with_capacity(record.headers.len()),
            |headers, (name, value)| {
                headers.insert(Header {
                    key: name,
                    value: value.as_deref(),
                })
            },
        );
        let (waiting, delivered) = oneshot::channel();
        let mut to_send = BaseRecord {
            topic: &record.topic,
            partition,
            payload: record.value.as_deref(),
            key: record.key.as_deref(),
            timestamp: record.timestamp_ms,
            headers: Some(headers),
            delivery_opaque: Box::new(waiting),
        };
        loop {
            to_send = match self.inner.client.native().send(to_send) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), to_send)) => {
                    to_send
                }
                Err((error, _)) => return Err(ProduceError::of(&record.topic, error)),
            };
            tokio::time::sleep(QUEUE_FULL_RETRY).await;
        }
        Ok(Enqueued {
            topic: record.topic,
            delivered,
        })
    }

    /// Waits until all that was sent is acknowledged or has failed, at most `timeout`. Blocks no
    /// thread of the runtime.
    ///
    /// # Errors
    /// Something was still unacknowledged at the end.
    pub async fn flush(&self, timeout: Duration) -> Result<(), ProduceError> {
        let client = Arc::clone(self.inner.client.native());
        let flushed = tokio::task::spawn_blocking(move || client.flush(timeout)).await;
        match flushed {
            Ok(flushed) => flushed.map_err(|error| ProduceError::of("", error)),
            // The runtime is shutting down: nobody waits for acknowledgements any more.
            Err(_) => Ok(()),
        }
    }

    /// Records that are queued or in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        usize::try_from(self.inner.client.native().in_flight_count()).unwrap_or(0)
    }

    async fn framing<M: Message>(&self) -> Result<Framing, SchemaError> {
        let Some(registry) = &self.inner.registry else {
            return Ok(Framing::SingleObject);
        };
        let mut ids = self.inner.schema_ids.lock().await;
        let schema_id = match ids.get(M::TOPIC) {
            Some(&id) => id,
            None => {
                let subject = format!("{}-value", self.inner.config.topic(M::TOPIC));
                let id = registry.register(&subject, M::SCHEMA).await?;
                ids.insert(M::TOPIC, id);
                id
            }
        };
        Ok(Framing::Confluent { schema_id })
    }

    async fn partitions(&self, topic: &str) -> Result<i32, ProduceError> {
        let known = |inner: &Inner| {
            let partitions = inner
                .partitions
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            partitions
                .get(topic)
                .filter(|(_, asked)| asked.elapsed() < PARTITIONS_TTL)
                .map(|(n, _)| *n)
        };
        if let Some(partitions) = known(&self.inner) {
            return Ok(partitions);
        }
        let (client, name) = (Arc::clone(self.inner.client.native()), topic.to_owned());
        let fetched = tokio::task::spawn_blocking(move || {
            let metadata = client
                .client()
                .fetch_metadata(Some(&name), METADATA_TIMEOUT)?;
            let count = metadata
                .topics()
                .first()
                .map_or(0, |topic| topic.partitions().len());
            Ok(i32::try_from(count).unwrap_or(i32::MAX))
        })
        .await;
        let unknown = || KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
        let partitions = match fetched {
            Ok(Ok(0)) => Err(unknown()),
            Ok(partitions) => partitions,
            Err(_) => Err(KafkaError::Canceled),
        }
        .map_err(|error| ProduceError::of(topic, error))?;
        let mut known = self
            .inner
            .partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.insert(topic.to_owned(), (partitions, Instant::now()));
        Ok(partitions)
    }
}
