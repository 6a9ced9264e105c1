//! Answers with the clicks on them, as the labeler writes them to the topic `training`.

use millrace_kafka::{Admin, KafkaConfig, Producer};
use millrace_schemas::{EventHeaders, Origin, TrainingExample, TrainingItem};

/// An item at this place, from 1, with so many clicks.
pub fn item(item_id: &str, position: i32, clicks: i32) -> TrainingItem {
    TrainingItem {
        item_id: item_id.to_owned(),
        position,
        score: 0.0,
        features: Vec::new(),
        propensity: 1.0,
        explored: false,
        clicks,
        first_click_ms: None,
    }
}

/// An answer by the weighted default, with weights that were not drawn.
pub fn answer(request: &str, user: &str, at_ms: i64, items: Vec<TrainingItem>) -> TrainingExample {
    TrainingExample {
        request_id: request.to_owned(),
        revision: 1,
        user_id: user.to_owned(),
        scene: String::new(),
        pipeline: String::new(),
        bucket: None,
        served_at_ms: at_ms,
        items,
        window_ms: 1_800_000,
        feature_version: String::new(),
        ranker_version: "weighted".to_owned(),
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

/// Writes them to the topic, which is made where it is missing.
pub fn publish(
    kafka: &KafkaConfig,
    answers: impl IntoIterator<Item = TrainingExample>,
) -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        Admin::connect(kafka)?.create_declared().await?;
        let producer = Producer::connect(kafka)?;
        let mut sent = Vec::new();
        for answer in answers {
            let event = EventHeaders {
                id: format!("{}@{}", answer.request_id, answer.revision),
                source: "test".to_owned(),
                type_: "test".to_owned(),
                time_ms: None,
                traceparent: None,
            };
            let key = &answer.request_id;
            sent.push(producer.enqueue(key, None, &answer, &event).await?);
        }
        for sent in sent {
            sent.acknowledged().await?;
        }
        Ok(())
    })
}
