//! Answers whose hybrid weights were left to chance, from the topic `training`: which weights were
//! drawn, with which probability, and whether anything of the answer was clicked.
//!
//! All answers of a recommender that draws are taken, also those that got the configured weights: these
//! were drawn as well, most of the time. One that never draws gives its weights with probability 1, and
//! what it says of them can't be compared with others: other users may have asked at other times.

use millrace_kafka::{KafkaConfig, ReaderError};
use millrace_schemas::{SchemaRegistry, TrainingExample};
use serde::Serialize;

use crate::answers::{self, Answers, Span};

/// Why an answer is not personal where that was known before anything was searched: its list would
/// have been the same with all weights.
const DECIDED_BEFORE: [&str; 4] = [
    "unknown_user",
    "cold_user",
    "profiles_unavailable",
    "catalog_not_ready",
];

/// An answer whose weights were drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct DrawnAnswer {
    /// Whose request it was.
    pub user_id: String,
    /// The weight of BM25 that was drawn, 0 to 1.
    pub bm25_weight: f64,
    /// Probability of this weight over the draws of the request, above 0 and below 1.
    pub probability: f64,
    /// Whether anything of it was clicked.
    pub clicked: bool,
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DrawnCounts {
    /// Answers of the span.
    pub answers: u64,
    /// Of those, by recommenders that do not draw: left out.
    pub not_drawn: u64,
    /// Of those, lists that no weights could have changed: left out.
    pub without_search: u64,
    /// Of those, with weights or probabilities that are none: left out.
    pub malformed: u64,
    /// Records that could not be read: left out.
    pub unreadable: u64,
}

/// Answers of the topic.
#[derive(Clone, Debug, Default)]
pub struct Drawn {
    /// In order of their request ids.
    pub answers: Vec<DrawnAnswer>,
    /// What was read.
    pub counts: DrawnCounts,
}

/// What of an answer is kept until all of its revisions are there.
#[derive(Debug)]
struct Kept {
    answer: DrawnAnswer,
    fallback: Option<String>,
}

impl From<TrainingExample> for Kept {
    fn from(example: TrainingExample) -> Self {
        Self {
            answer: DrawnAnswer {
                clicked: example.items.iter().any(|item| item.clicks > 0),
                user_id: example.user_id,
                bm25_weight: example.bm25_weight,
                probability: example.weight_probability,
            },
            fallback: example.fallback,
        }
    }
}

fn drawn(read: Answers<Kept>) -> Drawn {
    let mut counts = DrawnCounts {
        unreadable: read.unreadable,
        ..DrawnCounts::default()
    };
    let mut answers = Vec::new();
    for Kept { answer, fallback } in read.into_kept() {
        counts.answers += 1;
        let is_probability = answer.probability > 0.0 && answer.probability <= 1.0;
        let fallback = fallback.as_deref();
        if !is_probability || !(0.0..=1.0).contains(&answer.bm25_weight) {
            counts.malformed += 1;
        } else if fallback.is_some_and(|reason| DECIDED_BEFORE.contains(&reason)) {
            counts.without_search += 1;
        } else if answer.probability >= 1.0 {
            counts.not_drawn += 1;
        } else {
            answers.push(answer);
        }
    }
    Drawn { answers, counts }
}

/// Reads the topic to its present end, telling `progress` the records read and how many there are.
///
/// # Errors
/// The topic is missing or cannot be read.
pub async fn read(
    kafka: &KafkaConfig,
    registry: Option<&dyn SchemaRegistry>,
    span: Span,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Drawn, ReaderError> {
    let read = answers::read(kafka, registry, span, Kept::from, progress);
    Ok(drawn(read.await?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::answered;

    fn example(
        request: &str,
        revision: i32,
        bm25_weight: f64,
        probability: f64,
    ) -> TrainingExample {
        let mut example = answered(request, 1_500, &[&[], &[], &[]]);
        for item in &mut example.items {
            item.clicks = i32::from(item.position < revision);
        }
        TrainingExample {
            revision,
            bm25_weight,
            vector_weight: 1.0 - bm25_weight,
            weight_probability: probability,
            ..example
        }
    }

    #[test]
    fn the_last_revision_of_an_answer_counts_and_what_was_not_drawn_is_left_out() {
        let mut collected = Answers::new(Span {
            from_ms: 1_000,
            to_ms: 2_000,
        });
        let fallback = |request: &str, reason: &str| TrainingExample {
            fallback: Some(reason.to_owned()),
            ..example(request, 1, 0.3, 0.97)
        };
        for example in [
            // A late click is told before what it corrects, as another partition's record may be.
            example("b", 2, 0.3, 0.97),
            example("b", 1, 0.3, 0.97),
            example("a", 1, 0.5, 0.005),
            example("not drawn", 1, 0.3, 1.0),
            example("no probability", 1, 0.3, 0.0),
            example("no weight", 1, f64::NAN, 0.5),
            fallback("unknown", "unknown_user"),
            fallback("c", "index_unavailable"),
            TrainingExample {
                served_at_ms: 2_000,
                ..example("later", 1, 0.3, 0.97)
            },
        ] {
            collected.take(example, Kept::from);
        }
        let Drawn { answers, counts } = drawn(collected);
        let found: Vec<(f64, bool)> = answers.iter().map(|a| (a.bm25_weight, a.clicked)).collect();
        assert_eq!(found, [(0.5, false), (0.3, true), (0.3, false)]);
        let expected = DrawnCounts {
            answers: 7,
            not_drawn: 1,
            without_search: 1,
            malformed: 2,
            unreadable: 0,
        };
        assert_eq!(counts, expected);
    }
}
