//! What the tests of the labeler publish and ask.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use millrace_kafka::{KafkaConfig, Producer};
use millrace_labeler::{Labeler, LabelerConfig, LabelerDeps, LabelerHandle, StartError};
use millrace_schemas::{
    BehaviorByRequest, BehaviorEvent, BehaviorKind, EventHeaders, Impression, ImpressionItem,
    Message, Origin, TrainingExample,
};
use millrace_state::StateStore;
use millrace_stateful::testing::{Place, now_ms};

pub async fn start(
    kafka: &KafkaConfig,
    state: Arc<dyn StateStore>,
) -> Result<LabelerHandle, StartError> {
    Labeler::start(LabelerDeps {
        kafka: kafka.clone(),
        producer: Producer::connect(kafka).unwrap(),
        registry: None,
        state,
        config: LabelerConfig::default(),
    })
    .await
}

/// The last record of each request, as a reader of the compacted topic keeps them.
pub async fn latest(place: &Place) -> Result<BTreeMap<String, TrainingExample>> {
    let mut latest = BTreeMap::<String, TrainingExample>::new();
    for example in place.messages::<TrainingExample>().await? {
        let is_newer = |known: &TrainingExample| example.revision >= known.revision;
        if latest.get(&example.request_id).is_none_or(is_newer) {
            latest.insert(example.request_id.clone(), example);
        }
    }
    Ok(latest)
}

pub fn item_id(item: usize) -> String {
    format!("{item:032x}")
}

/// An answer of items 1 to 3, some minutes ago.
pub fn answer(request: &str, minutes_ago: i64) -> Impression {
    let item = |position: usize| ImpressionItem {
        item_id: item_id(position),
        position: i32::try_from(position).unwrap(),
        score: 0.5,
        features: vec![0.25, f32::NAN],
        propensity: 0.01,
        explored: position == 3,
        sources: Vec::new(),
    };
    Impression {
        request_id: request.to_owned(),
        user_id: "u".to_owned(),
        scene: "home".to_owned(),
        pipeline: "default".to_owned(),
        bucket: None,
        served_at_ms: now_ms().unwrap() - minutes_ago * 60_000,
        items: (1..=3).map(item).collect(),
        feature_version: "features@1".to_owned(),
        ranker_version: "custom_v1".to_owned(),
        embedding_version: "model".to_owned(),
        index_version: String::new(),
        bm25_weight: 0.3,
        vector_weight: 0.7,
        weight_probability: 1.0,
        fallback: None,
        read_up_to: Vec::new(),
        profile: None,
    }
}

/// A click, as re-keying gives it.
pub fn click(id: &str, request: &str, item: usize, minutes_ago: i64) -> BehaviorByRequest {
    BehaviorByRequest {
        event: BehaviorEvent {
            event_id: id.to_owned(),
            user_id: "u".to_owned(),
            item_id: item_id(item),
            item: item.to_string(),
            kind: BehaviorKind::Click,
            value: None,
            event_time_ms: now_ms().unwrap() - minutes_ago * 60_000,
            request_id: Some(request.to_owned()),
            trace_info: None,
            scene_id: None,
            position: None,
            attributes: BTreeMap::new(),
            source: "own".to_owned(),
        },
        origin: Origin {
            topic: "behavior".to_owned(),
            partition: 0,
            offset: 0,
        },
    }
}

pub async fn publish<M: Message>(producer: &Producer, key: &str, message: &M) -> Result<()> {
    let headers = EventHeaders {
        id: "test".to_owned(),
        source: "test".to_owned(),
        type_: "test".to_owned(),
        time_ms: None,
        traceparent: None,
    };
    producer.send(key, None, message, &headers).await?;
    Ok(())
}

pub async fn publish_answer(producer: &Producer, answer: &Impression) -> Result<()> {
    publish(producer, &answer.request_id, answer).await
}

pub async fn publish_click(producer: &Producer, click: &BehaviorByRequest) -> Result<()> {
    let key = click.event.request_id.as_deref().unwrap();
    publish(producer, key, click).await
}
