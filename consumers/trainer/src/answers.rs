//! The topic `training`: answers with the clicks on them, each by its last record.

use std::collections::BTreeMap;

use millrace_kafka::{KafkaConfig, ReadFrom, ReadUntil, ReaderError, Record, TopicReader, topics};
use millrace_retry::while_unavailable;
use millrace_schemas::{SchemaError, SchemaRegistry, TrainingExample, decode_with};

/// How much earlier than it was made an answer's record may have been written: clocks differ.
const SKEW_MS: i64 = 5 * 60 * 1000;

/// Answers of this time, from the first moment to before the last one, ms since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first moment.
    pub from_ms: i64,
    /// The moment after the last one.
    pub to_ms: i64,
}

/// What is kept of the answers of a span.
#[derive(Debug)]
pub(crate) struct Answers<K> {
    span: Span,
    /// Revision and what is kept, by request id.
    last: BTreeMap<String, (i32, K)>,
    /// Records that a later one of the same answer replaces.
    pub replaced: u64,
    /// Records that could not be read: left out.
    pub unreadable: u64,
}

impl<K> Answers<K> {
    pub fn new(span: Span) -> Self {
        Self {
            span,
            last: BTreeMap::new(),
            replaced: 0,
            unreadable: 0,
        }
    }

    /// Takes a record. Of several records of one answer that with the greatest revision holds, in
    /// whichever order they come.
    pub fn take(&mut self, example: TrainingExample, keep: impl FnOnce(TrainingExample) -> K) {
        if !(self.span.from_ms..self.span.to_ms).contains(&example.served_at_ms) {
            return;
        }
        let known = self.last.get(&example.request_id);
        let revision = known.map(|(revision, _)| *revision);
        if revision.is_some() {
            self.replaced += 1;
        }
        if revision < Some(example.revision) {
            let (request_id, revision) = (example.request_id.clone(), example.revision);
            self.last.insert(request_id, (revision, keep(example)));
        }
    }

    /// What was kept, in order of the request ids.
    pub fn into_kept(self) -> impl Iterator<Item = K> {
        self.last.into_values().map(|(_, kept)| kept)
    }

    fn unreadable(&mut self, record: &Record, error: &SchemaError) {
        self.unreadable += 1;
        tracing::warn!(
            origin = %record.origin(),
            error = error as &dyn std::error::Error,
            "a record is left out"
        );
    }
}

/// Reads the topic to its present end, telling `progress` the records read and how many there are.
///
/// # Errors
/// The topic is missing or cannot be read.
pub(crate) async fn read<K>(
    kafka: &KafkaConfig,
    registry: Option<&dyn SchemaRegistry>,
    span: Span,
    keep: impl Fn(TrainingExample) -> K,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Answers<K>, ReaderError> {
    let mut answers = Answers::new(span);
    // An answer's records are written after it was made, so none of the span is before its beginning.
    let from = ReadFrom::Timestamp(span.from_ms.saturating_sub(SKEW_MS).max(0));
    let topic = kafka.topic(topics::TRAINING);
    let mut records = TopicReader::open(kafka, &topic, &from, ReadUntil::PresentEnd).await?;
    let total = count(&records);
    let mut done = 0;
    while let Some(record) = records.next().await {
        let record = record?;
        match value(&record, registry).await {
            Ok(Some(example)) => answers.take(example, &keep),
            Ok(None) => {}
            Err(error) => answers.unreadable(&record, &error),
        }
        done += 1;
        progress(done, total);
    }
    Ok(answers)
}

fn count(reader: &TopicReader) -> u64 {
    let ends = reader.end_offsets();
    let span = |(partition, start): (&i32, &i64)| {
        let end = ends.get(partition).copied().unwrap_or(*start);
        u64::try_from(end - start).unwrap_or(0)
    };
    reader.start_offsets().iter().map(span).sum()
}

/// A record's value; none of a tombstone. An unreachable schema registry makes this wait.
async fn value(
    record: &Record,
    registry: Option<&dyn SchemaRegistry>,
) -> Result<Option<TrainingExample>, SchemaError> {
    let Some(value) = record.value.as_deref() else {
        return Ok(None);
    };
    let read = || decode_with(value, registry);
    let read = while_unavailable("reading a schema", SchemaError::is_retryable, read);
    read.await.map(Some)
}
