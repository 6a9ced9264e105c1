//! What a run is told to do.

use serde::{Deserialize, Serialize};

use crate::error::TrainingError;

/// How an encoder is fine-tuned. All of it is part of a run: one that goes on must have the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingOptions {
    /// How often the training split is gone through.
    pub epochs: usize,
    /// Triples a step.
    pub batch: usize,
    /// Hard negatives a triple, drawn anew each epoch from those it has.
    pub negatives: usize,
    /// Where texts are cut, in tokens, special ones included.
    pub max_tokens: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Share of the steps in which the rate rises to it.
    pub warm_up: f64,
    /// AdamW's decoupled decay.
    pub weight_decay: f32,
    /// What cosines are multiplied by.
    pub scale: f64,
    /// Matryoshka: lengths that vectors may be cut to; empty trains the whole ones alone.
    pub dimensions: Vec<usize>,
    /// Of the order of the data and the negatives drawn.
    pub seed: u64,
    /// Computes each batch's vectors first and again for their gradients (GradCache, Gao et al. 2021):
    /// a third more work, in memory that does not grow with the batch.
    pub grad_cache: bool,
    /// Judgements of the dev split, one an epoch, without a lower loss after which the run ends. With or
    /// without it the model that is kept is that of the lowest.
    pub patience: Option<usize>,
    /// Steps between checkpoints; one is written at the end of each epoch too.
    pub checkpoint_every: usize,
    /// Threads to compute on. Another number changes the last bits of a model.
    pub threads: usize,
}

impl Default for TrainingOptions {
    fn default() -> Self {
        Self {
            epochs: 3,
            batch: 24,
            negatives: 1,
            max_tokens: 192,
            learning_rate: 3e-5,
            warm_up: 0.1,
            weight_decay: 0.01,
            scale: 20.0,
            dimensions: Vec::new(),
            seed: 0,
            grad_cache: false,
            patience: None,
            checkpoint_every: 50,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

impl TrainingOptions {
    /// Checks every value against a model of this width that reads at most so many tokens.
    ///
    /// # Errors
    /// [`TrainingError::Option`] names the first that can't be followed.
    pub fn validate(&self, width: usize, longest: usize) -> Result<(), TrainingError> {
        let refuse = |option, found: String, rule: String| {
            Err(TrainingError::Option {
                option,
                found,
                rule,
            })
        };
        let counts = [
            ("epochs", self.epochs),
            ("batch", self.batch),
            ("checkpoint_every", self.checkpoint_every),
            ("threads", self.threads),
            ("patience", self.patience.unwrap_or(1)),
        ];
        for (option, value) in counts {
            if value == 0 {
                return refuse(option, "0".to_owned(), "give at least 1".to_owned());
            }
        }
        if self.batch == 1 && self.negatives == 0 {
            let rule =
                "a passage is told from others: give at least 2, or hard negatives".to_owned();
            return refuse("batch", "1".to_owned(), rule);
        }
        if !(3..=longest).contains(&self.max_tokens) {
            let rule = format!("this model reads 3 to {longest} tokens");
            return refuse("max_tokens", self.max_tokens.to_string(), rule);
        }
        let numbers = [
            ("learning_rate", self.learning_rate, 1.0),
            ("scale", self.scale, 1e3),
        ];
        for (option, value, most) in numbers {
            // NaN is in no range.
            if !(value > 0.0 && value <= most) {
                return refuse(
                    option,
                    value.to_string(),
                    format!("give more than 0, at most {most}"),
                );
            }
        }
        let shares = [
            ("warm_up", self.warm_up),
            ("weight_decay", f64::from(self.weight_decay)),
        ];
        for (option, value) in shares {
            if !(0.0..=1.0).contains(&value) {
                return refuse(option, value.to_string(), "give 0 to 1".to_owned());
            }
        }
        if let Some(wrong) = self.dimensions.iter().find(|d| !(1..=width).contains(d)) {
            let rule = format!("this model's vectors have {width} values");
            return refuse("dimensions", wrong.to_string(), rule);
        }
        Ok(())
    }

    /// The lengths that the loss looks at.
    #[must_use]
    pub fn loss_dimensions(&self, width: usize) -> Vec<usize> {
        if self.dimensions.is_empty() {
            vec![width]
        } else {
            self.dimensions.clone()
        }
    }
}
