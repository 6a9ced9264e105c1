//! Reading dead letters, for people and tools.

use std::collections::{BTreeMap, HashSet};

use millrace_schemas::Origin;
use serde::Serialize;

use super::headers;
use super::history::{self, ReplayHistory};
use crate::clock::now_ms;
use crate::{
    KafkaConfig, RawRecord, ReadFrom, ReadUntil, ReaderError, Record, TopicReader, topics,
};

/// A dead letter: the original record, and why it is here.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// Where it stands on the dead-letter topic.
    pub position: Origin,
    /// Where the original stands.
    pub origin: Origin,
    /// The step that failed.
    pub stage: String,
    /// Machine-readable.
    pub error_type: String,
    /// The class of the error.
    pub class: String,
    /// For people.
    pub message: String,
    /// Where a server answered: its status.
    pub http_status: Option<u16>,
    /// How often it was tried.
    pub attempts: u32,
    /// The fingerprint or registry id that the value names.
    pub schema_id: Option<String>,
    /// When it first failed, ms since 1970.
    pub first_failed_at_ms: Option<i64>,
    /// How often it was published again before this failure.
    pub replay_count: u32,
    /// When, and where it failed first.
    pub history: ReplayHistory,
    /// The pipeline that gave it up.
    pub pipeline: String,
    /// That pipeline's version.
    pub version: String,
    /// The original: key, value, timestamp and headers byte for byte, at its original place.
    pub original: Record,
}

impl DeadLetter {
    /// Reads a record of a dead-letter topic. A record that someone else put there has an unknown
    /// stage and reason, and itself as origin.
    #[must_use]
    pub fn from_record(record: Record) -> Self {
        let text = |name| {
            record
                .header(name)
                .map(|value| String::from_utf8_lossy(value).into_owned())
        };
        let number = |name| text(name).and_then(|text| text.parse::<i64>().ok());
        let position = record.origin();
        let origin = match (text(headers::ORIGIN_TOPIC), number(headers::ORIGIN_OFFSET)) {
            (Some(topic), Some(offset)) => Origin {
                topic,
                partition: number(headers::ORIGIN_PARTITION)
                    .and_then(|n| n.try_into().ok())
                    .unwrap_or(0),
                offset,
            },
            _ => position.clone(),
        };
        let named = |name| text(name).unwrap_or_else(|| "unknown".to_owned());
        let mut letter = Self {
            position,
            origin,
            stage: named(headers::STAGE),
            error_type: named(headers::ERROR_TYPE),
            class: named(headers::CLASS),
            message: text(headers::MESSAGE).unwrap_or_default(),
            http_status: number(headers::HTTP_STATUS).and_then(|n| n.try_into().ok()),
            attempts: number(headers::ATTEMPTS)
                .and_then(|n| n.try_into().ok())
                .unwrap_or(0),
            schema_id: text(headers::SCHEMA_ID),
            first_failed_at_ms: number(headers::FIRST_FAILED_AT),
            replay_count: number(headers::REPLAY_COUNT)
                .and_then(|n| n.try_into().ok())
                .unwrap_or(0),
            history: ReplayHistory::default(),
            pipeline: named(headers::PIPELINE),
            version: named(headers::VERSION),
            original: record,
        };
        letter.original.headers = original_headers(std::mem::take(&mut letter.original.headers));
        letter.original.topic.clone_from(&letter.origin.topic);
        letter.original.partition = letter.origin.partition;
        letter.original.offset = letter.origin.offset;
        let mut history = ReplayHistory::of(&letter.original.headers);
        history.count = history.count.max(letter.replay_count);
        history.first_origin = history.first_origin.or_else(|| Some(letter.origin.clone()));
        history.first_failed_at_ms = history.first_failed_at_ms.or(letter.first_failed_at_ms);
        letter.history = history;
        letter
    }

    /// When it failed first, ms since 1970; of a record that someone else put there its own time.
    #[must_use]
    pub fn failed_at_ms(&self) -> Option<i64> {
        self.first_failed_at_ms.or(self.original.timestamp_ms)
    }

    /// Why its record cannot be published again to `source`, the full name of the topic whose dead
    /// letters these are; `None` where it can. Whoever may write dead letters may claim any origin:
    /// nothing goes to another topic than this one.
    #[must_use]
    pub fn unreplayable(&self, source: &str) -> Option<Unreplayable> {
        if self.origin == self.position {
            Some(Unreplayable::NoOrigin)
        } else if self.origin.topic != source {
            Some(Unreplayable::NeverOnTheTopic)
        } else {
            None
        }
    }

    /// The original, to be published again to its topic: key, value and headers byte for byte, and
    /// headers that tell of this and earlier replays. Its time is that of the replay: with its own the
    /// topic's retention might remove it at once.
    #[must_use]
    pub fn to_replay(&self, at_ms: i64) -> RawRecord {
        let (failed, known) = (&self.original.headers, self.history.clone());
        RawRecord {
            topic: self.origin.topic.clone(),
            key: self.original.key.clone(),
            value: self.original.value.clone(),
            headers: history::replayed_headers(failed, known, &self.position, at_ms),
            timestamp_ms: None,
            partition_key: None,
        }
    }

    /// By what the same failure of the same record is counted once, however often it was written:
    /// a crash between the write and the acknowledgement repeats it.
    #[must_use]
    pub fn identity(&self) -> (Origin, String) {
        (self.origin.clone(), self.stage.clone())
    }
}

/// Why a dead letter's record cannot be published again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unreplayable {
    /// It does not say where it came from.
    NoOrigin,
    /// It never was a record of the topic: a rejected line of a file, or what was posted.
    NeverOnTheTopic,
}

impl Unreplayable {
    /// A stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoOrigin => "no_origin",
            Self::NeverOnTheTopic => "never_on_the_topic",
        }
    }
}

/// The headers before those that this failure added. They were added at the end; those of an
/// earlier failure stay.
fn original_headers(
    mut all: Vec<(String, Option<bytes::Bytes>)>,
) -> Vec<(String, Option<bytes::Bytes>)> {
    let mut left: HashSet<&str> = headers::ALL.into_iter().collect();
    while let Some((name, _)) = all.last()
        && left.remove(name.as_str())
    {
        all.pop();
    }
    all
}

/// What a dead-letter topic holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DeadLetterSummary {
    /// Records on the topic.
    pub records: u64,
    /// Distinct failures: by origin and stage.
    pub distinct: u64,
    /// Distinct failures by stage.
    pub by_stage: BTreeMap<String, u64>,
    /// Distinct failures by machine-readable reason.
    pub by_error_type: BTreeMap<String, u64>,
    /// The first failure of all, ms since 1970.
    pub oldest_failed_at_ms: Option<i64>,
    /// Its age in seconds.
    pub oldest_age_seconds: Option<i64>,
}

/// Opens the dead letters of the topic that is declared as `source`, from `from` to their present
/// end. Read them with [`DeadLetter::from_record`].
///
/// # Errors
/// There is no dead-letter topic, or the brokers cannot be reached.
pub async fn read_dead_letters(
    config: &KafkaConfig,
    source: &str,
    from: &ReadFrom,
) -> Result<TopicReader, ReaderError> {
    let topic = topics::dead_letter_topic(&config.topic(source));
    TopicReader::open(config, &topic, from, ReadUntil::PresentEnd).await
}

/// Counts the dead letters of the topic that is declared as `source`. Holds one identity of each
/// distinct failure in memory, no values.
///
/// # Errors
/// There is no dead-letter topic, or the brokers cannot be reached.
pub async fn summarize_dead_letters(
    config: &KafkaConfig,
    source: &str,
) -> Result<DeadLetterSummary, ReaderError> {
    let mut reader = read_dead_letters(config, source, &ReadFrom::Beginning).await?;
    let mut summary = DeadLetterSummary::default();
    let mut seen = HashSet::new();
    while let Some(record) = reader.next().await {
        let letter = DeadLetter::from_record(record?);
        summary.records += 1;
        if !seen.insert(letter.identity()) {
            continue;
        }
        summary.distinct += 1;
        let failed_at = letter.failed_at_ms();
        summary.oldest_failed_at_ms = match (summary.oldest_failed_at_ms, failed_at) {
            (Some(oldest), Some(this)) => Some(oldest.min(this)),
            (oldest, this) => oldest.or(this),
        };
        *summary.by_stage.entry(letter.stage).or_default() += 1;
        *summary.by_error_type.entry(letter.error_type).or_default() += 1;
    }
    summary.oldest_age_seconds = summary
        .oldest_failed_at_ms
        .map(|at| now_ms().saturating_sub(at).max(0) / 1000);
    Ok(summary)
}
