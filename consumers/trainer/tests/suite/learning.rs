//! What is learnt, and what is refused.

use std::ops::ControlFlow;
use std::sync::LazyLock;

use anyhow::Result;
use millrace_ranker::{FeatureSpec, LambdaMartOptions, LightGbm, RankerModel};
use millrace_trainer::evaluation::Evaluation;
use millrace_trainer::learning::{self, LearnError, MIN_RANKINGS};
use millrace_trainer::{Ranking, learning::time_split};

static LIGHTGBM: LazyLock<LightGbm> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(LightGbm::obtain(&mut |_, _| {}))
        .unwrap_or_else(|error| panic!("these tests need the real library: {error}"))
});

const ITEMS: usize = 6;

fn features() -> FeatureSpec {
    FeatureSpec {
        version: "v1".to_owned(),
        names: vec!["taste".to_owned(), "noise".to_owned()],
    }
}

/// Who likes what is written in the first feature; the second says nothing.
fn rankings(count: usize) -> Vec<Ranking> {
    let noise = |seed: usize| ((seed * 7_919 + 13) % 101) as f32;
    (0..count)
        .map(|n| {
            let liked = (n * 5 + n / 7) % ITEMS;
            let row = |item: usize| {
                let likes = item == liked;
                [
                    if likes { 1.0 } else { noise(n + item) / 120.0 },
                    noise(n * ITEMS + item),
                ]
            };
            Ranking {
                request_id: format!("r{n}"),
                user_id: format!("u{}", n % 40),
                shown_at_ms: n as i64,
                items: (0..ITEMS).map(|item| format!("i{item}")).collect(),
                features: (0..ITEMS).flat_map(row).collect(),
                clicked: (0..ITEMS).map(|item| item == liked).collect(),
            }
        })
        .collect()
}

fn options() -> LambdaMartOptions {
    LambdaMartOptions {
        iterations: 30,
        min_rows_in_leaf: 10,
        threads: 1,
        ..learning::options(0)
    }
}

fn text(rankings: &[Ranking]) -> Result<String> {
    let set = learning::training_set(rankings, &features().names)?;
    let unwatched = &mut |_| ControlFlow::Continue(());
    Ok(learning::learn(&LIGHTGBM, &set, &options(), unwatched)?.text)
}

#[test]
fn a_taste_is_learnt_judged_on_later_rankings_and_kept_with_its_evaluation() -> Result<()> {
    let rankings = rankings(400);
    let from = time_split(rankings.len());
    assert_eq!(from, 320);
    let set = learning::training_set(&rankings[..from], &features().names)?;
    let unwatched = &mut |_| ControlFlow::Continue(());
    let trained = learning::learn(&LIGHTGBM, &set, &options(), unwatched)?;
    let forest = trained.forest.clone();
    let mut scores = |_: usize, ranking: &Ranking| forest.predict(&ranking.features).unwrap();
    let evaluation = Evaluation::of(&rankings, None, from, 0, &mut scores)?;
    assert_eq!((evaluation.rankings, evaluation.skipped), (80, 0));
    assert!(evaluation.ndcg_at_10 > 0.99, "{evaluation:?}");
    assert!(evaluation.vs_as_shown.ci95[0] > 0.0, "{evaluation:?}");
    assert!(evaluation.cold.is_none() && evaluation.warm.is_some());
    assert!(trained.forest.importance()[0].gain > trained.forest.importance()[1].gain);

    let folder = tempfile::tempdir()?;
    let path = folder.path().join("a.ranker");
    let model = learning::pack(trained, features(), 1, serde_json::json!(evaluation))?;
    model.save(&path)?;
    let loaded = RankerModel::load(&path, &features())?;
    assert_eq!(loaded.version(), model.version());
    assert_eq!(loaded.evaluation()["rankings"], 80);
    Ok(())
}

#[test]
fn the_same_rankings_train_the_same_model() -> Result<()> {
    assert_eq!(text(&rankings(200))?, text(&rankings(200))?);
    assert_ne!(text(&rankings(200))?, text(&rankings(201))?);
    Ok(())
}

#[test]
fn what_no_order_can_be_learnt_from_is_refused_with_the_reason() {
    let names = features().names;
    let refused = |rankings: &[Ranking]| learning::training_set(rankings, &names).unwrap_err();
    let mut none = rankings(200);
    none.iter_mut()
        .for_each(|ranking| ranking.clicked.fill(false));
    let error = refused(&none);
    assert!(matches!(
        error,
        LearnError::OneLabel {
            clicked: false,
            rankings: 200
        }
    ));
    assert_eq!(
        error.to_string(),
        "nothing of 200 rankings was clicked: all items have one label, and no order can be learnt from \
         them; see whether clicks carry the request id of the list that they were on"
    );
    let mut all = rankings(200);
    all.iter_mut()
        .for_each(|ranking| ranking.clicked.fill(true));
    assert!(matches!(
        refused(&all),
        LearnError::OneLabel { clicked: true, .. }
    ));
    let few = refused(&rankings(MIN_RANKINGS - 1));
    assert!(matches!(few, LearnError::TooFew { found } if found == MIN_RANKINGS - 1));
    assert!(matches!(refused(&[]), LearnError::TooFew { found: 0 }));
}
