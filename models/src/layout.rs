//! Where the tensors of a BERT-family encoder are in its file, and how large they are.

use crate::config::ModelConfig;

/// Path of the layer norm after the embeddings.
pub const EMBEDDING_NORM: &str = "embeddings.LayerNorm";

/// Name of the table of `kind`: `word`, `position` or `token_type`.
#[must_use]
pub fn embedding_table(kind: &str) -> String {
    format!("embeddings.{kind}_embeddings.weight")
}

/// Linear layers of the same input that are computed as one.
pub struct LinearLayout {
    /// Path of each, and what its weights and bias are multiplied by.
    pub parts: Vec<(String, f64)>,
    /// Columns of each weight, as it is stored.
    pub inputs: usize,
    /// Rows of each weight, as it is stored.
    pub outputs_each: usize,
}

/// One encoder layer; norms are named by their paths.
pub struct LayerLayout {
    /// Query, key and value, side by side.
    pub query_key_value: LinearLayout,
    /// What the heads' outputs go through.
    pub attention_output: LinearLayout,
    /// After attention and its residual.
    pub attention_norm: String,
    /// Before the GELU.
    pub intermediate: LinearLayout,
    /// After it.
    pub output: LinearLayout,
    /// After the second residual.
    pub output_norm: String,
}

impl LayerLayout {
    /// Every layer, from the first. The softmax scale goes into the query's weights.
    pub fn all(config: &ModelConfig) -> impl Iterator<Item = Self> + '_ {
        (0..config.layers).map(|layer| Self::at(&format!("encoder.layer.{layer}"), config))
    }

    fn at(path: &str, config: &ModelConfig) -> Self {
        let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
        let one = |name: &str, inputs, outputs_each| LinearLayout {
            parts: vec![(format!("{path}.{name}"), 1.0)],
            inputs,
            outputs_each,
        };
        let scale = 1.0 / (config.head_size() as f64).sqrt();
        Self {
            query_key_value: LinearLayout {
                parts: vec![
                    (format!("{path}.attention.self.query"), scale),
                    (format!("{path}.attention.self.key"), 1.0),
                    (format!("{path}.attention.self.value"), 1.0),
                ],
                inputs: hidden,
                outputs_each: hidden,
            },
            attention_output: one("attention.output.dense", hidden, hidden),
            attention_norm: format!("{path}.attention.output.LayerNorm"),
            intermediate: one("intermediate.dense", hidden, intermediate),
            output: one("output.dense", intermediate, hidden),
            output_norm: format!("{path}.output.LayerNorm"),
        }
    }
}
