//! The topics and their partitions: making, growing, changing and removing them.
//!
//! A topic's folder carries an id, so that a topic deleted and made again never meets old files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use kafka_protocol::error::ResponseError;
use thiserror::Error;
use tracing::{info, warn};

use crate::journal::Journal;
use crate::log::PartitionLog;
use crate::log::recovery::RecoveryError;
use crate::metadata::{Fact, TopicRecord};
use crate::partition::Partition;
use crate::storage::StorageQuota;
use crate::topic_config::{ConfigError, TopicConfig};

const MAX_NAME_CHARS: usize = 249;
/// A typing error must not make a million files.
const MAX_PARTITIONS: i32 = 10_000;

/// A topic in service.
#[derive(Debug)]
pub struct Topic {
    pub name: String,
    id: u64,
    config: RwLock<Arc<TopicConfig>>,
    partitions: RwLock<Vec<Arc<Partition>>>,
}

impl Topic {
    pub fn config(&self) -> Arc<TopicConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn partitions(&self) -> Vec<Arc<Partition>> {
        self.partitions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn partition_count(&self) -> i32 {
        let count = self
            .partitions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len();
        i32::try_from(count).unwrap_or(i32::MAX)
    }

    pub fn partition(&self, index: i32) -> Option<Arc<Partition>> {
        let partitions = self
            .partitions
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        usize::try_from(index)
            .ok()
            .and_then(|index| partitions.get(index).cloned())
    }
}

/// A change of topics that was refused.
#[derive(Debug, Error)]
pub enum TopicError {
    #[error(
        "{0:?} is not a topic name: use 1 to 249 letters, digits, '.', '_' or '-', and not '.' or '..'"
    )]
    Name(String),
    #[error("topic {0} exists already")]
    Exists(String),
    #[error("there is no topic {0}")]
    Unknown(String),
    #[error("{0} partitions: use 1 to 10000, and never fewer than there are")]
    Partitions(i32),
    #[error("{0} replicas: there is one broker")]
    Replicas(i16),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the data folder could not be written")]
    Storage(#[from] std::io::Error),
    #[error("the partition could not be opened")]
    Recovery(#[from] RecoveryError),
}

impl TopicError {
    pub fn response(&self) -> ResponseError {
        match self {
            TopicError::Name(_) => ResponseError::InvalidTopicException,
            TopicError::Exists(_) => ResponseError::TopicAlreadyExists,
            TopicError::Unknown(_) => ResponseError::UnknownTopicOrPartition,
            TopicError::Partitions(_) => ResponseError::InvalidPartitions,
            TopicError::Replicas(_) => ResponseError::InvalidReplicationFactor,
            TopicError::Config(_) => ResponseError::InvalidConfig,
            TopicError::Storage(_) | TopicError::Recovery(_) => ResponseError::KafkaStorageError,
        }
    }
}

/// All topics.
#[derive(Debug)]
pub struct Topics {
    dir: PathBuf,
    by_name: RwLock<BTreeMap<String, Arc<Topic>>>,
    /// One change at a time.
    change: Mutex<()>,
    journal: Arc<Journal>,
    quota: Arc<StorageQuota>,
    message_max_bytes: usize,
}

impl Topics {
    /// Opens every topic that the journal knows. `dir` is the folder of all topics.
    pub fn open(
        dir: PathBuf,
        journal: Arc<Journal>,
        quota: Arc<StorageQuota>,
        message_max_bytes: usize,
    ) -> Result<Topics, TopicError> {
        fs::create_dir_all(&dir)?;
        let records = journal.read(|metadata| metadata.topics.clone());
        let topics = Topics {
            dir,
            by_name: RwLock::default(),
            change: Mutex::default(),
            journal,
            quota,
            message_max_bytes,
        };
        topics.remove_deleted(&records)?;
        for (name, record) in records {
            let topic = topics.open_topic(&name, &record)?;
            topics
                .by_name
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(name, topic);
        }
        Ok(topics)
    }

    fn topic_dir(&self, name: &str, id: u64) -> PathBuf {
        self.dir.join(format!("{name}@{id}"))
    }

    /// Finishes deletions that a crash interrupted.
    fn remove_deleted(&self, records: &BTreeMap<String, TopicRecord>) -> std::io::Result<()> {
        let next_id = self.journal.read(|metadata| metadata.next_topic_id);
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            let Some((name, id)) = name.rsplit_once('@') else {
                continue;
            };
            let Ok(id) = id.parse::<u64>() else { continue };
            if id < next_id && records.get(name).is_none_or(|record| record.id != id) {
                info!(path = %path.display(), "removing a deleted topic");
                fs::remove_dir_all(&path)?;
            }
        }
        Ok(())
    }

    fn open_topic(&self, name: &str, record: &TopicRecord) -> Result<Arc<Topic>, TopicError> {
        let config = TopicConfig::new(record.config.clone(), self.message_max_bytes)?;
        let dir = self.topic_dir(name, record.id);
        let partitions: Result<Vec<_>, _> = (0..record.partitions)
            .map(|index| self.open_partition(&dir, index))
            .collect();
        Ok(Arc::new(Topic {
            name: name.to_owned(),
            id: record.id,
            config: RwLock::new(Arc::new(config)),
            partitions: RwLock::new(partitions?),
        }))
    }

    fn open_partition(&self, dir: &Path, index: i32) -> Result<Arc<Partition>, RecoveryError> {
        let log = PartitionLog::open(&dir.join(index.to_string()), Arc::clone(&self.quota))?;
        Ok(Arc::new(Partition::new(log)))
    }

    pub fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.by_name
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    pub fn partition(&self, name: &str, index: i32) -> Option<(Arc<Topic>, Arc<Partition>)> {
        let topic = self.get(name)?;
        let partition = topic.partition(index)?;
        Some((topic, partition))
    }

    /// All of them, by name.
    pub fn all(&self) -> Vec<Arc<Topic>> {
        self.by_name
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a topic, or only checks that it could be made.
    pub fn create(
        &self,
        name: &str,
        partitions: i32,
        replicas: i16,
        overrides: BTreeMap<String, String>,
        validate_only: bool,
    ) -> Result<Arc<Topic>, TopicError> {
        let _one = self.changing();
        check_name(name)?;
        if self.get(name).is_some() {
            return Err(TopicError::Exists(name.to_owned()));
        }
        if !(1..=MAX_PARTITIONS).contains(&partitions) {
            return Err(TopicError::Partitions(partitions));
        }
        if !matches!(replicas, -1 | 1) {
            return Err(TopicError::Replicas(replicas));
        }
        let config = TopicConfig::new(overrides.clone(), self.message_max_bytes)?;
        let id = self.journal.read(|metadata| metadata.next_topic_id);
        let record = TopicRecord {
            id,
            partitions,
            config: overrides,
        };
        if validate_only {
            let config = RwLock::new(Arc::new(config));
            return Ok(Arc::new(Topic {
                name: name.to_owned(),
                id,
                config,
                partitions: RwLock::default(),
            }));
        }
        // Files first: a journal that names a topic without files would not open.
        let topic = self.open_topic(name, &record)?;
        self.journal.record(vec![Fact::Topic {
            name: name.to_owned(),
            record,
        }])?;
        self.by_name
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned(), Arc::clone(&topic));
        Ok(topic)
    }

    /// Removes a topic with its records and the offsets committed in it.
    pub fn delete(&self, name: &str) -> Result<(), TopicError> {
        let _one = self.changing();
        let topic = self
            .get(name)
            .ok_or_else(|| TopicError::Unknown(name.to_owned()))?;
        self.journal.record(vec![Fact::TopicDeleted {
            name: name.to_owned(),
        }])?;
        self.by_name
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
        for partition in topic.partitions() {
            partition.log().discard();
        }
        let dir = self.topic_dir(name, topic.id);
        if let Err(error) = fs::remove_dir_all(&dir) {
            warn!(path = %dir.display(), %error, "a deleted topic's files remain until the next start");
        }
        Ok(())
    }

    /// Adds partitions up to `count`.
    pub fn grow(&self, name: &str, count: i32, validate_only: bool) -> Result<(), TopicError> {
        let _one = self.changing();
        let topic = self
            .get(name)
            .ok_or_else(|| TopicError::Unknown(name.to_owned()))?;
        let have = topic.partition_count();
        if count <= have || count > MAX_PARTITIONS {
            return Err(TopicError::Partitions(count));
        }
        if validate_only {
            return Ok(());
        }
        let dir = self.topic_dir(name, topic.id);
        let fresh: Result<Vec<_>, _> = (have..count)
            .map(|index| self.open_partition(&dir, index))
            .collect();
        let fresh = fresh?;
        self.record_topic(&topic, count, topic.config().overrides.clone())?;
        topic
            .partitions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(fresh);
        Ok(())
    }

    /// Replaces a topic's settings with what `change` makes of them.
    pub fn reconfigure(
        &self,
        name: &str,
        validate_only: bool,
        change: impl FnOnce(&mut BTreeMap<String, String>) -> Result<(), ConfigError>,
    ) -> Result<(), TopicError> {
        let _one = self.changing();
        let topic = self
            .get(name)
            .ok_or_else(|| TopicError::Unknown(name.to_owned()))?;
        let mut overrides = topic.config().overrides.clone();
        change(&mut overrides)?;
        let config = TopicConfig::new(overrides.clone(), self.message_max_bytes)?;
        if validate_only {
            return Ok(());
        }
        self.record_topic(&topic, topic.partition_count(), overrides)?;
        *topic.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        Ok(())
    }

    fn record_topic(
        &self,
        topic: &Topic,
        partitions: i32,
        config: BTreeMap<String, String>,
    ) -> std::io::Result<()> {
        let record = TopicRecord {
            id: topic.id,
            partitions,
            config,
        };
        self.journal.record(vec![Fact::Topic {
            name: topic.name.clone(),
            record,
        }])
    }
}

fn check_name(name: &str) -> Result<(), TopicError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty()
        || name.len() > MAX_NAME_CHARS
        || matches!(name, "." | "..")
        || !name.bytes().all(legal)
    {
        return Err(TopicError::Name(name.to_owned()));
    }
    Ok(())
}
