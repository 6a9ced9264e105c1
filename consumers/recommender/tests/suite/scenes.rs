//! Scenes, experiments, the caller's filter.

use std::collections::BTreeMap;

use anyhow::Result;
use millrace_schemas::BehaviorKind::Click;

use crate::stack::{SPACE, Stack, ids, item, profile, request};

const CONFIG: &str = r#"
[scenes.no-chess]
count = 7
rules = { exclude_categories = ["chess"] }
[scenes.chess]
rules = { filter = { categories = ["chess"] } }
[scenes.tested]
experiment = "words"
[experiments.words]
buckets = [{ name = "control", pipeline = "default", share = 0.5 }, { name = "words", pipeline = "words", share = 0.5 }]
[pipelines.words]
sources = { text = { timeout_ms = 60000 }, fresh = { timeout_ms = 60000 } }
explore = false
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scene_shows_what_its_rules_let_pass() -> Result<()> {
    let (stack, recommender) = Stack::with_sixty_items(CONFIG).await?;
    stack
        .profiles
        .give(profile("u", &[(item(SPACE, 1), Click)]));
    let ask = async |scene: &str, categories: &[&str]| {
        let mut asked = request("u");
        asked.scene = Some(scene.to_owned());
        asked.filter.categories = categories.iter().map(|&c| c.to_owned()).collect();
        recommender.recommend(asked).await
    };
    let answer = ask("no-chess", &[]).await?;
    assert_eq!((answer.scene.as_str(), answer.items.len()), ("no-chess", 7));
    assert!(!ids(&answer).iter().any(|id| id.starts_with("chess")));
    let answer = ask("chess", &[]).await?;
    assert!(ids(&answer).iter().all(|id| id.starts_with("chess")));
    assert_eq!(answer.items.len(), 10);
    // Both must let an item pass.
    let answer = ask("chess", &["space"]).await?;
    assert!(answer.items.is_empty());
    let answer = ask("default", &["cooking"]).await?;
    assert!(ids(&answer).iter().all(|id| id.starts_with("cooking")));
    assert_eq!(answer.items.len(), 10);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buckets_of_users_have_their_own_pipelines() -> Result<()> {
    let (stack, recommender) = Stack::with_sixty_items(CONFIG).await?;
    let mut users = BTreeMap::<String, usize>::new();
    for n in 0..40 {
        let user = format!("user-{n}");
        stack
            .profiles
            .give(profile(&user, &[(item(SPACE, 1), Click)]));
        let mut asked = request(&user);
        asked.scene = Some("tested".to_owned());
        let answer = recommender.recommend(asked.clone()).await?;
        let bucket = answer.bucket.clone().unwrap();
        assert_eq!(bucket.experiment, "words");
        let pipeline = if bucket.bucket == "words" {
            "words"
        } else {
            "default"
        };
        assert_eq!(answer.pipeline, pipeline);
        let trace_info = format!("tested/{pipeline}/{}/1", bucket.bucket);
        assert_eq!(answer.items[0].trace_info, trace_info);
        if pipeline == "words" {
            assert!(answer.items.iter().all(|item| !item.exploration));
            assert!(answer.items.iter().all(|item| item.sources.len() <= 2));
        }
        // Another request of the same user is in the same bucket.
        asked.request_id = "another".to_owned();
        assert_eq!(recommender.recommend(asked).await?.bucket.unwrap(), bucket);
        *users.entry(bucket.bucket).or_default() += 1;
    }
    assert_eq!(users.len(), 2, "{users:?}");
    Ok(())
}
