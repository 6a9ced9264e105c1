//! The encoder there and back on the CPU: packed sequences, written-out gradients.
//!
//! As in the encoder that serves, the sequences of a micro-batch are one matrix `[tokens, hidden]`
//! without padding. The way back is written out and not recorded operation by operation: it keeps
//! fewer tensors, and each is read once. Each worker takes every so many-th micro-batch and adds to
//! gradients of its own, so a step's result depends on the number of workers and on nothing else.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use millrace_models::ModelConfig;
use millrace_models::cpu::Kernels;
use millrace_models::packing::micro_batches;
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::attention::{Heads, Scores};
use super::kernels::{Multiply, NormAgain, NormBackward, NormForward, run};
use super::linear;
use super::tape::{NormTape, Tape, bytes_a_token, resize};
use crate::error::TrainingError;
use crate::parameters::{Norm, ParameterLayout};

/// Tokens of a micro-batch: enough that adding a weight's gradient costs little beside computing it.
pub(crate) const MICRO_BATCH_TOKENS: usize = 1_024;

/// The network on the CPU.
pub(crate) struct PackedBert {
    config: ModelConfig,
    layout: ParameterLayout,
    kernels: Kernels,
    workers: ThreadPool,
    /// Buffers of passes that are over, for the next ones.
    tapes: Idle<Tape>,
    workspaces: Idle<Workspace>,
}

/// What a batch of sequences left behind: its micro-batches in order.
pub(crate) struct PackedTape(Vec<(Range<usize>, Tape)>);

/// What one worker computes in.
#[derive(Default)]
struct Workspace {
    /// `[tokens, hidden]`: the residual stream, and its gradient on the way back.
    hidden: Vec<f32>,
    /// `[tokens, hidden]`: another of that shape.
    narrow: Vec<f32>,
    /// `[tokens, max(3·hidden, intermediate)]`
    wide: Vec<f32>,
    scores: Scores,
}

/// Buffers that nobody computes in.
struct Idle<T>(Mutex<Vec<T>>);

impl<T: Default> Idle<T> {
    fn take(&self) -> T {
        self.buffers().pop().unwrap_or_default()
    }

    fn put_back(&self, buffer: T) {
        self.buffers().push(buffer);
    }

    fn buffers(&self) -> MutexGuard<'_, Vec<T>> {
        // A panic elsewhere leaves the list itself whole: buffers have no state.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Idle<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl PackedBert {
    pub fn new(
        config: &ModelConfig,
        layout: &ParameterLayout,
        threads: usize,
    ) -> Result<Self, TrainingError> {
        let workers = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("training-{index}"))
            .build()
            .map_err(|source| TrainingError::Threads { threads, source })?;
        Ok(Self {
            config: config.clone(),
            layout: layout.clone(),
            kernels: Kernels::detect(),
            workers,
            tapes: Idle::default(),
            workspaces: Idle::default(),
        })
    }

    pub fn workers(&self) -> &ThreadPool {
        &self.workers
    }

    /// Bytes that the forward pass of so many tokens keeps.
    pub fn tape_bytes(&self, tokens: usize) -> usize {
        tokens * bytes_a_token(&self.config)
    }

    /// Mean-pooled vectors `[sequences, hidden]`, not normalised, and what the way back needs.
    pub fn forward(&self, parameters: &[f32], sequences: &[&[u32]]) -> (Vec<f32>, PackedTape) {
        let parts: Vec<_> = self.workers.install(|| {
            self.cut(sequences)
                .into_par_iter()
                .with_max_len(1)
                .map(|range| {
                    let mut tape = self.tapes.take();
                    let part = &sequences[range.clone()];
                    let vectors = self.forward_in(parameters, part, &mut tape);
                    (vectors, (range, tape))
                })
                .collect()
        });
        let (vectors, tapes): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        (vectors.concat(), PackedTape(tapes))
    }

    /// The vectors alone, in the memory of one micro-batch a worker.
    pub fn encode(&self, parameters: &[f32], sequences: &[&[u32]]) -> Vec<f32> {
        let vectors: Vec<_> = self.workers.install(|| {
            self.cut(sequences)
                .into_par_iter()
                .with_max_len(1)
                .map(|range| {
                    let mut tape = self.tapes.take();
                    let vectors = self.forward_in(parameters, &sequences[range], &mut tape);
                    self.tapes.put_back(tape);
                    vectors
                })
                .collect()
        });
        vectors.concat()
    }

    /// Adds the parameters' gradients to `gradients`, one share a worker, from those of the vectors.
    pub fn backward(
        &self,
        parameters: &[f32],
        sequences: &[&[u32]],
        tape: PackedTape,
        vector_gradients: &[f32],
        gradients: &mut [Vec<f32>],
    ) {
        let hidden = self.config.hidden_size;
        let count = gradients.len();
        let mut shares: Vec<Vec<_>> = gradients.iter().map(|_| Vec::new()).collect();
        for (index, part) in tape.0.into_iter().enumerate() {
            shares[index % count].push(part);
        }
        self.workers.install(|| {
            shares
                .into_par_iter()
                .zip(gradients.par_iter_mut())
                .with_max_len(1)
                .for_each(|(share, gradients)| {
                    for (range, tape) in share {
                        let along = &vector_gradients[range.start * hidden..range.end * hidden];
                        let part = &sequences[range];
                        self.backward_in(parameters, part, &tape, along, gradients);
                        self.tapes.put_back(tape);
                    }
                });
        });
    }

    /// Forward again and back at once, in the memory of one micro-batch a worker.
    pub fn backward_again(
        &self,
        parameters: &[f32],
        sequences: &[&[u32]],
        vector_gradients: &[f32],
        gradients: &mut [Vec<f32>],
    ) {
        let hidden = self.config.hidden_size;
        let parts = self.cut(sequences);
        let count = gradients.len();
        self.workers.install(|| {
            gradients
                .par_iter_mut()
                .enumerate()
                .with_max_len(1)
                .for_each(|(worker, gradients)| {
                    let mut tape = self.tapes.take();
                    for range in parts.iter().skip(worker).step_by(count) {
                        let along = &vector_gradients[range.start * hidden..range.end * hidden];
                        let part = &sequences[range.clone()];
                        self.forward_in(parameters, part, &mut tape);
                        self.backward_in(parameters, part, &tape, along, gradients);
                    }
                    self.tapes.put_back(tape);
                });
        });
    }

    fn cut(&self, sequences: &[&[u32]]) -> Vec<Range<usize>> {
        let lengths = lengths(sequences);
        let tokens: usize = lengths.iter().sum();
        let workers = self.workers.current_num_threads();
        let count = tokens
            .div_ceil(MICRO_BATCH_TOKENS)
            .next_multiple_of(workers);
        micro_batches(&lengths, count)
    }

    fn heads(&self) -> Heads {
        Heads {
            hidden: self.config.hidden_size,
            head: self.config.head_size(),
            kernels: self.kernels,
        }
    }

    fn forward_in(&self, parameters: &[f32], sequences: &[&[u32]], tape: &mut Tape) -> Vec<f32> {
        let lengths = lengths(sequences);
        let tokens = lengths.iter().sum();
        let width = self.config.hidden_size;
        let scale = 1.0 / (self.config.head_size() as f32).sqrt();
        tape.fit(&self.config, tokens);
        let mut workspace = self.workspaces.take();
        let Workspace { hidden, scores, .. } = &mut workspace;
        resize(hidden, tokens * width);

        self.embed(parameters, sequences, hidden);
        let norm = |norm, rows: &mut [f32], tape| self.normalise(parameters, norm, rows, tape);
        norm(&self.layout.embedding_norm, hidden, &mut tape.embedding);
        for (layer, tape) in self.layout.layers.iter().zip(&mut tape.layers) {
            let qkv = &mut tape.query_key_value;
            linear::apply(parameters, &layer.query_key_value, hidden, qkv);
            for row in qkv.chunks_exact_mut(3 * width) {
                for value in &mut row[..width] {
                    *value *= scale;
                }
            }
            self.heads()
                .forward(&lengths, qkv, scores, &mut tape.context);
            linear::add_to(parameters, &layer.attention_output, &tape.context, hidden);
            norm(&layer.attention_norm, hidden, &mut tape.attention_norm);

            let activation = &mut tape.activation;
            linear::apply(parameters, &layer.intermediate, hidden, activation);
            self.kernels.gelu_with_slope(activation, &mut tape.slope);
            linear::add_to(parameters, &layer.output, activation, hidden);
            norm(&layer.output_norm, hidden, &mut tape.output_norm);
        }
        let vectors = self.pool(&lengths, hidden);
        self.workspaces.put_back(workspace);
        vectors
    }

    fn backward_in(
        &self,
        parameters: &[f32],
        sequences: &[&[u32]],
        tape: &Tape,
        vector_gradients: &[f32],
        gradients: &mut [f32],
    ) {
        let lengths = lengths(sequences);
        let width = self.config.hidden_size;
        let mut workspace = self.workspaces.take();
        let Workspace {
            hidden,
            narrow,
            wide,
            scores,
        } = &mut workspace;
        resize(hidden, tape.tokens * width);
        resize(narrow, tape.tokens * width);
        // Each token has its share of the mean's gradient.
        let mut rows = hidden.chunks_exact_mut(width);
        for (length, vector) in lengths.iter().zip(vector_gradients.chunks_exact(width)) {
            for row in rows.by_ref().take(*length) {
                for (value, gradient) in row.iter_mut().zip(vector) {
                    *value = gradient / *length as f32;
                }
            }
        }

        let inputs = std::iter::once((&self.layout.embedding_norm, &tape.embedding)).chain(
            (self.layout.layers.iter().zip(&tape.layers))
                .map(|(layer, tape)| (&layer.output_norm, &tape.output_norm)),
        );
        let inputs: Vec<_> = inputs.take(tape.layers.len()).collect();
        let layers = self.layout.layers.iter().zip(&tape.layers).zip(inputs);
        for ((layer, kept), (input_norm, input)) in layers.rev() {
            self.normalise_back(
                parameters,
                &layer.output_norm,
                &kept.output_norm,
                hidden,
                gradients,
            );
            resize(wide, kept.activation.len());
            linear::backward_into(
                parameters,
                &layer.output,
                &kept.activation,
                hidden,
                wide,
                gradients,
            );
            run(Multiply {
                values: wide,
                factors: &kept.slope,
            });
            self.norm_again(
                parameters,
                &layer.attention_norm,
                &kept.attention_norm,
                narrow,
            );
            linear::backward_adding(
                parameters,
                &layer.intermediate,
                narrow,
                wide,
                hidden,
                gradients,
            );
            self.normalise_back(
                parameters,
                &layer.attention_norm,
                &kept.attention_norm,
                hidden,
                gradients,
            );
            linear::backward_into(
                parameters,
                &layer.attention_output,
                &kept.context,
                hidden,
                narrow,
                gradients,
            );
            resize(wide, kept.query_key_value.len());
            self.heads()
                .backward(&lengths, &kept.query_key_value, narrow, scores, wide);
            self.norm_again(parameters, input_norm, input, narrow);
            linear::backward_adding(
                parameters,
                &layer.query_key_value,
                narrow,
                wide,
                hidden,
                gradients,
            );
        }
        let norm = &self.layout.embedding_norm;
        self.normalise_back(parameters, norm, &tape.embedding, hidden, gradients);
        self.embed_back(sequences, hidden, gradients);
        self.workspaces.put_back(workspace);
    }

    fn embed(&self, parameters: &[f32], sequences: &[&[u32]], hidden: &mut [f32]) {
        let width = self.config.hidden_size;
        let words = &parameters[self.layout.words.clone()];
        let positions = &parameters[self.layout.positions.clone()];
        let kind = &parameters[self.layout.types.clone()][..width];
        for ((position, id), row) in each_token(sequences).zip(hidden.chunks_exact_mut(width)) {
            let word = &words[id * width..][..width];
            let position = &positions[position * width..][..width];
            for (((value, word), position), kind) in
                row.iter_mut().zip(word).zip(position).zip(kind)
            {
                *value = word + position + kind;
            }
        }
    }

    fn embed_back(&self, sequences: &[&[u32]], hidden: &[f32], gradients: &mut [f32]) {
        let width = self.config.hidden_size;
        let layout = &self.layout;
        for ((position, id), row) in each_token(sequences).zip(hidden.chunks_exact(width)) {
            for start in [
                layout.words.start + id * width,
                layout.positions.start + position * width,
                layout.types.start,
            ] {
                for (sum, value) in gradients[start..][..width].iter_mut().zip(row) {
                    *sum += value;
                }
            }
        }
    }

    fn pool(&self, lengths: &[usize], hidden: &[f32]) -> Vec<f32> {
        let width = self.config.hidden_size;
        let mut vectors = vec![0.0; lengths.len() * width];
        let mut rows = hidden.chunks_exact(width);
        for (vector, length) in vectors.chunks_exact_mut(width).zip(lengths) {
            for row in rows.by_ref().take(*length) {
                for (sum, value) in vector.iter_mut().zip(row) {
                    *sum += value;
                }
            }
            for value in vector {
                *value /= *length as f32;
            }
        }
        vectors
    }

    fn normalise(&self, parameters: &[f32], norm: &Norm, rows: &mut [f32], tape: &mut NormTape) {
        run(NormForward {
            rows,
            normalised: &mut tape.normalised,
            scales: &mut tape.scales,
            gain: &parameters[norm.gain.clone()],
            bias: &parameters[norm.bias.clone()],
            epsilon: self.config.layer_norm_eps as f32,
        });
    }

    fn norm_again(&self, parameters: &[f32], norm: &Norm, tape: &NormTape, output: &mut [f32]) {
        run(NormAgain {
            normalised: &tape.normalised,
            gain: &parameters[norm.gain.clone()],
            bias: &parameters[norm.bias.clone()],
            output,
        });
    }

    fn normalise_back(
        &self,
        parameters: &[f32],
        norm: &Norm,
        tape: &NormTape,
        rows: &mut [f32],
        gradients: &mut [f32],
    ) {
        // The two lie side by side.
        let both = &mut gradients[norm.gain.start..norm.bias.end];
        let (gain_gradient, bias_gradient) = both.split_at_mut(norm.gain.len());
        run(NormBackward {
            gradients: rows,
            normalised: &tape.normalised,
            scales: &tape.scales,
            gain: &parameters[norm.gain.clone()],
            gain_gradient,
            bias_gradient,
        });
    }
}

fn lengths(sequences: &[&[u32]]) -> Vec<usize> {
    sequences.iter().map(|sequence| sequence.len()).collect()
}

/// Position and id of each token.
fn each_token<'a>(sequences: &'a [&[u32]]) -> impl Iterator<Item = (usize, usize)> + 'a {
    sequences
        .iter()
        .flat_map(|sequence| sequence.iter().map(|id| *id as usize).enumerate())
}
