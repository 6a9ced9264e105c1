//! Events and signals with nothing remarkable, for this crate's tests.

use std::collections::BTreeMap;

use millrace_schemas::{
    BehaviorEvent, BehaviorKind, Origin, Signal, TrainingExample, TrainingItem,
};

pub(crate) fn event(
    user: &str,
    item: &str,
    kind: BehaviorKind,
    event_time_ms: i64,
    request: Option<&str>,
) -> BehaviorEvent {
    let request_id = request.map(str::to_owned);
    BehaviorEvent {
        event_id: format!("{user}-{item}-{kind}-{event_time_ms}-{request:?}"),
        user_id: user.to_owned(),
        item_id: item.to_owned(),
        item: item.to_owned(),
        kind,
        value: None,
        event_time_ms,
        request_id,
        trace_info: None,
        scene_id: None,
        position: None,
        attributes: BTreeMap::new(),
        source: "own".to_owned(),
    }
}

/// A list as its row tells it.
pub(crate) fn shown(request: &str, user: &str, at_ms: i64, items: &[&str]) -> Vec<BehaviorEvent> {
    let expose = |(item, position): (&&str, i32)| BehaviorEvent {
        position: Some(position),
        ..event(user, item, BehaviorKind::Expose, at_ms, Some(request))
    };
    items.iter().zip(1..).map(expose).collect()
}

pub(crate) fn signal(item: &str, vector: Vec<f32>, metadata: &[(&str, &str)]) -> Signal {
    let metadata = metadata
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Signal {
        item_id: item.to_owned(),
        uri: String::new(),
        document_version: 1,
        model_version: "m".to_owned(),
        vector,
        title: None,
        language: None,
        media_type: String::new(),
        categories: vec![],
        tags: vec![],
        key_phrases: vec![],
        near_duplicate_hash: 0,
        published_at_ms: None,
        deleted: false,
        etag: None,
        size_bytes: None,
        metadata,
        origin: Origin {
            topic: "recording".to_owned(),
            partition: 0,
            offset: 0,
        },
    }
}

/// An answer of which nothing was clicked, with these rows of features, as the topic `training` has it.
pub(crate) fn answered(request: &str, at_ms: i64, rows: &[&[f32]]) -> TrainingExample {
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
    TrainingExample {
        request_id: request.to_owned(),
        revision: 1,
        user_id: "u".to_owned(),
        scene: String::new(),
        pipeline: String::new(),
        bucket: None,
        served_at_ms: at_ms,
        items: (1..).zip(rows).map(item).collect(),
        window_ms: 1_800_000,
        feature_version: String::new(),
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
