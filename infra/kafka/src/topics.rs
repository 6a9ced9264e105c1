//! The topics that Millrace uses, declared in `topics.toml`.

use std::fmt;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// Notices of created, changed and removed objects.
pub const DOCUMENTS: &str = "documents";
/// Notices that could not be processed.
pub const DOCUMENTS_DLQ: &str = "documents.dlq";
/// What became of each notice.
pub const OUTCOMES: &str = "documents.outcomes";
/// Vectors and features of each document.
pub const SIGNALS: &str = "signals";
/// What users did with items, keyed by user.
pub const BEHAVIOR: &str = "behavior";
/// Behavior that could not be understood or processed.
pub const BEHAVIOR_DLQ: &str = "behavior.dlq";
/// The same behavior keyed by item, partitioned as [`SIGNALS`].
pub const BEHAVIOR_BY_ITEM: &str = "behavior.by-item";
/// Behavior by item that could not be processed.
pub const BEHAVIOR_BY_ITEM_DLQ: &str = "behavior.by-item.dlq";
/// Clicks keyed by the request that they name, partitioned as [`IMPRESSIONS`].
pub const BEHAVIOR_BY_REQUEST: &str = "behavior.by-request";
/// Clicks by request that could not be processed.
pub const BEHAVIOR_BY_REQUEST_DLQ: &str = "behavior.by-request.dlq";
/// Behavior whose item had no signal in time.
pub const BEHAVIOR_UNMATCHED: &str = "behavior.unmatched";
/// Behavior with its item's signal, keyed by user.
pub const FEEDBACK: &str = "feedback";
/// Feedback that could not be processed.
pub const FEEDBACK_DLQ: &str = "feedback.dlq";
/// Counters of each item.
pub const ITEM_STATS: &str = "item-stats";
/// Answers of the recommender.
pub const IMPRESSIONS: &str = "impressions";
/// Answers that could not be processed.
pub const IMPRESSIONS_DLQ: &str = "impressions.dlq";
/// Answers with the clicks on them, keyed by request.
pub const TRAINING: &str = "training";
/// What the upstream system tells of users, keyed by user.
pub const USERS: &str = "users";
/// Rows of users that could not be understood.
pub const USERS_DLQ: &str = "users.dlq";
/// What operators did with dead letters.
pub const DLQ_RESOLVED: &str = "dlq.resolved";
/// What operators had done.
pub const AUDIT: &str = "audit";
/// How indexes get from one generation to the next.
pub const ROLLOUTS: &str = "rollouts";

/// What happens to old records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CleanupPolicy {
    /// They go after the retention time.
    Delete,
    /// The last one of each key stays.
    Compact,
}

impl fmt::Display for CleanupPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
        })
    }
}

/// One declared topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicSpec {
    /// The name without the configured prefix.
    pub name: String,
    /// Partitions of a new topic.
    pub partitions: i32,
    /// What happens to old records.
    pub cleanup_policy: CleanupPolicy,
    /// With [`CleanupPolicy::Delete`]: how long a record stays.
    pub retention_hours: Option<i64>,
    /// With [`CleanupPolicy::Compact`]: how long a tombstone stays.
    pub delete_retention_hours: Option<i64>,
    /// The largest record batch.
    pub max_message_bytes: i64,
}

impl TopicSpec {
    /// The topic's configuration in Kafka's own names.
    #[must_use]
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        const HOUR_MS: i64 = 3_600_000;
        let mut settings = vec![
            ("cleanup.policy", self.cleanup_policy.to_string()),
            ("max.message.bytes", self.max_message_bytes.to_string()),
        ];
        if let Some(hours) = self.retention_hours {
            settings.push(("retention.ms", (hours * HOUR_MS).to_string()));
        }
        if let Some(hours) = self.delete_retention_hours {
            settings.push(("delete.retention.ms", (hours * HOUR_MS).to_string()));
        }
        settings
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Declarations {
    topic: Vec<TopicSpec>,
}

static DECLARED: LazyLock<Vec<TopicSpec>> =
    LazyLock::new(
        || match toml::from_str::<Declarations>(include_str!("../topics.toml")) {
            Ok(declarations) => declarations.topic,
            Err(error) => panic!("topics.toml is compiled in and invalid: {error}"),
        },
    );

/// All declared topics.
#[must_use]
pub fn declared() -> &'static [TopicSpec] {
    &DECLARED
}

/// The dead-letter topic of `topic`: `{topic}.dlq`.
#[must_use]
pub fn dead_letter_topic(topic: &str) -> String {
    format!("{topic}.dlq")
}

/// The declared topics that have a dead-letter topic, without the prefix.
pub fn with_dead_letters() -> impl Iterator<Item = &'static str> {
    declared()
        .iter()
        .filter_map(|topic| topic.name.strip_suffix(".dlq"))
}

/// The declaration of `name`, where there is one.
#[must_use]
pub fn declaration(name: &str) -> Option<&'static TopicSpec> {
    declared().iter().find(|topic| topic.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_topic_is_declared_and_fits_its_policy() {
        let names: Vec<&str> = declared().iter().map(|topic| topic.name.as_str()).collect();
        let named = [
            DOCUMENTS,
            DOCUMENTS_DLQ,
            OUTCOMES,
            SIGNALS,
            BEHAVIOR,
            BEHAVIOR_DLQ,
            BEHAVIOR_BY_ITEM,
            BEHAVIOR_BY_ITEM_DLQ,
            BEHAVIOR_BY_REQUEST,
            BEHAVIOR_BY_REQUEST_DLQ,
            BEHAVIOR_UNMATCHED,
            FEEDBACK,
            FEEDBACK_DLQ,
            ITEM_STATS,
            IMPRESSIONS,
            IMPRESSIONS_DLQ,
            TRAINING,
            USERS,
            USERS_DLQ,
            DLQ_RESOLVED,
            AUDIT,
            ROLLOUTS,
        ];
        assert_eq!(names, named);
        for topic in declared() {
            assert!(topic.partitions > 0, "{}", topic.name);
            let compact = topic.cleanup_policy == CleanupPolicy::Compact;
            assert_eq!(topic.retention_hours.is_none(), compact, "{}", topic.name);
            assert_eq!(
                topic.delete_retention_hours.is_some(),
                compact,
                "{}",
                topic.name
            );
        }
    }

    #[test]
    fn a_dead_letter_of_the_largest_record_fits() {
        for (source, letters) in [
            (DOCUMENTS, DOCUMENTS_DLQ),
            (BEHAVIOR, BEHAVIOR_DLQ),
            (BEHAVIOR_BY_ITEM, BEHAVIOR_BY_ITEM_DLQ),
            (BEHAVIOR_BY_REQUEST, BEHAVIOR_BY_REQUEST_DLQ),
            (IMPRESSIONS, IMPRESSIONS_DLQ),
            (FEEDBACK, FEEDBACK_DLQ),
            (USERS, USERS_DLQ),
        ] {
            assert_eq!(dead_letter_topic(source), letters);
            let bytes = |name| topic(name).max_message_bytes;
            assert!(bytes(letters) > bytes(source), "{letters}");
        }
    }

    #[test]
    fn what_is_made_of_behavior_fits() {
        for made in [BEHAVIOR_UNMATCHED, FEEDBACK] {
            assert!(topic(made).max_message_bytes > topic(BEHAVIOR_BY_ITEM).max_message_bytes);
        }
        assert!(topic(TRAINING).max_message_bytes > topic(IMPRESSIONS).max_message_bytes);
    }

    #[test]
    fn what_is_joined_has_the_same_partitions() {
        assert_eq!(
            topic(BEHAVIOR_BY_ITEM).partitions,
            topic(SIGNALS).partitions
        );
        assert_eq!(
            topic(BEHAVIOR_BY_REQUEST).partitions,
            topic(IMPRESSIONS).partitions
        );
    }

    #[test]
    fn every_source_of_dead_letters_is_declared() {
        let sources: Vec<&str> = with_dead_letters().collect();
        assert_eq!(sources.len(), 7);
        for source in sources {
            assert!(declaration(source).is_some(), "{source}");
            assert!(declaration(&dead_letter_topic(source)).is_some());
        }
    }

    fn topic(name: &str) -> &'static TopicSpec {
        match declaration(name) {
            Some(topic) => topic,
            None => panic!("{name} is not declared"),
        }
    }
}
