//! The evaluator's scores are LightGBM's.

use std::collections::BTreeMap;

use anyhow::Result;
use millrace_ranker::{Booster, Forest, LambdaMartOptions, Prediction};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::synthetic::{FEATURES, Queries};
use crate::{lightgbm, unwatched};

/// Values that stress a decision: missing, around zero, extreme, categories that are none.
const HOSTILE: [f32; 19] = [
    f32::NAN,
    0.0,
    -0.0,
    1e-35,
    -1e-35,
    1.1e-35,
    -1.1e-35,
    1e-40,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::MAX,
    f32::MIN,
    -1.0,
    -0.5,
    0.5,
    2.9,
    31.0,
    32.0,
    3e9,
];

/// Rows of the kind that was trained on, of which every other one has hostile values.
fn rows() -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    // No multiple of the evaluator's block of rows.
    let mut rows = Queries::new(77, 1003, 1).rows;
    for row in rows.chunks_mut(FEATURES).skip(1).step_by(2) {
        for _ in 0..1 + rng.next_u32() % 12 {
            let feature = rng.next_u32() as usize % FEATURES;
            row[feature] = HOSTILE[rng.next_u32() as usize % HOSTILE.len()];
        }
    }
    rows.extend([f32::NAN; FEATURES]);
    rows
}

fn trained(options: &LambdaMartOptions) -> Result<String> {
    let set = Queries::new(1, 200, 20).training_set(false);
    let trained = lightgbm().train(&set, None, options, &mut unwatched)?;
    assert_eq!(trained.kept, options.iterations);
    Ok(trained.text)
}

fn assert_equal(text: &str, kind: Prediction) -> Result<()> {
    let rows = rows();
    let ours = Forest::parse(text)?.predict(&rows)?;
    let theirs = Booster::parse(lightgbm(), text)?.predict(&rows, kind, 2)?;
    assert_eq!(ours.len(), theirs.len());
    for (row, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        let values = &rows[row * FEATURES..(row + 1) * FEATURES];
        assert!(
            (ours - theirs).abs() <= 1e-9,
            "{ours}, {theirs}: {values:?}"
        );
    }
    let distinct: std::collections::BTreeSet<u64> =
        ours.iter().map(|score| score.to_bits()).collect();
    assert!(distinct.len() > 500, "the rows do not tell trees apart");
    Ok(())
}

fn with(parameters: &[(&str, &str)]) -> LambdaMartOptions {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    LambdaMartOptions {
        min_rows_in_leaf: 10,
        threads: 1,
        lightgbm: parameters.iter().map(owned).collect::<BTreeMap<_, _>>(),
        ..LambdaMartOptions::default()
    }
}

/// Takes 3 s: trains 300 trees of 31 leaves.
#[test]
fn three_hundred_trees_score_as_lightgbm_does() -> Result<()> {
    let text = trained(&with(&[]))?;
    let forest = Forest::parse(&text)?;
    assert_eq!(forest.trees(), 300);
    let whole = forest.features_without_missing();
    assert!(whole.iter().any(|name| name == "whole_0"), "{whole:?}");
    assert!(
        !whole.iter().any(|name| name.starts_with("gaps")),
        "{whole:?}"
    );
    assert!(
        text.contains("num_cat=1"),
        "no categorical split was trained"
    );
    assert_equal(&text, Prediction::RawScore)?;
    assert_equal(&text, Prediction::Transformed)?;
    // Version 3 has the same lines.
    assert_equal(
        &text.replacen("version=v4", "version=v3", 1),
        Prediction::RawScore,
    )
}

#[test]
fn zeros_that_are_missing_score_as_lightgbm_does() -> Result<()> {
    let options = LambdaMartOptions {
        iterations: 60,
        ..with(&[("zero_as_missing", "true"), ("max_cat_to_onehot", "1")])
    };
    assert_equal(&trained(&options)?, Prediction::RawScore)
}

#[test]
fn features_that_may_not_be_missing_score_as_lightgbm_does() -> Result<()> {
    let options = LambdaMartOptions {
        iterations: 60,
        ..with(&[("use_missing", "false")])
    };
    let text = trained(&options)?;
    assert!(Forest::parse(&text)?.features_without_missing().len() > 20);
    assert_equal(&text, Prediction::RawScore)
}

#[test]
fn trees_of_more_leaves_than_a_mask_has_bits_score_as_lightgbm_does() -> Result<()> {
    for leaves in [32, 33, 200] {
        let options = LambdaMartOptions {
            iterations: 30,
            leaves,
            ..with(&[])
        };
        assert_equal(&trained(&options)?, Prediction::RawScore)?;
    }
    Ok(())
}

#[test]
fn an_averaged_forest_scores_as_lightgbm_does() -> Result<()> {
    let options = LambdaMartOptions {
        iterations: 20,
        ..with(&[])
    };
    let averaged =
        trained(&options)?.replacen("\nfeature_names=", "\naverage_output\nfeature_names=", 1);
    assert_equal(&averaged, Prediction::Transformed)
}

#[test]
fn a_row_scores_the_same_alone_and_among_others() -> Result<()> {
    let options = LambdaMartOptions {
        iterations: 20,
        ..with(&[])
    };
    let forest = Forest::parse(&trained(&options)?)?;
    let rows = rows();
    let together = forest.predict(&rows)?;
    for (row, score) in rows.chunks(FEATURES).zip(together) {
        assert_eq!(forest.predict(row)?, [score]);
    }
    assert!(forest.predict(&[])?.is_empty());
    let error = forest.predict(&rows[1..]).unwrap_err().to_string();
    assert!(
        error.contains("no whole number of rows of 30 features"),
        "{error}"
    );
    Ok(())
}
