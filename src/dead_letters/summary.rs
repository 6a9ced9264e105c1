//! How many dead letters there are, by topic, stage and reason.

use std::collections::{BTreeMap, HashSet};
use std::hash::BuildHasher as _;
use std::ops::ControlFlow;

use millrace_kafka::{KafkaConfig, ResolvedLetters, ScannedLetter};
use millrace_schemas::Resolution;
use serde::Serialize;

use super::filter::Filter;
use super::visit;

/// How many letters there are, and of which kind.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// Open letters.
    pub total: u64,
    /// Letters whose records were published again.
    pub replayed: u64,
    /// Letters that were discarded.
    pub discarded: u64,
    /// When the first of them failed first, ms since 1970.
    pub oldest_ms: Option<i64>,
    /// When the last of them failed first, ms since 1970.
    pub newest_ms: Option<i64>,
    /// By topic, stage and reason.
    pub groups: Vec<Group>,
}

/// Letters of one topic and stage with one reason.
#[derive(Debug, Default, Serialize)]
pub struct Group {
    /// The dead-letter topic's full name.
    pub topic: String,
    /// The stage that failed.
    pub stage: String,
    /// The machine-readable reason.
    pub error_type: String,
    /// Open ones.
    pub count: u64,
    /// How many keys their records have between them: a document that was sent again counts once.
    pub keys: u64,
    /// Those whose records were published again.
    pub replayed: u64,
    /// Those that were discarded.
    pub discarded: u64,
    /// When the first of them failed first, ms since 1970: of the open ones, or of all.
    pub oldest_ms: Option<i64>,
    /// When the last of them failed first, ms since 1970.
    pub newest_ms: Option<i64>,
    /// What the first of them said.
    pub example: String,
    #[serde(skip)]
    key_hashes: HashSet<u64>,
}

/// Letters while they are counted.
#[derive(Default)]
pub struct Tally(BTreeMap<(String, String, String), Group>);

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, scanned: &ScannedLetter) {
        let letter = &scanned.letter;
        let key = (
            letter.position.topic.clone(),
            letter.stage.clone(),
            letter.error_type.clone(),
        );
        self.0.entry(key).or_default().count(scanned);
    }

    /// What was counted.
    pub fn summary(self) -> Summary {
        let mut summary = Summary::default();
        for ((topic, stage, error_type), group) in self.0 {
            summary.total += group.count;
            summary.replayed += group.replayed;
            summary.discarded += group.discarded;
            summary.oldest_ms = summary.oldest_ms.into_iter().chain(group.oldest_ms).min();
            summary.newest_ms = summary.newest_ms.max(group.newest_ms);
            summary.groups.push(Group {
                topic,
                stage,
                error_type,
                ..group
            });
        }
        summary
    }
}

impl Summary {
    /// Counts the open letters that the filter lets pass; with `all` also those that were replayed or
    /// discarded.
    ///
    /// # Errors
    /// The topics can't be read.
    pub async fn count(
        kafka: &KafkaConfig,
        filter: &Filter,
        resolved: &ResolvedLetters,
        all: bool,
    ) -> anyhow::Result<Self> {
        let mut tally = Tally::default();
        visit(kafka, filter, resolved, |scanned| {
            if all || scanned.resolved.is_none() {
                tally.add(&scanned);
            }
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        Ok(tally.summary())
    }
}

impl Group {
    fn count(&mut self, scanned: &ScannedLetter) {
        let failed_at_ms = scanned.letter.failed_at_ms();
        self.oldest_ms = self.oldest_ms.into_iter().chain(failed_at_ms).min();
        self.newest_ms = self.newest_ms.max(failed_at_ms);
        if self.example.is_empty() {
            self.example.clone_from(&scanned.letter.message);
        }
        match scanned
            .resolved
            .as_ref()
            .map(|resolved| resolved.resolution)
        {
            None => {
                self.count += 1;
                if let Some(key) = &scanned.letter.original.key {
                    // Not the keys themselves: of a million letters they would fill the memory.
                    let hash = self.key_hashes.hasher().hash_one(key);
                    self.key_hashes.insert(hash);
                    self.keys = self.key_hashes.len() as u64;
                }
            }
            Some(Resolution::Discarded) => self.discarded += 1,
            // One that only a newer version knows is not open either.
            Some(Resolution::Replayed | Resolution::Unknown) => self.replayed += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use millrace_kafka::{DeadLetter, LetterId, Record, Resolved};

    use super::*;

    fn scanned(offset: i64, key: Option<&'static str>) -> ScannedLetter {
        let letter = DeadLetter::from_record(Record {
            topic: "millrace.documents.dlq".to_owned(),
            partition: 0,
            offset,
            timestamp_ms: Some(500 + offset),
            key: key.map(|key| Bytes::from_static(key.as_bytes())),
            value: None,
            headers: Vec::new(),
        });
        ScannedLetter {
            id: LetterId::of(&letter, "millrace.documents"),
            letter,
            resolved: None,
        }
    }

    #[test]
    fn a_document_that_was_sent_again_is_one_key_of_two_letters() {
        let mut tally = Tally::default();
        for (offset, key) in [(0, Some("a")), (1, Some("b")), (2, Some("a")), (3, None)] {
            tally.add(&scanned(offset, key));
        }
        tally.add(&ScannedLetter {
            resolved: Some(Resolved {
                resolution: Resolution::Discarded,
                published_as: None,
                who: "me".to_owned(),
                at_ms: 900,
            }),
            ..scanned(4, Some("c"))
        });
        let summary = tally.summary();
        let group = &summary.groups[0];
        assert_eq!((group.count, group.keys, group.discarded), (4, 2, 1));
        assert_eq!(summary.total, 4);
    }
}
