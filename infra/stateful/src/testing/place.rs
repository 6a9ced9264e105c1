//! Brokers and a store.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use millrace_broker::{Broker, BrokerConfig};
use millrace_kafka::{
    Admin, DeadLetter, KafkaConfig, Producer, ReadFrom, ReadUntil, Record, TopicReader,
    read_dead_letters, topics,
};
use millrace_schemas::{Message, decode};
use millrace_state::{EmbeddedState, StateStore, ValkeyConfig, ValkeyState};
use tokio::sync::OnceCell;

/// Brokers and a store that no other test uses.
pub struct Place {
    /// How to reach the brokers.
    pub kafka: KafkaConfig,
    store: Store,
    state: OnceCell<Arc<dyn StateStore>>,
    broker: Option<Broker>,
    folder: tempfile::TempDir,
}

enum Store {
    Folder,
    Valkey(ValkeyConfig),
}

impl Place {
    /// The embedded broker and a folder.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn embedded() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let broker = Broker::start(BrokerConfig::new(folder.path().join("broker")))?;
        Ok(Self {
            kafka: kafka(broker.bootstrap()),
            store: Store::Folder,
            state: OnceCell::new(),
            broker: Some(broker),
            folder,
        })
    }

    /// The real Kafka and Redis.
    ///
    /// # Errors
    /// They are not there.
    pub fn real() -> Result<Self> {
        let valkey = ValkeyConfig {
            url: millrace_servers::redis()?,
            ..ValkeyConfig::default()
        };
        Ok(Self {
            kafka: kafka(millrace_servers::kafka()?),
            store: Store::Valkey(valkey),
            state: OnceCell::new(),
            broker: None,
            folder: tempfile::tempdir()?,
        })
    }

    /// Where an embedded state is.
    #[must_use]
    pub fn state_folder(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The store, opened once.
    ///
    /// # Errors
    /// It cannot be.
    pub async fn state(&self) -> Result<Arc<dyn StateStore>> {
        let open = || async {
            Ok::<Arc<dyn StateStore>, anyhow::Error>(match &self.store {
                Store::Folder => Arc::new(EmbeddedState::open(&self.state_folder())?),
                Store::Valkey(config) => {
                    let namespace = self.kafka.topic_prefix.trim_end_matches('.');
                    Arc::new(ValkeyState::connect(config, namespace).await?)
                }
            })
        };
        Ok(Arc::clone(self.state.get_or_try_init(open).await?))
    }

    /// Makes the declared topics.
    ///
    /// # Errors
    /// The brokers refuse.
    pub async fn with_topics(&self) -> Result<Admin> {
        let admin = Admin::connect(&self.kafka)?;
        admin.create_declared().await?;
        Ok(admin)
    }

    /// Makes the declared topics, `topic` with three partitions, and so with fewer than those beside
    /// which its records are read.
    ///
    /// # Errors
    /// The brokers refuse.
    pub async fn with_fewer_partitions(&self, topic: &str) -> Result<()> {
        let mut declared = topics::declared().iter();
        let spec = declared.find(|spec| spec.name == topic);
        let mut spec = spec.context("declared")?.clone();
        spec.partitions = 3;
        Admin::connect(&self.kafka)?.create_topic(&spec).await?;
        self.with_topics().await.map(drop)
    }

    /// Has retention take all records of a partition that are there. Says how many.
    ///
    /// # Errors
    /// The brokers refuse.
    pub async fn empty(&self, topic: &str, partition: i32) -> Result<u64> {
        let topic = self.kafka.topic(topic);
        let admin = Admin::connect(&self.kafka)?;
        let (start, end) = admin.watermarks(&topic, partition).await?;
        admin
            .delete_records(&topic, &BTreeMap::from([(partition, end)]))
            .await?;
        Ok(u64::try_from(end - start)?)
    }

    /// A producer of its own.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn producer(&self) -> Result<Producer> {
        Ok(Producer::connect(&self.kafka)?)
    }

    /// The records of a topic, now.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn records(&self, topic: &str) -> Result<Vec<Record>> {
        let topic = self.kafka.topic(topic);
        let (from, to) = (ReadFrom::Beginning, ReadUntil::PresentEnd);
        let reader = TopicReader::open(&self.kafka, &topic, &from, to).await?;
        Ok(reader.collect().await?)
    }

    /// What the records of a topic say, now.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn messages<M: Message>(&self) -> Result<Vec<M>> {
        let read = |record: Record| Ok(decode(&record.value.context("a value")?)?);
        let records = self.records(M::TOPIC).await?;
        records.into_iter().map(read).collect()
    }

    /// The messages of a topic's dead letters, by type of error.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn dead_letters(&self, topic: &str) -> Result<BTreeMap<String, String>> {
        let reader = read_dead_letters(&self.kafka, topic, &ReadFrom::Beginning).await?;
        let letters = reader.collect().await?.into_iter();
        let letters = letters.map(DeadLetter::from_record);
        Ok(letters
            .map(|letter| (letter.error_type, letter.message))
            .collect())
    }

    /// Stops the embedded broker.
    pub fn stop_broker(&mut self) {
        if let Some(broker) = self.broker.take() {
            broker.stop();
        }
    }
}

fn kafka(bootstrap: String) -> KafkaConfig {
    KafkaConfig {
        bootstrap,
        topic_prefix: format!("{}.", millrace_servers::unique_name("stateful-test")),
        ..KafkaConfig::default()
    }
}
