//! Users, items and feedback with little remarkable.

use std::collections::BTreeMap;

use millrace_features::{Context, Item, Priors};
use millrace_schemas::{BehaviorEvent, BehaviorKind, Feedback, FeedbackItem, ItemCounters, Origin};

pub const MODEL: &str = "model-1";
pub const NOW_MS: i64 = 1_700_000_000_000;
pub const HOUR_MS: i64 = 3_600_000;
pub const DAY_MS: i64 = 24 * HOUR_MS;

/// `kind` of item `item-{n}`, which has the direction, category and tags of its number.
pub fn feedback(kind: BehaviorKind, n: usize, time_ms: i64) -> Feedback {
    Feedback {
        event: BehaviorEvent {
            event_id: String::new(),
            user_id: "u".to_owned(),
            item_id: item_id(n),
            item: String::new(),
            kind,
            value: None,
            event_time_ms: time_ms,
            request_id: None,
            trace_info: None,
            scene_id: None,
            position: None,
            attributes: BTreeMap::new(),
            source: "own".to_owned(),
        },
        origin: Origin {
            topic: "behavior.by-item".to_owned(),
            partition: 0,
            offset: 0,
        },
        expected_ctr: Some(0.2),
        item: item(n),
    }
}

pub fn item_id(n: usize) -> String {
    format!("item-{n}")
}

pub fn item(n: usize) -> FeedbackItem {
    FeedbackItem {
        document_version: 1,
        model_version: MODEL.to_owned(),
        vector: vector(n),
        title: Some("A title".to_owned()),
        language: Some("en".to_owned()),
        categories: vec![format!("category-{}", n % 3)],
        tags: vec![format!("tag-{}", n % 5), format!("tag-{}", n % 7)],
        key_phrases: vec![format!("phrase {n}")],
        near_duplicate_hash: 0,
        published_at_ms: Some(NOW_MS - 5 * HOUR_MS),
        deleted: false,
        metadata: BTreeMap::from([
            ("author".to_owned(), format!("Author {}", n % 4)),
            ("popularity".to_owned(), "17.5".to_owned()),
        ]),
    }
}

/// Length 1, 24 components, of which item n has its n-th most.
pub fn vector(n: usize) -> Vec<f32> {
    let mut vector = [0.1_f32; 24];
    vector[n % 24] = 1.0;
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter().map(|x| x / length).collect()
}

pub fn of<'a>(feedback: &'a Feedback, counters: &'a ItemCounters) -> Item<'a> {
    Item::of_feedback(feedback, counters)
}

/// One click of five impressions on the average.
pub fn context(now_ms: i64) -> Context {
    let prior = millrace_features::rates::BetaPrior {
        clicks: 2.0,
        impressions: 10.0,
    };
    Context {
        priors: Priors {
            hour: prior,
            day: prior,
            week: prior,
        },
        ..Context::of_totals([], now_ms)
    }
}
