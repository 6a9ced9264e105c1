//! Feedback with nothing remarkable.

use std::collections::BTreeMap;

use millrace_features::FeedbackPosition;
use millrace_schemas::{BehaviorEvent, BehaviorKind, Feedback, FeedbackItem, Origin};

pub(crate) const HOUR_MS: i64 = 3_600_000;
pub(crate) const START_MS: i64 = 1_700_000_000_000;
pub(crate) const MODEL: &str = "model";
/// Where a log begins.
pub(crate) const START: FeedbackPosition = FeedbackPosition {
    partition: 0,
    offset: 0,
};

/// What the joiner publishes of one record; the same number is the same record.
pub(crate) fn feedback(number: usize) -> Feedback {
    let kinds = [
        BehaviorKind::Expose,
        BehaviorKind::Click,
        BehaviorKind::Like,
    ];
    let id = i64::try_from(number).unwrap();
    let (sin, cos) = f32::from(u16::try_from(number).unwrap()).sin_cos();
    Feedback {
        event: BehaviorEvent {
            event_id: format!("e-{number}"),
            user_id: format!("u-{}", number % 3),
            item_id: format!("item-{}", number % 7),
            item: (number % 7).to_string(),
            kind: kinds[number % 5 % 3],
            value: None,
            // Not in order.
            event_time_ms: START_MS + id * 7_919_999 % (20 * HOUR_MS),
            request_id: None,
            trace_info: None,
            scene_id: None,
            position: None,
            attributes: BTreeMap::new(),
            source: "own".to_owned(),
        },
        origin: Origin {
            topic: "behavior.by-item".to_owned(),
            partition: i32::try_from(number % 2).unwrap(),
            // Several to a chunk, and several chunks.
            offset: id * 1_000,
        },
        item: FeedbackItem {
            model_version: MODEL.to_owned(),
            vector: vec![sin, cos],
            categories: vec![format!("c-{}", number % 4)],
            ..FeedbackItem::default()
        },
        expected_ctr: Some(0.1),
    }
}
