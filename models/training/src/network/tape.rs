//! What a forward pass leaves behind for the way back.

use millrace_models::ModelConfig;

/// What one micro-batch of `tokens` leaves behind.
///
/// A layer norm's output, which the next layer reads, is not kept: it is the normalised rows again
/// ([`NormAgain`](super::kernels::NormAgain)). Nor are attention's probabilities, which would be the
/// most of all: they are computed again from Q and K. A buffer is kept for the next batch, as fresh
/// memory costs more than what is written into it.
#[derive(Default)]
pub(crate) struct Tape {
    pub embedding: NormTape,
    pub layers: Vec<LayerTape>,
    pub tokens: usize,
}

/// Of one encoder layer.
#[derive(Default)]
pub(crate) struct LayerTape {
    /// `[tokens, 3·hidden]`: Q, scaled, K and V.
    pub query_key_value: Vec<f32>,
    /// `[tokens, hidden]`: what the heads attended to.
    pub context: Vec<f32>,
    pub attention_norm: NormTape,
    /// `[tokens, intermediate]`: after the GELU.
    pub activation: Vec<f32>,
    /// `[tokens, intermediate]`: the GELU's derivative.
    pub slope: Vec<f32>,
    pub output_norm: NormTape,
}

/// Of one layer norm.
#[derive(Default)]
pub(crate) struct NormTape {
    /// `[tokens, hidden]`
    pub normalised: Vec<f32>,
    /// `[tokens]`
    pub scales: Vec<f32>,
}

impl Tape {
    /// Makes room for `tokens`.
    pub fn fit(&mut self, config: &ModelConfig, tokens: usize) {
        let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
        self.tokens = tokens;
        self.embedding.fit(tokens, hidden);
        self.layers.resize_with(config.layers, LayerTape::default);
        for layer in &mut self.layers {
            resize(&mut layer.query_key_value, tokens * 3 * hidden);
            resize(&mut layer.context, tokens * hidden);
            layer.attention_norm.fit(tokens, hidden);
            resize(&mut layer.activation, tokens * intermediate);
            resize(&mut layer.slope, tokens * intermediate);
            layer.output_norm.fit(tokens, hidden);
        }
    }
}

/// Bytes that the tape of one token takes.
pub(crate) fn bytes_a_token(config: &ModelConfig) -> usize {
    let norm = config.hidden_size + 1;
    let layer = 4 * config.hidden_size + 2 * config.intermediate_size + 2 * norm;
    size_of::<f32>() * (norm + config.layers * layer)
}

impl NormTape {
    fn fit(&mut self, tokens: usize, width: usize) {
        resize(&mut self.normalised, tokens * width);
        resize(&mut self.scales, tokens);
    }
}

/// Sets the length; what is there already is left as it is, to be written over.
pub(crate) fn resize(values: &mut Vec<f32>, length: usize) {
    if values.len() < length {
        // What is in there is of no use: a copy of it into larger memory neither.
        values.clear();
    }
    values.resize(length, 0.0);
}
