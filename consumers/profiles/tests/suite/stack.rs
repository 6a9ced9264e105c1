//! What the tests of profiles publish and expect.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use millrace_features::{Profile, ProfileSettings};
use millrace_kafka::{KafkaConfig, Producer};
use millrace_profiles::{Profiles, ProfilesConfig, ProfilesDeps, ProfilesHandle, StartError};
use millrace_schemas::{BehaviorEvent, BehaviorKind, EventHeaders, Feedback, FeedbackItem, Origin};
use millrace_state::StateStore;
use millrace_stateful::testing::{Place, now_ms};

const MODEL: &str = "model";

/// A consumer of this place.
pub async fn profiles(place: &Place) -> Result<ProfilesHandle> {
    Ok(start(&place.kafka, place.state().await?).await?)
}

pub fn deps(kafka: &KafkaConfig, state: Arc<dyn StateStore>) -> ProfilesDeps {
    ProfilesDeps {
        kafka: kafka.clone(),
        producer: Producer::connect(kafka).unwrap(),
        registry: None,
        state,
        model_version: MODEL.to_owned(),
        vectors: None,
        fields: ProfileSettings::default().fields,
        config: ProfilesConfig::default(),
    }
}

pub async fn start(
    kafka: &KafkaConfig,
    state: Arc<dyn StateStore>,
) -> Result<ProfilesHandle, StartError> {
    Profiles::start(deps(kafka, state)).await
}

/// A click of `user` on an item of its own; the number is the origin's offset.
pub fn click(number: usize, user: &str) -> Feedback {
    let (sin, cos) = f32::from(u16::try_from(number % 1_000).unwrap()).sin_cos();
    Feedback {
        event: BehaviorEvent {
            event_id: number.to_string(),
            user_id: user.to_owned(),
            item_id: format!("{number:032x}"),
            item: number.to_string(),
            kind: BehaviorKind::Click,
            value: None,
            event_time_ms: now_ms().unwrap(),
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
            offset: i64::try_from(number).unwrap(),
        },
        item: FeedbackItem {
            model_version: MODEL.to_owned(),
            vector: vec![sin, cos],
            categories: vec![format!("category {}", number % 5)],
            ..FeedbackItem::default()
        },
        expected_ctr: Some(0.05),
    }
}

/// What the profile of `user` must be after these, one by one.
pub fn expected(user: &str, feedback: &[Feedback]) -> Profile {
    let mut profile = Profile::new(user, MODEL);
    for feedback in feedback.iter().filter(|f| f.event.user_id == user) {
        profile.apply(feedback, &ProfileSettings::default());
    }
    profile
}

/// Whether the profile that was read is this one, wherever in the topic it stands.
pub fn is_same(read: Option<&Profile>, expected: &Profile) -> bool {
    read.is_some_and(|read| {
        let mut expected = expected.clone();
        if let Some(position) = read.position() {
            expected.stand_at(position);
        }
        *read == expected
    })
}

/// Publishes in this order, which is what profiles depend on.
pub async fn publish(producer: &Producer, feedback: &[Feedback]) -> Result<()> {
    let headers = EventHeaders {
        id: "test".to_owned(),
        source: "test".to_owned(),
        type_: "test".to_owned(),
        time_ms: None,
        traceparent: None,
    };
    let mut enqueued = Vec::new();
    for feedback in feedback {
        let user_id = &feedback.event.user_id;
        enqueued.push(producer.enqueue(user_id, None, feedback, &headers).await?);
    }
    for enqueued in enqueued {
        enqueued.acknowledged().await?;
    }
    Ok(())
}
