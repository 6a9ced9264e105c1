//! How far operators have worked off a dead-letter topic: the committed offset of a group of its own.
//!
//! Below it every letter is resolved. Which letters are is told by `dlq.resolved` alone; the position
//! saves reading them again, shows as lag, and its metadata tells of a replay that is under way. A
//! replay that was killed leaves that behind, and the next one looks what had been published.

use std::collections::BTreeMap;

use crate::admin::AdminError;
use crate::position::{GroupPosition, NotedOffset};
use crate::{KafkaConfig, topics};

const RUNNING: &str = "replaying since ";

/// A committed position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkedOff {
    /// By partition: below it every letter is resolved.
    pub offsets: BTreeMap<i32, i64>,
    /// When the replay that committed it began, ms since 1970; none where it came to its end.
    pub replaying_since_ms: Option<i64>,
}

/// Reads and commits the position on one dead-letter topic, without joining the group.
#[derive(Clone)]
pub struct DeadLetterPosition {
    position: GroupPosition,
}

impl DeadLetterPosition {
    /// On the dead letters of the topic that is declared as `source`.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn new(config: &KafkaConfig, source: &str) -> Result<Self, AdminError> {
        let topic = topics::dead_letter_topic(&config.topic(source));
        let group = format!("{}dlq-replay.{source}", config.topic_prefix);
        let position = GroupPosition::new(config, topic, group)?;
        Ok(Self { position })
    }

    /// The name of the group.
    #[must_use]
    pub fn group(&self) -> &str {
        self.position.group()
    }

    /// What was committed for these partitions.
    ///
    /// # Errors
    /// The brokers cannot be reached.
    pub async fn committed(
        &self,
        partitions: impl IntoIterator<Item = i32>,
    ) -> Result<WorkedOff, AdminError> {
        let mut committed = WorkedOff::default();
        for (partition, noted) in self.position.committed(partitions).await? {
            committed.offsets.insert(partition, noted.offset);
            let since = replaying_since(&noted.note);
            let earlier = committed.replaying_since_ms;
            committed.replaying_since_ms = earlier.into_iter().chain(since).min();
        }
        Ok(committed)
    }

    /// Commits a position and waits for the acknowledgement.
    ///
    /// # Errors
    /// The brokers cannot be reached, or refuse it.
    pub async fn commit(&self, position: &WorkedOff) -> Result<(), AdminError> {
        let since_ms = position.replaying_since_ms;
        let note = since_ms.map_or_else(String::new, |since_ms| format!("{RUNNING}{since_ms}"));
        let noted = position.offsets.iter().map(|(&partition, &offset)| {
            let note = note.clone();
            (partition, NotedOffset { offset, note })
        });
        self.position.commit(&noted.collect()).await
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
