//! A position on a topic under the name of a group that nobody joins: offsets, each with a note.
//!
//! For work that reads without a group and has to know after a crash how far it was. The brokers keep
//! offset and note together, so what the note says of the work is as old as the offset.

use std::collections::BTreeMap;
use std::sync::Arc;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use crate::KafkaConfig;
use crate::admin::{AdminError, REQUEST_TIMEOUT, blocking, failed};

/// What a commit says of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotedOffset {
    /// The offset to go on from.
    pub offset: i64,
    /// What else is to be known there, in the protocol's words its metadata; the brokers take 4096 bytes.
    pub note: String,
}

/// Reads and commits a position without joining the group.
#[derive(Clone)]
pub(crate) struct GroupPosition {
    consumer: Arc<BaseConsumer>,
    topic: String,
    group: String,
}

impl GroupPosition {
    /// Of `group`, on the topic with this full name.
    pub(crate) fn new(
        config: &KafkaConfig,
        topic: String,
        group: String,
    ) -> Result<Self, AdminError> {
        let consumer = config
            .offsets_client(&group)?
            .create()
            .map_err(failed(format!("make a client of the group {group}")))?;
        Ok(Self {
            consumer: Arc::new(consumer),
            topic,
            group,
        })
    }

    pub(crate) fn group(&self) -> &str {
        &self.group
    }

    /// What was committed for these partitions; those without are absent.
    pub(crate) async fn committed(
        &self,
        partitions: impl IntoIterator<Item = i32>,
    ) -> Result<BTreeMap<i32, NotedOffset>, AdminError> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, partition);
        }
        let consumer = Arc::clone(&self.consumer);
        let asked = blocking(move || consumer.committed_offsets(list, REQUEST_TIMEOUT));
        let action = format!("read the offsets of the group {}", self.group);
        let list = asked.await?.map_err(failed(action))?;
        let mut committed = BTreeMap::new();
        for element in list.elements() {
            if let Offset::Offset(offset) = element.offset() {
                let note = element.metadata().to_owned();
                committed.insert(element.partition(), NotedOffset { offset, note });
            }
        }
        Ok(committed)
    }

    /// Commits these partitions in one request and waits for the acknowledgement.
    pub(crate) async fn commit(
        &self,
        position: &BTreeMap<i32, NotedOffset>,
    ) -> Result<(), AdminError> {
        if position.is_empty() {
            return Ok(());
        }
        let filled = || -> Result<TopicPartitionList, KafkaError> {
            let mut list = TopicPartitionList::with_capacity(position.len());
            for (&partition, noted) in position {
                let mut element = list.add_partition(&self.topic, partition);
                element.set_offset(Offset::Offset(noted.offset))?;
                if !noted.note.is_empty() {
                    element.set_metadata(&noted.note);
                }
            }
            Ok(list)
        };
        let list = filled().map_err(failed(action(&self.group)))?;
        commit(Arc::clone(&self.consumer), &self.group, list).await
    }
}

/// Commits in the name of `group`, of which `consumer` is a client, and waits for the acknowledgement. A
/// consumer that never subscribes joins no group; it may commit for one that nobody is in.
pub(crate) async fn commit(
    consumer: Arc<BaseConsumer>,
    group: &str,
    offsets: TopicPartitionList,
) -> Result<(), AdminError> {
    let committed = blocking(move || consumer.commit(&offsets, CommitMode::Sync));
    committed.await?.map_err(failed(action(group)))
}

fn action(group: &str) -> String {
    format!("commit the offsets of the group {group}")
}
