use std::path::Path;
use std::sync::Barrier;

use millrace_ranker::WeightedDefault;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::config::HybridRanking;

/// One tree: `leaf` where there were clicks.
fn text(leaf: f64) -> String {
    format!(
        "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx=1\n\
         feature_names=age clicks\n\nTree=0\nnum_leaves=2\nnum_cat=0\nsplit_feature=1\nthreshold=0.5\n\
         decision_type=8\nleft_child=-1\nright_child=-2\nleaf_value=-1 {leaf}\n\nend of trees\n"
    )
}

fn features(version: &str) -> FeatureSpec {
    FeatureSpec {
        version: version.to_owned(),
        names: ["age", "clicks"].map(str::to_owned).into(),
    }
}

fn put(folder: &Path, name: &str, feature_version: &str, leaf: f64) {
    let model = RankerModel::new(features(feature_version), text(leaf), 0, json!(null)).unwrap();
    model.save(&model_path(folder, name)).unwrap();
}

fn open(folder: &Path, feature_version: &str) -> Deployments {
    let features = features(feature_version);
    let weighted = WeightedDefault::new(&features.names, &[("clicks", 1.0)]).unwrap();
    let config = InstanceConfig::default();
    Deployments::open(folder, features, "m", Ranker::Weighted(weighted), config).unwrap()
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "custom_v1", "f1", 1.0);
    put(folder.path(), "custom_v2", "f1", 2.0);
    put(folder.path(), "of-other-features", "f0", 3.0);
    folder
}

/// What serves gives an item with clicks.
fn score(deployments: &Deployments) -> f64 {
    deployments.ranker().score(&[0.0, 1.0]).unwrap()[0]
}

#[test]
fn a_deploy_switches_keeps_the_last_and_rolls_back_and_forth() {
    let folder = folder();
    let deployments = open(folder.path(), "f1");
    assert_eq!(deployments.status().unwrap().deployed, "weighted");
    assert!(matches!(
        deployments.rollback(&[]),
        Err(DeployError::NothingBefore)
    ));
    let held = deployments.ranker();
    let status = deployments.deploy("custom_v1", &[0.0, 1.0]).unwrap();
    assert_eq!(status.deployed, "custom_v1");
    assert_eq!(status.previous.as_deref(), Some("weighted"));
    assert_eq!(
        status.available,
        ["custom_v1", "custom_v2", "of-other-features"]
    );
    assert!(status.ranker_version.starts_with("ranker@"));
    // A request in flight ends with the ranker it began with.
    assert_eq!(held.version(), "weighted");
    assert!((score(&deployments) - 1.0).abs() < 1e-12);
    deployments.deploy("custom_v2", &[]).unwrap();
    assert!((score(&deployments) - 2.0).abs() < 1e-12);
    assert_eq!(deployments.rollback(&[]).unwrap().deployed, "custom_v1");
    assert!((score(&deployments) - 1.0).abs() < 1e-12);
    assert_eq!(deployments.rollback(&[]).unwrap().deployed, "custom_v2");
}

#[test]
fn the_weighted_default_is_deployed_by_its_name() {
    let folder = folder();
    let deployments = open(folder.path(), "f1");
    deployments.deploy("custom_v1", &[]).unwrap();
    deployments.deploy("custom_v2", &[]).unwrap();
    // Twice is as good as once: the way back stays.
    for _ in 0..2 {
        let status = deployments.deploy(WEIGHTED, &[]).unwrap();
        assert_eq!(status.deployed, WEIGHTED);
        assert_eq!(status.previous.as_deref(), Some("custom_v2"));
    }
    assert_eq!(
        open(folder.path(), "f1").status().unwrap().deployed,
        WEIGHTED
    );
    assert_eq!(deployments.rollback(&[]).unwrap().deployed, "custom_v2");
}

#[test]
fn a_folder_is_no_model_and_what_can_not_serve_is_marked() {
    let folder = folder();
    std::fs::create_dir(folder.path().join("dir.ranker")).unwrap();
    std::fs::write(folder.path().join("damaged.ranker"), "{}").unwrap();
    std::fs::write(folder.path().join("weighted.ranker"), "{}").unwrap();
    let deployments = open(folder.path(), "f1");
    // The second answer is from what was found before.
    for _ in 0..2 {
        let status = deployments.status().unwrap();
        assert!(!status.available.contains(&"dir".to_owned()));
        let unusable: Vec<&String> = status.unusable.keys().collect();
        assert_eq!(unusable, ["damaged", "of-other-features", "weighted"]);
        assert!(status.unusable["of-other-features"].contains("f0"));
        assert!(status.unusable["weighted"].contains("rename"));
    }
    put(folder.path(), "damaged", "f1", 1.0);
    let status = deployments.status().unwrap();
    assert!(!status.unusable.contains_key("damaged"));
    let missing = deployments.deploy("dir", &[]).unwrap_err();
    assert!(matches!(missing, DeployError::Missing { .. }), "{missing}");
    // A name of any length is answered shortly.
    let refused = deployments.deploy(&"x".repeat(100_000), &[]).unwrap_err();
    assert!(refused.to_string().len() < 400, "{refused}");
}

#[test]
fn a_restart_serves_what_was_deployed_and_can_roll_back() {
    let folder = folder();
    {
        let deployments = open(folder.path(), "f1");
        deployments.deploy("custom_v1", &[]).unwrap();
        deployments.deploy("custom_v2", &[]).unwrap();
        let config = InstanceConfig {
            semantic_recall: false,
            hybrid_ranking: HybridRanking {
                bm25_weight: 0.2,
                vector_weight: 0.8,
            },
            ..InstanceConfig::default()
        };
        deployments.set_config("shop", config).unwrap();
    }
    let deployments = open(folder.path(), "f1");
    assert!((score(&deployments) - 2.0).abs() < 1e-12);
    assert!(!deployments.config("shop").semantic_recall);
    assert_eq!(deployments.rollback(&[]).unwrap().deployed, "custom_v1");
    // Back to the weighted default too, across a restart.
    let other = tempfile::tempdir().unwrap();
    put(other.path(), "m", "f1", 1.0);
    open(other.path(), "f1").deploy("m", &[]).unwrap();
    let deployments = open(other.path(), "f1");
    assert_eq!(deployments.rollback(&[]).unwrap().deployed, "weighted");
    assert_eq!(
        open(other.path(), "f1").status().unwrap().deployed,
        "weighted"
    );
}

#[test]
fn what_can_not_serve_is_refused_and_nothing_changes() {
    let folder = folder();
    let deployments = open(folder.path(), "f1");
    deployments.deploy("custom_v1", &[]).unwrap();
    let complaint = |version: &str| {
        let refused = deployments.deploy(version, &[]).unwrap_err();
        error_chain(&refused)
    };
    assert_eq!(
        complaint("custom_v9"),
        format!(
            "there is no ranker model `custom_v9` in `{}`; there are: custom_v1, custom_v2, of-other-features",
            folder.path().display()
        )
    );
    assert_eq!(
        complaint("of-other-features"),
        "ranker model `of-other-features` can't be deployed: the model was trained on feature version f0, \
         but features of version f1 are computed: train a model on those, or deploy the configuration of f0"
    );
    for name in [
        "",
        "../custom_v1",
        "a/b",
        ".hidden",
        "a\nb",
        &"x".repeat(200),
    ] {
        assert!(complaint(name).contains("is no name of a model"), "{name}");
    }
    let damaged = model_path(folder.path(), "damaged");
    let mut bytes = std::fs::read(model_path(folder.path(), "custom_v2")).unwrap();
    let last = bytes.len() - 20;
    bytes[last] ^= 1;
    std::fs::write(damaged, bytes).unwrap();
    assert!(complaint("damaged").contains("is damaged"));
    // Rows of another width than the features'.
    let refused = deployments
        .deploy("custom_v2", &[1.0, 2.0, 3.0])
        .unwrap_err();
    assert!(
        refused.to_string().contains("failed its warm-up"),
        "{refused}"
    );
    let config = InstanceConfig {
        hybrid_ranking: HybridRanking {
            bm25_weight: 0.9,
            vector_weight: 0.9,
        },
        ..InstanceConfig::default()
    };
    assert!(deployments.set_config("shop", config).is_err());
    let status = deployments.status().unwrap();
    assert_eq!(status.deployed, "custom_v1");
    assert_eq!(deployments.config("shop"), InstanceConfig::default());
}

#[test]
fn an_instances_configuration_is_its_own() {
    let folder = folder();
    let without = |bm25_weight: f64| InstanceConfig {
        semantic_recall: false,
        hybrid_ranking: HybridRanking {
            bm25_weight,
            vector_weight: 1.0 - bm25_weight,
        },
        ..InstanceConfig::default()
    };
    let deployments = open(folder.path(), "f1");
    deployments.set_config("shop", without(0.5)).unwrap();
    deployments.set_config("press", without(0.25)).unwrap();
    deployments.deploy("custom_v1", &[]).unwrap();
    let again = open(folder.path(), "f1");
    for deployments in [&deployments, &again] {
        assert_eq!(deployments.config("shop"), without(0.5));
        assert_eq!(deployments.config("press"), without(0.25));
        assert_eq!(deployments.config("new"), InstanceConfig::default());
    }
    // Of all instances there are, any id may be one.
    for n in 0..MAX_INSTANCES - 2 {
        let instance = format!("shop-{n}");
        again.write().configs.insert(instance, without(0.5));
    }
    let refused = again.set_config("one-more", without(0.5)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "1000 instances have a configuration of their own, which is the most; use one of them, or set \
         airec.instance so that only yours is served"
    );
    again.set_config("shop", without(0.75)).unwrap();
    // A version before wrote one for all of them.
    let config = serde_json::to_value(without(0.5)).unwrap();
    let before = serde_json::json!({ "current": null, "config": config });
    std::fs::write(folder.path().join("deployment.json"), before.to_string()).unwrap();
    let deployments = open(folder.path(), "f1");
    assert_eq!(deployments.config("shop"), without(0.5));
    deployments.set_config("shop", without(0.75)).unwrap();
    assert_eq!(open(folder.path(), "f1").config("press"), without(0.5));
}

#[test]
fn of_two_deploys_at_once_the_second_is_refused() {
    let folder = folder();
    let deployments = open(folder.path(), "f1");
    let turn = deployments.take_turn("custom_v1").unwrap();
    let refused = deployments
        .deploy("custom_v2", &[])
        .unwrap_err()
        .to_string();
    assert_eq!(
        refused,
        "`custom_v1` is being deployed; wait for it to end, then deploy `custom_v2`"
    );
    assert!(deployments.rollback(&[]).is_err());
    drop(turn);
    deployments.deploy("custom_v2", &[]).unwrap();
    // However many race, what is written down is what serves.
    let barrier = Barrier::new(4);
    std::thread::scope(|scope| {
        for name in ["custom_v1", "custom_v2", "custom_v1", "custom_v2"] {
            let (deployments, barrier) = (&deployments, &barrier);
            scope.spawn(move || {
                barrier.wait();
                match deployments.deploy(name, &[]) {
                    Ok(_) | Err(DeployError::InProgress { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            });
        }
    });
    let serves = deployments.status().unwrap().deployed;
    assert_eq!(open(folder.path(), "f1").status().unwrap().deployed, serves);
}

#[test]
fn a_model_that_can_not_serve_any_more_is_told_and_the_default_serves() {
    let folder = folder();
    open(folder.path(), "f1").deploy("custom_v1", &[]).unwrap();
    // Features are declared otherwise now.
    let deployments = open(folder.path(), "f2");
    let status = deployments.status().unwrap();
    assert_eq!(status.deployed, "weighted");
    assert!(status.problem.unwrap().contains("f2"));
    // A change of something else does not forget what is deployed.
    deployments
        .set_config("shop", InstanceConfig::default())
        .unwrap();
    assert_eq!(
        open(folder.path(), "f1").status().unwrap().deployed,
        "custom_v1"
    );
    put(folder.path(), "custom_v1", "f1", 9.0);
    let replaced = open(folder.path(), "f1").status().unwrap().problem.unwrap();
    assert!(replaced.contains("was deployed as ranker@"), "{replaced}");
    std::fs::write(folder.path().join("deployment.json"), "{").unwrap();
    let weighted = WeightedDefault::new(&["age"], &[("age", 1.0)]).unwrap();
    let broken = Deployments::open(
        folder.path(),
        features("f1"),
        "m",
        Ranker::Weighted(weighted),
        InstanceConfig::default(),
    );
    assert!(matches!(broken, Err(DeployError::BrokenState { .. })));
}

#[test]
fn a_change_is_warned_of_with_what_the_last_sweep_measured() {
    let folder = folder();
    let deployments = open(folder.path(), "f1");
    let texty = InstanceConfig {
        hybrid_ranking: HybridRanking {
            bm25_weight: 0.75,
            vector_weight: 0.25,
        },
        ..InstanceConfig::default()
    };
    let warning = || {
        let mut change = deployments.set_config("shop", texty.clone()).unwrap();
        assert_eq!(change.warnings.len(), 1);
        change.warnings.remove(0)
    };
    assert!(warning().contains("`millrace sweep`"), "{}", warning());
    let sweep = |embedding_version: &str| LastSweep {
        swept_at_ms: 0,
        corpus: "file:///c.jsonl".to_owned(),
        queries: 3,
        embedding_version: embedding_version.to_owned(),
        in_force: 0.3,
        weights: vec![crate::SweptWeight {
            bm25_weight: 0.75,
            ndcg_at_10: 0.5,
            difference: -0.25,
            ci95: [-0.5, -0.125],
        }],
    };
    sweep("m").write(folder.path()).unwrap();
    let told = warning();
    assert!(
        told.contains("nDCG@10 0.5000 at 0.75: -0.2500 [-0.5000, -0.1250] against 0.3"),
        "{told}"
    );
    // Of another encoder's vectors it says nothing; nor does a file that is none.
    sweep("other").write(folder.path()).unwrap();
    assert!(warning().contains("`millrace sweep`"));
    std::fs::write(folder.path().join("sweep.json"), "{").unwrap();
    assert!(warning().contains("`millrace sweep`"));
    // Whoever does not serve it reads the same configuration.
    let saved = |instance| saved_config(folder.path(), instance).unwrap();
    assert_eq!((saved("shop"), saved("press")), (Some(texty.clone()), None));
    assert_eq!(
        saved_config(&folder.path().join("none"), "shop").unwrap(),
        None
    );
}
