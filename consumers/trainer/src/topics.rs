//! Rankings from the topics `impressions` and `feedback`: what was answered, with the features that
//! were logged when it was, and the clicks that named its request.
//!
//! The features are not computed again: what a ranker is trained on is what it was, or would have
//! been, asked to score. Impressions of another feature version have other columns and are left out.

use millrace_kafka::{KafkaConfig, ReadFrom, ReadUntil, ReaderError, Record, TopicReader, topics};
use millrace_ranker::FeatureSpec;
use millrace_retry::while_unavailable;
use millrace_schemas::{Feedback, Impression, Message, SchemaError, SchemaRegistry, decode_with};
use serde::Serialize;

use crate::ranking::{CLICK_WINDOW_MS, ClickCounts, ClickJoin, Ranking};

/// How much earlier than their answer clicks may have been recorded: clocks differ.
pub(crate) const SKEW_MS: i64 = 5 * 60 * 1000;

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
pub struct TopicCounts {
    /// Answers in the span.
    pub impressions: u64,
    /// Of those, with features of another version: left out.
    pub other_feature_version: u64,
    /// Of those, without features, as fall-backs are: left out.
    pub without_features: u64,
    /// Of those, with rows that are no rows of the features: left out.
    pub malformed: u64,
    /// Of those, delivered more than once.
    pub repeated: u64,
    /// Records of either topic that could not be read: left out.
    pub unreadable: u64,
    /// Clicks on the answers that were taken.
    pub clicks: ClickCounts,
}

/// Rankings of topics.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// In order of time.
    pub rankings: Vec<Ranking>,
    /// What was read.
    pub counts: TopicCounts,
}

/// Collects impressions, and then clicks on them.
#[derive(Debug)]
pub struct Collected {
    features: FeatureSpec,
    span: Span,
    rankings: Vec<Ranking>,
    join: ClickJoin,
    counts: TopicCounts,
}

impl Collected {
    /// Of answers with these features.
    #[must_use]
    pub fn new(features: FeatureSpec, span: Span) -> Self {
        Self {
            features,
            span,
            rankings: Vec::new(),
            join: ClickJoin::default(),
            counts: TopicCounts::default(),
        }
    }

    /// Takes an answer, or counts why not.
    pub fn impression(&mut self, impression: Impression) {
        if !(self.span.from_ms..self.span.to_ms).contains(&impression.served_at_ms) {
            return;
        }
        self.counts.impressions += 1;
        if impression.items.iter().all(|item| item.features.is_empty()) {
            self.counts.without_features += 1;
        } else if impression.feature_version != self.features.version {
            self.counts.other_feature_version += 1;
        } else if let Some(ranking) = ranking(impression, self.features.names.len()) {
            self.rankings.push(ranking);
        } else {
            self.counts.malformed += 1;
        }
    }

    /// All answers are there: clicks may come. Partitions come mixed, so the order is that of time.
    pub fn sort(&mut self) {
        self.rankings.sort_by(|a, b| {
            let order = |r: &Ranking| (r.shown_at_ms, r.request_id.clone());
            order(a).cmp(&order(b))
        });
        for ranking in std::mem::take(&mut self.rankings) {
            self.join.add(ranking);
        }
    }

    /// Takes feedback.
    pub fn feedback(&mut self, feedback: &Feedback) {
        let event = &feedback.event;
        let known = event
            .request_id
            .as_deref()
            .is_some_and(|id| self.join.knows(id));
        // Most clicks are on answers outside the span, or on none of ours.
        if known {
            self.join.click(event);
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
        let counts = TopicCounts {
            clicks: self.join.counts(),
            repeated: self.join.repeated_requests(),
            ..self.counts
        };
        Served {
            rankings: self.join.into_rankings(),
            counts,
        }
    }
}

fn ranking(impression: Impression, columns: usize) -> Option<Ranking> {
    let mut items = impression.items;
    items.sort_by_key(|item| item.position);
    let fits = |features: &[f32]| {
        features.len() == columns && !features.iter().any(|value| value.is_infinite())
    };
    if !items.iter().all(|item| fits(&item.features)) {
        return None;
    }
    Some(Ranking {
        request_id: impression.request_id,
        user_id: impression.user_id,
        shown_at_ms: impression.served_at_ms,
        clicked: vec![false; items.len()],
        features: items
            .iter()
            .flat_map(|item| &item.features)
            .copied()
            .collect(),
        items: items.into_iter().map(|item| item.item_id).collect(),
    })
}

/// Reads both topics to their present ends, telling `progress` the records read and how many there
/// are.
///
/// # Errors
/// A topic is missing or cannot be read.
pub async fn read(
    kafka: &KafkaConfig,
    registry: Option<&dyn SchemaRegistry>,
    features: FeatureSpec,
    span: Span,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Served, ReaderError> {
    let mut collected = Collected::new(features, span);
    let from = ReadFrom::Timestamp(span.from_ms.saturating_sub(SKEW_MS).max(0));
    let mut answers = open(kafka, topics::IMPRESSIONS, &from).await?;
    let mut clicks = open(kafka, topics::FEEDBACK, &from).await?;
    let total = records(&answers) + records(&clicks);
    let mut done = 0;
    while let Some(record) = answers.next().await {
        let record = record?;
        match value(&record, registry).await {
            Ok(Some(impression)) => collected.impression(impression),
            Ok(None) => {}
            Err(error) => collected.unreadable(&record, &error),
        }
        done += 1;
        progress(done, total);
    }
    collected.sort();
    let last_ms = span.to_ms.saturating_add(CLICK_WINDOW_MS);
    while let Some(record) = clicks.next().await {
        let record = record?;
        match value::<Feedback>(&record, registry).await {
            Ok(Some(feedback)) if feedback.event.event_time_ms < last_ms => {
                collected.feedback(&feedback);
            }
            Ok(_) => {}
            Err(error) => collected.unreadable(&record, &error),
        }
        done += 1;
        progress(done, total);
    }
    Ok(collected.finish())
}

/// Opens a topic up to its present end.
pub(crate) async fn open(
    kafka: &KafkaConfig,
    topic: &str,
    from: &ReadFrom,
) -> Result<TopicReader, ReaderError> {
    TopicReader::open(kafka, &kafka.topic(topic), from, ReadUntil::PresentEnd).await
}

/// Records of a topic that are read.
pub(crate) fn records(reader: &TopicReader) -> u64 {
    let ends = reader.end_offsets();
    let span = |(partition, start): (&i32, &i64)| {
        let end = ends.get(partition).copied().unwrap_or(*start);
        u64::try_from(end - start).unwrap_or(0)
    };
    reader.start_offsets().iter().map(span).sum()
}

/// A record's value; none of a tombstone. An unreachable schema registry makes this wait.
pub(crate) async fn value<M: Message>(
    record: &Record,
    registry: Option<&dyn SchemaRegistry>,
) -> Result<Option<M>, SchemaError> {
    let Some(value) = record.value.as_deref() else {
        return Ok(None);
    };
    let read = || decode_with::<M>(value, registry);
    let read = while_unavailable("reading a schema", SchemaError::is_retryable, read);
    read.await.map(Some)
}

#[cfg(test)]
mod tests {
    use millrace_schemas::{BehaviorKind, FeedbackItem, ImpressionItem, Origin};

    use super::*;
    use crate::samples::event;

    const SPAN: Span = Span {
        from_ms: 1_000,
        to_ms: 2_000,
    };

    fn answer(request: &str, at_ms: i64, version: &str, rows: &[&[f32]]) -> Impression {
        let item = |(position, row): (i32, &&[f32])| ImpressionItem {
            item_id: format!("i{position}"),
            position,
            score: 0.0,
            features: row.to_vec(),
            propensity: 1.0,
            explored: false,
            sources: vec![],
        };
        Impression {
            request_id: request.to_owned(),
            user_id: "u".to_owned(),
            scene: String::new(),
            pipeline: String::new(),
            bucket: None,
            served_at_ms: at_ms,
            // As it would be where a writer did not sort them.
            items: (1..=3)
                .zip(rows)
                .map(item)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .collect(),
            feature_version: version.to_owned(),
            ranker_version: String::new(),
            embedding_version: String::new(),
            index_version: String::new(),
            bm25_weight: 0.3,
            vector_weight: 0.7,
            weight_probability: 1.0,
            fallback: None,
            read_up_to: vec![],
            profile: None,
        }
    }

    fn feedback(request: &str, item: &str, kind: BehaviorKind, at_ms: i64) -> Feedback {
        Feedback {
            event: event("u", item, kind, at_ms, Some(request)),
            origin: Origin {
                topic: String::new(),
                partition: 0,
                offset: 0,
            },
            item: FeedbackItem::default(),
            expected_ctr: None,
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
        let mut collected = Collected::new(features, SPAN);
        for impression in [
            answer("late", 2_000, "v1", good),
            answer("second", 1_500, "v1", good),
            answer("first", 1_000, "v1", good),
            answer("first", 1_000, "v1", good),
            answer("other", 1_500, "v0", good),
            answer("fallback", 1_500, "v1", &[&[], &[]]),
            answer("short", 1_500, "v1", &[&[1.0, 2.0], &[1.0]]),
            answer("infinite", 1_500, "v1", &[&[1.0, f32::INFINITY]]),
        ] {
            collected.impression(impression);
        }
        collected.sort();
        for (request, item, kind, at_ms) in [
            ("second", "i2", BehaviorKind::Click, 1_600),
            ("second", "i1", BehaviorKind::Expose, 1_600),
            ("first", "i1", BehaviorKind::Click, 1_001 + CLICK_WINDOW_MS),
            ("other", "i1", BehaviorKind::Click, 1_600),
        ] {
            collected.feedback(&feedback(request, item, kind, at_ms));
        }
        let Served { rankings, counts } = collected.finish();
        let requests: Vec<&str> = rankings.iter().map(|r| r.request_id.as_str()).collect();
        assert_eq!(requests, ["first", "second"]);
        assert_eq!(rankings[1].items, ["i1", "i2"]);
        assert_eq!(rankings[1].clicked, [false, true]);
        assert_eq!(rankings[1].features[2..], [3.0, 4.0]);
        assert!(rankings[1].features[1].is_nan());
        assert!(!rankings[0].has_click());
        let expected = TopicCounts {
            impressions: 7,
            other_feature_version: 1,
            without_features: 1,
            malformed: 2,
            repeated: 1,
            unreadable: 0,
            clicks: ClickCounts {
                joined: 1,
                too_late: 1,
                ..ClickCounts::default()
            },
        };
        assert_eq!(counts, expected);
    }
}
