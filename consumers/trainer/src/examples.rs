//! Rankings from the topic `training`: what was answered, with the features that were logged when it was,
//! and the clicks that the labeler counted on it.
//!
//! The features are not computed again: what a ranker is trained on is what it was, or would have
//! been, asked to score. Answers of another feature version have other columns and are left out.

use std::collections::HashMap;

use millrace_kafka::{KafkaConfig, ReadFrom, ReadUntil, ReaderError, Record, TopicReader, topics};
use millrace_ranker::FeatureSpec;
use millrace_retry::while_unavailable;
use millrace_schemas::{SchemaError, SchemaRegistry, TrainingExample, decode_with};
use serde::Serialize;

use crate::ranking::Ranking;

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

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ExampleCounts {
    /// Answers in the span, each by its last record.
    pub answers: u64,
    /// Records of answers in the span that a later one of the same answer replaces.
    pub replaced: u64,
    /// Of the answers, with features of another version: left out.
    pub other_feature_version: u64,
    /// Of the answers, without features, as fall-backs are: left out.
    pub without_features: u64,
    /// Of the answers, with rows that are no rows of the features: left out.
    pub malformed: u64,
    /// Records that could not be read: left out.
    pub unreadable: u64,
    /// Of the answers that were taken, those of which something was clicked.
    pub clicked: u64,
    /// Clicks on the answers that were taken.
    pub clicks: u64,
}

/// Rankings of the topic.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// In order of time.
    pub rankings: Vec<Ranking>,
    /// What was read.
    pub counts: ExampleCounts,
}

/// Collects the last record of each answer.
#[derive(Debug)]
pub struct Collected {
    features: FeatureSpec,
    span: Span,
    last: HashMap<String, TrainingExample>,
    counts: ExampleCounts,
}

impl Collected {
    /// Of answers with these features.
    #[must_use]
    pub fn new(features: FeatureSpec, span: Span) -> Self {
        Self {
            features,
            span,
            last: HashMap::new(),
            counts: ExampleCounts::default(),
        }
    }

    /// Takes a record. Of several records of one answer that with the greatest revision holds, in
    /// whichever order they come.
    pub fn take(&mut self, example: TrainingExample) {
        if !(self.span.from_ms..self.span.to_ms).contains(&example.served_at_ms) {
            return;
        }
        let known = self.last.get(&example.request_id);
        let revision = known.map(|known| known.revision);
        if revision.is_some() {
            self.counts.replaced += 1;
        }
        if revision < Some(example.revision) {
            self.last.insert(example.request_id.clone(), example);
        }
    }

    /// Counts a record that could not be read.
    fn unreadable(&mut self, record: &Record, error: &SchemaError) {
        self.counts.unreadable += 1;
        tracing::warn!(
            origin = %record.origin(),
            error = error as &dyn std::error::Error,
            "a record is left out"
        );
    }

    /// The rankings with their clicks.
    #[must_use]
    pub fn finish(self) -> Served {
        let mut counts = self.counts;
        let mut rankings: Vec<Ranking> = Vec::new();
        for example in self.last.into_values() {
            counts.answers += 1;
            if example.items.iter().all(|item| item.features.is_empty()) {
                counts.without_features += 1;
            } else if example.feature_version != self.features.version {
                counts.other_feature_version += 1;
            } else if !has_rows(&example, self.features.names.len()) {
                counts.malformed += 1;
            } else {
                let clicks = example.items.iter().map(|item| item.clicks);
                counts.clicks += clicks.map(i32::unsigned_abs).map(u64::from).sum::<u64>();
                let ranking = ranking(example);
                counts.clicked += u64::from(ranking.has_click());
                rankings.push(ranking);
            }
        }
        // Partitions come mixed, so the order is that of time.
        rankings
            .sort_by(|a, b| (a.shown_at_ms, &a.request_id).cmp(&(b.shown_at_ms, &b.request_id)));
        Served { rankings, counts }
    }
}

fn has_rows(example: &TrainingExample, columns: usize) -> bool {
    let fits = |features: &[f32]| {
        features.len() == columns && !features.iter().any(|value| value.is_infinite())
    };
    example.items.iter().all(|item| fits(&item.features))
}

fn ranking(example: TrainingExample) -> Ranking {
    let mut items = example.items;
    items.sort_by_key(|item| item.position);
    Ranking {
        request_id: example.request_id,
        user_id: example.user_id,
        shown_at_ms: example.served_at_ms,
        clicked: items.iter().map(|item| item.clicks > 0).collect(),
        features: items
            .iter()
            .flat_map(|item| &item.features)
            .copied()
            .collect(),
        items: items.into_iter().map(|item| item.item_id).collect(),
    }
}

/// Reads the topic to its present end, telling `progress` the records read and how many there are.
///
/// # Errors
/// The topic is missing or cannot be read.
pub async fn read(
    kafka: &KafkaConfig,
    registry: Option<&dyn SchemaRegistry>,
    features: FeatureSpec,
    span: Span,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Served, ReaderError> {
    let mut collected = Collected::new(features, span);
    // An answer's records are written after it was made, so none of the span is before its beginning.
    let from = ReadFrom::Timestamp(span.from_ms.saturating_sub(SKEW_MS).max(0));
    let topic = kafka.topic(topics::TRAINING);
    let mut records = TopicReader::open(kafka, &topic, &from, ReadUntil::PresentEnd).await?;
    let total = count(&records);
    let mut done = 0;
    while let Some(record) = records.next().await {
        let record = record?;
        match value(&record, registry).await {
            Ok(Some(example)) => collected.take(example),
            Ok(None) => {}
            Err(error) => collected.unreadable(&record, &error),
        }
        done += 1;
        progress(done, total);
    }
    Ok(collected.finish())
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

#[cfg(test)]
mod tests {
    use millrace_schemas::{Origin, TrainingItem};

    use super::*;

    const SPAN: Span = Span {
        from_ms: 1_000,
        to_ms: 2_000,
    };

    fn example(request: &str, at_ms: i64, version: &str, rows: &[&[f32]]) -> TrainingExample {
        let item = |(position, row): (i32, &&[f32])| TrainingItem {
            item_id: format!("i{position}"),
            position,
            score: 0.0,
            features: row.to_vec(),
            propensity: 1.0,
            explored: false,
            clicks: 0,
            first_click_ms: None,
        };
        let mut items: Vec<_> = (1..=3).zip(rows).map(item).collect();
        // As it would be where a writer did not sort them.
        items.reverse();
        TrainingExample {
            request_id: request.to_owned(),
            revision: 1,
            user_id: "u".to_owned(),
            scene: String::new(),
            pipeline: String::new(),
            bucket: None,
            served_at_ms: at_ms,
            items,
            window_ms: 1_800_000,
            feature_version: version.to_owned(),
            ranker_version: String::new(),
            embedding_version: String::new(),
            index_version: String::new(),
            bm25_weight: 0.3,
            vector_weight: 0.7,
            weight_probability: 1.0,
            fallback: None,
            origin: Origin {
                topic: "impressions".to_owned(),
                partition: 0,
                offset: 0,
            },
        }
    }

    #[test]
    fn answers_of_these_features_become_rankings_and_all_others_are_counted() {
        let features = FeatureSpec {
            version: "v1".to_owned(),
            names: vec!["a".to_owned(), "b".to_owned()],
        };
        let missing = f32::NAN;
        let good: &[&[f32]] = &[&[1.0, missing], &[3.0, 4.0]];
        let clicked = |mut example: TrainingExample, position: i32| {
            let place = example.items.iter().position(|i| i.position == position);
            example.count_click(place.unwrap(), example.served_at_ms + 1);
            example
        };
        let second = example("second", 1_500, "v1", good);
        let once = clicked(second.clone(), 2);
        let mut collected = Collected::new(features, SPAN);
        for record in [
            example("late", 2_000, "v1", good),
            // The last revision holds, also where an older one is delivered after it.
            clicked(once.clone(), 2),
            second,
            once,
            example("first", 1_000, "v1", good),
            example("other", 1_500, "v0", good),
            example("fallback", 1_500, "v1", &[&[], &[]]),
            example("short", 1_500, "v1", &[&[1.0, 2.0], &[1.0]]),
            example("infinite", 1_500, "v1", &[&[1.0, f32::INFINITY]]),
        ] {
            collected.take(record);
        }
        let Served { rankings, counts } = collected.finish();
        let requests: Vec<&str> = rankings.iter().map(|r| r.request_id.as_str()).collect();
        assert_eq!(requests, ["first", "second"]);
        assert_eq!(rankings[1].items, ["i1", "i2"]);
        assert_eq!(rankings[1].clicked, [false, true]);
        assert_eq!(rankings[1].features[2..], [3.0, 4.0]);
        assert!(rankings[1].features[1].is_nan());
        assert!(!rankings[0].has_click());
        let expected = ExampleCounts {
            answers: 6,
            replaced: 2,
            other_feature_version: 1,
            without_features: 1,
            malformed: 2,
            unreadable: 0,
            clicked: 1,
            clicks: 2,
        };
        assert_eq!(counts, expected);
    }
}
