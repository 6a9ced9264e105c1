//! Every answer is told on `impressions`.

use anyhow::Result;
use millrace_features::FeedbackPosition;
use millrace_recommender::InstanceConfig;
use millrace_schemas::BehaviorKind::Click;
use millrace_schemas::ProfileRead;

use crate::stack::{SPACE, Stack, ids, item, profile, request, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_told_with_what_it_was_made_from() -> Result<()> {
    let (stack, recommender) = Stack::with_sixty_items("").await?;
    let mut known = profile("u", &[(item(SPACE, 1), Click)]);
    known.stand_at(FeedbackPosition {
        partition: 3,
        offset: 7,
    });
    stack.profiles.give(known);
    recommender.set_config("", InstanceConfig::default())?;
    until("the index has said what it is", async || {
        let mut asked = request("nobody");
        asked.request_id = "before".to_owned();
        Ok(!recommender.recommend(asked).await?.index_version.is_empty())
    })
    .await?;
    let mut asked = request("u");
    asked.count = Some(20);
    asked.traceparent = crate::stack::TRACE.parse().ok();
    let answer = recommender.recommend(asked).await?;
    until("the impression is acknowledged", async || {
        let impressions = recommender.stats().impressions;
        Ok(impressions.waiting == 0 && impressions.published > 1)
    })
    .await?;
    let impressions = stack.impressions().await?;
    let found = impressions
        .iter()
        .find(|(told, _)| told.request_id == answer.request_id);
    let (told, event) = found.unwrap();
    let event = event.clone().unwrap();
    assert_eq!(event.type_, "millrace.impressions.served");
    assert_eq!(event.traceparent, crate::stack::TRACE.parse().ok());
    assert_eq!(
        (told.user_id.as_str(), told.scene.as_str()),
        ("u", "default")
    );
    assert_eq!(told.feature_version, answer.feature_version);
    assert_eq!(told.ranker_version, "weighted");
    assert_eq!(told.index_version, "items-000001");
    assert_eq!(told.fallback, None);
    assert!((told.weight_probability - answer.hybrid.probability).abs() < 1e-12);
    let told_ids: Vec<&str> = told
        .items
        .iter()
        .map(|item| item.item_id.as_str())
        .collect();
    assert_eq!(told_ids, ids(&answer));
    for (told, shown) in told.items.iter().zip(&answer.items) {
        assert_eq!(i64::from(told.position), i64::from(shown.position));
        assert_eq!(told.features.len(), stack.features.len());
        assert_eq!(told.explored, shown.exploration);
        assert!((told.propensity - shown.propensity).abs() < 1e-12);
        assert!(!told.sources.is_empty());
    }
    let profile = ProfileRead {
        partition: 3,
        offset: 7,
        events: 1,
        rebuilt: false,
    };
    assert_eq!(told.profile, Some(profile));
    let signals = stack.kafka.topic("signals");
    let read: i64 = told
        .read_up_to
        .iter()
        .filter(|read| read.topic == signals)
        .map(|read| read.offset)
        .sum();
    assert_eq!(read, 60);
    recommender.shutdown(crate::stack::DEADLINE).await;
    assert_eq!(recommender.stats().impressions.dropped, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_before_a_stop_is_acknowledged_by_its_end() -> Result<()> {
    let (stack, recommender) = Stack::with_sixty_items("").await?;
    for n in 0..50 {
        recommender.recommend(request(&format!("user-{n}"))).await?;
    }
    recommender.shutdown(crate::stack::DEADLINE).await;
    assert_eq!(stack.impressions().await?.len(), 50);
    // Requests are answered still, and their impressions counted as dropped.
    let answer = recommender.recommend(request("late")).await?;
    assert_eq!(answer.items.len(), 10);
    assert_eq!(recommender.stats().impressions.dropped, 1);
    Ok(())
}
