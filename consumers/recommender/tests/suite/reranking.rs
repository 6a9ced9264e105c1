//! The caller's own candidates.

use anyhow::Result;
use millrace_recommender::{FallbackReason, ItemRef, RerankRequest};
use millrace_schemas::BehaviorKind::Click;

use crate::stack::{COOKING, SPACE, Stack, ids, item, profile, until};

fn rerank(user_id: &str, candidates: &[(&str, Option<f32>)]) -> RerankRequest {
    let candidate = |(item_id, score): &(&str, Option<f32>)| ItemRef {
        item_id: (*item_id).to_owned(),
        score: *score,
    };
    RerankRequest {
        request_id: "rerank".to_owned(),
        user_id: user_id.to_owned(),
        candidates: candidates.iter().map(candidate).collect(),
        ..RerankRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn candidates_are_put_into_the_users_order_and_unknown_ones_last() -> Result<()> {
    let (stack, recommender) = Stack::with_sixty_items("").await?;
    stack
        .profiles
        .give(profile("cook", &[(item(COOKING, 1), Click)]));
    let candidates = [
        ("nowhere-2", None),
        ("space-03", None),
        ("chess-03", None),
        ("cooking-03", None),
        ("nowhere-1", None),
        ("space-03", None),
        ("cooking-01", None),
    ];
    let mut asked = rerank("cook", &candidates);
    asked.explain = true;
    let answer = recommender.rerank(asked).await?;
    assert_eq!(answer.items.len(), 6);
    let cooking: Vec<&str> = ids(&answer)[..2].to_vec();
    // Also what the user has seen: they are the caller's candidates.
    assert!(
        cooking.iter().all(|id| id.starts_with("cooking")),
        "{:?}",
        ids(&answer)
    );
    assert_eq!(ids(&answer)[4..], ["nowhere-2", "nowhere-1"]);
    for (place, item) in answer.items.iter().enumerate() {
        assert_eq!(item.position as usize, place + 1);
        assert_eq!(item.known, place < 4);
        assert_eq!(item.score.is_some(), item.known);
        assert_eq!(item.explanation.is_some(), item.known);
        assert!(!item.exploration);
    }
    assert_eq!(answer.fallback, None);
    until("it is told", async || {
        Ok(recommender.stats().impressions.published == 1)
    })
    .await?;
    let (told, _) = stack.impressions().await?.remove(0);
    assert_eq!(told.items.len(), 4, "unknown items have no features");
    assert_eq!(recommender.stats().reranked, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_user_and_unknown_items_have_an_answer() -> Result<()> {
    let (stack, recommender) = Stack::with_sixty_items("").await?;
    let _ = item(SPACE, 1);
    let answer = recommender
        .rerank(rerank("nobody", &[("a", Some(1.0)), ("b", Some(2.0))]))
        .await?;
    assert_eq!(ids(&answer), ["b", "a"], "by the caller's own scores");
    assert_eq!(answer.fallback.unwrap().reason, FallbackReason::UnknownUser);
    let none = recommender.rerank(rerank("nobody", &[])).await.unwrap_err();
    assert!(none.to_string().starts_with("there are 0 candidates"));
    let wrong = recommender
        .rerank(rerank("nobody", &[("a\nb", None)]))
        .await;
    assert!(wrong.unwrap_err().to_string().contains("control character"));
    let nan = recommender
        .rerank(rerank("nobody", &[("a", Some(f32::NAN))]))
        .await;
    assert!(nan.unwrap_err().to_string().contains("not a finite number"));
    drop(stack);
    Ok(())
}
