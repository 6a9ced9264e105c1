//! Items and counters for tests.

use std::collections::BTreeMap;

use millrace_schemas::{
    BehaviorEvent, BehaviorKind, Bucket, Feedback, FeedbackItem, ItemCounters, ItemStats, Origin,
    Signal,
};

pub(crate) const MODEL: &str = "model-1";

pub(crate) fn signal(item_id: &str, version: i64) -> Signal {
    Signal {
        item_id: item_id.to_owned(),
        uri: format!("file:///{item_id}"),
        document_version: version,
        model_version: MODEL.to_owned(),
        vector: vec![0.6, 0.8],
        title: Some(format!("Title of {item_id}")),
        language: Some("en".to_owned()),
        media_type: "text/plain".to_owned(),
        categories: vec!["news".to_owned()],
        tags: Vec::new(),
        key_phrases: Vec::new(),
        near_duplicate_hash: 0,
        published_at_ms: None,
        deleted: false,
        etag: None,
        size_bytes: None,
        metadata: BTreeMap::new(),
        origin: origin(),
    }
}

/// Something that a user did with an item like [`signal`]'s.
pub(crate) fn feedback(item_id: &str, kind: BehaviorKind, event_time_ms: i64) -> Feedback {
    feedback_of(signal(item_id, 1), kind, event_time_ms)
}

/// Something that a user did with an item.
pub(crate) fn feedback_of(signal: Signal, kind: BehaviorKind, event_time_ms: i64) -> Feedback {
    Feedback {
        event: BehaviorEvent {
            user_id: "u".to_owned(),
            event_id: format!("{}-{event_time_ms}", signal.item_id),
            item_id: signal.item_id.clone(),
            item: signal.item_id.clone(),
            kind,
            value: None,
            event_time_ms,
            request_id: None,
            trace_info: None,
            scene_id: None,
            position: None,
            attributes: BTreeMap::new(),
            source: "own".to_owned(),
        },
        origin: origin(),
        item: FeedbackItem::from(signal),
        expected_ctr: None,
    }
}

/// Counters of hours: number, impressions, clicks. Days have the same.
pub(crate) fn clicks(item_id: &str, revision: i64, hours: &[(i64, i64, i64)]) -> ItemStats {
    let mut counters = ItemCounters::default();
    for &(number, impressions, clicks) in hours {
        let bucket = |number| Bucket {
            number,
            impressions,
            clicks,
            ..Bucket::default()
        };
        counters.hours.push(bucket(number));
        match counters.days.last_mut() {
            Some(day) if day.number == number / 24 => {
                day.impressions += impressions;
                day.clicks += clicks;
            }
            _ => counters.days.push(bucket(number / 24)),
        }
    }
    ItemStats {
        item_id: item_id.to_owned(),
        counters,
        generation: 1,
        epoch: 1,
        revision,
        origin: origin(),
    }
}

fn origin() -> Origin {
    Origin {
        topic: "t".to_owned(),
        partition: 0,
        offset: 0,
    }
}

/// A direction from a fixed sequence of numbers.
pub(crate) fn random_unit(seed: u64, dimension: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let vector: Vec<f32> = (0..dimension).map(|_| next()).collect();
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter().map(|x| x / length).collect()
}
