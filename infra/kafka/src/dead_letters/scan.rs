//! Dead letters one by one, each failure once, with what was done with it.

use std::collections::HashSet;

use super::read::DeadLetter;
use super::resolved::{LetterId, Resolved, ResolvedLetters};
use crate::{KafkaConfig, ReadFrom, ReadUntil, ReaderError, TopicReader, topics};

/// A letter and what was done with it.
#[derive(Clone, Debug)]
pub struct ScannedLetter {
    /// The letter.
    pub letter: DeadLetter,
    /// Which failure it is.
    pub id: LetterId,
    /// What was done with it; nothing of an open one.
    pub resolved: Option<Resolved>,
}

/// Reads the dead letters of one topic up to their present end. Holds an identity of each in memory,
/// no values.
pub struct LetterScan<'a> {
    source: String,
    reader: TopicReader,
    resolved: &'a ResolvedLetters,
    seen: HashSet<(LetterId, bool)>,
}

impl<'a> LetterScan<'a> {
    /// Of the topic that is declared as `source`, from `from`.
    ///
    /// # Errors
    /// There is no dead-letter topic, or the brokers cannot be reached.
    pub async fn open(
        config: &KafkaConfig,
        source: &str,
        from: &ReadFrom,
        resolved: &'a ResolvedLetters,
    ) -> Result<Self, ReaderError> {
        let source = config.topic(source);
        let topic = topics::dead_letter_topic(&source);
        Ok(Self {
            reader: TopicReader::open(config, &topic, from, ReadUntil::PresentEnd).await?,
            source,
            resolved,
            seen: HashSet::new(),
        })
    }

    /// The next letter. A copy that a crash made of an earlier one is passed over.
    ///
    /// # Errors
    /// The brokers refused the read; nothing follows.
    pub async fn next(&mut self) -> Option<Result<ScannedLetter, ReaderError>> {
        loop {
            let letter = match self.reader.next().await? {
                Ok(record) => DeadLetter::from_record(record),
                Err(error) => return Some(Err(error)),
            };
            let id = LetterId::of(&letter, &self.source);
            let resolved = self.resolved.of(&id, &letter).cloned();
            if self.seen.insert((id.clone(), resolved.is_some())) {
                return Some(Ok(ScannedLetter {
                    letter,
                    id,
                    resolved,
                }));
            }
        }
    }

    /// The full name of the topic that the letters' records were on.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Where the partitions ended when the scan was opened.
    #[must_use]
    pub fn end_offsets(&self) -> &std::collections::BTreeMap<i32, i64> {
        self.reader.end_offsets()
    }
}
