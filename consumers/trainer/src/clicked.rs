//! Answers of which something was clicked, from the topic `training`, whatever features they have: who
//! asked, what was shown, what was clicked.

use millrace_kafka::{KafkaConfig, ReaderError};
use millrace_schemas::{SchemaRegistry, TrainingExample};

use crate::answers::{self, Answers, Span};

/// An answer of which something was clicked, and not all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClickedAnswer {
    /// Whose request it was.
    pub user_id: String,
    /// When it was answered, ms since 1970.
    pub served_at_ms: i64,
    /// What was shown.
    pub items: Vec<ShownItem>,
}

/// An item of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownItem {
    /// The item; the document's id.
    pub item_id: String,
    /// Whether it was clicked within the answer's window.
    pub clicked: bool,
}

/// What is kept of a record: nothing where it tells no order from another.
fn kept(example: TrainingExample) -> Option<ClickedAnswer> {
    let clicked = example.items.iter().filter(|item| item.clicks > 0).count();
    if clicked == 0 || clicked == example.items.len() {
        return None;
    }
    let shown = example.items.into_iter().map(|item| ShownItem {
        item_id: item.item_id,
        clicked: item.clicks > 0,
    });
    Some(ClickedAnswer {
        user_id: example.user_id,
        served_at_ms: example.served_at_ms,
        items: shown.collect(),
    })
}

fn clicked(answers: Answers<Option<ClickedAnswer>>) -> Vec<ClickedAnswer> {
    let mut clicked: Vec<ClickedAnswer> = answers.into_kept().flatten().collect();
    // By request id until here.
    clicked.sort_by_key(|answer| answer.served_at_ms);
    clicked
}

/// Reads the topic to its present end; in order of time.
///
/// # Errors
/// The topic is missing or cannot be read.
pub async fn read(
    kafka: &KafkaConfig,
    registry: Option<&dyn SchemaRegistry>,
    span: Span,
) -> Result<Vec<ClickedAnswer>, ReaderError> {
    let mut progress = |_, _| {};
    let read = answers::read(kafka, registry, span, kept, &mut progress).await?;
    Ok(clicked(read))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::answered;

    #[test]
    fn answers_that_tell_no_order_from_another_are_left_out() {
        let rows: &[&[f32]] = &[&[1.0], &[2.0]];
        let with_clicks = |request: &str, at_ms: i64, places: &[usize]| {
            let mut example = answered(request, at_ms, rows);
            for place in places {
                example.count_click(*place, at_ms + 1);
            }
            example
        };
        let mut answers = Answers::new(Span {
            from_ms: 0,
            to_ms: 10_000,
        });
        for example in [
            with_clicks("late", 3_000, &[1]),
            with_clicks("early", 2_000, &[0]),
            with_clicks("none", 2_000, &[]),
            with_clicks("all", 2_000, &[0, 1]),
        ] {
            answers.take(example, kept);
        }
        let found = clicked(answers);
        let at: Vec<i64> = found.iter().map(|answer| answer.served_at_ms).collect();
        assert_eq!(at, [2_000, 3_000]);
        let marks: Vec<bool> = found[1].items.iter().map(|item| item.clicked).collect();
        assert_eq!(marks, [false, true]);
    }
}
