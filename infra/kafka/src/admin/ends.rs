//! Both ends of all topics' partitions, in one request each.

use std::collections::{BTreeMap, BTreeSet};

use super::{Admin, AdminError};
use crate::groups::{PartitionEnd, TopicPartition};

/// Both ends of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionEnds {
    /// The oldest offset that is there.
    pub oldest: i64,
    /// The offset that the next record gets.
    pub next: i64,
}

impl Admin {
    /// The ends of all topics with the configured prefix, by full name and partition. A partition without
    /// a leader is absent.
    ///
    /// # Errors
    /// The brokers cannot be reached.
    pub async fn all_ends(
        &self,
    ) -> Result<BTreeMap<String, BTreeMap<i32, PartitionEnds>>, AdminError> {
        let mut topics: BTreeMap<String, BTreeMap<i32, PartitionEnds>> = BTreeMap::new();
        let mut partitions: Vec<TopicPartition> = Vec::new();
        for (topic, numbers) in self.all_partitions().await? {
            if topic.starts_with(&self.config.topic_prefix) {
                partitions.extend(numbers.into_iter().map(|number| (topic.clone(), number)));
                topics.entry(topic).or_default();
            }
        }
        for ((topic, number), ends) in self.ends_of(partitions).await? {
            topics.entry(topic).or_default().insert(number, ends);
        }
        Ok(topics)
    }

    /// The ends of these partitions. One without a leader is absent.
    pub(crate) async fn ends_of(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, PartitionEnds>, AdminError> {
        let partitions: BTreeSet<TopicPartition> = partitions.into_iter().collect();
        let (oldest, next) = tokio::try_join!(
            self.partition_ends(&partitions, PartitionEnd::Oldest),
            self.partition_ends(&partitions, PartitionEnd::Next),
        )?;
        let both = |(partition, oldest): (TopicPartition, i64)| {
            let next = *next.get(&partition)?;
            Some((partition, PartitionEnds { oldest, next }))
        };
        Ok(oldest.into_iter().filter_map(both).collect())
    }
}
