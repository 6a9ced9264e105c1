//! The packed forward pass.

use std::sync::{Mutex, PoisonError};

use crate::config::ModelConfig;
use crate::cpu::kernels::Kernels;
use crate::cpu::matmul::{Matrix, MatrixMut, Parallelism, multiply};
use crate::error::ModelError;
use crate::layout::{EMBEDDING_NORM, LayerLayout, LinearLayout, embedding_table};
use crate::weights::Weights;

/// A BERT-family encoder in f32 on the CPU.
pub(crate) struct CpuBert {
    words: Vec<f32>,
    /// Position embeddings with the first token type's already added: a text alone has no second.
    positions: Vec<f32>,
    embedding_norm: LayerNorm,
    layers: Vec<Layer>,
    hidden_size: usize,
    head_size: usize,
    intermediate_size: usize,
    kernels: Kernels,
    /// Workspaces of micro-batches that are done, for the next ones: at most one a worker.
    idle: Mutex<Vec<Workspace>>,
}

struct Layer {
    query_key_value: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
}

/// `y = x·W + b`
struct Linear {
    /// `[inputs, outputs]`, row-major.
    weight: Vec<f32>,
    bias: Vec<f32>,
    inputs: usize,
    outputs: usize,
}

struct LayerNorm {
    gain: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
}

/// What one micro-batch is computed in. Grows to the largest micro-batch seen.
#[derive(Default)]
struct Workspace {
    /// `[tokens, hidden]`: the residual stream.
    hidden: Vec<f32>,
    /// `[tokens, max(3·hidden, intermediate)]`: Q, K and V side by side, then the intermediate layer.
    wide: Vec<f32>,
    /// `[tokens, hidden]`: what the heads attended to.
    context: Vec<f32>,
    /// `[longest, longest]`: attention of one head over one sequence.
    scores: Vec<f32>,
}

impl CpuBert {
    pub fn load(weights: &Weights<'_>, config: &ModelConfig) -> Result<Self, ModelError> {
        let hidden = config.hidden_size;
        let table =
            |kind: &str, rows: usize| weights.values(&embedding_table(kind), &[rows, hidden]);
        let types = table("token_type", config.type_vocab_size)?;
        let mut positions = table("position", config.max_position_embeddings)?;
        for row in positions.chunks_exact_mut(hidden) {
            add(row, &types[..hidden]);
        }
        Ok(Self {
            words: table("word", config.vocab_size)?,
            positions,
            embedding_norm: LayerNorm::load(weights, EMBEDDING_NORM, config)?,
            layers: LayerLayout::all(config)
                .map(|layout| Layer::load(weights, &layout, config))
                .collect::<Result<_, _>>()?,
            hidden_size: hidden,
            head_size: config.head_size(),
            intermediate_size: config.intermediate_size,
            kernels: Kernels::detect(),
            idle: Mutex::default(),
        })
    }

    /// Mean-pooled vectors, one a sequence.
    ///
    /// The sequences are not empty, no longer than the position table and their ids are in the
    /// vocabulary: the encoder checked that.
    pub fn forward(&self, sequences: &[&[u32]], parallelism: Parallelism) -> Vec<Vec<f32>> {
        // A panic elsewhere leaves the list itself whole: it only ever holds finished workspaces.
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut workspace = idle().pop().unwrap_or_default();
        workspace.fit(self, sequences);
        let vectors = self.forward_in(&mut workspace, sequences, parallelism);
        idle().push(workspace);
        vectors
    }

    fn forward_in(
        &self,
        workspace: &mut Workspace,
        sequences: &[&[u32]],
        parallelism: Parallelism,
    ) -> Vec<Vec<f32>> {
        let tokens: usize = sequences.iter().map(|sequence| sequence.len()).sum();
        let (hidden_size, wide_size) = (self.hidden_size, self.intermediate_size);
        let Workspace {
            hidden,
            wide,
            context,
            scores,
        } = workspace;
        let hidden = &mut hidden[..tokens * hidden_size];
        let context = &mut context[..tokens * hidden_size];

        self.embed(sequences, hidden);
        for layer in &self.layers {
            let qkv = &mut wide[..tokens * 3 * hidden_size];
            layer.query_key_value.apply(hidden, qkv, parallelism);
            self.attend(sequences, qkv, scores, context);
            layer.attention_output.add_to(context, hidden, parallelism);
            layer.attention_norm.apply(hidden, self.kernels);

            let intermediate = &mut wide[..tokens * wide_size];
            layer.intermediate.apply(hidden, intermediate, parallelism);
            self.kernels.gelu(intermediate);
            layer.output.add_to(intermediate, hidden, parallelism);
            layer.output_norm.apply(hidden, self.kernels);
        }
        self.pool(sequences, hidden)
    }

    fn embed(&self, sequences: &[&[u32]], hidden: &mut [f32]) {
        let width = self.hidden_size;
        let ids = sequences
            .iter()
            .flat_map(|sequence| sequence.iter().enumerate());
        for (row, (position, id)) in hidden.chunks_exact_mut(width).zip(ids) {
            row.copy_from_slice(&self.words[*id as usize * width..][..width]);
            add(row, &self.positions[position * width..][..width]);
        }
        self.embedding_norm.apply(hidden, self.kernels);
    }

    /// `softmax(Q·Kᵀ)·V` of each head of each sequence; the scale is already in Q.
    fn attend(&self, sequences: &[&[u32]], qkv: &[f32], scores: &mut [f32], context: &mut [f32]) {
        let (width, size) = (self.hidden_size, self.head_size);
        let stride = 3 * width;
        let mut first = 0;
        for length in sequences.iter().map(|sequence| sequence.len()) {
            let scores = &mut scores[..length * length];
            for column in (0..width).step_by(size) {
                let part = |third: usize| {
                    let start = first * stride + third * width + column;
                    Matrix::new(&qkv[start..], length, size, stride)
                };
                multiply(
                    &mut MatrixMut::new(scores, length, length, length),
                    false,
                    part(0),
                    part(1).transposed(),
                    Parallelism::None,
                );
                self.kernels.softmax_rows(scores, length);
                let output = &mut context[first * width + column..];
                multiply(
                    &mut MatrixMut::new(output, length, size, width),
                    false,
                    Matrix::new(scores, length, length, length),
                    part(2),
                    Parallelism::None,
                );
            }
            first += length;
        }
    }

    fn pool(&self, sequences: &[&[u32]], mut hidden: &[f32]) -> Vec<Vec<f32>> {
        let mut vectors = Vec::with_capacity(sequences.len());
        for sequence in sequences {
            let (rows, rest) = hidden.split_at(sequence.len() * self.hidden_size);
            hidden = rest;
            let mut vector = vec![0.0; self.hidden_size];
            for row in rows.chunks_exact(self.hidden_size) {
                add(&mut vector, row);
            }
            let length = sequence.len() as f32;
            for value in &mut vector {
                *value /= length;
            }
            vectors.push(vector);
        }
        vectors
    }
}

impl Layer {
    fn load(
        weights: &Weights<'_>,
        layout: &LayerLayout,
        config: &ModelConfig,
    ) -> Result<Self, ModelError> {
        Ok(Self {
            query_key_value: Linear::load(weights, &layout.query_key_value)?,
            attention_output: Linear::load(weights, &layout.attention_output)?,
            attention_norm: LayerNorm::load(weights, &layout.attention_norm, config)?,
            intermediate: Linear::load(weights, &layout.intermediate)?,
            output: Linear::load(weights, &layout.output)?,
            output_norm: LayerNorm::load(weights, &layout.output_norm, config)?,
        })
    }
}

impl Linear {
    /// Puts the parts side by side, each multiplied by its scale.
    fn load(weights: &Weights<'_>, layout: &LinearLayout) -> Result<Self, ModelError> {
        let LinearLayout {
            parts,
            inputs,
            outputs_each,
        } = layout;
        let (inputs, outputs_each) = (*inputs, *outputs_each);
        let outputs = parts.len() * outputs_each;
        let mut weight = vec![0.0; inputs * outputs];
        let mut bias = Vec::with_capacity(outputs);
        for (part, (name, scale)) in parts.iter().enumerate() {
            let scale = *scale as f32;
            // Stored as [outputs, inputs].
            let stored = weights.values(&format!("{name}.weight"), &[outputs_each, inputs])?;
            for (output, row) in stored.chunks_exact(inputs).enumerate() {
                for (input, value) in row.iter().enumerate() {
                    weight[input * outputs + part * outputs_each + output] = value * scale;
                }
            }
            let stored = weights.values(&format!("{name}.bias"), &[outputs_each])?;
            bias.extend(stored.iter().map(|value| value * scale));
        }
        Ok(Self {
            weight,
            bias,
            inputs,
            outputs,
        })
    }

    /// `y = x·W + b`
    fn apply(&self, x: &[f32], y: &mut [f32], parallelism: Parallelism) {
        for row in y.chunks_exact_mut(self.outputs) {
            row.copy_from_slice(&self.bias);
        }
        self.accumulate(x, y, parallelism);
    }

    /// `y += x·W + b`
    fn add_to(&self, x: &[f32], y: &mut [f32], parallelism: Parallelism) {
        for row in y.chunks_exact_mut(self.outputs) {
            add(row, &self.bias);
        }
        self.accumulate(x, y, parallelism);
    }

    fn accumulate(&self, x: &[f32], y: &mut [f32], parallelism: Parallelism) {
        let rows = x.len() / self.inputs;
        multiply(
            &mut MatrixMut::new(y, rows, self.outputs, self.outputs),
            true,
            Matrix::new(x, rows, self.inputs, self.inputs),
            Matrix::new(&self.weight, self.inputs, self.outputs, self.outputs),
            parallelism,
        );
    }
}

impl LayerNorm {
    fn load(weights: &Weights<'_>, path: &str, config: &ModelConfig) -> Result<Self, ModelError> {
        let shape = [config.hidden_size];
        Ok(Self {
            gain: weights.values(&format!("{path}.weight"), &shape)?,
            bias: weights.values(&format!("{path}.bias"), &shape)?,
            epsilon: config.layer_norm_eps as f32,
        })
    }

    fn apply(&self, rows: &mut [f32], kernels: Kernels) {
        kernels.layer_norm(rows, &self.gain, &self.bias, self.epsilon);
    }
}

impl Workspace {
    fn fit(&mut self, model: &CpuBert, sequences: &[&[u32]]) {
        let tokens: usize = sequences.iter().map(|sequence| sequence.len()).sum();
        let longest = sequences
            .iter()
            .map(|sequence| sequence.len())
            .max()
            .unwrap_or(0);
        let grow = |values: &mut Vec<f32>, length: usize| {
            if values.len() < length {
                values.resize(length, 0.0);
            }
        };
        grow(&mut self.hidden, tokens * model.hidden_size);
        grow(
            &mut self.wide,
            tokens * model.intermediate_size.max(3 * model.hidden_size),
        );
        grow(&mut self.context, tokens * model.hidden_size);
        grow(&mut self.scores, longest * longest);
    }
}

fn add(row: &mut [f32], other: &[f32]) {
    for (value, other) in row.iter_mut().zip(other) {
        *value += other;
    }
}
