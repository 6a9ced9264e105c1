//! A model file comes back as it was, or not at all.

use anyhow::Result;
use millrace_ranker::{FeatureSpec, PackageError, Ranker, RankerModel, WeightedDefault};
use proptest::prelude::*;
use serde_json::json;

const TEXT: &str = "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx=1\n\
    feature_names=age clicks\n\nTree=0\nnum_leaves=2\nnum_cat=0\nsplit_feature=1\nthreshold=0.5\n\
    decision_type=8\nleft_child=-1\nright_child=-2\nleaf_value=-1 1\n\nend of trees\n";

fn features(version: &str) -> FeatureSpec {
    FeatureSpec {
        version: version.to_owned(),
        names: ["age", "clicks"].map(str::to_owned).into(),
    }
}

fn model() -> RankerModel {
    let evaluation = json!({"ndcg_at_10": 0.62});
    RankerModel::new(
        features("v1"),
        TEXT.to_owned(),
        1_700_000_000_000,
        evaluation,
    )
    .unwrap()
}

#[test]
fn a_model_comes_back_as_it_was() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("models/ranker.txt");
    model().save(&path)?;
    model().save(&path)?;
    let loaded = RankerModel::load(&path, &features("v1"))?;
    assert_eq!(loaded.version(), model().version());
    assert_eq!(loaded.feature_version(), "v1");
    assert_eq!(loaded.trained_at_ms(), 1_700_000_000_000);
    assert_eq!(loaded.evaluation()["ndcg_at_10"], 0.62);
    assert_eq!(loaded.text(), TEXT);
    let left = std::fs::read_dir(folder.path().join("models"))?.count();
    assert_eq!(left, 1, "temporary files were left behind");
    let ranker = Ranker::Trained(Box::new(loaded));
    assert_eq!(ranker.score(&[3.0, 0.0, 3.0, 1.0])?, [-1.0, 1.0]);
    assert!(ranker.version().starts_with("ranker@"));
    // LightGBM's text is the file from its third line on.
    let file = std::fs::read_to_string(&path)?;
    assert_eq!(file.splitn(3, '\n').last(), Some(TEXT));
    Ok(())
}

#[test]
fn before_a_model_is_trained_weights_rank() -> Result<()> {
    let weights = WeightedDefault::new(&features("v1").names, &[("clicks", 1.0)])?;
    let ranker = Ranker::Weighted(weights);
    assert_eq!(ranker.score(&[3.0, 0.0, 3.0, 1.0])?, [0.0, 1.0]);
    assert_eq!(ranker.version(), "weighted");
    Ok(())
}

#[test]
fn another_feature_version_is_refused_by_both_names() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("ranker.txt");
    model().save(&path)?;
    let error = RankerModel::load(&path, &features("v2"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("version v1") && error.contains("version v2"),
        "{error}"
    );
    RankerModel::inspect(&path)?;

    let mut swapped = features("v1");
    swapped.names.swap(0, 1);
    let error = RankerModel::load(&path, &swapped).unwrap_err().to_string();
    assert!(
        error.contains("feature 0 of the trees is `age`, but `clicks`"),
        "{error}"
    );
    swapped.names.pop();
    let error = RankerModel::new(swapped, TEXT.to_owned(), 0, json!(null)).unwrap_err();
    assert!(matches!(
        error,
        PackageError::FeatureNames { position: 0, .. }
    ));
    Ok(())
}

#[test]
fn what_is_no_model_is_told_apart() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("ranker.txt");
    let inspect = || RankerModel::inspect(&path).unwrap_err();
    assert!(matches!(inspect(), PackageError::Io { action: "read", .. }));
    for content in ["", "tree\nversion=v4\n", "millrace-ranker 2 sha256=00\n"] {
        std::fs::write(&path, content)?;
        let error = inspect();
        assert!(matches!(error, PackageError::NotAModel { .. }), "{error}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn a_changed_byte_or_a_cut_never_loads(at in any::<prop::sample::Index>(), new in any::<u8>(), cut in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ranker.txt");
        model().save(&path).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            prop_assume!(bytes[at] != new);
            bytes[at] = new;
        }
        std::fs::write(&path, bytes).unwrap();
        prop_assert!(RankerModel::inspect(&path).is_err());
    }
}
