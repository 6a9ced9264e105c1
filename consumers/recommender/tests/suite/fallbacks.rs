//! Whatever is missing, there is an answer that says so; only a wrong request has none.

use std::sync::atomic::Ordering::Relaxed;

use anyhow::Result;
use millrace_recommender::{Fallback, FallbackReason, RecommendRequest, Source};
use millrace_schemas::BehaviorKind::Click;

use crate::stack::{SPACE, Stack, ids, item, profile, request};

fn reason(fallback: Option<&Fallback>) -> Option<FallbackReason> {
    fallback.map(|fallback| fallback.reason)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_and_cold_users_get_what_trends_and_what_is_new() -> Result<()> {
    let (stack, recommender) = Stack::with_sixty_items("").await?;
    stack
        .publish_stats(&crate::stack::stats("space-04", 1, 50, 40))
        .await?;
    crate::stack::until("counters are read", async || {
        Ok(recommender.stats().catalog.stats == 1)
    })
    .await?;
    // Who clicked nothing but an item without words.
    let mut bare = item(SPACE, 1);
    (bare.vector, bare.categories, bare.key_phrases) = (Vec::new(), Vec::new(), Vec::new());
    stack.profiles.give(profile("cold", &[(bare, Click)]));
    for (user, expected) in [
        ("nobody", FallbackReason::UnknownUser),
        ("cold", FallbackReason::ColdUser),
        ("wörld 🌍 with spaces", FallbackReason::UnknownUser),
    ] {
        let answer = recommender.recommend(request(user)).await?;
        assert_eq!(reason(answer.fallback.as_ref()), Some(expected));
        assert_eq!(answer.items.len(), 10);
        assert_eq!(ids(&answer)[0], "space-04");
        let fallback = answer.fallback.unwrap();
        assert_eq!(fallback.sources, [Source::Trending, Source::Fresh]);
        assert!(!fallback.message.is_empty());
    }
    let stats = recommender.stats();
    assert_eq!((stats.recommended, stats.refused), (3, 0));
    assert_eq!(stats.fallbacks["unknown_user"], 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feature_store_that_is_down_or_hangs_costs_no_answer() -> Result<()> {
    let (stack, recommender) = Stack::with_sixty_items("limits.profile_timeout_ms = 40").await?;
    stack
        .profiles
        .give(profile("u", &[(item(SPACE, 1), Click)]));
    for fault in [&stack.profiles.down, &stack.profiles.hangs] {
        fault.store(true, Relaxed);
        let answer = recommender.recommend(request("u")).await?;
        let unavailable = Some(FallbackReason::ProfilesUnavailable);
        assert_eq!(reason(answer.fallback.as_ref()), unavailable);
        assert_eq!(answer.items.len(), 10);
        fault.store(false, Relaxed);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_index_the_other_sources_answer() -> Result<()> {
    let (stack, recommender) = Stack::with_sixty_items("").await?;
    stack
        .profiles
        .give(profile("u", &[(item(SPACE, 1), Click)]));
    stack.index.down.store(true, Relaxed);
    let answer = recommender.recommend(request("u")).await?;
    let unavailable = Some(FallbackReason::IndexUnavailable);
    assert_eq!(reason(answer.fallback.as_ref()), unavailable);
    let failed: Vec<Source> = answer
        .failed_sources
        .iter()
        .map(|failed| failed.source)
        .collect();
    assert_eq!(failed, [Source::Text, Source::Hybrid]);
    assert!(answer.failed_sources[0].reason.contains("taken down"));
    assert!(
        answer.items[0].item_id.starts_with("space"),
        "still personal"
    );
    assert_eq!(recommender.stats().failed_sources["text"], 1);
    stack.index.down.store(false, Relaxed);
    assert_eq!(recommender.recommend(request("u")).await?.fallback, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_alone_that_is_down_leaves_what_trends_and_what_is_new() -> Result<()> {
    let text_only = "[pipelines.default]\nsources = { text = { timeout_ms = 60000 } }";
    let (stack, recommender) = Stack::with_sixty_items(text_only).await?;
    stack
        .profiles
        .give(profile("u", &[(item(SPACE, 1), Click)]));
    stack.index.down.store(true, Relaxed);
    let answer = recommender.recommend(request("u")).await?;
    let unavailable = Some(FallbackReason::IndexUnavailable);
    assert_eq!(reason(answer.fallback.as_ref()), unavailable);
    assert_eq!(answer.items.len(), 10);
    assert_eq!(answer.fallback.unwrap().sources, [Source::Fresh]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_seen_everything_sees_some_of_it_again() -> Result<()> {
    let (stack, recommender) = Stack::with_sixty_items("").await?;
    let mut deeds = Vec::new();
    for about in [SPACE, crate::stack::COOKING, crate::stack::CHESS] {
        deeds.extend((0..20).map(|n| (item(about, n), Click)));
    }
    stack.profiles.give(profile("u", &deeds));
    let answer = recommender.recommend(request("u")).await?;
    let nothing = Some(FallbackReason::NoCandidates);
    assert_eq!(reason(answer.fallback.as_ref()), nothing);
    assert_eq!(answer.items.len(), 10);
    // What the caller does not want stays away all the same.
    let mut asked = request("u");
    asked.filter.categories = vec!["no such".to_owned()];
    for user in ["u", "nobody"] {
        asked.user_id = user.to_owned();
        let answer = recommender.recommend(asked.clone()).await?;
        let filtered = Some(FallbackReason::NothingPassesTheFilter);
        assert_eq!(reason(answer.fallback.as_ref()), filtered, "{user}");
        assert!(answer.items.is_empty());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_before_all_items_are_read_says_so() -> Result<()> {
    let stack = Stack::start().await?;
    let recommender = stack.starting("").await?;
    let answer = recommender.recommend(request("u")).await?;
    // Reading nothing ends quickly; what counts is that an empty catalog is no error.
    let reason = reason(answer.fallback.as_ref()).unwrap();
    assert!(answer.items.is_empty());
    assert!(
        [FallbackReason::CatalogNotReady, FallbackReason::UnknownUser].contains(&reason),
        "{reason:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_wrong_requests_have_no_answer() -> Result<()> {
    let (_stack, recommender) = Stack::with_sixty_items("").await?;
    let complaint = async |change: fn(&mut RecommendRequest)| {
        let mut asked = request("u");
        change(&mut asked);
        let refused = recommender.recommend(asked).await;
        refused.unwrap_err().to_string()
    };
    assert!(
        complaint(|r| r.count = Some(0))
            .await
            .contains("`count` is 0")
    );
    assert!(
        complaint(|r| r.count = Some(1_000_000))
            .await
            .contains("give 1 to 200")
    );
    assert!(
        complaint(|r| r.user_id = "a\nb".to_owned())
            .await
            .contains("control character")
    );
    assert!(
        complaint(|r| r.user_id = "x".repeat(1 << 20))
            .await
            .contains("1048576 bytes")
    );
    let scene = complaint(|r| r.scene = Some("hoem".to_owned())).await;
    assert_eq!(
        scene,
        "there is no scene `hoem`; configured (recommender.scenes): default"
    );
    assert_eq!(recommender.stats().refused, 5);
    Ok(())
}
