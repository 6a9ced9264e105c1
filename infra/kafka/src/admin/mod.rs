//! What topics the brokers have. `declared` makes those that are declared.

mod declared;
mod ends;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataPartition, MetadataTopic};
use rdkafka::{Offset, TopicPartitionList};

use crate::{ConfigError, KafkaConfig};

pub use self::declared::{CreateReport, Created};
pub use self::ends::PartitionEnds;

/// How long one request to the brokers may take.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Why an administrative request failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The brokers cannot be reached or refused the request.
    #[error("cannot {action}")]
    Kafka {
        /// What was asked.
        action: String,
        /// What librdkafka said.
        #[source]
        source: KafkaError,
    },
    /// There is no such topic.
    #[error("there is no topic {topic}; `millrace topics create` makes the declared ones")]
    UnknownTopic {
        /// The topic's full name.
        topic: String,
    },
    /// No broker leads a partition.
    #[error(
        "partition {partition} of {topic} has no leader now; try again when its brokers are back"
    )]
    NoLeader {
        /// The topic's full name.
        topic: String,
        /// The number.
        partition: i32,
    },
    /// No group can have this name.
    #[error("{group:?} can't be the name of a group: it has a NUL byte")]
    InvalidGroup {
        /// The name.
        group: String,
    },
    /// The runtime is shutting down.
    #[error("cancelled")]
    Cancelled,
}

/// How long a topic may be without its leaders, after it was made or while a broker restarts.
pub(crate) const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
pub(crate) const SETTLE_INTERVAL: Duration = Duration::from_millis(50);

fn is_settling(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopicOrPartition
        )
    )
}

pub(crate) fn failed(action: impl Into<String>) -> impl FnOnce(KafkaError) -> AdminError {
    move |source| AdminError::Kafka {
        action: action.into(),
        source,
    }
}

/// A topic as the brokers have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    /// The topic's full name.
    pub name: String,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionDescription>,
    /// The settings that declarations cover, in Kafka's names.
    pub settings: BTreeMap<String, String>,
}

/// A partition as the brokers have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDescription {
    /// The number.
    pub partition: i32,
    /// The broker that leads it.
    pub leader: i32,
    /// Brokers that hold a copy.
    pub replicas: usize,
    /// Its offsets; absent while no broker leads it.
    pub ends: Option<PartitionEnds>,
}

/// Administrative requests.
#[derive(Clone)]
pub struct Admin {
    pub(crate) config: KafkaConfig,
    pub(crate) admin: Arc<AdminClient<DefaultClientContext>>,
    /// For metadata and watermarks, outside any group.
    pub(crate) reader: Arc<BaseConsumer>,
    /// For what groups have committed: [`COORDINATOR_TIMEOUT`](crate::groups::COORDINATOR_TIMEOUT) says why not
    /// the reader. None while it is in use, and after a failure.
    pub(crate) coordinator_client: Arc<Mutex<Option<BaseConsumer>>>,
}

impl Admin {
    /// For these brokers. Connects in the background.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn connect(config: &KafkaConfig) -> Result<Self, AdminError> {
        let admin = config
            .admin_client()?
            .create()
            .map_err(failed("create the admin client"))?;
        let reader = config
            .reader_client()?
            .create()
            .map_err(failed("create the admin client"))?;
        Ok(Self {
            config: config.clone(),
            admin: Arc::new(admin),
            reader: Arc::new(reader),
            coordinator_client: Arc::default(),
        })
    }

    /// The full names of all topics with the configured prefix, sorted.
    ///
    /// # Errors
    /// The brokers cannot be reached.
    pub async fn list(&self) -> Result<Vec<String>, AdminError> {
        let metadata = self.metadata(None).await?;
        let mut names: Vec<String> = metadata
            .topics()
            .iter()
            .map(|topic| topic.name().to_owned())
            .filter(|name| name.starts_with(&self.config.topic_prefix))
            .collect();
        names.sort();
        Ok(names)
    }

    /// Partitions, offsets and settings of the topic with this full name.
    ///
    /// # Errors
    /// [`AdminError::UnknownTopic`], or the brokers cannot be reached.
    pub async fn describe(&self, topic: &str) -> Result<TopicDescription, AdminError> {
        // Taken out of librdkafka's answer before waiting, which may go on in another thread.
        let known: Vec<(i32, i32, usize)> = self
            .metadata(Some(topic))
            .await?
            .topics()
            .iter()
            .flat_map(MetadataTopic::partitions)
            .map(|known| (known.id(), known.leader(), known.replicas().len()))
            .collect();
        let ends = self.ends_of(
            known
                .iter()
                .map(|(partition, ..)| (topic.to_owned(), *partition)),
        );
        let ends = ends.await?;
        let described = |(partition, leader, replicas)| PartitionDescription {
            partition,
            leader,
            replicas,
            ends: ends.get(&(topic.to_owned(), partition)).copied(),
        };
        let mut partitions: Vec<_> = known.into_iter().map(described).collect();
        if partitions.is_empty() {
            return Err(AdminError::UnknownTopic {
                topic: topic.to_owned(),
            });
        }
        partitions.sort_by_key(|partition| partition.partition);
        Ok(TopicDescription {
            name: topic.to_owned(),
            partitions,
            settings: self.settings(topic).await?,
        })
    }

    /// The offset that the next record gets, by partition.
    ///
    /// # Errors
    /// [`AdminError::UnknownTopic`], or the brokers cannot be reached.
    pub async fn end_offsets(&self, topic: &str) -> Result<BTreeMap<i32, i64>, AdminError> {
        let mut ends = BTreeMap::new();
        for partition in self.partitions(topic).await? {
            ends.insert(partition, self.watermarks(topic, partition).await?.1);
        }
        Ok(ends)
    }

    /// The numbers of a topic's partitions.
    ///
    /// # Errors
    /// [`AdminError::UnknownTopic`], or the brokers cannot be reached.
    pub async fn partitions(&self, topic: &str) -> Result<Vec<i32>, AdminError> {
        let metadata = self.metadata(Some(topic)).await?;
        let found = metadata.topics().iter().flat_map(MetadataTopic::partitions);
        let mut partitions: Vec<i32> = found.map(MetadataPartition::id).collect();
        if partitions.is_empty() {
            return Err(AdminError::UnknownTopic {
                topic: topic.to_owned(),
            });
        }
        partitions.sort_unstable();
        Ok(partitions)
    }

    /// The numbers of all topics' partitions, by full name, in one request.
    pub(crate) async fn all_partitions(&self) -> Result<BTreeMap<String, Vec<i32>>, AdminError> {
        let metadata = self.metadata(None).await?;
        let of = |topic: &MetadataTopic| {
            let numbers = topic.partitions().iter().map(MetadataPartition::id);
            (topic.name().to_owned(), numbers.collect())
        };
        Ok(metadata.topics().iter().map(of).collect())
    }

    /// The oldest offset and the one that the next record gets.
    ///
    /// # Errors
    /// The brokers cannot be reached, or there is no such partition.
    pub async fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64), AdminError> {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        loop {
            let (reader, name) = (Arc::clone(&self.reader), topic.to_owned());
            let asked = move || reader.fetch_watermarks(&name, partition, REQUEST_TIMEOUT);
            match blocking(asked).await? {
                // Just made, or just moved to another broker.
                Err(error) if is_settling(&error) && Instant::now() < deadline => {
                    tokio::time::sleep(SETTLE_INTERVAL).await;
                }
                asked => {
                    return asked
                        .map_err(failed(format!("read the offsets of {topic}/{partition}")));
                }
            }
        }
    }

    /// Removes the records before these offsets, by partition.
    ///
    /// # Errors
    /// The brokers cannot be reached, or refuse it.
    pub async fn delete_records(
        &self,
        topic: &str,
        before: &BTreeMap<i32, i64>,
    ) -> Result<(), AdminError> {
        let action = || format!("delete records of {topic}");
        let mut list = TopicPartitionList::with_capacity(before.len());
        for (&partition, &offset) in before {
            list.add_partition_offset(topic, partition, Offset::Offset(offset))
                .map_err(failed(action()))?;
        }
        let deleted = self.admin.delete_records(&list, &options()).await;
        let deleted = deleted.map_err(failed(action()))?;
        for element in deleted.elements() {
            element.error().map_err(failed(action()))?;
        }
        Ok(())
    }

    /// The first offset of this time (ms since 1970) or later; partitions without one are absent.
    pub(crate) async fn offsets_for_time(
        &self,
        topic: &str,
        time_ms: i64,
        partitions: Vec<i32>,
        timeout: Duration,
    ) -> Result<BTreeMap<i32, i64>, AdminError> {
        let (reader, name) = (Arc::clone(&self.reader), topic.to_owned());
        let found = blocking(move || {
            let mut list = TopicPartitionList::with_capacity(partitions.len());
            for partition in partitions {
                // A time, not an offset: `offsets_for_times` reads it from the same field.
                list.add_partition_offset(&name, partition, Offset::Offset(time_ms.max(0)))?;
            }
            reader.offsets_for_times(list, timeout)
        });
        let found = found
            .await?
            .map_err(failed(format!("look up a time in {topic}")))?;
        let elements = found.elements();
        let offsets = elements
            .iter()
            .filter_map(|element| match element.offset() {
                Offset::Offset(offset) => Some((element.partition(), offset)),
                _ => None,
            });
        Ok(offsets.collect())
    }

    async fn metadata(&self, topic: Option<&str>) -> Result<Metadata, AdminError> {
        let (reader, name) = (Arc::clone(&self.reader), topic.map(str::to_owned));
        let brokers = &self.config.bootstrap;
        let action = topic.map_or_else(
            || format!("list the topics at {brokers}"),
            |topic| format!("look up {topic} at {brokers}"),
        );
        blocking(move || reader.fetch_metadata(name.as_deref(), REQUEST_TIMEOUT))
            .await?
            .map_err(failed(action))
    }

    async fn settings(&self, topic: &str) -> Result<BTreeMap<String, String>, AdminError> {
        let action = || format!("read the settings of {topic}");
        let described = self
            .admin
            .describe_configs([&ResourceSpecifier::Topic(topic)], &options())
            .await
            .map_err(failed(action()))?;
        let resource = match described.into_iter().next() {
            Some(Ok(resource)) => resource,
            Some(Err(code)) => return Err(failed(action())(KafkaError::AdminOp(code))),
            None => return Ok(BTreeMap::new()),
        };
        let covered = [
            "cleanup.policy",
            "delete.retention.ms",
            "max.message.bytes",
            "retention.ms",
        ];
        Ok(resource
            .entries
            .into_iter()
            .filter(|entry| covered.contains(&entry.name.as_str()))
            .filter_map(|entry| Some((entry.name, entry.value?)))
            .collect())
    }
}

pub(crate) fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(REQUEST_TIMEOUT))
        .operation_timeout(Some(REQUEST_TIMEOUT))
}

/// Runs a blocking request of librdkafka beside the runtime.
pub(crate) async fn blocking<T: Send + 'static>(
    request: impl FnOnce() -> T + Send + 'static,
) -> Result<T, AdminError> {
    tokio::task::spawn_blocking(request)
        .await
        .map_err(|_| AdminError::Cancelled)
}
