//! The packed forward pass.

use std::sync::{Mutex, PoisonError};

use crate::config::ModelConfig;
use crate::cpu::head::Head;
use crate::cpu::kernels::Kernels;
use crate::cpu::layers::{LayerNorm, Linear, add};
use crate::cpu::matmul::{Matrix, MatrixMut, Parallelism, multiply};
use crate::error::ModelError;
use crate::layout::{EMBEDDING_NORM, LayerLayout, embedding_table};
use crate::sequence::Segments;
use crate::weights::Weights;

/// A BERT-family encoder in f32 on the CPU.
pub(crate) struct CpuBert {
    words: Vec<f32>,
    /// Position embeddings with the first token type's already added: a text alone has no other.
    positions: Vec<f32>,
    /// What the second token type's embedding is more than the first one's; empty where the model
    /// knows one type.
    second_type: Vec<f32>,
    head: Head,
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
    /// With what its last layer goes through.
    pub fn load(
        weights: &Weights<'_>,
        config: &ModelConfig,
        head: Head,
    ) -> Result<Self, ModelError> {
        let hidden = config.hidden_size;
        let table =
            |kind: &str, rows: usize| weights.values(&embedding_table(kind), &[rows, hidden]);
        let types = table("token_type", config.type_vocab_size)?;
        let mut positions = table("position", config.max_position_embeddings)?;
        for row in positions.chunks_exact_mut(hidden) {
            add(row, &types[..hidden]);
        }
        let (first, others) = types.split_at(hidden);
        let second_type = others
            .iter()
            .zip(first)
            .map(|(second, first)| second - first);
        Ok(Self {
            second_type: second_type.collect(),
            head,
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

    /// What the head makes of each sequence: a mean vector, or a score.
    ///
    /// The sequences are not empty, no longer than the position table, their ids are in the
    /// vocabulary, and a second segment has a token type: the caller checked that.
    pub fn forward(&self, sequences: &[Segments<'_>], parallelism: Parallelism) -> Vec<Vec<f32>> {
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
        sequences: &[Segments<'_>],
        parallelism: Parallelism,
    ) -> Vec<Vec<f32>> {
        let tokens: usize = sequences.iter().map(|sequence| sequence.ids.len()).sum();
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
        self.head.apply(sequences, hidden)
    }

    fn embed(&self, sequences: &[Segments<'_>], hidden: &mut [f32]) {
        let width = self.hidden_size;
        let tokens = sequences.iter().flat_map(|sequence| {
            let ids = sequence.ids.iter().enumerate();
            ids.map(|(position, id)| (position, *id, position >= sequence.second_from))
        });
        for (row, (position, id, is_second)) in hidden.chunks_exact_mut(width).zip(tokens) {
            row.copy_from_slice(&self.words[id as usize * width..][..width]);
            add(row, &self.positions[position * width..][..width]);
            if is_second {
                add(row, &self.second_type);
            }
        }
        self.embedding_norm.apply(hidden, self.kernels);
    }

    /// `softmax(Q·Kᵀ)·V` of each head of each sequence; the scale is already in Q.
    fn attend(
        &self,
        sequences: &[Segments<'_>],
        qkv: &[f32],
        scores: &mut [f32],
        context: &mut [f32],
    ) {
        let (width, size) = (self.hidden_size, self.head_size);
        let stride = 3 * width;
        let mut first = 0;
        for length in sequences.iter().map(|sequence| sequence.ids.len()) {
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

impl Workspace {
    fn fit(&mut self, model: &CpuBert, sequences: &[Segments<'_>]) {
        let tokens: usize = sequences.iter().map(|sequence| sequence.ids.len()).sum();
        let longest = sequences
            .iter()
            .map(|sequence| sequence.ids.len())
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
