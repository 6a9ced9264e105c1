//! A trained ranker takes over, and hands back.

use anyhow::Result;
use millrace_ranker::{FeatureSpec, RankerModel};
use millrace_recommender::{DeployError, MODEL_EXTENSION, RecommenderConfig};
use millrace_schemas::BehaviorKind::Click;

use crate::stack::{SPACE, Stack, ids, item, profile, request};

/// A model of one tree: what has a category affinity above a tenth is worse.
fn model(features: FeatureSpec) -> RankerModel {
    let split = features
        .names
        .iter()
        .position(|name| name == "category_affinity")
        .unwrap();
    let text = format!(
        "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx={}\n\
         feature_names={}\n\nTree=0\nnum_leaves=2\nnum_cat=0\nsplit_feature={split}\nthreshold=0.1\n\
         decision_type=8\nleft_child=-1\nright_child=-2\nleaf_value=1 -1\n\nend of trees\n",
        features.names.len() - 1,
        features.names.join(" "),
    );
    RankerModel::new(features, text, 0, serde_json::json!(null)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_of_these_features_is_deployed_survives_a_restart_and_is_rolled_back() -> Result<()>
{
    let (stack, recommender) = Stack::with_sixty_items("").await?;
    stack
        .profiles
        .give(profile("u", &[(item(SPACE, 1), Click)]));
    let path = |name: &str| stack.models_dir().join(format!("{name}.{MODEL_EXTENSION}"));
    let spec = stack.features.spec();
    model(spec.clone()).save(&path("custom_v1"))?;
    let other = FeatureSpec {
        version: "0123456789abcdef".to_owned(),
        ..spec
    };
    model(other).save(&path("of-other-features"))?;

    let missing = recommender
        .deploy("custom_v2")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        missing.ends_with("there are: custom_v1, of-other-features"),
        "{missing}"
    );
    let refused = recommender.deploy("of-other-features").await.unwrap_err();
    assert!(matches!(refused, DeployError::Unfit { .. }), "{refused}");
    let before = recommender.recommend(request("u")).await?;
    assert_eq!(before.ranker_version, "weighted");
    assert!(before.items[0].item_id.starts_with("space"));

    let status = recommender.deploy("custom_v1").await?;
    let answer = recommender.recommend(request("u")).await?;
    assert_eq!(answer.ranker_version, status.ranker_version);
    assert!(
        !answer.items[0].item_id.starts_with("space"),
        "{:?}",
        ids(&answer)
    );

    let restarted = stack.recommender("").await?;
    assert_eq!(restarted.deployment()?.deployed, "custom_v1");
    let back = restarted.rollback().await?;
    assert_eq!(back.deployed, "weighted");
    let answer = restarted.recommend(request("u")).await?;
    assert_eq!(ids(&answer), ids(&before));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_can_not_rank_are_refused_at_the_start() -> Result<()> {
    let stack = Stack::start().await?;
    let error = stack
        .starting("weights = { no_such_feature = 1.0 }")
        .await
        .err()
        .unwrap();
    assert!(
        format!("{error:#}").contains("no_such_feature"),
        "{error:#}"
    );
    let error = stack.starting("default_scene = 'x'").await.err().unwrap();
    assert!(
        error.to_string().contains("default_scene is `x`"),
        "{error}"
    );
    assert!(RecommenderConfig::default().validate().is_ok());
    Ok(())
}
