//! Training with LightGBM itself.

use std::ops::ControlFlow;

use anyhow::{Context, Result};
use millrace_ranker::{
    Forest, LambdaMartOptions, Query, TrainError, TrainingSet, TrainingSetError,
};

use crate::synthetic::{FEATURES, Queries};
use crate::{lightgbm, unwatched};

fn short() -> LambdaMartOptions {
    LambdaMartOptions {
        iterations: 20,
        min_rows_in_leaf: 10,
        threads: 1,
        ..LambdaMartOptions::default()
    }
}

#[test]
fn training_stops_early_and_keeps_the_best_trees() -> Result<()> {
    let training = Queries::new(1, 100, 20).training_set(false);
    let validation = Queries::new(2, 50, 20).training_set(false);
    let options = LambdaMartOptions {
        early_stopping_iterations: 5,
        learning_rate: 0.3,
        threads: 1,
        ..LambdaMartOptions::default()
    };
    let mut seen = Vec::new();
    let trained = lightgbm().train(&training, Some(&validation), &options, &mut |iteration| {
        seen.push(iteration);
        ControlFlow::Continue(())
    })?;
    let measured: Vec<f64> = seen
        .iter()
        .filter_map(|iteration| iteration.validation_ndcg_at_10)
        .collect();
    let best = measured.iter().copied().fold(0.0, f64::max);
    assert_eq!(trained.validation_ndcg_at_10, Some(best));
    assert_eq!(measured.len(), trained.iterations as usize);
    assert_eq!(measured[trained.kept as usize - 1], best);
    assert_eq!(trained.iterations - trained.kept, 5);
    assert!(trained.iterations < options.iterations);
    assert_eq!(trained.forest.trees(), trained.kept as usize);
    // An arbitrary order has .56 on these queries.
    assert!(best > 0.7, "{best}");

    // The measure is that of the kept trees, not of all that were grown.
    let rows = Queries::new(2, 50, 20);
    let scores = trained.forest.predict(&rows.rows)?;
    let values: Vec<f64> = scores
        .chunks(20)
        .zip(rows.grades.chunks(20))
        .filter_map(|(scores, grades)| millrace_ranker::evaluation::ndcg(scores, grades, 10))
        .collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    assert!((mean - best).abs() < 1e-9, "{mean}, {best}");
    Ok(())
}

#[test]
fn the_same_seed_trains_the_same_model() -> Result<()> {
    let training = Queries::new(3, 60, 20).training_set(false);
    let options = LambdaMartOptions {
        threads: 2,
        lightgbm: [("bagging_fraction", "0.7"), ("bagging_freq", "1")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..short()
    };
    let text = |options: &LambdaMartOptions| -> Result<String> {
        Ok(lightgbm()
            .train(&training, None, options, &mut unwatched)?
            .text)
    };
    assert_eq!(text(&options)?, text(&options)?);
    let other = LambdaMartOptions {
        seed: 7,
        ..options.clone()
    };
    assert_ne!(text(&options)?, text(&other)?);
    Ok(())
}

/// Only the first place is ever clicked, whatever is there: without positions the one feature, which is
/// 1 there, looks like a reason to click.
#[test]
fn what_a_position_earned_is_not_ascribed_to_features() -> Result<()> {
    let set = |with_positions: bool| -> Result<TrainingSet> {
        let mut set = TrainingSet::new(&["shown_first", "noise"], &[])?;
        for query in 0..400u16 {
            let noise = f32::from(query % 17);
            set.push(&Query {
                rows: &[1.0, noise, 0.0, 16.0 - noise, 0.0, noise],
                grades: if query % 10 == 9 {
                    &[0, 1, 0]
                } else {
                    &[1, 0, 0]
                },
                positions: with_positions.then_some(&[0, 1, 2]),
                weights: None,
            })?;
        }
        Ok(set)
    };
    let gap = |set: &TrainingSet| -> Result<f64> {
        let trained = lightgbm().train(set, None, &short(), &mut unwatched)?;
        let scores = trained.forest.predict(&[1.0, 8.0, 0.0, 8.0])?;
        Ok(scores[0] - scores[1])
    };
    let (blind, aware) = (gap(&set(false)?)?, gap(&set(true)?)?);
    assert!(
        blind > 0.0 && aware < 0.8 * blind,
        "{blind} without positions, {aware} with"
    );
    Ok(())
}

#[test]
fn progress_can_stop_training() -> Result<()> {
    let training = Queries::new(4, 30, 20).training_set(false);
    let stopped = lightgbm().train(&training, None, &short(), &mut |iteration| {
        assert_eq!(iteration.of, 20);
        if iteration.done == 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    let error = stopped.err().context("trained on")?;
    assert!(
        matches!(error, TrainError::Cancelled { iterations: 3 }),
        "{error}"
    );
    Ok(())
}

#[test]
fn weights_and_importance_are_used() -> Result<()> {
    let made = Queries::new(5, 60, 20);
    let trained = lightgbm().train(&made.training_set(false), None, &short(), &mut unwatched)?;
    let mut importance = trained.forest.importance().to_vec();
    importance.sort_by(|a, b| b.gain.total_cmp(&a.gain));
    // The grades are made of these.
    let first: Vec<&str> = importance[..5].iter().map(|i| i.feature.as_str()).collect();
    assert!(
        first.contains(&"whole_0") && first.contains(&"gaps_10"),
        "{first:?}"
    );
    let splits: u64 = importance.iter().map(|importance| importance.splits).sum();
    assert_eq!(splits, 20 * 30);
    // LightGBM writes the gains of the features as whole numbers, greatest first.
    let line = format!(
        "\nfeature_importances:\n{}={}\n",
        first[0], importance[0].gain as u64
    );
    assert!(trained.text.contains(&line), "{line}");

    let mut weighted = TrainingSet::new(&crate::synthetic::feature_names(), &[])?;
    let mut unweighted = weighted.clone();
    for (rows, grades) in made.rows.chunks(20 * FEATURES).zip(made.grades.chunks(20)) {
        let query = Query {
            rows,
            grades,
            positions: None,
            weights: None,
        };
        let weights: Vec<f32> = (0..20)
            .map(|row| if row < 10 { 4.0 } else { 0.5 })
            .collect();
        unweighted.push(&query)?;
        weighted.push(&Query {
            weights: Some(&weights),
            ..query
        })?;
    }
    let forest = |set| -> Result<Forest> {
        Ok(lightgbm()
            .train(set, None, &short(), &mut unwatched)?
            .forest)
    };
    let rows = &made.rows[..FEATURES];
    assert_ne!(
        forest(&weighted)?.predict(rows)?,
        forest(&unweighted)?.predict(rows)?
    );
    Ok(())
}

#[test]
fn what_can_t_be_learnt_from_is_refused() -> Result<()> {
    let refused = |set: &TrainingSet, options: &LambdaMartOptions| {
        let trained = lightgbm().train(set, None, options, &mut unwatched);
        trained.map(|_| ()).unwrap_err()
    };
    let mut one_grade = TrainingSet::new(&["a"], &[])?;
    let query = Query {
        rows: &[1.0, 2.0],
        grades: &[1, 1],
        positions: None,
        weights: None,
    };
    one_grade.push(&query)?;
    let error = refused(&one_grade, &short());
    assert!(
        matches!(error, TrainError::Set(TrainingSetError::Useless { .. })),
        "{error}"
    );

    let mut constant = TrainingSet::new(&["a"], &[])?;
    for _ in 0..100 {
        constant.push(&Query {
            rows: &[1.0, 1.0],
            grades: &[0, 1],
            ..query
        })?;
    }
    let error = refused(&constant, &short());
    assert!(
        matches!(error, TrainError::NothingLearnt { rows: 200, .. }),
        "{error}"
    );

    let training = Queries::new(6, 30, 20).training_set(false);
    let error = refused(
        &training,
        &LambdaMartOptions {
            lightgbm: [("max_bin".to_owned(), "1".to_owned())].into(),
            ..short()
        },
    );
    // LightGBM's own words reach the user.
    assert!(error.to_string().contains("max_bin"), "{error}");
    for (options, complaint) in [
        (
            LambdaMartOptions {
                learning_rate: f64::NAN,
                ..short()
            },
            "training option `learning_rate` is NaN",
        ),
        (
            LambdaMartOptions {
                seed: u32::MAX,
                ..short()
            },
            "training option `seed` is 4294967295; it is out of range",
        ),
        (
            LambdaMartOptions {
                leaves: 1,
                ..short()
            },
            "training option `leaves` is 1; it must be 2 to 131072",
        ),
        (
            LambdaMartOptions {
                lightgbm: [("n_jobs".to_owned(), "9".to_owned())].into(),
                ..short()
            },
            "training option `n_jobs` is 9; it is decided by the ranker",
        ),
        (
            LambdaMartOptions {
                lightgbm: [("lambda_l2".to_owned(), "1 metric=auc".to_owned())].into(),
                ..short()
            },
            "no plain LightGBM parameter",
        ),
    ] {
        let said = refused(&training, &options).to_string();
        assert!(said.contains(complaint), "{said}");
    }
    Ok(())
}
