//! A BERT-family encoder that can be differentiated: token sequences to vectors, and the gradients of
//! vectors to those of parameters.

mod attention;
mod kernels;
mod linear;
mod packed;
mod plain;
mod tape;

use candle_core::Device;
use millrace_models::ModelConfig;
use rayon::ThreadPool;

use crate::error::TrainingError;
use crate::parameters::ParameterLayout;
pub(crate) use kernels::{AdamW, run};
pub(crate) use packed::MICRO_BATCH_TOKENS;
use packed::{PackedBert, PackedTape};
use plain::{PlainBert, PlainTape};

/// The network of one model on one device.
pub struct Network {
    kind: Kind,
    workers: usize,
}

enum Kind {
    Packed(PackedBert),
    Plain {
        network: PlainBert,
        workers: ThreadPool,
    },
}

/// What a forward pass leaves behind for the way back.
pub struct Tape(TapeKind);

enum TapeKind {
    Packed(PackedTape),
    Plain(PlainTape),
}

impl Network {
    /// The network on this device, computed by so many threads where the device is the CPU.
    ///
    /// # Errors
    /// [`TrainingError::Threads`] when they can't be started.
    pub fn new(
        config: &ModelConfig,
        layout: &ParameterLayout,
        device: &Device,
        threads: usize,
    ) -> Result<Self, TrainingError> {
        if device.is_cpu() {
            let network = PackedBert::new(config, layout, threads)?;
            return Ok(Self {
                workers: network.workers().current_num_threads(),
                kind: Kind::Packed(network),
            });
        }
        Self::plain(config, layout, device, threads)
    }

    /// The network in candle's own operations, also on the CPU: several times slower there, and what
    /// the other is tested against.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn plain(
        config: &ModelConfig,
        layout: &ParameterLayout,
        device: &Device,
        threads: usize,
    ) -> Result<Self, TrainingError> {
        let workers = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .map_err(|source| TrainingError::Threads { threads, source })?;
        Ok(Self {
            workers: 1,
            kind: Kind::Plain {
                network: PlainBert::new(config, layout, device.clone()),
                workers,
            },
        })
    }

    /// Into how many shares a gradient is computed: each as long as the parameters, their sum is it.
    #[must_use]
    pub fn shares(&self) -> usize {
        self.workers
    }

    /// Where the optimizer computes.
    pub(crate) fn threads(&self) -> &ThreadPool {
        match &self.kind {
            Kind::Packed(network) => network.workers(),
            Kind::Plain { workers, .. } => workers,
        }
    }

    /// Bytes that a forward pass over so many tokens keeps, where it is known.
    #[must_use]
    pub fn tape_bytes(&self, tokens: usize) -> Option<usize> {
        match &self.kind {
            Kind::Packed(network) => Some(network.tape_bytes(tokens)),
            Kind::Plain { .. } => None,
        }
    }

    /// The mean-pooled vectors `[sequences, hidden]` of token sequences, not normalised.
    ///
    /// The sequences are not empty, no longer than the position table, their ids in the vocabulary.
    ///
    /// # Errors
    /// [`TrainingError::Device`].
    pub fn forward(
        &self,
        parameters: &[f32],
        sequences: &[&[u32]],
    ) -> Result<(Vec<f32>, Tape), TrainingError> {
        Ok(match &self.kind {
            Kind::Packed(network) => {
                let (vectors, tape) = network.forward(parameters, sequences);
                (vectors, Tape(TapeKind::Packed(tape)))
            }
            Kind::Plain { network, .. } => {
                let (vectors, tape) = network.forward(parameters, sequences)?;
                (vectors, Tape(TapeKind::Plain(tape)))
            }
        })
    }

    /// The vectors alone, without what the way back needs.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn encode(
        &self,
        parameters: &[f32],
        sequences: &[&[u32]],
    ) -> Result<Vec<f32>, TrainingError> {
        match &self.kind {
            Kind::Packed(network) => Ok(network.encode(parameters, sequences)),
            Kind::Plain { network, .. } => {
                let parts = sequences.chunks(PLAIN_CHUNK).map(|part| {
                    let (vectors, _) = network.forward(parameters, part)?;
                    Ok(vectors)
                });
                Ok(parts.collect::<Result<Vec<_>, TrainingError>>()?.concat())
            }
        }
    }

    /// Adds the parameters' gradients to `gradients`, from those of the vectors of the same sequences.
    ///
    /// # Errors
    /// [`TrainingError::Device`], [`TrainingError::NoGradient`].
    pub fn backward(
        &self,
        parameters: &[f32],
        sequences: &[&[u32]],
        tape: Tape,
        vector_gradients: &[f32],
        gradients: &mut [Vec<f32>],
    ) -> Result<(), TrainingError> {
        match (&self.kind, tape.0) {
            (Kind::Packed(network), TapeKind::Packed(tape)) => {
                network.backward(parameters, sequences, tape, vector_gradients, gradients);
                Ok(())
            }
            (Kind::Plain { network, .. }, TapeKind::Plain(tape)) => {
                network.backward(&tape, vector_gradients, &mut gradients[0])
            }
            _ => unreachable!("a network's tape is of its own kind"),
        }
    }

    /// Forward again and back, in memory that does not grow with the batch.
    ///
    /// # Errors
    /// As [`Self::backward`].
    pub fn backward_again(
        &self,
        parameters: &[f32],
        sequences: &[&[u32]],
        vector_gradients: &[f32],
        gradients: &mut [Vec<f32>],
    ) -> Result<(), TrainingError> {
        match &self.kind {
            Kind::Packed(network) => {
                network.backward_again(parameters, sequences, vector_gradients, gradients);
            }
            Kind::Plain { network, .. } => {
                let width = vector_gradients.len() / sequences.len().max(1);
                let parts = sequences
                    .chunks(PLAIN_CHUNK)
                    .zip(vector_gradients.chunks(PLAIN_CHUNK * width));
                for (part, along) in parts {
                    let (_, tape) = network.forward(parameters, part)?;
                    network.backward(&tape, along, &mut gradients[0])?;
                }
            }
        }
        Ok(())
    }
}

/// Sequences at a time where memory must not grow with the batch.
const PLAIN_CHUNK: usize = 16;
