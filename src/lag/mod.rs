//! How far consumer groups are behind, look by look.

mod report;

use anyhow::ensure;
use millrace_kafka::{Admin, KafkaConfig, LagHistory, PartitionLag, topics};

pub use self::report::{Partition, Report};
use crate::config::Config;
use crate::output::printable;
use crate::stack::index::FIRST_GENERATION;
use crate::stack::{is_vectorizer_group, vectorizer_group};

/// Which groups are looked at, and what was seen of them.
pub struct Watching {
    admin: Admin,
    groups: Groups,
    kafka: KafkaConfig,
    index: String,
    /// Where no vectorizer of the index has read the documents yet, this group is to.
    first_vectorizer: String,
    documents: String,
    history: LagHistory,
}

/// Which groups are meant.
pub enum Groups {
    /// These.
    Named(Vec<String>),
    /// Those whose names begin so.
    Prefixed(String),
}

impl Watching {
    /// Of these groups; nothing is looked at yet.
    ///
    /// # Errors
    /// The brokers' settings can't be used.
    pub fn new(groups: Groups, config: &Config, kafka: &KafkaConfig) -> anyhow::Result<Self> {
        let first = millrace_index::generation_name(&config.index.name, FIRST_GENERATION);
        Ok(Self {
            admin: Admin::connect(kafka)?,
            groups,
            kafka: kafka.clone(),
            index: config.index.name.clone(),
            first_vectorizer: vectorizer_group(kafka, &first),
            documents: kafka.topic(topics::DOCUMENTS),
            history: LagHistory::default(),
        })
    }

    /// Looks once, and tells what all looks so far come to.
    ///
    /// # Errors
    /// The brokers do not answer, or a group that was named is not there.
    pub async fn look(&mut self) -> anyhow::Result<Report> {
        let known = self.admin.groups().await?;
        let groups = match &self.groups {
            Groups::Named(named) => {
                for group in named {
                    ensure!(
                        known.contains(group),
                        "unknown group {group:?}; there are {}",
                        listed(&known)
                    );
                }
                named.clone()
            }
            Groups::Prefixed(prefix) => {
                let is_meant = |group: &&String| group.starts_with(prefix);
                known.iter().filter(is_meant).cloned().collect()
            }
        };
        let mut lags = self.admin.group_lags(&groups).await?;
        let is_there =
            |lag: &PartitionLag| is_vectorizer_group(&self.kafka, &self.index, &lag.group);
        let is_meant = matches!(self.groups, Groups::Prefixed(_));
        if is_meant && !lags.partitions.iter().any(is_there) {
            lags.partitions.extend(self.unread_documents().await?);
        }
        self.history.observe(&lags.partitions);
        Ok(Report::new(lags, &self.history))
    }

    /// Documents wait for the vectorizer also where it has never run.
    async fn unread_documents(&self) -> anyhow::Result<Vec<PartitionLag>> {
        if !self.admin.list().await?.contains(&self.documents) {
            return Ok(Vec::new());
        }
        let documents = std::slice::from_ref(&self.documents);
        let mut lags = self
            .admin
            .group_lag(&self.first_vectorizer, documents)
            .await?;
        self.admin.read_ages(&mut lags).await?;
        Ok(lags)
    }
}

fn listed(groups: &[String]) -> String {
    if groups.is_empty() {
        return "none yet".to_owned();
    }
    let names: Vec<_> = groups.iter().map(|group| printable(group)).collect();
    names.join(", ")
}
