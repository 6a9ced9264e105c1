//! How far operators have worked off a dead-letter topic: the committed offset of a group of its own.
//!
//! Below it every letter is resolved. Which letters are is told by `dlq.resolved` alone; the position
//! saves reading them again, shows as lag, and its metadata tells of a replay that is under way. A
//! replay that was killed leaves that behind, and the next one looks what had been published.

use std::collections::BTreeMap;
use std::sync::Arc;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use crate::admin::{AdminError, REQUEST_TIMEOUT, blocking, failed};
use crate::{KafkaConfig, topics};

const RUNNING: &str = "replaying since ";

/// A committed position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// By partition: below it every letter is resolved.
    pub offsets: BTreeMap<i32, i64>,
    /// When the replay that committed it began, ms since 1970; none where it came to its end.
    pub replaying_since_ms: Option<i64>,
}

/// Reads and commits the position on one dead-letter topic, without joining the group.
#[derive(Clone)]
pub struct ReplayPosition {
    consumer: Arc<BaseConsumer>,
    topic: String,
    group: String,
}

impl ReplayPosition {
    /// On the dead letters of the topic that is declared as `source`.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn new(config: &KafkaConfig, source: &str) -> Result<Self, AdminError> {
        let topic = topics::dead_letter_topic(&config.topic(source));
        let group = format!("{}dlq-replay.{source}", config.topic_prefix);
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

    /// The name of the group.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }

    /// What was committed for these partitions.
    ///
    /// # Errors
    /// The brokers cannot be reached.
    pub async fn committed(
        &self,
        partitions: impl IntoIterator<Item = i32>,
    ) -> Result<Committed, AdminError> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, partition);
        }
        let consumer = Arc::clone(&self.consumer);
        let asked = blocking(move || consumer.committed_offsets(list, REQUEST_TIMEOUT));
        let action = format!("read the offsets of the group {}", self.group);
        let list = asked.await?.map_err(failed(action))?;
        let mut committed = Committed::default();
        for element in list.elements() {
            if let Offset::Offset(offset) = element.offset() {
                committed.offsets.insert(element.partition(), offset);
                let since = replaying_since(element.metadata());
                let earlier = committed.replaying_since_ms;
                committed.replaying_since_ms = earlier.into_iter().chain(since).min();
            }
        }
        Ok(committed)
    }

    /// Commits a position and waits for the acknowledgement.
    ///
    /// # Errors
    /// The brokers cannot be reached, or refuse it.
    pub async fn commit(&self, position: &Committed) -> Result<(), AdminError> {
        let action = format!("commit the offsets of the group {}", self.group);
        let metadata = position
            .replaying_since_ms
            .map(|since_ms| format!("{RUNNING}{since_ms}"));
        let filled = || -> Result<TopicPartitionList, KafkaError> {
            let mut list = TopicPartitionList::with_capacity(position.offsets.len());
            for (&partition, &offset) in &position.offsets {
                let mut element = list.add_partition(&self.topic, partition);
                element.set_offset(Offset::Offset(offset))?;
                if let Some(metadata) = &metadata {
                    element.set_metadata(metadata);
                }
            }
            Ok(list)
        };
        let list = filled().map_err(failed(action.as_str()))?;
        if position.offsets.is_empty() {
            return Ok(());
        }
        let consumer = Arc::clone(&self.consumer);
        blocking(move || consumer.commit(&list, CommitMode::Sync))
            .await?
            .map_err(failed(action))
    }
}

fn replaying_since(metadata: &str) -> Option<i64> {
    metadata.strip_prefix(RUNNING)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::replaying_since;

    #[test]
    fn only_a_replay_that_was_cut_off_is_told_of() {
        assert_eq!(
            replaying_since("replaying since 1700000000000"),
            Some(1_700_000_000_000)
        );
        for other in ["", "replaying since ", "replaying since then", "somebody's"] {
            assert_eq!(replaying_since(other), None, "{other:?}");
        }
    }
}
