//! What every request handler works on.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::BrokerError;
use crate::config::BrokerConfig;
use crate::groups::Coordinator;
use crate::journal::Journal;
use crate::metadata::Fact;
use crate::storage::StorageQuota;
use crate::topics::Topics;
use crate::transactions::Transactions;

/// The only broker has this id.
pub const BROKER_ID: i32 = 1;

/// The broker's parts.
#[derive(Debug)]
pub struct Service {
    pub config: BrokerConfig,
    pub host: String,
    pub port: u16,
    pub quota: Arc<StorageQuota>,
    pub journal: Arc<Journal>,
    pub topics: Arc<Topics>,
    pub groups: Coordinator,
    pub transactions: Transactions,
    /// Rings when readers may find more.
    pub appended: Notify,
}

impl Service {
    /// Opens everything in the data folder.
    pub fn open(config: BrokerConfig, host: String, port: u16) -> Result<Service, BrokerError> {
        let quota = Arc::new(StorageQuota::new(config.storage_limit_bytes));
        let topics_dir = config.data_dir.join("topics");
        let has_topics = topics_dir
            .read_dir()
            .is_ok_and(|mut entries| entries.next().is_some());
        let journal = Arc::new(Journal::open(
            &config.data_dir,
            has_topics,
            config.flush,
            Arc::clone(&quota),
        )?);
        if journal.read(|metadata| metadata.cluster_id.is_empty()) {
            let id = format!("millrace-{:x}", crate::clock::now_ms());
            let recorded =
                journal.record(vec![Fact::Cluster { id }, Fact::NextProducerId { id: 1 }]);
            recorded.map_err(|source| BrokerError::DataDir {
                dir: config.data_dir.clone(),
                source,
            })?;
        }
        let topics = Arc::new(Topics::open(
            topics_dir,
            Arc::clone(&journal),
            Arc::clone(&quota),
            config.message_max_bytes,
        )?);
        let groups = Coordinator::new(
            Arc::clone(&journal),
            config.group_initial_delay,
            config.keep_members,
        );
        let transactions =
            Transactions::new(Arc::clone(&journal), Arc::clone(&topics), config.flush);
        // What was decided before a crash is finished before anybody reads.
        transactions.tick();
        Ok(Service {
            config,
            host,
            port,
            quota,
            journal,
            topics,
            groups,
            transactions,
            appended: Notify::new(),
        })
    }

    /// Forces everything to disk.
    pub fn flush(&self) -> std::io::Result<()> {
        for topic in self.topics.all() {
            for partition in topic.partitions() {
                partition.flush()?;
            }
        }
        self.journal.flush()
    }
}
