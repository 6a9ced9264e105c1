//! What the last layer's hidden states become.

use crate::config::ModelConfig;
use crate::cpu::layers::{Linear, add};
use crate::cpu::matmul::Parallelism;
use crate::error::ModelError;
use crate::layout::LinearLayout;
use crate::sequence::Segments;
use crate::weights::Weights;

/// What a sequence's hidden states become.
pub(crate) enum Head {
    /// Their mean: `hidden_size` values.
    Mean,
    /// A score by the first of them: one value.
    Score(Classifier),
}

/// BERT's pooler and a classifier of one label (`BertPooler` and `BertForSequenceClassification` of
/// transformers): `w·tanh(h·P + p) + b` of the first token's `h`.
pub(crate) struct Classifier {
    pooler: Linear,
    weight: Vec<f32>,
    bias: f32,
}

impl Classifier {
    pub fn load(weights: &Weights<'_>, config: &ModelConfig) -> Result<Self, ModelError> {
        let hidden = config.hidden_size;
        let pooler = LinearLayout {
            parts: vec![("pooler.dense".to_owned(), 1.0)],
            inputs: hidden,
            outputs_each: hidden,
        };
        Ok(Self {
            pooler: Linear::load(weights, &pooler)?,
            weight: weights.head_values("classifier.weight", &[1, hidden])?,
            bias: weights.head_values("classifier.bias", &[1])?.iter().sum(),
        })
    }

    fn score(&self, first: &[f32]) -> f32 {
        let mut pooled = vec![0.0; self.weight.len()];
        self.pooler.apply(first, &mut pooled, Parallelism::None);
        let products = pooled.iter().zip(&self.weight).map(|(x, w)| x.tanh() * w);
        products.sum::<f32>() + self.bias
    }
}

impl Head {
    /// Of hidden states `[tokens, hidden_size]`, those of each sequence behind the last one's.
    pub fn apply(&self, sequences: &[Segments<'_>], mut hidden: &[f32]) -> Vec<Vec<f32>> {
        let tokens: usize = sequences.iter().map(|sequence| sequence.ids.len()).sum();
        let width = hidden.len() / tokens.max(1);
        let mut made = Vec::with_capacity(sequences.len());
        for sequence in sequences {
            let (rows, rest) = hidden.split_at(sequence.ids.len() * width);
            hidden = rest;
            made.push(match self {
                Self::Mean => mean(rows, width),
                Self::Score(classifier) => vec![classifier.score(&rows[..width])],
            });
        }
        made
    }
}

fn mean(rows: &[f32], width: usize) -> Vec<f32> {
    let mut vector = vec![0.0; width];
    for row in rows.chunks_exact(width) {
        add(&mut vector, row);
    }
    let length = (rows.len() / width) as f32;
    for value in &mut vector {
        *value /= length;
    }
    vector
}
