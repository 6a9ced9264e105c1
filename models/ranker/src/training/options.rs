//! How a model is trained.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::training::set::TrainingSet;
use crate::training::train::TrainError;

/// Parameters of LightGBM's that are decided here, each with its aliases: another value would break
/// what training promises or contradict a field of [`LambdaMartOptions`].
const DECIDED_HERE: &str = "objective objective_type app application loss label_gain \
    boosting boosting_type boost num_class num_classes linear_tree linear_trees \
    metric metrics metric_types verbosity verbose \
    num_iterations num_iteration n_iter num_tree num_trees num_round num_rounds nrounds \
    num_boost_round n_estimators max_iter \
    early_stopping_round early_stopping_rounds early_stopping n_iter_no_change \
    learning_rate shrinkage_rate eta num_leaves num_leaf max_leaves max_leaf max_leaf_nodes \
    min_data_in_leaf min_data_per_leaf min_data min_child_samples min_samples_leaf \
    lambdarank_truncation_level lambdarank_position_bias_regularization \
    categorical_feature cat_feature categorical_column cat_column categorical_features \
    seed random_seed random_state num_threads num_thread nthread nthreads n_jobs \
    deterministic force_row_wise force_col_wise";

/// Options of LambdaMART (Burges, *From RankNet to LambdaRank to LambdaMART*, 2010), as LightGBM
/// grows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LambdaMartOptions {
    /// Trees at most; 300.
    pub iterations: u32,
    /// Share of each tree's leaves that is added; 0.05.
    pub learning_rate: f64,
    /// Leaves of a tree at most; 31. Trees of up to 32 are evaluated fastest.
    pub leaves: u32,
    /// Rows of a leaf at least; 50. Clicks are noisy, and leaves of a few rows learn the noise.
    pub min_rows_in_leaf: u32,
    /// Pairs count where one of the two is among the first so many; 30, a few more than are shown.
    pub truncation_level: u32,
    /// Weight of the penalty on what is ascribed to positions; 0. Without positions it does nothing.
    pub position_bias_regularization: f64,
    /// With a validation set: iterations without a better nDCG@10 after which training ends, and
    /// the best iteration's model is kept; 50. 0 trains to the end, and keeps the best all the same.
    pub early_stopping_iterations: u32,
    /// Of everything that is drawn; 0.
    pub seed: u32,
    /// Threads to train on; 0 is one a core. Their number may change the last bits of a model. Beside
    /// other work fewer are faster: OpenMP's threads spin while they wait for each other.
    pub threads: u32,
    /// Further parameters of LightGBM, such as `lambda_l2`. Those that are decided here are refused.
    pub lightgbm: BTreeMap<String, String>,
}

impl Default for LambdaMartOptions {
    fn default() -> Self {
        Self {
            iterations: 300,
            learning_rate: 0.05,
            leaves: 31,
            min_rows_in_leaf: 50,
            truncation_level: 30,
            position_bias_regularization: 0.0,
            early_stopping_iterations: 50,
            seed: 0,
            threads: 0,
            lightgbm: BTreeMap::new(),
        }
    }
}

impl LambdaMartOptions {
    /// Checks the options and writes them as LightGBM reads them.
    pub(super) fn parameters(&self, set: &TrainingSet) -> Result<String, TrainError> {
        self.check()?;
        let mut text = String::from(
            "objective=lambdarank metric=none boosting=gbdt deterministic=true force_row_wise=true \
             verbosity=0",
        );
        let options = [
            ("learning_rate", self.learning_rate.to_string()),
            ("num_leaves", self.leaves.to_string()),
            ("min_data_in_leaf", self.min_rows_in_leaf.to_string()),
            (
                "lambdarank_truncation_level",
                self.truncation_level.to_string(),
            ),
            (
                "lambdarank_position_bias_regularization",
                self.position_bias_regularization.to_string(),
            ),
            ("seed", self.seed.to_string()),
            ("num_threads", self.threads.to_string()),
        ];
        let further = self
            .lightgbm
            .iter()
            .map(|(key, value)| (key.as_str(), value));
        for (key, value) in options
            .iter()
            .map(|(key, value)| (*key, value))
            .chain(further)
        {
            // Writing to a string can't fail.
            let _ = write!(text, " {key}={value}");
        }
        if !set.categorical().is_empty() {
            let features: Vec<String> = set.categorical().iter().map(ToString::to_string).collect();
            let _ = write!(text, " categorical_feature={}", features.join(","));
        }
        Ok(text)
    }

    fn check(&self) -> Result<(), TrainError> {
        let refuse = |option: &str, found: String, rule: &'static str| {
            Err(TrainError::Option {
                option: option.to_owned(),
                found,
                rule,
            })
        };
        // LightGBM counts in 31 bits.
        for (option, value, least) in [
            ("iterations", self.iterations, 1),
            ("truncation_level", self.truncation_level, 1),
            ("min_rows_in_leaf", self.min_rows_in_leaf, 0),
            ("seed", self.seed, 0),
            ("threads", self.threads, 0),
        ] {
            if !(least..=i32::MAX as u32).contains(&value) {
                let rule = "is out of range: 2147483647 at most, and iterations and \
                            truncation_level at least 1";
                return refuse(option, value.to_string(), rule);
            }
        }
        if !(2..=131_072).contains(&self.leaves) {
            return refuse("leaves", self.leaves.to_string(), "must be 2 to 131072");
        }
        if !(self.learning_rate > 0.0 && self.learning_rate <= 1.0) {
            let found = self.learning_rate.to_string();
            return refuse("learning_rate", found, "must be above 0 and at most 1");
        }
        let regularization = self.position_bias_regularization;
        if !(regularization >= 0.0 && regularization.is_finite()) {
            let rule = "must be 0 or more";
            return refuse(
                "position_bias_regularization",
                regularization.to_string(),
                rule,
            );
        }
        for (key, value) in &self.lightgbm {
            if DECIDED_HERE.split(' ').any(|decided| decided == key) {
                return refuse(
                    key,
                    value.clone(),
                    "is decided by the ranker and can't be given",
                );
            }
            let plain = |text: &str| {
                !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '=')
            };
            if !plain(key) || !plain(value) {
                return refuse(key, value.clone(), "is no plain LightGBM parameter");
            }
        }
        Ok(())
    }
}
