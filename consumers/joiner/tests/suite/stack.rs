//! What the tests of the joiner publish and ask.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use millrace_joiner::{Joiner, JoinerConfig, JoinerDeps, JoinerHandle, StartError};
use millrace_kafka::{KafkaConfig, Producer};
use millrace_schemas::{
    BehaviorEvent, BehaviorKind, EventHeaders, Feedback, ItemStats, Origin, Signal,
};
use millrace_state::StateStore;
use millrace_stateful::testing::{Place, now_ms};

pub const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A joiner of this place.
pub async fn joiner_of(place: &Place) -> Result<JoinerHandle> {
    Ok(start(&place.kafka, place.state().await?).await?)
}

/// Feedback by origin; a repetition must be the same, but for the click-through rate that was
/// expected: it depends on the signals that were there before.
pub async fn feedback_of(place: &Place) -> Result<BTreeMap<Origin, Feedback>> {
    let mut by_origin = BTreeMap::new();
    for feedback in place.messages::<Feedback>().await? {
        let origin = feedback.origin.clone();
        let repeated = by_origin.insert(origin, feedback.clone());
        if let Some(mut before) = repeated {
            before.expected_ctr = feedback.expected_ctr;
            anyhow::ensure!(before == feedback, "{before:?} then {feedback:?}");
        }
    }
    Ok(by_origin)
}

/// The last stats of each item, as a reader of the compacted topic keeps them.
pub async fn stats_of(place: &Place) -> Result<BTreeMap<String, ItemStats>> {
    let mut latest = BTreeMap::<String, ItemStats>::new();
    for stats in place.messages::<ItemStats>().await? {
        let newer = |known: &ItemStats| stats.order() >= known.order();
        if latest.get(&stats.item_id).is_none_or(newer) {
            latest.insert(stats.item_id.clone(), stats);
        }
    }
    Ok(latest)
}

pub async fn start(
    kafka: &KafkaConfig,
    state: Arc<dyn StateStore>,
) -> Result<JoinerHandle, StartError> {
    Joiner::start(JoinerDeps {
        kafka: kafka.clone(),
        producer: Producer::connect(kafka).unwrap(),
        registry: None,
        state,
        config: JoinerConfig::default(),
    })
    .await
}

pub fn item_id(item: usize) -> String {
    format!("{item:032x}")
}

pub fn event(id: &(impl ToString + ?Sized), item: usize, kind: BehaviorKind) -> BehaviorEvent {
    let id = id.to_string();
    BehaviorEvent {
        user_id: format!("user-{}", id.len() % 3),
        event_id: id,
        item_id: item_id(item),
        item: item.to_string(),
        kind,
        value: None,
        event_time_ms: now_ms().unwrap(),
        request_id: Some("answer".to_owned()),
        trace_info: None,
        scene_id: None,
        position: Some(2),
        attributes: BTreeMap::new(),
        source: "own".to_owned(),
    }
}

pub fn signal(item: usize, version: i64) -> Signal {
    Signal {
        item_id: item_id(item),
        uri: format!("file:///{item}"),
        document_version: version,
        model_version: "model".to_owned(),
        vector: vec![0.6, 0.8],
        title: Some(format!("Title {item}")),
        language: Some("en".to_owned()),
        media_type: "text/plain".to_owned(),
        categories: vec!["news".to_owned()],
        tags: Vec::new(),
        key_phrases: Vec::new(),
        near_duplicate_hash: 7,
        published_at_ms: None,
        deleted: false,
        etag: None,
        size_bytes: None,
        metadata: BTreeMap::new(),
        origin: Origin {
            topic: "documents".to_owned(),
            partition: 0,
            offset: 0,
        },
    }
}

fn headers() -> EventHeaders {
    EventHeaders {
        id: "test".to_owned(),
        source: "test".to_owned(),
        type_: "test".to_owned(),
        time_ms: None,
        traceparent: TRACE.parse().ok(),
    }
}

pub async fn publish(producer: &Producer, events: &[BehaviorEvent]) -> Result<()> {
    let headers = headers();
    let sends = events
        .iter()
        .map(|event| producer.send(&event.user_id, None, event, &headers));
    futures::future::try_join_all(sends).await?;
    Ok(())
}

pub async fn publish_signal(producer: &Producer, signal: &Signal) -> Result<()> {
    let key = signal.key();
    producer
        .send(&key, Some(&signal.item_id), signal, &headers())
        .await?;
    Ok(())
}
