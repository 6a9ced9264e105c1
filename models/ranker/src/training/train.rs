//! Grows trees, follows the validation set, and stops in time.

use std::ops::ControlFlow;

use crate::evaluation::ndcg;
use crate::forest::{Forest, ForestError};
use crate::lightgbm::{LightGbm, LightGbmError, Training};
use crate::training::options::LambdaMartOptions;
use crate::training::set::{TrainingSet, TrainingSetError};

/// Where training stops looking in a list, in its measure.
const CUTOFF: usize = 10;

/// How far training is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Iteration {
    /// Trees that are grown.
    pub done: u32,
    /// Trees at most.
    pub of: u32,
    /// Mean nDCG@10 of the validation queries that have something relevant.
    pub validation_ndcg_at_10: Option<f64>,
}

/// What training made.
#[derive(Clone, Debug)]
pub struct Trained {
    /// LightGBM's text model of the kept trees.
    pub text: String,
    /// The same, ready to score.
    pub forest: Forest,
    /// Trees that were grown.
    pub iterations: u32,
    /// Trees that were kept: up to the best one by the validation set, or all.
    pub kept: u32,
    /// Mean nDCG@10 of the validation queries under the kept trees.
    pub validation_ndcg_at_10: Option<f64>,
}

/// Why no model was trained.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The data can't be learnt from.
    #[error(transparent)]
    Set(#[from] TrainingSetError),
    /// An option is out of range or not to be given.
    #[error("training option `{option}` is {found}; it {rule}")]
    Option {
        /// The option.
        option: String,
        /// Its value.
        found: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// LightGBM refused.
    #[error(transparent)]
    LightGbm(#[from] LightGbmError),
    /// No split was worth making: the features say nothing of the grades, or there are too few rows
    /// for `min_rows_in_leaf`.
    #[error(
        "no split gained anything: the features do not tell the grades apart, or {rows} rows are too \
         few for leaves of {min_rows_in_leaf}"
    )]
    NothingLearnt {
        /// Rows of the training set.
        rows: usize,
        /// The option of that name.
        min_rows_in_leaf: u32,
    },
    /// Progress said to stop.
    #[error("training was stopped after {iterations} iterations")]
    Cancelled {
        /// Trees that were grown until then.
        iterations: u32,
    },
    /// LightGBM wrote a model that can't be served.
    #[error("LightGBM's model can't be served")]
    Model(#[from] ForestError),
}

/// The best iteration so far.
#[derive(Clone, Copy)]
struct Best {
    kept: u32,
    ndcg: f64,
}

impl LightGbm {
    /// Trains LambdaMART for nDCG. It blocks until done, on the option's number of threads.
    ///
    /// With a validation set the trees up to its best nDCG@10 are kept. Its ties count as the mean
    /// over their orders, and queries without anything relevant are left out (LightGBM's own measure
    /// counts those as 1).
    ///
    /// # Errors
    /// [`TrainError`]; what can be known from the data and options is said before LightGBM is called.
    /// [`TrainError::Cancelled`] when `progress` breaks off.
    pub fn train(
        &self,
        training: &TrainingSet,
        validation: Option<&TrainingSet>,
        options: &LambdaMartOptions,
        progress: &mut dyn FnMut(Iteration) -> ControlFlow<()>,
    ) -> Result<Trained, TrainError> {
        let parameters = options.parameters(training)?;
        training.check_learnable()?;
        if let Some(validation) = validation {
            validation.check_validates(training)?;
        }
        let dataset = training.dataset();
        let validation_dataset = validation.map(TrainingSet::dataset);
        let mut run = Training::start(self, &dataset, validation_dataset.as_ref(), &parameters)?;
        let mut best: Option<Best> = None;
        let mut done = 0;
        while done < options.iterations && run.grow()? {
            done += 1;
            let mut measured = None;
            if let Some(validation) = validation {
                let ndcg = mean_ndcg(validation, &run.validation_scores()?);
                measured = Some(ndcg);
                if best.is_none_or(|best| ndcg > best.ndcg) {
                    best = Some(Best { kept: done, ndcg });
                }
            }
            let reached = Iteration {
                done,
                of: options.iterations,
                validation_ndcg_at_10: measured,
            };
            if progress(reached).is_break() {
                return Err(TrainError::Cancelled { iterations: done });
            }
            let patience = options.early_stopping_iterations;
            if patience > 0 && best.is_some_and(|best| done - best.kept >= patience) {
                break;
            }
        }
        if done == 0 {
            return Err(TrainError::NothingLearnt {
                rows: dataset.labels.len(),
                min_rows_in_leaf: options.min_rows_in_leaf,
            });
        }
        let kept = best.map_or(done, |best| best.kept);
        let text = run.text(kept)?;
        Ok(Trained {
            forest: Forest::parse(&text)?,
            text,
            iterations: done,
            kept,
            validation_ndcg_at_10: best.map(|best| best.ndcg),
        })
    }
}

/// Mean over the queries that have something relevant; there is one.
fn mean_ndcg(set: &TrainingSet, scores: &[f64]) -> f64 {
    let measured: Vec<f64> = set
        .graded(scores)
        .filter_map(|(grades, scores)| ndcg(scores, &grades, CUTOFF))
        .collect();
    measured.iter().sum::<f64>() / measured.len() as f64
}
