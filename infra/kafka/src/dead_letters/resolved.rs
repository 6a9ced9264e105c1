//! Which dead letters are done with: the topic `dlq.resolved` as a table.
//!
//! A dead-letter topic is only ever appended to, so that a letter was replayed or discarded stands
//! elsewhere. It is written after what was done was acknowledged: a crash between the two leaves the
//! letter open, and nothing is lost.

use std::collections::HashMap;

use millrace_schemas::{DeadLetterResolution, Origin, Resolution, SchemaRegistry, decode_with};

use super::read::DeadLetter;
use crate::{
    AdminError, HttpSchemaRegistry, KafkaConfig, ReadFrom, ReadUntil, ReaderError, TopicReader,
    topics,
};

/// Which failure of which record, however often a crash had it written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LetterId {
    /// The record that failed.
    pub origin: Origin,
    /// The step that failed.
    pub stage: String,
    /// The record's time, ms since 1970, which tells it from one of a topic that was made anew.
    /// Absent where it was never on a topic: what is posted again has another time and is the same.
    pub timestamp_ms: Option<i64>,
}

impl LetterId {
    /// Of a letter of the topic with this full name.
    #[must_use]
    pub fn of(letter: &DeadLetter, source: &str) -> Self {
        let was_there = letter.unreplayable(source).is_none();
        Self {
            origin: letter.origin.clone(),
            stage: letter.stage.clone(),
            timestamp_ms: letter.original.timestamp_ms.filter(|_| was_there),
        }
    }

    fn of_resolution(resolution: &DeadLetterResolution) -> Self {
        Self {
            origin: resolution.origin.clone(),
            stage: resolution.stage.clone(),
            timestamp_ms: resolution.timestamp_ms,
        }
    }
}

/// What was done with a letter, when and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// What.
    pub resolution: Resolution,
    /// Of a replay: where the record stands now.
    pub published_as: Option<Origin>,
    /// `user@host`.
    pub who: String,
    /// When, ms since 1970.
    pub at_ms: i64,
}

/// All that was done, by dead-letter topic and failure. In memory: some 200 bytes each.
#[derive(Clone, Debug, Default)]
pub struct ResolvedLetters {
    by_topic: HashMap<String, HashMap<LetterId, Resolved>>,
}

impl ResolvedLetters {
    /// Reads all there is now. Where there is no such topic yet, nothing was ever done.
    ///
    /// # Errors
    /// The brokers cannot be reached, or the schema registry that values name.
    pub async fn read(config: &KafkaConfig) -> Result<Self, ResolvedError> {
        let topic = config.topic(topics::DLQ_RESOLVED);
        let opened =
            TopicReader::open(config, &topic, &ReadFrom::Beginning, ReadUntil::PresentEnd).await;
        let mut reader = match opened {
            Err(ReaderError::Admin(AdminError::UnknownTopic { .. })) => return Ok(Self::default()),
            opened => opened?,
        };
        let registry = HttpSchemaRegistry::from_config(config).map_err(ReaderError::Config)?;
        let registry = registry.as_ref().map(|it| it as &dyn SchemaRegistry);
        let mut resolved = Self::default();
        while let Some(record) = reader.next().await {
            let record = record?;
            let Some(value) = record.value.as_deref() else {
                continue;
            };
            match decode_with::<DeadLetterResolution>(value, registry).await {
                Ok(resolution) => resolved.insert(&resolution),
                Err(error) if error.is_retryable() => return Err(ResolvedError::Registry(error)),
                // Its letter stays open, and may be resolved again.
                Err(error) => {
                    tracing::warn!(origin = %record.origin(), %error, "a resolution cannot be read");
                }
            }
        }
        Ok(resolved)
    }

    pub(super) fn insert(&mut self, resolution: &DeadLetterResolution) {
        let letters = self.by_topic.entry(resolution.topic.clone()).or_default();
        letters.insert(
            LetterId::of_resolution(resolution),
            Resolved {
                resolution: resolution.resolution,
                published_as: resolution.published_as.clone(),
                who: resolution.who.clone(),
                at_ms: resolution.at_ms,
            },
        );
    }

    /// What was done with this letter of this dead-letter topic.
    #[must_use]
    pub fn of(&self, id: &LetterId, letter: &DeadLetter) -> Option<&Resolved> {
        let resolved = self.by_topic.get(&letter.position.topic)?.get(id)?;
        // What was posted again after it was discarded is news.
        let is_later = id.timestamp_ms.is_none()
            && letter
                .original
                .timestamp_ms
                .is_some_and(|written_ms| written_ms > resolved.at_ms);
        (!is_later).then_some(resolved)
    }
}

/// Why it cannot be told which letters are done with.
#[derive(Debug, thiserror::Error)]
pub enum ResolvedError {
    /// The topic cannot be read.
    #[error(transparent)]
    Read(#[from] ReaderError),
    /// Values name schemas of a registry that does not answer.
    #[error("the schema registry does not answer")]
    Registry(#[source] millrace_schemas::SchemaError),
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Record;
    use crate::dead_letters::headers;

    const SOURCE: &str = "m.documents";

    fn letter(origin: (&str, i64), timestamp_ms: i64) -> DeadLetter {
        let header =
            |name: &str, value: &str| (name.to_owned(), Some(Bytes::from(value.to_owned())));
        DeadLetter::from_record(Record {
            topic: "m.documents.dlq".to_owned(),
            partition: 0,
            offset: 5,
            timestamp_ms: Some(timestamp_ms),
            key: None,
            value: None,
            headers: vec![
                header(headers::ORIGIN_TOPIC, origin.0),
                header(headers::ORIGIN_PARTITION, "2"),
                header(headers::ORIGIN_OFFSET, &origin.1.to_string()),
                header(headers::STAGE, "extract"),
            ],
        })
    }

    fn resolved(letter: &DeadLetter, at_ms: i64) -> ResolvedLetters {
        let id = LetterId::of(letter, SOURCE);
        let mut letters = ResolvedLetters::default();
        letters.insert(&DeadLetterResolution {
            topic: letter.position.topic.clone(),
            origin: id.origin,
            stage: id.stage,
            timestamp_ms: id.timestamp_ms,
            position: letter.position.clone(),
            resolution: Resolution::Discarded,
            published_as: None,
            who: "ada@host".to_owned(),
            at_ms,
        });
        letters
    }

    fn is_resolved(letters: &ResolvedLetters, letter: &DeadLetter) -> bool {
        letters.of(&LetterId::of(letter, SOURCE), letter).is_some()
    }

    #[test]
    fn a_copy_of_a_letter_is_resolved_and_another_record_is_not() {
        let letters = resolved(&letter((SOURCE, 17), 1_000), 2_000);
        assert!(is_resolved(&letters, &letter((SOURCE, 17), 1_000)));
        assert!(!is_resolved(&letters, &letter((SOURCE, 18), 1_000)));
        // The topic was made anew, and its offsets began again.
        assert!(!is_resolved(&letters, &letter((SOURCE, 17), 9_000)));
    }

    #[test]
    fn what_is_posted_again_after_it_was_discarded_is_open() {
        let posted = "POST /v1/notices";
        let letters = resolved(&letter((posted, 17), 1_000), 2_000);
        assert!(is_resolved(&letters, &letter((posted, 17), 1_000)));
        assert!(
            is_resolved(&letters, &letter((posted, 17), 1_500)),
            "sent twice"
        );
        assert!(!is_resolved(&letters, &letter((posted, 17), 2_500)));
    }
}
