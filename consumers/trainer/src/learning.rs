//! From rankings with clicks to a ranker.

use std::ops::ControlFlow;

use millrace_ranker::{
    FeatureSpec, Iteration, LambdaMartOptions, LightGbm, PackageError, Query, RankerModel,
    TrainError, Trained, TrainingSet, TrainingSetError,
};

use crate::ranking::Ranking;

/// Fewer rankings that tell their items apart teach noise.
pub const MIN_RANKINGS: usize = 100;

/// Share of rankings, the first ones in order of time, that a ranker is trained on where the others
/// are to judge it.
const TRAINING_SHARE: f64 = 0.8;

/// Why no ranker was trained.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// Too few rankings.
    #[error(
        "{found} rankings have both clicked and unclicked items; {MIN_RANKINGS} are needed to learn \
         from: wait for more clicks, or name more events"
    )]
    TooFew {
        /// Rankings that could be learnt from.
        found: usize,
    },
    /// Every item has the same label.
    #[error(
        "{} of {rankings} rankings was clicked: all items have one label, and no order can be learnt \
         from them; see whether clicks carry the request id of the list that they were on",
        if *clicked { "everything" } else { "nothing" }
    )]
    OneLabel {
        /// Whether it is that of a click.
        clicked: bool,
        /// Rankings.
        rankings: usize,
    },
    /// A ranking does not fit the features.
    #[error("the rankings make no training set")]
    TrainingSet(#[from] TrainingSetError),
    /// LightGBM can't learn from it.
    #[error("LightGBM can't train the ranker")]
    Train(#[from] TrainError),
    /// What was trained makes no model.
    #[error("what was trained can't be packed")]
    Package(#[from] PackageError),
}

/// Where the rankings end that a ranker is trained on, and those begin that judge it.
#[must_use]
pub fn time_split(rankings: usize) -> usize {
    (rankings as f64 * TRAINING_SHARE) as usize
}

/// Options that were chosen on RankLens: within the rankings before [`time_split`], by what was
/// trained on the first four fifths of those and judged on the fifth after them.
#[must_use]
pub fn options(seed: u32) -> LambdaMartOptions {
    let lightgbm = [
        ("bagging_fraction", "0.7"),
        ("bagging_freq", "1"),
        ("feature_fraction", "0.6"),
        ("lambda_l2", "5"),
    ];
    LambdaMartOptions {
        iterations: 300,
        learning_rate: 0.03,
        leaves: 15,
        min_rows_in_leaf: 200,
        seed,
        lightgbm: lightgbm
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..LambdaMartOptions::default()
    }
}

/// Trains on a whole set. Blocks until done.
///
/// # Errors
/// [`LearnError::Train`].
pub fn learn(
    library: &LightGbm,
    set: &TrainingSet,
    options: &LambdaMartOptions,
    progress: &mut dyn FnMut(Iteration) -> ControlFlow<()>,
) -> Result<Trained, LearnError> {
    Ok(library.train(set, None, options, progress)?)
}

/// The rankings that have something to prefer, as LightGBM takes them. An item's place in its list is
/// LightGBM's position of the row and no feature, so that what a place earned is not ascribed to
/// features.
///
/// # Errors
/// There are too few, or all labels are the same.
pub fn training_set(
    rankings: &[Ranking],
    feature_names: &[String],
) -> Result<TrainingSet, LearnError> {
    let tells = |ranking: &&Ranking| ranking.has_click() && ranking.clicked.contains(&false);
    let useful: Vec<&Ranking> = rankings.iter().filter(tells).collect();
    let one_label = |clicked: bool| {
        let mut labels = rankings.iter().flat_map(|ranking| &ranking.clicked);
        labels.all(|label| *label == clicked)
    };
    if !rankings.is_empty()
        && let Some(clicked) = [false, true].into_iter().find(|label| one_label(*label))
    {
        let rankings = rankings.len();
        return Err(LearnError::OneLabel { clicked, rankings });
    }
    if useful.len() < MIN_RANKINGS {
        return Err(LearnError::TooFew {
            found: useful.len(),
        });
    }
    let mut set = TrainingSet::new(feature_names, &[])?;
    for ranking in useful {
        let positions: Vec<u32> = (0..).take(ranking.items.len()).collect();
        set.push(&Query {
            rows: &ranking.features,
            grades: &ranking.grades(),
            positions: Some(&positions),
            weights: None,
        })?;
    }
    Ok(set)
}

/// What was trained as a model that can be deployed, with how good it was.
///
/// # Errors
/// The features' names are not those of the trees.
pub fn pack(
    trained: Trained,
    features: FeatureSpec,
    trained_at_ms: i64,
    evaluation: serde_json::Value,
) -> Result<RankerModel, LearnError> {
    Ok(RankerModel::new(
        features,
        trained.text,
        trained_at_ms,
        evaluation,
    )?)
}
