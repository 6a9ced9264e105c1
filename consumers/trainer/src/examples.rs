//! Rankings from the topic `training`: what was answered, with the features that were logged when it was,
//! and the clicks that the labeler counted on it.
//!
//! The features are not computed again: what a ranker is trained on is what it was, or would have
//! been, asked to score. Answers of another feature version have other columns and are left out.

use millrace_kafka::{KafkaConfig, ReaderError};
use millrace_ranker::FeatureSpec;
use millrace_schemas::{SchemaRegistry, TrainingExample};
use serde::Serialize;

use crate::answers::{self, Answers, Span};
use crate::ranking::Ranking;

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

fn served(answers: Answers<TrainingExample>, features: &FeatureSpec) -> Served {
    let mut counts = ExampleCounts {
        replaced: answers.replaced,
        unreadable: answers.unreadable,
        ..ExampleCounts::default()
    };
    let mut rankings: Vec<Ranking> = Vec::new();
    for example in answers.into_kept() {
        counts.answers += 1;
        if example.items.iter().all(|item| item.features.is_empty()) {
            counts.without_features += 1;
        } else if example.feature_version != features.version {
            counts.other_feature_version += 1;
        } else if !has_rows(&example, features.names.len()) {
            counts.malformed += 1;
        } else {
            let clicks = example.items.iter().map(|item| item.clicks);
            counts.clicks += clicks.map(i32::unsigned_abs).map(u64::from).sum::<u64>();
            let ranking = ranking(example);
            counts.clicked += u64::from(ranking.has_click());
            rankings.push(ranking);
        }
    }
    // By request id until here.
    rankings.sort_by_key(|ranking| ranking.shown_at_ms);
    Served { rankings, counts }
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
    features: &FeatureSpec,
    span: Span,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Served, ReaderError> {
    let read = answers::read(kafka, registry, span, |example| example, progress);
    Ok(served(read.await?, features))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::answered;

    const SPAN: Span = Span {
        from_ms: 1_000,
        to_ms: 2_000,
    };

    fn example(request: &str, at_ms: i64, version: &str, rows: &[&[f32]]) -> TrainingExample {
        let mut example = answered(request, at_ms, rows);
        // As it would be where a writer did not sort them.
        example.items.reverse();
        TrainingExample {
            feature_version: version.to_owned(),
            ..example
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
        let mut collected = Answers::new(SPAN);
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
            collected.take(record, |example| example);
        }
        let Served { rankings, counts } = served(collected, &features);
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
