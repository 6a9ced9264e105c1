//! Answers that are the user's own.

use std::collections::BTreeMap;

use anyhow::Result;
use millrace_features::{FeatureDeclaration, FeatureKind, FeatureSet, Field, Transform};
use millrace_recommender::{Answer, FallbackReason, InstanceConfig, Source};
use millrace_schemas::BehaviorKind::{Buy, Click, Expose};

use crate::stack::{
    CHESS, COOKING, DEADLINE, MODEL, SPACE, Stack, ids, item, profile, request, until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_click_changes_what_its_user_is_recommended() -> Result<()> {
    let (stack, recommender) = Stack::with_sixty_items("").await?;
    for (user, about, name) in [("astronomer", SPACE, "space"), ("cook", COOKING, "cooking")] {
        let deeds = [(item(about, 1), Click), (item(about, 2), Buy)];
        stack.profiles.give(profile(user, &deeds));
        let answer = recommender.recommend(request(user)).await?;
        assert_eq!(answer.items.len(), 10);
        assert_eq!(answer.fallback, None);
        let of_interest = ids(&answer)
            .iter()
            .filter(|id| id.starts_with(name))
            .count();
        assert!(of_interest >= 5, "{user}: {:?}", ids(&answer));
        let first = &answer.items[0];
        assert!(first.item_id.starts_with(name), "{:?}", ids(&answer));
        assert!(first.sources.contains(&Source::SemanticRecall));
        assert!(first.sources.contains(&Source::Text) && first.sources.contains(&Source::Hybrid));
        assert!(first.sources.contains(&Source::ItemToItem));
        // What was acted on is not shown again.
        assert!(!ids(&answer).contains(&format!("{name}-01").as_str()));
        assert!(answer.items.iter().map(|item| item.position).eq(1..=10));
        assert_eq!(answer.ranker_version, "weighted");
        assert_eq!(answer.feature_version, stack.features.version());
        assert_eq!(answer.embedding_version, crate::stack::MODEL);
    }
    // The astronomer turns to chess.
    let deeds = [
        (item(SPACE, 1), Click),
        (item(CHESS, 1), Click),
        (item(CHESS, 2), Buy),
    ];
    stack.profiles.give(profile("astronomer", &deeds));
    let answer = recommender.recommend(request("astronomer")).await?;
    assert!(
        answer.items[0].item_id.starts_with("chess"),
        "{:?}",
        ids(&answer)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_request_has_the_same_answer_and_explains_it() -> Result<()> {
    let (stack, recommender) = Stack::with_sixty_items("").await?;
    stack
        .profiles
        .give(profile("u", &[(item(SPACE, 1), Click)]));
    let mut asked = request("u");
    asked.explain = true;
    asked.count = Some(20);
    let answer = recommender.recommend(asked.clone()).await?;
    let again = recommender.recommend(asked).await?;
    assert_eq!(ids(&answer), ids(&again));
    // Nothing was shown yet, so that a tenth of it is explored.
    let explored: Vec<u32> = answer
        .items
        .iter()
        .filter(|item| item.exploration)
        .map(|item| item.position)
        .collect();
    assert_eq!(explored, [10, 20]);
    for item in &answer.items {
        let explanation = item.explanation.as_ref().unwrap();
        assert_eq!(explanation.features.len(), stack.features.len());
        assert!(
            explanation
                .features
                .iter()
                .any(|feature| feature.value.is_some())
        );
        assert_eq!(explanation.ranker_score, item.score);
        let sources: Vec<Source> = explanation
            .sources
            .iter()
            .map(|found| found.source)
            .collect();
        assert_eq!(sources, item.sources);
        assert!(item.propensity > 0.0 && item.propensity <= 1.0);
        assert_eq!(item.exploration, item.propensity < 1.0);
    }
    let feature = |name: &str| {
        let explanation = answer.items[0].explanation.as_ref().unwrap();
        let found = explanation
            .features
            .iter()
            .find(|feature| feature.name == name);
        found.unwrap().value
    };
    assert!(feature("cosine_long_term").unwrap() > 0.5);
    assert!(feature("hybrid_score").unwrap() > 0.0 && feature("text_score").unwrap() > 0.0);
    // It survives JSON, missing features and all.
    let text = serde_json::to_string(&answer)?;
    assert_eq!(
        serde_json::from_str::<millrace_recommender::Answer>(&text)?,
        answer
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_shown_often_is_not_shown_again() -> Result<()> {
    let (stack, recommender) = Stack::with_sixty_items("").await?;
    let mut deeds = vec![(item(SPACE, 19), Click)];
    for n in 0..5 {
        deeds.extend(std::iter::repeat_n((item(SPACE, n), Expose), 3));
    }
    stack.profiles.give(profile("u", &deeds));
    let mut asked = request("u");
    asked.count = Some(60);
    let answer = recommender.recommend(asked).await?;
    assert_eq!(answer.items.len(), 60 - 6, "{:?}", ids(&answer));
    assert!(
        !ids(&answer)
            .iter()
            .any(|id| ["space-00", "space-04", "space-19"].contains(id))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn near_duplicates_stand_once() -> Result<()> {
    let stack = Stack::start().await?;
    // One text in three copies that differ in a bit or two, one twice, and one of its own.
    let hashes = [0b111_0000, 0b111_0001, 0b111_0011, -1, 0x0f0f, 0x0f0f];
    let signals = hashes.iter().enumerate().map(|(n, hash)| {
        let mut signal = item(SPACE, n);
        signal.near_duplicate_hash = *hash;
        signal
    });
    stack.upload(&signals.collect::<Vec<_>>()).await?;
    let recommender = stack.recommender("").await?;
    let answer = recommender.recommend(request("nobody")).await?;
    assert_eq!(answer.items.len(), 3, "{:?}", ids(&answer));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_scan_the_index_is_asked_for_vectors() -> Result<()> {
    let (stack, recommender) = Stack::with_sixty_items("catalog.scan_items = 10").await?;
    stack.profiles.give(profile(
        "u",
        &[(item(SPACE, 1), Click), (item(SPACE, 5), Click)],
    ));
    let answer = recommender.recommend(request("u")).await?;
    assert_eq!(answer.fallback, None);
    let first = &answer.items[0];
    assert!(first.item_id.starts_with("space"), "{:?}", ids(&answer));
    assert!(first.sources.contains(&Source::SemanticRecall));
    assert!(first.sources.contains(&Source::ItemToItem));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn semantic_recall_can_be_turned_off_and_weights_be_changed() -> Result<()> {
    let (stack, recommender) = Stack::with_sixty_items("exploration.weight_share = 0.0").await?;
    stack
        .profiles
        .give(profile("u", &[(item(SPACE, 1), Click)]));
    let mut config = InstanceConfig {
        semantic_recall: false,
        ..recommender.config("")
    };
    config.hybrid_ranking.bm25_weight = 0.6;
    config.hybrid_ranking.vector_weight = 0.4;
    let change = recommender.set_config("", config.clone())?;
    assert_eq!(change.warnings.len(), 1);
    let answer = recommender.recommend(request("u")).await?;
    assert!((answer.hybrid.bm25_weight - 0.6).abs() < 1e-6);
    assert!((answer.hybrid.probability - 1.0).abs() < 1e-12);
    let semantic =
        |item: &millrace_recommender::AnswerItem| item.sources.contains(&Source::SemanticRecall);
    assert!(!answer.items.iter().any(semantic));
    config.hybrid_ranking.bm25_weight = -0.1;
    let refused = recommender.set_config("", config).unwrap_err().to_string();
    assert!(refused.contains("bm25_weight is -0.1"), "{refused}");
    assert!((recommender.config("").hybrid_ranking.bm25_weight - 0.6).abs() < 1e-9);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_like_given_items_is_recommended_without_them_and_to_anybody() -> Result<()> {
    let (stack, recommender) = Stack::with_sixty_items("").await?;
    stack
        .profiles
        .give(profile("cook", &[(item(COOKING, 1), Buy)]));
    for user in ["cook", "nobody"] {
        let mut asked = request(user);
        asked.like = vec![
            "chess-03".to_owned(),
            "chess-04".to_owned(),
            "none".to_owned(),
        ];
        asked.explain = true;
        // Of the ten nearest: nothing that only suits the user is among them.
        asked.count = Some(5);
        let answer = recommender.recommend(asked).await?;
        assert_eq!(answer.items.len(), 5);
        assert_eq!(answer.fallback, None);
        let shown = ids(&answer);
        assert!(shown.iter().all(|id| id.starts_with("chess")), "{shown:?}");
        assert!(!shown.contains(&"chess-03") && !shown.contains(&"chess-04"));
        assert!(
            answer
                .items
                .iter()
                .all(|item| item.sources == [Source::ItemToItem])
        );
        // The score of vectors is that of what was asked for, not of the user's own.
        let explained = &answer.items[0].explanation.as_ref().unwrap().features;
        let vector = explained
            .iter()
            .find(|it| it.name == "vector_score")
            .unwrap();
        assert!(
            vector.value.is_some_and(|cosine| cosine > 0.8),
            "{vector:?}"
        );
    }
    // Of items that nobody knows there is nothing like them: the list is the user's own, and says so.
    let mut asked = request("cook");
    asked.like = vec!["none".to_owned()];
    let answer = recommender.recommend(asked).await?;
    let fallback = answer.fallback.as_ref().unwrap();
    assert_eq!(fallback.reason, FallbackReason::UnknownItems);
    assert_eq!(
        fallback.message,
        "none of the given items is known; the list is of what suits this user"
    );
    assert!(ids(&answer)[0].starts_with("cooking"), "{:?}", ids(&answer));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_upstream_says_of_a_user_is_a_feature_where_one_is_declared() -> Result<()> {
    let mut stack = Stack::start().await?;
    let mut declarations = stack.features.declarations().to_vec();
    declarations.push(FeatureDeclaration::new(
        "user_age",
        FeatureKind::UserNumber {
            user_field: "age".to_owned(),
            transform: Transform::Identity,
        },
    ));
    declarations.push(FeatureDeclaration::new(
        "of_own_categories",
        FeatureKind::UserMatch {
            user_field: "likes".to_owned(),
            field: Field::Categories,
        },
    ));
    stack.features = FeatureSet::new(declarations, MODEL)?;
    let items = [item(SPACE, 1), item(CHESS, 1)];
    stack.upload(&items).await?;
    stack
        .publish_user("ada", &[("age", "36"), ("likes", "chess,go")])
        .await?;
    let recommender = stack.recommender("").await?;
    let mut asked = request("ada");
    asked.explain = true;
    let features = |answer: &Answer, item_id: &str| {
        let mut items = answer.items.iter();
        let item = items.find(|item| item.item_id == item_id).unwrap();
        let features = item.explanation.as_ref().unwrap().features.iter();
        let told: BTreeMap<&str, _> = features.map(|it| (it.name.as_str(), it.value)).collect();
        (told["user_age"], told["of_own_categories"])
    };
    let answer = recommender.recommend(asked.clone()).await?;
    assert_eq!(features(&answer, "chess-01"), (Some(36.0), Some(1.0)));
    assert_eq!(features(&answer, "space-01"), (Some(36.0), Some(0.0)));
    // Of another user nothing is said.
    asked.user_id = "bob".to_owned();
    let answer = recommender.recommend(asked.clone()).await?;
    assert_eq!(features(&answer, "chess-01"), (None, None));
    // A row of the table is replaced whole.
    stack.publish_user("ada", &[("age", "37")]).await?;
    asked.user_id = "ada".to_owned();
    until("the new row is read", async || {
        let answer = recommender.recommend(asked.clone()).await?;
        Ok(features(&answer, "chess-01") == (Some(37.0), None))
    })
    .await?;
    // An impression says up to where the topic was read.
    recommender.shutdown(DEADLINE).await;
    let users = stack.kafka.topic("users");
    let (told, _) = stack.impressions().await?.remove(0);
    assert!(
        told.read_up_to.iter().any(|read| read.topic == users),
        "{told:?}"
    );
    Ok(())
}
