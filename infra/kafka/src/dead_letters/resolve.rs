//! Replaying and discarding letters: first it is done, then it stands written that it was.

use std::collections::HashMap;

use millrace_schemas::{DeadLetterResolution, EventHeaders, Origin, Resolution};

use super::history::replayed_from;
use super::resolved::{ResolvedError, ResolvedLetters};
use super::scan::{LetterScan, ScannedLetter};
use crate::clock::now_ms;
use crate::producer::{Enqueued, ProduceError, Producer};
use crate::{KafkaConfig, ReadFrom, ReadUntil, ReaderError, TopicReader};

const SOURCE: &str = "millrace/dlq";
/// How far the clocks of two operators' machines may be apart.
const MAX_SKEW_MS: i64 = 300_000;

/// What became of letters that were to be replayed.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Published again, and resolved.
    pub published: u64,
    /// Letters that their topic does not take, by their place among those that were given, with the
    /// reason. They stay open.
    pub refused: Vec<(usize, ProduceError)>,
}

/// Why letters were not resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The brokers do not answer.
    #[error(transparent)]
    Produce(#[from] ProduceError),
    /// The topics cannot be read.
    #[error(transparent)]
    Read(#[from] ReaderError),
    /// It cannot be told which letters are open.
    #[error(transparent)]
    Resolved(#[from] ResolvedError),
}

/// Replays and discards dead letters in the name of an operator; cheap to clone.
#[derive(Clone)]
pub struct Resolver {
    producer: Producer,
    who: String,
}

impl Resolver {
    /// In the name of `who`, `user@host`.
    #[must_use]
    pub fn new(producer: Producer, who: impl Into<String>) -> Self {
        Self {
            producer,
            who: who.into(),
        }
    }

    /// Publishes the records of these letters again, in order, and resolves those that the brokers
    /// have acknowledged.
    ///
    /// # Errors
    /// The brokers do not answer. What was published is resolved as far as that is possible, the rest
    /// stays open.
    pub async fn replay(&self, letters: &[ScannedLetter]) -> Result<Replayed, ProduceError> {
        let at_ms = now_ms();
        let mut sent: Vec<Result<Enqueued, ProduceError>> = Vec::with_capacity(letters.len());
        for scanned in letters {
            let enqueued = self
                .producer
                .enqueue_raw(scanned.letter.to_replay(at_ms))
                .await;
            let goes_on = !matches!(&enqueued, Err(error) if !is_refusal(error));
            sent.push(enqueued);
            if !goes_on {
                break;
            }
        }
        let mut replayed = Replayed::default();
        let mut published = Vec::with_capacity(letters.len());
        let mut failure = None;
        for (place, (scanned, enqueued)) in letters.iter().zip(sent).enumerate() {
            let acknowledged = match enqueued {
                Ok(enqueued) => enqueued.acknowledged().await,
                Err(error) => Err(error),
            };
            match acknowledged {
                Ok(stands) => {
                    replayed.published += 1;
                    let stands = Origin {
                        topic: stands.topic,
                        partition: stands.partition,
                        offset: stands.offset,
                    };
                    published.push((scanned, Some(stands)));
                }
                Err(error) if is_refusal(&error) => replayed.refused.push((place, error)),
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        self.resolve(Resolution::Replayed, at_ms, &published)
            .await?;
        failure.map_or(Ok(replayed), Err)
    }

    /// Resolves letters as discarded.
    ///
    /// # Errors
    /// The brokers do not answer; what was not resolved stays open.
    pub async fn discard(&self, letters: &[ScannedLetter]) -> Result<(), ProduceError> {
        let letters: Vec<_> = letters.iter().map(|scanned| (scanned, None)).collect();
        self.resolve(Resolution::Discarded, now_ms(), &letters)
            .await
            .map(drop)
    }

    /// After a replay of `source`'s letters that was cut off: resolves what it had published since
    /// `since_ms` and could not tell any more, here and in `resolved`. Tells how many.
    ///
    /// # Errors
    /// The topics cannot be read or written; nothing is lost then, and it can be tried again.
    pub async fn recover(
        &self,
        config: &KafkaConfig,
        source: &str,
        since_ms: i64,
        resolved: &mut ResolvedLetters,
    ) -> Result<u64, ResolveError> {
        let published = published_since(config, source, since_ms).await?;
        if published.is_empty() {
            return Ok(0);
        }
        let mut found = Vec::new();
        let mut scan = LetterScan::open(config, source, &ReadFrom::Beginning, resolved).await?;
        while let Some(scanned) = scan.next().await {
            let scanned = scanned?;
            if scanned.resolved.is_none()
                && let Some(stands) = published.get(&scanned.letter.position.to_string())
            {
                found.push((scanned, Some(stands.clone())));
            }
        }
        drop(scan);
        let letters: Vec<_> = found
            .iter()
            .map(|(scanned, at)| (scanned, at.clone()))
            .collect();
        for resolution in self
            .resolve(Resolution::Replayed, now_ms(), &letters)
            .await?
        {
            resolved.insert(&resolution);
        }
        Ok(letters.len() as u64)
    }

    async fn resolve(
        &self,
        resolution: Resolution,
        at_ms: i64,
        letters: &[(&ScannedLetter, Option<Origin>)],
    ) -> Result<Vec<DeadLetterResolution>, ProduceError> {
        let mut sent = Vec::with_capacity(letters.len());
        let mut resolutions = Vec::with_capacity(letters.len());
        for (scanned, published_as) in letters {
            let position = &scanned.letter.position;
            let event = EventHeaders {
                id: format!("{position}/{at_ms}"),
                source: SOURCE.to_owned(),
                type_: format!("millrace.dlq.{resolution}"),
                time_ms: Some(at_ms),
                traceparent: None,
            };
            let told = DeadLetterResolution {
                topic: position.topic.clone(),
                origin: scanned.id.origin.clone(),
                stage: scanned.id.stage.clone(),
                timestamp_ms: scanned.id.timestamp_ms,
                position: position.clone(),
                resolution,
                published_as: published_as.clone(),
                who: self.who.clone(),
                at_ms,
            };
            sent.push(
                self.producer
                    .enqueue(&told.key(), None, &told, &event)
                    .await?,
            );
            resolutions.push(told);
        }
        for enqueued in sent {
            enqueued.acknowledged().await?;
        }
        Ok(resolutions)
    }
}

/// Whether it is this record that cannot be written, while others can.
fn is_refusal(error: &ProduceError) -> bool {
    matches!(error, ProduceError::Rejected { .. })
}

/// Where records stand that replays published to the topic that is declared as `source`, by the dead
/// letters that they were published from.
async fn published_since(
    config: &KafkaConfig,
    source: &str,
    since_ms: i64,
) -> Result<HashMap<String, Origin>, ReaderError> {
    let from = ReadFrom::Timestamp(since_ms.saturating_sub(MAX_SKEW_MS).max(0));
    let topic = config.topic(source);
    let mut reader = TopicReader::open(config, &topic, &from, ReadUntil::PresentEnd).await?;
    let mut published = HashMap::new();
    while let Some(record) = reader.next().await {
        let record = record?;
        if let Some(letter) = replayed_from(&record.headers) {
            published.insert(letter.to_owned(), record.origin());
        }
    }
    Ok(published)
}
