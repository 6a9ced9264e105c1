//! A signal and an event with nothing remarkable.

use std::collections::BTreeMap;

use millrace_schemas::{BehaviorEvent, BehaviorKind, Origin, Signal};

pub(crate) fn signal(item_id: &str, model_version: &str, version: i64, deleted: bool) -> Signal {
    Signal {
        item_id: item_id.to_owned(),
        uri: String::new(),
        document_version: version,
        model_version: model_version.to_owned(),
        vector: if deleted { vec![] } else { vec![0.5] },
        title: None,
        language: None,
        media_type: String::new(),
        categories: vec![],
        tags: vec![],
        key_phrases: vec![],
        near_duplicate_hash: 0,
        published_at_ms: None,
        deleted,
        etag: None,
        size_bytes: None,
        metadata: BTreeMap::new(),
        origin: origin(0),
    }
}

pub(crate) fn event(
    kind: BehaviorKind,
    event_time_ms: i64,
    position: Option<i32>,
) -> BehaviorEvent {
    BehaviorEvent {
        event_id: String::new(),
        user_id: "u".to_owned(),
        item_id: "i".to_owned(),
        item: "i".to_owned(),
        kind,
        value: None,
        event_time_ms,
        request_id: None,
        trace_info: None,
        scene_id: None,
        position,
        attributes: BTreeMap::new(),
        source: "own".to_owned(),
    }
}

pub(crate) fn origin(offset: i64) -> Origin {
    Origin {
        topic: "behavior".to_owned(),
        partition: 0,
        offset,
    }
}
